//! Options that a run is started with.
//!
//! The command line fills [`EngineOptions`]; loading turns them into models, drafters and a
//! session. Settings that can change during a run are in [`StepSettings`].

use std::path::PathBuf;
use std::time::Duration;

use crate::draft::{DrafterKind, Widths};
use crate::sanitize::format_error_chain;
use crate::telemetry::StepSettings;

/// Prompt text with the id that keys its random numbers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prompt {
    /// Id from the prompt file (`question_id`), or the index from 0.
    ///
    /// File and line are appended to an id that occurs twice. Together with the seed it fixes every
    /// random number of the text.
    pub id: String,
    /// Text of the prompt, before the chat template is applied.
    pub text: String,
}

/// Formatter of errors, as one line each.
///
/// The user interface replaces the default, which knows no options, to add the fix.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFormat(pub fn(&anyhow::Error) -> String);

impl Default for ErrorFormat {
    fn default() -> ErrorFormat {
        ErrorFormat(format_error_chain)
    }
}

impl PartialEq for ErrorFormat {
    fn eq(&self, other: &ErrorFormat) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

/// Options of one run, moved to the engine thread.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Target model: a name of the registry, or a path.
    pub model: String,
    /// Draft model of the `model` drafter: a name of the registry, or a path.
    pub draft_model: Option<String>,
    /// Device name: "auto", "cpu", "cuda", "cuda:1" or "metal".
    pub device: String,
    /// Number of CPU threads; `None` uses one per physical core.
    pub threads: Option<usize>,
    /// Widths of the `fixed` tree shape, by depth.
    pub fixed: Widths,
    /// Command of the `external` drafter, and its time limit per answer.
    pub external: Option<(String, Duration)>,
    /// Drafters that `mix` combines; `None` for the default members.
    pub mix: Option<Vec<DrafterKind>>,
    /// Lets the `suffix` drafter match earlier texts of the run.
    pub remember: bool,
    /// Number of layers after which the `early-exit` drafter applies the output head.
    ///
    /// `None` takes the depth that its adapter was trained for, or a third of the target's layers
    /// without an adapter.
    pub exit_layers: Option<usize>,
    /// File of the `early-exit` adapter; `None` for the built-in one, if any.
    pub adapter: Option<PathBuf>,
    /// File of the `eagle` head; `None` for the built-in one, if any.
    pub head: Option<PathBuf>,
    /// Settings of the first step; commands can change them later.
    pub settings: StepSettings,
    /// Prompts in the order in which they run.
    pub prompts: Vec<Prompt>,
    /// Maximum number of tokens generated per prompt.
    pub max_tokens: usize,
    /// Disables the model's chat template.
    pub raw: bool,
    /// Ends the run after the last prompt instead of starting over.
    pub once: bool,
    /// Pauses before the first step.
    pub start_paused: bool,
    /// Formatter of errors in events.
    pub error_format: ErrorFormat,
}
