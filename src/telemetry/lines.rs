//! Lines of `speclight run --json`. `schema/run.schema.json` describes them for users; change both
//! together.

use serde::Serialize;

use super::{
    CalibrationSummary, CurvePoint, EntropyClassBound, Losses, MissSummary, OracleMean,
    OracleResult, Origins, OverlapMean, PassSeconds, ReachedIntervals, RuleCeilingMean,
    SpeedOfLight, SpeedUp, StageTimes, StepRecord, StepSettings, Summary,
};

/// Line of JSON output, tagged by `type`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JsonLine<'a> {
    /// First line: the settings of the run.
    Run(RunLine<'a>),
    /// Record of a step, in order.
    Step(&'a StepRecord),
    /// Oracle search of the preceding step, if it was searched.
    #[serde(rename = "look")]
    OracleSearched(OracleResultLine<'a>),
    /// Last line: the means of the run.
    Summary(Box<SummaryLine>),
}

/// Result of the oracle search for the preceding step.
#[derive(Clone, Debug, Serialize)]
pub struct OracleResultLine<'a> {
    /// Id of the step's prompt.
    pub prompt_id: &'a str,
    /// Number of the step within the prompt, from 0.
    pub step: usize,
    /// Result of the search.
    #[serde(flatten)]
    pub result: &'a OracleResult,
}

/// Model, device, and settings of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine<'a> {
    /// Version of this program.
    pub version: &'a str,
    /// Name of the target model.
    pub model: &'a str,
    /// Quantization of its weights, for example "Q4_1".
    pub quantisation: &'a str,
    /// SHA-256 of the model file in hexadecimal, if it is known.
    pub sha256: Option<&'a str>,
    /// Names of the device and the kernel.
    pub device: &'a str,
    /// Name of the draft model, if there is one.
    pub draft_model: Option<&'a str>,
    /// Maximum number of tokens of prompt and output together.
    pub context: usize,
    /// Bytes of all caches of keys and values; 0 if unknown.
    pub cache_bytes: u64,
    /// Maximum number of output tokens per prompt.
    pub max_tokens: usize,
    /// True if prompts were run without the chat template.
    pub raw: bool,
    /// Number of prompts in the run.
    pub prompts: usize,
    /// Settings of all steps.
    #[serde(flatten)]
    pub settings: &'a StepSettings,
}

/// Means of a run: the fields of a [`Summary`] that are stable across versions.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryLine {
    tokens: usize,
    steps: usize,
    accepted_mean: f64,
    tokens_per_step: f64,
    expected_accepted_mean: f64,
    mu: f64,
    mu2: f64,
    drawn: bool,
    ceilings: CeilingsLine,
    tokens_per_second: Option<f64>,
    autoregressive_tokens_per_second: Option<f64>,
    time: StageTimes,
    text_sha256: Option<String>,
    capacity_mean: Option<f64>,
    tree_nats_share: Option<f64>,
    capacity_ceiling: Option<f64>,
    speed_of_light: SpeedOfLight,
    losses: Losses,
    oracle: Option<OracleMean>,
    misses: MissSummary,
    reached: Option<ReachedIntervals>,
    curve: Vec<CurvePoint>,
    kinds: Vec<EntropyClassBound>,
    speed_up: SpeedUp,
    pass_seconds: Option<Vec<PassSeconds>>,
    origins: Origins,
    calibration: CalibrationSummary,
    overlap: Option<OverlapMean>,
    rule_ceiling: Option<RuleCeilingMean>,
}

#[derive(Clone, Debug, Serialize)]
struct CeilingsLine {
    batch: f64,
    published: Option<f64>,
    renewal: Option<f64>,
    renewal_tuned: Option<f64>,
    fluid: Option<f64>,
}

