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
use crate::draft::shape::Limits;
use crate::draft::{Candidate, Context, CostModel, DraftError, Drafter, VerifyFeedback};
use crate::tree::{TokenId, TokenTree};

/// Number of past steps whose weights are kept for [`Drafter::at`], at some kilobytes each.
const PAST: usize = 2048;

/// Candidates below each of several nodes.
type Proposed = Result<Vec<Vec<Candidate>>, DraftError>;

/// Drafter that merges the candidates of its members at each node.
///
/// Every node of the tree is shown to all members, so that each can continue below nodes that
/// others proposed.
pub struct Mix {
    name: &'static str,
    members: Vec<Box<dyn Drafter>>,
    /// Members in the order in which they are asked. Those that run a model come last, since the
    /// candidates of the others may make their pass unnecessary.
    order: Vec<usize>,
    /// True if, in sampled trees, the last member to be asked drafts alone. The merged
    /// probabilities are good for ranking tokens, but as a distribution they are not as close to
    /// the target's as those of a model.
    alone: bool,
    drawn: bool,
    /// Cost gate of each member.
    thrift: Vec<CostGate>,
    weights: Weights,
    /// Weights before each of the last steps, with the text's number of tokens.
    past: VecDeque<(usize, Weights)>,
    /// Members' proposals for each candidate of this step, by (parent node, token). The second
    /// value is the node that the candidate became, if any. Nodes are numbered as in the tree while
    /// it grows.
    said: HashMap<(usize, TokenId), (TokenProposals, Option<usize>)>,
}

impl Mix {
    /// Creates a mix of `members`, called `name`.
    ///
    /// # Errors
    /// Unless there are two to four members, all different.
    pub fn new(name: &'static str, members: Vec<Box<dyn Drafter>>) -> Result<Self, DraftError> {
        let names: Vec<&str> = members.iter().map(|member| member.name()).collect();
        let twice = names.iter().enumerate().any(|(i, name)| names[..i].contains(name));
        if !(2..=MEMBERS).contains(&members.len()) || twice {
            return Err(DraftError::Unfit(format!(
                "a mix of {}: give two to {MEMBERS} different drafters",
                names.join(",")
            )));
        }
        let weights = Weights {
            calibrations: vec![Calibration::default(); members.len()],
            weight_sets: HashMap::new(),
        };
        Ok(Self::with(name, members, weights))
    }

    /// Lets a member that runs a model draft alone in sampled trees.
    pub fn with_model_only_if_sampled(self) -> Self {
        Self { alone: true, ..self }
    }

    fn with(name: &'static str, members: Vec<Box<dyn Drafter>>, weights: Weights) -> Self {
        let (mut order, thrift): (Vec<usize>, _) =
            ((0..members.len()).collect(), vec![CostGate::default(); members.len()]);
        order.sort_by_key(|&m| members[m].costly());
        Self {
            name,
            members,
            order,
            alone: false,
            drawn: false,
            thrift,
            weights,
            past: VecDeque::new(),
            said: HashMap::new(),
        }
    }

