//! Measurements behind the commands: tables, comparisons of settings, and benchmarks.

pub mod bench;
pub mod compare;
pub mod table;
