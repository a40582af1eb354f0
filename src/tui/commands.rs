//! Table of the monitor's commands: the single source of key bindings, footer, and help.

use crossterm::event::{KeyCode, KeyEvent};

use super::keymap::{Chord, Keymap};
use super::message::Direction;
use super::navigate;
use super::recall::Recalling;
use super::setting_effects::no_effect;
use super::state::ALL_DONE;
use super::{Effect, GaugeUnit, LineInput, LineKind, Overlay, Pane, Phase, RunState, State, View};
use crate::draft::DrafterKind;
use crate::engine::{AUTO_BUDGET, Command, MAX_BUDGET, Pace};
use crate::telemetry::StepSettings;
use crate::verify::Rule;

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

impl CommandEntry {
    /// Returns the name used in `config.toml` and in the palette, such as `drafter-back`.
    pub fn id(&self) -> String {
        self.name.replace(' ', "-")
    }
}

impl Default for Keymap {
    fn default() -> Keymap {
        Keymap::new(COMMANDS.iter().map(|command| (command.id(), command.keys.to_vec())))
    }
}

/// Returns the command that a key map binds to a key, if any.
pub(super) fn command_for_key(keymap: &Keymap, key: &KeyEvent) -> Option<&'static CommandEntry> {
    let id = keymap.command(key)?;
    COMMANDS.iter().find(|command| command.id() == id)
}

