//! Loss and gradients of a batch.

use std::collections::BTreeMap;

use candle_core::Tensor;

/// Loss and gradients of some texts.
#[derive(Default)]
pub(super) struct BatchGradients {
    /// Loss in nats, over all depths.
    pub loss: f64,
    /// Weight of their entries, over all depths.
    pub counted: f64,
    pub grads: BTreeMap<&'static str, Tensor>,
}
