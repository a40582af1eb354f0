//! Table of the monitor's commands: the single source of key bindings, footer, and help.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Editor, Effect, GaugeUnit, Overlay, Pane, RunState, State};
use crate::draft::Shape;
use crate::engine::{Command, MAX_BUDGET};
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Key, with or without Control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    /// Key code as crossterm reports it.
    pub code: KeyCode,
    /// Requires Control to be held.
    pub ctrl: bool,
}

impl Chord {
    /// Returns the key's name as shown on the screen, for example "Ctrl-C".
    pub fn label(&self) -> String {
        let key = match self.code {
            KeyCode::Char(' ') => "space".to_owned(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::PageUp => "PgUp".to_owned(),
            KeyCode::PageDown => "PgDn".to_owned(),
            KeyCode::BackTab => "Shift-Tab".to_owned(),
            code => format!("{code:?}"),
        };
        if self.ctrl { format!("Ctrl-{}", key.to_uppercase()) } else { key }
    }

    fn is(&self, key: &KeyEvent) -> bool {
        let held = key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT);
        self.code == key.code
            && held == if self.ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE }
    }
}

const fn key(c: char) -> Chord {
    Chord { code: KeyCode::Char(c), ctrl: false }
}

const fn named(code: KeyCode) -> Chord {
    Chord { code, ctrl: false }
}

/// Handler of a command; pushes the effects that it requests.
type Run = fn(&mut State, &mut Vec<Effect>);

/// Command of the monitor with its keys and help text.
pub struct CommandEntry {
    /// Name in the footer, one or two words.
    pub name: &'static str,
    /// Keys that run it; the footer shows the first.
    pub keys: &'static [Chord],
    /// Help text of one line.
    pub doc: &'static str,
    /// Listed in the footer when there is room.
    pub footer: bool,
    /// Needs the engine; rejected with a notice once the engine has finished.
    pub engine: bool,
    /// Handler that applies the command to the state.
    pub run: Run,
}

