//! Verification of children that were sampled from the drafter's law: recursive rejection sampling without replacement (SpecInfer,
//! Miao et al. 2024, section 4.3; Sequoia, Chen et al. 2024, section 3.2). No drafter of this program samples, and no step goes this
//! way: trees of samples lie outside of the theorem behind the ceilings (bounds.md, "The ceilings on one ruler").
//!
//! Laws are lists of probabilities by token; every random draw is an argument.

use crate::tree::TokenId;

/// The law of what is left to draw at one node, while its children are looked at in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The target's law, less what the children refused so far stood for.
    target: Vec<f64>,
    /// The law that the next child was drawn from: the drafter's without the children before it.
    drafter: Vec<f64>,
}

impl Rejection {
    /// Before the first child, of laws over the same vocabulary.
    pub fn new(target: &[f64], drafter: &[f64]) -> Self {
        Self { target: target.to_vec(), drafter: drafter.to_vec() }
    }

    fn of(law: &[f64], token: TokenId) -> f64 {
        law.get(token as usize).copied().unwrap_or(0.0)
    }

    /// The probability that the next child is accepted: min(1, p / q) in the laws that are left.
    pub fn chance(&self, token: TokenId) -> f64 {
        let (p, q) = (Self::of(&self.target, token), Self::of(&self.drafter, token));
        if q > 0.0 { (p / q).min(1.0) } else { 0.0 }
    }

    /// The next child was refused: p becomes (p - q)+ and q loses the child, each normalised again.
    pub fn refuse(&mut self, token: TokenId) {
        let rest: Vec<f64> = self.target.iter().zip(&self.drafter).map(|(p, q)| (p - q).max(0.0)).collect();
        // Where nothing is left but rounding, p was q, and no child is refused.
        if let Some(rest) = normalised(rest) {
            self.target = rest;
        }
        if let Some(q) = self.drafter.get_mut(token as usize) {
            *q = 0.0;
        }
        self.drafter = normalised(std::mem::take(&mut self.drafter)).unwrap_or_default();
    }

    /// The law of the bonus where all children were refused.
    pub fn left(&self) -> &[f64] {
        &self.target
    }
}

fn normalised(mut law: Vec<f64>) -> Option<Vec<f64>> {
    let sum: f64 = law.iter().sum();
    (sum > 0.0).then(|| {
        law.iter_mut().for_each(|p| *p /= sum);
        law
    })
}

/// The token at quantile `draw` of a law, in the order of ids.
fn quantile(law: &[f64], draw: f64) -> TokenId {
    let (mut below, mut found) = (0.0, 0);
    for (token, &p) in (0..).zip(law).filter(|(_, p)| **p > 0.0) {
        (below, found) = (below + p, token);
        if draw < below {
            break;
        }
    }
    found
}

/// Children of a node, drawn from the drafter's law without replacement, one for each draw; fewer where the law has no more.
pub fn sample_children(drafter: &[f64], draws: &[f64]) -> Vec<TokenId> {
    let mut law = normalised(drafter.to_vec());
    let mut children = Vec::with_capacity(draws.len());
    for &draw in draws {
        let Some(now) = law else { break };
        let token = quantile(&now, draw);
        children.push(token);
        let mut rest = now;
        rest[token as usize] = 0.0;
        law = normalised(rest);
    }
    children
}

