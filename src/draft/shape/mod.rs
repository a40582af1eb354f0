//! Shapes: which of a drafter's candidates become the tree.

mod best_first;
mod chain;
mod drawn;
mod fixed;
mod levels;
mod planned;

pub use fixed::Widths;
pub use planned::{Plan, Planner, Promise};

use super::{Candidate, Context, DraftError, Drafter};
use crate::tree::{TokenId, TokenTree};
use crate::verify::{Proposal, Rule};

/// How a tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The drafter's best token at each depth.
    Chain,
    /// So many children for each node of a depth.
    Fixed(Widths),
    /// The nodes of highest path probability under the drafter.
    BestFirst,
    /// The tree that is best on average, by how often children of each rank were accepted.
    Static,
}

impl Shape {
    /// All shapes, in the order of the key.
    pub const ALL: [Shape; 4] = [Shape::Chain, Shape::Fixed(Widths::USUAL), Shape::BestFirst, Shape::Static];

    /// Its name, as the person types it; of a fixed one with its widths, where they are not the usual ones.
    pub fn name(self) -> String {
        match self {
            Shape::Chain => "chain".into(),
            Shape::Fixed(Widths::USUAL) => "fixed".into(),
            Shape::Fixed(widths) => format!("fixed {widths}"),
            Shape::BestFirst => "best-first".into(),
            Shape::Static => "static".into(),
        }
    }

    /// A fixed one with these widths; any other as it is.
    pub fn with(self, widths: Widths) -> Shape {
        if matches!(self, Shape::Fixed(_)) { Shape::Fixed(widths) } else { self }
    }

    /// Whether the tree has a form that is known before its tokens are, so that they can be drawn.
    pub fn drawable(self) -> bool {
        self != Shape::BestFirst
    }

    /// Whether trees of this shape can be verified by `rule`.
    pub fn allows(self, rule: Rule) -> bool {
        match rule {
            Rule::Match => true,
            Rule::Rejection | Rule::GreedyFirst => self.drawable(),
            Rule::Block => self == Shape::Chain,
        }
    }

    /// The place in the form of the r-th child of the node at some place of it, the root being at 0. None for a shape that goes by what
    /// the drafter says.
    fn form(self, limits: Limits, plan: &Plan) -> Option<impl Fn(usize, usize) -> Option<usize> + '_> {
        let drafted = limits.budget.saturating_sub(1);
        self.drawable().then_some(move |at: usize, rank: usize| match self {
            Shape::Fixed(widths) => (rank < widths.at(at, drafted)).then_some(at + 1),
            Shape::Static => plan.child(at, rank),
            _ => (rank == 0).then_some(at + 1),
        })
    }

    /// The shape of this name.
    pub fn named(name: &str) -> Option<Shape> {
        match name.strip_prefix("fixed ") {
            Some(widths) => widths.parse().ok().map(Shape::Fixed),
            None => Shape::ALL.into_iter().find(|shape| shape.name() == name),
        }
    }
}

/// Candidates asked for below a node, at least. Fewer may be needed; the others tell what the drafter knew when it missed.
const WIDTH: usize = 8;

/// How far a tree may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Budget B: tokens of the verify pass, the root included.
    pub budget: usize,
    /// Depth of the deepest node.
    pub depth: usize,
}

/// A candidate that the drafter proposed and that the shape or the budget left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// The node of the tree that it would have hung under.
    pub parent: usize,
    /// The candidate.
    pub candidate: Candidate,
}

/// A node that was drafted and that the budget left out afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetCut {
    /// Its parent: a node of the tree or, counted on from the last of these, one that was left out, too.
    pub parent: usize,
    /// Its token and q.
    pub candidate: Candidate,
}

/// Nodes that are kept of those that the budget left out.
const BUDGET_CUTS: usize = 64;

/// A tree that is ready to be verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The tree.
    pub tree: TokenTree,
    /// What was proposed below nodes of the tree and is not in it.
    pub cut: Vec<Cut>,
    /// For each node of the tree whether the drafter was asked what comes after it.
    pub asked: Vec<bool>,
    /// Where children were drawn, what those of each node were drawn from; empty where they are the drafter's best.
    pub proposals: Vec<Proposal>,
    /// How the children were taken, and are to be verified.
    pub rule: Rule,
    /// The first nodes that [`Draft::keep`] left out, in their order: any first few hang together below the tree.
    pub budget_cut: Vec<BudgetCut>,
}

