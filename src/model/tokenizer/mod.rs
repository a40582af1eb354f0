//! Tokenizers: text to tokens, and the bytes that each token adds to a text.
//!
//! A tokenizer is read from GGUF metadata or from tokenizer.json, and built on the `tokenizers`
//! crate. `vocabulary` determines which tokens are special, which end a text, and how tokens are
//! spelled.

mod gguf;
mod json;
mod pieces;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use vocabulary::{Tokenizer, same_vocabulary};

use super::error::LoadError;
use super::format::weights::Weights;
use crate::tree::TokenId;
use vocabulary::SpecialTokens;

impl Tokenizer {
    /// Reads the tokenizer that comes with `weights`.
    ///
    /// It is in the metadata of a GGUF file, or in tokenizer.json in a folder of safetensors.
    ///
    /// # Errors
    /// If there is no tokenizer, its kind is not supported, or it is damaged.
    pub fn open(weights: &Weights) -> Result<Tokenizer, LoadError> {
        let mut tokenizer = match weights.metadata() {
            Some(metadata) => gguf::read(metadata)?,
            None => json::read(weights.path())?,
        };
        let (tokens, rows) = (tokenizer.len(), weights.config().vocab);
        // Added tokens that were never trained may lack an embedding row; they are dropped.
        if tokens > rows && tokenizer.tokens[rows..].iter().all(|token| token.added) {
            tokenizer.tokens.truncate(rows);
            let known = |id: &TokenId| (*id as usize) < rows;
            tokenizer.stop.retain(known);
            tokenizer.bos = tokenizer.bos.filter(known);
            tokenizer.special = SpecialTokens {
                bos: tokenizer.special.bos.filter(known),
                eos: tokenizer.special.eos.filter(known),
            };
        } else if tokens > rows {
            let what = format!("the tokenizer has {tokens} tokens, and the embedding {rows} rows");
            return Err(LoadError::file(
                &tokenizer.path,
                what,
                None,
                "take tokenizer and weights of the same model",
            ));
        }
        Ok(tokenizer)
    }
}
