//! The ceilings of speculative decoding (pure, f64, nats throughout).
//!
//! `bounds` has the closed forms, `pool` the fluid bound of the observed laws, `cost` what a pass costs on this machine.

pub mod bounds;
pub mod cost;
pub mod pool;
