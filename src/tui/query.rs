//! Search queries over steps: text of tokens, causes of misses, comparisons such as `depth>3`.

use super::Step;
use crate::telemetry::MissCause;
use crate::tree::TokenId;

/// Query that a step matches if all its terms hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    /// Part of the emitted text or of the missed token.
    Text { part: String, any_case: bool },
    /// Cause of the step's miss.
    Cause(MissCause),
    /// Miss of this token.
    Missed(TokenId),
    /// Comparison of a quantity with a number.
    Compare { field: Field, relation: Relation, value: f64 },
}

/// Quantity of a step. A step may have several values: one per emitted token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Depth,
    P,
    Q,
    Rank,
    Path,
    Entropy,
    Accepted,
    Expected,
    Tokens,
    Budget,
    Milliseconds,
    Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// Fields with their names in a query and their descriptions for help.
const FIELDS: [(&str, Field, &str); 12] = [
    ("depth", Field::Depth, "depth of the missed token"),
    ("p", Field::P, "target's probability of the missed token"),
    ("q", Field::Q, "drafter's probability of the missed token"),
    ("rank", Field::Rank, "rank of the missed token under the target"),
    ("pi", Field::Path, "path probability of the missed token"),
    ("H", Field::Entropy, "entropy of an emitted token, in nats"),
    ("acc", Field::Accepted, "accepted tokens"),
    ("E", Field::Expected, "expected accepted tokens of the tree"),
    ("tok", Field::Tokens, "emitted tokens"),
    ("B", Field::Budget, "tokens in the verify pass"),
    ("ms", Field::Milliseconds, "milliseconds of the step"),
    ("loss", Field::Loss, "tokens that the tree lost"),
];

const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Less),
    (">", Relation::More),
    ("=", Relation::Equal),
];

impl Query {
    /// Names of the fields that can be compared, with their descriptions.
    pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
        FIELDS.iter().map(|(name, _, doc)| (*name, *doc))
    }

    /// Parses a query: terms separated by spaces, all of which must hold.
    ///
    /// A term is the name of a cause, a comparison (`depth>3`, `p<.1`, `H>=2`), or text; text in
    /// quotes is taken as it is. Text without capital letters matches any case.
    ///
    /// # Errors
    /// If the query is empty, a field or number is unknown, or a quote is not closed: one line.
    pub fn parse(text: &str) -> Result<Query, String> {
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let Some((quoted, after)) = rest[1..].split_once('"') else {
                    return Err(format!("{text}: the quote is not closed: add \" at the end"));
                };
                if quoted.is_empty() {
                    return Err(format!(
                        "{text}: nothing between the quotes: write the text to find"
                    ));
                }
                terms.push(Term::Text { part: quoted.to_owned(), any_case: false });
                rest = after.trim_start();
                continue;
            }
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            terms.push(term(word)?);
            rest = after.trim_start();
        }
        if terms.is_empty() {
            return Err(
                "nothing to find: write text, a cause, or a comparison such as depth>3".to_owned()
            );
        }
        Ok(Query { terms })
    }

    /// Returns the query for steps that missed a token.
    pub fn missed(token: TokenId) -> Query {
        Query { terms: vec![Term::Missed(token)] }
    }

    /// Returns whether all terms hold for a step.
    pub fn matches(&self, step: &Step) -> bool {
        self.terms.iter().all(|term| term.holds(step))
    }
}

/// Parses one term without quotes.
fn term(word: &str) -> Result<Term, String> {
    if let Some(&cause) = MissCause::ALL.iter().find(|cause| cause.name() == word) {
        return Ok(Term::Cause(cause));
    }
    // A comparison starts with a letter; text such as `<|im_end|>` does not.
    let name = word.split(['<', '>', '=']).next().unwrap_or("");
    if name.is_empty() || name.len() == word.len() || !name.chars().all(|c| c.is_ascii_alphabetic())
    {
        return Ok(Term::Text {
            part: word.to_owned(),
            any_case: !word.chars().any(char::is_uppercase),
        });
    }
    let Some((_, field, _)) = FIELDS.iter().find(|f| f.0 == name) else {
        let known = FIELDS.map(|f| f.0).join(", ");
        return Err(format!("{word}: unknown field {name}: use one of {known}, or quote the text"));
    };
    let after = &word[name.len()..];
    // Longer signs come first in the table.
    let Some((sign, relation)) = RELATIONS.iter().find(|(sign, _)| after.starts_with(sign)) else {
        return Err(format!("{word}: unknown comparison: use <, <=, =, >= or >"));
    };
    match after[sign.len()..].parse::<f64>() {
        Ok(value) if value.is_finite() => {
            Ok(Term::Compare { field: *field, relation: *relation, value })
        }
        _ => Err(format!("{word}: no number after {sign}: write for example {name}{sign}1")),
    }
}

