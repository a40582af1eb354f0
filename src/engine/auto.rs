//! The automatic budget: at each step the tree that promises the most tokens a second on this machine.

use crate::draft::{Calibration, Draft, Worth};
use crate::telemetry::{Choice, Reason, StageTimes};
use crate::theory::cost::Cost;

/// Budget of a step before anything is known.
const FIRST: usize = 8;
/// The smallest budget that drafters are asked for.
const LEAST: usize = 4;
/// Steps that were drafted for before drafting can be given up.
const TRIALS: usize = 4;
/// Steps without drafting, after it did not pay for the first time; each further time in turn it is twice as many.
const REST: usize = 8;
/// The most of them.
const LONGEST_REST: usize = 64;
/// Drafting that takes less than this share of a plain step is never given up: looking costs nothing.
const CHEAP: f64 = 0.02;
/// Weight of the newest step in running means.
const NEW: f64 = 0.15;

/// What the automatic budget has learnt of times. It begins anew with another drafter or another warp.
#[derive(Clone, Debug, Default)]
pub(super) struct Auto {
    /// Tokens that drafters are asked for: it follows what was worth verifying.
    ask: Option<usize>,
    /// Steps still to come without drafting.
    rest: usize,
    /// The length of the next rest.
    next_rest: usize,
    /// Steps drafted for since the last rest.
    trials: usize,
    /// Running means over these of tokens put out, as expected, and of seconds.
    tokens: f64,
    seconds: f64,
    /// The same of the seconds that drafting took.
    drafting: f64,
    /// Seconds a node that a step takes besides drafting and the pass.
    node: f64,
}

impl Auto {
    /// How many tokens to draft for: none says to draft nothing, since of late it did not pay.
    pub fn ask(&self, most: usize) -> Option<usize> {
        (self.rest == 0).then(|| self.ask.unwrap_or(FIRST).clamp(LEAST.min(most), most))
    }

    /// What drafting is to pay for itself by where `asked` tokens are asked for.
    pub fn worth(&self, asked: usize, cost: &Cost) -> Worth {
        let known = self.trials > 0 && self.tokens > 0.0;
        let token = if known { self.seconds / self.tokens } else { cost.seconds(1) + self.node };
        let most = asked.max(2);
        Worth { token, node: (cost.seconds(most) - cost.seconds(1)) / (most - 1) as f64 + self.node }
    }

    /// Cuts the draft down to what promises the most, and says why. `known` says what the drafter's q are worth, `asked` is
    /// what the drafter was asked for, `seconds` what drafting took.
    pub fn choose(
        &mut self,
        known: &Calibration,
        draft: &mut Draft,
        asked: Option<usize>,
        seconds: f64,
        most: usize,
        cost: &Cost,
    ) -> Choice {
        let drafted = draft.tree.drafted();
        let each = known.of_tree(&draft.tree);
        let products = draft.tree.path_products(|i| each[i]).split_off(1);
        let (kept, rate) = cost.best(&products, seconds, self.node);
        let plain = 1.0 / (cost.seconds(1) + self.node);
        let reason = match asked {
            None => Reason::Resting,
            Some(_) if drafted == 0 => Reason::NothingDrafted,
            Some(_) if kept == 0 => Reason::NotWorth,
            Some(_) if kept < drafted => Reason::Cut,
            Some(_) => Reason::Whole,
        };
        draft.keep(kept);
        if let Some(asked) = asked {
            self.ask = Some(if kept + 1 >= asked {
                (asked * 2).min(most)
            } else if 3 * (kept + 1) < asked {
                (asked / 2).max(LEAST)
            } else {
                asked
            });
        }
        let expected = products[..kept].iter().sum::<f64>() + 0.0; // -0 becomes 0
        Choice { drafted, kept, expected, tokens_per_second: rate, plain_tokens_per_second: plain, reason }
    }

    /// Learns from what came of a step with a tree of `tokens` tokens: the expected count of accepted ones, and the time.
    pub fn learn(&mut self, tokens: usize, choice: &Choice, expected: f64, time: &StageTimes, cost: &Cost) {
        let node = time.other / tokens as f64;
        self.node = if self.node == 0.0 { node } else { self.node + NEW * (node - self.node) };
        if choice.reason == Reason::Resting {
            self.rest -= 1;
            return;
        }
        let (tokens, seconds) = (1.0 + expected, time.draft + cost.seconds(tokens) + time.other);
        if self.trials == 0 {
            (self.tokens, self.seconds, self.drafting) = (tokens, seconds, time.draft);
        }
        self.trials += 1;
        self.tokens += NEW * (tokens - self.tokens);
        self.seconds += NEW * (seconds - self.seconds);
        self.drafting += NEW * (time.draft - self.drafting);
        if self.trials < TRIALS || self.drafting * choice.plain_tokens_per_second < CHEAP {
            return;
        }
        if self.tokens / self.seconds < choice.plain_tokens_per_second {
            self.rest = if self.next_rest == 0 { REST } else { self.next_rest };
            self.next_rest = (self.rest * 2).min(LONGEST_REST);
            self.trials = 0;
        } else {
            self.next_rest = REST;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the automatic budget did in `steps` steps with a drafter that takes `drafting` seconds for one node of which
    /// `p` is accepted, where a pass takes 1 s for any number of tokens.
    fn asked(drafting: f64, p: f64, steps: usize) -> Vec<bool> {
        let cost = Cost::new(vec![(1, 1.0), (64, 1.0)]).unwrap();
        let mut auto = Auto::default();
        let step = |_| {
            let asked = auto.ask(64);
            let mut draft = Draft::nothing(0);
            if asked.is_some() {
                draft.tree.push(0, 1, 0.5);
                draft.asked = vec![true, false];
            }
            let draft_time = if asked.is_some() { drafting } else { 0.0 };
            let choice = auto.choose(&Calibration::default(), &mut draft, asked, draft_time, 64, &cost);
            let expected = p * choice.kept as f64;
            let time = StageTimes { draft: draft_time, verify: 1.0, other: 0.0 };
            auto.learn(draft.tree.len(), &choice, expected, &time, &cost);
            assert_eq!(choice.reason == Reason::Resting, asked.is_none());
            asked.is_some()
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn drafting_that_does_not_pay_rests_ever_longer_and_looks_again() {
        let rests: Vec<usize> = asked(0.5, 0.1, 400).split(|asked| *asked).map(<[bool]>::len).filter(|&rest| rest > 0).collect();
        assert_eq!(rests[..6], [8, 16, 32, 64, 64, 64]);
        // That pays, and that costs next to nothing, go on.
        assert!(asked(0.5, 0.9, 100).into_iter().all(|asked| asked));
        assert!(asked(0.001, 0.0, 100).into_iter().all(|asked| asked));
    }
}
