//! Course of one text under one setting.
//!
//! This is what a comparison needs: the tokens, the steps, and the origin of each token.

use crate::telemetry::{Look, Miss, OracleSearchState, StepRecord};
use crate::tree::TokenId;

/// Origin of a token of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Drafted and accepted, at this depth from 1.
    Taken(usize),
    /// Sampled from the target, because the tree had only other tokens here.
    Refused(Miss),
    /// Bonus token: all nodes on the path were accepted and the tree ended before it.
    ///
    /// There is no miss if nothing was intentionally drafted, or if the text ended with this token.
    Bonus(Option<Miss>),
}

impl Place {
    /// Returns the depth at which the token was accepted, if it was.
    pub fn taken(&self) -> Option<usize> {
        if let Place::Taken(depth) = self { Some(*depth) } else { None }
    }

    /// Returns why the tree did not have the token, if something was drafted.
    pub fn miss(&self) -> Option<&Miss> {
        match self {
            Place::Taken(_) => None,
            Place::Refused(miss) => Some(miss),
            Place::Bonus(miss) => miss.as_ref(),
        }
    }
}

/// Step of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Position in the output at which the step started, from 0.
    pub at: usize,
    /// Number of tokens emitted, bonus included.
    pub tokens: usize,
    /// Number of accepted drafted tokens.
    pub accepted: usize,
    /// E\[X | T\], the expected number of accepted drafted tokens.
    pub expected: f64,
    /// Duration of the step, in seconds.
    pub seconds: f64,
    /// Result of the oracle search, if the step was searched.
    pub look: Option<Look>,
}

impl Step {
    /// Gain of the oracle tree over the drafter's best tree, in drafted tokens.
    ///
    /// `None` if the step was not searched, or its search did not converge.
    pub fn knowledge_loss(&self) -> Option<f64> {
        let look = self.look.filter(Look::converged)?;
        Some(look.oracle(self.expected) - look.drafter_best?)
    }
}

/// Text under one setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Index of the prompt in the list.
    pub prompt: usize,
    /// Generated tokens, without the prompt.
    pub tokens: Vec<TokenId>,
    /// Text that each token added.
    pub texts: Vec<String>,
    /// Display text of each token; its name if it adds no text.
    pub names: Vec<String>,
    /// Origin of each token.
    pub places: Vec<Place>,
    /// Steps in the order of the text.
    pub steps: Vec<Step>,
    /// The text is complete.
    pub ended: bool,
}

impl Course {
    /// Creates the empty text of a prompt.
    pub fn new(prompt: usize) -> Course {
        Course { prompt, ..Course::default() }
    }

    /// Adds the next step of the text.
    pub fn add(&mut self, record: &StepRecord) {
        self.steps.push(Step {
            at: self.tokens.len(),
            tokens: record.emitted.len(),
            accepted: record.accepted,
            expected: record.expected_accepted,
            seconds: record.time.total(),
            look: None,
        });
        let last = record.path.last().copied().unwrap_or(0);
        let goes_on = record.tree.parents.contains(&Some(last));
        for (i, &token) in record.emitted.iter().enumerate() {
            self.tokens.push(token);
            self.texts.push(record.emitted_text.get(i).cloned().unwrap_or_default());
            let node = record.path.get(i).and_then(|&node| record.tree.text.get(node));
            self.names.push(node.unwrap_or(&record.bonus_text).clone());
            self.places.push(match (i < record.accepted, &record.miss) {
                (true, _) => Place::Taken(i + 1),
                (false, Some(miss)) if goes_on => Place::Refused(miss.clone()),
                (false, miss) => Place::Bonus(miss.clone()),
            });
        }
    }

    /// Adds the result of an oracle search to a step.
    ///
    /// The cause of the step's miss is updated, since the result shows whether the miss was
    /// unlucky. Results of unfinished searches are ignored.
    pub fn looked(&mut self, step: usize, look: &Look) {
        let Some(step) = self.steps.get_mut(step).filter(|_| look.state != OracleSearchState::Refining) else { return };
        step.look = Some(*look);
        let end = (step.at + step.tokens).saturating_sub(1);
        if let Some(Place::Refused(miss) | Place::Bonus(Some(miss))) = self.places.get_mut(end) {
            miss.cause = miss.cause_given_oracle(look);
        }
    }

