//! Records of steps. Views, traces, tables, and exports are all computed from them.
//!
//! Units are seconds and nats. `accepted*`, `expected_accepted*`, and the ceilings count accepted
//! drafted tokens without the bonus token. Only `tokens_per_step` includes it.

use serde::{Deserialize, Serialize};

use super::{Miss, Overlap, ReachedIntervals, RuleCeiling};
use crate::distribution::Moments;
use crate::draft::{DrafterKind, Shape};
use crate::theory::capacity;
use crate::tree::TokenId;
use crate::verify::Rule;

/// Description of a run, fixed while it lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of speclight that made the run.
    pub version: String,
    /// Name of the target model.
    pub model: String,
    /// Quantization of the target's weights, such as "Q4_1".
    pub quantisation: String,
    /// SHA-256 of the target's file in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Device and kernel, such as "cpu (avx2, 2 threads)".
    pub device: String,
    /// Context length in tokens.
    pub context: usize,
    /// Size of the key-value caches in bytes; 0 if unknown.
    ///
    /// Sums those of the target, of its copy for oracle searches, and of the draft model.
    #[serde(default)]
    pub cache_bytes: u64,
    /// Vocabulary size in tokens.
    pub vocabulary: usize,
    /// Names of the drafters available in this run, in the order of the drafter key.
    pub drafters: Vec<DrafterKind>,
    /// Cost of one draft in words, for each of `drafters`.
    pub drafter_costs: Vec<String>,
    /// Names of the tree shapes available in this run.
    pub shapes: Vec<Shape>,
    /// Texts of the prompts, before the chat template is applied.
    pub prompts: Vec<String>,
}

/// Token tree of a step as verified. All lists have one entry per node, the root (the pending
/// token) first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Token ids of the nodes.
    pub tokens: Vec<TokenId>,
    /// Text of each token on its own. Tokens without text are spelled out, for example
    /// `<|im_end|>`.
    pub text: Vec<String>,
    /// Index of each node's parent; null for the root.
    pub parents: Vec<Option<usize>>,
    /// Depth of each node; 0 for the root.
    pub depth: Vec<usize>,
    /// Target's probability of the node after its parent (1 for the root). It is under the sampling
    /// parameters: when greedy, 1 for the arg-max and 0 for all others.
    pub p: Vec<f64>,
    /// Probability that the node is accepted if its parent is (1 for the root). Equal to `p` for
    /// deterministic trees; for sampled trees it follows from the verification rule. Products along
    /// a path are P(accepted >= depth | T).
    #[serde(default)]
    pub accept: Vec<f64>,
    /// Target's `p` at temperature 1 without top-p and top-k. Equal to `p` if these are the
    /// sampling parameters.
    pub p_plain: Vec<f64>,
    /// Drafter's probability of the node after its parent (1 for the root).
    pub q: Vec<f64>,
    /// Calibrated `q`: the `p` expected from the steps before this one (1 for the root).
    #[serde(default)]
    pub calibrated: Vec<f64>,
    /// Drafter that proposed the node, as an index into `members`; null for the root. If several
    /// proposed it, this is the one that gave it the highest probability.
    #[serde(default)]
    pub origin: Vec<Option<usize>>,
    /// Names of the drafters whose candidates the tree consists of.
    #[serde(default)]
    pub members: Vec<String>,
    /// Rank of the node's token under the target, 0 for the arg-max and the root.
    pub rank: Vec<usize>,
    /// Nodes that were drafted but left out by an automatic budget.
    ///
    /// The first 64, in draft order.
    #[serde(default)]
    pub cut: Vec<CutNode>,
}

/// Node that was drafted but not verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CutNode {
    /// Parent, as an index into the nodes of the tree followed by the cut nodes.
    pub parent: usize,
    /// Token id of the node.
    pub token: TokenId,
    /// Text of the token on its own.
    pub text: String,
    /// Drafter's probability of the node after its parent.
    pub q: f64,
}

impl TreeRecord {
    /// Returns the probability that node `i` is accepted if its parent is. Returns 0 for a missing
    /// node.
    pub fn acceptance(&self, i: usize) -> f64 {
        self.accept.get(i).or(self.p.get(i)).copied().unwrap_or(0.0)
    }

    /// Returns the probability that the verification walk reaches each node (pi); 1 for the root.
    /// It is the product of [`TreeRecord::acceptance`] along the path. Records from a file can be
    /// invalid: a parent that does not come before its child counts as the root.
    pub fn path_products(&self) -> Vec<f64> {
        let mut pi: Vec<f64> = Vec::with_capacity(self.p.len());
        for i in 0..self.p.len() {
            let parent = self.parents.get(i).copied().flatten().filter(|&parent| parent < i);
            pi.push(if i == 0 {
                1.0
            } else {
                self.acceptance(i) * parent.map_or(1.0, |parent| pi[parent])
            });
        }
        pi
    }
}

