//! SGLang: window gauges and counters; steps from differences of `completion_tokens`, checked
//! against the number of verify passes.
//!
//! Read in the wheel of 0.5.23 (`sglang/srt/observability/metrics_collector.py`,
//! `managers/tokenizer_manager.py`, `layers/logprob_processor.py`). Names of per-request figures
//! changed three times; all spellings are read.

use std::time::Instant;

use serde_json::{Value, json};

use super::bracket::OmittedSampling;
use super::counters::OwnWindow;
use super::estimate::{Drawn, Position};
use super::http::MOST_BYTES;
use super::plan::{Plan, Planned, ProbeSettings, ProbedText, Request};
use super::prometheus::Samples;
use super::stream::{Chunks, Proof};
use super::{AttachError, Capabilities, Counters, Event, Http, Identity, Server, ServerKind, Sink};

const TOKEN_BYTES: usize = 256;

/// [`Server`] for SGLang: counters and probes.
#[derive(Debug, Default)]
pub struct Sglang {
    identity: Identity,
    /// True if each verify pass has one chain of B - 1 drafted tokens.
    chain: bool,
}

impl Server for Sglang {
    fn engine(&self) -> ServerKind {
        ServerKind::Sglang
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: true, probe: true, score: false }
    }

    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError> {
        let answer = http.get("/server_info")?;
        if matches!(answer.status, 401 | 403) {
            let at = format!("{}/server_info", http.address().as_str());
            return Err(AttachError::Unauthorized {
                at,
                status: answer.status,
                with_key: http.has_key(),
            });
        }
        // The body holds every argument of the server, keys among them: only single fields are
        // taken out.
        self.identity = identity(&answer.json().unwrap_or_default());
        self.chain =
            answer.json().is_some_and(|info| info["speculative_eagle_topk"].as_u64() == Some(1));
        Ok(self.identity.clone())
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        let answer = http.get("/metrics")?;
        if answer.status == 200 {
            let found = counters(&answer.text());
            if found.own.is_some() || found.steps.is_some() || found.tokens.is_some() {
                return Ok(found);
            }
        }
        // Lifetime means need no metrics.
        let loads = http.get_json("/v1/loads?include=spec")?;
        if let Some(own) = loads.as_ref().and_then(own_of_loads) {
            return Ok(Counters {
                own: Some(own),
                budget: self.identity.budget,
                ..Counters::default()
            });
        }
        let (at, engine) = (http.address().as_str().to_owned(), ServerKind::Sglang);
        Err(AttachError::NoCounters {
            at,
            engine,
            why: "start SGLang with --enable-metrics".to_owned(),
        })
    }

    fn budget(&self) -> Option<usize> {
        self.identity.budget
    }

    fn omitted(&self, settings: &ProbeSettings) -> OmittedSampling {
        match settings.temperature {
            t if t > 0.0 => OmittedSampling { temperature: 1.0, top_p: settings.top_p },
            _ => OmittedSampling::NONE,
        }
    }

    fn plan(&self, settings: &ProbeSettings) -> Result<Plan, AttachError> {
        let requests = Plan::prompts(settings);
        let each = requests.iter().map(|request| request.max_tokens).max().unwrap_or(0);
        let kinds = vec![Planned {
            request: "POST /generate",
            count: requests.len(),
            tokens: each,
            purpose: "texts whose steps and distributions are read",
        }];
        Ok(Plan { kinds, requests, score_each: 0 })
    }

    fn probe(
        &mut self,
        http: &Http,
        request: &Request,
        sink: Sink<'_>,
    ) -> Result<Option<ProbedText>, AttachError> {
        let body = json!({
            "text": request.text,
            "sampling_params": {
                "temperature": request.temperature, "top_p": request.top_p, "top_k": -1, "min_p": 0.0, "max_new_tokens": request.max_tokens,
                "sampling_seed": request.seed as u32, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0,
            },
            "stream": true, "return_logprob": true, "top_logprobs_num": request.top, "logprob_start_len": -1,
        });
        let listed = request.max_tokens.saturating_mul(request.top + 4).saturating_mul(TOKEN_BYTES);
        // Each chunk may repeat the lists of all chunks before it.
        let most =
            MOST_BYTES.saturating_add(listed.saturating_mul(request.max_tokens).min(4 << 30));
        let began = Instant::now();
        let mut events = http.stream("/generate", &body, most)?;
        let mut read = SglangText {
            draws: request.temperature > 0.0 && request.top_p >= 1.0,
            ..SglangText::default()
        };
        while let Some(value) = events.next_json()? {
            read.take(&value, began.elapsed().as_secs_f64())
                .map_err(|why| events.malformed(why))?;
            if read.tokens > 2 * request.max_tokens + 16 {
                return Err(events.malformed(format!(
                    "more than the {} tokens that were asked for",
                    request.max_tokens
                )));
            }
            if !sink(Event::Progress) {
                return Ok(None);
            }
        }
        if !read.finished {
            return Err(AttachError::Cut {
                at: events.at().to_owned(),
                why: "the stream ended before the text".to_owned(),
            });
        }
        let drafted = self.identity.budget.map(|budget| budget - 1);
        let steps = read.chunks.steps(&request.id, &read.proof, drafted, self.identity.budget);
        let unproved = !steps.is_empty() && steps.iter().all(|step| !step.exact);
        let notice = unproved.then(|| {
            let why = "chunks could not be proved to be single steps (they were merged, or the server doesn't count passes)";
            format!("prompt {}: {why}", request.id)
        });
        let cut = request.index == 0 && request.temperature > 0.0 && request.top_p < 1.0;
        let bracketed = cut.then(|| {
            "the server reports distributions without top-p: ceilings are bracketed, and known only if top-p ends within the listed tokens".to_owned()
        });
        let notice = bracketed.or(notice);
        for step in &steps {
            if !sink(Event::Step(step.clone())) {
                return Ok(None);
            }
        }
        // The oracle chain is compared with chains alone.
        let matches = if self.chain { read.matches } else { Vec::new() };
        Ok(Some(ProbedText {
            tokens: read.tokens,
            steps,
            positions: read.positions,
            matches,
            notice,
            ..ProbedText::default()
        }))
    }
}

