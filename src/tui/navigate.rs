//! Moves of the selection through the kept steps: by step, miss, loss, text, and search.
//!
//! Each move pauses a running engine first, so that what is selected stays on the screen.

use super::message::{Direction, Effect};
use super::state::LossRank;
use super::{Phase, Query, RunState, State, Step};
use crate::engine::Command;

/// Selects a step by its number, clamped to those kept.
///
/// The newest step is shown by following it, unless the engine has yet to stop.
pub fn select(state: &mut State, effects: &mut Vec<Effect>, number: usize) {
    let (Some(oldest), Some(newest)) = (state.history.oldest(), state.history.newest()) else {
        return;
    };
    let (oldest, newest) = (oldest.number, newest.number);
    let number = number.clamp(oldest, newest);
    let running = state.phase == Phase::Running && !state.motion.still();
    if running {
        state.motion = RunState::Pausing;
        effects.push(Effect::Engine(Command::Pause));
    }
    state.selected = (number < newest || running).then_some(number);
    effects.extend(
        state.step_to_search(false).map(|step| Effect::Engine(Command::SearchOracle(step))),
    );
}

/// Moves the selection by a number of steps.
pub fn by_steps(state: &mut State, effects: &mut Vec<Effect>, direction: Direction, count: usize) {
    let Some(newest) = state.history.newest() else { return };
    let at = state.selected.unwrap_or(newest.number);
    let to = match direction {
        Direction::Back => at.saturating_sub(count),
        Direction::Forward => at.saturating_add(count),
    };
    select(state, effects, to);
}

/// Selects the oldest kept step.
pub fn oldest(state: &mut State, effects: &mut Vec<Effect>) {
    select(state, effects, 0);
}

/// Selects the nearest step in a direction for which `holds` is true.
///
/// Returns `true` if there is one.
///
/// The step shown does not count, unless the engine runs and steps pass by.
fn seek(
    state: &mut State,
    effects: &mut Vec<Effect>,
    direction: Direction,
    holds: impl Fn(&Step) -> bool,
) -> bool {
    let Some(newest) = state.history.newest().map(|step| step.number) else { return false };
    let follows = state.selected.is_none() && !state.motion.still();
    let at = state.selected.unwrap_or(newest);
    let found = match direction {
        Direction::Back => {
            let skip = usize::from(!follows);
            state
                .history
                .steps_back_from(Some(at))
                .skip(skip)
                .find(|step| holds(step))
                .map(|step| step.number)
        }
        Direction::Forward => {
            state.history.steps_from(at + 1).find(|step| holds(step)).map(|step| step.number)
        }
    };
    if let Some(number) = found {
        select(state, effects, number);
    }
    found.is_some()
}

/// Returns "before" or "after", for messages.
fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Back => "before",
        Direction::Forward => "after",
    }
}

/// Selects the nearest step that ended in a miss.
pub fn miss(state: &mut State, effects: &mut Vec<Effect>, direction: Direction) {
    if !seek(state, effects, direction, |step| step.record.miss.is_some()) {
        state.say(format!("no miss {} this step", side(direction)));
    }
}

/// Selects the first step of the shown text or of a neighboring one.
pub fn text(state: &mut State, effects: &mut Vec<Effect>, direction: Direction) {
    let Some(newest) = state.history.newest() else { return };
    let Some(shown) = state.history.get(state.selected.unwrap_or(newest.number)) else { return };
    let (number, present) = (shown.number, shown.text);
    let start = |text: usize| state.history.steps_of_text(text).next().map(|step| step.number);
    let to = match direction {
        // A first press returns to the start of the text.
        Direction::Back => match start(present).filter(|&start| start < number) {
            Some(start) => Some(start),
            None => state
                .history
                .steps_back_from(Some(number))
                .find(|step| step.text < present)
                .and_then(|step| start(step.text)),
        },
        Direction::Forward => state
            .history
            .steps_from(number)
            .find(|step| step.text > present)
            .map(|step| step.number),
    };
    match to {
        Some(to) => select(state, effects, to),
        None => state.say(format!("no text {} this one", side(direction))),
    }
}

