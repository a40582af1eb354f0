//! Recursive rejection: verification of children sampled from a drafter.
//!
//! Sampling is without replacement (SpecInfer, Miao et al. 2024, section 4.3; Sequoia, Chen et al.
//! 2024, section 3.2). In the greedy-first variant the children are the drafter's best candidates,
//! and only the last of them is sampled (greedy draft sampling, Hu et al. 2025, arXiv 2502.18779).
//! The emitted text has the target's distribution whatever the drafter's is, provided that no child
//! is dropped or kept because of its token. Sampled trees lie outside of the theorem behind the
//! ceilings (bounds.md, "The ceilings on one ruler"): a drafter with the target's distribution gets
//! whole chains accepted.

use super::{Rule, Verdict};
use crate::distribution::{NotFinite, TokenDist};
use crate::tree::{TokenId, TokenTree};

/// Candidates that a drafter proposed below one node, and the children taken from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// Candidates with their probabilities, in descending order.
    candidates: Vec<(TokenId, f64)>,
    /// Indices of the children in `candidates`, in the order in which they were taken.
    children: Vec<usize>,
    /// Number of leading children that were taken deterministically.
    certain: usize,
}

impl Proposal {
    /// Takes `count` children from the candidates, or all of them if there are fewer.
    ///
    /// `candidates` are tokens with their q, in descending order and above 0. They are sampled with
    /// q normalized to sum to 1, so that mass which the drafter left unassigned is ignored. `draw`
    /// returns uniform random numbers in \[0, 1).
    pub fn select(
        candidates: impl IntoIterator<Item = (TokenId, f64)>,
        count: usize,
        rule: Rule,
        mut draw: impl FnMut() -> f64,
    ) -> Self {
        let mut candidates: Vec<(TokenId, f64)> = candidates.into_iter().collect();
        let sum: f64 = candidates.iter().map(|(_, q)| q).sum();
        candidates.iter_mut().for_each(|(_, q)| *q /= sum);
        let count = count.min(candidates.len());
        let certain = match rule {
            Rule::Match => count,
            Rule::GreedyFirst => count.saturating_sub(1),
            Rule::Rejection | Rule::Block => 0,
        };
        let mut proposal = Proposal { candidates, children: (0..certain).collect(), certain };
        while proposal.children.len() < count {
            let unsampled = || {
                (0..proposal.candidates.len()).filter(|place| !proposal.children.contains(place))
            };
            let mut goal =
                draw() * unsampled().map(|place| proposal.candidates[place].1).sum::<f64>();
            // Rounding can lead past the last candidate, which is then taken.
            let found = unsampled().find(|&place| {
                goal -= proposal.candidates[place].1;
                goal < 0.0
            });
            match found.or_else(|| unsampled().next_back()) {
                Some(place) => proposal.children.push(place),
                None => break,
            }
        }
        proposal
    }

    /// Returns the children in the order in which they were taken.
    pub fn children(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.children.iter().map(|&place| self.candidates[place].0)
    }

    /// Returns the candidates with their probabilities, in descending order.
    ///
    /// The probabilities sum to 1, unless there are no candidates.
    pub fn candidates(&self) -> &[(TokenId, f64)] {
        &self.candidates
    }

    /// Returns the candidates that were not taken, in descending order.
    pub fn left_out(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.candidates
            .iter()
            .enumerate()
            .filter(|(place, _)| !self.children.contains(place))
            .map(|(_, &(token, _))| token)
    }
}

/// Residual distributions below one node, as its children are rejected in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection<'a> {
    proposal: &'a Proposal,
    /// Residual of the target's distribution after the rejections so far, not normalized.
    ///
    /// `target` covers the candidates, and `others` is the mass of all other tokens.
    target: Vec<f64>,
    others: f64,
    /// Distribution from which the next child was sampled, not normalized.
    ///
    /// It is the drafter's, without the children before this one.
    drafter: Vec<f64>,
    /// Number of children rejected so far.
    rejected: usize,
}

