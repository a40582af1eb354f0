//! Result of a comparison as one object, from which JSON, text and CSV are written.
//!
//! Serialized, it is the JSON output (schema/compare.schema.json).

use serde::Serialize;

use super::measure::Measurements;
use super::options::CompareOptions;
use super::setting::Setting;
use crate::draft::DrafterKind;
use crate::engine::Prompt;
use crate::study::compare::{
    ContextComparison, Differences, ExclusiveAccepts, Outcomes, Pairing, contexts, couples,
    differences, generate_same_text, outcomes, takes,
};
use crate::telemetry::{JsonLine, StepSettings, Summary};

/// Result of a comparison.
#[derive(Debug, Serialize)]
pub struct ComparisonReport {
    /// Type of the JSON object, always "comparison".
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Version of this program.
    pub version: String,
    /// Name of the target model.
    pub model: String,
    /// Format of the model's weights, such as "Q4_1".
    pub quantisation: String,
    /// SHA-256 of the model file in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Compute device and kernel.
    pub device: String,
    /// Largest number of output tokens per prompt.
    pub max_tokens: usize,
    /// Set if prompts were run without the chat template.
    pub raw: bool,
    /// Interval between oracle searches, in steps; 0 if none was searched.
    pub look_every: usize,
    /// Number of prompts that were run.
    pub prompts: usize,
    /// Number of prompts that were skipped.
    pub refused: usize,
    /// Results of each setting.
    pub settings: Vec<SettingRow>,
    /// Results of each pair of settings.
    pub pairs: Vec<PairRow>,
    /// Results of each prompt that was run.
    pub texts: Vec<TextRow>,
}

/// Results of one setting.
#[derive(Debug, Serialize)]
pub struct SettingRow {
    /// Name of the setting.
    pub name: String,
    /// Description of the setting in one line.
    pub words: String,
    /// Settings of the steps.
    pub settings: StepSettings,
    /// Path of the drafting head, if given.
    pub head: Option<String>,
    /// Drafters in the mix, if given.
    pub mix: Option<Vec<DrafterKind>>,
    /// Layers of the early-exit drafter, if given.
    pub exit_layers: Option<usize>,
    /// Path of the early-exit adapter, if given.
    pub adapter: Option<String>,
    /// Name or path of the draft model, if given.
    pub draft_model: Option<String>,
    /// Set if the suffix drafter searches earlier texts, too.
    pub remember: bool,
    /// Means, as in the last line of `speclight run --json`.
    ///
    /// The speed of plain decoding is that of the same texts.
    pub summary: JsonLine<'static>,
    /// Means for the text output, not serialized.
    #[serde(skip)]
    pub means: Summary,
}

/// Results of a pair of settings.
#[derive(Debug, Serialize)]
pub struct PairRow {
    /// Name of the first setting, A.
    pub a: String,
    /// Name of the second setting, B; differences are B's values minus A's.
    pub b: String,
    /// Unit of the pairing.
    pub paired_by: Pairing,
    /// Number of paired prompts.
    pub prompts: usize,
    /// Ids of excluded prompts, whose texts differ but must be equal.
    pub differing: Vec<String>,
    /// Differences of means; `None` if nothing is paired.
    pub differences: Option<Differences>,
    /// Steps that started at the same position; `None` if texts differ.
    pub contexts: Option<ContextComparison>,
    /// Counts of positions by outcome under both settings; `None` if texts differ.
    pub outcomes: Option<Outcomes>,
    /// Positions that A accepted and B missed; `None` if texts differ.
    pub taken_by_a: Option<ExclusiveAccepts>,
    /// Positions that B accepted and A missed; `None` if texts differ.
    pub taken_by_b: Option<ExclusiveAccepts>,
}

/// Results of one prompt.
#[derive(Debug, Serialize)]
pub struct TextRow {
    /// Index of the prompt from 0, which examples refer to.
    pub prompt: usize,
    /// Id of the prompt.
    pub prompt_id: String,
    /// Results under each setting.
    pub of: Vec<TextOf>,
}

