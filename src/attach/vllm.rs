//! vLLM: counters by position; steps from `metrics.speculative_decoding` at `detailed`, or from
//! chunks with token ids.
//!
//! Read in the sources of 0.32.0 (`vllm/v1/spec_decode/metrics.py`, `v1/metrics/stats.py`,
//! `v1/engine/output_processor.py`, `entrypoints/generate/base/protocol.py`). One engine output is
//! one chunk at the default stream interval; a slow reader gets several in one, which the counts at
//! the end show.

use std::time::Instant;

use serde_json::{Value, json};

use super::bracket::OmittedSampling;
use super::estimate::{Drawn, Position};
use super::http::MOST_BYTES;
use super::plan::{Plan, Planned, ProbeSettings, ProbedText, Request};
use super::prometheus::Samples;
use super::stream::{Chunks, Proof};
use super::{AttachError, Capabilities, Counters, Event, Http, Identity, Server, ServerKind, Sink};

const TOKEN_BYTES: usize = 256;
/// Tokens per position that vLLM lists unless it is started otherwise.
const MOST_TOP: usize = 20;

/// [`Server`] for vLLM: counters and probes.
#[derive(Debug, Default)]
pub struct Vllm {
    identity: Identity,
    template_failed: bool,
}

impl Server for Vllm {
    fn engine(&self) -> ServerKind {
        ServerKind::Vllm
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: true, probe: true, score: false }
    }

    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError> {
        let version = http
            .get_json("/version")?
            .and_then(|value| value["version"].as_str().map(str::to_owned));
        let models = http.get("/v1/models")?;
        if matches!(models.status, 401 | 403) {
            let at = format!("{}/v1/models", http.address().as_str());
            return Err(AttachError::Unauthorized {
                at,
                status: models.status,
                with_key: http.has_key(),
            });
        }
        let model =
            models.json().and_then(|value| value["data"][0]["id"].as_str().map(str::to_owned));
        let metrics = http.get("/metrics")?;
        let budget = counters(&metrics.text()).budget;
        self.identity = Identity { version, model, budget, ..Identity::default() };
        Ok(self.identity.clone())
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        let text = http.get_ok("/metrics")?.text();
        if Samples::parse(&text, &["vllm:"]).is_empty() {
            let (at, engine) = (http.address().as_str().to_owned(), ServerKind::Vllm);
            return Err(AttachError::NoCounters {
                at,
                engine,
                why: "start vllm serve without --disable-log-stats".to_owned(),
            });
        }
        Ok(counters(&text))
    }

    fn budget(&self) -> Option<usize> {
        self.identity.budget
    }

    fn omitted(&self, settings: &ProbeSettings) -> OmittedSampling {
        match settings.temperature {
            t if t > 0.0 => OmittedSampling { temperature: t, top_p: settings.top_p },
            _ => OmittedSampling::NONE,
        }
    }

    fn plan(&self, settings: &ProbeSettings) -> Result<Plan, AttachError> {
        let requests = Plan::prompts(settings);
        let each = requests.iter().map(|request| request.max_tokens).max().unwrap_or(0);
        let count = requests.len();
        let mut kinds = vec![Planned {
            request: "POST /v1/completions",
            count,
            tokens: each,
            purpose: "texts whose steps and distributions are read",
        }];
        if !settings.raw {
            kinds.push(Planned {
                request: "POST /tokenize",
                count,
                tokens: 0,
                purpose: "the model's chat template",
            });
        }
        kinds.push(Planned {
            request: "GET /metrics",
            count: 2 * count,
            tokens: 0,
            purpose: "counts that steps are checked against",
        });
        Ok(Plan { kinds, requests, score_each: 0 })
    }

    fn probe(
        &mut self,
        http: &Http,
        request: &Request,
        sink: Sink<'_>,
    ) -> Result<Option<ProbedText>, AttachError> {
        let (prompt, mut notice) = self.prompt(http, request)?;
        let listed = request.top.min(MOST_TOP);
        let draws = request.temperature == 1.0 && request.top_p >= 1.0;
        if request.index == 0 && request.temperature > 0.0 && !draws {
            let why = "the server reports distributions at temperature 1 without top-p: ceilings are bracketed, and known only if top-p ends within the listed tokens";
            notice = notice.or(Some(why.to_owned()));
        }
        let before = http.get_ok("/metrics").ok().map(|answer| counters(&answer.text()));
        let body = json!({
            "model": self.identity.model.clone().unwrap_or_default(), "prompt": prompt, "max_tokens": request.max_tokens,
            "temperature": request.temperature, "top_p": request.top_p, "top_k": -1, "min_p": 0.0, "seed": request.seed as i64 & i64::MAX,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "logprobs": listed,
            "stream": true, "stream_options": { "include_usage": true }, "return_token_ids": true,
            "return_tokens_as_token_ids": true,
        });
        let most = MOST_BYTES + request.max_tokens * (request.top + 4) * TOKEN_BYTES;
        let began = Instant::now();
        let mut events = http.stream("/v1/completions", &body, most)?;
        let mut read = VllmText { draws, listed, ..VllmText::default() };
        while let Some(value) = events.next_json()? {
            read.take(&value, began.elapsed().as_secs_f64())
                .map_err(|why| events.malformed(why))?;
            if read.chunks.tokens() > 2 * request.max_tokens + 16 {
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
        let after = http.get_ok("/metrics").ok().map(|answer| counters(&answer.text()));
        let proof = read.proof(before.as_ref().zip(after.as_ref()));
        self.identity.budget =
            self.identity.budget.or_else(|| after.and_then(|after| after.budget)).or(read.budget);
        let steps = read.chunks.steps(&request.id, &proof, None, self.identity.budget);
        if !steps.is_empty() && steps.iter().all(|step| !step.exact) {
            let why = "chunks could not be proved to be single steps (other requests ran, or chunks were merged)";
            notice = notice.or(Some(format!(
                "prompt {}: {why}; start vllm serve with per-request metrics at detailed",
                request.id
            )));
        }
        for step in &steps {
            if !sink(Event::Step(step.clone())) {
                return Ok(None);
            }
        }
        let tokens = read.chunks.tokens();
        let VllmText { ids, positions, matches, .. } = read;
        Ok(Some(ProbedText {
            ids,
            tokens,
            steps,
            positions,
            matches,
            notice,
            ..ProbedText::default()
        }))
    }
}

impl Vllm {
    /// Prompt as token ids in the model's chat template, or as text.
    fn prompt(
        &mut self,
        http: &Http,
        request: &Request,
    ) -> Result<(Value, Option<String>), AttachError> {
        if request.raw || self.template_failed {
            return Ok((request.text.clone().into(), None));
        }
        let body = json!({
            "model": self.identity.model.clone().unwrap_or_default(), "add_generation_prompt": true,
            "messages": [{ "role": "user", "content": request.text }],
        });
        match http.post("/tokenize", &body, MOST_BYTES) {
            Ok(value) if value["tokens"].as_array().is_some_and(|tokens| !tokens.is_empty()) => {
                let ids: Vec<u64> = value["tokens"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_u64)
                    .collect();
                Ok((ids.into(), None))
            }
            Ok(_) | Err(AttachError::Status { .. }) => {
                self.template_failed = true;
                let notice =
                    "the server has no chat template for the model: prompts are sent as they are";
                Ok((request.text.clone().into(), Some(notice.to_owned())))
            }
            Err(error) => Err(error),
        }
    }
}

/// One streamed text, chunk by chunk.
#[derive(Debug, Default)]
pub struct VllmText {
    /// Set if the text was sampled from the reported distributions.
    ///
    /// Those are at temperature 1.
    draws: bool,
    /// Most probable tokens requested.
    listed: usize,
    chunks: Chunks,
    ids: Vec<u32>,
    positions: Vec<Position>,
    matches: Vec<Option<bool>>,
    finished: bool,
    budget: Option<usize>,
    speculation: Option<Value>,
}

impl VllmText {
    fn take(&mut self, value: &Value, seconds: f64) -> Result<(), String> {
        let choice = &value["choices"][0];
        let logprobs = &choice["logprobs"];
        let ids: Option<Vec<u32>> =
            choice["token_ids"].as_array().map(|ids| ids.iter().filter_map(id).collect());
        let listed = logprobs["tokens"].as_array().map(Vec::len);
        if let Some(tokens) = ids.as_ref().map(Vec::len).or(listed) {
            self.chunks.add(tokens, seconds);
            if listed.is_some_and(|listed| listed != tokens) {
                return Err("a chunk has another number of tokens than of distributions".to_owned());
            }
        } else if choice["text"].as_str().is_some_and(|text| !text.is_empty()) {
            return Err("a chunk has neither token ids nor distributions; the server is too old for a probe".to_owned());
        }
        self.ids.extend(ids.into_iter().flatten());
        for i in 0..listed.unwrap_or(0) {
            let (name, own) = (&logprobs["tokens"][i], logprobs["token_logprobs"][i].as_f64());
            let top = logprobs["top_logprobs"][i].as_object();
            let best =
                top.and_then(|top| top.iter().max_by(|a, b| number(a.1).total_cmp(&number(b.1))));
            self.matches.push(best.map(|(best, _)| Some(best.as_str()) == name.as_str()));
            self.positions.push(position(
                top,
                self.listed,
                name.as_str(),
                own.filter(|_| self.draws),
            ));
        }
        if choice["finish_reason"].is_string() {
            self.finished = true;
        }
        if let Some(found) =
            value["metrics"].get("speculative_decoding").filter(|found| found.is_object())
        {
            self.budget = found["num_spec_tokens"].as_u64().map(|n| n as usize + 1);
            self.speculation = Some(found.clone());
        }
        Ok(())
    }

    /// Returns the counts that confirm the steps of a response.
    ///
    /// They come from the response itself, or from the counters before and after it.
    fn proof(&self, counters: Option<(&Counters, &Counters)>) -> Proof {
        if let Some(found) = &self.speculation {
            let list = |name: &str| -> Option<Vec<usize>> {
                found[name]
                    .as_array()
                    .map(|list| list.iter().filter_map(Value::as_u64).map(|n| n as usize).collect())
            };
            if let (Some(accepted), Some(drafted)) =
                (list("per_step_accepted"), list("per_step_drafted"))
                && accepted.len() == drafted.len()
                && accepted.iter().zip(&drafted).all(|(accepted, drafted)| accepted <= drafted)
            {
                return Proof {
                    by_step: Some(accepted.into_iter().zip(drafted).collect()),
                    ..Proof::default()
                };
            }
        }
        let Some((before, after)) = counters else { return Proof::default() };
        let delta = |of: fn(&Counters) -> Option<f64>| -> Option<usize> {
            let delta = of(after)? - of(before).unwrap_or(0.0);
            (0.0..1e9).contains(&delta).then_some(delta as usize)
        };
        // Another request in between makes them differ from the chunks, and nothing is exact then.
        Proof {
            passes: delta(|counters| counters.steps),
            accepted: delta(|counters| counters.accepted),
            by_step: None,
        }
    }
}

/// Distribution of a position. The drawn token is listed besides where it is not among the most
/// probable ones.
fn position(
    top: Option<&serde_json::Map<String, Value>>,
    listed: usize,
    name: Option<&str>,
    own: Option<f64>,
) -> Position {
    let mut all: Vec<(f64, &str)> =
        top.into_iter().flatten().map(|(name, value)| (number(value), name.as_str())).collect();
    let drawn = all.iter().position(|(_, other)| Some(*other) == name);
    let mut in_top = drawn.is_some();
    // One more than asked for: the drawn token, than which none of them is less probable.
    if let Some(drawn) = drawn.filter(|_| all.len() > listed)
        && all.iter().all(|(log, _)| *log >= all[drawn].0)
    {
        all.swap_remove(drawn);
        in_top = false;
    }
    let drawn =
        own.filter(|own| own.is_finite()).map(|own| Drawn { surprisal: (-own).max(0.0), in_top });
    Position::new(all.into_iter().map(|(log, _)| log.exp()), drawn)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NEG_INFINITY)
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Counters in a body of `/metrics`.
///
/// `inter_token_latency_seconds` is observed once per engine output, however many tokens it
/// carries: its count is that of decode steps.
pub fn counters(text: &str) -> Counters {
    let samples = Samples::parse(text, &["vllm:"]);
    let accepted_by_depth =
        samples.by_position("vllm:spec_decode_num_accepted_tokens_per_pos", "position");
    let steps = samples.sum("vllm:inter_token_latency_seconds_count");
    let (tokens, first) = (
        samples.sum("vllm:generation_tokens"),
        samples.sum("vllm:time_to_first_token_seconds_count"),
    );
    Counters {
        drafted_steps: samples.sum("vllm:spec_decode_num_drafts"),
        drafted: samples.sum("vllm:spec_decode_num_draft_tokens"),
        accepted: samples.sum("vllm:spec_decode_num_accepted_tokens"),
        budget: (!accepted_by_depth.is_empty()).then(|| accepted_by_depth.len() + 1),
        accepted_by_depth,
        steps,
        step_tokens: tokens.zip(first).map(|(tokens, first)| tokens - first),
        step_seconds: samples.sum("vllm:inter_token_latency_seconds_sum"),
        tokens,
        running: samples.sum("vllm:num_requests_running"),
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_of_the_fixture_are_read() {
        let found = counters(include_str!("../../tests/fixtures/attach/vllm-metrics.txt"));
        assert_eq!(
            (found.budget, found.drafted_steps, found.drafted, found.accepted),
            (Some(4), Some(500.0), Some(1500.0), Some(700.0))
        );
        let window = found.since(&Counters::default(), 10.0);
        assert_eq!(
            (window.accepted_mean, window.steps, window.tokens_per_step),
            (Some(1.4), Some(520.0), Some(1220.0 / 520.0))
        );
        assert_eq!(window.acceptance_by_depth, [0.7, 0.6, 140.0 / 210.0]);
        assert!(
            (window.undrafted_share.unwrap() - 20.0 / 520.0).abs() < 1e-12
                && window.running == Some(2.0)
        );
        assert!((window.step_seconds.unwrap() - 0.025).abs() < 1e-12);
    }

    fn chunk(ids: &[u32], finish: Option<&str>) -> Value {
        let names: Vec<String> = ids.iter().map(|id| format!("token_id:{id}")).collect();
        let tops: Vec<Value> =
            names.iter().map(|name| json!({ name.as_str(): -0.5, "token_id:0": -1.5 })).collect();
        json!({ "choices": [{ "text": "x", "token_ids": ids, "finish_reason": finish,
            "logprobs": { "tokens": names, "token_logprobs": vec![-0.5; ids.len()], "top_logprobs": tops } }] })
    }

    #[test]
    fn a_text_at_detailed_has_exact_steps() {
        let mut text = VllmText { draws: true, listed: 20, ..VllmText::default() };
        for (i, value) in [chunk(&[5], None), chunk(&[6, 7, 8], None), chunk(&[9], Some("length"))]
            .iter()
            .enumerate()
        {
            text.take(value, i as f64).unwrap();
        }
        let last = json!({ "choices": [], "usage": {}, "metrics": { "speculative_decoding": {
            "num_spec_steps": 2, "num_spec_tokens": 3, "per_step_accepted": [2, 0], "per_step_drafted": [3, 3] } } });
        text.take(&last, 3.0).unwrap();
        let steps = text.chunks.steps("p", &text.proof(None), None, text.budget);
        let seen: Vec<_> = steps
            .iter()
            .map(|s| (s.accepted.unwrap(), s.drafted.unwrap(), s.emitted, s.exact))
            .collect();
        assert_eq!(seen, [(2, 3, 3, true), (0, 3, 1, true)]);
        assert!(text.finished && text.budget == Some(4) && text.matches == [Some(true); 5]);
        assert_eq!((text.ids.len(), text.positions.len()), (5, 5));
    }

    #[test]
    fn the_drawn_token_is_separated_from_the_most_probable_ones() {
        let mut top: serde_json::Map<String, Value> =
            (0..MOST_TOP).map(|i| (format!("token_id:{i}"), json!(-1.0 - i as f64))).collect();
        let inside = position(Some(&top), MOST_TOP, Some("token_id:3"), Some(-4.0));
        assert!(inside.drawn().unwrap().in_top && inside.top().len() == MOST_TOP);
        top.insert("token_id:99".into(), json!(-30.0));
        let outside = position(Some(&top), MOST_TOP, Some("token_id:99"), Some(-30.0));
        assert!(!outside.drawn().unwrap().in_top && outside.top().len() == MOST_TOP);
    }
}
