//! Scoreboard of the runs of a session: one entry for each group of steps at the same settings.

use std::fmt::Write;

use super::{Averages, History, LightBar};
use crate::csv_row::format_csv_row;
use crate::draft::DrafterKind;
use crate::study::compare::{
    Differences, Pairing, TextTrace, couples, differences, generate_same_text,
};
use crate::telemetry::{ReachedIntervals, StepSettings};
use crate::theory::intervals::{Estimate, Interval};

/// Minimum number of steps for an entry that stays when the settings change.
const MIN_STEPS: usize = 8;
/// Maximum number of entries kept; the oldest is dropped first.
const MAX_RUNS: usize = 99;

/// Figures of the steps at one combination of settings.
#[derive(Clone, Debug, PartialEq)]
pub struct RunScore {
    /// Number of the entry, from 1.
    pub number: usize,
    /// Settings of the steps.
    pub settings: StepSettings,
    /// Numbers of the first and the last step, as in the history.
    pub span: (usize, usize),
    /// Number of steps, without those of repeated texts.
    pub steps: usize,
    /// Mean tokens per step, bonus included.
    pub tokens_per_step: Estimate,
    /// Fraction of the speed of light that was reached, once known.
    pub of_light: Option<Estimate>,
    /// Tokens per second over the time in steps.
    pub tokens_per_second: Option<Estimate>,
    /// Speed relative to plain decoding, once that was timed.
    pub speed_up: Option<Estimate>,
}

impl RunScore {
    /// Computes the entry of the steps that `averages` covers; `None` before the first.
    ///
    /// The interval of tokens per step is that of E\[X | T\], in `reached`. The interval of tokens
    /// per second is that of the speed-up, at the measured speed of plain decoding.
    pub fn new(
        number: usize,
        settings: &StepSettings,
        span: (usize, usize),
        averages: &Averages,
        reached: Option<&ReachedIntervals>,
        light: &LightBar,
    ) -> Option<RunScore> {
        if averages.steps == 0 {
            return None;
        }
        let half = reached
            .and_then(|reached| reached.expected)
            .map(|interval| (interval.high - interval.low) / 2.0);
        let speed_up = averages
            .comparison
            .speed_up()
            .filter(|found| found.value.is_finite() && found.value > 0.0);
        let tokens_per_second = averages.tokens_per_second().map(|value| {
            let scaled = |end: f64, found: &Estimate| end / found.value * value;
            let ends = speed_up.and_then(|found| Some((found, found.interval?)));
            let interval = ends.map(|(found, ends)| Interval {
                low: scaled(ends.low, &found),
                high: scaled(ends.high, &found),
            });
            Estimate { value, interval }
        });
        Some(RunScore {
            number,
            settings: settings.clone(),
            span,
            steps: averages.steps,
            tokens_per_step: Estimate::from_half_width(
                averages.tokens as f64 / averages.steps as f64,
                half,
            ),
            of_light: light.known.and_then(|_| light.figures.reached()),
            tokens_per_second,
            speed_up,
        })
    }
}

/// Past runs of a session, and the cursor and marks of their pane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    past: Vec<RunScore>,
    next: usize,
    /// Row of the cursor; the newest run is last.
    pub cursor: usize,
    /// Numbers of the runs to compare, at most two, in order of selection.
    pub marked: Vec<usize>,
}

impl Runs {
    /// Returns the number that the next entry gets.
    pub fn next_number(&self) -> usize {
        self.next + 1
    }

    /// Returns the past runs, oldest first.
    pub fn past(&self) -> &[RunScore] {
        &self.past
    }

    /// Adds a run that ended; runs of a few steps are dropped.
    pub fn end(&mut self, run: RunScore) {
        if run.steps < MIN_STEPS {
            return;
        }
        self.next = self.next.max(run.number);
        self.past.push(run);
        if self.past.len() > MAX_RUNS {
            let dropped = self.past.remove(0);
            self.marked.retain(|&number| number != dropped.number);
        }
    }

    /// Marks the run with this number for a comparison, or removes its mark. A third mark replaces
    /// the first.
    pub fn mark(&mut self, number: usize) {
        if let Some(at) = self.marked.iter().position(|&marked| marked == number) {
            self.marked.remove(at);
            return;
        }
        if self.marked.len() == 2 {
            self.marked.remove(0);
        }
        self.marked.push(number);
    }
}

/// Difference of two runs over texts of the same prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunDifference {
    /// Numbers of the runs; the difference is the second minus the first.
    pub numbers: (usize, usize),
    /// Number of prompts with a text of both runs.
    pub texts: usize,
    /// Differences of the means of both runs.
    pub means: Differences,
    /// Unit that was paired: positions or prompts.
    pub pairing: Pairing,
}

