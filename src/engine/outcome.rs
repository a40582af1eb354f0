//! Evaluation of a verify pass: the verdict, and the statistics for the step's record.
//!
//! The target's distributions along the accepted path and at every drafted node are read here, once
//! per step.

use super::ceilings::CeilingTracker;
use super::distributions::NodeDistributions;
use super::error::SessionError;
use super::vocabulary::Vocabulary;
use crate::distribution::{Moments, NotFinite, Sampling};
use crate::draft::{BudgetCut, Candidate, Cut, Draft};
use crate::model::Decoder;
use crate::telemetry::{
    CutNode, Miss, MissCause, Overlap, PositionEntropy, RankedToken, RuleCeiling, StepRecord,
    TokenClass, TreeRecord,
};
use crate::theory::transport;
use crate::tree::{TokenId, TokenTree};
use crate::verify::{
    BlockAcceptance, Rejection, Rule, TextRandom, Verdict, verify, verify_block, verify_rejection,
};

/// Reach probability of each node, and acceptance probabilities of its children.
///
/// The latter are given that the node is reached: see [`VerifyOutcome::child_acceptance`].
type NodeAcceptances = Vec<(f64, Vec<f64>)>;

/// Outcome of one verify pass.
pub(super) struct VerifyOutcome {
    /// Accepted path and emitted tokens.
    pub verdict: Verdict,
    /// Record of the tree, without the texts of tokens.
    pub tree: TreeRecord,
    /// Entropy of the distribution of each emitted token.
    pub entropy: Vec<PositionEntropy>,
    /// E\[X | T\], the expected number of accepted tokens given the tree.
    pub expected_accepted: f64,
    /// Rank of the bonus token under the target.
    pub bonus_rank: usize,
    /// Candidates left out below nodes of the accepted path, with the target's p.
    pub left_out: Vec<(Cut, f64)>,
    /// Statistics of each node of a sampled tree that the drafter expanded.
    ///
    /// Holds the probability that the node is reached and, given that, the expected probability
    /// that its first child is accepted, its second and so on. Under recursive rejection there is
    /// one more entry than children, for one child more. Empty unless children were sampled.
    pub child_acceptance: NodeAcceptances,
    /// Overlap of p and q at the nodes of the accepted path.
    pub overlap: Vec<Overlap>,
    /// Ceiling of the verification rule below the root; only for sampled trees.
    pub rule_ceiling: Option<RuleCeiling>,
    /// Target's most probable tokens where the walk ended; empty if nothing was drafted.
    pub target_best: Vec<(TokenId, f64)>,
}

/// Number of tokens in the lists of a miss.
const LISTED: usize = 5;

