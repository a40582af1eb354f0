//! Ceilings of speculative decoding (docs/bounds.md): pure computation in f64, nats throughout.
//!
//! - Accepted tokens: [`bounds`] (closed forms), [`pool`] (fluid bound of the observed
//!   distributions, with `small` exact for one and two nodes), [`search`] (best tree of one
//!   context), [`transport`] (sampled drafts), [`capacity`] (nats of a verify pass).
//! - Speed: [`cost`] and [`pass_times`] (seconds of a verify pass on this machine), [`speed`]
//!   (speed-up), [`light`] (largest decoding speed of any drafter), [`light_units`] (that and the
//!   speed ladder over many steps).
//! - Confidence: [`intervals`] (over steps, by [`wild_bootstrap`]) and [`bootstrap`] (over blocks of texts).

pub mod bootstrap;
pub mod bounds;
pub mod capacity;
pub mod cost;
pub(crate) mod finite;
pub mod intervals;
pub mod light;
pub mod light_units;
pub mod pass_times;
pub mod pool;
pub mod search;
mod small;
pub mod speed;
pub mod transport;
pub mod wild_bootstrap;
