//! The ceilings of speculative decoding (pure, f64, nats throughout).
//!
//! `bounds` has the closed forms, `pool` the fluid bound of the observed laws, `cost` what a pass costs on this machine,
//! `search` the best tree of one context and how near it is while it is looked for.

pub mod bounds;
pub mod cost;
pub mod pool;
pub mod search;
