//! The one table of commands: it feeds the keys, the footer and the help.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Editor, Effect, GaugeUnit, Motion, Overlay, Pane, State};
use crate::draft::Shape;
use crate::engine::{Command, MAX_BUDGET};
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// A key, with Control or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    /// The key.
    pub code: KeyCode,
    /// Whether Control is held.
    pub ctrl: bool,
}

impl Chord {
    /// How it is written on the screen.
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
        self.code == key.code && held == if self.ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE }
    }
}

const fn key(c: char) -> Chord {
    Chord { code: KeyCode::Char(c), ctrl: false }
}

const fn named(code: KeyCode) -> Chord {
    Chord { code, ctrl: false }
}

/// What a command does.
type Run = fn(&mut State, &mut Vec<Effect>);

/// A command.
pub struct Entry {
    /// Its name, one or two words, as the footer shows it.
    pub name: &'static str,
    /// Its keys, the one to show first.
    pub keys: &'static [Chord],
    /// What it does, in one line.
    pub doc: &'static str,
    /// Whether the footer shows it where there is room.
    pub footer: bool,
    /// Whether it asks something of the engine, which nobody answers after its last word.
    pub engine: bool,
    /// The function.
    pub run: Run,
}

/// All commands. The order is that of help and footer.
pub const COMMANDS: &[Entry] = &[
    wish("pause", &[key(' ')], true, "pause, or go on", pause),
    wish("step", &[key('.')], true, "make one step, then wait", one_step),
    entry(
        "older",
        &[named(KeyCode::Left), named(KeyCode::Up)],
        false,
        "paused: look at an older step; in zoomed text: scroll",
        |s, e| look(s, e, 1),
    ),
    entry(
        "newer",
        &[named(KeyCode::Right), named(KeyCode::Down)],
        false,
        "paused: look at a newer step; in zoomed text: scroll",
        |s, e| look(s, e, -1),
    ),
    entry("older by 10", &[named(KeyCode::PageUp)], false, "ten steps back", |s, e| look(s, e, 10)),
    entry("newer by 10", &[named(KeyCode::PageDown)], false, "ten steps on", |s, e| look(s, e, -10)),
    entry("newest", &[named(KeyCode::End), named(KeyCode::Esc)], false, "back to the newest step, and out of zoom", newest),
    entry("quit", &[key('q'), Chord { code: KeyCode::Char('c'), ctrl: true }], true, "leave; the terminal is as it was", quit),
    entry("help", &[key('?')], true, "this help", |s, _| s.overlay = Overlay::Help(0)),
    entry(
        "losses",
        &[key('l')],
        true,
        "what was lost and why: ladder, curve, misses and calibration in turn, then the text again",
        losses,
    ),
    entry("unit", &[key('u')], false, "gauge in tokens per second (speed of light) or tokens per step (theorem)", |s, _| {
        s.unit = match s.unit {
            GaugeUnit::PerSecond => GaugeUnit::PerStep,
            GaugeUnit::PerStep => GaugeUnit::PerSecond,
        };
    }),
    entry("marks", &[key('m')], false, "each mark of the gauge: definition, assumptions, source", |s, _| {
        s.overlay = Overlay::Marks(0);
    }),
    wish(
        "looks",
        &[key('o')],
        false,
        "how often the oracle looks at a step: never, each 16th, each 4th, each; paused: it looks longer at the one shown",
        looks,
    ),
    wish("drafter", &[key('d')], true, "next drafter", |s, e| drafter(s, e, 1)),
    wish("drafter back", &[key('D')], false, "drafter before", |s, e| drafter(s, e, -1)),
    wish("shape", &[key('s')], true, "next shape of the tree", shape),
    wish(
        "verify",
        &[key('v')],
        false,
        "how children are taken and accepted: match, rejection, greedy-first, block (above T 0)",
        verify,
    ),
    wish("budget", &[key('+'), key('=')], true, "more tokens in a verify pass", |s, e| budget(s, e, 1)),
    wish("budget less", &[key('-'), key('_')], false, "fewer tokens in a verify pass", |s, e| budget(s, e, -1)),
    wish("temp", &[key('T')], true, "temperature up by 0.2", |s, e| temperature(s, e, 1)),
    wish("temp down", &[key('t')], false, "temperature down by 0.2; 0 is greedy", |s, e| temperature(s, e, -1)),
    wish("auto", &[key('b')], true, "automatic budget: the most tokens a second at each step; or fixed again", |s, e| {
        set(s, e, |s| s.auto = !s.auto);
    }),
    entry("focus", &[named(KeyCode::Tab)], true, "the next pane gets the keys", |s, _| focus(s, 1)),
    entry("focus back", &[named(KeyCode::BackTab)], false, "the pane before gets the keys", |s, _| focus(s, -1)),
    entry("zoom", &[key('z')], true, "the pane with the keys fills the screen", |s, _| (s.zoom, s.scroll) = (!s.zoom, 0)),
    wish("next", &[key('n')], true, "next prompt", |s, e| prompt(s, e, 1)),
    wish("previous", &[key('p')], false, "prompt before", |s, e| prompt(s, e, -1)),
    wish("edit", &[key('e')], true, "write a prompt: Enter sends, Alt-Enter breaks the line, Ctrl-U clears, Esc leaves", edit),
    wish("again", &[key('r')], true, "the same prompt again, from its beginning", |s, e| tell(s, e, Command::Again)),
    wish("seed", &[key('g')], true, "next seed: other draws (no effect when greedy)", seed),
    entry("theme", &[key('c')], true, "next theme", theme),
];

const fn entry(name: &'static str, keys: &'static [Chord], footer: bool, doc: &'static str, run: Run) -> Entry {
    Entry { name, keys, doc, footer, engine: false, run }
}