    /// Candidates of member `m`, given those of the members before it in `told`. A member that runs
    /// a model under a cost model is asked only about nodes for which its pass is expected to pay.
    fn ask(
        &mut self,
        m: usize,
        told: &[Vec<Vec<Candidate>>],
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Proposed {
        let (member, thrift) = (&mut self.members[m], &mut self.thrift[m]);
        if member.costly() && thrift.backs_off() {
            return Ok(vec![Vec::new(); nodes.len()]);
        }
        // The root alone is not gated: a trained head ran its entry in `begin`, so asking is free.
        if !member.costly() || !thrift.is_enabled() || nodes == [0] {
            return member.propose(cx, tree, nodes, width);
        }
        let reached = tree.path_products(|i| tree.q(i));
        // The more probability mass the other members cover, the less this member can add.
        let left = |place: usize, node: usize| {
            let mass = |(known, lists): (&Calibration, &Vec<Vec<Candidate>>)| -> f64 {
                let list = lists.get(place).map_or(&[][..], |list| list);
                list.iter().map(|c| known.calibrate(c.q, tree.depth(node) + 1)).sum()
            };
            1.0 - self.weights.calibrations.iter().zip(told).map(mass).fold(0.0, f64::max).min(1.0)
        };
        let asked: Vec<(usize, f64)> = (nodes.iter().enumerate())
            .map(|(place, &node)| (place, reached[node] * left(place, node)))
            .filter(|&(_, reach)| thrift.node_pays(reach))
            .collect();
        let mut all = vec![Vec::new(); nodes.len()];
        if asked.is_empty() || !thrift.pass_pays(asked.iter().map(|(_, reach)| *reach)) {
            return Ok(all);
        }
        let (began, some) =
            (Instant::now(), asked.iter().map(|&(place, _)| nodes[place]).collect::<Vec<_>>());
        let lists = member.propose(cx, tree, &some, width)?;
        let best = |list: &Vec<Candidate>| list.first().map(|best| best.q);
        let children =
            asked.iter().zip(&lists).filter_map(|((_, reach), list)| Some((*reach, best(list)?)));
        thrift.learn(began.elapsed().as_secs_f64(), children);
        for ((place, _), list) in asked.into_iter().zip(lists) {
            all[place] = list;
        }
        Ok(all)
    }

    /// Calls `f` with each node of this step's tree and the members' proposals for it.
    fn each(&self, tree: &TokenTree, mut f: impl FnMut(usize, &TokenProposals)) {
        // Node numbers while the tree grew, by the node's number in `tree`.
        let mut grown: Vec<Option<usize>> = vec![Some(0)];
        for i in tree.nodes() {
            let said = grown[tree.parent(i).unwrap_or(0)]
                .and_then(|parent| self.said.get(&(parent, tree.token(i))));
            grown.push(said.and_then(|(_, node)| *node));
            if let Some((said, _)) = said {
                f(i, said);
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
        let mut nothing: TokenProposals = [MemberProposal::Silent; MEMBERS];
        for (word, list) in nothing.iter_mut().zip(lists) {
            *word = if list.is_empty() { MemberProposal::Silent } else { MemberProposal::Other };
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
                tokens.push((token, nothing));
            }
            if let Some((_, said)) = tokens.last_mut() {
                said[m] = MemberProposal::Proposed {
                    q,
                    odds: logit(self.weights.calibrations[m].calibrate(q, depth)),
                };
            }
        }
        let mut best: Vec<Candidate> = tokens
            .iter()
            .map(|(token, said)| Candidate { token: *token, q: self.weights.p(said) })
            .collect();
        self.said.extend(tokens.into_iter().map(|(token, said)| ((node, token), (said, None))));
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
    fn name(&self) -> &'static str {
        self.name
    }

    fn cost(&self) -> String {
        let each: Vec<String> =
            self.members.iter().map(|m| format!("{}: {}", m.name(), m.cost())).collect();
        each.join("; ")
    }

    fn members(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.name()).collect()
    }

    fn can_propose(&self, token: TokenId) -> bool {
        self.members.iter().any(|member| member.can_propose(token))
    }

    fn reset(&mut self) {
        self.members.iter_mut().for_each(|member| member.reset());
        self.past.clear();
        self.said.clear();
    }

    fn limits(&mut self, limits: Limits) {
        self.members.iter_mut().for_each(|member| member.limits(limits));
    }

    fn worth(&mut self, worth: Option<CostModel>) {
        self.thrift.iter_mut().for_each(|thrift| thrift.set_cost_model(worth));
    }

    fn drawn(&mut self, drawn: bool) {
        self.drawn = drawn;
    }

    fn costly(&self) -> bool {
        self.members.iter().any(|member| member.costly())
    }

    fn frugal(&self) -> bool {
        self.costly() && !self.members.iter().all(|member| member.costly())
    }

    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError> {
        self.said.clear();
        // If the same step is begun again, its weights are recorded already.
        if self.past.back().is_none_or(|(tokens, _)| *tokens != cx.tokens.len()) {
            self.past.push_back((cx.tokens.len(), self.weights.clone()));
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        let awake = self
            .members
            .iter_mut()
            .zip(&self.thrift)
            .filter(|(member, thrift)| !(member.costly() && thrift.backs_off()));
        awake.map(|(member, _)| member).try_for_each(|member| member.begin(cx))
    }

    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        for &node in nodes {
            let key = tree.parent(node).map(|parent| (parent, tree.token(node)));
            if let Some((_, number)) = key.and_then(|key| self.said.get_mut(&key)) {
                *number = Some(node);
            }
        }
        let last = self
            .order
            .last()
            .copied()
            .filter(|&m| self.alone && self.drawn && self.members[m].costly());
        if let Some(m) = last {
            let lists = self.members[m].propose(cx, tree, nodes, width)?;
            let said = |q: f64| {
                let mut said: TokenProposals = [MemberProposal::Silent; MEMBERS];
                said[m] = MemberProposal::Proposed { q, odds: logit(q) };
                said
            };
            for (&node, list) in nodes.iter().zip(&lists) {
                self.said.extend(list.iter().map(|c| ((node, c.token), (said(c.q), None))));
            }
            return Ok(lists);
        }
        // Each member gets all nodes at once, so that one that runs a model makes a single pass.
        let mut told = vec![Vec::new(); self.members.len()];
        for m in self.order.clone() {
            told[m] = self.ask(m, &told, cx, tree, nodes, width)?;
        }
        let below = |(i, &node): (usize, &usize)| {
            let lists: Vec<Vec<Candidate>> = told
                .iter_mut()
                .map(|lists| lists.get_mut(i).map(std::mem::take).unwrap_or_default())
                .collect();
            self.merge(node, tree.depth(node) + 1, &lists, width)
        };
        Ok(nodes.iter().enumerate().map(below).collect())
    }

    fn origins(&self, tree: &TokenTree) -> Vec<usize> {
        let mut origins = vec![0; tree.len()];
        self.each(tree, |i, said| {
            let odds = |word: &MemberProposal| {
                if let MemberProposal::Proposed { odds, .. } = word {
                    *odds
                } else {
                    f64::NEG_INFINITY
                }
            };
            // Ties go to the first member.
            let best = (0..self.members.len())
                .rev()
                .max_by(|&a, &b| odds(&said[a]).total_cmp(&odds(&said[b])));
            origins[i] = best.unwrap_or(0);
        });
        origins
    }

    fn learn(&mut self, verified: &VerifyFeedback) {
        let mut seen: Vec<(TokenProposals, Observation)> =
            Vec::with_capacity(verified.tree.drafted());
        self.each(&verified.tree, |i, said| seen.push((*said, verified.observation(i))));
        for (m, known) in self.weights.calibrations.iter_mut().enumerate() {
            known.learn(seen.iter().filter_map(|(said, seen)| match said[m] {
                MemberProposal::Proposed { q, .. } => Some(Observation { q, ..*seen }),
                MemberProposal::Silent | MemberProposal::Other => None,
            }));
        }
        for (said, seen) in &seen {
            self.weights.learn(said, seen.weight, seen.p);
        }
        for member in &mut self.members {
            member.learn(verified);
        }
    }

    fn notice(&mut self) -> Option<String> {
        self.members.iter_mut().find_map(|member| member.notice())
    }

    fn end(&mut self, cx: &mut Context) {
        self.members.iter_mut().for_each(|member| member.end(cx));
    }

    fn at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let members =
            self.members.iter().map(|member| member.at(tokens)).collect::<Result<_, _>>()?;
        let weights = self
            .past
            .iter()
            .rev()
            .find(|(at, _)| *at <= tokens)
            .map_or(&self.weights, |(_, weights)| weights);
        Ok(Box::new(Mix { alone: self.alone, ..Mix::with(self.name, members, weights.clone()) }))
    }
}