/// Compares two runs over the texts that both generated from their start.
///
/// If their settings give the same text, positions are paired, else whole texts. Only kept steps
/// count. `None` if the runs share no prompt.
pub fn compare(history: &History, a: &RunScore, b: &RunScore) -> Option<RunDifference> {
    let sampled = a.settings.samples_trees() || b.settings.samples_trees();
    let same = !sampled && generate_same_text(&a.settings, &b.settings);
    let pairing = if same { Pairing::Positions } else { Pairing::Prompts };
    let mut prompts = Vec::new();
    let (a_texts, b_texts) = (courses(history, a, &mut prompts), courses(history, b, &mut prompts));
    let (paired, _) = couples(&a_texts, &b_texts, pairing);
    let means = differences(&paired, pairing)?;
    Some(RunDifference { numbers: (a.number, b.number), texts: paired.len(), means, pairing })
}

/// Returns the last text of each prompt that began within a run.
///
/// `prompts` numbers prompt ids and seeds, so that texts of both runs get equal numbers.
fn courses(history: &History, run: &RunScore, prompts: &mut Vec<(String, u64)>) -> Vec<TextTrace> {
    let mut all: Vec<TextTrace> = Vec::new();
    let mut present: Option<usize> = None;
    let steps = history.steps_from(run.span.0).take_while(|step| step.number <= run.span.1);
    for step in steps {
        let record = &*step.record;
        if record.step == 0 {
            let seed = if record.settings.sampling().greedy() { 0 } else { record.settings.seed };
            let key = (record.prompt_id.clone(), seed);
            let index = prompts.iter().position(|known| *known == key).unwrap_or_else(|| {
                prompts.push(key);
                prompts.len() - 1
            });
            all.retain(|course| course.prompt != index);
            all.push(TextTrace::new(index));
            present = Some(step.text);
        }
        if present == Some(step.text)
            && let Some(course) = all.last_mut()
        {
            course.add_step(record);
            let ending = history.text_by_number(step.text).and_then(|text| text.ending);
            course.complete =
                ending.is_some_and(|ending| ending != crate::telemetry::Ending::Interrupted);
        }
    }
    all
}

/// Describes settings in a few words, for tables and summaries.
pub fn describe(settings: &StepSettings) -> String {
    let mut said = settings.drafter.name().to_owned();
    if settings.drafter != DrafterKind::None {
        let _ = write!(said, " {}", settings.shape);
        let _ = if settings.automatic() {
            write!(said, " B auto")
        } else {
            write!(said, " B {}", settings.budget)
        };
        if settings.verify != crate::verify::Rule::Match {
            let _ = write!(said, " {}", settings.verify.name());
        }
    }
    let _ = if settings.temperature == 0.0 {
        write!(said, " greedy")
    } else {
        write!(said, " T {:.1}", settings.temperature)
    };
    if settings.top_p < 1.0 {
        let _ = write!(said, " top-p {}", settings.top_p);
    }
    if let Some(k) = settings.top_k {
        let _ = write!(said, " top-k {k}");
    }
    said
}

/// Returns the scoreboard as comma-separated values, with a header.
pub fn csv(runs: &[RunScore]) -> String {
    const SETTINGS: [&str; 11] = [
        "run",
        "drafter",
        "shape",
        "budget",
        "automatic",
        "verify",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "steps",
    ];
    const FIGURES: [&str; 4] = ["tokens_per_step", "of_light", "tokens_per_second", "speed_up"];
    let figures =
        FIGURES.iter().flat_map(|name| ["", "_low", "_high"].map(|end| format!("{name}{end}")));
    let header: Vec<String> = SETTINGS.map(str::to_owned).into_iter().chain(figures).collect();
    let number = |x: Option<f64>| {
        x.filter(|x| x.is_finite()).map_or_else(String::new, |x| format!("{x:.4}"))
    };
    let cells = |found: Option<Estimate>| {
        let ends = found.and_then(|found| found.interval);
        [number(found.map(|f| f.value)), number(ends.map(|i| i.low)), number(ends.map(|i| i.high))]
    };
    let row = |run: &RunScore| {
        let s = &run.settings;
        let settings = [
            run.number.to_string(),
            s.drafter.to_string(),
            s.shape.to_string(),
            s.budget.to_string(),
            s.automatic().to_string(),
            s.verify.name().to_owned(),
            s.temperature.to_string(),
            s.top_p.to_string(),
            s.top_k.map_or_else(String::new, |k| k.to_string()),
            s.seed.to_string(),
            run.steps.to_string(),
        ];
        let figures =
            [Some(run.tokens_per_step), run.of_light, run.tokens_per_second, run.speed_up];
        let all: Vec<String> =
            settings.into_iter().chain(figures.into_iter().flat_map(cells)).collect();
        format_csv_row(&all)
    };
    format_csv_row(&header) + &runs.iter().map(row).collect::<String>()
}
