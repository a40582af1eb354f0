//! Figures in lines of logs.

use crate::attach::{Counters, ServerKind, Step};

/// Tokens that a step drafts at most; larger numbers are no drafts.
const MOST_DRAFTED: usize = 4096;

/// Content of one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Logged {
    /// One drafted step of a request.
    Step(Step),
    /// Totals of a request, whose steps may have lines of their own.
    Request(Counters),
    /// Totals of a window.
    Totals(Counters),
    /// Means of a window.
    Mean(Mean),
}

/// Means of one window, which its weight makes comparable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mean {
    tokens_per_step: f64,
    rate: Option<f64>,
    weight: f64,
}

/// Weighted sums of window means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    pub weight: f64,
    pub tokens_per_step: f64,
    pub rates: f64,
    pub rate: f64,
}

impl Means {
    pub fn add(&mut self, mean: Mean) {
        self.weight += mean.weight;
        self.tokens_per_step += mean.weight * mean.tokens_per_step;
        if let Some(rate) = mean.rate {
            self.rates += mean.weight;
            self.rate += mean.weight * rate;
        }
    }
}

/// Reads a line; `before` are the steps so far.
pub(super) fn read(line: &str, before: &[Step]) -> Option<(ServerKind, Logged)> {
    if line.contains("SpecDecoding metrics:") {
        return vllm(line).map(|logged| (ServerKind::Vllm, logged));
    }
    if line.contains("Decode batch") && line.contains("accept len:") {
        return sglang(line).map(|logged| (ServerKind::Sglang, logged));
    }
    if line.contains("MTP accept") {
        return mistral(line).map(|logged| (ServerKind::MistralRs, logged));
    }
    if line.contains("draft tokens") {
        return llama_step(line, before).map(|step| (ServerKind::LlamaServer, Logged::Step(step)));
    }
    llama_request(line).map(|totals| (ServerKind::LlamaServer, Logged::Request(totals)))
}

/// Number right after `label`, white space between them left out.
fn after<'a>(line: &'a str, label: &str) -> Option<(f64, &'a str)> {
    let rest = line.split_once(label)?.1.trim_start();
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    let number = rest[..end].trim_end_matches('.').parse::<f64>().ok().filter(|n| n.is_finite())?;
    Some((number, &rest[end..]))
}

fn number(line: &str, label: &str) -> Option<f64> {
    after(line, label).map(|(number, _)| number)
}

/// `accepted  3/ 7 draft tokens`, under `LLAMA_TRACE=1`.
fn llama_step(line: &str, before: &[Step]) -> Option<Step> {
    let (accepted, rest) = after(line, "accepted")?;
    let drafted = number(rest.trim_start().strip_prefix('/')?, "")?;
    if accepted > drafted
        || drafted > MOST_DRAFTED as f64
        || accepted.fract() != 0.0
        || drafted.fract() != 0.0
    {
        return None;
    }
    let task = number(line, "task").or_else(|| number(line, "id_task ="));
    let prompt_id = task.map_or_else(String::new, |task| format!("task {task}"));
    let (accepted, drafted) = (accepted as usize, drafted as usize);
    let last = before.iter().rev().take(256).find(|step| step.prompt_id == prompt_id);
    let (step, start) = last.map_or((0, 1), |last| (last.step + 1, last.start + last.emitted));
    let (accepted, drafted, emitted) = (Some(accepted), Some(drafted), accepted + 1);
    Some(Step { prompt_id, step, start, accepted, drafted, emitted, seconds: None, exact: true })
}

/// Parses the line of a finished request of llama-server.
///
/// For example `draft acceptance = 0.64479 (  167 accepted /   259 generated), mean len =  2.92`.
fn llama_request(line: &str) -> Option<Counters> {
    let rest = line.split_once("draft acceptance")?.1;
    let (accepted, rest) = after(rest, "(")?;
    let drafted = number(rest, "/")?;
    let steps = number(rest, "mean len =")
        .filter(|mean| *mean > 1.0)
        .map(|mean| (accepted / (mean - 1.0)).round());
    (accepted <= drafted).then(|| Counters {
        accepted: Some(accepted),
        drafted: Some(drafted),
        drafted_steps: steps,
        ..Counters::default()
    })
}

/// Parses the line that vLLM writes every ten seconds.
///
/// The number of steps follows from the mean length, which has two decimals.
fn vllm(line: &str) -> Option<Logged> {
    let (accepted, drafted) = (number(line, " Accepted:")?, number(line, " Drafted:")?);
    let rates =
        line.split_once("Per-position acceptance rate:").map(|(_, rest)| rest).unwrap_or_default();
    let rates: Vec<f64> = rates
        .split(',')
        .map_while(|rate| rate.trim().parse::<f64>().ok())
        .take(MOST_DRAFTED)
        .collect();
    let mean = number(line, "Mean acceptance length:").filter(|mean| *mean > 1.0);
    let steps = match mean {
        Some(mean) => Some(accepted / (mean - 1.0)),
        None => (!rates.is_empty()).then(|| drafted / rates.len() as f64),
    };
    let steps = steps.filter(|steps| steps.is_finite());
    Some(Logged::Totals(Counters {
        accepted: Some(accepted),
        drafted: Some(drafted),
        drafted_steps: steps,
        accepted_by_depth: steps
            .map(|steps| rates.iter().map(|rate| rate * steps).collect())
            .unwrap_or_default(),
        budget: (!rates.is_empty()).then(|| rates.len() + 1),
        ..Counters::default()
    }))
}

/// Parses a line of SGLang: a mean over some passes of a batch.
///
/// For example `Decode batch, #running-req: 3, ..., accept len: 2.75, accept rate: 0.58, ...`.
fn sglang(line: &str) -> Option<Logged> {
    let tokens_per_step = number(line, "accept len:").filter(|length| *length >= 1.0)?;
    let weight = number(line, "#running-req:").filter(|n| *n > 0.0).unwrap_or(1.0);
    Some(Logged::Mean(Mean { tokens_per_step, rate: number(line, "accept rate:"), weight }))
}

/// Parses a line of mistral.rs such as `MTP accept 71.2% (len 3.41)`.
fn mistral(line: &str) -> Option<Logged> {
    let (rate, rest) = after(line, "MTP accept")?;
    let tokens_per_step = number(rest, "(len").filter(|length| *length >= 1.0)?;
    Some(Logged::Mean(Mean { tokens_per_step, rate: Some(rate / 100.0), weight: 1.0 }))
}