impl Term {
    fn holds(&self, step: &Step) -> bool {
        match self {
            Term::Text { part, any_case } => {
                let emitted = step.record.emitted_text.concat();
                let missed = step.record.miss.as_ref().map_or("", |miss| &miss.text);
                let found = |text: &str| {
                    if *any_case { text.to_lowercase().contains(part) } else { text.contains(part) }
                };
                found(&emitted)
                    || found(missed)
                    || (step.record.emitted_text.last().is_some_and(String::is_empty)
                        && found(&step.record.bonus_text))
            }
            Term::Cause(cause) => step.cause() == Some(*cause),
            Term::Missed(token) => {
                step.record.miss.as_ref().is_some_and(|miss| miss.token == *token)
            }
            Term::Compare { field, relation, value } => {
                field.holds(step, |x| relation.holds(x, *value))
            }
        }
    }
}

impl Relation {
    fn holds(self, x: f64, value: f64) -> bool {
        match self {
            Relation::Less => x < value,
            Relation::AtMost => x <= value,
            Relation::Equal => x == value,
            Relation::AtLeast => x >= value,
            Relation::More => x > value,
        }
    }
}

impl Field {
    /// Returns whether `test` holds for a value of this field. Steps without one never match.
    fn holds(self, step: &Step, test: impl Fn(f64) -> bool) -> bool {
        let (record, miss) = (&*step.record, step.record.miss.as_ref());
        let value = match self {
            Field::Depth => miss.map(|m| m.depth as f64),
            Field::P => miss.map(|m| m.p),
            Field::Q => miss.and_then(|m| m.q),
            Field::Rank => miss.map(|m| m.rank as f64),
            Field::Path => miss.map(|m| m.pi),
            Field::Entropy => {
                let greedy = record.settings.temperature == 0.0 || record.settings.top_k == Some(1);
                // Sampled distributions of greedy text have no entropy; show those at temperature 1.
                return record
                    .entropy
                    .iter()
                    .any(|e| test(if greedy { e.plain.entropy } else { e.sampled.entropy }));
            }
            Field::Accepted => Some(record.accepted as f64),
            Field::Expected => Some(record.expected_accepted),
            Field::Tokens => Some(record.emitted.len() as f64),
            Field::Budget => Some(record.tree.tokens.len() as f64),
            Field::Milliseconds => Some(record.time.total() * 1e3),
            Field::Loss => step.loss(),
        };
        value.is_some_and(test)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::distribution::Moments;
    use crate::telemetry::testing::{chain, miss, record};
    use crate::telemetry::{PositionEntropy, StageTimes, StepRecord};
    use crate::tui::History;

    fn step() -> Step {
        let entropy = |h: f64| PositionEntropy {
            sampled: Moments { entropy: h, ..Moments::default() },
            ..PositionEntropy::default()
        };
        let record = StepRecord {
            emitted_text: vec![" The".into(), " sky".into()],
            entropy: vec![entropy(0.5), entropy(2.5)],
            miss: Some(miss(7, 2, MissCause::Knowledge)),
            time: StageTimes { verify: 0.004, ..StageTimes::default() },
            ..record(chain(&[0.5, 0.25]), &[1], 3)
        };
        let mut history = History::default();
        history.push(Arc::new(record));
        history.newest().unwrap().clone()
    }

    #[test]
    fn queries_match_by_text_cause_and_number() {
        let step = step();
        for (query, want) in [
            ("sky", true),
            ("SKY", false),
            ("the", true),
            ("The", true),
            ("\"the sky\"", false),
            ("\"The sky\"", true),
            ("t7", true),
            ("knowledge", true),
            ("unlucky", false),
            ("depth>1", true),
            ("depth>2", false),
            ("depth>=2 knowledge", true),
            ("depth>=2 ranking", false),
            ("p<.3", true),
            ("p<.2", false),
            ("p=0.2", true),
            ("q<1", false),
            ("rank<=1", true),
            ("H>2", true),
            ("H<0.4", false),
            ("acc=1", true),
            ("tok=2", true),
            ("B=3", true),
            ("ms>3.9", true),
            ("pi=.1", true),
            ("E>0.6", true),
            ("loss>=.1", true),
        ] {
            assert_eq!(Query::parse(query).unwrap().matches(&step), want, "{query}");
        }
    }

    #[test]
    fn a_bad_query_says_what_to_write_in_one_line() {
        for (query, words) in [
            ("", "nothing to find"),
            ("   ", "nothing to find"),
            ("deep>3", "unknown field deep"),
            ("depth>", "no number after >"),
            ("depth>x", "no number after >"),
            ("H>nan", "no number after >"),
            ("H>=inf", "no number after >="),
            ("\"open", "not closed"),
            ("\"\"", "between the quotes"),
        ] {
            let said = Query::parse(query).unwrap_err();
            assert!(said.contains(words) && !said.contains('\n'), "{query}: {said}");
        }
        assert!(Query::parse("<|im_end|>").is_ok(), "text may start with a sign");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected_without_panic(text in ".{0,40}") {
            if let Ok(query) = Query::parse(&text) {
                query.matches(&step());
            }
        }
    }
}
