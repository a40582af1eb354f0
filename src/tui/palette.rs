//! Command palette: settings by name and value, and all commands, with completion.

use super::commands::{COMMANDS, CommandEntry, set_pace};
use super::setting_effects::no_effect;
use super::state::ALL_DONE;
use super::{Effect, Phase, State, navigate};
use crate::draft::{DrafterKind, UnknownShape};
use crate::engine::{AUTO_BUDGET, Command, MAX_BUDGET};
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Setting of a step that can change during a run.
struct StepSetting {
    name: &'static str,
    doc: &'static str,
    /// Returns values to complete.
    values: fn(&State) -> Vec<String>,
    /// Parses a value into the settings.
    set: fn(&mut StepSettings, &str) -> Result<(), String>,
}

/// Argument of the palette that is no setting of a step.
struct Action {
    name: &'static str,
    doc: &'static str,
    values: fn(&State) -> Vec<String>,
    run: fn(&mut State, &mut Vec<Effect>, &str) -> Result<(), String>,
}

const STEP_SETTINGS: [StepSetting; 8] = [
    StepSetting {
        name: "drafter",
        doc: "source of drafted tokens",
        values: |state| state.info.drafters.iter().cloned().map(String::from).collect(),
        set: |s, value| {
            s.drafter = value.into();
            Ok(())
        },
    },
    StepSetting {
        name: "shape",
        doc: "shape of the token tree",
        values: |state| state.info.shapes.iter().map(|shape| shape.name()).collect(),
        set: |s, value| {
            s.shape = value.parse().map_err(|unknown: UnknownShape| unknown.to_string())?;
            Ok(())
        },
    },
    StepSetting {
        name: "budget",
        doc: "tokens in one verify pass, or auto",
        values: |_| ["auto", "4", "8", "16", "32", "64"].map(String::from).to_vec(),
        set: |s, value| {
            if value == "auto" {
                (s.auto, s.budget) = (true, s.budget.max(AUTO_BUDGET));
                return Ok(());
            }
            let budget =
                value.parse().map_err(|_| format!("give 1 to {MAX_BUDGET} tokens, or auto"))?;
            (s.auto, s.budget) = (false, budget);
            Ok(())
        },
    },
    StepSetting {
        name: "verify",
        doc: "verification rule",
        values: |_| Rule::ALL.map(|rule| rule.name().to_owned()).to_vec(),
        set: |s, value| {
            let names = || Rule::ALL.map(Rule::name).join(", ");
            s.verify = Rule::ALL
                .into_iter()
                .find(|rule| rule.name() == value)
                .ok_or_else(|| format!("give one of {}", names()))?;
            Ok(())
        },
    },
    StepSetting {
        name: "temperature",
        doc: "sampling temperature; 0 is greedy",
        values: |_| ["0", "0.5", "0.7", "1"].map(String::from).to_vec(),
        set: |s, value| {
            s.temperature =
                value.parse().map_err(|_| "give a number from 0 (greedy) up".to_owned())?;
            Ok(())
        },
    },
    StepSetting {
        name: "top-p",
        doc: "probability mass kept; 1 keeps all tokens",
        values: |_| ["0.9", "0.95", "1"].map(String::from).to_vec(),
        set: |s, value| {
            s.top_p = value
                .parse()
                .map_err(|_| "give a number above 0, up to 1 (keep all)".to_owned())?;
            Ok(())
        },
    },
    StepSetting {
        name: "top-k",
        doc: "number of tokens kept, or off",
        values: |_| ["off", "20", "50"].map(String::from).to_vec(),
        set: |s, value| {
            s.top_k = match value {
                "off" => None,
                number => Some(
                    number
                        .parse()
                        .map_err(|_| "give a number of tokens from 1, or off".to_owned())?,
                ),
            };
            Ok(())
        },
    },
    StepSetting {
        name: "seed",
        doc: "seed of all random numbers",
        values: |_| Vec::new(),
        set: |s, value| {
            s.seed = value.parse().map_err(|_| "give a whole number from 0".to_owned())?;
            Ok(())
        },
    },
];