/// One streamed text, chunk by chunk.
#[derive(Debug, Default)]
pub struct SglangText {
    draws: bool,
    chunks: Chunks,
    tokens: usize,
    positions: Vec<Position>,
    matches: Vec<Option<bool>>,
    proof: Proof,
    finished: bool,
}

impl SglangText {
    fn take(&mut self, value: &Value, seconds: f64) -> Result<(), String> {
        let meta = &value["meta_info"];
        let total =
            number(meta, &["completion_tokens"]).ok_or("a chunk doesn't count its tokens")?;
        let more = total.checked_sub(self.tokens).ok_or("its counts of tokens fall")?;
        self.chunks.add(more, seconds);
        self.tokens = total;
        let list = |name: &str| meta[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let (own, tops) = (list("output_token_logprobs"), list("output_top_logprobs"));
        // Lists hold the whole text, or with incremental output this chunk's part alone.
        let from = if own.len() >= total { self.positions.len() } else { 0 };
        for (i, entry) in own.iter().enumerate().skip(from) {
            let (log, id) = (entry[0].as_f64(), entry[1].as_u64());
            let top = tops.get(i).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let mut all: Vec<(f64, Option<u64>)> = top
                .iter()
                .filter_map(|entry| Some((entry[0].as_f64()?, entry[1].as_u64())))
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            self.matches.push(all.first().map(|(_, best)| *best == id));
            let in_top = all.iter().any(|(_, other)| *other == id);
            let drawn = log
                .filter(|log| log.is_finite() && self.draws)
                .map(|log| Drawn { surprisal: (-log).max(0.0), in_top });
            self.positions.push(Position::new(all.into_iter().map(|(log, _)| log.exp()), drawn));
        }
        if !meta["finish_reason"].is_null() {
            self.finished = true;
            self.proof.passes = number(meta, &["spec_verify_ct"]);
            self.proof.accepted = number(
                meta,
                &["spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num"],
            );
        }
        Ok(())
    }
}

/// Returns the whole number under the first of `names` that exists.
pub(super) fn number(value: &Value, names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| value[*name].as_u64()).and_then(|n| usize::try_from(n).ok())
}

/// Facts in a body of `/server_info`.
pub fn identity(info: &Value) -> Identity {
    let text = |name: &str| info[name].as_str().map(str::to_owned);
    let below_one = |name: &str| info[name].as_f64().is_some_and(|threshold| threshold < 1.0);
    let lossy = below_one("speculative_accept_threshold_single")
        || below_one("speculative_accept_threshold_acc");
    Identity {
        version: text("version"),
        model: text("served_model_name").or_else(|| text("model_path")),
        vocabulary: number(info, &["vocab_size"]),
        budget: number(info, &["speculative_num_draft_tokens"]).filter(|budget| *budget > 0),
        method: text("speculative_algorithm"),
        outside: lossy.then(|| {
            "the server accepts below the target's probability (a threshold below 1)".to_owned()
        }),
    }
}