/// All commands, in the order of help and footer.
pub const COMMANDS: &[CommandEntry] = &[
    engine_entry("pause", &[key(' ')], true, "pause or resume", pause),
    engine_entry("step", &[key('.')], true, "run one step, then pause", one_step),
    entry(
        "older",
        &[named(KeyCode::Left), named(KeyCode::Up)],
        false,
        "paused: select the previous step; in zoomed text: scroll up",
        |s, e| look(s, e, 1),
    ),
    entry(
        "newer",
        &[named(KeyCode::Right), named(KeyCode::Down)],
        false,
        "paused: select the next step; in zoomed text: scroll down",
        |s, e| look(s, e, -1),
    ),
    entry(
        "older by 10",
        &[named(KeyCode::PageUp)],
        false,
        "paused: go back 10 steps; in zoomed text: scroll up 10 lines",
        |s, e| look(s, e, 10),
    ),
    entry(
        "newer by 10",
        &[named(KeyCode::PageDown)],
        false,
        "paused: go forward 10 steps; in zoomed text: scroll down 10 lines",
        |s, e| look(s, e, -10),
    ),
    entry(
        "newest",
        &[named(KeyCode::End), named(KeyCode::Esc)],
        false,
        "return to the newest step, then leave zoom",
        newest,
    ),
    entry(
        "quit",
        &[key('q'), Chord { code: KeyCode::Char('c'), ctrl: true }],
        true,
        "quit and restore the terminal",
        quit,
    ),
    entry("help", &[key('?')], true, "show this help", |s, _| s.overlay = Overlay::Help(0)),
    entry(
        "losses",
        &[key('l')],
        true,
        "cycle panes on losses: ladder, curve, misses, calibration; then back to text",
        losses,
    ),
    entry(
        "unit",
        &[key('u')],
        false,
        "gauge unit: tokens per second (speed of light) or tokens per step (bounds)",
        |s, _| {
            s.unit = match s.unit {
                GaugeUnit::PerSecond => GaugeUnit::PerStep,
                GaugeUnit::PerStep => GaugeUnit::PerSecond,
            };
        },
    ),
    entry(
        "marks",
        &[key('m')],
        false,
        "define each mark of the gauge: assumptions and source",
        |s, _| {
            s.overlay = Overlay::Marks(0);
        },
    ),
    engine_entry(
        "search",
        &[key('o')],
        false,
        "oracle search: off, every 16th step, every 4th, every step; paused: extend the search of the step shown",
        looks,
    ),
    engine_entry("drafter", &[key('d')], true, "next drafter", |s, e| drafter(s, e, 1)),
    engine_entry("drafter back", &[key('D')], false, "previous drafter", |s, e| drafter(s, e, -1)),
    engine_entry("shape", &[key('s')], true, "next tree shape", shape),
    engine_entry(
        "verify",
        &[key('v')],
        false,
        "verification rule: match, rejection, greedy-first, block (temperature above 0)",
        verify,
    ),
    engine_entry(
        "budget",
        &[key('+'), key('=')],
        true,
        "increase budget B (tokens per verify pass)",
        |s, e| budget(s, e, 1),
    ),
    engine_entry(
        "budget less",
        &[key('-'), key('_')],
        false,
        "decrease budget B (tokens per verify pass)",
        |s, e| budget(s, e, -1),
    ),
    engine_entry("temp", &[key('T')], true, "increase temperature by 0.2", |s, e| {
        temperature(s, e, 1)
    }),
    engine_entry(
        "temp down",
        &[key('t')],
        false,
        "decrease temperature by 0.2; 0 is greedy",
        |s, e| temperature(s, e, -1),
    ),
    engine_entry(
        "auto",
        &[key('b')],
        true,
        "automatic budget (most tokens per second at each step) or fixed budget",
        |s, e| {
            set(s, e, |s| s.auto = !s.auto);
        },
    ),
    entry("focus", &[named(KeyCode::Tab)], true, "focus next pane", |s, _| focus(s, 1)),
    entry("focus back", &[named(KeyCode::BackTab)], false, "focus previous pane", |s, _| {
        focus(s, -1)
    }),
    entry("zoom", &[key('z')], true, "zoom the focused pane to the full screen", |s, _| {
        (s.zoom, s.scroll) = (!s.zoom, 0)
    }),
    engine_entry("next", &[key('n')], true, "next prompt", |s, e| prompt(s, e, 1)),
    engine_entry("previous", &[key('p')], false, "previous prompt", |s, e| prompt(s, e, -1)),
    engine_entry(
        "edit",
        &[key('e')],
        true,
        "edit prompt: Enter sends, Alt-Enter adds a line, Ctrl-U deletes to the left, Esc cancels",
        edit,
    ),
    engine_entry("again", &[key('r')], true, "restart the prompt", |s, e| {
        tell(s, e, Command::RestartPrompt)
    }),
    engine_entry("seed", &[key('g')], true, "next random seed (no effect when greedy)", seed),
    entry("theme", &[key('c')], true, "next theme", theme),
];

const fn entry(
    name: &'static str,
    keys: &'static [Chord],
    footer: bool,
    doc: &'static str,
    run: Run,
) -> CommandEntry {
    CommandEntry { name, keys, doc, footer, engine: false, run }
}

/// Returns an entry that sends a command to the engine.
const fn engine_entry(
    name: &'static str,
    keys: &'static [Chord],
    footer: bool,
    doc: &'static str,
    run: Run,
) -> CommandEntry {
    CommandEntry { name, keys, doc, footer, engine: true, run }
}

/// Returns the command bound to a key, if any.
pub fn command_for(key: &KeyEvent) -> Option<&'static CommandEntry> {
    COMMANDS.iter().find(|c| c.keys.iter().any(|chord| chord.is(key)))
}

/// Budgets that the keys step through, in tokens per verify pass.
const BUDGETS: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MAX_BUDGET];

fn tell(_: &mut State, effects: &mut Vec<Effect>, command: Command) {
    effects.push(Effect::Engine(command));
}

fn pause(state: &mut State, effects: &mut Vec<Effect>) {
    let command = if state.motion.still() { Command::Resume } else { Command::Pause };
    if state.motion.still() {
        state.motion = RunState::Resuming;
        (state.selected, state.scroll) = (None, 0);
    } else {
        state.motion = RunState::Pausing;
    }
    tell(state, effects, command);
}

