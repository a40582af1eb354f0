//! Running servers of other engines: what they report about their speculation, and what can be
//! estimated from outside.
//!
//! [`Server`] is one engine behind an address: `scrape` reads counters, `probe` sends prompts and
//! reads steps, `score` asks for the distributions of positions that were generated. Parsers of
//! bodies are pure functions, tested over `tests/fixtures/attach`. Nothing is sent but what a
//! [`Plan`] lists, and without a probe only GET requests on [`http::READ_PATHS`].

pub mod bracket;
pub mod counters;
pub mod detect;
pub mod earlier;
mod error;
pub mod estimate;
pub mod http;
pub mod import;
mod key;
pub mod lines;
pub mod llama;
pub mod mistral;
pub mod plan;
mod position;
pub mod probe;
pub mod prometheus;
mod server;
mod server_kind;
pub mod sglang;
mod silent;
pub mod sse;
mod stream;
pub mod tally;
pub mod tensorrt;
pub mod tgi;
pub mod vllm;
pub mod watch;

pub use bracket::OmittedSampling;
pub use counters::{Counters, Window};
pub use detect::{Target, detect};
pub use error::AttachError;
pub use http::{Address, Http};
pub use key::{Key, Keys};
pub use plan::{Plan, ProbeSettings, ProbedText, Request, Step};
pub use server::{Capabilities, Event, Identity, Server, Sink};
pub use server_kind::ServerKind;
pub use tally::{Summary, Tally};
