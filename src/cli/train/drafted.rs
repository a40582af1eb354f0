//! What a head is worth when it drafts: the texts that were held out, begun anew by their prompts.

use std::path::Path;
use std::sync::Arc;

use crate::draft::{Drafter, Eagle, EarlyExit, Shape};
use crate::engine::{Session, Vocabulary};
use crate::model::{Decoder, Head, HeadForm, Model};
use crate::telemetry::{StepSettings, Tally};
use crate::train::{Corpus, Drafted};
use crate::tree::TokenId;

/// Budget that is tried.
const BUDGET: usize = 16;
/// Texts that are tried, and the tokens of each.
const TEXTS: usize = 8;
const TOKENS: usize = 64;
/// A prompt and its answer have room for so many tokens.
const ROOM: usize = 1024;

/// The prompts to try.
pub struct Trial {
    model: Model,
    form: HeadForm,
    prompts: Vec<Vec<TokenId>>,
}

impl Trial {
    /// The first prompts of the texts of `corpus` that are held out, one in `every`.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn new(model: Model, form: HeadForm, corpus: &mut Corpus, every: usize) -> anyhow::Result<Trial> {
        let mut prompts = Vec::new();
        for i in (0..corpus.len()).step_by(every) {
            let text = corpus.read(i)?;
            let prompt = text.tokens[..(text.prompt_tokens as usize).min(text.tokens.len())].to_vec();
            if prompt.len() + TOKENS + BUDGET < ROOM {
                prompts.push(prompt);
            }
            if prompts.len() == TEXTS {
                break;
            }
        }
        Ok(Trial { model, form, prompts })
    }

    /// Drafts with the head at `path`.
    ///
    /// # Errors
    /// If it can't be loaded, or a pass fails.
    pub fn of(&self, path: &Path) -> anyhow::Result<Drafted> {
        let head = Head::open(path, self.form, &self.model)?;
        let mut target: Box<dyn Decoder> = self.model.decoder(ROOM)?;
        let drafter: Box<dyn Drafter> = match self.form {
            HeadForm::Eagle => {
                target.keep_hidden(&head.about().after);
                Box::new(Eagle::new(&head, ROOM))
            }
            HeadForm::Adapter => Box::new(EarlyExit::with(&head, self.model.config().layers)?),
        };
        let tokenizer = self.model.tokenizer();
        let vocabulary = Arc::new(Vocabulary::new(tokenizer.token_bytes(), tokenizer.stop().to_vec()));
        let settings = |temperature: f32| StepSettings::new(drafter.name(), Shape::BestFirst.name(), BUDGET, temperature);
        let (greedy, sampling) = (settings(0.0), settings(1.0));
        let mut session = Session::new(target, vec![drafter], vocabulary, greedy.clone())?;
        let mut decode = |settings: StepSettings| -> anyhow::Result<(Tally, Option<f64>)> {
            session.set(settings)?;
            let mut tally = Tally::default();
            for (i, prompt) in self.prompts.iter().enumerate() {
                session.start(&i.to_string(), prompt, TOKENS)?;
                while let Some(record) = session.step()? {
                    tally.add(&record);
                }
            }
            Ok((tally, session.fluid(true).and_then(|fluid| fluid.curve.get(BUDGET - 1).copied())))
        };
        let (greedy, _) = decode(greedy)?;
        let (sampled, fluid) = decode(sampling)?;
        Ok(Drafted {
            greedy_tokens_per_step: greedy.summary(None).tokens_per_step,
            expected_accepted: sampled.summary(None).expected_accepted_mean,
            fluid,
        })
    }
}
