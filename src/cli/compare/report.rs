//! All that was found, as one object: what the JSON is (schema/compare.schema.json), and what the text and the CSV are made of.

use serde::Serialize;

use super::measure::Measured;
use super::{CompareOptions, Setting};
use crate::compare::{
    Contexts, Differences, Outcomes, Pairing, Takes, contexts, couples, differences, outcomes, same_text, takes,
};
use crate::engine::Prompt;
use crate::telemetry::{Line, StepSettings, Summary};

/// A comparison.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Always "comparison".
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Version of this program.
    pub version: String,
    /// Name of the model.
    pub model: String,
    /// Kind of its weights, as "Q4_1".
    pub quantisation: String,
    /// SHA-256 of its file in hexadecimal, where known.
    pub sha256: Option<String>,
    /// Device and kernel.
    pub device: String,
    /// Longest output of a prompt, in tokens.
    pub max_tokens: usize,
    /// Whether prompts were run without the chat template.
    pub raw: bool,
    /// Each step whose number is a multiple of this was looked at; 0 for none.
    pub look_every: usize,
    /// Prompts that were run.
    pub prompts: usize,
    /// Prompts that could not be run.
    pub refused: usize,
    /// The settings in turn.
    pub settings: Vec<SettingRow>,
    /// Each setting with each later one.
    pub pairs: Vec<PairRow>,
    /// Each prompt that was run.
    pub texts: Vec<TextRow>,
}

/// One setting.
#[derive(Debug, Serialize)]
pub struct SettingRow {
    /// Its name.
    pub name: String,
    /// It in words.
    pub words: String,
    /// What its steps ran under.
    pub settings: StepSettings,
    /// File of the head, where one was given.
    pub head: Option<String>,
    /// Members of the mix, where they were given.
    pub mix: Option<Vec<String>>,
    /// Layers of the early exit, where they were given.
    pub exit_layers: Option<usize>,
    /// File of the early exit's adapter, where one was given.
    pub adapter: Option<String>,
    /// The second model, where one was given.
    pub draft_model: Option<String>,
    /// Whether the suffix drafter knows earlier texts.
    pub remember: bool,
    /// Means, as in the last line of `speclight run --json`; plain decoding's speed is that of the same texts, written plainly.
    pub summary: Line<'static>,
    /// The same, for the text.
    #[serde(skip)]
    pub means: Summary,
}

/// Two settings.
#[derive(Debug, Serialize)]
pub struct PairRow {
    /// The first.
    pub a: String,
    /// The second; differences are its values less the first's.
    pub b: String,
    /// What is paired.
    pub paired_by: Pairing,
    /// Prompts that are paired.
    pub prompts: usize,
    /// Ids of prompts whose texts differ though they must not, which are left out.
    pub differing: Vec<String>,
    /// Differences of means. None where nothing is paired.
    pub differences: Option<Differences>,
    /// Steps that began at the same place. None where texts are not the same.
    pub contexts: Option<Contexts>,
    /// Positions by what both made of them. None where texts are not the same.
    pub outcomes: Option<Outcomes>,
    /// Positions that the first took and the second missed. None where texts are not the same.
    pub taken_by_a: Option<Takes>,
    /// The other way round.
    pub taken_by_b: Option<Takes>,
}

/// One prompt.
#[derive(Debug, Serialize)]
pub struct TextRow {
    /// Its number, by which examples name it, from 0.
    pub prompt: usize,
    /// Its id.
    pub prompt_id: String,
    /// Under each setting.
    pub of: Vec<TextOf>,
}

/// One prompt under one setting.
#[derive(Debug, Serialize)]
pub struct TextOf {
    /// The setting's name.
    pub setting: String,
    /// Tokens put out.
    pub tokens: usize,
    /// Steps.
    pub steps: usize,
    /// Sum of E\[X | T\].
    pub expected_accepted: f64,
    /// Accepted drafted tokens.
    pub accepted: usize,
    /// Seconds of its steps.
    pub seconds: f64,
    /// Seconds of the same text written plainly.
    pub plain_seconds: f64,
}

/// Makes it.
pub fn report(options: &CompareOptions, settings: &[Setting], prompts: &[Prompt], measured: &Measured) -> Report {
    let Measured { info, sides, plain_of, plains, refused } = measured;
    let id = |prompt: usize| prompts.get(prompt).map_or_else(String::new, |prompt| prompt.id.clone());
    let row = |(i, setting): (usize, &Setting)| {
        let plain = plains.get(plain_of[i]).and_then(|plain| plain.tally.summary(None).tokens_per_second);
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
            summary: Line::Summary(Box::new(means.clone().into())),
            means,
        }
    };
    let mut pairs = Vec::new();
    for (i, a) in settings.iter().enumerate() {
        for (j, b) in settings.iter().enumerate().skip(i + 1) {
            let same = same_text(&a.options.settings(), &b.options.settings());
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
            let plain = plains.get(plain_of[i])?.courses.iter().find(|course| course.prompt == prompt)?;
            Some(TextOf {
                setting: setting.name.clone(),
                tokens: course.tokens.len(),
                steps: course.steps.len(),
                expected_accepted: course.steps.iter().map(|step| step.expected).sum(),
                accepted: course.steps.iter().map(|step| step.accepted).sum(),
                seconds: course.seconds(),
                plain_seconds: plain.seconds(),
            })
        });
        TextRow { prompt, prompt_id: id(prompt), of: of.collect() }
    };
    let texts: Vec<TextRow> = sides.first().map_or(&[][..], |side| &side.courses).iter().map(|c| text(c.prompt)).collect();
    Report {
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
