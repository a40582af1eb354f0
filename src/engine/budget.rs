//! How many tokens a step drafts for: a fixed budget, or an automatic one by what passes cost on this machine.

use super::arms::{Arms, Made};
use super::auto::Auto;
use crate::draft::{Calibration, Draft, Promise, Worth};
use crate::telemetry::{Choice, StepRecord, StepSettings};
use crate::theory::cost::Cost;
use crate::theory::pass_times::PassTimes;

/// The budget of a session's steps.
#[derive(Default)]
pub(super) struct Budget {
    /// Times of passes, once measured. Before that an automatic budget is a fixed one.
    times: Option<PassTimes>,
    /// Seconds of a step of plain decoding, where it was timed.
    plain: Option<f64>,
    /// Whether passes of steps leave the times as they are.
    #[cfg(test)]
    pub held: bool,
    /// The automatic budget of trees that are cut down to what pays.
    auto: Auto,
    /// The same where children are drawn.
    arms: Arms,
}

/// What a step is to draft.
pub(super) struct Asked {
    /// Tokens to draft for; none says to draft nothing.
    pub tokens: Option<usize>,
    /// What the drafter is told that it is to pay for itself by.
    pub worth: Option<Worth>,
    /// Where the budget is automatic and the cost known.
    by: Option<By>,
}

/// How an automatic budget settles the size of a tree.
enum By {
    /// By cutting the draft, for which there is room for so many tokens.
    Cutting { most: usize },
    /// Before, by what trees of some sizes promise.
    Promises(Vec<Promise>),
}

impl Budget {
    /// Cost of passes, where it is known.
    pub fn cost(&self) -> Option<&Cost> {
        self.times.as_ref().map(PassTimes::cost)
    }

    /// Times of passes, where they are known.
    pub fn times(&mut self) -> Option<&mut PassTimes> {
        self.times.as_mut()
    }

    /// Sets the times of passes.
    pub fn set_times(&mut self, times: PassTimes) {
        self.times = Some(times);
    }

    /// Takes the seconds of a step of plain decoding, as timed in a row between steps.
    pub fn set_plain(&mut self, seconds: f64) {
        self.plain = Some(seconds);
        self.auto.set_plain(seconds);
    }

    /// Another drafter, or another law: nothing is known of times.
    pub fn begin(&mut self, frugal: bool) {
        (self.auto, self.arms) = (Auto::new(frugal), Arms::default());
        if let Some(seconds) = self.plain {
            self.auto.set_plain(seconds);
        }
    }

    /// What a step under `settings` with room for `most` tokens is to draft, by a drafter that is `frugal` or not; `promises` is asked
    /// where the size is settled before.
    pub fn ask(&self, settings: &StepSettings, most: usize, frugal: bool, promises: impl FnOnce() -> Vec<Promise>) -> Asked {
        let Some(cost) = self.cost().filter(|_| settings.automatic()) else {
            let tokens = if settings.automatic() { self.auto.asked(most) } else { most };
            return Asked { tokens: Some(tokens), worth: None, by: None };
        };
        if settings.drawn() {
            let promises = promises();
            let tokens = self.arms.ask(&promises, cost);
            return Asked { tokens, worth: Some(Worth::SETTLED), by: Some(By::Promises(promises)) };
        }
        // A step of rest costs a frugal drafter nothing. (What it says is much or little, so that no form fits it where children are drawn.)
        let tokens = self.auto.ask(most).or_else(|| frugal.then(|| self.auto.asked(most)));
        let worth = self.auto.worth(tokens.unwrap_or(1), cost);
        Asked { tokens, worth: Some(worth), by: Some(By::Cutting { most }) }
    }

    /// What an automatic budget makes of a draft that took so many seconds, by what the drafter's q are worth.
    pub fn choose(&mut self, asked: &Asked, known: &Calibration, draft: &mut Draft, seconds: f64) -> Option<Choice> {
        let cost = self.times.as_ref().map(PassTimes::cost)?;
        Some(match asked.by.as_ref()? {
            By::Promises(promises) => self.arms.choice(draft, asked.tokens, promises, cost),
            By::Cutting { most } => self.auto.choose(known, draft, asked.tokens, seconds, *most, cost),
        })
    }

    /// Learns from the record of the step and its draft.
    pub fn learn(&mut self, asked: &Asked, record: &StepRecord, draft: &Draft) {
        let tokens = draft.tree.len();
        let Some(times) = &mut self.times else { return };
        if let (Some(choice), Some(by)) = (&record.choice, &asked.by) {
            let cost = times.cost();
            match by {
                By::Promises(promises) => {
                    let (depth, accepted) = (draft.tree.max_depth(), record.expected_accepted);
                    self.arms.learn(asked.tokens, &Made { tokens, depth, accepted, time: &record.time }, promises, cost);
                }
                By::Cutting { .. } => self.auto.learn(tokens, choice, record.expected_accepted, &record.time, cost),
            }
        }
        #[cfg(test)]
        if self.held {
            return;
        }
        times.add(tokens, record.time.verify);
    }
}