/// Selects the step with the largest loss, then the next smaller ones, or back.
pub fn worst(state: &mut State, effects: &mut Vec<Effect>, direction: Direction) {
    let mut ranked: Vec<(f64, usize)> =
        state.history.steps_from(0).filter_map(|step| Some((step.loss()?, step.number))).collect();
    // Of equal losses the newest comes first.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let rank = match (state.loss_rank.filter(|at| state.selected == Some(at.step)), direction) {
        (None, _) => 0,
        (Some(at), Direction::Forward) => at.rank + 1,
        (Some(at), Direction::Back) => at.rank.saturating_sub(1),
    };
    let Some(&(loss, number)) = ranked.get(rank) else {
        state.say(if ranked.is_empty() {
            "no step lost a token yet"
        } else {
            "no step with a smaller loss"
        });
        return;
    };
    select(state, effects, number);
    // The newest step is followed, not selected: select it, so that the walk goes on from it.
    state.selected = Some(number);
    state.loss_rank = Some(LossRank { rank, step: number });
    state.say(format!("loss {} of {}: {loss:.2} tokens", rank + 1, ranked.len()));
}

/// Selects the step with this number within the text shown.
pub fn in_text(state: &mut State, effects: &mut Vec<Effect>, number: usize) {
    let Some(text) = state.step().or_else(|| state.history.newest()).map(|step| step.text) else {
        state.say("no step yet");
        return;
    };
    let found = state
        .history
        .steps_of_text(text)
        .find(|step| step.record.step == number)
        .map(|step| step.number);
    match found {
        Some(found) => select(state, effects, found),
        None => {
            let range = (
                state.history.steps_of_text(text).next(),
                state.history.steps_of_text(text).last(),
            );
            let range = range.0.zip(range.1).map_or_else(String::new, |(first, last)| {
                format!(": it has steps {} to {}", first.record.step, last.record.step)
            });
            state.say(format!("step {number} is not in this text{range}"));
        }
    }
}

/// Selects the nearest step that matches the present search, wrapping around at the end.
pub fn matching(state: &mut State, effects: &mut Vec<Effect>, direction: Direction) {
    let Some(query) = state.query.clone() else { return };
    if seek(state, effects, direction, |step| query.matches(step)) {
        return;
    }
    // The other end of the history, as if it were a ring.
    let around = match direction {
        Direction::Back => state.history.steps_back_from(None).find(|step| query.matches(step)),
        Direction::Forward => state.history.steps_from(0).find(|step| query.matches(step)),
    };
    let around = around.map(|step| step.number);
    match around {
        Some(number) => {
            select(state, effects, number);
            state.say(match direction {
                Direction::Back => "search continued at the newest step",
                Direction::Forward => "search continued at the oldest step",
            });
        }
        None => state.say("no step matches the search"),
    }
}

/// Moves through matches of the search, for the keys that repeat it.
pub fn repeat(state: &mut State, effects: &mut Vec<Effect>, direction: Direction) {
    match state.query {
        Some(_) => matching(state, effects, direction),
        None => state.say("no search yet"),
    }
}

/// Starts a search and selects the newest match.
///
/// Shows a notice if the query is invalid.
pub fn find(state: &mut State, effects: &mut Vec<Effect>, text: &str) {
    match Query::parse(text) {
        Ok(query) => {
            state.query = Some(query);
            matching(state, effects, Direction::Back);
        }
        Err(why) => state.say(why),
    }
}

/// Maximum number of missed tokens that the cursor walks through.
const MISS_ROWS: usize = 64;

/// Returns the number of rows of the cursor in the list of missed tokens.
pub fn miss_rows(state: &State) -> usize {
    state.history.averages.misses.most_missed(MISS_ROWS).len()
}

/// Searches for misses of the token under the cursor, and selects the newest.
pub fn miss_of_cursor(state: &mut State, effects: &mut Vec<Effect>) {
    let worst = state.history.averages.misses.most_missed(MISS_ROWS);
    let Some(token) =
        worst.get(state.miss_cursor.min(worst.len().saturating_sub(1))).map(|missed| missed.token)
    else {
        state.say("no miss yet");
        return;
    };
    let query = Query::missed(token);
    // Enter again goes on to older misses of the same token.
    if state.query.as_ref() != Some(&query) {
        state.selected = None;
        state.query = Some(query);
    }
    matching(state, effects, Direction::Back);
}