impl From<Summary> for SummaryLine {
    fn from(s: Summary) -> Self {
        let c = s.ceilings;
        SummaryLine {
            tokens: s.tokens,
            steps: s.steps,
            accepted_mean: s.accepted_mean,
            tokens_per_step: s.tokens_per_step,
            expected_accepted_mean: s.expected_accepted_mean,
            mu: s.mu,
            mu2: s.mu2,
            drawn: s.drawn,
            ceilings: CeilingsLine {
                batch: c.batch,
                published: c.published,
                renewal: c.renewal,
                renewal_tuned: c.renewal_tuned,
                fluid: c.fluid,
            },
            tokens_per_second: s.tokens_per_second,
            autoregressive_tokens_per_second: s.autoregressive_tokens_per_second,
            time: s.time,
            text_sha256: s.text_sha256,
            capacity_mean: s.capacity_mean,
            tree_nats_share: s.tree_nats_share,
            capacity_ceiling: s.capacity_ceiling,
            speed_of_light: s.speed_of_light,
            losses: s.losses,
            oracle: s.oracle,
            misses: s.misses,
            reached: s.reached,
            curve: s.curve,
            kinds: s.kinds,
            speed_up: s.speed_up,
            pass_seconds: s.pass_seconds,
            origins: s.origins,
            calibration: s.calibration,
            overlap: s.overlap,
            rule_ceiling: s.rule_ceiling,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::draft::{Drafter, Ngram, NoDraft};
    use crate::engine::testing::TableDecoder;
    use crate::engine::{FluidReport, Session, Vocabulary};
    use crate::telemetry::Tally;
    use crate::telemetry::testing::invalid_variants;
    use crate::theory::cost::CostCurve;
    use crate::theory::light::OracleCurve;
    use crate::verify::Rule;

    /// Curve with the mass that an oracle search found for three drafted nodes.
    fn oracle(result: &OracleResult) -> OracleCurve {
        OracleCurve::from_path_probabilities([result.oracle_lower / 3.0; 3], result.oracle_floor)
    }

    /// Maximum number of tokens of the run with an automatic budget.
    const CUT: usize = 150;

    /// Lines of five runs over a table, with every eighth step only.
    ///
    /// One run is greedy and short, two have sampled trees, one an automatic budget, and one is
    /// long enough for intervals.
    fn lines() -> Vec<Value> {
        let mut lines = Vec::new();
        let runs = [
            ("none", 0.0f32, "best-first", Rule::Match, 50),
            ("ngram", 0.7, "chain", Rule::Block, 200),
            ("ngram", 0.7, "fixed", Rule::Rejection, 400),
            ("ngram", 0.7, "fixed", Rule::Match, CUT),
            ("ngram", 0.7, "best-first", Rule::Match, 1500),
        ];
        for (drafter, temperature, shape, verify, max_tokens) in runs {
            let (drafter, shape) = (drafter.into(), shape.parse().unwrap());
            let settings = StepSettings {
                drafter,
                shape,
                budget: 4,
                auto: max_tokens == CUT,
                verify,
                temperature,
                top_p: 0.9,
                top_k: Some(4),
                seed: u64::MAX,
            };
            let drafters: Vec<Box<dyn Drafter>> =
                vec![Box::new(NoDraft), Box::new(Ngram::default())];
            let vocabulary =
                Arc::new(Vocabulary::new((0..5).map(|t| vec![b'a' + t].into()).collect(), vec![]));
            let table = Box::new(TableDecoder::new(5, 1).with_capacity(2048));
            let mut session = Session::new(table, drafters, vocabulary, settings.clone()).unwrap();
            if settings.auto {
                // The first drafted token is cheap, and further ones are not.
                session.set_cost(CostCurve::new(vec![(1, 1e3), (2, 1.05e3), (4, 3e3)]).unwrap());
            }
            session.start("a", &[1, 2], max_tokens).unwrap();
            let sha256 = "0".repeat(64);
            let run = RunLine {
                version: "0.1.0",
                model: "table",
                quantisation: "F32",
                sha256: (temperature > 0.0).then_some(&sha256),
                device: "cpu",
                draft_model: None,
                context: 512,
                cache_bytes: 0,
                max_tokens,
                raw: true,
                prompts: 1,
                settings: &settings,
            };
            let mut tally = Tally::default();
            lines.push(serde_json::to_string(&JsonLine::Run(run)).unwrap());
            while let Some(record) = session.step().unwrap() {
                tally.add(&record);
                let told =
                    record.step.is_multiple_of(8) || settings.auto && !record.tree.cut.is_empty();
                if told {
                    lines.push(serde_json::to_string(&JsonLine::Step(&record)).unwrap());
                }
                if temperature > 0.0 {
                    let result =
                        session.start_search(record.step).unwrap().unwrap().refined().unwrap();
                    tally.add_oracle_result("a", record.step, &result);
                    tally.add_oracle_curve("a", record.step, result.drafter_best, &oracle(&result));
                    let line =
                        OracleResultLine { prompt_id: "a", step: record.step, result: &result };
                    if told {
                        lines.push(serde_json::to_string(&JsonLine::OracleSearched(line)).unwrap());
                    }
                }
            }
            tally.end_text();
            let plain = (temperature > 0.0).then_some(9.0);
            if temperature > 0.0 {
                let fluid = session.fluid(FluidReport::AnyNewPosition);
                assert_eq!(fluid.is_some(), verify == Rule::Match);
                fluid.iter().for_each(|fluid| tally.fluid(fluid));
                tally.cost(&CostCurve::new(vec![(1, 1.0), (8, 2.0)]).unwrap());
            }
            lines.push(
                serde_json::to_string(&JsonLine::Summary(Box::new(tally.summary(plain).into())))
                    .unwrap(),
            );
        }
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn schema_accepts_every_line_and_rejects_variants() {
        let schema: Value =
            serde_json::from_str(include_str!("../../schema/run.schema.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let lines = lines();
        assert!(lines.len() > 10);
        let any = |pointer: &str| {
            lines.iter().any(|line| line.pointer(pointer).is_some_and(|value| !value.is_null()))
        };
        for pointer in [
            "/tree/cut/0",
            "/overlap/0",
            "/rule_ceiling/ceiling",
            "/overlap/p_argmax_mean",
            "/rule_ceiling/ceiling_mean",
        ] {
            assert!(any(pointer), "no line has {pointer}");
        }
        let mut spoiled = 0;
        for line in &lines {
            assert!(schema.is_valid(line), "{}: {line}", schema.validate(line).unwrap_err());
            for (how, wrong) in invalid_variants(line) {
                assert!(!schema.is_valid(&wrong), "{how} passes: {wrong}");
                spoiled += 1;
            }
        }
        assert!(spoiled > 500, "{spoiled}");
    }

    #[test]
    fn sampled_trees_report_only_the_batch_ceiling() {
        let lines = lines();
        let drawn = |line: &&Value| {
            line["verify"] == "rejection"
                || line["drawn"] == true
                || line["settings"]["verify"] == "rejection"
        };
        let told: Vec<&Value> = lines.iter().filter(drawn).collect();
        assert!(told.len() > 10 && told.iter().any(|line| line["type"] == "summary"));
        for line in told.iter().filter(|line| line["type"] != "run") {
            assert_eq!(line["ceilings"]["batch"], 3.0);
            assert!(
                ["fluid", "renewal", "renewal_tuned", "published"]
                    .iter()
                    .all(|name| line["ceilings"][name].is_null()),
                "{line}"
            );
            assert!(line["reached"].is_null() || line["reached"]["share"].is_null());
        }
        let steps = || told.iter().filter(|line| line["type"] == "step");
        let list = |line: &Value, name: &str| -> Vec<f64> {
            serde_json::from_value(line["tree"][name].clone()).unwrap()
        };
        assert!(steps().any(|line| list(line, "accept") != list(line, "p")));
        assert!(steps().all(|line| list(line, "accept").len() == list(line, "p").len()));
        let summary = told.last().unwrap();
        assert!(
            summary["losses"]["budget"].is_null()
                && summary["speed_up"]["ceiling"].is_null()
                && summary["curve"][1]["fluid"].is_null()
        );
    }

    #[test]
    fn summary_has_the_documented_fields() {
        let summary = lines().pop().unwrap();
        let number = |path: &str| summary.pointer(path).and_then(Value::as_f64).unwrap();
        let losses: f64 =
            summary["losses"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((losses - (number("/ceilings/batch") - number("/accepted_mean"))).abs() < 1e-9);
        assert!((number("/curve/3/accepted") - number("/accepted_mean")).abs() < 1e-9);
        assert!((number("/curve/3/fluid") - number("/ceilings/fluid")).abs() < 1e-9);
        assert_eq!(number("/oracle/looks"), number("/steps"));
        assert!(number("/oracle/lower") <= number("/oracle/upper"));
        assert!(number("/speed_up/ceiling/speed_up") >= 1.0 && number("/reached/share/low") > 0.0);
        assert!(
            (number("/capacity_mean") - 0.5).abs() < 0.5
                && (number("/tree_nats_share") - 0.5).abs() < 0.5
        );
        assert!(number("/capacity_ceiling") >= number("/tokens_per_step"));
        let (c, v) = (number("/speed_of_light/tokens_per_second"), number("/tokens_per_second"));
        assert!(
            (number("/speed_of_light/share") - v / c).abs() < 1e-9
                && number("/speed_of_light/low") < c
        );
        let gaps = summary["speed_of_light"]["ladder"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_f64);
        assert!((gaps.sum::<f64>() - (c - v)).abs() < 1e-9 * v.max(c));
        assert_eq!(number("/speed_of_light/searched_steps"), number("/steps"));
        let mut light: Vec<&str> =
            summary["speed_of_light"].as_object().unwrap().keys().map(String::as_str).collect();
        light.sort_unstable();
        let want = "best_budget high iid_tokens_per_second ladder low searched_steps share share_high share_low tokens_per_second";
        assert_eq!(light.join(" "), want);
        let mut keys: Vec<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let want = "accepted_mean autoregressive_tokens_per_second calibration capacity_ceiling capacity_mean ceilings curve drawn expected_accepted_mean kinds losses misses mu \
                    mu2 oracle origins overlap pass_seconds reached rule_ceiling speed_of_light speed_up steps text_sha256 time tokens tokens_per_second tokens_per_step tree_nats_share type";
        assert_eq!(keys.join(" "), want);
        let mut ceilings: Vec<&str> =
            summary["ceilings"].as_object().unwrap().keys().map(String::as_str).collect();
        ceilings.sort_unstable();
        assert_eq!(ceilings, ["batch", "fluid", "published", "renewal", "renewal_tuned"]);
    }
}
