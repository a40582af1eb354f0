//! The automatic budget: at each step the tree that promises the most tokens a second on this machine.

use super::line::Line;
use crate::draft::{Calibration, Draft, Worth};
use crate::telemetry::{Choice, Reason, StageTimes};
use crate::theory::cost::Cost;

/// Budget of a step before anything is known.
const FIRST: usize = 8;
/// The smallest budget that drafters are asked for.
const LEAST: usize = 4;
/// Steps that were drafted for before drafting can be given up for the first time, and after each rest. The first of them makes up for the
/// rest: a drafter that follows the text reads what it missed, which says nothing of what drafting costs from then on.
const TRIALS: [usize; 2] = [24, 10];
/// Drafting is given up where it is slower than this share of what goes without: a twentieth more or less is beyond what some dozens of
/// steps tell, and a rest is much longer than what it follows from.
const GIVE_UP: f64 = 0.96;
/// Steps without drafting, after it did not pay for the first time; each further time in turn it is twice as many.
const REST: usize = 8;
/// The most of them.
const LONGEST_REST: usize = 128;
/// Drafting that takes less than this share of a plain step is never given up: looking costs nothing.
const CHEAP: f64 = 0.02;
/// Steps of a frugal drafter that runs its models, after which it rests for [`REST`] all the same, to know what it does without; each
/// further time it is twice as many.
const TURN: usize = 192;
/// Weight of the newest step in the running means that decide whether drafting pays: the tokens of a step scatter by half, and what is to be seen is a tenth.
const SLOW: f64 = 0.02;

/// What the automatic budget has learnt of times. It begins anew with another drafter or another warp.
#[derive(Clone, Debug, Default)]
pub(super) struct Auto {
    /// Whether the drafter can draft something without running a model.
    frugal: bool,
    /// Tokens that drafters are asked for: it follows what was worth verifying.
    ask: Option<usize>,
    /// Steps still to come without drafting.
    rest: usize,
    /// The length of the next rest.
    next_rest: usize,
    /// Steps drafted for since drafting was given up last, and whether it ever was.
    trials: usize,
    given_up: bool,
    /// Running means over these.
    full: Means,
    /// The same over steps of rest, where a frugal drafter drafts what costs nothing.
    free: Means,
    /// Seconds that a step takes besides drafting and the pass, by its tokens.
    other: Line,
    /// Seconds of a step of plain decoding, timed in a row. Between drafted steps a pass over one token takes longer, since drafting and
    /// larger passes leave caches and clocks behind that plain decoding never meets.
    plain: Option<f64>,
}

/// Running means.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    steps: usize,
    /// Tokens put out, as expected.
    tokens: f64,
    seconds: f64,
    /// Seconds that drafting took.
    drafting: f64,
}

impl Means {
    fn add(&mut self, tokens: f64, seconds: f64, drafting: f64) {
        self.steps += 1;
        let weight = SLOW.max(1.0 / self.steps as f64);
        self.tokens += weight * (tokens - self.tokens);
        self.seconds += weight * (seconds - self.seconds);
        self.drafting += weight * (drafting - self.drafting);
    }

    /// Tokens a second; 0 before the first step.
    fn rate(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.tokens / self.seconds }
    }
}

impl Auto {
    /// For a new drafter. A frugal one shows first what it does without running a model.
    pub fn new(frugal: bool) -> Auto {
        Auto { frugal, rest: if frugal { REST } else { 0 }, ..Auto::default() }
    }

    /// Takes the seconds of a step of plain decoding, as timed in a row.
    pub fn set_plain(&mut self, seconds: f64) {
        self.plain = Some(seconds).filter(|seconds| *seconds > 0.0);
    }

    /// How many tokens to draft for: none says to draft nothing, or only what costs nothing, since of late it did not pay.
    pub fn ask(&self, most: usize) -> Option<usize> {
        (self.rest == 0).then(|| self.asked(most))
    }

    /// How many tokens to draft for where something is drafted.
    pub fn asked(&self, most: usize) -> usize {
        self.ask.unwrap_or(FIRST).clamp(LEAST.min(most), most)
    }

    /// What drafting is to pay for itself by where `asked` tokens are asked for.
    pub fn worth(&self, asked: usize, cost: &Cost) -> Worth {
        let node = self.other.parts().1;
        let token = if self.full.steps > 0 { 1.0 / self.full.rate() } else { cost.seconds(1) + self.other.at(1.0) };
        let most = asked.max(2);
        Worth { token, node: (cost.seconds(most) - cost.seconds(1)) / (most - 1) as f64 + node, rest: self.rest > 0 }
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
        let (step, node) = self.other.parts();
        let (kept, rate) = cost.best(&products, seconds + step, node);
        let plain = 1.0 / self.plain.unwrap_or(cost.seconds(1) + step + node);
        let reason = match asked {
            None => Reason::Resting,
            Some(_) if self.rest > 0 && kept == 0 => Reason::Resting,
            // Not even asked: a pass of the drafter would not have paid.
            Some(_) if drafted == 0 && !draft.asked[0] => Reason::NotWorth,
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
        self.other.add(tokens as f64, time.other);
        let (tokens, seconds) = (1.0 + expected, time.draft + cost.seconds(tokens) + time.other);
        if self.rest > 0 {
            self.rest -= 1;
            self.free.add(tokens, seconds, time.draft);
            return;
        }
        self.trials += 1;
        if self.trials == 1 {
            return;
        }
        self.full.add(tokens, seconds, time.draft);
        if self.trials < TRIALS[usize::from(self.given_up)] || self.full.drafting * choice.plain_tokens_per_second < CHEAP {
            return;
        }
        if self.full.rate() < GIVE_UP * choice.plain_tokens_per_second.max(self.free.rate()) {
            self.rest = if self.next_rest == 0 { REST } else { self.next_rest };
            self.next_rest = (self.rest * 2).min(LONGEST_REST);
            self.trials = 0;
            self.given_up = true;
        } else {
            self.next_rest = REST;
            let turns = self.trials / TURN;
            if self.frugal && self.trials.is_multiple_of(TURN) && turns.is_power_of_two() {
                self.rest = REST;
            }
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
        let rests: Vec<usize> = asked(0.5, 0.1, 600).split(|asked| *asked).map(<[bool]>::len).filter(|&rest| rest > 0).collect();
        assert_eq!(rests[..6], [8, 16, 32, 64, 128, 128]);
        // That pays, and that costs next to nothing, go on.
        assert!(asked(0.5, 0.9, 100).into_iter().all(|asked| asked));
        assert!(asked(0.001, 0.0, 100).into_iter().all(|asked| asked));
    }
}
