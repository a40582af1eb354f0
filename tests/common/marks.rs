//! What must hold between the marks of the gauge, step by step, whatever is run (docs/bounds.md, "The ceilings on one ruler"): the
//! oracle's tree is worth no less than the drafter's best at B, that no less than the tree that was verified, and what was accepted is
//! what was expected but for luck.

use std::sync::mpsc;

use speclight::engine::{Command, EngineOptions, Event, drive};
use speclight::telemetry::{Look, StepRecord};

/// Probabilities are told to this part.
const ROUNDING: f64 = 1e-9;

/// What a run showed.
#[derive(Default)]
pub struct Marks {
    /// Steps.
    pub steps: usize,
    /// Steps that were looked at.
    pub looks: usize,
    /// Looks whose bounds did not come to agree.
    pub open: usize,
    /// Where the marks are not in order, in words.
    pub exceptions: Vec<String>,
    /// Sum of E\[X | T\] over all steps.
    expected: f64,
    /// Sums of accepted - E\[X | T\] and of its square.
    luck: (f64, f64),
    /// Over the steps that were looked at: sums of E\[X | T\] and of both ends of the oracle's mass.
    looked: (f64, f64, f64),
    /// The fluid bound of the last step.
    pub fluid: Option<f64>,
}

impl Marks {
    /// Runs `options` to the end and looks at each `every`th step of a text.
    ///
    /// # Errors
    /// Why the engine ended, or refused something.
    pub fn of(options: EngineOptions, every: usize) -> Result<Marks, String> {
        let (commands, orders) = mpsc::channel();
        commands.send(Command::LookEvery(every)).map_err(|e| e.to_string())?;
        let (mut marks, mut last, mut why) = (Marks::default(), None, None);
        drive(options, &orders, &mut |event| {
            match event {
                Event::Step(record) => {
                    marks.step(&record);
                    last = Some(record);
                }
                Event::Looked { prompt_id, step, look, .. } => match &last {
                    Some(record) if record.prompt_id == prompt_id && record.step == step => marks.look(record, &look),
                    _ => why = Some(format!("a look at step {step} of prompt {prompt_id}, which is not the last one")),
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

    fn look(&mut self, record: &StepRecord, look: &Look) {
        let (expected, best) = (record.expected_accepted, look.drafter_best);
        self.looks += 1;
        self.open += usize::from(!look.converged());
        self.looked.0 += expected;
        self.looked.1 += look.oracle_lower;
        self.looked.2 += look.oracle_upper;
        let ordered = look.oracle_lower <= look.oracle_upper + ROUNDING
            && best.is_some_and(|best| best <= look.oracle_upper + ROUNDING && expected <= best + ROUNDING);
        if !ordered {
            let at = format!("prompt {}, step {}", record.prompt_id, record.step);
            self.exceptions.push(format!("{at}: E[X|T] {expected}, drafter's best {best:?}, {look:?}"));
        }
    }

    /// Mean of E\[X | T\] a step.
    pub fn expected(&self) -> f64 {
        self.expected / self.steps as f64
    }

    /// Mean of accepted less E\[X | T\], and half of its 95% interval. Given the tree each has mean 0, whatever came before: the
    /// variances of such differences add up, also where the steps are correlated.
    pub fn luck(&self) -> (f64, f64) {
        let n = self.steps as f64;
        (self.luck.0 / n, 1.96 * self.luck.1.sqrt() / n)
    }

    /// Of what the contexts allow the least and the most that E\[X | T\] reached, over the steps that were looked at.
    pub fn share(&self) -> (f64, f64) {
        (self.looked.0 / self.looked.2, self.looked.0 / self.looked.1)
    }
}