    /// Returns the total seconds of all steps.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// Returns the last `most` characters before the token at `at`.
    pub fn before(&self, at: usize, most: usize) -> String {
        let (mut parts, mut count) = (Vec::new(), 0);
        for text in self.texts[..at.min(self.texts.len())].iter().rev() {
            if count >= most {
                break;
            }
            count += text.chars().count();
            parts.push(text.as_str());
        }
        let text: String = parts.into_iter().rev().collect();
        let skip = text.chars().count().saturating_sub(most);
        text.chars().skip(skip).collect()
    }

    /// Returns the first `most` characters after the token at `at`.
    pub fn after(&self, at: usize, most: usize) -> String {
        self.texts.iter().skip(at + 1).flat_map(|text| text.chars()).take(most).collect()
    }

    /// Returns the length of the run of accepted tokens from `at` on.
    pub fn run(&self, at: usize) -> usize {
        let Some(first) = self.places.get(at).and_then(Place::taken) else { return 0 };
        let deeper = |(i, place): &(usize, &Place)| place.taken() == Some(first + i);
        self.places[at..].iter().enumerate().take_while(deeper).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Cause;
    use crate::telemetry::testing::{chain, miss, record, tree};

    fn look(floor: f64) -> Look {
        Look {
            oracle_lower: 2.0,
            oracle_upper: 2.0,
            oracle_floor: floor,
            passes: 1,
            drafter_best: Some(0.5),
            state: OracleSearchState::Converged,
        }
    }

    #[test]
    fn added_steps_give_each_token_its_origin() {
        let mut course = Course::new(3);
        // Two of three accepted, the third rejected.
        let mut first = record(chain(&[0.5, 0.5, 0.5]), &[1, 2], 4);
        first.miss = Some(miss(9, 3, Cause::Knowledge));
        course.add(&first);
        // All accepted: the tree ended.
        let mut second = record(chain(&[0.5]), &[1], 4);
        second.miss = Some(miss(8, 2, Cause::Budget));
        course.add(&second);
        // Two children of the root, both rejected; then a step without a draft.
        let mut third = record(tree(&[(0, 0.4), (0, 0.3)]), &[], 4);
        third.miss = Some(miss(7, 1, Cause::Ranking));
        course.add(&third);
        course.add(&record(chain(&[]), &[], 1));
        let kind = |place: &Place| match place {
            Place::Taken(depth) => format!("t{depth}"),
            Place::Refused(miss) => format!("r{}", miss.token),
            Place::Bonus(miss) => format!("b{}", miss.as_ref().map_or(0, |miss| miss.token)),
        };
        let kinds: Vec<String> = course.places.iter().map(kind).collect();
        assert_eq!(kinds, ["t1", "t2", "r9", "t1", "b8", "r7", "b0"]);
        assert_eq!(course.steps.iter().map(|s| s.at).collect::<Vec<_>>(), [0, 3, 5, 6]);
        assert_eq!([0, 1, 2, 3, 9].map(|at| course.run(at)), [2, 1, 0, 1, 0]);
        assert_eq!(course.steps[0].knowledge_loss(), None);
        course.looked(0, &look(0.2));
        assert_eq!(course.places[2].miss().map(|m| m.cause), Some(Cause::Unlucky));
        assert_eq!(course.steps[0].knowledge_loss(), Some(1.5));
        course.looked(99, &look(0.2));
    }

    #[test]
    fn text_around_a_token_is_cut_by_characters() {
        let texts = ["né", "", "日本", "go", "on"].map(str::to_owned).to_vec();
        let course = Course { texts, ..Course::default() };
        assert_eq!(
            (course.before(3, 3), course.before(3, 99), course.before(0, 9)),
            ("é日本".into(), "né日本".into(), String::new())
        );
        assert_eq!((course.after(2, 3), course.after(4, 3), course.after(99, 3)), ("goo".into(), String::new(), String::new()));
    }
}
