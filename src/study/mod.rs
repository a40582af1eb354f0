//! Measurements behind the commands: tables over sets of prompts, and comparisons of settings.

pub mod compare;
pub mod table;
