//! Forward passes, tokenizers and loading of models.

#![allow(clippy::unwrap_used)]

#[path = "../common/model.rs"]
mod common;

mod folder;
mod forward;
mod gguf;
mod head;
mod law;
#[cfg(target_os = "linux")]
mod memory;
mod real;
mod reduced;
mod reference;
mod tiny;
mod tokens;
mod train;
