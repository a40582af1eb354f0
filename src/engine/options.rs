//! What a run is started with.

use std::path::PathBuf;
use std::time::Duration;

use crate::draft::Widths;
use crate::telemetry::StepSettings;

/// A prompt to run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prompt {
    /// The `question_id` of its file, or its number from 0; file and line are appended where it repeats. With the seed it fixes every
    /// draw of its text.
    pub id: String,
    /// What the person wrote, before any chat template.
    pub text: String,
}

/// What the engine needs to begin. The thread of the engine takes it along.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// The target: a name of the registry, or a path.
    pub model: String,
    /// The second model for the `model` drafter: a name of the registry, or a path.
    pub draft_model: Option<String>,
    /// Device, as the person wrote it: "auto", "cpu", "cuda", "cuda:1", "metal".
    pub device: String,
    /// Threads of the CPU kernels; none for the physical cores.
    pub threads: Option<usize>,
    /// Widths of the fixed shape.
    pub fixed: Widths,
    /// The command of the `external` drafter, and the time that it has for an answer.
    pub external: Option<(String, Duration)>,
    /// Members of the `mix` drafter, by name; none for the usual ones.
    pub mix: Option<Vec<String>>,
    /// Whether the `suffix` drafter knows the earlier texts of the run, too.
    pub remember: bool,
    /// Layers after which the `early-exit` drafter reads the model's own head; none for those that its adapter was trained for, or
    /// a third of the target's where there is no adapter.
    pub exit_layers: Option<usize>,
    /// File of the adapter of the `early-exit` drafter; none for the one that comes with the program, where there is one for the
    /// target.
    pub adapter: Option<PathBuf>,
    /// File of the head of the `eagle` drafter; none for the one that comes with the program, where there is one for the target.
    pub head: Option<PathBuf>,
    /// Settings of the first step.
    pub settings: StepSettings,
    /// The prompts, run in turn.
    pub prompts: Vec<Prompt>,
    /// Tokens after which a text ends, if nothing else ended it before.
    pub max_tokens: usize,
    /// Prompts are run as they are, without the model's chat template.
    pub raw: bool,
    /// End after the last prompt; otherwise the first one follows it.
    pub once: bool,
    /// Wait for the person before the first step.
    pub start_paused: bool,
}
