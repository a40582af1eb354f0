//! Block verification of a sampled chain (Sun et al., ICLR 2025, arXiv 2403.10444).
//!
//! The paper is "Block Verification Accelerates Speculative Decoding". A chain X_1 ... X_n is
//! sampled from the drafter's distributions q(.|X_1 ... X_i); p are the target's after the same
//! tokens. With (a)+ = max(a, 0) let
//!
//! ```text
//! w_0 = 1,  w_i = min(1, w_{i-1} p(X_i) / q(X_i)),
//! R_i = sum over x of (w_i p(x) - q(x))+,  h_i = R_i / (R_i + 1 - w_i),
//! ```
//!
//! where q = 0, hence R_i = w_i = h_i, after the last token of the chain. The accepted length is
//! the largest i whose own uniform random number is below h_i, or 0 if there is none. The bonus
//! token after i accepted ones is sampled from (w_i p - q)+ / R_i.
//!
//! The text has the target's distribution. First, by induction from the end of the chain,
//! P(accepted >= i | X_1 ... X_i) = w_i: given X_1 ... X_i, at least i + 1 are accepted with
//! probability sum q(x) min(1, w_i p(x) / q(x)) = w_i - R_i, and otherwise exactly i with
//! probability (1 - w_i + R_i) h_i = R_i. So m(x_1 ... x_i) = q(x_1) ... q(x_i) w_i is the
//! probability that the chain begins with these tokens and all of them are accepted. The
//! probability that exactly these are accepted and x follows as the bonus is q(x_1) ... q(x_i) (w_i
//! p(x) - q(x))+ = m(x_1 ... x_i) p(x) - m(x_1 ... x_i x). With what the target adds in later
//! steps, these telescope to p(x_1) ... p(x_n) for every text. The drafter may end a chain at any
//! point that depends only on its tokens so far.
//!
//! No lossless rule accepts more. For any of them, let m(x_1 ... x_i) be the same probability. It
//! is at most q(x_1) ... q(x_i). Since all other texts continue as the target does, those that
//! m(x_1 ... x_(i-1)) counts have x_i next with p(x_i), so that it is also at most m(x_1 ...
//! x_(i-1)) p(x_i). Here it is the lesser of both. In particular, verification token by token
//! accepts at least i with probability min(1, p / q) ... <= w_i, so that a block accepts at least
//! as many tokens in expectation.

use super::rejection::sample_residual;
use super::{Proposal, Verdict};
use crate::distribution::{NotFinite, TokenDist};
use crate::tree::{TokenId, TokenTree};

/// Acceptance probabilities of one sampled chain.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockAcceptance {
    /// Nodes of the chain, root first.
    nodes: Vec<usize>,
    /// w_i = P(accepted >= i | the first i tokens), by depth.
    reach: Vec<f64>,
    /// h_i, by depth; 1 for the root.
    own: Vec<f64>,
    /// Residual masses R_i, by depth.
    residual: Vec<f64>,
}

