//! The ceilings of speculative decoding (pure, f64, nats throughout).
//!
//! `bounds` has the closed forms, `pool` the fluid bound of the observed laws, `cost` what a pass costs on this machine,
//! `intervals` how sure it is (by `waves` over steps; `bootstrap` has blocks of texts), `search` the best tree of one context and how near it is while it is looked for,
//! `speed` the ceilings of the wall clock, `transport` those of the acceptance of sampled drafts.

pub mod bootstrap;
pub mod bounds;
pub mod cost;
pub mod intervals;
pub mod pool;
pub mod search;
pub mod speed;
pub mod transport;
pub mod waves;
