//! Loads a model from a path: weights onto a device, tokenizer, and chat template.
//!
//! [`Model`] is what the rest of the crate works with; it chooses the CPU path or candle by device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DeviceLocation;

use super::candle::{self, CandleDecoder, Precision};
use super::chat::ChatTemplate;
use super::cpu::{self, CpuDecoder};
use super::device::{DeviceChoice, granted_threads};
use super::error::LoadError;
use super::format::quant::TensorFormat;
use super::format::weights::Weights;
use super::tokenizer::Tokenizer;
use super::{Config, Decoder, ForwardError};
use crate::tree::TokenId;

/// A loaded model: weights on a device, tokenizer, and chat template.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    config: Config,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    quantisation: TensorFormat,
    forward: Forward,
    weight_bytes: u64,
    /// Bytes of the longest token; at least 1.
    longest_token: usize,
}

/// Backend that runs the forward pass.
#[derive(Debug)]
enum Forward {
    Cpu(Arc<cpu::Llama>),
    Candle(Arc<candle::Llama>),
}

impl Model {
    /// Loads a GGUF file or a folder of safetensors onto a device.
    ///
    /// `threads` is the number of threads of the CPU path; see [`granted_threads`].
    ///
    /// # Errors
    /// Returns one line if files are missing or damaged, or the device is not available.
    pub fn open(
        path: &Path,
        device: DeviceChoice,
        threads: Option<usize>,
    ) -> Result<Model, LoadError> {
        let device = device.open()?;
        let weights = Weights::open(path)?;
        let template = ChatTemplate::open(&weights)?;
        // The tokenizer is built while the weights are read.
        let (tokenizer, forward) = std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().spawn_scoped(scope, || Tokenizer::open(&weights));
            let forward = if device.is_cpu() {
                cpu::Llama::load(&weights, granted_threads(threads))
                    .map(|llama| Forward::Cpu(Arc::new(llama)))
            } else {
                candle::Llama::load(&weights, &device, Precision::Stored)
                    .map(|llama| Forward::Candle(Arc::new(llama)))
            };
            // If no thread could be started, it is built here.
            (thread.map_or_else(|_| Ok(Tokenizer::open(&weights)), |thread| thread.join()), forward)
        });
        let forward = forward?;
        let weight_bytes = match &forward {
            Forward::Cpu(llama) => llama.weight_bytes() as u64,
            // A pass reads only a few rows of an embedding that is not tied to the head.
            Forward::Candle(_) => {
                let unread =
                    |name: &str| name == "token_embd.weight" && name != weights.output_matrix();
                weights
                    .tensors()
                    .filter(|t| !unread(&t.name))
                    .map(|t| (t.rows * t.row_bytes()) as u64)
                    .sum()
            }
        };
        let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Self {
            weight_bytes,
            longest_token: (0..tokenizer.len())
                .filter_map(|id| tokenizer.token_text(id as TokenId))
                .map(str::len)
                .fold(1, usize::max),
            path: path.to_owned(),
            config: weights.config().clone(),
            tokenizer,
            template,
            quantisation: main_kind(&weights),
            forward,
        })
    }

    /// Path of the file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Replaces the model's chat template with `source`, in the Jinja language.
    pub fn set_chat_template(&mut self, source: &str) {
        self.template = Some(ChatTemplate::new(self.path.clone(), source));
    }

    /// Describes the device: "cpu (avx2, 2 threads)", "cuda:0", "metal".
    pub fn device_name(&self) -> String {
        let llama = match &self.forward {
            Forward::Cpu(llama) if llama.threads() == 1 => {
                return format!("cpu ({}, 1 thread)", llama.kernel_name());
            }
            Forward::Cpu(llama) => {
                return format!("cpu ({}, {} threads)", llama.kernel_name(), llama.threads());
            }
            Forward::Candle(llama) => llama,
        };
        match llama.device().location() {
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { .. } => "metal".into(),
            DeviceLocation::Cpu => "cpu".into(),
        }
    }

    /// Name of the CPU kernel, or "candle" if candle runs the model.
    pub fn kernel(&self) -> &'static str {
        match &self.forward {
            Forward::Cpu(llama) => llama.kernel_name(),
            Forward::Candle(_) => "candle",
        }
    }

    /// Packed weights of the CPU path; `None` on other devices.
    pub(super) fn cpu_llama(&self) -> Option<&Arc<cpu::Llama>> {
        match &self.forward {
            Forward::Cpu(llama) => Some(llama),
            Forward::Candle(_) => None,
        }
    }

    /// Formats in the file that the CPU path converted to Q8_0, which loses precision.
    ///
    /// It does so for formats that it has no kernel for. Empty on other devices.
    pub fn rounded_formats(&self) -> Vec<&'static str> {
        match &self.forward {
            Forward::Cpu(llama) => {
                llama.requantized_kinds().iter().map(|kind| kind.name()).collect()
            }
            Forward::Candle(_) => Vec::new(),
        }
    }

    /// Number of threads of the CPU path; `None` on other devices.
    pub fn threads(&self) -> Option<usize> {
        match &self.forward {
            Forward::Cpu(llama) => Some(llama.threads()),
            Forward::Candle(_) => None,
        }
    }

    /// Bytes of weights that a pass reads, however few its tokens.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Name of the format that most bytes of the linear layers have, such as "Q4_1".
    pub fn quantization(&self) -> String {
        self.quantisation.name().into()
    }

    /// Returns the tokens of a prompt.
    ///
    /// `text` is rendered in the model's chat template, or used unchanged if `raw` is set or the
    /// model has none. A BOS token is added in front if the model uses one.
    ///
    /// # Errors
    /// If the text can't fit into the context, or the chat template fails.
    pub fn prompt_tokens(&self, text: &str, raw: bool) -> Result<Vec<TokenId>, LoadError> {
        self.fits(text)?;
        let mut tokens = match self.template.as_ref().filter(|_| !raw) {
            Some(template) => self
                .tokenizer
                .encode(&template.render(text, self.tokenizer.bos_and_eos_texts())?, true)?,
            None => self.tokenizer.encode(text, false)?,
        };
        // Many templates write the BOS token themselves.
        if let Some(bos) = self.tokenizer.bos().filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Rejects a text that can't fit into the context, before it is tokenized.
    ///
    /// Tokenizing takes hundreds of bytes of memory per byte of text.
    fn fits(&self, text: &str) -> Result<(), LoadError> {
        // Normalization may shorten a text, but hardly to a quarter.
        let least = text.len() / (4 * self.longest_token);
        if least <= self.config.context {
            return Ok(());
        }
        let what = format!(
            "the prompt has {} bytes, which are more tokens than the context of {}",
            text.len(),
            self.config.context
        );
        Err(LoadError::file(&self.path, what, None, "make the prompt shorter"))
    }

    /// Creates an empty context for `capacity` positions, at most the model's context length.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn decoder(&self, capacity: usize) -> Result<Box<dyn Decoder>, ForwardError> {
        let capacity = capacity.min(self.config.context);
        match &self.forward {
            Forward::Cpu(llama) => Ok(Box::new(CpuDecoder::try_new(Arc::clone(llama), capacity)?)),
            Forward::Candle(llama) => {
                Ok(Box::new(CandleDecoder::new(Arc::clone(llama), capacity)?))
            }
        }
    }

    /// Creates an empty context on the CPU path; `None` on other devices.
    ///
    /// Its type has methods beyond [`Decoder`].
    pub fn cpu_decoder(&self, capacity: usize) -> Option<CpuDecoder> {
        Some(CpuDecoder::new(Arc::clone(self.cpu_llama()?), capacity.min(self.config.context)))
    }
}

/// Formats in a file that the CPU path would convert to Q8_0, as in [`Model::rounded_formats`].
///
/// # Errors
/// If the file can't be read.
pub fn formats_to_round(path: &Path) -> Result<Vec<&'static str>, LoadError> {
    let weights = Weights::open(path)?;
    // Rows of an embedding that is not tied to the head are read without conversion.
    let looked_up = |name: &str| name == "token_embd.weight" && name != weights.output_matrix();
    let matrices = weights.tensors().filter(|t| t.rows > 1 && !looked_up(&t.name));
    let mut kinds: Vec<_> =
        matrices.filter(|t| cpu::needs_requantizing(t.kind)).map(|t| t.kind.name()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

/// Format that most bytes of the layers' matrices have.
fn main_kind(weights: &Weights) -> TensorFormat {
    let bytes = |kind: TensorFormat| -> usize {
        let linear = weights
            .tensors()
            .filter(|t| t.name.starts_with("blk.") && t.rows > 1 && t.kind == kind);
        linear.map(|t| t.rows * t.row_bytes()).sum()
    };
    TensorFormat::ALL.into_iter().max_by_key(|&kind| bytes(kind)).unwrap_or(TensorFormat::F32)
}
