//! The ceilings of speculative decoding (pure, f64, nats throughout).
//!
//! `bounds` has the closed forms, `pool` the fluid bound of the observed laws (with `small`, exact for one and two nodes), `cost` what a pass costs on this machine,
//! `intervals` how sure it is (by `waves` over steps; `bootstrap` has blocks of texts), `search` the best tree of one context and how near it is while it is looked for,
//! `speed` the ceilings of the wall clock, `light` the largest decoding speed of any drafter, `light_units` that and the ladder of
//! speed over many steps, `capacity` the nats of a verify pass, `transport` the ceilings of the acceptance of sampled drafts.

pub mod bootstrap;
pub mod bounds;
pub mod capacity;
pub mod cost;
pub mod intervals;
pub mod light;
pub mod light_units;
pub mod pass_times;
pub mod pool;
pub mod search;
mod small;
pub mod speed;
pub mod transport;
pub mod waves;
