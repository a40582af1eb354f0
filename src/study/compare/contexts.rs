//! Comparison of steps that started at the same position of the same text.
//!
//! In these steps both settings drafted their trees after the same context.

use serde::Serialize;

use super::TextPair;
use super::differences::{PairedMean, mean_difference};

/// Length of the excerpts of text around a position, in characters.
pub(super) const EXCERPT_CHARS: usize = 48;
/// Largest difference of E\[X | T\] that counts as equal, in drafted tokens.
///
/// Hardly any two trees have exactly the same E\[X | T\].
const EQUAL_TOLERANCE: f64 = 0.01;

/// Context after which E\[X | T\] of the two trees differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContextChange {
    /// Index of the prompt.
    pub prompt: usize,
    /// Position in the output at which the steps started, from 0.
    pub position: usize,
    /// End of the output before this position.
    pub before: String,
    /// Output from this position on.
    pub after: String,
    /// E\[X | T\] of the first setting's tree.
    pub expected_a: f64,
    /// E\[X | T\] of the second setting's tree.
    pub expected_b: f64,
    /// Accepted drafted tokens of the first setting.
    pub accepted_a: usize,
    /// Accepted drafted tokens of the second setting.
    pub accepted_b: usize,
}

impl ContextChange {
    fn by(&self) -> f64 {
        self.expected_b - self.expected_a
    }
}

/// Results over all contexts at which both settings started a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContextComparison {
    /// Number of such contexts.
    pub contexts: usize,
    /// E\[X | T\] over these contexts.
    pub expected_accepted: PairedMean,
    /// Accepted drafted tokens over these contexts.
    pub accepted: PairedMean,
    /// Contexts in which the second tree's E\[X | T\] is higher by more than 0.01.
    pub gained: usize,
    /// Contexts in which it is lower by more than 0.01.
    pub lost: usize,
    /// Contexts with the largest gain, in descending order.
    pub most_gained: Vec<ContextChange>,
    /// Contexts with the largest loss, in descending order.
    pub most_lost: Vec<ContextChange>,
}

/// Compares the contexts common to both texts of each couple.
///
/// At most `most` examples of each kind are kept.
pub fn contexts(couples: &[TextPair], most: usize) -> ContextComparison {
    let mut changes: Vec<ContextChange> = Vec::new();
    let (mut expected, mut accepted) = (Vec::new(), Vec::new());
    let (mut sums, mut n) = ([[0.0; 2]; 2], 0usize);
    for (a, b) in couples {
        let (mut of_expected, mut of_accepted) = (Vec::new(), Vec::new());
        let mut others = b.steps.iter().peekable();
        for step in &a.steps {
            while others.next_if(|other| other.position < step.position).is_some() {}
            let Some(other) = others.next_if(|other| other.position == step.position) else {
                continue;
            };
            n += 1;
            sums[0] = [sums[0][0] + step.expected_accepted, sums[0][1] + other.expected_accepted];
            sums[1] = [sums[1][0] + step.accepted as f64, sums[1][1] + other.accepted as f64];
            of_expected.push(other.expected_accepted - step.expected_accepted);
            of_accepted.push(other.accepted as f64 - step.accepted as f64);
            if (other.expected_accepted - step.expected_accepted).abs() > EQUAL_TOLERANCE {
                changes.push(ContextChange {
                    prompt: a.prompt,
                    position: step.position,
                    before: String::new(),
                    after: String::new(),
                    expected_a: step.expected_accepted,
                    expected_b: other.expected_accepted,
                    accepted_a: step.accepted,
                    accepted_b: other.accepted,
                });
            }
        }
        expected.push(of_expected);
        accepted.push(of_accepted);
    }
    if n == 0 {
        return ContextComparison::default();
    }
    let mean = |sums: [f64; 2], texts: &[Vec<f64>]| PairedMean {
        a: sums[0] / n as f64,
        b: sums[1] / n as f64,
        difference: mean_difference(texts),
    };
    let gained = changes.iter().filter(|change| change.by() > 0.0).count();
    let lost = changes.len() - gained;
    // Descending difference; ties keep the order of the texts.
    changes.sort_by(|x, y| y.by().total_cmp(&x.by()));
    let worded = |change: &ContextChange| {
        let course = couples.iter().find(|(a, _)| a.prompt == change.prompt).map(|(a, _)| *a);
        let before = course
            .map_or(String::new(), |course| course.text_before(change.position, EXCERPT_CHARS));
        let after = course.map_or(String::new(), |course| {
            course
                .texts
                .iter()
                .skip(change.position)
                .flat_map(|text| text.chars())
                .take(EXCERPT_CHARS)
                .collect()
        });
        ContextChange { before, after, ..change.clone() }
    };
    ContextComparison {
        contexts: n,
        expected_accepted: mean(sums[0], &expected),
        accepted: mean(sums[1], &accepted),
        gained,
        lost,
        most_gained: changes[..gained].iter().take(most).map(worded).collect(),
        most_lost: changes[gained..].iter().rev().take(most).map(worded).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StepTrace, TextTrace};
    use super::*;

    fn course(steps: &[(usize, f64)]) -> TextTrace {
        let mut course = TextTrace::new(2);
        for &(accepted, expected) in steps {
            let at = course.tokens.len();
            course.tokens.extend((at..=at + accepted).map(|t| t as u32));
            course.texts.extend((at..=at + accepted).map(|t| format!("{t} ")));
            course.steps.push(StepTrace {
                position: at,
                tokens: accepted + 1,
                accepted,
                expected_accepted: expected,
                seconds: 0.1,
                search: None,
            });
        }
        course
    }

    #[test]
    fn steps_pair_where_they_begin_together() {
        // The first starts steps at 0 2 4 5 7, the second at 0 4 5 6 8.
        let a = course(&[(1, 1.0), (1, 0.5), (0, 2.0), (1, 0.5), (1, 1.0)]);
        let b = course(&[(3, 2.5), (0, 1.5), (0, 0.5), (1, 3.0), (1, 1.0)]);
        let found = contexts(&[(&a, &b)], 9);
        // Common starts: 0, 4, 5.
        assert_eq!((found.contexts, found.gained, found.lost), (3, 1, 1));
        assert_eq!((found.most_gained[0].position, found.most_gained[0].by()), (0, 1.5));
        let lost = &found.most_lost[0];
        assert_eq!((lost.position, lost.by(), lost.prompt), (4, -0.5, 2));
        assert_eq!((lost.before.as_str(), lost.after.as_str()), ("0 1 2 3 ", "4 5 6 7 8 "));
        assert_eq!((found.expected_accepted.a, found.expected_accepted.b), (3.5 / 3.0, 4.5 / 3.0));
        assert!((found.expected_accepted.difference.value - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.accepted.difference.interval, None, "too early");
        assert_eq!(contexts(&[(&a, &b)], 0).most_gained, []);
        assert_eq!(contexts(&[], 9), ContextComparison::default());
    }
}