const ACTIONS: [Action; 6] = [
    Action {
        name: "pace",
        doc: "steps per second, or full",
        values: |_| ["1", "2", "4", "8", "16", "full"].map(String::from).to_vec(),
        run: |state, effects, value| {
            set_pace(state, effects, value.parse()?);
            Ok(())
        },
    },
    Action {
        name: "prompt",
        doc: "number of a prompt, or the text of a new one",
        values: |state| (1..=state.prompts.len()).map(|number| number.to_string()).collect(),
        run: prompt,
    },
    Action {
        name: "find",
        doc: "search: text, cause, depth>3, p<.1, H>2",
        values: |_| Vec::new(),
        run: |state, effects, value| {
            navigate::find(state, effects, value);
            Ok(())
        },
    },
    Action {
        name: "step",
        doc: "number of a step in the text shown",
        values: |_| Vec::new(),
        run: |state, effects, value| {
            let number = value.parse().map_err(|_| "give the number of a step".to_owned())?;
            navigate::in_text(state, effects, number);
            Ok(())
        },
    },
    Action {
        name: "search-interval",
        doc: "steps between oracle searches; 0 disables them",
        values: |_| ["0", "1", "4", "16"].map(String::from).to_vec(),
        run: |state, effects, value| {
            state.look_every = value
                .parse()
                .map_err(|_| "give a number of steps; 0 disables the search".to_owned())?;
            effects.push(Effect::Engine(Command::SearchEvery(state.look_every)));
            Ok(())
        },
    },
    Action {
        name: "preset",
        doc: "named settings of presets.toml",
        values: |state| state.presets.iter().map(|preset| preset.name.clone()).collect(),
        run: |state, effects, value| {
            let Some(preset) = state.presets.iter().find(|preset| preset.name == value) else {
                return Err(match state.presets.as_slice() {
                    [] => {
                        "there are no presets: write presets.toml in the config folder".to_owned()
                    }
                    some => format!(
                        "give one of {}",
                        some.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                });
            };
            let settings = preset.settings.clone();
            change(state, effects, &settings)
        },
    },
];

/// Options of a run that can't change while it lasts.
const FIXED: [&str; 15] = [
    "model",
    "head",
    "adapter",
    "draft-model",
    "external",
    "mix",
    "fixed",
    "exit-layers",
    "remember",
    "device",
    "threads",
    "prompts",
    "limit",
    "max-tokens",
    "raw",
];

/// Returns the names of the settings that can change during a run.
pub fn step_settings() -> impl Iterator<Item = &'static str> {
    STEP_SETTINGS.iter().map(|setting| setting.name)
}

/// Candidate of a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Whole text of the line with this candidate.
    pub line: String,
    /// Name or value as listed.
    pub label: String,
    /// Description; empty for values.
    pub doc: &'static str,
}

/// Returns the candidates for the text of the palette.
pub fn complete(state: &State, text: &str) -> Vec<Completion> {
    let text = text.trim_start();
    if let Some((name, value)) = text.split_once(' ') {
        let value = value.trim_start();
        let values = (STEP_SETTINGS.iter().find(|s| s.name == name).map(|s| (s.values)(state)))
            .or_else(|| ACTIONS.iter().find(|a| a.name == name).map(|a| (a.values)(state)));
        let fits =
            values.unwrap_or_default().into_iter().filter(|candidate| candidate.starts_with(value));
        return fits
            .map(|label| Completion { line: format!("{name} {label}"), label, doc: "" })
            .collect();
    }
    let with_value = (STEP_SETTINGS.iter().map(|s| (s.name, s.doc)))
        .chain(ACTIONS.iter().map(|a| (a.name, a.doc)));
    let mut all: Vec<Completion> = with_value
        .map(|(name, doc)| Completion { line: format!("{name} "), label: name.to_owned(), doc })
        .collect();
    let entries = COMMANDS.iter().map(|entry| (entry.id(), entry.doc));
    for (id, doc) in entries {
        if all.iter().all(|known| known.label != id) {
            all.push(Completion { line: id.clone(), label: id, doc });
        }
    }
    all.retain(|candidate| candidate.label.starts_with(text));
    all
}