/// Which of the children, drawn by [`sample_children`], is accepted, if any, and the token that comes. `draws` has a number in \[0, 1)
/// for each child and, last, one for the bonus. The token has the target's law, whatever the drafter's is.
pub fn verify_children(target: &[f64], drafter: &[f64], children: &[TokenId], draws: &[f64]) -> (Option<usize>, TokenId) {
    let mut rejection = Rejection::new(target, drafter);
    for (i, (&child, &draw)) in children.iter().zip(draws).enumerate() {
        if draw < rejection.chance(child) {
            return (Some(i), child);
        }
        rejection.refuse(child);
    }
    (None, quantile(rejection.left(), draws.last().copied().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The law of the token that comes, by enumeration of all lists of `left` more children, each with its probability `share`.
    fn enumerate(rejection: &Rejection, drafter: &[f64], left: usize, share: f64, came: &mut [f64]) {
        let drawn = normalised(drafter.to_vec()).filter(|_| left > 0);
        let Some(drawn) = drawn else {
            rejection.left().iter().zip(came).for_each(|(p, came)| *came += share * p);
            return;
        };
        for (token, &q) in (0u32..).zip(&drawn).filter(|(_, q)| **q > 0.0) {
            let chance = rejection.chance(token);
            came[token as usize] += share * q * chance;
            // A refusal that can't happen has no law after it.
            if chance < 1.0 - 1e-12 {
                let (mut next, mut rest) = (rejection.clone(), drawn.clone());
                next.refuse(token);
                rest[token as usize] = 0.0;
                enumerate(&next, &rest, left - 1, share * q * (1.0 - chance), came);
            }
        }
    }

    fn law(size: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![Just(0.0), 0.01f64..1.0], size).prop_filter_map("nothing to draw", normalised)
    }

    proptest! {
        #[test]
        fn the_token_has_the_targets_law(
            (target, drafter) in (2usize..6).prop_flat_map(|size| (law(size), law(size))), children in 0usize..5
        ) {
            let mut came = vec![0.0; target.len()];
            enumerate(&Rejection::new(&target, &drafter), &drafter, children, 1.0, &mut came);
            for (token, (came, p)) in came.iter().zip(&target).enumerate() {
                prop_assert!((came - p).abs() < 1e-9, "token {}: {} for {}", token, came, p);
            }
        }

        #[test]
        fn the_walk_follows_the_chances(
            (target, drafter) in (2usize..6).prop_flat_map(|size| (law(size), law(size))),
            draws in prop::collection::vec(0.0f64..1.0, 4), accepts in prop::collection::vec(0.0f64..1.0, 5),
        ) {
            let children = sample_children(&drafter, &draws);
            let mut seen = children.clone();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), children.len(), "a child twice");
            prop_assert_eq!(children.len(), drafter.iter().filter(|q| **q > 0.0).count().min(4));
            let (accepted, token) = verify_children(&target, &drafter, &children, &accepts);
            let mut rejection = Rejection::new(&target, &drafter);
            for (i, &child) in children.iter().enumerate() {
                if accepts[i] < rejection.chance(child) {
                    prop_assert_eq!((accepted, token), (Some(i), child));
                    return Ok(());
                }
                rejection.refuse(child);
            }
            prop_assert!(accepted.is_none() && rejection.left()[token as usize] > 0.0);
        }
    }

    #[test]
    fn a_child_that_is_certain_is_sample_and_match() {
        let mut rejection = Rejection::new(&[0.5, 0.25, 0.25], &[1.0, 0.0, 0.0]);
        assert_eq!(rejection.chance(0), 0.5);
        rejection.refuse(0);
        assert_eq!(rejection.left(), [0.0, 0.5, 0.5]);
        assert_eq!(verify_children(&[0.5, 0.25, 0.25], &[1.0, 0.0, 0.0], &[0], &[0.6, 0.6]), (None, 2));
    }

    #[test]
    fn a_wrong_rule_is_noticed() {
        // The control of the enumeration: children that are refused without being taken out of the law.
        let (target, drafter) = ([0.7, 0.2, 0.1], [0.2, 0.5, 0.3]);
        let mut came = [0.0; 3];
        let rejection = Rejection::new(&target, &drafter);
        for token in 0..3u32 {
            let (q, chance) = (drafter[token as usize], rejection.chance(token));
            came[token as usize] += q * chance;
            target.iter().zip(&mut came).for_each(|(p, came)| *came += q * (1.0 - chance) * p);
        }
        assert!(came.iter().zip(&target).any(|(came, p)| (came - p).abs() > 1e-2));
    }
}