/// An entry that asks something of the engine.
const fn wish(name: &'static str, keys: &'static [Chord], footer: bool, doc: &'static str, run: Run) -> Entry {
    Entry { name, keys, doc, footer, engine: true, run }
}

/// The command of a key, if it has one.
pub fn command_for(key: &KeyEvent) -> Option<&'static Entry> {
    COMMANDS.iter().find(|c| c.keys.iter().any(|chord| chord.is(key)))
}

/// Budgets that the keys walk through.
const BUDGETS: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MAX_BUDGET];

fn tell(_: &mut State, effects: &mut Vec<Effect>, command: Command) {
    effects.push(Effect::Engine(command));
}

fn pause(state: &mut State, effects: &mut Vec<Effect>) {
    let command = if state.motion.still() { Command::Resume } else { Command::Pause };
    if state.motion.still() {
        state.motion = Motion::Resuming;
        (state.selected, state.scroll) = (None, 0);
    } else {
        state.motion = Motion::Pausing;
    }
    tell(state, effects, command);
}

fn one_step(state: &mut State, effects: &mut Vec<Effect>) {
    if !state.motion.still() {
        state.motion = Motion::Pausing;
        tell(state, effects, Command::Pause);
    }
    (state.selected, state.scroll) = (None, 0);
    tell(state, effects, Command::Step);
}

fn quit(state: &mut State, effects: &mut Vec<Effect>) {
    tell(state, effects, Command::Quit);
    effects.push(Effect::Leave(None));
}

/// Changes the wished settings and tells the engine; before the engine is there, there is nothing to change.
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
        None => state.say("the model is still loading: settings can be changed after that"),
    }
}

/// The neighbour of `present` in a list that is a ring.
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
    if let Some((name, cost)) = at.and_then(|i| Some((&info.drafters[i], info.drafter_costs.get(i)?))) {
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
        // The last of the shapes is the best that can be drawn.
        if !allowed(&s.shape, s.verify)
            && let Some(shape) = info.shapes.iter().rev().find(|shape| allowed(shape, s.verify))
        {
            s.shape.clone_from(shape);
        }
    });
    let Some(wished) = &state.wished else { return };
    let greedy = if wished.warp().greedy() { "; greedy there is one token, and all rules are one: raise T (T)" } else { "" };
    let said = match wished.verify {
        Rule::Match => "the drafter's best, accepted where the model draws it: the theorem's setting",
        Rule::Rejection => "children are drawn from the drafter's law: outside of the theorem, as lossless",
        Rule::GreedyFirst => "the best children but for the last, which is drawn: outside of the theorem, as lossless",
        Rule::Block => "a chain drawn from the drafter's law, accepted as a block: outside of the theorem, as lossless",
    };
    state.say(format!("verify {}: {said}{greedy}", wished.verify.name()));
}

fn budget(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    set(state, effects, |s| {
        let next = if by > 0 { BUDGETS.iter().find(|&&b| b > s.budget) } else { BUDGETS.iter().rev().find(|&&b| b < s.budget) };
        s.budget = next.copied().unwrap_or(s.budget);
    });
}

fn temperature(state: &mut State, effects: &mut Vec<Effect>, by: i32) {
    set(state, effects, |s| {
        // In fifths, so that no rounding piles up; a value between two goes to the next one in that direction.
        let fifths = s.temperature * 5.0;
        let next = if by > 0 { (fifths + 1e-3).floor() + 1.0 } else { (fifths - 1e-3).ceil() - 1.0 };
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
        state.say("this terminal shows one theme: without colour there is no other");
    }
}

/// How often steps can be looked at, in the order of the key.
const LOOKS: [usize; 4] = [0, 16, 4, 1];

fn looks(state: &mut State, effects: &mut Vec<Effect>) {
    let at = LOOKS.iter().position(|&every| every == state.look_every).unwrap_or(0);
    state.look_every = LOOKS[(at + 1) % LOOKS.len()];
    state.say(match state.look_every {
        0 => "oracle: looks at no step but the one that is shown while paused".to_owned(),
        1 => "oracle: looks at each step, which slows the text but no measured time".to_owned(),
        every => format!("oracle: looks at each {every}th step, off the measured time"),
    });
    tell(state, effects, Command::LookEvery(state.look_every));
    effects.extend(state.to_look_at(true).map(|step| Effect::Engine(Command::Look(step))));
}

/// The next of the panes that say what was lost; behind the last, the text.
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

/// Moves the selection by so many steps back, or scrolls the text where that is zoomed.
fn look(state: &mut State, effects: &mut Vec<Effect>, back: isize) {
    if state.zoom && state.focus == Pane::Text {
        state.scroll = (i32::from(state.scroll) + back as i32).clamp(0, i32::from(u16::MAX)) as u16;
        return;
    }
    if !state.motion.still() {
        state.say("pause first (space), then walk through the steps with the arrows");
        return;
    }
    let (Some(oldest), Some(newest)) = (state.history.oldest(), state.history.newest()) else { return };
    let (oldest, newest) = (oldest.number, newest.number);
    let at = state.selected.unwrap_or(newest) as isize - back;
    let at = at.clamp(oldest as isize, newest as isize) as usize;
    state.selected = (at < newest).then_some(at);
    effects.extend(state.to_look_at(false).map(|step| Effect::Engine(Command::Look(step))));
}

fn newest(state: &mut State, effects: &mut Vec<Effect>) {
    if state.selected.is_none() && state.scroll == 0 {
        state.zoom = false;
    }
    let back = state.selected.is_some();
    (state.selected, state.scroll) = (None, 0);
    if back {
        effects.extend(state.to_look_at(false).map(|step| Effect::Engine(Command::Look(step))));
    }
}
