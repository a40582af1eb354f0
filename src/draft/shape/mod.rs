//! Tree shapes: rules for which of a drafter's candidates become the token tree. [`grow`] runs a
//! drafter through one step and returns the [`Draft`] to verify; [`grow_sampled`] does the same for
//! sampled trees.

mod best_first;
mod chain;
mod fixed;
mod levels;
mod sampled;
mod static_tree;

pub use fixed::Widths;
pub use static_tree::{Plan, Planner, YieldEstimate};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Candidate, DraftError, DraftRequest, Drafter};
use crate::tree::{TokenId, TokenTree};
use crate::verify::{Proposal, Rule};

/// Shape of the token tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Drafter's best token at each depth.
    Chain,
    /// Fixed number of children for each node of a depth.
    Fixed(Widths),
    /// Nodes of highest path probability under the drafter.
    BestFirst,
    /// Tree that is best on average, by the acceptance rate of each child rank (Sequoia).
    Static,
}

/// Shape of the token tree without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeKind {
    /// Drafter's best token at each depth.
    Chain,
    /// Fixed number of children by depth.
    Fixed,
    /// Nodes of highest path probability.
    BestFirst,
    /// Tree that is best on average.
    Static,
}

impl ShapeKind {
    /// All kinds, in the order in which the monitor cycles through them.
    pub const ALL: [ShapeKind; 4] =
        [ShapeKind::Chain, ShapeKind::Fixed, ShapeKind::BestFirst, ShapeKind::Static];

    /// Returns the name, as used in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            ShapeKind::Chain => "chain",
            ShapeKind::Fixed => "fixed",
            ShapeKind::BestFirst => "best-first",
            ShapeKind::Static => "static",
        }
    }

    /// Returns the kind of this name, if there is one.
    pub fn from_name(name: &str) -> Option<ShapeKind> {
        ShapeKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the shape of this kind; `widths` are those of a fixed shape.
    pub fn with_widths(self, widths: Widths) -> Shape {
        match self {
            ShapeKind::Chain => Shape::Chain,
            ShapeKind::Fixed => Shape::Fixed(widths),
            ShapeKind::BestFirst => Shape::BestFirst,
            ShapeKind::Static => Shape::Static,
        }
    }
}

/// Error for a text that names no shape. It lists the names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no shape {0:?}: give one of {names}", names = ShapeKind::ALL.map(ShapeKind::name).join(", "))]
pub struct UnknownShape(String);

impl Shape {
    /// All shapes with default widths, in the order of [`ShapeKind::ALL`].
    pub const ALL: [Shape; 4] =
        [Shape::Chain, Shape::Fixed(Widths::DEFAULT), Shape::BestFirst, Shape::Static];

    /// Returns the kind of shape, without its widths.
    pub fn kind(self) -> ShapeKind {
        match self {
            Shape::Chain => ShapeKind::Chain,
            Shape::Fixed(_) => ShapeKind::Fixed,
            Shape::BestFirst => ShapeKind::BestFirst,
            Shape::Static => ShapeKind::Static,
        }
    }

    /// Returns the name, as used in settings. A fixed shape includes its widths unless they are the
    /// default ones.
    pub fn name(self) -> String {
        match self {
            Shape::Fixed(widths) if widths != Widths::DEFAULT => format!("fixed {widths}"),
            _ => self.kind().name().to_owned(),
        }
    }

    /// Returns `true` if the topology is known before the tokens. Only then can children be
    /// sampled.
    pub fn can_be_sampled(self) -> bool {
        self != Shape::BestFirst
    }

    /// Returns `true` if trees of this shape can be verified by `rule`.
    pub fn allows(self, rule: Rule) -> bool {
        match rule {
            Rule::Match => true,
            Rule::Rejection | Rule::GreedyFirst => self.can_be_sampled(),
            Rule::Block => self == Shape::Chain,
        }
    }

    /// Topology as a function from (parent's position, child's rank) to the child's position. The
    /// root has position 0. `None` if the topology depends on the drafter's probabilities.
    fn form(
        self,
        limits: Limits,
        plan: &Plan,
    ) -> Option<impl Fn(usize, usize) -> Option<usize> + '_> {
        let drafted = limits.budget.saturating_sub(1);
        self.can_be_sampled().then_some(move |at: usize, rank: usize| match self {
            Shape::Fixed(widths) => (rank < widths.width_at(at, drafted)).then_some(at + 1),
            Shape::Static => plan.child(at, rank),
            _ => (rank == 0).then_some(at + 1),
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// Parses the text that [`Shape::name`] returns.
impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(name: &str) -> Result<Shape, UnknownShape> {
        let shape = match name.strip_prefix("fixed ") {
            Some(widths) => widths.parse().ok().map(Shape::Fixed),
            None => ShapeKind::from_name(name).map(|kind| kind.with_widths(Widths::DEFAULT)),
        };
        shape.ok_or_else(|| UnknownShape(name.to_owned()))
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Minimum number of candidates requested per node. A tree may need fewer; the others show what the
/// drafter knew when the target's token is missing.
const WIDTH: usize = 8;

/// Limits on the size of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Budget B: tokens of the verify pass, root included.
    pub budget: usize,
    /// Maximum depth of a node.
    pub depth: usize,
}

/// Candidate that was proposed but left out by the shape or the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Tree node below which it was proposed.
    pub parent: usize,
    /// Proposed token with its probability.
    pub candidate: Candidate,
}

/// Node that was drafted and then left out by the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetCut {
    /// Parent, as an index into the tree followed by the nodes that were left out.
    pub parent: usize,
    /// Token with its probability.
    pub candidate: Candidate,
}

/// Maximum number of left-out nodes that are recorded.
const BUDGET_CUTS: usize = 64;

/// Token tree that is ready for verification, with what was left out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Token tree to verify, root included.
    pub tree: TokenTree,
    /// Candidates proposed below nodes of the tree that are not in it.
    pub cut: Vec<Cut>,
    /// True for each tree node below which candidates were requested.
    pub asked: Vec<bool>,
    /// Distributions from which the children of each node were sampled. Empty if the children are
    /// the drafter's best candidates.
    pub proposals: Vec<Proposal>,
    /// Rule by which the children were chosen and will be verified.
    pub rule: Rule,
    /// First nodes that [`Draft::truncate`] left out, in tree order. The parent of each is in the tree
    /// or comes before it in this list.
    pub budget_cut: Vec<BudgetCut>,
}

