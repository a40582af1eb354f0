//! Hard prompts for training: contexts with the largest knowledge loss.

use serde::Serialize;

use super::options::CompareOptions;
use super::setting::Setting;
use crate::engine::Prompt;
use crate::study::compare::SettingResults;

/// Smallest distance of two contexts of one text, in tokens.
///
/// Closer contexts are trained on together anyway.
const MIN_DISTANCE: usize = 16;

/// Prompt to train on.
///
/// Fields after `begun` document the origin and are not read by `speclight train`.
#[derive(Debug, Serialize)]
pub struct HardPrompt {
    /// Prompt text; the whole context if prompts have no chat template.
    pub prompt: String,
    /// Answer up to this context.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub begun: String,
    /// Id of the prompt and position in the output from 0, as `id@position`.
    pub question_id: String,
    /// Name of the setting whose drafter had the loss.
    pub setting: String,
    /// Gain of the oracle tree over the drafter's best tree, in drafted tokens.
    pub knowledge_loss: f64,
}

/// Returns the contexts with the largest knowledge loss in descending order.
///
/// There are at most `options.hard_count` of them.
pub fn lines(
    options: &CompareOptions,
    settings: &[Setting],
    prompts: &[Prompt],
    sides: &[SettingResults],
) -> Vec<HardPrompt> {
    // (loss, setting, text, position)
    let mut all: Vec<(f64, usize, usize, usize)> = Vec::new();
    for (i, side) in sides.iter().enumerate() {
        for (k, course) in side.courses.iter().enumerate() {
            let losses = course
                .steps
                .iter()
                .filter_map(|step| Some((step.knowledge_loss()?, i, k, step.position)));
            all.extend(losses.filter(|loss| loss.0 > 0.0));
        }
    }
    all.sort_by(|x, y| y.0.total_cmp(&x.0));
    let mut kept: Vec<(&str, usize, HardPrompt)> = Vec::new();
    for (loss, i, k, at) in all {
        if kept.len() >= options.hard_count {
            break;
        }
        let course = &sides[i].courses[k];
        let Some(prompt) = prompts.get(course.prompt) else { continue };
        let begun = course.texts[..at].concat();
        // Settings with the same text share its contexts, and different texts can start alike.
        let near = |(id, other, line): &&(&str, usize, HardPrompt)| {
            let text = if options.options.raw {
                line.prompt.strip_prefix(&prompt.text).unwrap_or("")
            } else {
                &line.begun
            };
            *id == prompt.id
                && other.abs_diff(at) < MIN_DISTANCE
                && (text.starts_with(&begun) || begun.starts_with(text))
        };
        if kept.iter().find(near).is_some() {
            continue;
        }
        let question_id = format!("{}@{at}", prompt.id);
        let (parse_prompt, begun) = if options.options.raw {
            (prompt.text.clone() + &begun, String::new())
        } else {
            (prompt.text.clone(), begun)
        };
        let line = HardPrompt {
            prompt: parse_prompt,
            begun,
            question_id,
            setting: settings[i].name.clone(),
            knowledge_loss: loss,
        };
        kept.push((&prompt.id, at, line));
    }
    kept.into_iter().map(|(.., line)| line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::study::compare::{StepTrace, TextTrace};
    use crate::telemetry::{OracleResult, OracleSearchState};

    fn options(more: &[&str]) -> CompareOptions {
        let args = [
            "speclight",
            "compare",
            "--setting",
            "",
            "--setting",
            "drafter=suffix",
            "--hard",
            "h.jsonl",
        ];
        let Some(Command::Compare(options)) =
            Cli::try_parse_from([&args[..], more].concat()).unwrap().command
        else {
            panic!()
        };
        options
    }

    /// Text with a step every eight tokens and these knowledge losses.
    fn side(losses: &[Option<f64>]) -> SettingResults {
        let mut course = TextTrace::new(0);
        for loss in losses {
            let result = loss.map(|loss| OracleResult {
                oracle_lower: 1.0 + loss,
                oracle_upper: 1.0 + loss,
                oracle_floor: 0.1,
                passes: 1,
                drafter_best: Some(1.0),
                state: OracleSearchState::Converged,
            });
            let at = course.tokens.len();
            course.steps.push(StepTrace {
                position: at,
                tokens: 8,
                accepted: 7,
                expected_accepted: 1.0,
                seconds: 0.1,
                search: result,
            });
            course.tokens.extend(0..8);
            course.texts.extend((at..at + 8).map(|i| format!(" {i}")));
        }
        let mut side = SettingResults::default();
        side.courses.push(course);
        side
    }

    #[test]
    fn the_largest_losses_come_first_and_neighbors_once() {
        let options = options(&[]);
        let settings = options.settings().unwrap();
        let prompts = [Prompt { id: "q".into(), text: "Count.".into() }];
        let sides = [
            side(&[Some(0.5), None, Some(2.0), Some(1.0), Some(0.0)]),
            side(&[None, None, Some(3.0)]),
        ];
        let found = lines(&options, &settings, &prompts, &sides);
        let brief: Vec<_> = found
            .iter()
            .map(|l| (l.question_id.as_str(), l.setting.as_str(), l.knowledge_loss))
            .collect();
        assert_eq!(brief, [("q@16", "B", 3.0), ("q@0", "A", 0.5)]);
        assert!(
            found[0].begun.starts_with(" 0 1 2")
                && found[0].begun.ends_with(" 15")
                && found[0].prompt == "Count."
        );
        let json = serde_json::to_string(&found[1]).unwrap();
        assert!(!json.contains("begun"), "{json}");
        assert_eq!(
            lines(&self::options(&["--hard-count", "1"]), &settings, &prompts, &sides).len(),
            1
        );
        let raw = lines(&self::options(&["--raw"]), &settings, &prompts, &sides);
        assert!(
            raw[0].prompt.starts_with("Count. 0 1") && raw[0].begun.is_empty() && raw.len() == 2
        );
    }
}
