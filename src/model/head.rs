//! Drafting heads: small decoders over the target's hidden states.
//!
//! A head comes from a GGUF file of its own, or from the heads built into the program. It runs on
//! the CPU path alone, on the target's threads, and may have a vocabulary smaller than the
//! target's.

use std::path::Path;
use std::sync::Arc;

use super::cpu::{CpuDecoder, Llama};
use super::error::LoadError;
use super::format::gguf::Metadata;
use super::format::weights::Weights;
use super::head_form::HeadForm;
use super::load::Model;
use crate::tree::TokenId;

/// Fix for a head that does not fit the target.
const CURE: &str = "train a head for this model: speclight train";

/// Head that is built into the program.
struct BuiltInHead {
    /// SHA-256 of the target's model file.
    of: &'static str,
    form: HeadForm,
    name: &'static str,
    file: &'static [u8],
}

const BUILT_IN_HEADS: [BuiltInHead; 2] = [
    BuiltInHead {
        of: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        form: HeadForm::Eagle,
        name: "heads/SmolLM2-135M-Instruct.gguf",
        file: include_bytes!("../../heads/SmolLM2-135M-Instruct.gguf"),
    },
    BuiltInHead {
        of: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        form: HeadForm::Adapter,
        name: "heads/SmolLM2-135M-Instruct.adapter.gguf",
        file: include_bytes!("../../heads/SmolLM2-135M-Instruct.adapter.gguf"),
    },
];

/// A drafting head that is loaded for a target.
#[derive(Debug)]
pub struct Head {
    llama: Arc<Llama>,
    about: HeadInfo,
}

/// Description of a head, read from its file.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadInfo {
    /// Tokens of the output in ascending order: row i of the output is token `tokens[i]`.
    ///
    /// Ids are those of the target's vocabulary.
    pub tokens: Arc<[TokenId]>,
    /// Target layers whose output the head reads, as numbers of layers from 1, ascending.
    pub source_layers: Vec<usize>,
    /// Summary of the training data and settings, in one line.
    pub card: String,
}

impl HeadInfo {
    /// Reads the description of a head from its weights.
    ///
    /// # Errors
    /// Returns one line if a key is missing or invalid.
    pub fn read_info(weights: &Weights) -> Result<HeadInfo, LoadError> {
        let Some(metadata) = weights.metadata() else {
            return Err(LoadError::file(weights.path(), "has no metadata", None, CURE));
        };
        HeadInfo::read(metadata, weights.config().vocab)
    }

    fn read(metadata: &Metadata, rows: usize) -> Result<HeadInfo, LoadError> {
        let whole = |key: &str| -> Result<Vec<usize>, LoadError> {
            let numbers = metadata
                .numbers(key)?
                .ok_or_else(|| metadata.error(format!("has no metadata key {key}"), CURE))?;
            if numbers.iter().any(|x| x.fract() != 0.0 || !(0.0..4e9).contains(x))
                || !numbers.is_sorted_by(|a, b| a < b)
            {
                return Err(metadata
                    .error(format!("metadata key {key} holds no rising whole numbers"), CURE));
            }
            Ok(numbers.into_iter().map(|x| x as usize).collect())
        };
        let architecture = metadata.string("general.architecture")?.unwrap_or_default();
        let tokens = whole(&format!("{architecture}.tokens"))?;
        if tokens.len() != rows {
            let what = format!(
                "metadata key {architecture}.tokens lists {} tokens for {rows} rows of output",
                tokens.len()
            );
            return Err(metadata.error(what, CURE));
        }
        Ok(HeadInfo {
            tokens: tokens.into_iter().map(|t| t as TokenId).collect(),
            source_layers: whole(&format!("{architecture}.after"))?,
            card: metadata.string("general.description")?.unwrap_or_default().to_owned(),
        })
    }
}

impl Head {
    /// Loads the head of the given form at `path`, onto the threads of `target`.
    ///
    /// # Errors
    /// Returns one line if the file is missing, damaged or not such a head, if it is for another
    /// model, or if the target does not run on the CPU path.
    pub fn open(path: &Path, form: HeadForm, target: &Model) -> Result<Head, LoadError> {
        Head::of(&Weights::open_head(path, form)?, target)
    }

    /// Loads the built-in head of the given form for the model with this digest.
    ///
    /// Returns `None` if there is no such head, the digest is unknown, or the target's device does
    /// not run heads.
    ///
    /// # Errors
    /// As [`Head::open`].
    pub fn load_built_in(
        sha256: Option<&str>,
        form: HeadForm,
        target: &Model,
    ) -> Result<Option<Head>, LoadError> {
        let found = BUILT_IN_HEADS.iter().find(|head| Some(head.of) == sha256 && head.form == form);
        let Some(BuiltInHead { name, file, .. }) = found.filter(|_| target.cpu_llama().is_some())
        else {
            return Ok(None);
        };
        Head::of(&Weights::head_from_bytes(file, name, form)?, target).map(Some)
    }

    fn of(weights: &Weights, target: &Model) -> Result<Head, LoadError> {
        let path = weights.path();
        let about = HeadInfo::read_info(weights)?;
        let error = |what: String| Err(LoadError::file(path, what, None, CURE));
        let (vocab, layers) = (target.config().vocab, target.config().layers);
        if let Some(token) = about.tokens.last().filter(|token| **token as usize >= vocab) {
            return error(format!("puts out token {token}, and the target has {vocab}"));
        }
        if about.source_layers.first() == Some(&0)
            || about.source_layers.last().is_none_or(|last| *last > layers)
        {
            return error(format!(
                "reads hidden states behind {:?} layers, and the target has {layers}",
                about.source_layers
            ));
        }
        let Some(of) = target.cpu_llama() else {
            return error("can't be run: heads run on the CPU path alone".into());
        };
        let llama = Llama::load_head(weights, of)?;
        if llama.fused() != about.source_layers.len() {
            return error(format!(
                "fuses {} hidden states and names {} layers",
                llama.fused(),
                about.source_layers.len()
            ));
        }
        Ok(Head { llama: Arc::new(llama), about })
    }

    /// Returns the description of the head.
    pub fn info(&self) -> &HeadInfo {
        &self.about
    }

    /// Number of decoder layers.
    pub fn layers(&self) -> usize {
        self.llama.config().layers
    }

    /// Size of the packed weights in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.llama.weight_bytes()
    }

    /// Creates an empty context for `capacity` positions.
    pub fn decoder(&self, capacity: usize) -> CpuDecoder {
        CpuDecoder::new(Arc::clone(&self.llama), capacity)
    }
}
