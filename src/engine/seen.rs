//! What one verify pass showed: the verdict, and what the record says of it.

use super::ceilings::Observed;
use super::laws::Laws;
use super::session::SessionError;
use super::vocabulary::Vocabulary;
use crate::dist::{Moments, NotFinite, Warp};
use crate::draft::{BudgetCut, Candidate, Cut, Draft};
use crate::model::Decoder;
use crate::telemetry::{Cause, CutNode, Miss, Overlap, PositionEntropy, RuleCeiling, StepRecord, TokenClass, TreeRecord};
use crate::theory::transport;
use crate::tree::{TokenId, TokenTree};
use crate::verify::{Block, Draws, Rejection, Rule, Verdict, verify, verify_block, verify_drawn};

/// Of nodes the probability that they are reached, and those with which their children are accepted then, in turn.
type Chances = Vec<(f64, Vec<f64>)>;

/// What one verify pass showed.
pub(super) struct Seen {
    /// What the walk put out.
    pub verdict: Verdict,
    /// All but the texts.
    pub tree: TreeRecord,
    /// Of each emitted token's law.
    pub entropy: Vec<PositionEntropy>,
    /// E\[X | T\].
    pub expected_accepted: f64,
    /// Rank of the bonus token under the target.
    pub bonus_rank: usize,
    /// What was proposed below the nodes that the walk came through and left out, with the target's p.
    pub left: Vec<(Cut, f64)>,
    /// Where children were drawn, for each node that was asked about the probability that it is reached, and those with which its first
    /// child, its second and so on are accepted then, with one more than it has.
    pub chances: Chances,
    /// The overlap of p and q along the walk.
    pub overlap: Vec<Overlap>,
    /// Where children were drawn, the ceiling of the rule below the root.
    pub rule_ceiling: Option<RuleCeiling>,
}

/// Reads the laws of the target's last pass, which was over `draft.tree`: what is accepted, and what the record needs.
/// The laws of the tokens that come of it go into `observed`.
///
/// # Errors
/// If a law does not exist, or the device fails.
pub(super) fn observe(
    target: &dyn Decoder,
    warp: Warp,
    draft: &Draft,
    draws: &Draws,
    position: usize,
    observed: &mut Observed,
) -> Result<Seen, SessionError> {
    let tree: &TokenTree = &draft.tree;
    let mut laws = Laws::new(target, warp, tree)?;
    let (drawn, rule) = (!draft.proposals.is_empty(), draft.rule);
    let verdict = if drawn {
        let law = |node: usize| laws.sampled(node).cloned();
        let draw = |depth: usize, n: usize| draws.nth(position + depth, n);
        match rule {
            Rule::Block => verify_block(tree, &draft.proposals, law, draw)?,
            _ => verify_drawn(tree, &draft.proposals, law, draw)?,
        }
    } else {
        verify(tree, |node| laws.sampled(node).cloned(), |depth| draws.at(position + depth))?
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
        let told = laws.of_child(parent, i, token)?;
        (record.p[i], record.p_plain[i], record.rank[i]) = (told.p, told.p_plain, told.rank);
    }
    let (accept, chances) = match rule {
        _ if !drawn => (record.p.clone(), Vec::new()),
        Rule::Block => accept_block(draft, &mut laws)?,
        _ => accept(draft, &mut laws)?,
    };
    record.accept = accept;
    let mut entropy = Vec::with_capacity(verdict.emitted.len());
    let mut at = 0;
    for (depth, &token) in verdict.emitted.iter().enumerate() {
        let law = laws.sampled(at)?;
        let (moments, p) = (law.moments(), law.p(token));
        observed.add(law, moments);
        let plain: Moments = if warp == Warp::PLAIN { moments } else { laws.plain_moments(at)? };
        let next = verdict.path.get(depth).copied();
        let p_plain = match next {
            _ if warp == Warp::PLAIN => p,
            Some(node) => record.p_plain[node],
            None => laws.plain_p(at, token)?,
        };
        entropy.push(PositionEntropy { law: moments, plain, p, p_plain: Some(p_plain) });
        at = next.unwrap_or(at);
    }
    let mut left = Vec::with_capacity(draft.cut.len());
    for cut in draft.cut.iter().filter(|cut| cut.parent == 0 || verdict.path.contains(&cut.parent)) {
        left.push((*cut, laws.sampled(cut.parent)?.p(cut.candidate.token)));
    }
    let bonus_rank = laws.sampled(verdict.last())?.rank(verdict.bonus());
    let expected_accepted = tree.expected_accepted(|i| record.acceptance(i));
    let (mut overlap, mut rule_ceiling) = (Vec::new(), None);
    for node in std::iter::once(0).chain(verdict.path.iter().copied()).filter(|_| !warp.greedy()) {
        let law = laws.sampled(node)?;
        let tokens: Vec<(f64, f64)> = proposed(draft, node).into_iter().map(|(token, q)| (law.p(token), q)).collect();
        overlap.extend(Overlap::of(node, &tokens));
        if node == 0 && drawn && !tokens.is_empty() {
            let drafts = tree.children(0).count();
            let ceiling = match rule {
                Rule::Match => None,
                Rule::Rejection | Rule::Block => transport::without_replacement(&tokens, drafts),
                Rule::GreedyFirst => Some(transport::greedy_first(&tokens, drafts)),
            };
            let accepted = tree.children(0).map(|child| record.acceptance(child)).sum::<f64>() + 0.0;
            rule_ceiling = ceiling.map(|ceiling| RuleCeiling { drafts, ceiling, accepted: accepted.min(1.0) });
        }
    }
    Ok(Seen { verdict, tree: record, entropy, expected_accepted, bonus_rank, left, chances, overlap, rule_ceiling })
}

