//! Kinds of servers, by the engine that they run.

/// Kind of a server, recognized by its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
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

impl ServerKind {
    /// Every engine, in the order of the documentation.
    pub const ALL: [ServerKind; 9] = [
        ServerKind::LlamaServer,
        ServerKind::Vllm,
        ServerKind::Sglang,
        ServerKind::TensorRtLlm,
        ServerKind::MistralRs,
        ServerKind::Tgi,
        ServerKind::Ollama,
        ServerKind::LmStudio,
        ServerKind::MlxLm,
    ];

    /// Name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            ServerKind::LlamaServer => "llama-server",
            ServerKind::Vllm => "vllm",
            ServerKind::Sglang => "sglang",
            ServerKind::TensorRtLlm => "tensorrt-llm",
            ServerKind::MistralRs => "mistral.rs",
            ServerKind::Tgi => "tgi",
            ServerKind::Ollama => "ollama",
            ServerKind::LmStudio => "lm-studio",
            ServerKind::MlxLm => "mlx-lm",
        }
    }

    /// Returns the kind of this name, in either case.
    pub fn named(name: &str) -> Option<ServerKind> {
        let same = |engine: &ServerKind| engine.name().eq_ignore_ascii_case(name);
        ServerKind::ALL
            .into_iter()
            .find(same)
            .or_else(|| name.eq_ignore_ascii_case("llama.cpp").then_some(ServerKind::LlamaServer))
    }

    /// Returns the acceptance figure that the engine itself reports.
    pub fn own_length(
        self,
        accepted_per_drafted_step: Option<f64>,
        tokens_per_step: Option<f64>,
    ) -> Option<OwnLength> {
        const ACCEPTED: &str = "accepted + 1";
        let accepted = accepted_per_drafted_step.map(|accepted| accepted + 1.0);
        let (name, value, definition) = match self {
            ServerKind::LlamaServer => ("mean len", accepted, ACCEPTED),
            ServerKind::Vllm => ("mean acceptance length", accepted, ACCEPTED),
            ServerKind::TensorRtLlm => ("acceptance length", accepted, ACCEPTED),
            ServerKind::MistralRs => ("len", accepted, ACCEPTED),
            ServerKind::Sglang => ("accept length", tokens_per_step, "tokens per step"),
            ServerKind::Tgi => {
                let skipped = tokens_per_step.map(|tokens| tokens - 1.0);
                ("skipped tokens", skipped, "tokens per step - 1")
            }
            ServerKind::Ollama | ServerKind::LmStudio | ServerKind::MlxLm => return None,
        };
        Some(OwnLength { name, value, definition })
    }

    /// Environment variable in which the engine's own documentation keeps its key.
    pub fn key_variable(self) -> Option<&'static str> {
        match self {
            ServerKind::LlamaServer => Some("LLAMA_API_KEY"),
            ServerKind::Vllm => Some("VLLM_API_KEY"),
            ServerKind::Sglang => Some("SGLANG_API_KEY"),
            _ => None,
        }
    }
}

/// Acceptance as an engine names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnLength {
    /// Name of the figure in the engine's own documentation.
    pub name: &'static str,
    /// Value by the engine's definition; `None` where the figures for it are not known.
    pub value: Option<f64>,
    /// Definition in this program's terms.
    pub definition: &'static str,
}
