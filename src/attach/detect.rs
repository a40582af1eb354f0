//! Detection of the engine behind an address, by GET requests alone.

use super::http::Answer;
use super::prometheus::Samples;
use super::{
    AttachError, Http, Identity, Keys, Server, ServerKind, llama, mistral, sglang, silent,
    tensorrt, tgi, vllm,
};

/// A server whose engine is known.
pub struct Target {
    /// Client for its address.
    pub http: Http,
    /// Engine of the server, with its requests and parsers.
    pub server: Box<dyn Server>,
    /// Version, model and other facts read at detection.
    pub identity: Identity,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("engine", &self.server.engine())
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Prefixes of metric names, which the engines' sources fix.
const PREFIXES: [(&str, ServerKind); 6] = [
    ("vllm:", ServerKind::Vllm),
    ("sglang:", ServerKind::Sglang),
    ("llamacpp:", ServerKind::LlamaServer),
    ("mistralrs_", ServerKind::MistralRs),
    ("tgi_", ServerKind::Tgi),
    ("trtllm_", ServerKind::TensorRtLlm),
];

/// Detects the engine of a server, and reads its identity.
///
/// An engine that is `named` is not checked.
///
/// `client` makes a client with a key, or without one.
///
/// # Errors
/// If nothing answers, a key is wanted, or the engine is not known.
pub fn detect(
    named: Option<ServerKind>,
    keys: &Keys,
    client: &dyn Fn(Option<&super::Key>) -> Result<Http, AttachError>,
) -> Result<Target, AttachError> {
    let mut http = client(keys.of(named))?;
    let engine = match named {
        Some(engine) => engine,
        None => match find(&http) {
            // Of the engines with a key of their own only llama-server guards all paths.
            Err(AttachError::Unauthorized { .. })
                if !http.has_key() && keys.of(Some(ServerKind::LlamaServer)).is_some() =>
            {
                http = client(keys.of(Some(ServerKind::LlamaServer)))?;
                find(&http)?
            }
            other => other?,
        },
    };
    if !http.has_key() && keys.of(Some(engine)).is_some() {
        http = client(keys.of(Some(engine)))?;
    }
    let mut server = server(engine);
    let identity = server.identify(&http)?;
    Ok(Target { http, server, identity })
}

fn find(http: &Http) -> Result<ServerKind, AttachError> {
    let metrics = http.get("/metrics")?;
    let models = match by_metrics(&metrics) {
        Some(engine) => return Ok(engine),
        None => http.get("/v1/models")?,
    };
    if let Some(engine) = by_headers(&metrics).or_else(|| by_models(&models)) {
        return Ok(engine);
    }
    let prometheus = http.get("/prometheus/metrics")?;
    if let Some(engine) = by_metrics(&prometheus) {
        return Ok(engine);
    }
    for (path, engine, key) in [
        ("/props", ServerKind::LlamaServer, "default_generation_settings"),
        ("/server_info", ServerKind::Sglang, "speculative_algorithm"),
    ] {
        if http.get_json(path)?.is_some_and(|value| value.get(key).is_some()) {
            return Ok(engine);
        }
    }
    let at = http.address().as_str().to_owned();
    match models.status {
        status @ (401 | 403) => {
            Err(AttachError::Unauthorized { at, status, with_key: http.has_key() })
        }
        // MLX-LM lists models without saying who owns them.
        200 if models.json().is_some_and(|value| {
            value["data"][0]["owned_by"].is_null() && value["data"][0]["id"].is_string()
        }) =>
        {
            Ok(ServerKind::MlxLm)
        }
        _ => Err(AttachError::UnknownEngine { at }),
    }
}

fn by_metrics(answer: &Answer) -> Option<ServerKind> {
    let text = answer.text();
    let here = |(prefix, engine): &(&str, ServerKind)| {
        (!Samples::parse(&text, &[prefix]).is_empty()).then_some(*engine)
    };
    // The iteration records of TensorRT-LLM are JSON, and reading them takes them from others: only
    // their path is known here.
    PREFIXES.iter().filter(|_| answer.status == 200).find_map(here)
}

fn by_headers(answer: &Answer) -> Option<ServerKind> {
    answer
        .server
        .as_deref()
        .is_some_and(|server| server.starts_with("llama.cpp"))
        .then_some(ServerKind::LlamaServer)
}

fn by_models(answer: &Answer) -> Option<ServerKind> {
    let value = answer.json()?;
    let owner = value["data"].as_array()?.iter().find_map(|model| model["owned_by"].as_str())?;
    Some(match owner {
        "vllm" => ServerKind::Vllm,
        "sglang" => ServerKind::Sglang,
        "llamacpp" => ServerKind::LlamaServer,
        "tensorrt_llm" => ServerKind::TensorRtLlm,
        "mistral.rs" => ServerKind::MistralRs,
        "library" => ServerKind::Ollama,
        "organization_owner" => ServerKind::LmStudio,
        _ => return None,
    })
}

/// One server of an engine.
pub(crate) fn server(engine: ServerKind) -> Box<dyn Server> {
    match engine {
        ServerKind::LlamaServer => Box::<llama::LlamaServer>::default(),
        ServerKind::Vllm => Box::<vllm::Vllm>::default(),
        ServerKind::Sglang => Box::<sglang::Sglang>::default(),
        ServerKind::TensorRtLlm => Box::new(tensorrt::TensorRtLlm),
        ServerKind::MistralRs => Box::new(mistral::MistralRs),
        ServerKind::Tgi => Box::new(tgi::Tgi),
        ServerKind::Ollama | ServerKind::LmStudio | ServerKind::MlxLm => {
            Box::new(silent::Silent(engine))
        }
    }
}
