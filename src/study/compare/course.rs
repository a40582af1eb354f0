//! Course of one text under one setting.
//!
//! This is what a comparison needs: the tokens, the steps, and the origin of each token.

use crate::telemetry::{Miss, OracleResult, OracleSearchState, StepRecord};
use crate::tree::TokenId;

/// Origin of a token of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenOrigin {
    /// Drafted and accepted, at this depth from 1.
    Taken(usize),
    /// Sampled from the target, because the tree had only other tokens here.
    Refused(Miss),
    /// Bonus token: all nodes on the path were accepted and the tree ended before it.
    ///
    /// There is no miss if nothing was intentionally drafted, or if the text ended with this token.
    Bonus(Option<Miss>),
}

impl TokenOrigin {
    /// Returns the depth at which the token was accepted, if it was.
    pub fn accepted_depth(&self) -> Option<usize> {
        if let TokenOrigin::Taken(depth) = self { Some(*depth) } else { None }
    }

    /// Returns why the tree did not have the token, if something was drafted.
    pub fn miss(&self) -> Option<&Miss> {
        match self {
            TokenOrigin::Taken(_) => None,
            TokenOrigin::Refused(miss) => Some(miss),
            TokenOrigin::Bonus(miss) => miss.as_ref(),
        }
    }
}

/// Step of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTrace {
    /// Position in the output at which the step started, from 0.
    pub position: usize,
    /// Number of tokens emitted, bonus included.
    pub tokens: usize,
    /// Number of accepted drafted tokens.
    pub accepted: usize,
    /// E\[X | T\], the expected number of accepted drafted tokens.
    pub expected_accepted: f64,
    /// Duration of the step, in seconds.
    pub seconds: f64,
    /// Result of the oracle search, if the step was searched.
    pub search: Option<OracleResult>,
}

impl StepTrace {
    /// Gain of the oracle tree over the drafter's best tree, in drafted tokens.
    ///
    /// `None` if the step was not searched, or its search did not converge.
    pub fn knowledge_loss(&self) -> Option<f64> {
        let result = self.search.filter(OracleResult::converged)?;
        Some(result.best_known_mass(self.expected_accepted) - result.drafter_best?)
    }
}

/// Text under one setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextTrace {
    /// Index of the prompt in the list.
    pub prompt: usize,
    /// Generated tokens, without the prompt.
    pub tokens: Vec<TokenId>,
    /// Text that each token added.
    pub texts: Vec<String>,
    /// Display text of each token; its name if it adds no text.
    pub names: Vec<String>,
    /// Origin of each token.
    pub origins: Vec<TokenOrigin>,
    /// Steps in the order of the text.
    pub steps: Vec<StepTrace>,
    /// The text is complete.
    pub complete: bool,
}

impl TextTrace {
    /// Creates the empty text of a prompt.
    pub fn new(prompt: usize) -> TextTrace {
        TextTrace { prompt, ..TextTrace::default() }
    }

    /// Adds the next step of the text.
    pub fn add_step(&mut self, record: &StepRecord) {
        self.steps.push(StepTrace {
            position: self.tokens.len(),
            tokens: record.emitted.len(),
            accepted: record.accepted,
            expected_accepted: record.expected_accepted,
            seconds: record.time.total(),
            search: None,
        });
        let last = record.path.last().copied().unwrap_or(0);
        let goes_on = record.tree.parents.contains(&Some(last));
        for (i, &token) in record.emitted.iter().enumerate() {
            self.tokens.push(token);
            self.texts.push(record.emitted_text.get(i).cloned().unwrap_or_default());
            let node = record.path.get(i).and_then(|&node| record.tree.text.get(node));
            self.names.push(node.unwrap_or(&record.bonus_text).clone());
            self.origins.push(match (i < record.accepted, &record.miss) {
                (true, _) => TokenOrigin::Taken(i + 1),
                (false, Some(miss)) if goes_on => TokenOrigin::Refused(miss.clone()),
                (false, miss) => TokenOrigin::Bonus(miss.clone()),
            });
        }
    }

