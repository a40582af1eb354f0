//! The ceilings of speculative decoding (pure, f64, nats throughout).
//!
//! `bounds` has the closed forms, `pool` the fluid bound of the observed laws.

pub mod bounds;
pub mod pool;