/// Verifies `draft` from the target's last pass, which was over `draft.tree`.
///
/// Returns the verdict and the statistics for the record. Adds the distributions of the emitted
/// tokens to `observed`.
///
/// # Errors
/// If a distribution does not exist, or the device fails.
pub(super) fn evaluate_pass(
    target: &dyn Decoder,
    sampling: Sampling,
    draft: &Draft,
    random: &TextRandom,
    position: usize,
    observed: &mut CeilingTracker,
) -> Result<VerifyOutcome, SessionError> {
    let tree: &TokenTree = &draft.tree;
    let mut dists = NodeDistributions::new(target, sampling, tree)?;
    let (sampled_tree, rule) = (!draft.proposals.is_empty(), draft.rule);
    let verdict = if sampled_tree {
        let dist = |node: usize| dists.sampled(node).cloned();
        let draw = |depth: usize, n: usize| random.nth_uniform(position + depth, n);
        match rule {
            Rule::Block => verify_block(tree, &draft.proposals, dist, draw)?,
            _ => verify_rejection(tree, &draft.proposals, dist, draw)?,
        }
    } else {
        verify(tree, |node| dists.sampled(node).cloned(), |depth| random.uniform(position + depth))?
    };
    let mut record = TreeRecord {
        tokens: tree.tokens().to_vec(),
        text: Vec::new(),
        calibrated: Vec::new(),
        origin: Vec::new(),
        members: Vec::new(),
        parents: (0..tree.len()).map(|i| tree.parent(i)).collect(),
        depth: (0..tree.len()).map(|i| tree.depth(i)).collect(),
        p: vec![1.0; tree.len()],
        accept: Vec::new(),
        p_plain: vec![1.0; tree.len()],
        q: (0..tree.len()).map(|i| tree.q(i)).collect(),
        rank: vec![0; tree.len()],
        cut: Vec::new(),
    };
    for i in tree.nodes() {
        let (parent, token) = (tree.parent(i).unwrap_or(0), tree.token(i));
        let stats = dists.child_stats(parent, i, token)?;
        (record.p[i], record.p_plain[i], record.rank[i]) = (stats.p, stats.p_plain, stats.rank);
    }
    let (accept, child_acceptance) = match rule {
        _ if !sampled_tree => (record.p.clone(), Vec::new()),
        Rule::Block => block_acceptance_probabilities(draft, &mut dists)?,
        _ => acceptance_probabilities(draft, &mut dists)?,
    };
    record.accept = accept;
    let mut entropy = Vec::with_capacity(verdict.emitted.len());
    let mut at = 0;
    for (depth, &token) in verdict.emitted.iter().enumerate() {
        let dist = dists.sampled(at)?;
        let (moments, p) = (dist.moments(), dist.p(token));
        observed.add(dist, moments);
        let plain: Moments =
            if sampling == Sampling::PLAIN { moments } else { dists.plain_moments(at)? };
        let next = verdict.path.get(depth).copied();
        let p_plain = match next {
            _ if sampling == Sampling::PLAIN => p,
            Some(node) => record.p_plain[node],
            None => dists.plain_probability(at, token)?,
        };
        entropy.push(PositionEntropy { sampled: moments, plain, p, p_plain: Some(p_plain) });
        at = next.unwrap_or(at);
    }
    let mut left = Vec::with_capacity(draft.cut.len());
    for cut in draft.cut.iter().filter(|cut| cut.parent == 0 || verdict.path.contains(&cut.parent))
    {
        left.push((*cut, dists.sampled(cut.parent)?.p(cut.candidate.token)));
    }
    let bonus_rank = dists.sampled(verdict.last_accepted())?.rank(verdict.bonus());
    let tried = tree.len() > 1 || draft.expanded.first() == Some(&true);
    let target_best = if tried { dists.best(verdict.last_accepted(), LISTED)? } else { Vec::new() };
    let expected_accepted = tree.expected_accepted(|i| record.acceptance(i));
    let (mut overlap, mut rule_ceiling) = (Vec::new(), None);
    for node in
        std::iter::once(0).chain(verdict.path.iter().copied()).filter(|_| !sampling.greedy())
    {
        let dist = dists.sampled(node)?;
        let tokens: Vec<(f64, f64)> =
            proposed(draft, node).into_iter().map(|(token, q)| (dist.p(token), q)).collect();
        overlap.extend(Overlap::from_candidates(node, &tokens));
        if node == 0 && sampled_tree && !tokens.is_empty() {
            let drafts = tree.children(0).count();
            let ceiling = match rule {
                Rule::Match => None,
                Rule::Rejection | Rule::Block => {
                    transport::without_replacement_ceiling(&tokens, drafts)
                }
                Rule::GreedyFirst => Some(transport::greedy_first_ceiling(&tokens, drafts)),
            };
            let accepted =
                tree.children(0).map(|child| record.acceptance(child)).sum::<f64>() + 0.0;
            rule_ceiling =
                ceiling.map(|ceiling| RuleCeiling { drafts, ceiling, accepted: accepted.min(1.0) });
        }
    }
    Ok(VerifyOutcome {
        verdict,
        tree: record,
        entropy,
        expected_accepted,
        bonus_rank,
        left_out: left,
        child_acceptance,
        overlap,
        rule_ceiling,
        target_best,
    })
}