/// Entropy and probability at the position of one generated token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionEntropy {
    /// Moments of the distribution under the sampling parameters (0 when greedy).
    #[serde(flatten)]
    pub sampled: Moments,
    /// Moments of the distribution at temperature 1, as the reference for greedy decoding.
    pub plain: Moments,
    /// Probability of the generated token under the sampling parameters.
    pub p: f64,
    /// Probability of the generated token at temperature 1. `None` in records of versions that did
    /// not write it.
    #[serde(default)]
    pub p_plain: Option<f64>,
}

/// Seconds spent in one step, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Seconds to grow the draft tree.
    pub draft: f64,
    /// Seconds of the target's pass over the tree.
    pub verify: f64,
    /// Seconds of everything else: distributions, acceptance, committing the cache, the record
    /// itself.
    pub other: f64,
}

impl StageTimes {
    /// Returns the seconds of all stages together.
    pub fn total(&self) -> f64 {
        self.draft + self.verify + self.other
    }

    /// Adds the seconds of another step, stage by stage.
    pub fn add(&mut self, more: &StageTimes) {
        self.draft += more.draft;
        self.verify += more.verify;
        self.other += more.other;
    }
}

/// Ceilings of bounds.md for one budget, in accepted drafted tokens. `None` if a ceiling is not
/// known (yet).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Number of drafted nodes B - 1, which no tree of this budget can exceed.
    pub batch: f64,
    /// Form published in the paper, whose O(1) term is unknown. `None` when greedy (mu = 0).
    pub published: Option<f64>,
    /// Closed renewal form of the ceiling. `None` when greedy.
    pub renewal: Option<f64>,
    /// Renewal form at its best t. `None` when greedy or if it does not apply.
    pub renewal_tuned: Option<f64>,
    /// Fluid bound for B - 1 drafted nodes.
    pub fluid: Option<f64>,
    /// Fluid bound at the mean number of drafted nodes so far, with an automatic budget. It is the
    /// bound on the mean of E\[X | T\].
    #[serde(default)]
    pub fluid_at_mean: Option<f64>,
    /// Path probability at which the fluid bound's tree is full: e^-t at the minimizing t.
    #[serde(default)]
    pub fluid_floor: Option<f64>,
}

/// Settings that can change during a run. Each step records those in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSettings {
    /// Drafter that proposes the tree.
    pub drafter: DrafterKind,
    /// Shape of the token tree.
    pub shape: Shape,
    /// Budget B: tokens of a verify pass, root included. With `auto`, the upper limit.
    pub budget: usize,
    /// True if each step chooses its budget, up to `budget`, for maximum tokens/s.
    #[serde(default)]
    pub auto: bool,
    /// Rule by which children are chosen and accepted.
    #[serde(default)]
    pub verify: Rule,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Top-p probability mass; 1 keeps all tokens.
    pub top_p: f32,
    /// Number of most likely tokens kept; null keeps all.
    pub top_k: Option<usize>,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl StepSettings {
    /// Creates settings with defaults for all but the given values. The defaults are a fixed
    /// budget, sample-and-match, no top-p or top-k, and seed 0.
    pub fn new(
        drafter: impl Into<DrafterKind>,
        shape: Shape,
        budget: usize,
        temperature: f32,
    ) -> Self {
        Self {
            drafter: drafter.into(),
            shape,
            budget,
            auto: false,
            verify: Rule::default(),
            temperature,
            top_p: 1.0,
            top_k: None,
            seed: 0,
        }
    }

    /// Returns `true` if the budget is automatic, by `auto` or because the drafter is `auto`.
    pub fn automatic(&self) -> bool {
        self.auto || self.drafter == DrafterKind::Auto
    }

    /// Returns the size in tokens that a step's ceilings are for, root included.
    ///
    /// `verified` is the size of the verified tree, which an automatic budget chooses.
    pub fn ceiling_size(&self, verified: usize) -> usize {
        if self.automatic() { verified } else { self.budget }
    }

    /// Returns `true` if nothing is drafted, so that each step is one of plain decoding.
    pub fn is_plain_decoding(&self) -> bool {
        self.drafter == DrafterKind::None || self.budget <= 1
    }

    /// Returns `true` if children are sampled from the drafter's distribution.
    ///
    /// The theorem behind the ceilings does not cover such trees; only B - 1 holds for them. With a
    /// greedy target this is always `false`, since every rule then takes the drafter's best token.
    pub fn samples_trees(&self) -> bool {
        self.verify != Rule::Match && !self.sampling().greedy()
    }
}

