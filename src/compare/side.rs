//! What a comparison keeps of one setting's steps.

use super::{Course, Made};
use crate::telemetry::Tally;

/// One setting's texts so far, and its means.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Means over all steps.
    pub tally: Tally,
    /// Its texts; of a prompt that was run again the last one.
    pub courses: Vec<Course>,
}

impl Side {
    /// A text begins.
    pub fn begin(&mut self, prompt: usize) {
        self.courses.retain(|course| course.prompt != prompt);
        self.courses.push(Course::new(prompt));
    }

    /// A step was made.
    pub fn add(&mut self, made: &Made) {
        let record = &*made.record;
        self.tally.add(record);
        if let Some(look) = &made.look {
            self.tally.looked(&record.prompt_id, record.step, look);
        }
        if let Some(fluid) = &made.fluid {
            self.tally.fluid(fluid);
        }
        if let Some(course) = self.courses.last_mut() {
            course.add(record);
            if let Some(look) = &made.look {
                course.looked(record.step, look);
            }
            course.ended = made.ended;
        }
    }

    /// The present text.
    pub fn course(&self) -> Option<&Course> {
        self.courses.last()
    }
}
