//! What is measured, each step: the [`StepRecord`] and what is made of it.

mod record;

pub use record::*;
