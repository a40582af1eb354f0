//! A drafting head: a small decoder over the target's hidden states, from a GGUF file of its own.

use std::path::Path;
use std::sync::Arc;

use super::gguf::Metadata;
use super::kernels::{CpuDecoder, Llama};
use super::load::{LoadError, Model};
use super::weights::Weights;
use crate::tree::TokenId;

/// The architecture that a head's file names.
pub const ARCHITECTURE: &str = "speclight-eagle";
/// What to do about a head that does not fit.
const CURE: &str = "train a head for this model: speclight train";

/// A head that is ready to run, and the target that it is for.
#[derive(Debug)]
pub struct Head {
    llama: Arc<Llama>,
    about: About,
}

/// What a head's file says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Its output's tokens, by their numbers in the target's vocabulary, rising: row i of its output is token `tokens[i]`.
    pub tokens: Arc<[TokenId]>,
    /// Behind so many of the target's layers it reads hidden states; rising.
    pub after: Vec<usize>,
    /// What it was trained on and how, in one line.
    pub card: String,
}

impl About {
    fn read(metadata: &Metadata, rows: usize) -> Result<About, LoadError> {
        let whole = |key: &str| -> Result<Vec<usize>, LoadError> {
            let numbers = metadata.numbers(key)?.ok_or_else(|| metadata.error(format!("has no metadata key {key}"), CURE))?;
            if numbers.iter().any(|x| x.fract() != 0.0 || !(0.0..4e9).contains(x)) || !numbers.is_sorted_by(|a, b| a < b) {
                return Err(metadata.error(format!("metadata key {key} holds no rising whole numbers"), CURE));
            }
            Ok(numbers.into_iter().map(|x| x as usize).collect())
        };
        let tokens = whole(&format!("{ARCHITECTURE}.tokens"))?;
        if tokens.len() != rows {
            let what = format!("metadata key {ARCHITECTURE}.tokens lists {} tokens for {rows} rows of output", tokens.len());
            return Err(metadata.error(what, CURE));
        }
        Ok(About {
            tokens: tokens.into_iter().map(|t| t as TokenId).collect(),
            after: whole(&format!("{ARCHITECTURE}.after"))?,
            card: metadata.string("general.description")?.unwrap_or_default().to_owned(),
        })
    }
}

impl Head {
    /// Loads the head at `path` for `target`, onto the target's threads.
    ///
    /// # Errors
    /// If the file is missing, damaged or no head, if it is for another model, or if the target does not run on the CPU path:
    /// one line.
    pub fn open(path: &Path, target: &Model) -> Result<Head, LoadError> {
        let weights = Weights::open_head(path, ARCHITECTURE)?;
        let Some(metadata) = weights.metadata() else {
            return Err(LoadError::file(path, "is a folder, where the file of a head was expected", None, CURE));
        };
        let about = About::read(metadata, weights.config().vocab)?;
        let error = |what: String| Err(LoadError::file(path, what, None, CURE));
        let (vocab, layers) = (target.config().vocab, target.config().layers);
        if let Some(token) = about.tokens.last().filter(|token| **token as usize >= vocab) {
            return error(format!("puts out token {token}, and the target has {vocab}"));
        }
        if about.after.first() == Some(&0) || about.after.last().is_none_or(|last| *last > layers) {
            return error(format!("reads hidden states behind {:?} layers, and the target has {layers}", about.after));
        }
        let Some(of) = target.kernels() else {
            return error("can't be run: heads run on the CPU path alone".into());
        };
        let llama = Llama::load_head(&weights, of)?;
        if llama.fused() != about.after.len() {
            return error(format!("fuses {} hidden states and names {} layers", llama.fused(), about.after.len()));
        }
        Ok(Head { llama: Arc::new(llama), about })
    }

    /// What its file says about it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Decoder layers.
    pub fn layers(&self) -> usize {
        self.llama.config().layers
    }

    /// Bytes of its packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.llama.weight_bytes()
    }

    /// An empty context with room for `capacity` positions.
    pub fn decoder(&self, capacity: usize) -> CpuDecoder {
        CpuDecoder::new(Arc::clone(&self.llama), capacity)
    }
}