/// The tokens that were proposed below a node with their q, the best first: what children were sampled from, or the children and what
/// was left out.
fn proposed(draft: &Draft, node: usize) -> Vec<(TokenId, f64)> {
    if let Some(proposal) = draft.proposals.get(node) {
        return proposal.candidates().to_vec();
    }
    let children = draft.tree.children(node).map(|child| (draft.tree.token(child), draft.tree.q(child)));
    let cut = draft.cut.iter().filter(|cut| cut.parent == node).map(|cut| (cut.candidate.token, cut.candidate.q));
    let mut all: Vec<(TokenId, f64)> = children.chain(cut).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

/// Of a tree whose children were drawn the probability that each node is accepted once its parent is (1 for the root), and what
/// [`Seen::chances`] says.
fn accept(draft: &Draft, laws: &mut Laws) -> Result<(Vec<f64>, Chances), NotFinite> {
    let tree = &draft.tree;
    let mut accept = vec![1.0; tree.len()];
    let mut reach = vec![1.0; tree.len()];
    let mut chances = Vec::new();
    for node in (0..tree.len()).filter(|&node| draft.asked[node]) {
        let law = laws.sampled(node)?;
        let mut rejection = Rejection::new(&draft.proposals[node], |token| law.p(token));
        let (mut stays, mut expected) = (1.0, Vec::new());
        for child in tree.children(node) {
            expected.push(stays * rejection.expected());
            let chance = rejection.chance().unwrap_or(0.0);
            accept[child] = stays * chance;
            reach[child] = reach[node] * accept[child];
            stays *= 1.0 - chance;
            rejection.refuse();
        }
        expected.push(stays * rejection.expected());
        chances.push((reach[node], expected));
    }
    Ok((accept, chances))
}

/// The same of a chain under block verification: P(accepted >= i | chain) over P(accepted >= i - 1 | chain) at depth i.
fn accept_block(draft: &Draft, laws: &mut Laws) -> Result<(Vec<f64>, Chances), NotFinite> {
    let block = Block::new(&draft.tree, &draft.proposals, |node| laws.sampled(node).cloned())?;
    let (mut accept, mut chances) = (vec![1.0; draft.tree.len()], Vec::new());
    let survival = block.survival();
    for (&node, pair) in block.nodes()[1..].iter().zip(survival.windows(2)) {
        accept[node] = if pair[0] > 0.0 { (pair[1] / pair[0]).min(1.0) } else { 0.0 };
    }
    for ((&node, &reach), expected) in block.nodes().iter().zip(block.reach()).zip(block.expected()) {
        if draft.asked[node] {
            chances.push((reach, vec![expected]));
        }
    }
    Ok((accept, chances))
}

/// The nodes of `draft` that the budget left out, for the record.
pub(super) fn cut_nodes(draft: &Draft, vocabulary: &Vocabulary) -> Vec<CutNode> {
    let node = |cut: &BudgetCut| {
        let Candidate { token, q } = cut.candidate;
        CutNode { parent: cut.parent, token, text: vocabulary.text(token), q }
    };
    draft.budget_cut.iter().map(node).collect()
}

/// The refusal that ended the step of `record`, whose tree is `draft.tree` (see [`Miss`] and [`Cause`]).
pub(super) fn miss(record: &StepRecord, draft: &Draft) -> Miss {
    let last = record.path.last().copied().unwrap_or(0);
    let (q, draft_rank) = (draft.cut_q(last, record.bonus), draft.cut_rank(last, record.bonus));
    let (asked, rank) = (draft.asked.get(last).is_some_and(|&asked| asked), record.bonus_rank);
    let pi = record.entropy.iter().map(|e| e.p).product::<f64>();
    // Where so many siblings are as likely that they fill the tree, an oracle misses it for certain.
    let unlucky = record.ceilings.fluid_floor.is_some_and(|floor| pi < floor) || rank + 1 >= record.settings.budget;
    Miss {
        depth: record.accepted + 1,
        token: record.bonus,
        text: record.bonus_text.clone(),
        class: TokenClass::of(&record.bonus_text),
        p: record.entropy.last().map_or(0.0, |e| e.p),
        p_plain: record.entropy.last().and_then(|e| e.p_plain),
        pi,
        rank,
        q,
        draft_rank,
        asked,
        cause: if unlucky { Cause::Unlucky } else { Cause::without_luck(rank, draft_rank, asked) },
    }
}
