//! speclight: watch speculative decoding approach the speed of light.
//!
//! The rooms, and the walls between them (a test in `tests/walls.rs` keeps them):
//!
//! | room | holds | may not name |
//! |---|---|---|
//! | [`tree`], [`dist`], [`theory`] | pure mathematics | tensors, the terminal, tokio |
//! | [`model`] | the forward over a tree, weights, tokenizer, devices | the terminal, tokio |
//! | [`draft`], [`verify`] | drafters and shapes; lossless acceptance | the terminal, tokio |
//! | [`engine`] | one step of decoding, and the thread that repeats it | the terminal, tokio |
//! | [`train`] | distilling a head that drafts | the terminal, tokio |
//! | [`telemetry`] | the [`telemetry::StepRecord`], its sinks and summaries | the terminal, tokio |
//! | [`compare`] | settings beside each other on the same text | the terminal, tokio |
//! | [`attach`] | running servers of other engines, gauged from outside | the terminal, tokio |
//! | [`registry`] | where models come from | the terminal, tokio |
//! | [`clean`] | text from outside made safe to show | the terminal, tokio |
//! | `app`, `theme`, `ui` | state, update and views of the monitor | model types (`ui`) |
//! | `export` | pictures of the screen | model types |
//! | [`cli`] | one file a subcommand | - |

pub mod attach;
pub mod clean;
pub mod cli;
pub mod compare;
pub mod dist;
pub mod draft;
pub mod engine;
mod guarded;
mod hex;
pub mod model;
mod processes;
pub mod registry;
pub mod telemetry;
pub mod theory;
pub mod train;
pub mod tree;
pub mod verify;

#[cfg(feature = "tui")]
pub mod app;
#[cfg(feature = "tui")]
pub mod export;
#[cfg(feature = "tui")]
pub mod theme;
#[cfg(feature = "tui")]
pub mod ui;