/// Reason for the size of the tree under an automatic budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetReason {
    /// Verifying all drafted nodes pays.
    Whole,
    /// Verifying only some of the drafted nodes pays.
    Cut,
    /// Verifying any drafted node would be slower.
    NotWorth,
    /// Drafter did not propose anything.
    NothingDrafted,
    /// Back-off: drafting was recently slower than plain decoding and is paused for some steps.
    Resting,
}

/// Decision of an automatic budget for one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BudgetChoice {
    /// Number of drafted nodes before the cut.
    pub drafted: usize,
    /// Number of drafted nodes that are verified.
    pub kept: usize,
    /// Expected number of accepted tokens among them, by the drafter's calibrated q.
    pub expected: f64,
    /// Tokens per second expected from this choice.
    pub tokens_per_second: f64,
    /// Tokens per second expected from plain decoding.
    pub plain_tokens_per_second: f64,
    /// Reason for the choice.
    pub reason: BudgetReason,
}

/// Record of one step: draft, verify, accept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Id of the prompt: the `question_id` in its file, or its number from 0. File and line are
    /// appended if an id repeats.
    pub prompt_id: String,
    /// Number of the step within the prompt, from 0.
    pub step: usize,
    /// True if the same text was already generated under the same settings. This happens with
    /// greedy sampling when a list of prompts restarts. The step then counts only in the mean of
    /// the speed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Number of tokens in the context before the step, including the pending one.
    pub position: usize,
    /// Settings in effect during the step.
    pub settings: StepSettings,
    /// Decision of an automatic budget. Null with a fixed budget and while the cost of passes is
    /// unmeasured.
    #[serde(default)]
    pub choice: Option<BudgetChoice>,
    /// Token tree that was verified.
    pub tree: TreeRecord,
    /// Accepted nodes from the root down, without the root.
    pub path: Vec<usize>,
    /// Number of accepted drafted tokens.
    pub accepted: usize,
    /// Bonus token: sampled by the target after the last accepted one.
    pub bonus: TokenId,
    /// Text of the bonus token on its own.
    pub bonus_text: String,
    /// Rank of the bonus token under the target, 0 for the arg-max.
    pub bonus_rank: usize,
    /// Drafter's probability of the bonus token, if it was proposed but not drafted. The shape or
    /// the budget left it out then. Null if the token was not proposed.
    pub bonus_q: Option<f64>,
    /// Overlap of p and q, and p(argmax q), at the nodes of the verification walk. Only nodes with
    /// candidates are listed. Empty when greedy, where p is a single token.
    #[serde(default)]
    pub overlap: Vec<Overlap>,
    /// Ceiling of the verification rule for the tokens sampled below the root. Null if none were
    /// sampled, or if the ceiling is not known.
    #[serde(default)]
    pub rule_ceiling: Option<RuleCeiling>,
    /// Tokens emitted by this step: the accepted ones, then the bonus token.
    pub emitted: Vec<TokenId>,
    /// Text that each emitted token adds. A token that completes no character adds nothing; the one
    /// that completes it adds all of it.
    pub emitted_text: Vec<String>,
    /// E\[accepted | T\], the sum of pi over the drafted nodes.
    pub expected_accepted: f64,
    /// Used fraction of the pass's capacity, H(V) / ln B (bounds.md, "Capacity of a pass"). It is 0
    /// when greedy, and null for sampled trees and B = 1.
    #[serde(default)]
    pub capacity: Option<f64>,
    /// Description of a drafting error that did not end the run. It is one line; null without an
    /// error.
    #[serde(default)]
    pub notice: Option<String>,
    /// Miss that ended the step; null if drafting was disabled or the text ended.
    #[serde(default)]
    pub miss: Option<Miss>,
    /// Entropy at the position of each emitted token.
    pub entropy: Vec<PositionEntropy>,
    /// Seconds of the step, by stage.
    pub time: StageTimes,
    /// Mean entropy in nats over all positions of this run with the same sampling parameters.
    pub mu: f64,
    /// Mean of sum p ln^2 p over the same positions, in nats^2.
    pub mu2: f64,
    /// Ceilings for this step's budget from these means.
    pub ceilings: Ceilings,
    /// Means and intervals at these settings, as of their last update.
    #[serde(default)]
    pub reached: Option<ReachedIntervals>,
}

impl StepRecord {
    /// Computes the used fraction of the pass's capacity, for the field `capacity`.
    pub fn used_capacity(&self) -> Option<f64> {
        (!self.settings.samples_trees())
            .then(|| capacity::used_share(&self.tree.parents, &self.tree.p))
            .flatten()
    }
}

/// Reason for the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Stop token was generated.
    Stop,
    /// Requested number of tokens was reached.
    Length,
    /// Context of the model is full.
    Context,
    /// User moved on to something else.
    Interrupted,
}
