//! Ceilings and drafters over sets of prompts, for `speclight table`.
//!
//! A run collects a [`text_result::Piece`] per text, kept in a [`state::State`]; [`rows`] computes the table.

pub(crate) mod published;
pub mod rows;
#[cfg(test)]
pub(crate) mod rows_tests;
pub(crate) mod state;
pub(crate) mod text_result;
