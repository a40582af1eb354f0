//! Library of `speclight`, a terminal monitor for speculative decoding with a small Llama.
//!
//! Modules, and the dependencies that each must not name (enforced by `tests/walls.rs`):
//!
//! | module | contents | must not name |
//! |---|---|---|
//! | [`tree`], [`distribution`], [`theory`] | pure mathematics | tensors, the terminal, tokio |
//! | [`model`] | tree forward passes, weights, tokenizer, devices | the terminal, tokio |
//! | [`draft`], [`verify`] | drafters, tree shapes; lossless verification | the terminal, tokio |
//! | [`engine`] | one decoding step, and the thread that repeats it | the terminal, tokio |
//! | [`train`] | training of draft heads by distillation | the terminal, tokio |
//! | [`telemetry`] | [`telemetry::StepRecord`], its sinks and summaries | the terminal, tokio |
//! | [`study`] | side-by-side runs of several settings on the same text | the terminal, tokio |
//! | [`attach`] | running servers of other engines, gauged from outside | the terminal, tokio |
//! | [`registry`] | discovery and download of models | the terminal, tokio |
//! | [`sanitize`] | sanitizing of untrusted text for display | the terminal, tokio |
//! | `app`, `theme`, `ui` | state, update and views of the monitor | model types (`ui`) |
//! | `export` | image files of the screen | model types |
//! | [`cli`] | one file per subcommand | - |

pub mod attach;
pub mod cli;
mod csv_row;
pub mod distribution;
pub mod draft;
pub mod engine;
#[cfg(test)]
mod fuzzing;
mod guarded;
mod hex;
pub mod model;
mod processes;
pub mod registry;
pub mod sanitize;
mod signals;
pub mod study;
pub mod telemetry;
pub mod theory;
pub mod train;
pub mod tree;
#[cfg(feature = "tui")]
pub mod tui;
pub mod verify;
