//! The engines of a comparison, one a setting, over one model.

use std::sync::Arc;

use crate::engine::{Engine, EngineOptions, Prompt, RunInfo, SessionError, load_each};
use crate::telemetry::{Fluid, Look, StepRecord};
use crate::theory::cost::Cost;
use crate::theory::light::OracleCurve;

/// An automatic budget goes by the cost of passes, which is measured after so many steps where it is not known.
const FIRST_COST: usize = 3;

/// A step, and what was found out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The step.
    pub record: Arc<StepRecord>,
    /// What was found where it was looked at.
    pub look: Option<Look>,
    /// Mass of the oracle's trees of every size, where they were searched.
    pub curve: Option<Arc<OracleCurve>>,
    /// The fluid bound at length, where it is time to tell it.
    pub fluid: Option<Arc<Fluid>>,
    /// Whether the text ended with it.
    pub ended: bool,
}

/// Engines beside each other.
pub struct Lab {
    engines: Vec<Engine>,
    max_tokens: usize,
    look_every: usize,
    /// Whether the cost of passes was measured, or could not be.
    costed: bool,
}

impl Lab {
    /// Loads an engine for each of `all`. Each step of a text whose number is a multiple of `look_every` is looked at, off the clock;
    /// none for 0.
    ///
    /// # Errors
    /// If a model, a head or a drafter can't be had.
    pub fn load(all: &[EngineOptions], look_every: usize, tell: &mut dyn FnMut(&str, Option<f64>)) -> anyhow::Result<Lab> {
        let max_tokens = all.iter().map(|options| options.max_tokens).max().unwrap_or(0);
        Ok(Lab::of(load_each(all, tell)?, max_tokens, look_every))
    }

    /// Over engines that are there, for texts of up to `max_tokens`.
    pub(super) fn of(engines: Vec<Engine>, max_tokens: usize, look_every: usize) -> Lab {
        Lab { engines, max_tokens, look_every, costed: false }
    }

    /// What the first one runs.
    pub fn info(&self) -> RunInfo {
        self.engines.first().map(|engine| engine.info.clone()).unwrap_or_default()
    }

    /// What passes cost, where it is known.
    pub fn cost(&self) -> Option<&Cost> {
        self.engines.first()?.session.cost()
    }

    /// Why a prompt can't be run, where it can't.
    pub fn refuses(&self, prompt: &Prompt) -> Option<String> {
        let engine = self.engines.first()?;
        match (engine.tokens)(&prompt.text) {
            Ok(tokens) => engine.session.fits(tokens.len()).err().map(|why| why.to_string()),
            Err(why) => Some(why),
        }
    }

    /// Begins a prompt that is not refused in engine `lane`.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn begin(&mut self, lane: usize, prompt: &Prompt) -> anyhow::Result<()> {
        let engine = &mut self.engines[lane];
        let tokens = (engine.tokens)(&prompt.text).map_err(anyhow::Error::msg)?;
        Ok(engine.session.start(&prompt.id, &tokens, self.max_tokens)?)
    }

    /// Tokens of engine `lane`'s text, prompt and output; none where it has ended.
    pub fn position(&self, lane: usize) -> Option<usize> {
        let session = &self.engines.get(lane)?.session;
        (session.ending().is_none() && !session.tokens().is_empty()).then(|| session.tokens().len())
    }

    /// One step of engine `lane`. None where its text has ended.
    ///
    /// # Errors
    /// If a forward or a drafter fails.
    pub fn step(&mut self, lane: usize) -> anyhow::Result<Option<Made>> {
        let engine = &mut self.engines[lane];
        let Some(record) = engine.session.step()? else { return Ok(None) };
        let (mut look, mut curve) = (None, None);
        if engine.session.searches(record.step, self.look_every)
            && let Some(mut looking) = engine.session.search(record.step, true)?
        {
            while looking.refine()? {}
            (look, curve) = (Some(looking.found()), looking.curve());
        }
        let ended = engine.session.ending().is_some();
        let fluid = engine.session.fluid(ended).map(Arc::new);
        let due = ended || (engine.session.settings().auto && record.step + 1 >= FIRST_COST);
        if due {
            self.measure_cost(lane)?;
        }
        Ok(Some(Made { record: Arc::new(record), look, curve: curve.map(Arc::new), fluid, ended }))
    }

    /// Tokens a second of plain decoding after engine `lane`'s text. None before the first.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn calibrate(&mut self, lane: usize) -> Result<Option<f64>, SessionError> {
        self.engines[lane].session.calibrate()
    }

    /// What passes cost, once, where it is not known.
    fn measure_cost(&mut self, lane: usize) -> Result<(), SessionError> {
        if self.cost().is_some() || std::mem::replace(&mut self.costed, true) {
            return Ok(());
        }
        if let Some(cost) = self.engines[lane].measure_cost()? {
            self.engines.iter_mut().for_each(|engine| engine.session.set_cost(cost.clone()));
        }
        Ok(())
    }
}