    /// Adds the result of an oracle search to a step.
    ///
    /// The cause of the step's miss is updated, since the result shows whether the miss was
    /// unlucky. Results of unfinished searches are ignored.
    pub fn add_search(&mut self, step: usize, result: &OracleResult) {
        let Some(step) =
            self.steps.get_mut(step).filter(|_| result.state != OracleSearchState::Refining)
        else {
            return;
        };
        step.search = Some(*result);
        let end = (step.position + step.tokens).saturating_sub(1);
        if let Some(TokenOrigin::Refused(miss) | TokenOrigin::Bonus(Some(miss))) =
            self.origins.get_mut(end)
        {
            miss.cause = miss.cause_given_oracle(result);
        }
    }

    /// Returns the total seconds of all steps.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// Returns the last `most` characters before the token at `at`.
    pub fn text_before(&self, at: usize, most: usize) -> String {
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
    pub fn text_after(&self, at: usize, most: usize) -> String {
        self.texts.iter().skip(at + 1).flat_map(|text| text.chars()).take(most).collect()
    }

    /// Returns the length of the run of accepted tokens from `at` on.
    pub fn accepted_run(&self, at: usize) -> usize {
        let Some(first) = self.origins.get(at).and_then(TokenOrigin::accepted_depth) else {
            return 0;
        };
        let deeper = |(i, place): &(usize, &TokenOrigin)| place.accepted_depth() == Some(first + i);
        self.origins[at..].iter().enumerate().take_while(deeper).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::MissCause;
    use crate::telemetry::testing::{chain, miss, record, tree};

    fn result(floor: f64) -> OracleResult {
        OracleResult {
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
        let mut course = TextTrace::new(3);
        // Two of three accepted, the third rejected.
        let mut first = record(chain(&[0.5, 0.5, 0.5]), &[1, 2], 4);
        first.miss = Some(miss(9, 3, MissCause::Knowledge));
        course.add_step(&first);
        // All accepted: the tree ended.
        let mut second = record(chain(&[0.5]), &[1], 4);
        second.miss = Some(miss(8, 2, MissCause::Budget));
        course.add_step(&second);
        // Two children of the root, both rejected; then a step without a draft.
        let mut third = record(tree(&[(0, 0.4), (0, 0.3)]), &[], 4);
        third.miss = Some(miss(7, 1, MissCause::Ranking));
        course.add_step(&third);
        course.add_step(&record(chain(&[]), &[], 1));
        let kind = |place: &TokenOrigin| match place {
            TokenOrigin::Taken(depth) => format!("t{depth}"),
            TokenOrigin::Refused(miss) => format!("r{}", miss.token),
            TokenOrigin::Bonus(miss) => format!("b{}", miss.as_ref().map_or(0, |miss| miss.token)),
        };
        let kinds: Vec<String> = course.origins.iter().map(kind).collect();
        assert_eq!(kinds, ["t1", "t2", "r9", "t1", "b8", "r7", "b0"]);
        assert_eq!(course.steps.iter().map(|s| s.position).collect::<Vec<_>>(), [0, 3, 5, 6]);
        assert_eq!([0, 1, 2, 3, 9].map(|at| course.accepted_run(at)), [2, 1, 0, 1, 0]);
        assert_eq!(course.steps[0].knowledge_loss(), None);
        course.add_search(0, &result(0.2));
        assert_eq!(course.origins[2].miss().map(|m| m.cause), Some(MissCause::Unlucky));
        assert_eq!(course.steps[0].knowledge_loss(), Some(1.5));
        course.add_search(99, &result(0.2));
    }

    #[test]
    fn text_around_a_token_is_cut_by_characters() {
        let texts = ["né", "", "日本", "go", "on"].map(str::to_owned).to_vec();
        let course = TextTrace { texts, ..TextTrace::default() };
        assert_eq!(
            (course.text_before(3, 3), course.text_before(3, 99), course.text_before(0, 9)),
            ("é日本".into(), "né日本".into(), String::new())
        );
        assert_eq!(
            (course.text_after(2, 3), course.text_after(4, 3), course.text_after(99, 3)),
            ("goo".into(), String::new(), String::new())
        );
    }
}
