//! A drafting head: a small decoder over the target's hidden states, from a GGUF file of its own.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::gguf::Metadata;
use super::kernels::{CpuDecoder, Llama};
use super::load::{LoadError, Model};
use super::weights::Weights;
use crate::tree::TokenId;

/// What a head is to a drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadForm {
    /// A decoder layer over several hidden states and a token, which drafts by itself.
    #[default]
    Eagle,
    /// A feed-forward layer over one hidden state: what the early exit reads it by.
    Adapter,
}

impl HeadForm {
    /// The architecture that its file names.
    pub fn architecture(self) -> &'static str {
        match self {
            HeadForm::Eagle => "speclight-eagle",
            HeadForm::Adapter => "speclight-adapter",
        }
    }
}

/// What to do about a head that does not fit.
const CURE: &str = "train a head for this model: speclight train";

/// A head that comes with the program.
struct Shipped {
    /// The digest of its model's file.
    of: &'static str,
    form: HeadForm,
    name: &'static str,
    file: &'static [u8],
}

const SHIPPED: [Shipped; 2] = [
    Shipped {
        of: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        form: HeadForm::Eagle,
        name: "heads/SmolLM2-135M-Instruct.gguf",
        file: include_bytes!("../../heads/SmolLM2-135M-Instruct.gguf"),
    },
    Shipped {
        of: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        form: HeadForm::Adapter,
        name: "heads/SmolLM2-135M-Instruct.adapter.gguf",
        file: include_bytes!("../../heads/SmolLM2-135M-Instruct.adapter.gguf"),
    },
];

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
    /// What the file of a head says.
    ///
    /// # Errors
    /// If it says too little, or what can't be: one line.
    pub fn of(weights: &Weights) -> Result<About, LoadError> {
        let Some(metadata) = weights.metadata() else {
            return Err(LoadError::file(weights.path(), "has no metadata", None, CURE));
        };
        About::read(metadata, weights.config().vocab)
    }

    fn read(metadata: &Metadata, rows: usize) -> Result<About, LoadError> {
        let whole = |key: &str| -> Result<Vec<usize>, LoadError> {
            let numbers = metadata.numbers(key)?.ok_or_else(|| metadata.error(format!("has no metadata key {key}"), CURE))?;
            if numbers.iter().any(|x| x.fract() != 0.0 || !(0.0..4e9).contains(x)) || !numbers.is_sorted_by(|a, b| a < b) {
                return Err(metadata.error(format!("metadata key {key} holds no rising whole numbers"), CURE));
            }
            Ok(numbers.into_iter().map(|x| x as usize).collect())
        };
        let architecture = metadata.string("general.architecture")?.unwrap_or_default();
        let tokens = whole(&format!("{architecture}.tokens"))?;
        if tokens.len() != rows {
            let what = format!("metadata key {architecture}.tokens lists {} tokens for {rows} rows of output", tokens.len());
            return Err(metadata.error(what, CURE));
        }
        Ok(About {
            tokens: tokens.into_iter().map(|t| t as TokenId).collect(),
            after: whole(&format!("{architecture}.after"))?,
            card: metadata.string("general.description")?.unwrap_or_default().to_owned(),
        })
    }
}

impl Head {
    /// Loads the head of that form at `path` for `target`, onto the target's threads.
    ///
    /// # Errors
    /// If the file is missing, damaged or no such head, if it is for another model, or if the target does not run on the CPU path:
    /// one line.
    pub fn open(path: &Path, form: HeadForm, target: &Model) -> Result<Head, LoadError> {
        Head::of(&Weights::open_head(path, form)?, target)
    }

    /// The head of that form that comes with the program for the model of that digest, if there is one; for a model whose digest is not
    /// known, and on devices that run no heads, there is none.
    ///
    /// # Errors
    /// As [`Head::open`].
    pub fn shipped(sha256: Option<&str>, form: HeadForm, target: &Model) -> Result<Option<Head>, LoadError> {
        let found = SHIPPED.iter().find(|head| Some(head.of) == sha256 && head.form == form);
        let Some(Shipped { name, file, .. }) = found.filter(|_| target.kernels().is_some()) else { return Ok(None) };
        Head::of(&Weights::head_from(file, name, form)?, target).map(Some)
    }

    fn of(weights: &Weights, target: &Model) -> Result<Head, LoadError> {
        let path = weights.path();
        let about = About::of(weights)?;
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
        let llama = Llama::load_head(weights, of)?;
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