impl<'a> Rejection<'a> {
    /// Starts before the first child; `target` returns the target's probability of a token.
    pub fn new(proposal: &'a Proposal, target: impl Fn(TokenId) -> f64) -> Self {
        let target: Vec<f64> =
            proposal.candidates.iter().map(|&(token, _)| target(token)).collect();
        let others = (1.0 - target.iter().sum::<f64>()).max(0.0);
        Self {
            proposal,
            others,
            target,
            drafter: proposal.candidates.iter().map(|&(_, q)| q).collect(),
            rejected: 0,
        }
    }

    /// Returns the sums of the target's residual and of the drafter's distribution.
    fn sums(&self) -> (f64, f64) {
        (self.target.iter().sum::<f64>() + self.others, self.drafter.iter().sum())
    }

    /// Returns the probability that the next child is accepted, `None` after the last.
    ///
    /// It is min(1, p / q) under the normalized residuals, where q is 1 for a child that was taken
    /// deterministically.
    pub fn accept_probability(&self) -> Option<f64> {
        let &place = self.proposal.children.get(self.rejected)?;
        let (target, drafter) = self.sums();
        let p = if target > 0.0 { self.target[place] / target } else { 0.0 };
        let q =
            if self.rejected < self.proposal.certain { 1.0 } else { self.drafter[place] / drafter };
        Some(if q > 0.0 { (p / q).min(1.0) } else { 0.0 })
    }

    /// Returns the acceptance probability of one more child, averaged over its sampling.
    ///
    /// For a child taken deterministically it is that of this child. Otherwise it is the sum over
    /// tokens of the lesser of p and q. 0 if there is nothing left to sample.
    pub fn expected_acceptance(&self) -> f64 {
        if self.rejected < self.proposal.certain {
            return self.accept_probability().unwrap_or(0.0);
        }
        let (target, drafter) = self.sums();
        if !(target > 0.0 && drafter > 0.0) {
            return 0.0;
        }
        self.target.iter().zip(&self.drafter).map(|(p, q)| (p / target).min(q / drafter)).sum()
    }

    /// Rejects the next child: p becomes (p - q)+, and the drafter's distribution loses it.
    pub fn reject(&mut self) {
        let Some(&place) = self.proposal.children.get(self.rejected) else { return };
        if self.rejected < self.proposal.certain {
            self.target[place] = 0.0;
        } else {
            let (target, drafter) = self.sums();
            let rest: Vec<f64> = self
                .target
                .iter()
                .zip(&self.drafter)
                .map(|(p, q)| (p / target - q / drafter).max(0.0))
                .collect();
            // If only rounding errors remain, p equaled q, and no child is ever rejected.
            if rest.iter().sum::<f64>() + self.others > 0.0 {
                (self.target, self.others) = (rest, self.others / target);
            }
        }
        self.drafter[place] = 0.0;
        self.rejected += 1;
    }

    /// Samples the bonus token from the residual, at quantile `draw`.
    ///
    /// Candidates come first, in their order, then all other tokens.
    pub fn sample_residual(&self, dist: &TokenDist, draw: f64) -> TokenId {
        sample_residual(self.proposal, (&self.target, self.others), dist, draw)
    }
}

/// Samples the token at quantile `draw` of a residual distribution, not normalized.
///
/// The residual is given by the masses of the candidates in their order, and by the mass of all
/// other tokens, which is distributed among them as in `dist`.
pub(super) fn sample_residual(
    proposal: &Proposal,
    (masses, others): (&[f64], f64),
    dist: &TokenDist,
    draw: f64,
) -> TokenId {
    let mut goal = draw * (masses.iter().sum::<f64>() + others);
    let mut last = None;
    for (&(token, _), &p) in proposal.candidates.iter().zip(masses).filter(|(_, p)| **p > 0.0) {
        if goal < p {
            return token;
        }
        (goal, last) = (goal - p, Some(token));
    }
    let proposed: Vec<TokenId> = proposal.candidates.iter().map(|&(token, _)| token).collect();
    let within = if others > 0.0 { goal / others } else { 1.0 };
    // Without any other token only rounding errors lead here.
    dist.sample_without(within, &proposed).or(last).unwrap_or_else(|| dist.best())
}