/// Results of one prompt under one setting.
#[derive(Debug, Serialize)]
pub struct TextOf {
    /// Name of the setting.
    pub setting: String,
    /// Number of generated tokens.
    pub tokens: usize,
    /// Number of steps of the text.
    pub steps: usize,
    /// Sum of E\[X | T\] over the steps.
    pub expected_accepted: f64,
    /// Number of accepted drafted tokens.
    pub accepted: usize,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// Seconds of plain decoding of the same text.
    pub plain_seconds: f64,
}

/// Computes the result from the measurements.
pub fn report(
    options: &CompareOptions,
    settings: &[Setting],
    prompts: &[Prompt],
    measured: &Measurements,
) -> ComparisonReport {
    let Measurements { info, sides, plain_of, plains, refused } = measured;
    let id =
        |prompt: usize| prompts.get(prompt).map_or_else(String::new, |prompt| prompt.id.clone());
    let row = |(i, setting): (usize, &Setting)| {
        let plain =
            plains.get(plain_of[i]).and_then(|plain| plain.tally.summary(None).tokens_per_second);
        let means = sides[i].tally.summary(plain);
        let o = &setting.options;
        SettingRow {
            name: setting.name.clone(),
            words: setting.words(),
            settings: o.settings(),
            head: o.head.as_ref().map(|path| path.display().to_string()),
            mix: o.mix.as_ref().map(|mix| mix.0.clone()),
            exit_layers: o.exit_layers,
            adapter: o.adapter.as_ref().map(|path| path.display().to_string()),
            draft_model: o.draft_model.clone(),
            remember: o.remember,
            summary: JsonLine::Summary(Box::new(means.clone().into())),
            means,
        }
    };
    let mut pairs = Vec::new();
    for (i, a) in settings.iter().enumerate() {
        for (j, b) in settings.iter().enumerate().skip(i + 1) {
            let same = generate_same_text(&a.options.settings(), &b.options.settings());
            let pairing = if same { Pairing::Positions } else { Pairing::Prompts };
            let (paired, differing) = couples(&sides[i].courses, &sides[j].courses, pairing);
            let turned: Vec<_> = paired.iter().map(|(a, b)| (*b, *a)).collect();
            pairs.push(PairRow {
                a: a.name.clone(),
                b: b.name.clone(),
                paired_by: pairing,
                prompts: paired.len(),
                differing: differing.into_iter().map(id).collect(),
                differences: differences(&paired, pairing),
                contexts: same.then(|| contexts(&paired, options.examples)),
                outcomes: same.then(|| outcomes(&paired)),
                taken_by_a: same.then(|| takes(&paired, options.examples)),
                taken_by_b: same.then(|| takes(&turned, options.examples)),
            });
        }
    }
    let text = |prompt: usize| {
        let of = settings.iter().enumerate().filter_map(|(i, setting)| {
            let course = sides[i].courses.iter().find(|course| course.prompt == prompt)?;
            let plain =
                plains.get(plain_of[i])?.courses.iter().find(|course| course.prompt == prompt)?;
            Some(TextOf {
                setting: setting.name.clone(),
                tokens: course.tokens.len(),
                steps: course.steps.len(),
                expected_accepted: course.steps.iter().map(|step| step.expected_accepted).sum(),
                accepted: course.steps.iter().map(|step| step.accepted).sum(),
                seconds: course.seconds(),
                plain_seconds: plain.seconds(),
            })
        });
        TextRow { prompt, prompt_id: id(prompt), of: of.collect() }
    };
    let texts: Vec<TextRow> = sides
        .first()
        .map_or(&[][..], |side| &side.courses)
        .iter()
        .map(|c| text(c.prompt))
        .collect();
    ComparisonReport {
        kind: "comparison",
        version: info.version.clone(),
        model: info.model.clone(),
        quantisation: info.quantisation.clone(),
        sha256: info.sha256.clone(),
        device: info.device.clone(),
        max_tokens: options.options.max_tokens,
        raw: options.options.raw,
        look_every: options.look_every,
        prompts: texts.len(),
        refused: *refused,
        settings: settings.iter().enumerate().map(row).collect(),
        pairs,
        texts,
    }
}