impl Draft {
    /// Creates a draft of the root alone, with no candidates requested.
    pub fn root_only(root: TokenId) -> Draft {
        Draft {
            tree: TokenTree::new(root),
            cut: Vec::new(),
            asked: vec![false],
            proposals: Vec::new(),
            rule: Rule::Match,
            budget_cut: Vec::new(),
        }
    }

    /// Keeps the first `drafted` drafted nodes and cuts the others.
    pub fn truncate(&mut self, drafted: usize) {
        let node = |i| {
            let candidate = Candidate { token: self.tree.token(i), q: self.tree.q(i) };
            BudgetCut { parent: self.tree.parent(i).unwrap_or(0), candidate }
        };
        let nodes = (drafted + 1..self.tree.len()).map(node).chain(self.budget_cut.iter().copied());
        self.budget_cut = nodes.take(BUDGET_CUTS).collect();
        for i in drafted + 1..self.tree.len() {
            if let Some(parent) = self.tree.parent(i).filter(|&parent| parent <= drafted) {
                self.cut.push(Cut {
                    parent,
                    candidate: Candidate { token: self.tree.token(i), q: self.tree.q(i) },
                });
            }
        }
        self.cut.retain(|cut| cut.parent <= drafted);
        self.tree.truncate(drafted + 1);
        self.asked.truncate(drafted + 1);
    }

    /// Clears `asked` for nodes below which nothing was proposed. A drafter that runs a model
    /// always has candidates, unless its cost gate skipped the pass.
    pub fn clear_unanswered(&mut self) {
        for node in 0..self.tree.len() {
            if self.tree.children(node).next().is_none()
                && self.cut.iter().all(|cut| cut.parent != node)
            {
                self.asked[node] = false;
            }
        }
    }

    /// Returns the drafter's probability of `token` below `parent`, if it was proposed and cut.
    pub fn cut_q(&self, parent: usize, token: TokenId) -> Option<f64> {
        self.cut
            .iter()
            .find(|cut| cut.parent == parent && cut.candidate.token == token)
            .map(|cut| cut.candidate.q)
    }

    /// Returns the rank of `token` among all candidates below `parent`. Rank 0 is the best
    /// candidate. `None` unless the token was proposed there and cut.
    pub fn cut_rank(&self, parent: usize, token: TokenId) -> Option<usize> {
        let own = self.cut_q(parent, token)?;
        let before = |q: f64, other: TokenId| q > own || (q == own && other < token);
        let drafted = self
            .tree
            .children(parent)
            .filter(|&c| before(self.tree.q(c), self.tree.token(c)))
            .count();
        let cut = self
            .cut
            .iter()
            .filter(|cut| cut.parent == parent && before(cut.candidate.q, cut.candidate.token))
            .count();
        Some(drafted + cut)
    }
}

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
    let form = shape.form(request.limits, plan);
    run_drafter(drafter, request, |root, drafter, request| match (shape, form) {
        (Shape::Chain, _) => chain::grow(root, drafter, request),
        (_, Some(form)) => levels::grow(root, drafter, request, form),
        (_, None) => best_first::grow(root, drafter, request),
    })
}

/// Source of randomness for children that are sampled from the drafter's distribution.
pub struct ChildSampler<'a> {
    /// Rule by which the children are chosen, and later verified.
    pub rule: Rule,
    /// Returns the next uniform number in \[0, 1).
    pub draw: &'a mut dyn FnMut() -> f64,
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
    let form = shape.form(request.limits, plan);
    run_drafter(drafter, request, |root, drafter, request| match form {
        Some(form) => sampled::grow(root, drafter, request, form, sampler),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shapes_round_trip_as_json_strings() {
        let fixed = Shape::Fixed("4,2,1".parse().unwrap());
        for (shape, text) in Shape::ALL.into_iter().chain([fixed]).zip([
            "chain",
            "fixed",
            "best-first",
            "static",
            "fixed 4,2,1",
        ]) {
            assert_eq!(serde_json::to_string(&shape).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Shape>(&format!("{text:?}")).unwrap(), shape);
        }
        assert_eq!(Shape::ALL.map(Shape::kind), ShapeKind::ALL);
        assert_eq!(
            "star".parse::<Shape>().unwrap_err().to_string(),
            "there is no shape \"star\": give one of chain, fixed, best-first, static"
        );
        assert!("fixed 0".parse::<Shape>().is_err() && "fixed ".parse::<Shape>().is_err());
    }
}
