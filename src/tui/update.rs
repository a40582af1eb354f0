//! State transitions of the monitor. Pure: no I/O, no clock.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::editor::EditorOutcome;
use super::{Effect, Msg, Overlay, Phase, RunState, State, command_for};
use crate::engine::{Command, Event};
use crate::telemetry::OracleSearchState;

/// Notice shown once the engine has finished.
const ALL_DONE: &str = "all prompts are done: the arrow keys select steps, q quits";

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
            Overlay::Editor(editor) => editor.insert(&text),
            _ => state.say("press e to write a prompt, then paste"),
        },
        Msg::Engine(event) => {
            // Other inputs of the speed of light changed, or the user can now look closely.
            let now = matches!(
                event,
                Event::Cost(_)
                    | Event::Fluid(_)
                    | Event::Calibrated { .. }
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
        Overlay::Editor(editor) if !interrupt => match editor.key(key) {
            EditorOutcome::Edit => {}
            EditorOutcome::Leave => state.overlay = Overlay::None,
            EditorOutcome::Send(text) => {
                if text.trim().is_empty() {
                    state.say(
                        "an empty prompt can't be sent: type some text, or press Esc to cancel",
                    );
                } else {
                    state.overlay = Overlay::None;
                    (state.selected, state.scroll) = (None, 0);
                    match state.phase {
                        Phase::Finished => state.say(ALL_DONE),
                        _ => effects.push(Effect::Engine(Command::Text(text))),
                    }
                }
            }
        },
        Overlay::Help(scroll) | Overlay::Marks(scroll) if !interrupt => match key.code {
            KeyCode::Down | KeyCode::Char('j') => *scroll = scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => *scroll = scroll.saturating_add(10),
            KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
            KeyCode::Home => *scroll = 0,
            _ => state.overlay = Overlay::None,
        },
        _ => {
            if let Some(command) = command_for(&key) {
                state.notice = None;
                match state.phase {
                    Phase::Finished if command.engine => state.say(ALL_DONE),
                    _ => (command.run)(state, effects),
                }
            }
        }
    }
}

/// Requests an oracle search of the step shown while the engine is paused.
fn look(state: &State, effects: &mut Vec<Effect>) {
    effects.extend(state.step_to_search(false).map(|step| Effect::Engine(Command::Look(step))));
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
        Event::Looked { prompt_id, step, look: found, curve, systematic } => {
            state.history.looked(&prompt_id, step, found, curve, systematic);
            // The interruption is over: restart the search if its step is still shown.
            if found.state == OracleSearchState::BrokenOff
                && state.step_to_search(false) == Some(step)
            {
                look(state, effects);
            }
        }
        Event::Calibrated { plain_tokens_per_second, seconds } => {
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
        }
        Event::Step(record) => {
            // New sampling parameters mean another pool of distributions, so the old bound no
            // longer applies.
            if state
                .history
                .newest()
                .is_some_and(|s| s.record.settings.warp() != record.settings.warp())
            {
                state.fluid = None;
            }
            if let Some(notice) = &record.notice {
                state.say(notice.clone());
            }
            state.history.push(record);
            // A selected step that is no longer kept must not be shown as another one.
            state.selected = state.selected.filter(|&n| state.history.get(n).is_some());
            look(state, effects);
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
            look(state, effects);
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
