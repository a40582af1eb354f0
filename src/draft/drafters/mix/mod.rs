//! Mix of several drafters: one tree from the candidates of all members. The probability of a
//! merged candidate is a learned combination of the members' calibrated probabilities (see
//! `weights`).

#[cfg(test)]
mod tests;
mod weights;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

pub use self::weights::MEMBERS;
use self::weights::{MemberProposal, TokenProposals, Weights};
use crate::draft::calibration::{Calibration, Observation, logit};
use crate::draft::cost_gate::CostGate;
use crate::draft::{
    Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind, ModelUse,
    VerifyFeedback,
};
use crate::tree::{TokenId, TokenTree};

/// Number of past steps whose weights are kept for [`Drafter::fork_at`], at some kilobytes each.
const PAST: usize = 2048;

/// Candidates below each of several nodes.
type Proposed = Result<Vec<Vec<Candidate>>, DraftError>;

/// Member of a mix.
struct Member {
    drafter: Box<dyn Drafter>,
    info: DrafterInfo,
    gate: CostGate,
}

/// Drafter that merges the candidates of its members at each node.
///
/// Every node of the tree is shown to all members, so that each can continue below nodes that
/// others proposed.
pub struct Mix {
    kind: DrafterKind,
    members: Vec<Member>,
    /// Members in the order in which they propose. Those that run a model come last, since the
    /// candidates of the others may make their pass unnecessary.
    order: Vec<usize>,
    /// True if, in sampled trees, the last member to propose drafts alone. The merged
    /// probabilities are good for ranking tokens, but as a distribution they are not as close to
    /// the target's as those of a model.
    model_only_if_sampled: bool,
    weights: Weights,
    /// Weights before each of the last steps, with the text's number of tokens.
    past: VecDeque<(usize, Weights)>,
    /// Candidates of this step, by (parent node, token). Nodes are numbered as in the tree while it
    /// grows.
    merged: HashMap<(usize, TokenId), MergedCandidate>,
}

/// Candidate of the present step.
struct MergedCandidate {
    /// Proposals of the members for it.
    proposals: TokenProposals,
    /// Node that it became, if any.
    node: Option<usize>,
}

impl Mix {
    /// Creates a mix of `members` of this kind.
    ///
    /// # Errors
    /// Unless there are two to four members, all different.
    pub fn new(
        kind: impl Into<DrafterKind>,
        members: Vec<Box<dyn Drafter>>,
    ) -> Result<Self, DraftError> {
        let kinds: Vec<DrafterKind> = members.iter().map(|member| member.info().kind).collect();
        let twice = kinds.iter().enumerate().any(|(i, kind)| kinds[..i].contains(kind));
        if !(2..=MEMBERS).contains(&members.len()) || twice {
            return Err(DraftError::Unfit(format!(
                "a mix of {}: give two to {MEMBERS} different drafters",
                kinds.iter().map(DrafterKind::name).collect::<Vec<_>>().join(",")
            )));
        }
        let weights = Weights {
            calibrations: vec![Calibration::default(); members.len()],
            weight_sets: HashMap::new(),
        };
        Ok(Self::with_weights(kind.into(), members, weights))
    }

    /// Lets a member that runs a model draft alone in sampled trees.
    pub fn with_model_only_if_sampled(self) -> Self {
        Self { model_only_if_sampled: true, ..self }
    }

