//! The records: all views, traces, tables and exports are functions of these.
//!
//! Units: seconds, nats. `accepted*`, `expected_accepted*` and the ceilings count accepted drafted tokens without
//! the bonus token; only `tokens_per_step` counts it.

use serde::{Deserialize, Serialize};

use super::{Miss, Overlap, Reached, RuleCeiling};
use crate::dist::Moments;
use crate::theory::capacity;
use crate::tree::TokenId;
use crate::verify::Rule;

/// The draft tree of a step as it was verified. All lists have one entry a node, the root (the pending token) first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Token ids.
    pub tokens: Vec<TokenId>,
    /// The tokens as text of their own; those that add nothing to a text as they are spelled, as `<|im_end|>`.
    pub text: Vec<String>,
    /// Index of the parent; null for the root.
    pub parents: Vec<Option<usize>>,
    /// Depth; 0 for the root.
    pub depth: Vec<usize>,
    /// The target's probability of the node after its parent, in the law that is sampled from (1 for the root).
    /// Greedy: 1 for the arg-max and 0 for all others.
    pub p: Vec<f64>,
    /// The probability that the node is accepted once its parent is (1 for the root): p where the tree is deterministic, and where
    /// children were drawn from the drafter's law what the rule makes of it. Products along the path are P(accepted >= depth | T).
    #[serde(default)]
    pub accept: Vec<f64>,
    /// p at temperature 1 without top-p and top-k: the model's own law. Equal to `p` where that is sampled from.
    pub p_plain: Vec<f64>,
    /// The drafter's probability of the node after its parent (1 for the root).
    pub q: Vec<f64>,
    /// What that q was worth by what was seen before this step: the p that was to be expected (1 for the root).
    #[serde(default)]
    pub calibrated: Vec<f64>,
    /// Who proposed the node, by its place in `members`, where several did the one that gave it most; null for the root.
    #[serde(default)]
    pub origin: Vec<Option<usize>>,
    /// The drafters whose candidates the tree is made of.
    #[serde(default)]
    pub members: Vec<String>,
    /// Rank of the node's token under the target after its parent, 0 for the arg-max (0 for the root).
    pub rank: Vec<usize>,
    /// Nodes that were drafted and that an automatic budget did not verify: the first 64, in the order of the draft.
    #[serde(default)]
    pub cut: Vec<CutNode>,
}

/// A node that was drafted and not verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CutNode {
    /// Its parent: a node of the tree or, counted on from its last node, one of the nodes that were cut.
    pub parent: usize,
    /// Token id.
    pub token: TokenId,
    /// The token as text of its own.
    pub text: String,
    /// The drafter's probability of the node after its parent.
    pub q: f64,
}

impl TreeRecord {
    /// The probability that node i is accepted once its parent is; 0 for one that is not there.
    pub fn acceptance(&self, i: usize) -> f64 {
        self.accept.get(i).or(self.p.get(i)).copied().unwrap_or(0.0)
    }

    /// pi of each node: the probability that the walk comes to it, the product of [`TreeRecord::acceptance`] along its path, the root's
    /// being 1. A record from a file can be anything: where a parent does not come before its child it counts as the root.
    pub fn path_products(&self) -> Vec<f64> {
        let mut pi: Vec<f64> = Vec::with_capacity(self.p.len());
        for i in 0..self.p.len() {
            let parent = self.parents.get(i).copied().flatten().filter(|&parent| parent < i);
            pi.push(if i == 0 { 1.0 } else { self.acceptance(i) * parent.map_or(1.0, |parent| pi[parent]) });
        }
        pi
    }
}

/// Entropy of the law from which one generated token came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionEntropy {
    /// Moments of the law that is sampled from (0 when greedy).
    #[serde(flatten)]
    pub law: Moments,
    /// Moments of the model's own law, at temperature 1: the labelled reference for greedy decoding.
    pub plain: Moments,
    /// The probability, in the law that is sampled from, of the token that came.
    pub p: f64,
    /// The same in the model's own law, at temperature 1. None in records of versions that did not write it.
    #[serde(default)]
    pub p_plain: Option<f64>,
}

