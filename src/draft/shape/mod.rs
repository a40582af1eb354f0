//! Tree shapes: rules for which of a drafter's candidates become the token tree. [`grow`] runs a
//! drafter through one step and returns the [`Draft`] to verify; [`grow_sampled`] does the same for
//! sampled trees.

mod best_first;
mod chain;
mod fixed;
mod kind;
mod levels;
mod sampled;
mod static_tree;

pub use fixed::Widths;
pub use kind::{Shape, ShapeKind, UnknownShape};
pub use sampled::ChildSampler;
pub use static_tree::{Plan, Planner, YieldEstimate};

use super::draft_tree::Draft;
use super::request::DraftRequest;
use super::{DraftError, Drafter};
use crate::tree::TokenId;
use static_tree::topology;

/// Grows the tree of one step.
///
/// Runs [`Drafter::begin`], [`Drafter::propose`], and [`Drafter::end`], the last also after an
/// error. `plan` is the topology for [`Shape::Static`].
///
/// # Errors
/// See [`DraftError`].
pub fn grow(
    shape: Shape,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    plan: &Plan,
) -> Result<Draft, DraftError> {
    let topology = topology(shape, request.limits, plan);
    run_drafter(drafter, request, |root, drafter, request| match (shape, topology) {
        (Shape::Chain, _) => chain::grow(root, drafter, request),
        (_, Some(topology)) => levels::grow(root, drafter, request, topology),
        (_, None) => best_first::grow(root, drafter, request),
    })
}

/// Grows the tree of one step with children chosen by a rule for sampled trees.
///
/// The draft is empty for shapes that can't be sampled ([`Shape::can_be_sampled`]).
///
/// # Errors
/// See [`DraftError`].
pub fn grow_sampled(
    shape: Shape,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    plan: &Plan,
    sampler: ChildSampler,
) -> Result<Draft, DraftError> {
    let topology = topology(shape, request.limits, plan);
    run_drafter(drafter, request, |root, drafter, request| match topology {
        Some(topology) => sampled::grow(root, drafter, request, topology, sampler),
        None => Ok(Draft::root_only(root)),
    })
}

/// Runs the drafter's part of one step, with `grow` between its begin and end.
fn run_drafter(
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    grow: impl FnOnce(TokenId, &mut dyn Drafter, &mut DraftRequest) -> Result<Draft, DraftError>,
) -> Result<Draft, DraftError> {
    let grown = drafter.begin(request).and_then(|()| {
        let root = request
            .tokens
            .last()
            .copied()
            .ok_or_else(|| DraftError::Unfit("there is no text to draft from".into()))?;
        grow(root, drafter, request)
    });
    drafter.end(request);
    grown
}
