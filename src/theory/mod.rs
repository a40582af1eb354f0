//! The ceilings of speculative decoding (pure, f64, nats throughout). `bounds` has the closed forms.

pub mod bounds;
