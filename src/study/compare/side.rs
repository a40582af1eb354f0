//! Results of one setting that a comparison keeps.

use std::collections::BTreeMap;

use super::{ComparedStep, TextTrace};
use crate::telemetry::Tally;

/// Texts of one setting so far, and means over them.
#[derive(Clone, Debug, Default)]
pub struct SettingResults {
    /// Means over all steps; a repeated prompt counts once.
    pub tally: Tally,
    /// Number of steps of each prompt that are in the means.
    counted: BTreeMap<usize, usize>,
    /// Texts of the setting; of a repeated prompt, the last one.
    pub courses: Vec<TextTrace>,
}

impl SettingResults {
    /// Starts the text of a prompt.
    pub fn begin(&mut self, prompt: usize) {
        self.courses.retain(|course| course.prompt != prompt);
        self.courses.push(TextTrace::new(prompt));
    }

    /// Adds a step to the current text.
    pub fn add(&mut self, made: &ComparedStep) {
        let record = &*made.record;
        // A repeated text is the same text: only steps beyond the earlier run are new.
        let counted =
            self.courses.last().map(|course| self.counted.entry(course.prompt).or_default());
        if counted.as_ref().is_none_or(|counted| record.step >= **counted) {
            if let Some(counted) = counted {
                *counted = record.step + 1;
            }
            self.tally.add(record);
            if let Some(result) = &made.search_result {
                if let Some(curve) = &made.curve {
                    self.tally.add_oracle_curve(
                        &record.prompt_id,
                        record.step,
                        result.drafter_best,
                        curve,
                    );
                }
                self.tally.add_oracle_result(&record.prompt_id, record.step, result);
            }
            if let Some(fluid) = &made.fluid {
                self.tally.fluid(fluid);
            }
            if made.ended {
                self.tally.end_text();
            }
        }
        if let Some(course) = self.courses.last_mut() {
            course.add_step(record);
            if let Some(result) = &made.search_result {
                course.add_search(record.step, result);
            }
            course.complete = made.ended;
        }
    }

    /// Returns the current text.
    pub fn course(&self) -> Option<&TextTrace> {
        self.courses.last()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::StepRecord;
    use crate::telemetry::testing::{chain, record};

    #[test]
    fn a_prompt_that_is_run_again_counts_once() {
        let mut side = SettingResults::default();
        let mut run = |prompt: usize, steps: std::ops::Range<usize>| {
            side.begin(prompt);
            for step in steps {
                let record = Arc::new(StepRecord { step, ..record(chain(&[0.5]), &[], 4) });
                side.add(&ComparedStep {
                    record,
                    search_result: None,
                    curve: None,
                    fluid: None,
                    ended: false,
                });
            }
            side.tally.summary(None).steps
        };
        assert_eq!(run(0, 0..3), 3);
        assert_eq!(run(1, 0..2), 5);
        // The first prompt again, with more steps.
        assert_eq!(run(0, 0..5), 7);
        assert_eq!(run(0, 0..5), 7);
    }
}
