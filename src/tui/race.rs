//! Race of the shown text against the same text under other settings, each at its measured pace.
//!
//! Both lanes are functions of kept records. Without another text of the same prompt, the opponent
//! is plain decoding at the speed measured on this machine.

use super::runs::describe;
use super::{State, Step};
use crate::study::compare::generate_same_text;
use crate::tree::TokenId;

/// One side of the race.
#[derive(Clone, Debug, PartialEq)]
pub struct RaceLane {
    /// Description of its settings in words.
    pub name: String,
    /// Tokens emitted so far.
    pub tokens: usize,
    /// Tokens emitted in all recorded steps of the text; `None` without records.
    pub total: Option<usize>,
    /// Text of these tokens, one entry per token; empty without records.
    pub text: Vec<String>,
    /// Tokens per second so far.
    pub tokens_per_second: Option<f64>,
}

/// Two lanes at the same time since the start of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Race {
    /// Seconds in steps since the start of the text.
    pub seconds: f64,
    /// Lane of the text that is shown.
    pub own: RaceLane,
    /// Lane of the same text under other settings, or of plain decoding.
    pub other: RaceLane,
    /// Agreement of the two texts; `None` if the opponent has no records.
    pub agreement: Option<Agreement>,
}

/// Number of equal tokens from the start of two texts, and their common length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Tokens before the first difference.
    pub equal: usize,
    /// Tokens of the shorter text.
    pub common: usize,
}

/// Returns the seconds of a step, 0 if they are not positive and finite.
fn seconds(step: &Step) -> f64 {
    let seconds = step.record.time.total();
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

fn tokens(steps: &[&Step]) -> Vec<TokenId> {
    steps.iter().flat_map(|step| step.record.emitted.iter().copied()).collect()
}

/// Returns the lane of a text at a time since its start. A step counts once it is complete.
fn lane(steps: &[&Step], now: f64) -> RaceLane {
    let (mut at, mut done, mut text) = (0.0, 0, Vec::new());
    for step in steps {
        at += seconds(step);
        // Times of the shown text itself add up to the same sum, in the same order.
        if at > now {
            at -= seconds(step);
            break;
        }
        done += step.record.emitted.len();
        text.extend(step.record.emitted_text.iter().cloned());
    }
    let name = steps.first().map_or_else(String::new, |step| describe(&step.record.settings));
    let tokens_per_second = (at > 0.0 && done > 0).then(|| done as f64 / at);
    RaceLane { name, tokens: done, total: Some(tokens(steps).len()), text, tokens_per_second }
}

/// Returns the steps of the newest other text that must equal this one.
///
/// This one begins with the step `first`.
///
/// The other text has the same prompt, sampling parameters and seed, but other settings. It is kept
/// from its start.
fn opponent<'a>(state: &'a State, first: &Step) -> Option<Vec<&'a Step>> {
    let settings = &first.record.settings;
    let fits = |step: &&Step| {
        let other = &step.record.settings;
        step.record.step == 0
            && step.text != first.text
            && step.record.prompt_id == first.record.prompt_id
            && !settings.samples_trees()
            && !other.samples_trees()
            && generate_same_text(settings, other)
            && describe(settings) != describe(other)
    };
    let start = state.history.steps_back_from(None).find(fits)?;
    Some(state.history.steps_of_text(start.text).collect())
}

/// Returns the race at the step shown.
///
/// `None` before the first step, or without an opponent.
pub fn race(state: &State) -> Option<Race> {
    let shown = state.step()?;
    let steps: Vec<&Step> = state.history.steps_of_text(shown.text).collect();
    // Without the start of a text its time is not known.
    let first = *steps.first().filter(|step| step.record.step == 0)?;
    let now = steps
        .iter()
        .take_while(|step| step.number <= shown.number)
        .fold(0.0, |sum, step| sum + seconds(step));
    let own = lane(&steps, now);
    if let Some(others) = opponent(state, first) {
        let (a, b) = (tokens(&steps), tokens(&others));
        let equal = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        let agreement = Some(Agreement { equal, common: a.len().min(b.len()) });
        return Some(Race { seconds: now, own, other: lane(&others, now), agreement });
    }
    let rate = state.plain.filter(|rate| {
        rate.is_finite() && *rate > 0.0 && !first.record.settings.is_plain_decoding()
    })?;
    let tokens = (now * rate).floor() as usize;
    let name = "plain decoding, as measured".to_owned();
    let other =
        RaceLane { name, tokens, total: None, text: Vec::new(), tokens_per_second: Some(rate) };
    Some(Race { seconds: now, own, other, agreement: None })
}