impl BlockAcceptance {
    /// Computes the acceptance probabilities of the chain of first children of `tree`.
    ///
    /// `dist(node)` is the target's distribution after a node, and `proposals[node]` the one from
    /// which its child was sampled.
    ///
    /// # Errors
    /// If a distribution does not exist.
    pub fn new<'a>(
        tree: &TokenTree,
        proposals: &[Proposal],
        mut dist: impl FnMut(usize) -> Result<TokenDist<'a>, NotFinite>,
    ) -> Result<Self, NotFinite> {
        let mut block =
            Self { nodes: Vec::new(), reach: Vec::new(), own: Vec::new(), residual: Vec::new() };
        let (mut node, mut reach) = (0, 1.0);
        loop {
            let dist = dist(node)?;
            let child = tree.children(node).next();
            let (residual, own) = match child {
                Some(_) => {
                    let residual = residual(&proposals[node], reach, &dist).1;
                    let share = residual + 1.0 - reach;
                    // If p equals q and all is accepted so far, a later token is accepted with
                    // certainty.
                    (residual, if share > 0.0 { residual / share } else { 1.0 })
                }
                None => (reach, reach),
            };
            block.nodes.push(node);
            block.reach.push(reach);
            block.residual.push(residual);
            block.own.push(own);
            let Some(next) = child else { break };
            let (p, q) = (dist.p(tree.token(next)), q(&proposals[node], tree.token(next)));
            reach = if q > 0.0 { (reach * p / q).min(1.0) } else { 0.0 };
            node = next;
        }
        block.own[0] = 1.0;
        Ok(block)
    }

    /// Returns the nodes of the chain by depth, root first.
    pub fn nodes(&self) -> &[usize] {
        &self.nodes
    }

    /// Returns P(accepted >= i | the first i tokens), by depth i.
    ///
    /// This is the mean of [`BlockAcceptance::survival`] over the tokens drafted after these.
    pub fn reach(&self) -> &[f64] {
        &self.reach
    }

    /// Returns P(accepted > i | accepted >= i, the first i tokens), by depth i.
    ///
    /// This is the mean over the token sampled there.
    pub fn conditional_acceptance(&self) -> impl Iterator<Item = f64> + '_ {
        let share = |(&reach, &residual): (&f64, &f64)| {
            if reach > 0.0 { ((reach - residual) / reach).max(0.0) } else { 0.0 }
        };
        self.reach.iter().zip(&self.residual).map(share)
    }

    /// Returns P(accepted >= i | the whole chain), by depth i.
    ///
    /// It is 1 - (1 - h_i) ... (1 - h_n), and 1 for the root.
    pub fn survival(&self) -> Vec<f64> {
        let mut survival = self.own.clone();
        for i in (0..survival.len().saturating_sub(1)).rev() {
            survival[i] += (1.0 - survival[i]) * survival[i + 1];
        }
        survival
    }
}

/// Returns the drafter's probability of a candidate, or 0 for other tokens.
fn q(proposal: &Proposal, token: TokenId) -> f64 {
    proposal.candidates().iter().find(|(other, _)| *other == token).map_or(0.0, |&(_, q)| q)
}

/// Returns the residual distribution (w p - q)+ after a node, and its sum.
///
/// `reach` is w. The distribution is given by the masses of the candidates and the mass of all
/// other tokens.
fn residual(proposal: &Proposal, reach: f64, dist: &TokenDist) -> ((Vec<f64>, f64), f64) {
    let (mut known, mut sum) = (0.0, 0.0);
    let rest = |&(token, q): &(TokenId, f64)| {
        let p = dist.p(token);
        let rest = (reach * p - q).max(0.0);
        (known, sum) = (known + p, sum + rest);
        rest
    };
    let masses: Vec<f64> = proposal.candidates().iter().map(rest).collect();
    let others = reach * (1.0 - known).max(0.0);
    ((masses, others), sum + others)
}

