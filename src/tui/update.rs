//! State transitions of the monitor. Pure: no I/O, no clock.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::commands::{close_editor, command_for_key, navigate};
use super::editor::EditorOutcome;
use super::state::ALL_DONE;
use super::{
    Direction, Effect, Msg, Overlay, Pane, Phase, RunState, State, Target, line_keys, navigate,
    palette,
};
use crate::engine::{Command, Event, Pace};
use crate::telemetry::OracleSearchState;

/// Paces of the first texts, so that the eye can follow before full speed begins.
const SLOW_START: [Pace; 2] = [Pace::PerSecond(4), Pace::PerSecond(16)];
/// Lines or steps that one turn of the mouse wheel moves.
const WHEEL: usize = 3;

/// Applies a message to the state; returns the effects to carry out.
pub fn update(state: &mut State, msg: Msg) -> Vec<Effect> {
    let mut effects = Vec::new();
    match msg {
        Msg::Tick(now) => {
            state.now = now;
            if state.notice.as_ref().is_some_and(|n| n.until <= now) {
                state.notice = None;
            }
        }
        Msg::Key(key) if key.kind != KeyEventKind::Release => pressed(state, key, &mut effects),
        Msg::Key(_) => {}
        // Scrolling stops at the end; otherwise as many keys would be needed before anything moved
        // back.
        Msg::Drawn(beyond) => match &mut state.overlay {
            Overlay::Help(scroll) | Overlay::Marks(scroll) => *scroll = (*scroll).min(beyond),
            _ => state.scroll = state.scroll.min(beyond),
        },
        Msg::Paste(text) => match &mut state.overlay {
            Overlay::Editor(input) => input.editor.insert(&text),
            Overlay::Line(input) => input.paste(&text),
            _ => state.say("press e to write a prompt, then paste"),
        },
        Msg::Click(target) => clicked(state, target, &mut effects),
        Msg::Wheel(direction, target) => wheeled(state, direction, target, &mut effects),
        Msg::Written(Ok(name)) => state.say(format!("written: {name}")),
        Msg::Written(Err(why)) => state.say(why),
        Msg::Engine(event) => {
            // Other inputs of the speed of light changed, or the user can now look closely.
            let now = matches!(
                event,
                Event::Cost(_)
                    | Event::Fluid(_)
                    | Event::PlainTimed { .. }
                    | Event::Paused
                    | Event::Finished
            );
            told(state, event, &mut effects);
            state.evaluate_light(now);
        }
        Msg::EngineGone(why) => {
            if state.phase != Phase::Finished {
                let why =
                    why.map_or_else(|| "it gave no reason".to_owned(), |w| w.replace('\n', " "));
                effects.push(Effect::Leave(Some(format!("the engine stopped: {why}"))));
            }
        }
    }
    effects
}

fn pressed(state: &mut State, key: KeyEvent, effects: &mut Vec<Effect>) {
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match &mut state.overlay {
        Overlay::Editor(input) if !interrupt => match key.code {
            // A line break makes the arrow keys ambiguous only in long prompts; they recall.
            KeyCode::Up => input.older(&state.sent_prompts),
            KeyCode::Down => input.newer(&state.sent_prompts),
            _ => match input.editor.key(key) {
                EditorOutcome::Edit => {}
                EditorOutcome::Leave => close_editor(state, effects),
                EditorOutcome::Send(text) => send(state, text, effects),
            },
        },
        Overlay::Line(input) if !interrupt => {
            let input = input.clone();
            line_keys::pressed(state, input, key, effects);
        }
        Overlay::Help(scroll) | Overlay::Marks(scroll) if !interrupt => match key.code {
            KeyCode::Down | KeyCode::Char('j') => *scroll = scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => *scroll = scroll.saturating_add(10),
            KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
            KeyCode::Home => *scroll = 0,
            _ => state.overlay = Overlay::None,
        },
        _ => {
            if let Some(command) = command_for_key(&state.keys, &key) {
                state.notice = None;
                palette::execute(state, effects, command);
            }
        }
    }
}

/// Sends a prompt from the editor.
fn send(state: &mut State, text: String, effects: &mut Vec<Effect>) {
    if text.trim().is_empty() {
        state.say("an empty prompt can't be sent: type some text, or press Esc to cancel");
        return;
    }
    (state.selected, state.scroll) = (None, 0);
    state.sent_prompts.add(&text);
    match state.phase {
        Phase::Finished => state.say(ALL_DONE),
        _ => effects.push(Effect::Engine(Command::Text(text))),
    }
    close_editor(state, effects);
}

/// Handles a click on `target`.
///
/// A click beside an open overlay closes it.
fn clicked(state: &mut State, target: Target, effects: &mut Vec<Effect>) {
    match state.overlay {
        Overlay::None => {}
        Overlay::Help(_) | Overlay::Marks(_) => {
            state.overlay = Overlay::None;
            return;
        }
        Overlay::Editor(_) | Overlay::Line(_) => return,
    }
    state.notice = None;
    match target {
        Target::Nothing => {}
        Target::Pane(pane) => state.focus = pane,
        Target::Step(number, pane) => {
            state.focus = pane.unwrap_or(state.focus);
            navigate::select(state, effects, number);
        }
        Target::Run(row) => {
            state.focus = Pane::Runs;
            state.runs.cursor = row;
        }
        Target::Light => state.focus = Pane::Gauge,
    }
}

