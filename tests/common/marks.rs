//! Invariants between the gauge's marks at every step, for any settings.
//!
//! See docs/bounds.md, "The ceilings on one ruler": the oracle's tree has at least the value of the
//! drafter's best tree at B, that one at least the value of the verified tree, and accepted tokens
//! match the expectation up to sampling error.

use std::sync::mpsc;

use speclight::engine::{Command, EngineOptions, Event, drive};
use speclight::telemetry::{OracleResult, StepRecord};

/// Tolerance for the rounding of recorded probabilities.
const ROUNDING: f64 = 1e-9;

/// Statistics of a run.
#[derive(Default)]
pub struct Marks {
    /// Number of steps in the run.
    pub steps: usize,
    /// Number of steps with an oracle search.
    pub searches: usize,
    /// Number of searches whose bounds did not converge.
    pub unconverged: usize,
    /// Descriptions of the steps whose marks are out of order.
    pub exceptions: Vec<String>,
    /// Sum of E\[X | T\] over all steps.
    expected: f64,
    /// Sums of accepted - E\[X | T\] and of its square.
    luck: (f64, f64),
    /// Sums over the searched steps of E\[X | T\] and the oracle mass's bounds.
    searched: (f64, f64, f64),
    /// Fluid bound of the last step.
    pub fluid: Option<f64>,
}

impl Marks {
    /// Runs `options` to the end and searches every `every`th step of a text.
    ///
    /// # Errors
    /// The message with which the engine failed, or refused a command.
    pub fn measure(options: EngineOptions, every: usize) -> Result<Marks, String> {
        let (commands, orders) = mpsc::channel();
        commands.send(Command::SearchEvery(every)).map_err(|e| e.to_string())?;
        let (mut marks, mut last, mut why) = (Marks::default(), None, None);
        drive(options, &orders, &mut |event| {
            match event {
                Event::Step(record) => {
                    marks.step(&record);
                    last = Some(record);
                }
                Event::OracleSearched { prompt_id, step, result, .. } => match &last {
                    Some(record) if record.prompt_id == prompt_id && record.step == step => {
                        marks.add_search(record, &result)
                    }
                    _ => {
                        why = Some(format!(
                            "a search of step {step} of prompt {prompt_id}, which is not the last one"
                        ))
                    }
                },
                Event::Failed(line) | Event::Refused(line) => why = Some(line),
                _ => {}
            }
            why.is_none()
        });
        why.map_or(Ok(marks), Err)
    }

    fn step(&mut self, record: &StepRecord) {
        let luck = record.accepted as f64 - record.expected_accepted;
        self.steps += 1;
        self.expected += record.expected_accepted;
        self.luck = (self.luck.0 + luck, self.luck.1 + luck * luck);
        self.fluid = record.ceilings.fluid;
    }

    fn add_search(&mut self, record: &StepRecord, result: &OracleResult) {
        let (expected, best) = (record.expected_accepted, result.drafter_best);
        self.searches += 1;
        self.unconverged += usize::from(!result.converged());
        self.searched.0 += expected;
        self.searched.1 += result.oracle_lower;
        self.searched.2 += result.oracle_upper;
        let ordered = result.oracle_lower <= result.oracle_upper + ROUNDING
            && best.is_some_and(|best| {
                best <= result.oracle_upper + ROUNDING && expected <= best + ROUNDING
            });
        if !ordered {
            let at = format!("prompt {}, step {}", record.prompt_id, record.step);
            self.exceptions
                .push(format!("{at}: E[X|T] {expected}, drafter's best {best:?}, {result:?}"));
        }
    }

    /// Returns the mean of E\[X | T\] per step.
    pub fn expected(&self) -> f64 {
        self.expected / self.steps as f64
    }

    /// Returns the mean of accepted - E\[X | T\] and its 95% interval's half-width.
    ///
    /// Given the tree, each difference has mean 0, whatever came before: the variances add up even
    /// if the steps are correlated.
    pub fn sampling_error(&self) -> (f64, f64) {
        let n = self.steps as f64;
        (self.luck.0 / n, 1.96 * self.luck.1.sqrt() / n)
    }

    /// Returns bounds on E\[X | T\] as a fraction of the oracle's ceiling.
    ///
    /// Covers the searched steps.
    pub fn ceiling_fraction(&self) -> (f64, f64) {
        (self.searched.0 / self.searched.2, self.searched.0 / self.searched.1)
    }
}