fn one_step(state: &mut State, effects: &mut Vec<Effect>) {
    if !state.motion.still() {
        state.motion = RunState::Pausing;
        tell(state, effects, Command::Pause);
    }
    (state.selected, state.scroll) = (None, 0);
    tell(state, effects, Command::Step);
}

fn quit(state: &mut State, effects: &mut Vec<Effect>) {
    tell(state, effects, Command::Quit);
    effects.push(Effect::Leave(None));
}

/// Changes the requested settings and sends them to the engine. Shows a notice while the engine is
/// loading, since there are no settings yet.
fn set(state: &mut State, effects: &mut Vec<Effect>, change: impl FnOnce(&mut StepSettings)) {
    match &mut state.wished {
        Some(wished) => {
            let before = wished.clone();
            change(wished);
            if before != *wished {
                state.asked.push(wished.clone());
                effects.push(Effect::Engine(Command::Settings(wished.clone())));
            }
        }
        None => state.say("the model is still loading: change settings once it is ready"),
    }
}

/// Returns the entry `by` places after `present`, wrapping around at both ends.
fn neighbour<'a>(list: &'a [String], present: &str, by: isize) -> Option<&'a String> {
    let at = list.iter().position(|x| x == present).unwrap_or(0) as isize;
    list.get((at + by).rem_euclid(list.len().max(1) as isize) as usize)
}

fn drafter(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    let info = state.info.clone();
    set(state, effects, |s| {
        if let Some(name) = neighbour(&info.drafters, &s.drafter, by) {
            s.drafter.clone_from(name);
        }
    });
    let at = state.wished.as_ref().and_then(|w| info.drafters.iter().position(|d| *d == w.drafter));
    if let Some((name, cost)) =
        at.and_then(|i| Some((&info.drafters[i], info.drafter_costs.get(i)?)))
    {
        state.say(format!("drafter {name}: {cost}"));
    }
}

fn shape(state: &mut State, effects: &mut Vec<Effect>) {
    let info = state.info.clone();
    set(state, effects, |s| {
        let mut shapes = info.shapes.clone();
        shapes.retain(|name| allowed(name, s.verify));
        if let Some(name) = neighbour(&shapes, &s.shape, 1) {
            s.shape.clone_from(name);
        }
    });
}

fn allowed(shape: &str, rule: Rule) -> bool {
    Shape::named(shape).is_some_and(|shape| shape.allows(rule))
}

fn verify(state: &mut State, effects: &mut Vec<Effect>) {
    let info = state.info.clone();
    set(state, effects, |s| {
        let at = Rule::ALL.iter().position(|rule| *rule == s.verify).unwrap_or(0);
        s.verify = Rule::ALL[(at + 1) % Rule::ALL.len()];
        // The last allowed shape is the best of those that can be sampled.
        if !allowed(&s.shape, s.verify)
            && let Some(shape) = info.shapes.iter().rev().find(|shape| allowed(shape, s.verify))
        {
            s.shape.clone_from(shape);
        }
    });
    let Some(wished) = &state.wished else { return };
    let greedy =
        if wished.warp().greedy() { "; no effect when greedy: raise T with the T key" } else { "" };
    let said = match wished.verify {
        Rule::Match => {
            "the drafter's best tokens, accepted if the target samples them; all bounds apply"
        }
        Rule::Rejection => {
            "children sampled from the drafter; lossless, only the bound B - 1 applies"
        }
        Rule::GreedyFirst => {
            "best children, the last one sampled; lossless, only the bound B - 1 applies"
        }
        Rule::Block => {
            "chain sampled from the drafter, accepted as a block; lossless, only the bound B - 1 applies"
        }
    };
    state.say(format!("verify {}: {said}{greedy}", wished.verify.name()));
}

fn budget(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    set(state, effects, |s| {
        let next = if by > 0 {
            BUDGETS.iter().find(|&&b| b > s.budget)
        } else {
            BUDGETS.iter().rev().find(|&&b| b < s.budget)
        };
        s.budget = next.copied().unwrap_or(s.budget);
    });
}