    fn with_weights(kind: DrafterKind, members: Vec<Box<dyn Drafter>>, weights: Weights) -> Self {
        let members: Vec<Member> = members
            .into_iter()
            .map(|drafter| Member { info: drafter.info(), drafter, gate: CostGate::default() })
            .collect();
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&m| members[m].info.runs_model());
        Self {
            kind,
            members,
            order,
            model_only_if_sampled: false,
            weights,
            past: VecDeque::new(),
            merged: HashMap::new(),
        }
    }

    /// Returns the candidates of member `m`, given those of the members before it in `before`.
    ///
    /// A member that runs a model under a cost model proposes only below nodes for which its pass
    /// is expected to pay.
    fn propose_member(
        &mut self,
        m: usize,
        before: &[Vec<Vec<Candidate>>],
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Proposed {
        let Member { drafter, info, gate } = &mut self.members[m];
        let model = request.cost_model.filter(|_| info.runs_model());
        if model.is_some_and(|model| model.back_off) {
            return Ok(vec![Vec::new(); nodes.len()]);
        }
        // The root alone is not gated: a trained head ran its entry in `begin`, so that proposing
        // is free.
        let Some(model) = model.filter(|_| nodes != [0]) else {
            return drafter.propose(&mut request.for_member(), tree, nodes, width);
        };
        let reached = tree.path_products(|i| tree.q(i));
        // The more probability mass the other members cover, the less this member can add.
        let uncovered = |place: usize, node: usize| {
            let mass = |(calibration, lists): (&Calibration, &Vec<Vec<Candidate>>)| -> f64 {
                let list = lists.get(place).map_or(&[][..], |list| list);
                list.iter().map(|c| calibration.calibrate(c.q, tree.depth(node) + 1)).sum()
            };
            let masses = self.weights.calibrations.iter().zip(before).map(mass);
            1.0 - masses.fold(0.0, f64::max).min(1.0)
        };
        let paying: Vec<(usize, f64)> = (nodes.iter().enumerate())
            .map(|(place, &node)| (place, reached[node] * uncovered(place, node)))
            .filter(|&(_, reach)| gate.node_pays(&model, reach))
            .collect();
        let mut all = vec![Vec::new(); nodes.len()];
        let reaches = paying.iter().map(|(_, reach)| *reach);
        if paying.is_empty() || !gate.pass_pays(&model, reaches.clone()) {
            return Ok(all);
        }
        let began = Instant::now();
        let some: Vec<usize> = paying.iter().map(|&(place, _)| nodes[place]).collect();
        let lists = drafter.propose(&mut request.for_member(), tree, &some, width)?;
        let best = |list: &Vec<Candidate>| list.first().map(|best| best.q);
        let children = reaches.zip(&lists).filter_map(|(reach, list)| Some((reach, best(list)?)));
        gate.learn(began.elapsed().as_secs_f64(), children);
        for ((place, _), list) in paying.into_iter().zip(lists) {
            all[place] = list;
        }
        Ok(all)
    }

    /// Calls `f` with each node of this step's tree and the members' proposals for it.
    fn for_each_node(&self, tree: &TokenTree, mut f: impl FnMut(usize, &TokenProposals)) {
        // Node numbers while the tree grew, by the node's number in `tree`.
        let mut grown: Vec<Option<usize>> = vec![Some(0)];
        for i in tree.nodes() {
            let candidate = grown[tree.parent(i).unwrap_or(0)]
                .and_then(|parent| self.merged.get(&(parent, tree.token(i))));
            grown.push(candidate.and_then(|candidate| candidate.node));
            if let Some(candidate) = candidate {
                f(i, &candidate.proposals);
            }
        }
    }

    /// Merges the members' candidates below `node` and returns the best `width`.
    fn merge(
        &mut self,
        node: usize,
        depth: usize,
        lists: &[Vec<Candidate>],
        width: usize,
    ) -> Vec<Candidate> {
        let mut absent: TokenProposals = [MemberProposal::Silent; MEMBERS];
        for (proposal, list) in absent.iter_mut().zip(lists) {
            if !list.is_empty() {
                *proposal = MemberProposal::Other;
            }
        }
        let mut all: Vec<(usize, Candidate)> = lists
            .iter()
            .enumerate()
            .flat_map(|(m, list)| list.iter().map(move |&c| (m, c)))
            .collect();
        all.sort_by_key(|(_, candidate)| candidate.token);
        let mut tokens: Vec<(TokenId, TokenProposals)> = Vec::with_capacity(all.len());
        for (m, Candidate { token, q }) in all {
            if tokens.last().is_none_or(|(last, _)| *last != token) {
                tokens.push((token, absent));
            }
            if let Some((_, proposals)) = tokens.last_mut() {
                proposals[m] = MemberProposal::Proposed {
                    q,
                    odds: logit(self.weights.calibrations[m].calibrate(q, depth)),
                };
            }
        }
        let mut best: Vec<Candidate> = tokens
            .iter()
            .map(|(token, proposals)| Candidate {
                token: *token,
                q: self.weights.probability(proposals),
            })
            .collect();
        self.merged.extend(
            tokens.into_iter().map(|(token, proposals)| {
                ((node, token), MergedCandidate { proposals, node: None })
            }),
        );
        let sum: f64 = best.iter().map(|c| c.q).sum();
        if sum > 1.0 {
            best.iter_mut().for_each(|c| c.q /= sum);
        }
        best.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
        best.truncate(width);
        best
    }
}

impl Drafter for Mix {
    fn info(&self) -> DrafterInfo {
        let infos = || self.members.iter().map(|member| &member.info);
        let costs: Vec<String> =
            infos().map(|info| format!("{}: {}", info.kind, info.cost)).collect();
        let model_use = if !infos().any(DrafterInfo::runs_model) {
            ModelUse::Never
        } else if infos().all(DrafterInfo::runs_model) {
            ModelUse::Always
        } else {
            ModelUse::Optional
        };
        DrafterInfo {
            model_use,
            members: infos().map(|info| info.kind.clone()).collect(),
            ..DrafterInfo::new(self.kind.clone(), costs.join("; "))
        }
    }