/// Seconds spent in one step, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Growing the draft tree.
    pub draft: f64,
    /// The target's pass over the tree.
    pub verify: f64,
    /// The rest: laws, acceptance, committing the cache, the record itself.
    pub other: f64,
}

impl StageTimes {
    /// All stages together.
    pub fn total(&self) -> f64 {
        self.draft + self.verify + self.other
    }

    /// Adds another's seconds.
    pub fn add(&mut self, more: &StageTimes) {
        self.draft += more.draft;
        self.verify += more.verify;
        self.other += more.other;
    }
}

/// The ceilings of bounds.md for one budget, in accepted drafted tokens. None where not (or not yet) known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// B - 1: what no tree of this budget can exceed.
    pub batch: f64,
    /// The paper's form, its O(1) unknown. None when greedy (mu = 0).
    pub published: Option<f64>,
    /// Renewal form. None when greedy.
    pub renewal: Option<f64>,
    /// Renewal form at its best t. None when greedy or where it does not apply.
    pub renewal_tuned: Option<f64>,
    /// The fluid bound.
    pub fluid: Option<f64>,
    /// With an automatic budget the fluid bound at the mean number of drafted nodes so far: what the mean of E\[X | T\] stays below.
    #[serde(default)]
    pub fluid_at_mean: Option<f64>,
    /// The path probability at which the fluid bound's tree is full: e^-t of the t that gives it.
    #[serde(default)]
    pub fluid_floor: Option<f64>,
}

/// What a person can change while it runs; each step says under which it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSettings {
    /// Drafter, by name.
    pub drafter: String,
    /// Shape of the tree, by name.
    pub shape: String,
    /// Budget B: tokens of a verify pass, the root included. With `auto` the most of them.
    pub budget: usize,
    /// Whether each step takes the budget, up to that, which promises the most tokens a second.
    #[serde(default)]
    pub auto: bool,
    /// How children are taken and accepted.
    #[serde(default)]
    pub verify: Rule,
    /// Temperature; 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass; 1 keeps all.
    pub top_p: f32,
    /// Tokens kept; null keeps all.
    pub top_k: Option<usize>,
    /// Seed of every draw.
    pub seed: u64,
}

impl StepSettings {
    /// This drafter, shape, budget and temperature, with what is usual for all else: a fixed budget, sample-and-match, nothing cut from
    /// the law, seed 0.
    pub fn new(drafter: impl Into<String>, shape: impl Into<String>, budget: usize, temperature: f32) -> Self {
        Self {
            drafter: drafter.into(),
            shape: shape.into(),
            budget,
            auto: false,
            verify: Rule::default(),
            temperature,
            top_p: 1.0,
            top_k: None,
            seed: 0,
        }
    }

    /// Whether the budget is automatic: asked for, or because the drafter is the automatic one.
    pub fn automatic(&self) -> bool {
        self.auto || self.drafter == "auto"
    }

    /// Whether nothing is drafted, so that steps are those of plain decoding.
    pub fn undrafted(&self) -> bool {
        self.drafter == "none" || self.budget <= 1
    }

    /// Whether children are drawn from the drafter's law, which is outside of the theorem behind the ceilings: of those only B - 1 holds.
    /// A greedy target has one token, and any rule takes the drafter's best for it.
    pub fn drawn(&self) -> bool {
        self.verify != Rule::Match && !self.warp().greedy()
    }
}

/// Why an automatic budget took the tree that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All that was drafted is worth verifying.
    Whole,
    /// A part of it is.
    Cut,
    /// None of it is.
    NotWorth,
    /// The drafter had nothing.
    NothingDrafted,
    /// Of late drafting was slower than plain decoding, so that nothing is drafted for some steps.
    Resting,
}

