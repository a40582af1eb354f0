//! The automatic budget: at each step the tree that promises the most tokens a second on this machine.

use crate::draft::{Calibration, Draft};
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
/// Weight of the newest step in running means.
const NEW: f64 = 0.15;

/// What the automatic budget has learnt. It begins anew with another drafter or another warp.
#[derive(Clone, Debug, Default)]
pub(super) struct Auto {
    known: Calibration,
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
    /// Seconds a node that a step takes besides drafting and the pass.
    node: f64,
}

impl Auto {
    /// How many tokens to draft for: none says to draft nothing, since of late it did not pay.
    pub fn ask(&self, most: usize) -> Option<usize> {
        (self.rest == 0).then(|| self.ask.unwrap_or(FIRST).clamp(LEAST.min(most), most))
    }

    /// Cuts the draft down to what promises the most, and says why. `asked` is what the drafter was asked for, `seconds`
    /// what drafting took.
    pub fn choose(&mut self, draft: &mut Draft, asked: Option<usize>, seconds: f64, most: usize, cost: &Cost) -> Choice {
        let drafted = draft.tree.drafted();
        let products = self.known.products(&draft.tree);
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

    /// Learns from what came of a step: the expected count of accepted tokens, the time, and the target's p of each node.
    pub fn learn(&mut self, draft: &Draft, p: &[f64], choice: &Choice, expected: f64, time: &StageTimes, cost: &Cost) {
        self.known.learn(&draft.tree, |i| p[i]);
        let node = time.other / draft.tree.len() as f64;
        self.node = if self.node == 0.0 { node } else { self.node + NEW * (node - self.node) };
        if choice.reason == Reason::Resting {
            self.rest -= 1;
            return;
        }
        let (tokens, seconds) = (1.0 + expected, time.draft + cost.seconds(draft.tree.len()) + time.other);
        if self.trials == 0 {
            (self.tokens, self.seconds) = (tokens, seconds);
        }
        self.trials += 1;
        self.tokens += NEW * (tokens - self.tokens);
        self.seconds += NEW * (seconds - self.seconds);
        if self.trials < TRIALS {
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
