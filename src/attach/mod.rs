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
pub mod probe;
pub mod prometheus;
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
pub use probe::{Plan, ProbeSettings, ProbedText, Request, Step};
pub use tally::{Summary, Tally};

use estimate::Scored;

/// Engines that are recognized by what they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// llama.cpp's HTTP server, `llama-server`.
    LlamaServer,
    /// vLLM's OpenAI-compatible server, `vllm serve`.
    Vllm,
    /// SGLang's runtime server, `sglang.launch_server`.
    Sglang,
    /// TensorRT-LLM's OpenAI-compatible server, `trtllm-serve`.
    TensorRtLlm,
    /// mistral.rs, the Rust server.
    MistralRs,
    /// Hugging Face's text-generation-inference (TGI).
    Tgi,
    /// Ollama, which hides its llama-server.
    Ollama,
    /// LM Studio's local server.
    LmStudio,
    /// MLX-LM's Python server, `mlx_lm.server`.
    MlxLm,
}

impl Engine {
    /// Every engine, in the order of the documentation.
    pub const ALL: [Engine; 9] = [
        Engine::LlamaServer,
        Engine::Vllm,
        Engine::Sglang,
        Engine::TensorRtLlm,
        Engine::MistralRs,
        Engine::Tgi,
        Engine::Ollama,
        Engine::LmStudio,
        Engine::MlxLm,
    ];

    /// Name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Engine::LlamaServer => "llama-server",
            Engine::Vllm => "vllm",
            Engine::Sglang => "sglang",
            Engine::TensorRtLlm => "tensorrt-llm",
            Engine::MistralRs => "mistral.rs",
            Engine::Tgi => "tgi",
            Engine::Ollama => "ollama",
            Engine::LmStudio => "lm-studio",
            Engine::MlxLm => "mlx-lm",
        }
    }

    /// Engine of this name, in either case.
    pub fn named(name: &str) -> Option<Engine> {
        let same = |engine: &Engine| engine.name().eq_ignore_ascii_case(name);
        Engine::ALL
            .into_iter()
            .find(same)
            .or_else(|| name.eq_ignore_ascii_case("llama.cpp").then_some(Engine::LlamaServer))
    }

    /// Acceptance in the engine's own words, from figures in this program's.
    pub fn own_length(
        self,
        accepted_per_drafted_step: Option<f64>,
        tokens_per_step: Option<f64>,
    ) -> Option<OwnLength> {
        const ACCEPTED: &str = "accepted + 1";
        let accepted = accepted_per_drafted_step.map(|accepted| accepted + 1.0);
        let (name, value, definition) = match self {
            Engine::LlamaServer => ("mean len", accepted, ACCEPTED),
            Engine::Vllm => ("mean acceptance length", accepted, ACCEPTED),
            Engine::TensorRtLlm => ("acceptance length", accepted, ACCEPTED),
            Engine::MistralRs => ("len", accepted, ACCEPTED),
            Engine::Sglang => ("accept length", tokens_per_step, "tokens per step"),
            Engine::Tgi => {
                let skipped = tokens_per_step.map(|tokens| tokens - 1.0);
                ("skipped tokens", skipped, "tokens per step - 1")
            }
            Engine::Ollama | Engine::LmStudio | Engine::MlxLm => return None,
        };
        Some(OwnLength { name, value, definition })
    }

    /// Environment variable in which the engine's own documentation keeps its key.
    pub fn key_variable(self) -> Option<&'static str> {
        match self {
            Engine::LlamaServer => Some("LLAMA_API_KEY"),
            Engine::Vllm => Some("VLLM_API_KEY"),
            Engine::Sglang => Some("SGLANG_API_KEY"),
            _ => None,
        }
    }
}

/// Acceptance as an engine names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnLength {
    /// The engine's own name.
    pub name: &'static str,
    /// Value by the engine's definition; `None` where the figures for it are not known.
    pub value: Option<f64>,
    /// Definition in this program's terms.
    pub definition: &'static str,
}

/// Facts about a server that don't change while it runs; `None` where not reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Version of the engine.
    pub version: Option<String>,
    /// Name of the model that is served.
    pub model: Option<String>,
    /// Tokens in the vocabulary.
    pub vocabulary: Option<usize>,
    /// B: tokens of a verify pass, the root included.
    pub budget: Option<usize>,
    /// Speculative method, as the engine names it.
    pub method: Option<String>,
    /// Reason why the theorem's setting is not met, such as a lossy threshold; shown with every
    /// ceiling.
    pub outside: Option<String>,
}

