//! Ceilings and drafters over sets of prompts, for `speclight table`.
//!
//! A run collects a result per text, kept in a state file; [`rows`] computes the table from them.

pub(crate) mod published;
pub mod rows;
#[cfg(test)]
pub(crate) mod rows_tests;
pub(crate) mod state;
pub(crate) mod text_result;

pub use state::StateError;
