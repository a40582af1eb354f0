//! Lossless acceptance; the random draws are arguments.