fn temperature(state: &mut State, effects: &mut Vec<Effect>, by: i32) {
    set(state, effects, |s| {
        // Counted in fifths, so that rounding errors do not accumulate. A value between two steps
        // moves to the next one in that direction.
        let fifths = s.temperature * 5.0;
        let next =
            if by > 0 { (fifths + 1e-3).floor() + 1.0 } else { (fifths - 1e-3).ceil() - 1.0 };
        s.temperature = (next / 5.0).clamp(0.0, 2.0);
    });
}

fn seed(state: &mut State, effects: &mut Vec<Effect>) {
    set(state, effects, |s| s.seed = s.seed.wrapping_add(1));
}

fn prompt(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    let count = state.prompts.len() as isize;
    if count > 0 {
        let index = (state.prompt as isize + by).rem_euclid(count) as usize;
        (state.selected, state.scroll) = (None, 0);
        tell(state, effects, Command::Prompt(index));
    }
}

fn edit(state: &mut State, _: &mut Vec<Effect>) {
    let text = state.prompts.get(state.prompt).map_or("", String::as_str);
    state.overlay = Overlay::Editor(Editor::new(text));
}

fn theme(state: &mut State, _: &mut Vec<Effect>) {
    state.theme = (state.theme + 1) % state.themes;
    if state.themes == 1 {
        state.say("only one theme is available: this terminal has no color");
    }
}

/// Oracle search intervals in steps, in the order of the key; 0 disables the search.
const SEARCH_INTERVALS: [usize; 4] = [0, 16, 4, 1];

fn looks(state: &mut State, effects: &mut Vec<Effect>) {
    let at = SEARCH_INTERVALS.iter().position(|&every| every == state.look_every).unwrap_or(0);
    state.look_every = SEARCH_INTERVALS[(at + 1) % SEARCH_INTERVALS.len()];
    state.say(match state.look_every {
        0 => "oracle search: only the step shown while paused".to_owned(),
        1 => "oracle search: every step; slows the text, but not the measured times".to_owned(),
        every => format!("oracle search: every {every}th step, outside the measured time"),
    });
    tell(state, effects, Command::SearchEvery(state.look_every));
    effects.extend(state.step_to_search(true).map(|step| Effect::Engine(Command::Look(step))));
}

/// Focuses the next of the panes on losses; the text after the last one.
fn losses(state: &mut State, _: &mut Vec<Effect>) {
    let at = Pane::LOSSES.iter().position(|&p| p == state.focus);
    state.focus = Pane::LOSSES.get(at.map_or(0, |i| i + 1)).copied().unwrap_or(Pane::Text);
    state.scroll = 0;
}

fn focus(state: &mut State, by: isize) {
    let at = Pane::ALL.iter().position(|&p| p == state.focus).unwrap_or(0) as isize;
    state.focus = Pane::ALL[(at + by).rem_euclid(Pane::ALL.len() as isize) as usize];
    state.scroll = 0;
}

/// Moves the selection back by `back` steps (forward if negative), or scrolls zoomed text.
fn look(state: &mut State, effects: &mut Vec<Effect>, back: isize) {
    if state.zoom && state.focus == Pane::Text {
        state.scroll = (i32::from(state.scroll) + back as i32).clamp(0, i32::from(u16::MAX)) as u16;
        return;
    }
    if !state.motion.still() {
        state.say("pause first (space), then select steps with the arrow keys");
        return;
    }
    let (Some(oldest), Some(newest)) = (state.history.oldest(), state.history.newest()) else {
        return;
    };
    let (oldest, newest) = (oldest.number, newest.number);
    let at = state.selected.unwrap_or(newest) as isize - back;
    let at = at.clamp(oldest as isize, newest as isize) as usize;
    state.selected = (at < newest).then_some(at);
    effects.extend(state.step_to_search(false).map(|step| Effect::Engine(Command::Look(step))));
}

fn newest(state: &mut State, effects: &mut Vec<Effect>) {
    if state.selected.is_none() && state.scroll == 0 {
        state.zoom = false;
    }
    let back = state.selected.is_some();
    (state.selected, state.scroll) = (None, 0);
    if back {
        effects.extend(state.step_to_search(false).map(|step| Effect::Engine(Command::Look(step))));
    }
}
