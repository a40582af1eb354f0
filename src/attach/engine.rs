//! Engines of other projects, by name.

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