/// What an automatic budget decided for one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Nodes that were drafted.
    pub drafted: usize,
    /// Of them, how many are verified.
    pub kept: usize,
    /// The count of accepted ones that was expected, from the drafter's q calibrated on what was seen.
    pub expected: f64,
    /// Tokens a second that this promised.
    pub tokens_per_second: f64,
    /// Tokens a second of plain decoding, by the same measure.
    pub plain_tokens_per_second: f64,
    /// Why.
    pub reason: Reason,
}

/// One draft-verify-accept round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which prompt: the `question_id` of its file, or its number from 0; file and line are appended where it repeats.
    pub prompt_id: String,
    /// Number of the step within the prompt, from 0.
    pub step: usize,
    /// Whether the same text was written before under the same settings (greedy, where a list of prompts begins again): its steps are
    /// the same, and count in no mean but the speed's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Tokens in the context before the step, the pending one included.
    pub position: usize,
    /// The settings that held.
    pub settings: StepSettings,
    /// What an automatic budget decided; null with a fixed one, and while the cost of passes is not measured yet.
    #[serde(default)]
    pub choice: Option<Choice>,
    /// The tree that was verified.
    pub tree: TreeRecord,
    /// Accepted nodes, from the root down (the root not listed).
    pub path: Vec<usize>,
    /// How many drafted tokens were accepted.
    pub accepted: usize,
    /// The token that the target added itself, after the last accepted one.
    pub bonus: TokenId,
    /// The same as text of its own, as in the tree.
    pub bonus_text: String,
    /// Rank of the bonus token under the target, 0 for the arg-max.
    pub bonus_rank: usize,
    /// The drafter's probability of the bonus token after the last accepted one, where the drafter had proposed it and
    /// the shape or the budget left it out. Null where it was not proposed.
    pub bonus_q: Option<f64>,
    /// p(argmax q) and the overlap of p and q, at the nodes that the walk came through where the drafter proposed something. Empty when
    /// greedy, where p is a single token.
    #[serde(default)]
    pub overlap: Vec<Overlap>,
    /// The ceiling of the rule for the tokens sampled below the root; null where none were sampled, or where it is not known.
    #[serde(default)]
    pub rule_ceiling: Option<RuleCeiling>,
    /// All tokens that this step put out: the accepted ones, then the bonus.
    pub emitted: Vec<TokenId>,
    /// The same as text: what each added to the text so far. A token that completes no character adds nothing, and
    /// the one that completes it adds all of it.
    pub emitted_text: Vec<String>,
    /// E[accepted | T] = sum of pi over the tree.
    pub expected_accepted: f64,
    /// Used share of the pass's capacity, H(V) / ln B (bounds.md, "Capacity of a pass"). 0 when greedy; null for sampled trees and B = 1.
    #[serde(default)]
    pub capacity: Option<f64>,
    /// What went wrong while drafting and did not end the run, in one line; null where nothing did.
    #[serde(default)]
    pub notice: Option<String>,
    /// The refusal that ended the step; null where nothing was drafted on purpose, and where the text ended.
    #[serde(default)]
    pub miss: Option<Miss>,
    /// One entry for each emitted token.
    pub entropy: Vec<PositionEntropy>,
    /// Seconds by stage.
    pub time: StageTimes,
    /// Mean entropy over all positions generated so far in this run at this warp, in nats.
    pub mu: f64,
    /// Mean of sum p ln^2 p over the same.
    pub mu2: f64,
    /// The ceilings for this step's budget from those means.
    pub ceilings: Ceilings,
    /// What was reached of them at these settings, with intervals, as of the last time that they were made anew.
    #[serde(default)]
    pub reached: Option<Reached>,
}

impl StepRecord {
    /// Used share of the pass's capacity, for the field `capacity`.
    pub fn used_capacity(&self) -> Option<f64> {
        (!self.settings.drawn()).then(|| capacity::used_share(&self.tree.parents, &self.tree.p)).flatten()
    }
}

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A stop token came.
    Stop,
    /// The asked number of tokens was reached.
    Length,
    /// The context is full.
    Context,
    /// The person went on to something else.
    Interrupted,
}