/// All commands, in the order of help and footer.
pub const COMMANDS: &[CommandEntry] = &[
    engine_entry("pause", &[key(' ')], true, "pause or resume", pause),
    engine_entry("step", &[key('.')], true, "run one step, then pause", one_step),
    entry(
        "older",
        &[named(KeyCode::Left), named(KeyCode::Up)],
        false,
        "select the previous step, pausing first; in zoomed text: scroll up; in misses and runs: move the cursor",
        |s, e| navigate(s, e, Direction::Back, 1),
    ),
    entry(
        "newer",
        &[named(KeyCode::Right), named(KeyCode::Down)],
        false,
        "select the next step; in zoomed text: scroll down; in misses and runs: move the cursor",
        |s, e| navigate(s, e, Direction::Forward, 1),
    ),
    entry(
        "older by 10",
        &[named(KeyCode::PageUp)],
        false,
        "go back 10 steps; in zoomed text: scroll up 10 lines",
        |s, e| navigate(s, e, Direction::Back, 10),
    ),
    entry(
        "newer by 10",
        &[named(KeyCode::PageDown)],
        false,
        "go forward 10 steps; in zoomed text: scroll down 10 lines",
        |s, e| navigate(s, e, Direction::Forward, 10),
    ),
    entry(
        "oldest",
        &[named(KeyCode::Home)],
        false,
        "select the oldest kept step",
        navigate::oldest,
    ),
    entry(
        "newest",
        &[named(KeyCode::End), named(KeyCode::Esc)],
        false,
        "return to the newest step, then leave search and zoom",
        newest,
    ),
    entry(
        "miss before",
        &[key('[')],
        false,
        "select the previous step that ended in a miss",
        |s, e| {
            navigate::miss(s, e, Direction::Back);
        },
    ),
    entry("miss", &[key(']')], false, "select the next step that ended in a miss", |s, e| {
        navigate::miss(s, e, Direction::Forward);
    }),
    entry(
        "larger loss",
        &[key('{')],
        false,
        "select the step with the next larger loss",
        |s, e| {
            navigate::worst(s, e, Direction::Back);
        },
    ),
    entry(
        "worst loss",
        &[key('}')],
        false,
        "select the step with the largest loss, then the next smaller ones",
        |s, e| {
            navigate::worst(s, e, Direction::Forward);
        },
    ),
    entry(
        "text before",
        &[key('(')],
        false,
        "select the start of the text shown, or of the one before",
        |s, e| {
            navigate::text(s, e, Direction::Back);
        },
    ),
    entry("text after", &[key(')')], false, "select the start of the next text", |s, e| {
        navigate::text(s, e, Direction::Forward);
    }),
    entry(
        "find",
        &[key('/')],
        true,
        "find a step by its text, a cause, or numbers: depth>3, p<.1, H>2",
        |s, _| {
            s.overlay = Overlay::Line(LineInput::new(LineKind::Find));
        },
    ),
    entry(
        "match after",
        &[key('N')],
        false,
        "repeat the search toward newer steps; n repeats it toward older ones",
        |s, e| {
            navigate::repeat(s, e, Direction::Forward);
        },
    ),
    entry("go to", &[key('G')], false, "select a step of the text shown by its number", |s, _| {
        s.overlay = Overlay::Line(LineInput::new(LineKind::Step));
    }),
    entry(
        "open",
        &[named(KeyCode::Enter)],
        false,
        "in misses: select steps with this miss; in runs: select a run to compare; else: show the tree of the step",
        open,
    ),
    entry(
        "command",
        &[key(':')],
        true,
        "command palette: settings and commands by name; Tab completes",
        |s, _| {
            s.overlay = Overlay::Line(LineInput::new(LineKind::Command));
        },
    ),
    engine_entry(
        "slower",
        &[key('<')],
        false,
        "slower pace: fewer steps per second; the engine waits between steps",
        |s, e| {
            let to = s.pace.slower();
            pace(s, e, to);
        },
    ),
    engine_entry(
        "faster",
        &[key('>')],
        true,
        "faster pace: 1, 2, 4, 8, 16 steps per second, then full speed",
        |s, e| {
            let to = s.pace.faster();
            pace(s, e, to);
        },
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
    entry("watch", &[key('1')], false, "view: text, tree, and the main figures", |s, _| {
        view(s, View::Watch)
    }),
    entry("tree view", &[key('2')], false, "view: token tree and its miss", |s, _| {
        view(s, View::Tree)
    }),
    entry(
        "losses view",
        &[key('3')],
        false,
        "view: ladder of losses, budget curve, what would help",
        |s, _| view(s, View::Losses),
    ),
    entry("speed view", &[key('4')], false, "view: speed, acceptance, entropy", |s, _| {
        view(s, View::Speed)
    }),
    entry(
        "misses view",
        &[key('5')],
        false,
        "view: this miss, causes, and base rates by kind of token",
        |s, _| view(s, View::Misses),
    ),
    entry(
        "race view",
        &[key('6')],
        false,
        "view: race of two settings on the same text",
        |s, _| view(s, View::Race),
    ),
    entry(
        "runs view",
        &[key('7')],
        false,
        "view: scoreboard of the runs of this session",
        |s, _| view(s, View::Runs),
    ),
    entry("tree form", &[key('i')], true, "tree as icicle, graph, or table", |s, _| {
        s.tree_form = s.tree_form.next()
    }),
    entry(
        "oracle tree",
        &[key('O')],
        false,
        "show the oracle's tree or the drafter's; o searches for it",
        |s, _| {
            s.oracle_tree = !s.oracle_tree;
        },
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
        next_search_interval,
    ),
    engine_entry("drafting", &[key('x')], true, "switch drafting off and on", drafting),
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
        automatic,
    ),
    entry("focus", &[named(KeyCode::Tab)], true, "focus next pane", |s, _| focus(s, 1)),
    entry("focus back", &[named(KeyCode::BackTab)], false, "focus previous pane", |s, _| {
        focus(s, -1)
    }),
    entry("zoom", &[key('z')], true, "zoom the focused pane to the full screen", |s, _| {
        (s.zoom, s.scroll) = (!s.zoom, 0)
    }),
    entry(
        "next",
        &[key('n')],
        true,
        "next prompt; after a search, until Esc: next older match",
        next,
    ),
    engine_entry("previous", &[key('p')], false, "previous prompt", |s, e| prompt(s, e, -1)),
    engine_entry(
        "edit",
        &[key('e')],
        true,
        "write a prompt while the run waits: Enter sends, Alt-Enter adds a line, Up recalls earlier prompts, Esc cancels",
        edit,
    ),
    engine_entry("again", &[key('r')], true, "restart the prompt", |s, e| {
        tell(s, e, Command::RestartPrompt)
    }),
    engine_entry("seed", &[key('g')], true, "next random seed (no effect when greedy)", seed),
    entry("theme", &[key('c')], true, "next theme", theme),
    entry("write", &[key('w')], false, "write the scoreboard of runs to a file", write_runs),
    entry(
        "record",
        &[key('R')],
        false,
        "record the run to a file that speclight replay shows; again: end the recording",
        |_, e| {
            e.push(Effect::Record);
        },
    ),
    entry("picture", &[key('S')], false, "save a picture of the screen to a file", |_, e| {
        e.push(Effect::Picture)
    }),
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

/// Sets the pace of the engine, and ends the slow start.
pub(super) fn set_pace(state: &mut State, effects: &mut Vec<Effect>, pace: Pace) {
    (state.slow_start, state.pace) = (None, pace);
    tell(state, effects, Command::Pace(pace));
}

fn pace(state: &mut State, effects: &mut Vec<Effect>, to: Option<Pace>) {
    match to {
        Some(pace) => {
            set_pace(state, effects, pace);
            let waits = if pace == Pace::Full {
                ""
            } else {
                ": the engine waits between steps; measured speeds leave waits out"
            };
            state.say(format!("{pace}{waits}"));
        }
        None if state.pace == Pace::Full => state.say("full speed already"),
        None => state.say("slowest pace already"),
    }
}

/// Switches between drafting and plain decoding. The drafter switched off is remembered.
fn drafting(state: &mut State, effects: &mut Vec<Effect>) {
    let Some(present) = state.wished.as_ref().map(|wished| wished.drafter.clone()) else {
        return set(state, effects, |_| {});
    };
    let next = if present == DrafterKind::None {
        let usual = CYCLE.into_iter().find(|kind| state.info.drafters.contains(kind));
        state.last_drafter.clone().or(usual)
    } else {
        Some(DrafterKind::None)
    };
    let Some(next) = next.filter(|next| *next != present) else {
        state.say("this run has no drafter");
        return;
    };
    let on = next != DrafterKind::None;
    state.say(if on {
        format!("drafting on: {next}")
    } else {
        "drafting off: plain decoding; x switches it on".to_owned()
    });
    set(state, effects, |s| s.drafter = next);
}

/// Switches between an automatic and a fixed budget.
///
/// The fixed budget is the size that the automatic one verified on average. The drafter `auto`
/// always chooses its own budget, so that a fixed one needs another drafter.
fn automatic(state: &mut State, effects: &mut Vec<Effect>) {
    let averages = &state.history.averages;
    let mean = (averages.steps > 0)
        .then(|| 1 + (averages.nodes as f64 / averages.steps as f64).round() as usize);
    let drafters = state.info.drafters.clone();
    let mut said = None;
    set(state, effects, |s| {
        if !s.automatic() {
            (s.auto, s.budget) = (true, s.budget.max(AUTO_BUDGET));
            said = Some(format!(
                "automatic budget: each step verifies what promises the most tokens per second, up to {}",
                s.budget
            ));
            return;
        }
        s.auto = false;
        // Of the budgets that the keys know, the nearest to the mean; drafting needs at least 2.
        if let Some(mean) = mean {
            s.budget = BUDGETS
                .into_iter()
                .filter(|&b| b > 1)
                .min_by_key(|&b| b.abs_diff(mean))
                .unwrap_or(s.budget);
        }
        let mut why = "";
        if s.drafter == DrafterKind::Auto {
            let fixed =
                [DrafterKind::Mix, DrafterKind::Eagle, DrafterKind::Suffix, DrafterKind::Ngram]
                    .into_iter()
                    .find(|kind| drafters.contains(kind));
            let Some(fixed) = fixed else {
                said = Some(
                    "the drafter auto always chooses its budget: choose another drafter with d"
                        .to_owned(),
                );
                return;
            };
            s.drafter = fixed;
            why = " (auto always chooses its own budget)";
        }
        said =
            Some(format!("fixed budget: {} tokens per pass, drafter {}{why}", s.budget, s.drafter));
    });
    if let Some(said) = said {
        state.say(said);
    }
}

/// Selects the next older match of a search, or starts the next prompt.
fn next(state: &mut State, effects: &mut Vec<Effect>) {
    if state.query.is_some() {
        navigate::matching(state, effects, Direction::Back);
    } else if state.phase == Phase::Finished {
        state.say(ALL_DONE);
    } else {
        prompt(state, effects, 1);
    }
}

/// Opens the item under the cursor of the focused pane.
fn open(state: &mut State, effects: &mut Vec<Effect>) {
    match state.focus {
        Pane::Runs => {
            let runs = state.all_runs();
            if let Some(run) = runs.get(state.runs.cursor.min(runs.len().saturating_sub(1))) {
                state.runs.mark(run.number);
            }
        }
        Pane::Misses => navigate::miss_of_cursor(state, effects),
        _ => {
            if let Some(step) = state.step().map(|step| step.number) {
                navigate::select(state, effects, step);
                state.focus = Pane::Tree;
            }
        }
    }
}

fn write_runs(state: &mut State, effects: &mut Vec<Effect>) {
    let runs = state.all_runs();
    if runs.is_empty() {
        state.say("no run to write yet");
        return;
    }
    effects.push(Effect::Write {
        stem: "speclight-runs",
        ending: "csv",
        text: super::runs::csv(&runs),
    });
}

/// Says that a setting has no effect under the others, if so.
fn warn_no_effect(state: &mut State, name: &str) {
    if let Some(why) = state.wished.as_ref().and_then(|wished| no_effect(wished, name)) {
        state.say(format!("{name}: {why}"));
    }
}

/// Changes the requested settings and sends them to the engine. Shows a notice while the engine is
/// loading, since there are no settings yet.
fn set(state: &mut State, effects: &mut Vec<Effect>, change: impl FnOnce(&mut StepSettings)) {
    match &mut state.wished {
        Some(wished) => {
            let before = wished.clone();
            change(wished);
            if before != *wished {
                if before.drafter != wished.drafter && before.drafter != DrafterKind::None {
                    state.last_drafter = Some(before.drafter);
                }
                state.asked.push(wished.clone());
                effects.push(Effect::Engine(Command::Settings(wished.clone())));
            }
        }
        None => state.say("the model is still loading: change settings once it is ready"),
    }
}

/// Returns the entry `by` places after `present`, wrapping around at both ends.
fn neighbor<'a, T: PartialEq>(list: &'a [T], present: &T, by: isize) -> Option<&'a T> {
    let at = list.iter().position(|x| x == present).unwrap_or(0) as isize;
    list.get((at + by).rem_euclid(list.len().max(1) as isize) as usize)
}