impl Draft {
    /// The root alone, and nothing asked.
    pub fn nothing(root: TokenId) -> Draft {
        Draft {
            tree: TokenTree::new(root),
            cut: Vec::new(),
            asked: vec![false],
            proposals: Vec::new(),
            rule: Rule::Match,
            budget_cut: Vec::new(),
        }
    }

    /// Keeps the first `drafted` drafted nodes; the others are cut.
    pub fn keep(&mut self, drafted: usize) {
        let node = |i| {
            let candidate = Candidate { token: self.tree.token(i), q: self.tree.q(i) };
            BudgetCut { parent: self.tree.parent(i).unwrap_or(0), candidate }
        };
        let nodes = (drafted + 1..self.tree.len()).map(node).chain(self.budget_cut.iter().copied());
        self.budget_cut = nodes.take(BUDGET_CUTS).collect();
        for i in drafted + 1..self.tree.len() {
            if let Some(parent) = self.tree.parent(i).filter(|&parent| parent <= drafted) {
                self.cut.push(Cut { parent, candidate: Candidate { token: self.tree.token(i), q: self.tree.q(i) } });
            }
        }
        self.cut.retain(|cut| cut.parent <= drafted);
        self.tree.truncate(drafted + 1);
        self.asked.truncate(drafted + 1);
    }

    /// Takes nodes below which nothing at all was proposed for ones that the drafter was not asked about: a drafter that runs a
    /// model has something to say below each, unless it is thrifty and its pass would not have paid.
    pub fn spare(&mut self) {
        for node in 0..self.tree.len() {
            if self.tree.children(node).next().is_none() && self.cut.iter().all(|cut| cut.parent != node) {
                self.asked[node] = false;
            }
        }
    }

    /// The drafter's probability of `token` below `parent`, if it was proposed there and left out.
    pub fn cut_q(&self, parent: usize, token: TokenId) -> Option<f64> {
        self.cut.iter().find(|cut| cut.parent == parent && cut.candidate.token == token).map(|cut| cut.candidate.q)
    }

    /// The rank of `token` among all that was proposed below `parent`, 0 for the best, if it was proposed there and left out.
    pub fn cut_rank(&self, parent: usize, token: TokenId) -> Option<usize> {
        let own = self.cut_q(parent, token)?;
        let before = |q: f64, other: TokenId| q > own || (q == own && other < token);
        let drafted = self.tree.children(parent).filter(|&c| before(self.tree.q(c), self.tree.token(c))).count();
        let cut = self.cut.iter().filter(|cut| cut.parent == parent && before(cut.candidate.q, cut.candidate.token)).count();
        Some(drafted + cut)
    }
}

/// Grows the tree of one step: the drafter begins, proposes and ends, also when it fails on the way. `plan` is the form of
/// [`Shape::Static`].
///
/// # Errors
/// See [`DraftError`].
pub fn grow(shape: Shape, drafter: &mut dyn Drafter, cx: &mut Context, limits: Limits, plan: &Plan) -> Result<Draft, DraftError> {
    turn(drafter, cx, limits, |root, drafter, cx| match (shape, shape.form(limits, plan)) {
        (Shape::Chain, _) => chain::grow(root, drafter, cx, limits),
        (_, Some(form)) => levels::grow(root, drafter, cx, limits, form),
        (_, None) => best_first::grow(root, drafter, cx, limits),
    })
}

/// As [`grow`], with children taken by `rule`; `draw` gives uniform numbers in \[0, 1). A shape without a form
/// ([`Shape::drawable`]) drafts nothing.
///
/// # Errors
/// See [`DraftError`].
pub fn grow_drawn(
    shape: Shape,
    drafter: &mut dyn Drafter,
    cx: &mut Context,
    limits: Limits,
    plan: &Plan,
    (rule, draw): (Rule, &mut dyn FnMut() -> f64),
) -> Result<Draft, DraftError> {
    turn(drafter, cx, limits, |root, drafter, cx| match shape.form(limits, plan) {
        Some(form) => drawn::grow(root, drafter, cx, limits, form, rule, draw),
        None => Ok(Draft::nothing(root)),
    })
}

/// The drafter's turn in one step.
fn turn(
    drafter: &mut dyn Drafter,
    cx: &mut Context,
    limits: Limits,
    grow: impl FnOnce(TokenId, &mut dyn Drafter, &mut Context) -> Result<Draft, DraftError>,
) -> Result<Draft, DraftError> {
    drafter.limits(limits);
    let grown = drafter.begin(cx).and_then(|()| {
        let root = cx.tokens.last().copied().ok_or_else(|| DraftError::Unfit("there is no text to draft from".into()))?;
        grow(root, drafter, cx)
    });
    drafter.end(cx);
    grown
}