/// Scrolls the part under the mouse: an overlay, the text, or the steps.
fn wheeled(state: &mut State, direction: Direction, target: Target, effects: &mut Vec<Effect>) {
    let lines = WHEEL as u16;
    match &mut state.overlay {
        Overlay::Help(scroll) | Overlay::Marks(scroll) => {
            *scroll = if direction == Direction::Back {
                scroll.saturating_sub(lines)
            } else {
                scroll.saturating_add(lines)
            };
            return;
        }
        Overlay::Editor(_) | Overlay::Line(_) => return,
        Overlay::None => {}
    }
    let over = match target {
        Target::Pane(pane) | Target::Step(_, Some(pane)) => Some(pane),
        Target::Run(_) => Some(Pane::Runs),
        _ => None,
    };
    if over == Some(Pane::Text) && state.selected.is_none() {
        // Text scrolls without the focus or zoom that the keys need.
        state.scroll = match direction {
            Direction::Back => state.scroll.saturating_add(lines),
            Direction::Forward => state.scroll.saturating_sub(lines),
        };
        return;
    }
    let focus = std::mem::replace(&mut state.focus, over.unwrap_or(Pane::Tree));
    navigate(state, effects, direction, 1);
    state.focus = focus;
}

/// Sets the pace of the text that begins now, while the first ones run slowly.
fn slow_start(state: &mut State, effects: &mut Vec<Effect>) {
    let Some(texts) = state.slow_start else { return };
    let pace = SLOW_START.get(texts).copied().unwrap_or(Pace::Full);
    state.slow_start = (pace != Pace::Full).then_some(texts + 1);
    if pace != state.pace {
        state.pace = pace;
        effects.push(Effect::Engine(Command::Pace(pace)));
    }
    state.say(match pace {
        Pace::Full => "full speed from here on: < is slower".to_owned(),
        slow => format!(
            "slow start, {slow}: > is faster, full speed from prompt {}",
            SLOW_START.len() + 1
        ),
    });
}

/// Requests an oracle search of the step shown while the engine is paused.
fn search_shown_step(state: &State, effects: &mut Vec<Effect>) {
    effects.extend(
        state.step_to_search(false).map(|step| Effect::Engine(Command::SearchOracle(step))),
    );
}

/// Keeps the figures of the steps so far, before other settings reset them.
fn end_run(state: &mut State) {
    state.evaluate_light(true);
    let last = state.all_runs().len().saturating_sub(1);
    let followed = state.runs.cursor >= last;
    if let Some(run) = state.present_run() {
        state.runs.end(run);
    }
    if followed {
        state.runs.cursor = state.runs.past().len();
    }
}

fn told(state: &mut State, event: Event, effects: &mut Vec<Effect>) {
    match event {
        Event::Loading { what, done } => state.phase = Phase::Loading(what, done),
        Event::Ready { info, settings } => {
            state.phase = Phase::Running;
            state.prompts.clone_from(&info.prompts);
            state.info = info;
            state.wished = Some(settings.clone());
            state.settings = Some(settings);
        }
        Event::Cost(cost) => state.cost = Some(cost),
        Event::Fluid(fluid) => state.fluid = Some(fluid),
        Event::Load(load) => state.load = Some(load),
        Event::OracleSearched { prompt_id, step, result: found, curve, tree, systematic } => {
            state.history.add_search(&prompt_id, step, found, curve, tree, systematic);
            // The interruption is over: restart the search if its step is still shown.
            if found.state == OracleSearchState::BrokenOff
                && state.step_to_search(false) == Some(step)
            {
                search_shown_step(state, effects);
            }
        }
        Event::PlainTimed { plain_tokens_per_second, seconds } => {
            // Plain decoding is reported as one figure everywhere: under the machine conditions in
            // which the steps ran.
            let comparison = &mut state.history.averages.comparison;
            comparison.add_plain_timing(seconds);
            let plain = comparison.plain_tokens_per_second().or(Some(plain_tokens_per_second));
            state.plain = plain.filter(|p| p.is_finite() && *p > 0.0);
        }
        Event::PromptStarted { index, id, prompt, tokens, prefill_seconds } => {
            state.prompt = index;
            match state.prompts.get_mut(index) {
                Some(known) => known.clone_from(&prompt),
                None => state.prompts.push(prompt.clone()),
            }
            state.history.begin(index, id, prompt, tokens, prefill_seconds);
            slow_start(state, effects);
        }
        Event::Step(record) => {
            // New sampling parameters mean another pool of distributions, so the old bound no
            // longer applies.
            if state
                .history
                .newest()
                .is_some_and(|s| s.record.settings.sampling() != record.settings.sampling())
            {
                state.fluid = None;
            }
            if let Some(notice) = &record.notice {
                state.say(notice.clone());
            }
            if state.history.changes(&record.settings) {
                end_run(state);
            }
            state.history.push(record);
            // A selected step that is no longer kept must not be shown as another one.
            state.selected = state.selected.filter(|&n| state.history.get(n).is_some());
            search_shown_step(state, effects);
        }
        Event::PromptEnded { ending } => state.history.end(ending),
        Event::Settings(settings) => {
            // The engine may skip to the last of several requests; its answer settles all requests
            // up to it.
            let answered = state.asked.iter().position(|wish| *wish == settings).unwrap_or(0);
            state.asked.drain(..(answered + 1).min(state.asked.len()));
            if state.asked.is_empty() {
                state.wished = Some(settings.clone());
            }
            state.settings = Some(settings);
        }
        Event::Paused => {
            state.motion = RunState::Paused;
            search_shown_step(state, effects);
        }
        Event::Resumed => {
            state.motion = RunState::Live;
            state.selected = None;
        }
        Event::Refused(why) => {
            state.asked.clear();
            state.wished.clone_from(&state.settings);
            state.say(why);
        }
        Event::Failed(why) => effects.push(Effect::Leave(Some(why))),
        Event::Finished => {
            state.phase = Phase::Finished;
            state.motion = RunState::Paused;
            state.say(ALL_DONE);
        }
    }
}