/// Drafters in the order in which the key selects them.
///
/// Those that usually pay come first, the oracle and none last.
const CYCLE: [DrafterKind; 10] = [
    DrafterKind::Auto,
    DrafterKind::Eagle,
    DrafterKind::Mix,
    DrafterKind::Suffix,
    DrafterKind::Ngram,
    DrafterKind::EarlyExit,
    DrafterKind::Model,
    DrafterKind::External,
    DrafterKind::Oracle,
    DrafterKind::None,
];

fn drafter(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    let info = state.info.clone();
    let mut cycle = info.drafters.clone();
    cycle.sort_by_key(|kind| CYCLE.iter().position(|known| known == kind).unwrap_or(CYCLE.len()));
    set(state, effects, |s| {
        if let Some(kind) = neighbor(&cycle, &s.drafter, by) {
            s.drafter.clone_from(kind);
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
        shapes.retain(|shape| shape.allows(s.verify));
        if let Some(shape) = neighbor(&shapes, &s.shape, 1) {
            s.shape = *shape;
        }
    });
    warn_no_effect(state, "shape");
}

fn verify(state: &mut State, effects: &mut Vec<Effect>) {
    let info = state.info.clone();
    set(state, effects, |s| {
        let at = Rule::ALL.iter().position(|rule| *rule == s.verify).unwrap_or(0);
        s.verify = Rule::ALL[(at + 1) % Rule::ALL.len()];
        // The last allowed shape is the best of those that can be sampled.
        if !s.shape.allows(s.verify)
            && let Some(shape) = info.shapes.iter().rev().find(|shape| shape.allows(s.verify))
        {
            s.shape = *shape;
        }
    });
    let Some(wished) = &state.wished else { return };
    let said = match wished.verify {
        _ if wished.sampling().greedy() => "no effect when greedy: raise T with the T key",
        Rule::Match => "best tokens, accepted if the target samples them",
        Rule::Rejection => "sampled children; lossless, only the bound B - 1 applies",
        Rule::GreedyFirst => "best children, the last sampled; only B - 1 applies",
        Rule::Block => "sampled chain, accepted as a block; only B - 1 applies",
    };
    state.say(format!("verify {}: {said}", wished.verify.name()));
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
    warn_no_effect(state, "budget");
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
    warn_no_effect(state, "seed");
}

fn prompt(state: &mut State, effects: &mut Vec<Effect>, by: isize) {
    let count = state.prompts.len() as isize;
    if count > 0 {
        let index = (state.prompt as isize + by).rem_euclid(count) as usize;
        (state.selected, state.scroll) = (None, 0);
        tell(state, effects, Command::Prompt(index));
    }
}

fn edit(state: &mut State, effects: &mut Vec<Effect>) {
    state.overlay = Overlay::Editor(Recalling::default());
    if state.motion == RunState::Live && state.phase == Phase::Running {
        state.motion = RunState::Pausing;
        state.waits_for_prompt = true;
        tell(state, effects, Command::Pause);
    }
}

/// Closes the prompt editor, and lets a run go on that waited for it.
pub(super) fn close_editor(state: &mut State, effects: &mut Vec<Effect>) {
    state.overlay = Overlay::None;
    let waited = std::mem::take(&mut state.waits_for_prompt);
    if waited && state.motion.still() && state.phase != Phase::Finished {
        state.motion = RunState::Resuming;
        (state.selected, state.scroll) = (None, 0);
        tell(state, effects, Command::Resume);
    }
}

fn theme(state: &mut State, _: &mut Vec<Effect>) {
    state.theme = (state.theme + 1) % state.themes;
    if state.themes == 1 {
        state.say("only one theme is available: this terminal has no color");
    }
}

/// Oracle search intervals in steps, in the order of the key; 0 disables the search.
const SEARCH_INTERVALS: [usize; 4] = [0, 16, 4, 1];

fn next_search_interval(state: &mut State, effects: &mut Vec<Effect>) {
    let at = SEARCH_INTERVALS.iter().position(|&every| every == state.look_every).unwrap_or(0);
    state.look_every = SEARCH_INTERVALS[(at + 1) % SEARCH_INTERVALS.len()];
    state.say(match state.look_every {
        0 => "oracle search: only the step shown while paused".to_owned(),
        1 => "oracle search: every step; slows the text, but not the measured times".to_owned(),
        every => format!("oracle search: every {every}th step, outside the measured time"),
    });
    tell(state, effects, Command::SearchEvery(state.look_every));
    effects
        .extend(state.step_to_search(true).map(|step| Effect::Engine(Command::SearchOracle(step))));
}

/// Focuses the next of the panes on losses; the text after the last one.
fn losses(state: &mut State, _: &mut Vec<Effect>) {
    let at = Pane::LOSSES.iter().position(|&p| p == state.focus);
    state.focus = Pane::LOSSES.get(at.map_or(0, |i| i + 1)).copied().unwrap_or(Pane::Text);
    state.scroll = 0;
}

/// Selects a view, with the focus on its first pane.
fn view(state: &mut State, view: View) {
    state.view = view;
    state.focus = view.panes().first().copied().unwrap_or(Pane::Text);
    (state.zoom, state.scroll) = (false, 0);
}

fn focus(state: &mut State, by: isize) {
    let panes = state.view.panes();
    let at = panes.iter().position(|&p| p == state.focus).unwrap_or(0) as isize;
    state.focus = panes[(at + by).rem_euclid(panes.len() as isize) as usize];
    state.scroll = 0;
}

/// Moves by `count` in the focused pane.
///
/// That is through steps, lines of zoomed text, or rows of a list.
pub(super) fn navigate(
    state: &mut State,
    effects: &mut Vec<Effect>,
    direction: Direction,
    count: usize,
) {
    let shifted = |at: usize, last: usize| match direction {
        Direction::Back => at.saturating_sub(count),
        Direction::Forward => (at + count).min(last),
    };
    match state.focus {
        Pane::Text if state.zoom => {
            // Scrolling counts lines from the end.
            let count = u16::try_from(count).unwrap_or(u16::MAX);
            state.scroll = match direction {
                Direction::Back => state.scroll.saturating_add(count),
                Direction::Forward => state.scroll.saturating_sub(count),
            };
        }
        Pane::Runs => {
            state.runs.cursor = shifted(state.runs.cursor, state.all_runs().len().saturating_sub(1))
        }
        Pane::Misses => {
            state.miss_cursor =
                shifted(state.miss_cursor, navigate::miss_rows(state).saturating_sub(1))
        }
        _ => navigate::by_steps(state, effects, direction, count),
    }
}

fn newest(state: &mut State, effects: &mut Vec<Effect>) {
    if state.selected.is_none() && state.scroll == 0 {
        if state.query.is_some() { state.query = None } else { state.zoom = false }
    }
    let back = state.selected.is_some();
    (state.selected, state.scroll) = (None, 0);
    if back {
        effects.extend(
            state.step_to_search(false).map(|step| Effect::Engine(Command::SearchOracle(step))),
        );
    }
}