/// Verifies a sampled tree by recursive rejection.
///
/// The children of node i are those of `proposals[i]`, and `dist(node)` is the target's
/// distribution after that node. `draw(d, n)` is a uniform random number in \[0, 1) of the step's
/// d-th token, from 0. Number n = 0 samples the bonus token; n = 1, 2, ... decide if the children
/// at this depth are accepted.
///
/// # Errors
/// If a distribution does not exist.
pub fn verify_rejection<'a>(
    tree: &TokenTree,
    proposals: &[Proposal],
    mut dist: impl FnMut(usize) -> Result<TokenDist<'a>, NotFinite>,
    mut draw: impl FnMut(usize, usize) -> f64,
) -> Result<Verdict, NotFinite> {
    let mut verdict = Verdict { path: Vec::new(), emitted: Vec::new() };
    loop {
        let (at, depth) = (verdict.last_accepted(), verdict.path.len());
        let dist = dist(at)?;
        let mut children = tree.children(at);
        let mut rejection = Rejection::new(&proposals[at], |token| dist.p(token));
        let accepted = loop {
            let (Some(chance), Some(child)) = (rejection.accept_probability(), children.next())
            else {
                break None;
            };
            if draw(depth, 1 + rejection.rejected) < chance {
                break Some(child);
            }
            rejection.reject();
        };
        let Some(child) = accepted else {
            // A node without children is plain decoding: the same number must give the same token.
            let bonus = if rejection.rejected == 0 {
                dist.sample(draw(depth, 0))
            } else {
                rejection.sample_residual(&dist, draw(depth, 0))
            };
            verdict.emitted.push(bonus);
            return Ok(verdict);
        };
        verdict.emitted.push(tree.token(child));
        verdict.path.push(child);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::distribution::Sampling;
    use crate::theory::transport;

    /// Returns logits of a distribution.
    ///
    /// Tokens without mass get a logit so low that exp gives 0.
    fn logits(dist: &[f64]) -> Vec<f32> {
        dist.iter().map(|&p| if p > 0.0 { p.ln() as f32 } else { -1e4 }).collect()
    }

    fn probabilities(size: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![1 => Just(0.0), 3 => 0.01f64..1.0], size)
            .prop_filter("nothing to draw", |dist| dist.iter().any(|p| *p > 0.0))
    }

    /// Target and drafter distributions after each path of a tiny vocabulary.
    ///
    /// The drafter knows only some of the tokens.
    #[derive(Clone, Debug)]
    struct World {
        /// Target logits and drafter weights, by index of the path.
        dists: Vec<(Vec<f32>, Vec<f64>)>,
        rule: Rule,
        /// Children per node, by depth.
        widths: Vec<usize>,
    }

    fn world() -> impl Strategy<Value = World> {
        let rule = prop_oneof![Just(Rule::Rejection), Just(Rule::GreedyFirst), Just(Rule::Match)];
        let drafter =
            |size| prop::collection::vec(prop_oneof![1 => Just(0.0), 3 => 0.01f64..1.0], size);
        (2usize..4, prop::collection::vec(1usize..4, 1..3), rule).prop_flat_map(
            move |(size, widths, rule)| {
                let dists = prop::collection::vec(
                    (probabilities(size).prop_map(|dist| logits(&dist)), drafter(size)),
                    1 + size + size * size,
                );
                (dists, Just(widths), Just(rule)).prop_map(|(dists, widths, rule)| World {
                    dists,
                    rule,
                    widths,
                })
            },
        )
    }

    impl World {
        fn size(&self) -> usize {
            self.dists[0].0.len()
        }

        fn number(&self, path: &[TokenId]) -> usize {
            let size = self.size();
            path.iter().fold(0, |at, &token| at * size + 1 + token as usize)
        }

        fn target(&self, path: &[TokenId]) -> TokenDist<'_> {
            TokenDist::new(&self.dists[self.number(path)].0, &Sampling::PLAIN).unwrap()
        }

        fn candidates(&self, path: &[TokenId]) -> Vec<(TokenId, f64)> {
            let mut all: Vec<(TokenId, f64)> =
                (0..).zip(self.dists[self.number(path)].1.iter().copied()).collect();
            all.retain(|(_, q)| *q > 0.0);
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all
        }

        /// Returns every possible proposal below `path`, with its probability.
        fn proposals(&self, path: &[TokenId]) -> Vec<(Proposal, f64)> {
            let Some(&count) = self.widths.get(path.len()) else {
                return vec![(Proposal::default(), 1.0)];
            };
            let first = Proposal::select(self.candidates(path), count, self.rule, || 0.0);
            let want = first.children.len();
            let mut open = vec![(
                Proposal { children: first.children[..first.certain].to_vec(), ..first },
                1.0,
            )];
            while open[0].0.children.len() < want {
                let mut next = Vec::new();
                for (proposal, share) in open {
                    let left: Vec<usize> = (0..proposal.candidates.len())
                        .filter(|place| !proposal.children.contains(place))
                        .collect();
                    let sum: f64 = left.iter().map(|&place| proposal.candidates[place].1).sum();
                    for place in left {
                        let mut more = proposal.clone();
                        more.children.push(place);
                        next.push((more, share * proposal.candidates[place].1 / sum));
                    }
                }
                open = next;
            }
            open
        }

        /// Reports the distribution of the tokens that a step emits after `path`.
        ///
        /// Enumerates all samples of children and all rejections, within the depth of `widths`.
        fn step(&self, path: &[TokenId], share: f64, out: &mut impl FnMut(&[TokenId], f64)) {
            let target = self.target(path);
            for (proposal, drawn) in self.proposals(path) {
                let mut rejection = Rejection::new(&proposal, |token| target.p(token));
                let mut left = share * drawn;
                let children: Vec<TokenId> = proposal.children().collect();
                for &child in &children {
                    let chance = rejection.accept_probability().unwrap();
                    if chance > 0.0 {
                        self.step(&[path, &[child]].concat(), left * chance, out);
                    }
                    left *= 1.0 - chance;
                    if left < 1e-12 {
                        break;
                    }
                    rejection.reject();
                }
                if left >= 1e-12 {
                    let sum = rejection.sums().0;
                    for (token, p) in self.residual(&rejection, &target) {
                        out(&[path, &[token]].concat(), left * p / sum);
                    }
                }
            }
        }

        /// Returns the residual of the target's distribution, by token.
        fn residual(&self, rejection: &Rejection, target: &TokenDist) -> Vec<(TokenId, f64)> {
            let of = |token: TokenId| match rejection
                .proposal
                .candidates
                .iter()
                .position(|(other, _)| *other == token)
            {
                Some(place) => rejection.target[place],
                None => {
                    let others: f64 = (0..self.size() as TokenId)
                        .filter(|t| {
                            rejection.proposal.candidates.iter().all(|(other, _)| other != t)
                        })
                        .map(|t| target.p(t))
                        .sum();
                    if others > 0.0 { target.p(token) / others * rejection.others } else { 0.0 }
                }
            };
            (0..self.size() as TokenId).map(|token| (token, of(token))).collect()
        }
    }

    proptest! {
        /// A step followed by plain decoding has the target's distribution at every length.
        #[test]
        fn a_step_has_the_target_distribution(world in world()) {
            let size = world.size();
            let mut came = vec![0.0; size];
            let mut pairs = vec![0.0; size * size];
            let mut accepted = 0.0;
            world.step(&[], 1.0, &mut |tokens, share| {
                accepted += share * (tokens.len() - 1) as f64;
                came[tokens[0] as usize] += share;
                match tokens.get(1) {
                    Some(&second) => pairs[tokens[0] as usize * size + second as usize] += share,
                    None => {
                        let after = world.target(tokens);
                        (0..size).for_each(|t| pairs[tokens[0] as usize * size + t] += share * after.p(t as TokenId));
                    }
                }
            });
            let first = world.target(&[]);
            for a in 0..size as TokenId {
                prop_assert!((came[a as usize] - first.p(a)).abs() < 1e-6, "{} of {:?}", a, came);
                let then = world.target(&[a]);
                for b in 0..size as TokenId {
                    let want = first.p(a) * then.p(b);
                    prop_assert!((pairs[a as usize * size + b as usize] - want).abs() < 1e-6, "{} {} of {:?}", a, b, pairs);
                }
            }
            prop_assert!(accepted <= world.widths.len() as f64 + 1e-9);
        }

        /// The walk over a sampled tree agrees with the probabilities of the enumeration.
        #[test]
        fn the_walk_follows_the_acceptance_probabilities(world in world(), draws in prop::collection::vec(0.0f64..1.0, 64)) {
            let mut tree = TokenTree::new(9);
            let mut proposals = vec![];
            let mut drawn = draws.iter().copied().cycle();
            let mut at = 0;
            while at < tree.len() {
                let path: Vec<TokenId> = tree.path(at).into_iter().map(|n| tree.token(n)).collect();
                let count = world.widths.get(path.len()).copied().unwrap_or(0);
                let proposal = Proposal::select(world.candidates(&path), count, world.rule, || drawn.next().unwrap());
                let children: Vec<TokenId> = proposal.children().collect();
                prop_assert_eq!(children.len(), world.candidates(&path).len().min(count));
                let mut all: Vec<TokenId> = children.iter().copied().chain(proposal.left_out()).collect();
                prop_assert_eq!(all.len(), world.candidates(&path).len());
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), world.candidates(&path).len(), "a child twice");
                children.into_iter().for_each(|token| { tree.push(at, token, 0.5); });
                proposals.push(proposal);
                at += 1;
            }
            let number = |depth: usize, n: usize| draws[(7 * depth + n) % draws.len()];
            let path = |node: usize| -> Vec<TokenId> { tree.path(node).into_iter().map(|n| tree.token(n)).collect() };
            let verdict = verify_rejection(&tree, &proposals, |node| Ok(world.target(&path(node))), number).unwrap();
            let mut at = 0;
            for (depth, &token) in verdict.emitted.iter().enumerate() {
                let target = world.target(&path(at));
                let mut rejection = Rejection::new(&proposals[at], |token| target.p(token));
                let mut stays = 1.0;
                for (n, child) in tree.children(at).enumerate() {
                    let (expected, chance) = (rejection.expected_acceptance(), rejection.accept_probability().unwrap());
                    prop_assert!((0.0..=1.0 + 1e-9).contains(&expected) && (0.0..=1.0).contains(&chance));
                    if number(depth, 1 + n) < chance {
                        prop_assert_eq!(verdict.path.get(depth), Some(&child));
                        break;
                    }
                    stays *= 1.0 - chance;
                    rejection.reject();
                }
                match verdict.path.get(depth) {
                    Some(&child) => { prop_assert_eq!(tree.token(child), token); at = child; }
                    None => {
                        prop_assert!(stays > 0.0 && target.p(token) > 0.0, "{} came", token);
                        prop_assert!(tree.child(at, token).is_none(), "a rejected child came all the same");
                    }
                }
            }
        }

        /// The expected acceptance of the next child is the mean over its sampling.
        #[test]
        fn expected_acceptance_is_the_mean_over_sampled_children(world in world()) {
            let target = world.target(&[]);
            let (mut expected, mut mean) = (0.0, 0.0);
            for (proposal, share) in world.proposals(&[]) {
                let mut rejection = Rejection::new(&proposal, |token| target.p(token));
                let mut stays = share;
                while let Some(chance) = rejection.accept_probability() {
                    expected += stays * rejection.expected_acceptance();
                    mean += stays * chance;
                    stays *= 1.0 - chance;
                    rejection.reject();
                }
            }
            prop_assert!((expected - mean).abs() < 1e-9, "{} for {}", expected, mean);
        }

        /// No rule accepts a child of a node more often than optimal transport.
        ///
        /// With a single child it is accepted as often.
        #[test]
        fn acceptance_stays_below_the_ceiling(world in world()) {
            let target = world.target(&[]);
            let tokens: Vec<(f64, f64)> = world.candidates(&[]).iter().map(|&(token, q)| (target.p(token), q)).collect();
            let (mut accepted, mut drafts) = (0.0, 0);
            for (proposal, share) in world.proposals(&[]) {
                drafts = proposal.children.len();
                let mut rejection = Rejection::new(&proposal, |token| target.p(token));
                let mut stays = 1.0;
                while let Some(chance) = rejection.accept_probability() {
                    stays *= 1.0 - chance;
                    rejection.reject();
                }
                accepted += share * (1.0 - stays);
            }
            let ceiling = match world.rule {
                Rule::GreedyFirst => transport::greedy_first_ceiling(&tokens, drafts),
                Rule::Match => tokens.iter().take(drafts).map(|(p, _)| p).sum(),
                Rule::Rejection | Rule::Block => transport::without_replacement_ceiling(&tokens, drafts).unwrap(),
            };
            prop_assert!(accepted <= ceiling + 1e-6, "{} of at most {}", accepted, ceiling);
            prop_assert!(drafts > 1 && world.rule != Rule::Match || accepted > ceiling - 1e-6, "{} of {}", accepted, ceiling);
        }

        #[test]
        fn the_bonus_is_sampled_from_the_residual(world in world(), draw in 0.0f64..1.0) {
            let target = world.target(&[]);
            for (proposal, _) in world.proposals(&[]) {
                let mut rejection = Rejection::new(&proposal, |token| target.p(token));
                while rejection.accept_probability().is_some_and(|chance| chance < 1.0 - 1e-9) {
                    rejection.reject();
                }
                if rejection.sums().0 < 1e-9 || rejection.accept_probability().is_some() {
                    continue;
                }
                // In sampling order: candidates first, then the other tokens.
                let mut rest = world.residual(&rejection, &target);
                rest.sort_by_key(|&(t, _)| (proposal.candidates.iter().position(|(other, _)| *other == t).unwrap_or(usize::MAX), t));
                let sum: f64 = rest.iter().map(|(_, p)| p).sum();
                let (mut below, goal) = (0.0, draw * sum);
                let found = rest.iter().find(|(_, p)| { below += p; goal < below });
                let near = { let mut b = 0.0; rest.iter().any(|(_, p)| { b += p; (b - goal).abs() < 1e-6 }) };
                if let Some(&(token, _)) = found.filter(|_| !near) {
                    prop_assert_eq!(rejection.sample_residual(&target, draw), token);
                }
            }
        }
    }

    #[test]
    fn the_target_as_drafter_is_never_rejected() {
        let dist = [0.5, 0.25, 0.25];
        let logits = logits(&dist);
        let target = TokenDist::new(&logits, &Sampling::PLAIN).unwrap();
        for draw in [0.0, 0.4, 0.6, 0.9] {
            let proposal = Proposal::select((0..).zip(dist), 1, Rule::Rejection, || draw);
            let rejection = Rejection::new(&proposal, |token| target.p(token));
            assert!(
                rejection.accept_probability().unwrap() > 1.0 - 1e-6
                    && rejection.expected_acceptance() > 1.0 - 1e-6
            );
        }
        let proposal = Proposal::select((0..).zip(dist), 2, Rule::GreedyFirst, || 0.9);
        assert_eq!(
            (proposal.children().collect::<Vec<_>>(), proposal.left_out().collect::<Vec<_>>()),
            (vec![0, 2], vec![1])
        );
        let mut rejection = Rejection::new(&proposal, |token| target.p(token));
        assert!(
            (rejection.accept_probability().unwrap() - 0.5).abs() < 1e-6
                && (rejection.expected_acceptance() - 0.5).abs() < 1e-6
        );
        rejection.reject();
        assert!(
            rejection.accept_probability().unwrap() > 1.0 - 1e-6,
            "the drafter knows what is left"
        );
        for rule in Rule::ALL {
            assert_eq!(Rule::from_name(rule.name()), Some(rule));
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("{:?}", rule.name()));
        }
    }

    #[test]
    fn a_wrong_rule_is_noticed() {
        // Control of the enumeration: keeping a sampled child only if its q is large is biased.
        let (target, drafter) = ([0.7, 0.2, 0.1], [0.2, 0.5, 0.3]);
        let logits = logits(&target);
        let target = TokenDist::new(&logits, &Sampling::PLAIN).unwrap();
        let mut came = [0.0; 3];
        for (child, q) in drafter.into_iter().enumerate() {
            let proposal = Proposal {
                candidates: (0..).zip(drafter).collect(),
                children: vec![child],
                certain: 0,
            };
            let mut rejection = Rejection::new(&proposal, |token| target.p(token));
            if q < 0.4 {
                (0..3).for_each(|t| came[t] += q * target.p(t as TokenId));
                continue;
            }
            let chance = rejection.accept_probability().unwrap();
            came[child] += q * chance;
            rejection.reject();
            let sum = rejection.sums().0;
            (0..3).for_each(|t| came[t] += q * (1.0 - chance) * rejection.target[t] / sum);
        }
        assert!((0..3).any(|t| (came[t] - target.p(t as TokenId)).abs() > 1e-2), "{came:?}");
    }
}