/// Verifies the sampled chain `tree` by block verification.
///
/// `proposals[i]` is the distribution from which the child of node i was sampled, and `dist(node)`
/// the target's distribution after a node. `draw(d, n)` is a uniform random number in \[0, 1) of
/// the step's d-th token, from 0. `draw(d, 0)` samples the bonus token at depth d, and `draw(0, i)`
/// decides on the first i tokens.
///
/// The acceptance numbers of all depths are used whatever is accepted. They therefore have to
/// belong to the position where the step begins: numbers of later positions would be used again in
/// the next step.
///
/// # Errors
/// If a distribution does not exist.
pub fn verify_block<'a>(
    tree: &TokenTree,
    proposals: &[Proposal],
    mut dist: impl FnMut(usize) -> Result<TokenDist<'a>, NotFinite>,
    mut draw: impl FnMut(usize, usize) -> f64,
) -> Result<Verdict, NotFinite> {
    let block = BlockAcceptance::new(tree, proposals, &mut dist)?;
    let accepted = (1..block.own.len()).rev().find(|&i| draw(0, i) < block.own[i]).unwrap_or(0);
    let path = block.nodes[1..=accepted].to_vec();
    let mut emitted: Vec<TokenId> = path.iter().map(|&node| tree.token(node)).collect();
    let (at, dist) = (block.nodes[accepted], dist(block.nodes[accepted])?);
    let number = draw(accepted, 0);
    emitted.push(if accepted + 1 < block.nodes.len() {
        let (masses, others) = residual(&proposals[at], block.reach[accepted], &dist).0;
        sample_residual(&proposals[at], (&masses, others), &dist, number)
    } else {
        // A node without children is plain decoding: the same number must give the same token.
        dist.sample(number)
    });
    Ok(Verdict { path, emitted })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::distribution::Sampling;
    use crate::verify::{Rule, verify_rejection};

    /// Target and drafter distributions after each path of a tiny vocabulary.
    #[derive(Clone, Debug)]
    struct World {
        /// Target logits and drafter weights, by index of the path.
        rows: Vec<(Vec<f32>, Vec<f64>)>,
        /// Length of a chain, unless the drafter has no candidates.
        depth: usize,
        /// Number of tokens to which the drafter's distribution is truncated.
        keep: usize,
    }

    fn logits(p: &[f64]) -> Vec<f32> {
        p.iter().map(|&p| if p > 0.0 { p.ln() as f32 } else { -1e4 }).collect()
    }

    fn weights(size: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![1 => Just(0.0), 4 => 0.01f64..1.0], size)
    }

    fn world() -> impl Strategy<Value = World> {
        (2usize..4, 1usize..4).prop_flat_map(|(size, depth)| {
            let target = weights(size)
                .prop_filter("no token", |p| p.iter().any(|p| *p > 0.0))
                .prop_map(|p| logits(&p));
            let paths = (0..=depth).map(|n| size.pow(n as u32)).sum::<usize>();
            let rows = prop::collection::vec((target, weights(size)), paths);
            (rows, Just(depth), 1..=size).prop_map(|(rows, depth, keep)| World {
                rows,
                depth,
                keep,
            })
        })
    }

    /// Draft with its probability and the proposals its tokens were sampled from.
    struct Drawn {
        tree: TokenTree,
        proposals: Vec<Proposal>,
        share: f64,
    }

    impl World {
        fn size(&self) -> usize {
            self.rows[0].0.len()
        }

        fn row(&self, path: &[TokenId]) -> &(Vec<f32>, Vec<f64>) {
            &self.rows[path.iter().fold(0, |at, &token| at * self.size() + 1 + token as usize)]
        }

        fn target(&self, path: &[TokenId]) -> TokenDist<'_> {
            TokenDist::new(&self.row(path).0, &Sampling::PLAIN).unwrap()
        }

        /// Returns the proposal after `path` whose only child is candidate number `place`.
        fn proposal(&self, path: &[TokenId], place: usize) -> Proposal {
            let mut all: Vec<(TokenId, f64)> =
                (0..).zip(self.row(path).1.iter().copied()).filter(|(_, q)| *q > 0.0).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all.truncate(self.keep);
            let sum: f64 = all.iter().map(|(_, q)| q).sum();
            let below: f64 = all.iter().take(place).map(|(_, q)| q / sum).sum();
            let own = all.get(place).map_or(0.0, |(_, q)| q / sum);
            Proposal::select(all, 1, Rule::Block, || below + own / 2.0)
        }

        /// Returns every chain that can be drafted.
        fn drafts(&self) -> Vec<Drawn> {
            let start = Drawn { tree: TokenTree::new(9), proposals: Vec::new(), share: 1.0 };
            let (mut open, mut done) = (vec![start], Vec::new());
            while let Some(draft) = open.pop() {
                let at = draft.tree.len() - 1;
                let path = &draft.tree.tokens()[1..];
                let candidates = self.proposal(path, 0).candidates().to_vec();
                if path.len() == self.depth || candidates.is_empty() {
                    let proposals = [&draft.proposals[..], &[Proposal::default()]].concat();
                    done.push(Drawn { proposals, ..draft });
                    continue;
                }
                for (place, (token, q)) in candidates.into_iter().enumerate() {
                    let mut tree = draft.tree.clone();
                    tree.push(at, token, q);
                    let proposal = self.proposal(path, place);
                    assert_eq!(proposal.children().collect::<Vec<_>>(), [token]);
                    let proposals = [&draft.proposals[..], &[proposal]].concat();
                    open.push(Drawn { tree, proposals, share: draft.share * q });
                }
            }
            assert!((done.iter().map(|d| d.share).sum::<f64>() - 1.0).abs() < 1e-9);
            done
        }

        fn block(&self, draft: &Drawn) -> BlockAcceptance {
            BlockAcceptance::new(&draft.tree, &draft.proposals, |node| {
                Ok(self.target(&draft.tree.tokens()[1..=node]))
            })
            .unwrap()
        }

        /// Returns P(accepted = i | draft) for i = 0, 1, ..., measured on `verify_block`.
        ///
        /// Enumerates all outcomes of its comparisons.
        fn lengths(&self, draft: &Drawn) -> Vec<f64> {
            let own = self.block(draft).own;
            let mut lengths = vec![0.0; own.len()];
            for outcomes in 0..1u32 << (own.len() - 1) {
                let passes = |i: usize| outcomes >> (i - 1) & 1 == 1;
                let share: f64 =
                    (1..own.len()).map(|i| if passes(i) { own[i] } else { 1.0 - own[i] }).product();
                if share > 0.0 {
                    let draw = |_, i: usize| {
                        if i > 0 && passes(i) {
                            own[i].next_down().max(0.0)
                        } else {
                            1.0f64.next_down()
                        }
                    };
                    let dist = |node: usize| Ok(self.target(&draft.tree.tokens()[1..=node]));
                    let verdict = verify_block(&draft.tree, &draft.proposals, dist, draw).unwrap();
                    assert_eq!(verdict.path, (1..=verdict.path.len()).collect::<Vec<_>>());
                    lengths[verdict.path.len()] += share;
                }
            }
            lengths
        }

        /// Returns the distribution of the bonus token after `accepted` accepted ones.
        ///
        /// It is computed from the definition; with `from_the_walk`, `verify_block` is checked to
        /// agree.
        fn bonus(
            &self,
            draft: &Drawn,
            accepted: usize,
            from_the_walk: bool,
        ) -> Vec<(TokenId, f64)> {
            let path = &draft.tree.tokens()[1..=accepted];
            let target = self.target(path);
            let tokens = 0..self.size() as TokenId;
            let proposal = if accepted + 1 < draft.tree.len() {
                draft.proposals[accepted].clone()
            } else {
                Proposal::default()
            };
            let reach = (0..accepted).fold(1.0f64, |reach, i| {
                let token = draft.tree.token(i + 1);
                (reach * self.target(&draft.tree.tokens()[1..=i]).p(token)
                    / q(&draft.proposals[i], token))
                .min(1.0)
            });
            let mass = |token: TokenId| (reach * target.p(token) - q(&proposal, token)).max(0.0);
            let sum: f64 = tokens.clone().map(mass).sum();
            let own = self.block(draft).own;
            // In sampling order: candidates first, then the other tokens.
            let place = |token: TokenId| {
                proposal.candidates().iter().position(|(other, _)| *other == token)
            };
            let mut order: Vec<TokenId> = tokens.collect();
            order.sort_by_key(|&token| (place(token).unwrap_or(usize::MAX), token));
            let mut below = 0.0;
            for &token in order.iter().filter(|_| from_the_walk) {
                let share = mass(token) / sum;
                if share > 1e-6 {
                    let u = below + share / 2.0;
                    let draw = |_, i: usize| match i {
                        0 => u,
                        i if i == accepted => own[i].next_down().max(0.0),
                        _ => 1.0f64.next_down(),
                    };
                    let dist = |node: usize| Ok(self.target(&draft.tree.tokens()[1..=node]));
                    let verdict = verify_block(&draft.tree, &draft.proposals, dist, draw).unwrap();
                    if verdict.path.len() == accepted {
                        assert_eq!(verdict.bonus(), token);
                    }
                }
                below += share;
            }
            order.into_iter().map(|token| (token, mass(token) / sum)).collect()
        }

        /// Returns the distribution of texts of depth + 1 tokens.
        ///
        /// A text is a step followed by plain decoding.
        /// `residual` returns the distribution of the bonus token.
        fn texts(&self, residual: impl Fn(&Drawn, usize) -> Vec<(TokenId, f64)>) -> Vec<f64> {
            let mut texts = vec![0.0; self.size().pow(self.depth as u32 + 1)];
            for draft in self.drafts() {
                for (accepted, share) in
                    self.lengths(&draft).into_iter().enumerate().filter(|(_, share)| *share > 1e-12)
                {
                    for (token, p) in residual(&draft, accepted) {
                        let text = [&draft.tree.tokens()[1..=accepted], &[token]].concat();
                        self.follow(text, draft.share * share * p, &mut texts);
                    }
                }
            }
            texts
        }

        fn follow(&self, text: Vec<TokenId>, share: f64, texts: &mut [f64]) {
            if share == 0.0 {
                return;
            }
            if text.len() == self.depth + 1 {
                texts[text.iter().fold(0, |at, &token| at * self.size() + token as usize)] += share;
                return;
            }
            let dist = self.target(&text);
            for token in 0..self.size() as TokenId {
                self.follow([&text[..], &[token]].concat(), share * dist.p(token), texts);
            }
        }

        fn distance(&self, texts: &[f64]) -> f64 {
            let mut want = vec![0.0; texts.len()];
            self.follow(Vec::new(), 1.0, &mut want);
            texts.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        }

        /// Returns P(accepted >= i), i = 1, 2, ..., by block and by token.
        fn accepted(&self) -> (Vec<f64>, Vec<f64>) {
            let (mut block, mut single) = (vec![0.0; self.depth], vec![0.0; self.depth]);
            for draft in self.drafts() {
                let survival = self.block(&draft).survival();
                let mut stays = draft.share;
                for i in 1..draft.tree.len() {
                    block[i - 1] += draft.share * survival[i];
                    let token = draft.tree.token(i);
                    let p = self.target(&draft.tree.tokens()[1..i]).p(token);
                    stays *= (p / q(&draft.proposals[i - 1], token)).min(1.0);
                    single[i - 1] += stays;
                }
            }
            (block, single)
        }
    }

    /// Uses the same target and drafter distributions after every path.
    fn iid(p: &[f64], q: &[f64], depth: usize) -> World {
        let paths = (0..=depth).map(|n| p.len().pow(n as u32)).sum();
        World { rows: vec![(logits(p), q.to_vec()); paths], depth, keep: p.len() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A step followed by plain decoding has the target's distribution.
        ///
        /// Enumerates all drafts and outcomes.
        #[test]
        fn a_step_has_the_targets_distribution(world in world()) {
            let texts = world.texts(|draft, accepted| world.bonus(draft, accepted, true));
            prop_assert!(world.distance(&texts) < 1e-6, "{}: {:?}", world.distance(&texts), texts);
        }

        /// The recorded probabilities of a chain are the frequencies of `verify_block`.
        #[test]
        fn acceptance_probabilities_are_those_of_the_walk(world in world()) {
            // By prefix: probabilities that it is drafted, that it is accepted, and that one token
            // more is; and the reach.
            let mut prefixes = std::collections::HashMap::<Vec<TokenId>, (f64, f64, f64, f64)>::new();
            for draft in world.drafts() {
                let (block, lengths) = (world.block(&draft), world.lengths(&draft));
                let survival = block.survival();
                prop_assert_eq!(survival[0], 1.0);
                let expected: Vec<f64> = block.conditional_acceptance().collect();
                for i in 0..lengths.len() {
                    let at_least: f64 = lengths[i..].iter().sum();
                    prop_assert!((survival[i] - at_least).abs() < 1e-9, "{} {:?} {:?}", i, survival, lengths);
                    let entry = prefixes.entry(draft.tree.tokens()[1..=i].to_vec()).or_default();
                    entry.0 += draft.share;
                    entry.1 += draft.share * at_least;
                    entry.2 += draft.share * survival.get(i + 1).copied().unwrap_or(0.0);
                    entry.3 = block.reach()[i];
                    let conditional = (block.reach()[i], expected[i]);
                    prop_assert!((0.0..=1.0).contains(&conditional.0) && (0.0..=1.0).contains(&conditional.1));
                }
                let leaf = lengths.len() - 1;
                prop_assert_eq!(expected[leaf], 0.0);
            }
            for (prefix, (share, accepted, _, reach)) in &prefixes {
                prop_assert!((accepted / share - reach).abs() < 1e-6, "{:?}: {} for {}", prefix, accepted / share, reach);
            }
            // The mean over the next token, at each prefix.
            for draft in world.drafts() {
                let block = world.block(&draft);
                for (i, expected) in block.conditional_acceptance().enumerate() {
                    let (share, _, further, reach) = prefixes[&draft.tree.tokens()[1..=i]];
                    prop_assert!((expected * reach - further / share).abs() < 1e-6);
                }
            }
        }

        #[test]
        fn blocks_accept_at_least_as_much_as_single_tokens(world in world()) {
            let (block, single) = world.accepted();
            for (i, (block, single)) in block.iter().zip(&single).enumerate() {
                prop_assert!(*block >= single - 1e-6, "{} {} < {}", i, block, single);
                prop_assert!(i > 0 || (block - single).abs() < 1e-6, "the first token: {} and {}", block, single);
            }
        }
    }

    #[test]
    fn two_tokens_of_the_paper_have_the_known_means() {
        let world = iid(&[1.0 / 3.0, 2.0 / 3.0], &[2.0 / 3.0, 1.0 / 3.0], 2);
        let (block, single) = world.accepted();
        assert!((single.iter().sum::<f64>() - 10.0 / 9.0).abs() < 1e-6, "{single:?}");
        assert!((block.iter().sum::<f64>() - 11.0 / 9.0).abs() < 1e-6, "{block:?}");
        // Token by token, as implemented by `Rejection`.
        let mut own = 0.0;
        for draft in world.drafts() {
            let mut stays = draft.share;
            for i in 0..2 {
                let dist = world.target(&draft.tree.tokens()[1..=i]);
                stays *= crate::verify::Rejection::new(&draft.proposals[i], |token| dist.p(token))
                    .accept_probability()
                    .unwrap();
                own += stays;
            }
        }
        assert!((own - 10.0 / 9.0).abs() < 1e-6, "{own}");
        assert!(
            world.distance(&world.texts(|draft, accepted| world.bonus(draft, accepted, true)))
                < 1e-6
        );
    }

    #[test]
    fn chosen_pairs_stay_lossless() {
        let pairs: [(&[f64], &[f64]); 6] = [
            (&[0.5, 0.5], &[1.0, 0.0]),
            (&[0.9, 0.1], &[0.1, 0.9]),
            (&[0.7, 0.2, 0.1], &[0.1, 0.2, 0.7]),
            (&[0.7, 0.0, 0.3], &[0.0, 0.6, 0.4]),
            (&[0.25, 0.25, 0.5], &[0.25, 0.25, 0.5]),
            (&[1.0, 0.0, 0.0], &[0.2, 0.4, 0.4]),
        ];
        for (p, q) in pairs {
            for (depth, keep) in [(2, p.len()), (3, p.len()), (2, 2), (3, 1)] {
                let world = World { keep, ..iid(p, q, depth) };
                let distance = world
                    .distance(&world.texts(|draft, accepted| world.bonus(draft, accepted, true)));
                assert!(distance < 1e-6, "{p:?} {q:?} {depth} {keep}: {distance}");
            }
        }
        // A drafter that equals the target has every chain accepted whole.
        let same = iid(&[0.25, 0.25, 0.5], &[0.25, 0.25, 0.5], 3);
        assert!(
            same.drafts().iter().all(|draft| same
                .block(draft)
                .survival()
                .iter()
                .all(|s| *s > 1.0 - 1e-6))
        );
    }

    #[test]
    fn a_wrong_residual_is_noticed() {
        // Control of the enumeration: the bonus from (p - q)+, as in verification token by token.
        let world = iid(&[0.5, 0.3, 0.2], &[0.8, 0.1, 0.1], 2);
        let wrong = world.texts(|draft, accepted| match accepted {
            2 => world.bonus(draft, 2, false),
            _ => vec![(0, 0.0), (1, 2.0 / 3.0), (2, 1.0 / 3.0)],
        });
        assert!(world.distance(&wrong) > 1e-3, "{wrong:?}");
    }

    #[test]
    fn one_token_is_verified_as_by_rejection() {
        // For a chain of one token, the same numbers give the same token under both rules.
        let world = iid(&[0.2, 0.5, 0.3], &[0.5, 0.25, 0.25], 1);
        for draft in world.drafts() {
            for (a, b) in [(0.1, 0.3), (0.5, 0.9), (0.95, 0.05), (0.61, 0.5)] {
                let dist = |node: usize| Ok(world.target(&draft.tree.tokens()[1..=node]));
                let draw = |_, n: usize| if n == 0 { b } else { a };
                let block = verify_block(&draft.tree, &draft.proposals, dist, draw).unwrap();
                assert_eq!(
                    block,
                    verify_rejection(&draft.tree, &draft.proposals, dist, draw).unwrap()
                );
            }
        }
    }

    #[test]
    fn no_chain_is_plain_decoding() {
        let world = iid(&[0.2, 0.5, 0.3], &[0.0; 3], 2);
        let tree = TokenTree::new(9);
        for u in [0.0, 0.1, 0.3, 0.8] {
            let verdict =
                verify_block(&tree, &[Proposal::default()], |_| Ok(world.target(&[])), |_, _| u)
                    .unwrap();
            assert_eq!((verdict.path.len(), verdict.bonus()), (0, world.target(&[]).sample(u)));
        }
    }
}