/// Returns the tokens proposed below a node with their q, in descending order.
///
/// For a sampled tree these are the candidates that children were sampled from, otherwise the
/// children and the candidates left out.
fn proposed(draft: &Draft, node: usize) -> Vec<(TokenId, f64)> {
    if let Some(proposal) = draft.proposals.get(node) {
        return proposal.candidates().to_vec();
    }
    let children =
        draft.tree.children(node).map(|child| (draft.tree.token(child), draft.tree.q(child)));
    let cut = draft
        .cut
        .iter()
        .filter(|cut| cut.parent == node)
        .map(|cut| (cut.candidate.token, cut.candidate.q));
    let mut all: Vec<(TokenId, f64)> = children.chain(cut).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

/// Returns acceptance probabilities of a sampled tree under recursive rejection.
///
/// The first part holds for each node the probability that it is accepted given that its parent is
/// (1 for the root). The second part is [`VerifyOutcome::child_acceptance`].
fn acceptance_probabilities(
    draft: &Draft,
    dists: &mut NodeDistributions,
) -> Result<(Vec<f64>, NodeAcceptances), NotFinite> {
    let tree = &draft.tree;
    let mut accept = vec![1.0; tree.len()];
    let mut reach = vec![1.0; tree.len()];
    let mut child_acceptance = Vec::new();
    for node in (0..tree.len()).filter(|&node| draft.expanded[node]) {
        let dist = dists.sampled(node)?;
        let mut rejection = Rejection::new(&draft.proposals[node], |token| dist.p(token));
        let (mut none_accepted, mut expected) = (1.0, Vec::new());
        for child in tree.children(node) {
            expected.push(none_accepted * rejection.expected_acceptance());
            let chance = rejection.accept_probability().unwrap_or(0.0);
            accept[child] = none_accepted * chance;
            reach[child] = reach[node] * accept[child];
            none_accepted *= 1.0 - chance;
            rejection.reject();
        }
        expected.push(none_accepted * rejection.expected_acceptance());
        child_acceptance.push((reach[node], expected));
    }
    Ok((accept, child_acceptance))
}

/// Returns acceptance probabilities of a sampled chain under block verification.
///
/// As [`acceptance_probabilities`], where the probability at depth i is P(accepted >= i | chain)
/// over P(accepted >= i - 1 | chain).
fn block_acceptance_probabilities(
    draft: &Draft,
    dists: &mut NodeDistributions,
) -> Result<(Vec<f64>, NodeAcceptances), NotFinite> {
    let block =
        BlockAcceptance::new(&draft.tree, &draft.proposals, |node| dists.sampled(node).cloned())?;
    let (mut accept, mut child_acceptance) = (vec![1.0; draft.tree.len()], Vec::new());
    let survival = block.survival();
    for (&node, pair) in block.nodes()[1..].iter().zip(survival.windows(2)) {
        accept[node] = if pair[0] > 0.0 { (pair[1] / pair[0]).min(1.0) } else { 0.0 };
    }
    for ((&node, &reach), expected) in
        block.nodes().iter().zip(block.reach()).zip(block.conditional_acceptance())
    {
        if draft.expanded[node] {
            child_acceptance.push((reach, vec![expected]));
        }
    }
    Ok((accept, child_acceptance))
}

/// Returns the drafted nodes that the budget left out, for the record.
pub(super) fn cut_nodes(draft: &Draft, vocabulary: &Vocabulary) -> Vec<CutNode> {
    let node = |cut: &BudgetCut| {
        let Candidate { token, q } = cut.candidate;
        CutNode { parent: cut.parent, token, text: vocabulary.text(token), q }
    };
    draft.budget_cut.iter().map(node).collect()
}

/// Returns true if the best tree of `nodes` nodes certainly holds this path.
///
/// `p` are the probabilities of the path's tokens, each after the one before, and `pi` is their
/// product. All nodes of a branch beside the path are less probable than `pi` if its mass is.
pub(super) fn is_most_probable(
    p: impl ExactSizeIterator<Item = f64>,
    pi: f64,
    nodes: usize,
) -> bool {
    let (depth, mut above) = (p.len(), 1.0);
    let mut beside = p.map(|p| {
        let mass = above * (1.0 - p);
        above *= p;
        mass
    });
    depth <= nodes && beside.all(|mass| mass < pi)
}

/// Describes the miss that ended the step of `record`, whose tree is `draft.tree`.
///
/// `target_best` is [`VerifyOutcome::target_best`], and `outside_vocabulary` says that the drafter
/// can't propose the token. See [`Miss`] and [`MissCause`].
pub(super) fn describe_miss(
    record: &StepRecord,
    draft: &Draft,
    target_best: &[(TokenId, f64)],
    outside_vocabulary: bool,
    vocabulary: &Vocabulary,
) -> Miss {
    let ranked = |(token, probability): &(TokenId, f64)| RankedToken {
        token: *token,
        text: vocabulary.text(*token),
        probability: *probability,
    };
    let last = record.path.last().copied().unwrap_or(0);
    let (q, draft_rank) = (draft.cut_q(last, record.bonus), draft.cut_rank(last, record.bonus));
    let (asked, rank) = (draft.expanded.get(last).is_some_and(|&asked| asked), record.bonus_rank);
    let pi = record.entropy.iter().map(|e| e.p).product::<f64>();
    let size = record.settings.ceiling_size(record.tree.tokens.len());
    // If more likely siblings alone fill the tree, an oracle misses the token for certain. The
    // floor is that of a mean context; here, the path itself can show that an oracle has the token.
    let unlucky = size > 1 && rank + 1 >= size
        || record.ceilings.fluid_floor.is_some_and(|floor| pi < floor)
            && !is_most_probable(record.entropy.iter().map(|e| e.p), pi, size - 1);
    let mut miss = Miss {
        depth: record.accepted + 1,
        token: record.bonus,
        text: record.bonus_text.clone(),
        class: TokenClass::from_text(&record.bonus_text),
        p: record.entropy.last().map_or(0.0, |e| e.p),
        p_plain: record.entropy.last().and_then(|e| e.p_plain),
        pi,
        rank,
        q,
        draft_rank,
        asked,
        outside_vocabulary: Some(outside_vocabulary),
        target_best: target_best.iter().map(ranked).collect(),
        draft_best: proposed(draft, last).iter().take(LISTED).map(ranked).collect(),
        cause: MissCause::Unlucky,
    };
    if !unlucky {
        miss.cause = miss.cause_ignoring_luck();
    }
    miss
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::is_most_probable;

    const VOCABULARY: usize = 3;
    const DEPTH: usize = 4;

    proptest! {
        /// Compares with the best tree of a random language, by enumeration of all paths.
        #[test]
        fn a_most_probable_path_is_in_the_best_tree(
            weights in prop::collection::vec(0.01f64..1.0, 200),
            path in prop::collection::vec(0..VOCABULARY, 1..DEPTH),
            nodes in 1usize..8,
            sharp in 0.5f64..12.0,
        ) {
            // Distribution after a path: its row is found by the path's number.
            let row = |path: &[usize]| -> Vec<f64> {
                let number = path.iter().fold(1, |n, token| n * VOCABULARY + token) * VOCABULARY;
                let row: Vec<f64> =
                    (0..VOCABULARY).map(|i| weights[(number + i) % 200].powf(sharp)).collect();
                let sum: f64 = row.iter().sum();
                row.into_iter().map(|x| x / sum).collect()
            };
            let mut level: Vec<(Vec<usize>, f64)> = vec![(Vec::new(), 1.0)];
            let mut all = Vec::new();
            for _ in 0..DEPTH {
                level = level
                    .iter()
                    .flat_map(|(path, pi)| {
                        let next = row(path).into_iter().enumerate();
                        next.map(move |(i, p)| ([&path[..], &[i]].concat(), pi * p))
                    })
                    .collect();
                all.extend(level.iter().map(|(_, pi)| *pi));
            }
            let p: Vec<f64> = (0..path.len()).map(|i| row(&path[..i])[path[i]]).collect();
            let pi: f64 = p.iter().product();
            if is_most_probable(p.into_iter(), pi, nodes) {
                let above = all.iter().filter(|&&other| other > pi * (1.0 + 1e-9)).count();
                prop_assert!(above < nodes, "{above} of {nodes} nodes are more probable");
            }
        }
    }
}