/// Counters in a body of `/metrics`.
pub fn counters(text: &str) -> Counters {
    let samples = Samples::parse(text, &["sglang:"]);
    let length = samples.mean("sglang:spec_accept_length").filter(|length| *length > 0.0);
    let (steps, tokens) =
        (samples.sum("sglang:spec_verify_calls"), samples.sum("sglang:generation_tokens"));
    let finished = samples.sum("sglang:num_requests").unwrap_or(0.0);
    Counters {
        steps,
        // The first token of each request is of no verify pass.
        step_tokens: tokens.map(|tokens| (tokens - finished).max(0.0)),
        tokens,
        running: samples.sum("sglang:num_running_reqs"),
        own: length.map(|length| OwnWindow {
            tokens_per_step: length,
            rate: samples.mean("sglang:spec_accept_rate"),
        }),
        budget: samples
            .mean("sglang:spec_num_draft_tokens")
            .filter(|n| *n >= 1.0)
            .map(|n| n as usize),
        ..Counters::default()
    }
}

fn own_of_loads(loads: &Value) -> Option<OwnWindow> {
    let found = &loads["loads"][0]["speculative"];
    Some(OwnWindow {
        tokens_per_step: found["accept_length"].as_f64()?,
        rate: found["accept_rate"].as_f64(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_of_the_fixture_are_read() {
        let found = counters(include_str!("../../tests/fixtures/attach/sglang-metrics.txt"));
        assert_eq!((found.steps, found.tokens, found.budget), (Some(400.0), Some(1020.0), Some(4)));
        assert_eq!(found.own, Some(OwnWindow { tokens_per_step: 2.75, rate: Some(0.583) }));
        assert_eq!(found.since(&Counters::default(), 1.0).tokens_per_step, Some(2.5));
    }

    #[test]
    fn facts_are_taken_and_secrets_left() {
        let info: Value = serde_json::from_str(include_str!(
            "../../tests/fixtures/attach/sglang-server-info.json"
        ))
        .unwrap();
        let found = identity(&info);
        assert_eq!(
            (found.version.as_deref(), found.budget, found.method.as_deref()),
            (Some("0.5.23"), Some(4), Some("EAGLE3"))
        );
        assert!(found.outside.is_none() && !format!("{found:?}").contains("sk-"));
        let mut lossy = info;
        lossy["speculative_accept_threshold_single"] = json!(0.9);
        assert!(identity(&lossy).outside.is_some());
    }

    fn chunk(total: usize, own: usize, finish: Option<usize>) -> Value {
        let logs: Vec<Value> = (0..own).map(|i| json!([-0.5, i, null])).collect();
        let tops: Vec<Value> =
            (0..own).map(|i| json!([[-0.5, i, null], [-1.5, 99, null]])).collect();
        let reason = finish.map(|_| json!({ "type": "length" }));
        json!({ "text": "x", "meta_info": { "completion_tokens": total, "finish_reason": reason, "spec_verify_ct": finish,
            "output_token_logprobs": logs, "output_top_logprobs": tops } })
    }

    #[test]
    fn differences_are_steps_where_the_passes_agree() {
        for incremental in [false, true] {
            for (passes, exact) in [(3, true), (4, false)] {
                let mut text = SglangText { draws: true, ..SglangText::default() };
                let mut before = 0;
                for (i, total) in [1, 4, 5, 8].into_iter().enumerate() {
                    let own = if incremental { total - before } else { total };
                    text.take(&chunk(total, own, (total == 8).then_some(passes)), i as f64)
                        .unwrap();
                    before = total;
                }
                let steps = text.chunks.steps("p", &text.proof, Some(3), Some(4));
                let seen: Vec<_> = steps.iter().map(|s| (s.accepted.unwrap(), s.emitted)).collect();
                assert_eq!(seen, [(2, 3), (0, 1), (2, 3)]);
                assert!(steps.iter().all(|step| step.exact == exact));
                assert_eq!((text.positions.len(), text.matches.len()), (8, 8));
            }
        }
        let mut text = SglangText::default();
        text.take(&chunk(5, 5, None), 0.0).unwrap();
        assert!(text.take(&chunk(4, 4, None), 1.0).is_err());
    }
}
