//! Lines of JSON of `speclight attach` and `speclight import`; `schema/attach.schema.json`
//! describes them, change both together.

use serde::Serialize;

use super::bracket::Bracket;
use super::earlier::EarlierProbe;
use super::estimate::{Brackets, Estimates};
use super::{Step, Summary, Window};
use crate::theory::intervals::Estimate;

/// One line of JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AttachLine<'a> {
    /// The first: the server, or the files.
    Run(AttachRunLine<'a>),
    /// One for each step that is known.
    Step(AttachStepLine<'a>),
    /// One for each interval of a server that is watched.
    Window(Box<WindowLine>),
    /// The last: figures over all steps and texts.
    Summary(Box<AttachSummaryLine>),
}

/// Source of the figures.
#[derive(Clone, Debug, Serialize)]
pub struct AttachRunLine<'a> {
    /// Name of the engine.
    pub engine: &'a str,
    /// Version of the engine, where known.
    pub version: Option<&'a str>,
    /// Name of the model, where known.
    pub model: Option<&'a str>,
    /// `passive`, `probe` or `import`.
    pub mode: &'a str,
    /// Version of this program.
    pub speclight: &'a str,
    /// Speculative method, where the engine names it.
    pub method: Option<&'a str>,
    /// Temperature of a probe's texts.
    pub temperature: Option<f64>,
    /// Top-p of a probe's texts, applied after the temperature.
    pub top_p: Option<f64>,
    /// Most probable tokens requested with each position of a probe.
    pub top: Option<usize>,
    /// Reason why the bounds' assumptions are not met, where the engine shows one.
    pub outside: Option<&'a str>,
}

/// One step of the server.
#[derive(Clone, Debug, Serialize)]
pub struct AttachStepLine<'a> {
    prompt_id: &'a str,
    step: usize,
    accepted: Option<usize>,
    drafted: Option<usize>,
    emitted: usize,
    seconds: Option<f64>,
    exact: bool,
}

impl<'a> From<&'a Step> for AttachStepLine<'a> {
    fn from(step: &'a Step) -> Self {
        AttachStepLine {
            prompt_id: &step.prompt_id,
            step: step.step,
            accepted: step.accepted,
            drafted: step.drafted,
            emitted: step.emitted,
            seconds: step.seconds,
            exact: step.exact,
        }
    }
}

/// Figures of one interval of a server that is watched.
#[derive(Clone, Debug, Serialize)]
pub struct WindowLine {
    seconds: f64,
    steps: Option<f64>,
    drafted_steps: Option<f64>,
    drafted: Option<f64>,
    accepted: Option<f64>,
    accepted_per_drafted_step: Option<f64>,
    drafted_mean: Option<f64>,
    acceptance_by_depth: Vec<f64>,
    depth_is_lower_bound: bool,
    tokens_per_step: Option<f64>,
    undrafted_share: Option<f64>,
    step_seconds: Option<f64>,
    tokens_per_second: Option<f64>,
    running: Option<f64>,
    engine_tokens_per_step: Option<f64>,
}

impl From<&Window> for WindowLine {
    fn from(w: &Window) -> Self {
        WindowLine {
            seconds: w.seconds,
            steps: w.steps,
            drafted_steps: w.drafted_steps,
            drafted: w.drafted,
            accepted: w.accepted,
            accepted_per_drafted_step: w.accepted_mean,
            drafted_mean: w.drafted_mean,
            acceptance_by_depth: w.acceptance_by_depth.clone(),
            depth_is_lower_bound: w.depth_is_lower_bound,
            tokens_per_step: w.tokens_per_step,
            undrafted_share: w.undrafted_share,
            step_seconds: w.step_seconds,
            tokens_per_second: w.tokens_per_second,
            running: w.running,
            engine_tokens_per_step: w.own.map(|own| own.tokens_per_step),
        }
    }
}

/// Estimate with the ends of its 95% interval.
#[derive(Clone, Copy, Debug, Serialize)]
struct EstimateLine {
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
}