/// Runs a line of the palette, or shows its error.
pub fn run(state: &mut State, effects: &mut Vec<Effect>, line: &str) {
    let line = line.trim();
    let (name, value) = line
        .split_once(char::is_whitespace)
        .map_or((line, ""), |(name, value)| (name, value.trim()));
    if name.is_empty() {
        return;
    }
    if let Ok(number) = line.parse() {
        navigate::in_text(state, effects, number);
        return;
    }
    // A name without a value runs the command of that name, if there is one.
    let entry = COMMANDS.iter().find(|entry| entry.id() == name).filter(|_| value.is_empty());
    let done = match entry {
        Some(entry) => {
            execute(state, effects, entry);
            Ok(())
        }
        None => argument(state, effects, name, value),
    };
    if let Err(why) = done {
        let shown = if value.is_empty() { name.to_owned() } else { format!("{name} {value}") };
        state.say(format!("{shown}: {why}"));
    }
}

fn argument(
    state: &mut State,
    effects: &mut Vec<Effect>,
    name: &str,
    value: &str,
) -> Result<(), String> {
    if FIXED.contains(&name) {
        return Err("fixed while a run lasts: quit and start another run with it".to_owned());
    }
    let setting = STEP_SETTINGS.iter().any(|setting| setting.name == name);
    let action = ACTIONS.iter().find(|action| action.name == name);
    if !setting && action.is_none() {
        return Err("unknown command: press Tab for a list".to_owned());
    }
    if value.is_empty() {
        let doc = STEP_SETTINGS
            .iter()
            .find(|s| s.name == name)
            .map_or_else(|| action.map_or("", |a| a.doc), |s| s.doc);
        return Err(format!("give a value ({doc})"));
    }
    match action {
        Some(action) => (action.run)(state, effects, value),
        None => change(state, effects, &[(name.to_owned(), value.to_owned())]),
    }
}

/// Runs a command of the table, or says that the engine has finished.
pub fn execute(state: &mut State, effects: &mut Vec<Effect>, entry: &CommandEntry) {
    match state.phase {
        Phase::Finished if entry.engine => state.say(ALL_DONE),
        _ => (entry.run)(state, effects),
    }
}

fn prompt(state: &mut State, effects: &mut Vec<Effect>, value: &str) -> Result<(), String> {
    if state.phase == Phase::Finished {
        return Err(ALL_DONE.to_owned());
    }
    let command = match value.parse::<usize>() {
        Ok(number) if (1..=state.prompts.len()).contains(&number) => Command::Prompt(number - 1),
        Ok(_) => return Err(format!("give a prompt from 1 to {}, or a text", state.prompts.len())),
        Err(_) => Command::Text(value.to_owned()),
    };
    (state.selected, state.scroll) = (None, 0);
    effects.push(Effect::Engine(command));
    Ok(())
}

/// Requests several changes of settings at once; none of them if one is invalid.
fn change(
    state: &mut State,
    effects: &mut Vec<Effect>,
    changes: &[(String, String)],
) -> Result<(), String> {
    if state.phase == Phase::Finished {
        return Err(ALL_DONE.to_owned());
    }
    let Some(before) = state.wished.clone() else {
        return Err("the model is still loading".to_owned());
    };
    let mut wished = before.clone();
    for (name, value) in changes {
        let Some(setting) = STEP_SETTINGS.iter().find(|setting| setting.name == name) else {
            return Err(format!("{name} is not a setting"));
        };
        (setting.set)(&mut wished, value)?;
        if name == "drafter" && !state.info.drafters.contains(&wished.drafter) {
            let names: Vec<&str> = state.info.drafters.iter().map(DrafterKind::name).collect();
            return Err(format!("not available in this run: give one of {}", names.join(", ")));
        }
    }
    // A rule that can't verify the shape takes the last shape of the run that it can.
    let shaped = changes.iter().any(|(name, _)| name == "shape");
    if !shaped
        && !wished.shape.allows(wished.verify)
        && let Some(shape) =
            state.info.shapes.iter().rev().find(|shape| shape.allows(wished.verify))
    {
        wished.shape = *shape;
    }
    wished.check().map_err(|bad| bad.to_string())?;
    if wished == before {
        state.say("no change: these settings are in force");
        return Ok(());
    }
    let names: Vec<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
    match names.iter().find_map(|name| no_effect(&wished, name)) {
        Some(why) => state.say(format!("{}: {why}", names.join(", "))),
        None => state.say(format!("{} from the next step on", described(changes))),
    }
    state.asked.push(wished.clone());
    effects.push(Effect::Engine(Command::Settings(wished.clone())));
    state.wished = Some(wished);
    Ok(())
}

fn described(changes: &[(String, String)]) -> String {
    changes.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}