/// Abilities of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// True if counters can be read without sending anything.
    pub scrape: bool,
    /// True if prompts can be sent and steps read from the stream.
    pub probe: bool,
    /// True if distributions have to be asked for in a second pass.
    pub score: bool,
}

/// Sink for the events of a probe; `false` asks it to stop.
pub type Sink<'a> = &'a mut dyn FnMut(Event) -> bool;

/// One engine behind an address.
pub trait Server: Send {
    /// Returns the engine behind the address.
    fn engine(&self) -> Engine;

    /// Abilities of this server.
    fn capabilities(&self) -> Capabilities;

    /// Reads what doesn't change while the server runs.
    ///
    /// # Errors
    /// If a request fails in a way that later ones would, too.
    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError>;

    /// Reads the counters once.
    ///
    /// # Errors
    /// If they can't be read, with the reason.
    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError>;

    /// Sampling parameters of a probe's text that its distributions are reported without.
    fn omitted(&self, settings: &ProbeSettings) -> OmittedSampling {
        let _ = settings;
        OmittedSampling::NONE
    }

    /// B, root included, as far as it is known by now.
    fn budget(&self) -> Option<usize> {
        None
    }

    /// Lists the requests that a probe will send, before it sends any.
    ///
    /// # Errors
    /// If this engine's steps can't be read from outside.
    fn plan(&self, settings: &ProbeSettings) -> Result<Plan, AttachError> {
        let _ = settings;
        Err(AttachError::Unsupported {
            engine: self.engine(),
            why: "its steps can't be read from outside".to_owned(),
        })
    }

    /// Sends one prompt and reports its steps. `None` where the sink asked to stop.
    ///
    /// # Errors
    /// If the request fails or the stream can't be read.
    fn probe(
        &mut self,
        http: &Http,
        request: &Request,
        sink: Sink<'_>,
    ) -> Result<Option<ProbedText>, AttachError> {
        let _ = (http, request, sink);
        Err(AttachError::Unsupported {
            engine: self.engine(),
            why: "its steps can't be read from outside".to_owned(),
        })
    }

    /// Asks for distributions of a text's positions, with at most `most` requests of one token
    /// each.
    ///
    /// # Errors
    /// If a request fails.
    fn score(
        &mut self,
        http: &Http,
        text: &ProbedText,
        request: &Request,
        most: usize,
        sink: Sink<'_>,
    ) -> Result<Scored, AttachError> {
        let _ = (http, text, request, most, sink);
        Ok(Scored::default())
    }
}

/// Events of a server that is watched or probed.
#[derive(Clone, Debug)]
pub enum Event {
    /// Figures since the last reading.
    Interval(Box<Window>),
    /// Figures since the first reading.
    Window(Box<Window>),
    /// Something that the user should know, in one line.
    Notice(String),
    /// A prompt was sent.
    TextStarted {
        /// Name of the prompt.
        id: String,
        /// Number of the request from 0.
        index: usize,
    },
    /// One step of the server.
    Step(Step),
    /// One more request is about to be sent; nothing to show.
    Progress,
    /// B of the server, root included.
    Budget(usize),
    /// Distributions of positions of the last text.
    Scored(Box<Scored>),
    /// The text is complete.
    TextEnded {
        /// Tokens generated, those outside of steps included.
        tokens: usize,
    },
    /// Every request of the plan was answered, or the sink asked to stop.
    Finished,
    /// Nothing more can be had.
    Failed(String),
}

/// One server of an engine.
pub(crate) fn server(engine: Engine) -> Box<dyn Server> {
    match engine {
        Engine::LlamaServer => Box::<llama::LlamaServer>::default(),
        Engine::Vllm => Box::<vllm::Vllm>::default(),
        Engine::Sglang => Box::<sglang::Sglang>::default(),
        Engine::TensorRtLlm => Box::new(tensorrt::TensorRtLlm),
        Engine::MistralRs => Box::new(mistral::MistralRs),
        Engine::Tgi => Box::new(tgi::Tgi),
        Engine::Ollama | Engine::LmStudio | Engine::MlxLm => Box::new(silent::Silent(engine)),
    }
}