impl From<Estimate> for EstimateLine {
    fn from(estimate: Estimate) -> Self {
        let (low, high) = super::estimate::ends(estimate.interval);
        EstimateLine { value: estimate.value, low, high }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct BracketLine {
    low: f64,
    high: Option<f64>,
}

impl From<Bracket> for BracketLine {
    fn from(bracket: Bracket) -> Self {
        BracketLine { low: bracket.low, high: bracket.high }
    }
}

#[derive(Clone, Debug, Serialize)]
struct BracketsLine {
    mu: BracketLine,
    mu2: BracketLine,
    published: Option<BracketLine>,
    renewal: Option<BracketLine>,
    renewal_tuned: Option<BracketLine>,
    fluid: Option<BracketLine>,
    fluid_at_mean: Option<BracketLine>,
    chain: Option<BracketLine>,
}

impl From<Brackets> for BracketsLine {
    fn from(b: Brackets) -> Self {
        BracketsLine {
            mu: b.mu.into(),
            mu2: b.mu2.into(),
            published: b.published.map(Into::into),
            renewal: b.renewal.map(Into::into),
            renewal_tuned: b.renewal_tuned.map(Into::into),
            fluid: b.fluid.map(Into::into),
            fluid_at_mean: b.fluid_at_mean.map(Into::into),
            chain: b.chain.map(Into::into),
        }
    }
}

/// Figures of the probe of an earlier run, which had other texts.
#[derive(Clone, Debug, Serialize)]
struct EarlierLine {
    date: String,
    tokens: u64,
    texts: usize,
    positions: usize,
    temperature: f64,
    top_p: f64,
    budget: Option<usize>,
    mu: Option<EstimateLine>,
    mu2: Option<EstimateLine>,
    ceilings: AttachCeilingsLine,
}

impl From<&EarlierProbe> for EarlierLine {
    fn from(e: &EarlierProbe) -> Self {
        EarlierLine {
            date: e.utc_date(),
            tokens: e.tokens,
            texts: e.texts,
            positions: e.estimates.positions,
            temperature: e.temperature,
            top_p: e.top_p,
            budget: e.budget,
            mu: e.estimates.mu.map(Into::into),
            mu2: e.estimates.mu2.map(Into::into),
            ceilings: ceilings(e.budget, Some(&e.estimates)),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
struct AttachCeilingsLine {
    batch: Option<f64>,
    published: Option<EstimateLine>,
    renewal: Option<EstimateLine>,
    renewal_tuned: Option<EstimateLine>,
    fluid: Option<EstimateLine>,
    fluid_at_mean: Option<EstimateLine>,
    chain: Option<EstimateLine>,
}

/// Marks of the ladder from B - 1 down to the accepted length.
///
/// Means over the steps that were compared with the target's own chain.
#[derive(Clone, Debug, Serialize)]
struct ChainLadderLine {
    batch: Option<f64>,
    fluid: Option<EstimateLine>,
    chain: Option<EstimateLine>,
    oracle_chain: Option<EstimateLine>,
    accepted: Option<EstimateLine>,
    oracle_chain_at_drafted: Option<EstimateLine>,
    steps: usize,
}

#[derive(Clone, Debug, Serialize)]
struct ReferenceLine {
    temperature: f64,
    mu: Option<EstimateLine>,
    mu2: Option<EstimateLine>,
    ceilings: AttachCeilingsLine,
}

#[derive(Clone, Debug, Serialize)]
struct PassTimeLine {
    tokens: usize,
    passes: usize,
    seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
struct AttachLightLine {
    tokens_per_second: f64,
    low: Option<f64>,
    high: Option<f64>,
    best_budget: usize,
    share: f64,
    share_low: Option<f64>,
    share_high: Option<f64>,
}

/// Means over all that was seen.
#[derive(Clone, Debug, Serialize)]
pub struct AttachSummaryLine {
    texts: usize,
    tokens: Option<f64>,
    steps: Option<f64>,
    exact_steps: usize,
    drafted_steps: Option<f64>,
    drafted: Option<f64>,
    accepted: Option<f64>,
    accepted_mean: Option<f64>,
    accepted_per_drafted_step: Option<f64>,
    drafted_mean: Option<f64>,
    tokens_per_step: Option<f64>,
    undrafted_share: Option<f64>,
    acceptance_by_depth: Vec<f64>,
    depth_is_lower_bound: bool,
    budget: Option<usize>,
    greedy: bool,
    positions: usize,
    mu: Option<EstimateLine>,
    mu2: Option<EstimateLine>,
    ceilings: AttachCeilingsLine,
    brackets: Option<BracketsLine>,
    earlier_probe: Option<EarlierLine>,
    ladder: Option<ChainLadderLine>,
    reference: Option<ReferenceLine>,
    step_seconds: Option<f64>,
    tokens_per_second: Option<f64>,
    engine_tokens_per_step: Option<f64>,
    pass_seconds: Option<Vec<PassTimeLine>>,
    speed_of_light: Option<AttachLightLine>,
}

fn ceilings(budget: Option<usize>, found: Option<&Estimates>) -> AttachCeilingsLine {
    let batch = budget.map(|budget| budget as f64 - 1.0);
    let Some(e) = found else {
        return AttachCeilingsLine { batch, ..AttachCeilingsLine::default() };
    };
    AttachCeilingsLine {
        batch,
        published: e.published.map(Into::into),
        renewal: e.renewal.map(Into::into),
        renewal_tuned: e.renewal_tuned.map(Into::into),
        fluid: e.fluid.map(Into::into),
        fluid_at_mean: e.fluid_at_mean.map(Into::into),
        chain: e.chain.map(Into::into),
    }
}

impl From<&Summary> for AttachSummaryLine {
    fn from(s: &Summary) -> Self {
        let found = s.estimates.as_ref();
        let ladder = found.filter(|e| e.marks > 0).map(|e| ChainLadderLine {
            batch: s.budget.map(|budget| budget as f64 - 1.0),
            fluid: e.fluid.map(Into::into),
            chain: e.chain.map(Into::into),
            oracle_chain: e.oracle_chain.map(Into::into),
            accepted: e.accepted_at_marks.map(Into::into),
            oracle_chain_at_drafted: e.oracle_chain_at_drafted.map(Into::into),
            steps: e.marks,
        });
        let reference = s.reference.as_ref().map(|e| ReferenceLine {
            temperature: 1.0,
            mu: e.mu.map(Into::into),
            mu2: e.mu2.map(Into::into),
            ceilings: ceilings(s.budget, Some(e)),
        });
        let light = s.light.map(|light| {
            let (ceiling, share) =
                (EstimateLine::from(light.ceiling), EstimateLine::from(light.share));
            AttachLightLine {
                tokens_per_second: ceiling.value,
                low: ceiling.low,
                high: ceiling.high,
                best_budget: light.best_budget,
                share: share.value,
                share_low: share.low,
                share_high: share.high,
            }
        });
        let passes = s.pass_times.iter().map(|t| PassTimeLine {
            tokens: t.tokens,
            passes: t.passes,
            seconds: t.seconds,
        });
        AttachSummaryLine {
            texts: s.texts,
            tokens: s.tokens,
            steps: s.steps,
            exact_steps: s.exact_steps,
            drafted_steps: s.drafted_steps,
            drafted: s.drafted,
            accepted: s.accepted,
            accepted_mean: s.accepted_mean,
            accepted_per_drafted_step: s.accepted_per_drafted_step,
            drafted_mean: s.drafted_mean,
            tokens_per_step: s.tokens_per_step,
            undrafted_share: s.undrafted_share,
            acceptance_by_depth: s.acceptance_by_depth.clone(),
            depth_is_lower_bound: s.depth_is_lower_bound,
            budget: s.budget,
            greedy: s.greedy,
            positions: found.or(s.reference.as_ref()).map_or(0, |e| e.positions),
            mu: found.and_then(|e| e.mu).map(Into::into),
            mu2: found.and_then(|e| e.mu2).map(Into::into),
            ceilings: ceilings(s.budget, found),
            brackets: s.brackets.map(Into::into),
            earlier_probe: s.earlier.as_ref().map(Into::into),
            ladder,
            reference,
            step_seconds: s.step_seconds,
            tokens_per_second: s.tokens_per_second,
            engine_tokens_per_step: s.own_tokens_per_step,
            pass_seconds: (!s.pass_times.is_empty()).then(|| passes.collect()),
            speed_of_light: light,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;
    use crate::attach::counters::OwnWindow;
    use crate::attach::estimate::{ChainMark, Drawn, Position, Scored};
    use crate::attach::{Event, Identity, Tally};
    use crate::telemetry::testing::invalid_variants;

    fn summary(temperature: f64, texts: usize) -> Summary {
        let mut tally =
            Tally::new(&Identity { vocabulary: Some(9), ..Identity::default() }, temperature);
        for text in 0..texts {
            for i in 0..24 {
                let (accepted, drafted) = ((i + text) % 3, if i % 6 == 0 { 2 } else { 3 });
                let (prompt_id, emitted, exact) = (text.to_string(), accepted + 1, true);
                let seconds = Some(0.01 * (drafted + 1) as f64);
                let (accepted, drafted) = (Some(accepted), Some(drafted));
                tally.take(&Event::Step(Step {
                    prompt_id,
                    step: i,
                    start: 1,
                    accepted,
                    drafted,
                    emitted,
                    seconds,
                    exact,
                }));
            }
            let position = |i: usize| {
                Position::new(
                    [0.5, 0.3],
                    Some(Drawn { surprisal: 2.2, in_top: !(i + text).is_multiple_of(5) }),
                )
            };
            let chain = |i: usize| ChainMark { reached: i % 3, at_drafted: i % 2, accepted: i % 2 };
            let scored = Scored {
                positions: (0..20).map(position).collect(),
                chains: (0..9).map(chain).collect(),
            };
            tally.take(&Event::Scored(Box::new(scored)));
            tally.take(&Event::TextEnded { tokens: 50 });
        }
        tally.summary()
    }

    fn lines() -> Vec<Value> {
        let run = AttachRunLine {
            engine: "llama-server",
            version: Some("b1"),
            model: Some("m"),
            mode: "probe",
            speclight: "0.1.0",
            method: Some("draft-simple"),
            temperature: Some(1.0),
            top_p: Some(1.0),
            top: Some(20),
            outside: None,
        };
        let step = Step {
            prompt_id: "p".into(),
            step: 3,
            start: 9,
            accepted: Some(1),
            drafted: Some(3),
            emitted: 2,
            seconds: Some(0.1),
            exact: true,
        };
        let window = Window {
            seconds: 5.0,
            acceptance_by_depth: vec![0.5],
            own: Some(OwnWindow { tokens_per_step: 2.0, rate: None }),
            ..Window::default()
        };
        let all = [
            AttachLine::Run(run),
            AttachLine::Step((&step).into()),
            AttachLine::Window(Box::new((&window).into())),
            AttachLine::Summary(Box::new((&summary(1.0, 8)).into())),
            AttachLine::Summary(Box::new((&summary(0.0, 8)).into())),
            AttachLine::Summary(Box::new((&summary(1.0, 0)).into())),
        ];
        all.iter()
            .map(|line| serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn the_schema_takes_every_line_and_nothing_that_differs() {
        let schema: Value =
            serde_json::from_str(include_str!("../../schema/attach.schema.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let mut spoiled = 0;
        for line in lines() {
            assert!(schema.is_valid(&line), "{}: {line}", schema.validate(&line).unwrap_err());
            for (how, wrong) in invalid_variants(&line) {
                assert!(!schema.is_valid(&wrong), "{how} passes: {wrong}");
                spoiled += 1;
            }
        }
        assert!(spoiled > 200, "{spoiled}");
    }

    #[test]
    fn a_summary_has_the_fields_that_others_rely_on() {
        let lines = lines();
        let full = &lines[3];
        for name in ["mu", "mu2"] {
            let (low, value, high) =
                (&full[name]["low"], &full[name]["value"], &full[name]["high"]);
            assert!(
                low.as_f64().unwrap() <= value.as_f64().unwrap()
                    && value.as_f64().unwrap() <= high.as_f64().unwrap(),
                "{full}"
            );
        }
        let ceilings = &full["ceilings"];
        let value = |name: &str| ceilings[name]["value"].as_f64().unwrap();
        assert!(
            value("fluid") <= value("renewal_tuned") && value("renewal_tuned") <= value("renewal")
        );
        assert!(
            value("chain") <= value("fluid") && value("fluid_at_mean") <= value("fluid") + 1e-9
        );
        assert_eq!((full["budget"].as_u64(), ceilings["batch"].as_f64()), (Some(4), Some(3.0)));
        assert!(
            full["speed_of_light"]["share"].as_f64().unwrap() > 0.0
                && full["ladder"]["steps"] == 72
        );
        let (greedy, empty) = (&lines[4], &lines[5]);
        assert!(
            greedy["mu"].is_null()
                && greedy["ceilings"]["fluid"].is_null()
                && greedy["reference"]["mu"]["value"].is_f64()
        );
        assert!(
            empty["mu"].is_null() && empty["budget"].is_null() && empty["accepted_mean"].is_null()
        );
    }
}
