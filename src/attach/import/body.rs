//! Figures in JSON records: responses, exports of benchmarks, request metrics, iteration
//! statistics.

use serde_json::{Map, Value};

use crate::attach::sglang::number;
use crate::attach::{Counters, ServerKind, Step};

/// Content of one line or document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub model: Option<String>,
    pub steps: Vec<Step>,
    pub totals: Option<Counters>,
    /// True if it is all of one request.
    pub text: bool,
}

/// Levels below which a record is not searched.
const DEEPEST: usize = 12;
/// Tokens that a step drafts at most; larger numbers are no drafts.
const MOST_DRAFTED: u64 = 4096;

/// Returns the figures in a record, and the engine that wrote it.
///
/// `id` names the text where the record doesn't.
pub(super) fn find(value: &Value, id: &str) -> Option<(ServerKind, Found)> {
    let (engine, mut found) = search(value, 0)?;
    found.model = text(value, &["model", "model_name"]);
    let id =
        text(value, &["id", "request_id", "x_request_id", "rid"]).unwrap_or_else(|| id.to_owned());
    found.steps.iter_mut().for_each(|step| step.prompt_id.clone_from(&id));
    if let Some(tokens) =
        number(&value["usage"], &["completion_tokens"]).filter(|_| engine == ServerKind::Vllm)
    {
        complete(&mut found, tokens);
    }
    Some((engine, found))
}

/// Adds the steps without a draft, which responses leave out.
///
/// Each of them emitted one of the tokens that the drafted steps did not. If the drafted steps
/// emitted more tokens than the text has, it was cut at a stop, and the last step gets fewer.
fn complete(found: &mut Found, tokens: usize) {
    let emitted: usize = found.steps.iter().map(|step| step.emitted).sum();
    let after_first = tokens.saturating_sub(1);
    let Some(last) = found.steps.last_mut() else { return };
    match after_first.checked_sub(emitted) {
        Some(undrafted) => {
            let totals = found.totals.get_or_insert_default();
            totals.steps = Some(undrafted as f64);
            totals.step_tokens = totals.steps;
        }
        None => last.emitted = last.emitted.saturating_sub(emitted - after_first).max(1),
    }
}

fn text(value: &Value, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| value[*name].as_str()).map(str::to_owned)
}

fn search(value: &Value, depth: usize) -> Option<(ServerKind, Found)> {
    if depth > DEEPEST {
        return None;
    }
    match value {
        Value::Object(map) => {
            read(map).or_else(|| map.values().find_map(|inner| search(inner, depth + 1)))
        }
        Value::Array(list) => list.iter().find_map(|inner| search(inner, depth + 1)),
        _ => None,
    }
}

/// Figures of one object, if it is one that holds them.
fn read(map: &Map<String, Value>) -> Option<(ServerKind, Found)> {
    let value = Value::Object(map.clone());
    if map.contains_key("specDecodingStats") {
        return iteration(&value).map(|found| (ServerKind::TensorRtLlm, found));
    }
    if map.contains_key("spec_verify_ct") {
        return sglang(&value).map(|found| (ServerKind::Sglang, found));
    }
    if map.contains_key("total_draft_tokens") && map.contains_key("total_accepted_draft_tokens") {
        let totals = Counters {
            accepted: Some(value["total_accepted_draft_tokens"].as_f64()?),
            drafted: Some(value["total_draft_tokens"].as_f64()?),
            drafted_steps: value["num_spec_steps"].as_f64(),
            ..Counters::default()
        };
        return Some((
            ServerKind::TensorRtLlm,
            Found { totals: Some(totals), text: true, ..Found::default() },
        ));
    }
    let lists = [map.get("per_step_accepted"), map.get("per_step_drafted")]
        .map(|list| list.filter(|list| list.is_array()));
    if let [Some(accepted), Some(drafted)] = lists {
        return steps(&value, accepted, drafted).map(|found| (ServerKind::Vllm, found));
    }
    if map.contains_key("num_spec_steps") && map.contains_key("num_accepted_draft_tokens") {
        return summary(&value).map(|found| (ServerKind::Vllm, found));
    }
    None
}

/// Every drafted step of a response at `detailed`.
fn steps(value: &Value, accepted: &Value, drafted: &Value) -> Option<Found> {
    let list = |value: &Value| -> Option<Vec<usize>> {
        let numbers = value
            .as_array()?
            .iter()
            .map(|n| n.as_u64().filter(|n| *n <= MOST_DRAFTED).map(|n| n as usize));
        numbers.collect()
    };
    let (accepted, drafted) = (list(accepted)?, list(drafted)?);
    if accepted.len() != drafted.len() || accepted.iter().zip(&drafted).any(|(a, d)| a > d) {
        return None;
    }
    let mut start = 1;
    let steps = accepted.into_iter().zip(drafted).enumerate().map(|(step, (accepted, drafted))| {
        let step = Step {
            prompt_id: String::new(),
            step,
            start,
            accepted: Some(accepted),
            drafted: Some(drafted),
            emitted: accepted + 1,
            seconds: None,
            exact: true,
        };
        start += step.emitted;
        step
    });
    let budget = number(value, &["num_spec_tokens"]).map(|n| n.saturating_add(1));
    let totals = Counters { budget, ..Counters::default() };
    Some(Found { steps: steps.collect(), totals: Some(totals), text: true, ..Found::default() })
}

