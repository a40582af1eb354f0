//! Drafting quality of a head: decodes held-out prompts with it and counts acceptances.

use std::path::Path;
use std::sync::Arc;

use crate::draft::{Drafter, Eagle, EarlyExit, Shape};
use crate::engine::{FluidReport, Session, Vocabulary};
use crate::model::{Decoder, Head, HeadForm, Model};
use crate::telemetry::{LightTally, StepSettings, Tally};
use crate::train::{Corpus, DraftPerformance};
use crate::tree::TokenId;

/// Budget of the verify passes, in tokens.
const BUDGET: usize = 16;
/// Number of prompts, and generated tokens for each.
const TEXTS: usize = 8;
const TOKENS: usize = 64;
/// Context length of the decoder, in tokens: prompt, answer and tree must fit.
const CONTEXT_TOKENS: usize = 1024;
/// Interval between oracle searches at temperature 1, in steps.
const SEARCH_INTERVAL: usize = 8;

/// Model and held-out prompts to measure heads on.
pub struct DraftTrial {
    model: Model,
    form: HeadForm,
    prompts: Vec<Vec<TokenId>>,
}

impl DraftTrial {
    /// Reads the first prompts of the held-out texts of `corpus`, which are one in `every`.
    ///
    /// # Errors
    /// If the corpus can't be read.
    pub fn new(
        model: Model,
        form: HeadForm,
        corpus: &mut Corpus,
        every: usize,
    ) -> anyhow::Result<DraftTrial> {
        let mut prompts = Vec::new();
        for i in (0..corpus.len()).step_by(every) {
            let text = corpus.read(i)?;
            let prompt =
                text.tokens[..(text.prompt_tokens as usize).min(text.tokens.len())].to_vec();
            if prompt.len() + TOKENS + BUDGET < CONTEXT_TOKENS {
                prompts.push(prompt);
            }
            if prompts.len() == TEXTS {
                break;
            }
        }
        Ok(DraftTrial { model, form, prompts })
    }

    /// Measures the head in file `path`, greedily and at temperature 1.
    ///
    /// # Errors
    /// If the head can't be loaded, or a pass fails.
    pub fn of(&self, path: &Path) -> anyhow::Result<DraftPerformance> {
        let head = Head::open(path, self.form, &self.model)?;
        let mut target: Box<dyn Decoder> = self.model.decoder(CONTEXT_TOKENS)?;
        let drafter: Box<dyn Drafter> = match self.form {
            HeadForm::Eagle => {
                target.keep_hidden(&head.info().source_layers);
                Box::new(Eagle::new(&head, CONTEXT_TOKENS))
            }
            HeadForm::Adapter => {
                Box::new(EarlyExit::with_adapter(&head, self.model.config().layers)?)
            }
        };
        let tokenizer = self.model.tokenizer();
        let vocabulary =
            Arc::new(Vocabulary::new(tokenizer.token_bytes(), tokenizer.stop_tokens().to_vec()));
        let settings = |temperature: f32| {
            StepSettings::new(drafter.info().kind, Shape::BestFirst, BUDGET, temperature)
        };
        let (greedy, sampling) = (settings(0.0), settings(1.0));
        let mut session = Session::new(target, vec![drafter], vocabulary, greedy.clone())?;
        let greedy = self.decode(&mut session, greedy, &mut LightTally::default())?;
        let mut light = LightTally::default();
        let sampled = self.decode(&mut session, sampling, &mut light)?;
        let curve =
            session.fluid(FluidReport::AnyNewPosition).map(|fluid| fluid.curve).unwrap_or_default();
        Ok(DraftPerformance {
            greedy_tokens_per_step: greedy.summary(None).tokens_per_step,
            expected_accepted: sampled.summary(None).expected_accepted_mean,
            fluid: curve.get(BUDGET - 1).copied(),
            speed_of_light: light.summary(session.cost(), &curve),
        })
    }

    /// Decodes all prompts and adds the steps to `light`.
    ///
    /// Some of the steps have an oracle search.
    ///
    /// # Errors
    /// If a pass or the drafter fails.
    fn decode(
        &self,
        session: &mut Session,
        settings: StepSettings,
        light: &mut LightTally,
    ) -> anyhow::Result<Tally> {
        let greedy = settings.temperature == 0.0;
        session.set(settings)?;
        let mut tally = Tally::default();
        for (i, prompt) in self.prompts.iter().enumerate() {
            session.start(&i.to_string(), prompt, TOKENS)?;
            if session.cost().is_none() {
                session.measure_cost()?;
            }
            let mut last = None;
            while let Some(record) = session.step()? {
                tally.add(&record);
                light.add(&record);
                if !greedy
                    && let Some(search) = session.search_if_due(record.step, SEARCH_INTERVAL)?
                    && let Some(curve) = search.curve()
                {
                    let best = search.result().drafter_best;
                    light.add_search_at(&record.prompt_id, record.step, best, &curve);
                }
                last = Some(record);
            }
            light.end_text(last.as_ref());
        }
        Ok(tally)
    }
}
