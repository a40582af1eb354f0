//! Engines of a comparison, one per setting, over one model.

use std::sync::Arc;

use crate::engine::{Engine, EngineOptions, FluidReport, Prompt, RunInfo, SessionError, load_each};
use crate::telemetry::{FluidBound, OracleResult, StepRecord};
use crate::theory::cost::CostCurve;
use crate::theory::light::OracleCurve;

/// Number of steps after which the cost of passes is measured for an automatic budget.
///
/// Applies if the cost is not known yet.
const COST_AFTER_STEPS: usize = 3;

/// Step with the results that were computed after it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedStep {
    /// Record of the step.
    pub record: Arc<StepRecord>,
    /// Result of the oracle search, if the step was searched.
    pub search_result: Option<OracleResult>,
    /// Mass of the oracle trees by size, if the step was searched.
    pub curve: Option<Arc<OracleCurve>>,
    /// Fluid bound with its details, at the steps where it is updated.
    pub fluid: Option<Arc<FluidBound>>,
    /// The text ended with this step.
    pub ended: bool,
}

/// Engines of all settings.
pub struct EngineSet {
    engines: Vec<Engine>,
    max_tokens: usize,
    look_every: usize,
    /// Cost of passes was measured, or could not be.
    costed: bool,
}

impl EngineSet {
    /// Loads an engine for each of `all`.
    ///
    /// The oracle tree of one step in `look_every` is searched, outside the measured time; 0
    /// searches none.
    ///
    /// # Errors
    /// If a model, a head or a drafter can't be loaded.
    pub fn load(
        all: &[EngineOptions],
        look_every: usize,
        tell: &mut dyn FnMut(&str, Option<f64>),
    ) -> anyhow::Result<EngineSet> {
        let max_tokens = all.iter().map(|options| options.max_tokens).max().unwrap_or(0);
        Ok(EngineSet::of(load_each(all, tell)?, max_tokens, look_every))
    }

    /// Uses loaded engines, for texts of up to `max_tokens` tokens.
    pub(super) fn of(engines: Vec<Engine>, max_tokens: usize, look_every: usize) -> EngineSet {
        EngineSet { engines, max_tokens, look_every, costed: false }
    }

    /// Returns model, device and kernel of the first engine.
    pub fn info(&self) -> RunInfo {
        self.engines.first().map(|engine| engine.info.clone()).unwrap_or_default()
    }

    /// Returns the cost of passes, if known.
    pub fn cost(&self) -> Option<&CostCurve> {
        self.engines.first()?.session.cost()
    }

    /// Returns the reason why a prompt can't be run, if it can't.
    pub fn refuses(&self, prompt: &Prompt) -> Option<String> {
        let engine = self.engines.first()?;
        match (engine.tokens)(&prompt.text) {
            Ok(tokens) => {
                engine.session.check_prompt_length(tokens.len()).err().map(|why| why.to_string())
            }
            Err(why) => Some(why),
        }
    }

    /// Starts a prompt in engine `lane`; the prompt must not be one that [`EngineSet::refuses`].
    ///
    /// # Errors
    /// If a forward pass fails.
    pub fn begin(&mut self, lane: usize, prompt: &Prompt) -> anyhow::Result<()> {
        let engine = &mut self.engines[lane];
        let tokens = (engine.tokens)(&prompt.text).map_err(anyhow::Error::msg)?;
        Ok(engine.session.start(&prompt.id, &tokens, self.max_tokens)?)
    }

    /// Returns the number of tokens of engine `lane`'s text, prompt included.
    ///
    /// `None` if no text is running.
    pub fn position(&self, lane: usize) -> Option<usize> {
        let session = &self.engines.get(lane)?.session;
        (session.ending().is_none() && !session.tokens().is_empty()).then(|| session.tokens().len())
    }

    /// Makes one step of engine `lane`; `None` if its text has ended.
    ///
    /// # Errors
    /// If a forward pass or a drafter fails.
    pub fn step(&mut self, lane: usize) -> anyhow::Result<Option<ComparedStep>> {
        let engine = &mut self.engines[lane];
        let Some(record) = engine.session.step()? else { return Ok(None) };
        let (mut result, mut curve) = (None, None);
        if let Some(search) = engine.session.search_if_due(record.step, self.look_every)? {
            (result, curve) = (Some(search.result()), search.curve());
        }
        let ended = engine.session.ending().is_some();
        let fluid = engine.session.fluid(FluidReport::after_step(ended)).map(Arc::new);
        let due = ended || (engine.session.settings().auto && record.step + 1 >= COST_AFTER_STEPS);
        if due {
            self.measure_cost(lane)?;
        }
        Ok(Some(ComparedStep {
            record: Arc::new(record),
            search_result: result,
            curve: curve.map(Arc::new),
            fluid,
            ended,
        }))
    }

    /// Measures tokens per second of plain decoding after engine `lane`'s text.
    ///
    /// `None` before the first text.
    ///
    /// # Errors
    /// If a forward pass fails.
    pub fn time_plain(&mut self, lane: usize) -> Result<Option<f64>, SessionError> {
        self.engines[lane].session.measure_plain_rate()
    }

    /// Measures the cost of passes, at most once, if it is not known.
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