    fn can_propose(&self, token: TokenId) -> bool {
        self.members.iter().any(|member| member.drafter.can_propose(token))
    }

    fn reset(&mut self) {
        self.members.iter_mut().for_each(|member| member.drafter.reset());
        self.past.clear();
        self.merged.clear();
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.merged.clear();
        // If the same step is begun again, its weights are recorded already.
        if self.past.back().is_none_or(|(tokens, _)| *tokens != request.tokens.len()) {
            self.past.push_back((request.tokens.len(), self.weights.clone()));
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        let backs_off = request.cost_model.is_some_and(|model| model.back_off);
        self.members
            .iter_mut()
            .filter(|member| !(backs_off && member.info.runs_model()))
            .try_for_each(|member| member.drafter.begin(&mut request.for_member()))
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        for &node in nodes {
            let key = tree.parent(node).map(|parent| (parent, tree.token(node)));
            if let Some(candidate) = key.and_then(|key| self.merged.get_mut(&key)) {
                candidate.node = Some(node);
            }
        }
        let alone = (self.order.last().copied()).filter(|&m| {
            self.model_only_if_sampled && request.sampled && self.members[m].info.runs_model()
        });
        if let Some(m) = alone {
            let member = &mut self.members[m].drafter;
            let lists = member.propose(&mut request.for_member(), tree, nodes, width)?;
            let candidate = |q: f64| {
                let mut proposals: TokenProposals = [MemberProposal::Silent; MEMBERS];
                proposals[m] = MemberProposal::Proposed { q, odds: logit(q) };
                MergedCandidate { proposals, node: None }
            };
            for (&node, list) in nodes.iter().zip(&lists) {
                self.merged.extend(list.iter().map(|c| ((node, c.token), candidate(c.q))));
            }
            return Ok(lists);
        }
        // Each member gets all nodes at once, so that one that runs a model makes a single pass.
        let mut proposed = vec![Vec::new(); self.members.len()];
        for m in self.order.clone() {
            proposed[m] = self.propose_member(m, &proposed, request, tree, nodes, width)?;
        }
        let below = |(i, &node): (usize, &usize)| {
            let lists: Vec<Vec<Candidate>> = proposed
                .iter_mut()
                .map(|lists| lists.get_mut(i).map(std::mem::take).unwrap_or_default())
                .collect();
            self.merge(node, tree.depth(node) + 1, &lists, width)
        };
        Ok(nodes.iter().enumerate().map(below).collect())
    }

    fn origins(&self, tree: &TokenTree) -> Vec<usize> {
        let mut origins = vec![0; tree.len()];
        self.for_each_node(tree, |i, proposals| {
            let odds = |m: usize| match proposals[m] {
                MemberProposal::Proposed { odds, .. } => odds,
                MemberProposal::Silent | MemberProposal::Other => f64::NEG_INFINITY,
            };
            // Ties go to the first member.
            let best = (0..self.members.len()).rev().max_by(|&a, &b| odds(a).total_cmp(&odds(b)));
            origins[i] = best.unwrap_or(0);
        });
        origins
    }

    fn learn(&mut self, feedback: &VerifyFeedback) {
        let mut observed: Vec<(TokenProposals, Observation)> =
            Vec::with_capacity(feedback.tree.drafted());
        self.for_each_node(&feedback.tree, |i, proposals| {
            observed.push((*proposals, feedback.observation(i)));
        });
        for (m, calibration) in self.weights.calibrations.iter_mut().enumerate() {
            calibration.learn(observed.iter().filter_map(|(proposals, node)| match proposals[m] {
                MemberProposal::Proposed { q, .. } => Some(Observation { q, ..*node }),
                MemberProposal::Silent | MemberProposal::Other => None,
            }));
        }
        for (proposals, node) in &observed {
            self.weights.learn(proposals, node.weight, node.p);
        }
        for member in &mut self.members {
            member.drafter.learn(feedback);
        }
    }

    fn notice(&mut self) -> Option<String> {
        self.members.iter_mut().find_map(|member| member.drafter.notice())
    }

    fn end(&mut self, request: &mut DraftRequest) {
        self.members.iter_mut().for_each(|member| member.drafter.end(&mut request.for_member()));
    }

    fn fork_at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let members = self
            .members
            .iter()
            .map(|member| member.drafter.fork_at(tokens))
            .collect::<Result<_, _>>()?;
        let weights = self
            .past
            .iter()
            .rev()
            .find(|(length, _)| *length <= tokens)
            .map_or(&self.weights, |(_, weights)| weights);
        Ok(Box::new(Mix {
            model_only_if_sampled: self.model_only_if_sampled,
            ..Mix::with_weights(self.kind.clone(), members, weights.clone())
        }))
    }
}