/// Returns the totals of a response, from its `summary`.
///
/// The histogram is a list or an object by accepted length.
fn summary(value: &Value) -> Option<Found> {
    let histogram: Vec<(usize, f64)> = match &value["acceptance_histogram"] {
        Value::Array(list) => {
            list.iter().enumerate().filter_map(|(j, n)| Some((j, n.as_f64()?))).collect()
        }
        Value::Object(map) => {
            map.iter().filter_map(|(j, n)| Some((j.parse().ok()?, n.as_f64()?))).collect()
        }
        _ => Vec::new(),
    };
    let totals = Counters {
        drafted_steps: Some(value["num_spec_steps"].as_f64()?),
        accepted: Some(value["num_accepted_draft_tokens"].as_f64()?),
        drafted: value["num_draft_tokens"].as_f64(),
        accepted_by_depth: by_depth(&histogram),
        budget: number(value, &["num_spec_tokens"]).map(|n| n.saturating_add(1)),
        ..Counters::default()
    };
    Some(Found { totals: Some(totals), text: true, ..Found::default() })
}

/// Steps that accepted more than d tokens, by d, from steps by accepted length.
fn by_depth(histogram: &[(usize, f64)]) -> Vec<f64> {
    let most = histogram
        .iter()
        .map(|(j, _)| *j)
        .filter(|j| *j <= MOST_DRAFTED as usize)
        .max()
        .unwrap_or(0);
    (0..most).map(|d| histogram.iter().filter(|(j, _)| *j > d).map(|(_, n)| n).sum()).collect()
}

/// Totals of one request of SGLang; every verify pass has a draft.
fn sglang(value: &Value) -> Option<Found> {
    let steps = value["spec_verify_ct"].as_f64().filter(|steps| *steps >= 0.0)?;
    let amount = |names: &[&str]| names.iter().find_map(|name| value[*name].as_f64());
    let tokens = amount(&["completion_tokens"]);
    // The first token is of no verify pass.
    let step_tokens = tokens.map(|tokens| (tokens - 1.0).max(0.0));
    let accepted =
        amount(&["spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num"]);
    let histogram = ["spec_correct_drafts_histogram", "spec_accept_histogram"]
        .iter()
        .find_map(|name| value[*name].as_array());
    let histogram: Vec<(usize, f64)> = histogram
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(j, n)| Some((j, n.as_f64()?)))
        .collect();
    let totals = Counters {
        drafted_steps: Some(steps),
        steps: Some(steps),
        accepted: accepted.or_else(|| step_tokens.map(|tokens| (tokens - steps).max(0.0))),
        drafted: amount(&[
            "spec_num_proposed_drafts",
            "spec_proposed_drafts",
            "spec_draft_token_num",
        ]),
        accepted_by_depth: by_depth(&histogram),
        step_tokens,
        tokens,
        ..Counters::default()
    };
    Some(Found { totals: Some(totals), text: true, ..Found::default() })
}

/// Returns the figures of one iteration of TensorRT-LLM.
///
/// A step if a single request drafted, otherwise sums over the batch.
fn iteration(value: &Value) -> Option<Found> {
    let stats = &value["specDecodingStats"];
    // Every rank repeats the records of the first.
    if value["attentionDpRank"].as_u64().is_some_and(|rank| rank != 0) {
        return Some(Found::default());
    }
    let (drafted, accepted) =
        (number(stats, &["numDraftTokens"])?, number(stats, &["numAcceptedTokens"])?);
    let requests = number(stats, &["numRequestsWithDraftTokens"])?;
    let seconds =
        value["iterLatencyMS"].as_f64().map(|ms| ms / 1e3).filter(|seconds| *seconds >= 0.0);
    if requests == 0
        || accepted > drafted
        || drafted as u64 > MOST_DRAFTED.saturating_mul(requests as u64)
    {
        return Some(Found::default());
    }
    if requests == 1 {
        let step = Step {
            prompt_id: String::new(),
            step: number(value, &["iter"]).unwrap_or(0),
            start: 0,
            accepted: Some(accepted),
            drafted: Some(drafted),
            emitted: accepted + 1,
            // Other requests of the batch take part in its time.
            seconds: seconds
                .filter(|_| value["inflightBatchingStats"]["numGenRequests"].as_u64() == Some(1)),
            exact: true,
        };
        return Some(Found { steps: vec![step], ..Found::default() });
    }
    let totals = Counters {
        drafted_steps: Some(requests as f64),
        drafted: Some(drafted as f64),
        accepted: Some(accepted as f64),
        steps: Some(requests as f64),
        step_tokens: Some((accepted + requests) as f64),
        ..Counters::default()
    };
    Some(Found { totals: Some(totals), ..Found::default() })
}
