//! llama.cpp's llama-server: exact steps by timings per token; distributions by requests of one
//! token.
//!
//! With `timings_per_token` all tokens of a step share `predicted_ms`, `draft_n` and
//! `draft_n_accepted`, since the server counts once per step, before it hands out its tokens
//! (`tools/server/server-context.cpp` at 0c1e57098). In drafted steps it reports no distributions,
//! so positions are scored afterwards: a request for one token is never drafted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::estimate::{ChainMark, Drawn, Position, Scored};
use super::http::MOST_BYTES;
use super::plan::{Plan, Planned, ProbeSettings, ProbedText, Request, Step};
use super::prometheus::Samples;
use super::{AttachError, Capabilities, Counters, Event, Http, Identity, Server, ServerKind, Sink};
use crate::theory::bootstrap::SplitMix;

/// Bytes that a chunk or a listed token takes at most, with room to spare.
const CHUNK_BYTES: usize = 8192;
const TOKEN_BYTES: usize = 512;
/// Fraction of the scoring requests that is spent on distributions.
///
/// The others follow chains beyond their steps.
const FOR_DISTRIBUTIONS: f64 = 0.75;

/// [`Server`] for llama.cpp's llama-server: counters, probes and scoring.
#[derive(Debug, Default)]
pub struct LlamaServer {
    identity: Identity,
    context: Option<usize>,
    template_failed: bool,
}

impl Server for LlamaServer {
    fn engine(&self) -> ServerKind {
        ServerKind::LlamaServer
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: true, probe: true, score: true }
    }

    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError> {
        let answer = http.get("/props")?;
        if matches!(answer.status, 401 | 403) {
            let at = format!("{}/props", http.address().as_str());
            return Err(AttachError::Unauthorized {
                at,
                status: answer.status,
                with_key: http.has_key(),
            });
        }
        let props = answer.json().unwrap_or_default();
        let models = http.get_json("/v1/models")?.unwrap_or_default();
        self.context = count(&props["default_generation_settings"]["n_ctx"]);
        self.identity = identity(&props, &models);
        if let Ok(metrics) = http.get_ok("/metrics") {
            self.identity.budget = counters(&metrics.text()).budget;
        }
        Ok(self.identity.clone())
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        let answer = http.get("/metrics")?;
        if matches!(answer.status, 404 | 501) {
            let (at, engine) = (http.address().as_str().to_owned(), ServerKind::LlamaServer);
            return Err(AttachError::NoCounters {
                at,
                engine,
                why: "start llama-server with --metrics".to_owned(),
            });
        }
        if answer.status != 200 {
            http.get_ok("/metrics")?;
        }
        Ok(counters(&answer.text()))
    }

    fn plan(&self, settings: &ProbeSettings) -> Result<Plan, AttachError> {
        let requests = Plan::prompts(settings);
        let each = requests.iter().map(|request| request.max_tokens).max().unwrap_or(0);
        let count = requests.len();
        let score_each = settings.score.div_ceil(count.max(1)).min(settings.score);
        let reading =
            Planned { request: "GET /metrics", count, tokens: 0, purpose: "the largest draft" };
        let mut kinds = vec![
            reading,
            Planned {
                request: "POST /completion",
                count,
                tokens: each,
                purpose: "texts whose steps are read",
            },
        ];
        if !settings.raw {
            kinds.push(Planned {
                request: "POST /apply-template",
                count,
                tokens: 0,
                purpose: "the model's chat template",
            });
        }
        kinds.push(Planned {
            request: "POST /tokenize",
            count,
            tokens: 0,
            purpose: "tokens of the prompts",
        });
        if score_each > 0 {
            // The server reports none in drafted steps.
            let purpose = "distributions of positions";
            kinds.push(Planned {
                request: "POST /completion",
                count: count * score_each,
                tokens: 1,
                purpose,
            });
        }
        Ok(Plan { kinds, requests, score_each })
    }

    fn budget(&self) -> Option<usize> {
        self.identity.budget
    }

    fn probe(
        &mut self,
        http: &Http,
        request: &Request,
        sink: Sink<'_>,
    ) -> Result<Option<ProbedText>, AttachError> {
        let (prompt, notice) = self.prompt(http, request)?;
        let room =
            self.context.map_or(usize::MAX, |context| context.saturating_sub(prompt.len() + 1));
        if room == 0 {
            let notice =
                Some(format!("prompt {}: longer than the server's context, left out", request.id));
            return Ok(Some(ProbedText { notice, ..ProbedText::default() }));
        }
        let body = json!({
            "prompt": prompt, "n_predict": request.max_tokens.min(room), "stream": true, "timings_per_token": true, "return_tokens": true,
            "cache_prompt": true, "seed": request.seed as u32, "temperature": request.temperature, "samplers": ["temperature", "top_p"],
            "top_k": 0, "top_p": request.top_p, "min_p": 0.0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        });
        let mut events =
            http.stream("/completion", &body, MOST_BYTES + CHUNK_BYTES * request.max_tokens)?;
        let mut timed = TimedSteps::new(&request.id);
        let (mut slot, mut ended) = (None, false);
        while let Some(value) = events.next_json()? {
            for step in timed.take(&value).map_err(|why| events.malformed(why))? {
                if !sink(Event::Step(step)) {
                    return Ok(None);
                }
            }
            if value["stop"] == true {
                (slot, ended) = (value["id_slot"].as_u64(), true);
                break;
            }
            // Asked between steps, too: a text may go on for long without one that is certain.
            if timed.tokens > 2 * request.max_tokens + 16 {
                return Err(events.malformed(format!(
                    "more than the {} tokens that were asked for",
                    request.max_tokens
                )));
            }
        }
        if !ended {
            return Err(AttachError::Cut {
                at: events.at().to_owned(),
                why: "the stream ended before the text".to_owned(),
            });
        }
        for step in timed.finish() {
            if !sink(Event::Step(step)) {
                return Ok(None);
            }
        }
        let TimedSteps { ids, tokens, steps, .. } = timed;
        if self.identity.budget.is_none() {
            // The counters by position appear with the first drafted request.
            self.identity.budget =
                http.get_ok("/metrics").ok().and_then(|answer| counters(&answer.text()).budget);
        }
        Ok(Some(ProbedText { prompt, ids, tokens, steps, slot, notice, ..ProbedText::default() }))
    }

    fn score(
        &mut self,
        http: &Http,
        text: &ProbedText,
        request: &Request,
        most: usize,
        sink: Sink<'_>,
    ) -> Result<Scored, AttachError> {
        let groups = sampled_groups(text, most, request.seed);
        let mut asker = Asker { http, text, request, left: most, known: BTreeMap::new() };
        let mut scored = Scored::default();
        for group in &groups {
            for position in group.start..group.start + group.tokens {
                if !sink(Event::Progress) {
                    return Ok(scored);
                }
                if let Some(found) = asker.ask(position)? {
                    scored.positions.push(found.position.clone());
                }
            }
        }
        if request.temperature <= 0.0 {
            return Ok(scored);
        }
        let longest = text.steps.iter().filter_map(|step| step.drafted).max().unwrap_or(0);
        let limit = self.identity.budget.map_or(longest, |budget| (budget - 1).max(longest));
        for step in groups
            .iter()
            .filter_map(|group| group.step)
            .map(|i| &text.steps[i])
            .filter(|_| limit > 0)
        {
            let (mut reached, mut whole) = (0, true);
            while reached < limit && step.start + reached < text.ids.len() {
                if !sink(Event::Progress) {
                    return Ok(scored);
                }
                match asker.ask(step.start + reached)? {
                    Some(found) if found.best == text.ids[step.start + reached] => reached += 1,
                    Some(_) => break,
                    None => {
                        whole = false;
                        break;
                    }
                }
            }
            if let Some(accepted) = step.accepted.filter(|_| whole && step.exact) {
                let at_drafted = reached.min(step.drafted.unwrap_or(reached));
                scored.chains.push(ChainMark { reached, at_drafted, accepted });
            }
        }
        Ok(scored)
    }
}

impl LlamaServer {
    /// Tokens of a prompt, in the model's chat template where it has one.
    fn prompt(
        &mut self,
        http: &Http,
        request: &Request,
    ) -> Result<(Vec<u32>, Option<String>), AttachError> {
        let mut notice = None;
        let mut text = request.text.clone();
        if !request.raw && !self.template_failed {
            let body = json!({ "messages": [{ "role": "user", "content": request.text }] });
            match http.post("/apply-template", &body, MOST_BYTES) {
                Ok(value) if value["prompt"].is_string() => {
                    text = value["prompt"].as_str().unwrap_or_default().to_owned()
                }
                Ok(_) | Err(AttachError::Status { .. }) => {
                    self.template_failed = true;
                    notice = Some("the server has no chat template for the model: prompts are sent as they are".to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        let body = json!({ "content": text, "add_special": true, "parse_special": true });
        let value = http.post("/tokenize", &body, MOST_BYTES)?;
        let tokens = value["tokens"]
            .as_array()
            .map(|tokens| tokens.iter().filter_map(token).collect::<Vec<u32>>());
        match tokens.filter(|tokens| !tokens.is_empty()) {
            Some(tokens) => Ok((tokens, notice)),
            None => {
                let at = format!("{}/tokenize", http.address().as_str());
                Err(AttachError::Malformed { at, why: "no tokens".to_owned() })
            }
        }
    }
}

/// Distribution of one position, with its most probable token.
#[derive(Clone, Debug)]
struct Found {
    position: Position,
    best: u32,
}

/// Asks for distributions, each position once.
struct Asker<'a> {
    http: &'a Http,
    text: &'a ProbedText,
    request: &'a Request,
    left: usize,
    known: BTreeMap<usize, Found>,
}

impl Asker<'_> {
    /// Distribution of the token at `position` of the text; `None` once all requests are used.
    fn ask(&mut self, position: usize) -> Result<Option<&Found>, AttachError> {
        if !self.known.contains_key(&position) {
            if self.left == 0 || position > self.text.ids.len() {
                return Ok(None);
            }
            self.left -= 1;
            let tokens: Vec<u32> =
                self.text.prompt.iter().chain(&self.text.ids[..position]).copied().collect();
            let (temperature, top_p) = match self.request.temperature {
                // Greedy text: the distribution at temperature 1 is the reference.
                t if t <= 0.0 => (1.0, 1.0),
                t => (t, self.request.top_p),
            };
            let after = temperature != 1.0 || top_p < 1.0;
            let mut body = json!({
                "prompt": tokens, "n_predict": 1, "n_probs": self.request.top.max(1), "cache_prompt": true, "return_tokens": true,
                "temperature": temperature, "samplers": ["temperature", "top_p"], "post_sampling_probs": after, "stream": false,
                "seed": (self.request.seed as u32).wrapping_add(position as u32).wrapping_mul(0x9e37_79b1),
                "top_k": 0, "top_p": top_p, "min_p": 0.0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            });
            if let Some(slot) = self.text.slot {
                body["id_slot"] = slot.into();
            }
            let most = MOST_BYTES + TOKEN_BYTES * self.request.top;
            let value = self.http.post("/completion", &body, most)?;
            let at = || format!("{}/completion", self.http.address().as_str());
            let found = found(&value, self.request.top.max(1))
                .map_err(|why| AttachError::Malformed { at: at(), why })?;
            self.known.insert(position, found);
        }
        Ok(self.known.get(&position))
    }
}

/// Positions that one step emitted, or the first token of a text.
#[derive(Clone, Copy, Debug)]
struct Group {
    start: usize,
    tokens: usize,
    step: Option<usize>,
}

/// Returns the groups of positions to score with `most` requests, in text order.
///
/// All groups if they fit, otherwise those of randomly chosen whole steps.
///
/// Whole steps keep each position as probable as any other, and each step as probable as any other.
fn sampled_groups(text: &ProbedText, most: usize, seed: u64) -> Vec<Group> {
    let first = Group { start: 0, tokens: 1, step: None };
    let of_step = |(i, step): (usize, &Step)| Group {
        start: step.start,
        tokens: step.emitted,
        step: Some(i),
    };
    let steps = text.steps.iter().enumerate().filter(|(_, step)| step.exact).map(of_step);
    let mut groups: Vec<Group> =
        (text.tokens > 0).then_some(first).into_iter().chain(steps).collect();
    groups.retain(|group| group.tokens > 0 && group.start + group.tokens <= text.ids.len() + 1);
    let all: usize = groups.iter().map(|group| group.tokens).sum();
    if all > most {
        let mut draws = SplitMix(seed ^ 0x5eed);
        for i in (1..groups.len()).rev() {
            groups.swap(i, draws.below(i + 1));
        }
        let (mut left, mut fits) = ((most as f64 * FOR_DISTRIBUTIONS) as usize, true);
        groups.retain(|group| {
            // The first that does not fit ends the choice: taking shorter ones after it would favor
            // these.
            fits &= group.tokens <= left;
            left -= if fits { group.tokens } else { 0 };
            fits
        });
        groups.sort_by_key(|group| group.start);
    }
    groups
}

/// Parses the response to a scoring request.
///
/// Returns the most probable tokens, and the one that was sampled.
fn found(value: &Value, top: usize) -> Result<Found, String> {
    let entry = &value["completion_probabilities"][0];
    let (list, name, log) = match entry["top_logprobs"].as_array() {
        Some(list) => (list, "logprob", true),
        None => (entry["top_probs"].as_array().ok_or("no distribution in it")?, "prob", false),
    };
    let probability = |entry: &Value| {
        let value = entry[name].as_f64().ok_or("a probability is missing")?;
        let p = if log { value.exp() } else { value };
        if (0.0..=1.000_01).contains(&p) {
            Ok(p)
        } else {
            Err("a probability is not between 0 and 1")
        }
    };
    let mut all = Vec::with_capacity(list.len());
    for entry in list.iter().take(top) {
        all.push((probability(entry)?, token(&entry["id"]).ok_or("a token has no number")?));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = all.first().ok_or("the distribution is empty")?.1;
    let drawn = token(&entry["id"]).ok_or("the drawn token has no number")?;
    let p = probability(entry)?;
    let drawn = Drawn {
        surprisal: (-p.max(1e-300).ln()).max(0.0),
        in_top: all.iter().any(|(_, id)| *id == drawn),
    };
    let position = Position::new(all.into_iter().map(|(p, _)| p), Some(drawn));
    // A list shorter than what was asked for holds every token that is left.
    Ok(Found { position: if list.len() < top { position.completed() } else { position }, best })
}

fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Facts in the bodies of `/props` and `/v1/models`.
pub fn identity(props: &Value, models: &Value) -> Identity {
    let model = models["data"][0]["id"]
        .as_str()
        .or(props["model_alias"].as_str())
        .or(props["model_path"].as_str());
    // The default name is the file's path, which is nobody's business.
    let model = model.map(|model| model.rsplit(['/', '\\']).next().unwrap_or(model).to_owned());
    let method = props["default_generation_settings"]["params"]["speculative.types"].as_str();
    Identity {
        version: props["build_info"].as_str().map(str::to_owned),
        model,
        vocabulary: count(&models["data"][0]["meta"]["n_vocab"]).filter(|n| *n > 0),
        budget: None,
        method: method.filter(|method| *method != "none").map(str::to_owned),
        outside: None,
    }
}

/// Counters in a body of `/metrics`. They move when a request ends.
///
/// Values above 999,999 come with six digits, but those by position are whole numbers: accepted
/// tokens are summed from these.
pub fn counters(text: &str) -> Counters {
    let samples = Samples::parse(text, &["llamacpp:"]);
    let accepted_by_depth =
        samples.by_position("llamacpp:spec_decode_num_accepted_tokens_per_pos", "position");
    let by_depth = (!accepted_by_depth.is_empty()).then(|| accepted_by_depth.iter().sum());
    Counters {
        drafted_steps: samples.sum("llamacpp:spec_decode_num_drafts"),
        drafted: samples.sum("llamacpp:spec_decode_num_draft_tokens"),
        accepted: by_depth.or_else(|| samples.sum("llamacpp:spec_decode_num_accepted_tokens")),
        budget: (!accepted_by_depth.is_empty()).then(|| accepted_by_depth.len() + 1),
        accepted_by_depth,
        tokens: samples.sum("llamacpp:tokens_predicted"),
        running: samples.mean("llamacpp:requests_processing"),
        ..Counters::default()
    }
}

/// Timings of one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Timing {
    tokens: usize,
    milliseconds: f64,
    drafted: usize,
    accepted: usize,
}

impl Timing {
    fn read(value: &Value) -> Result<Timing, String> {
        let timings = &value["timings"];
        Ok(Timing {
            tokens: count(&timings["predicted_n"]).ok_or("a chunk has no timings")?,
            milliseconds: timings["predicted_ms"].as_f64().ok_or("a chunk has no time")?,
            // Both are left out until something was drafted.
            drafted: count(&timings["draft_n"]).unwrap_or(0),
            accepted: count(&timings["draft_n_accepted"]).unwrap_or(0),
        })
    }
}

/// Steps from timings per token.
///
/// A step is the run of chunks with one time. It emitted one token more than it accepted; whether
/// the next run begins right there is checked, since text that is held back (half a character)
/// comes without a chunk. Steps up to a place that fits are exact.
#[derive(Debug)]
struct TimedSteps {
    prompt_id: String,
    /// Totals at the end of the step before.
    before: Timing,
    /// Totals of the step in progress; its `tokens` are the last that were seen.
    now: Option<Timing>,
    /// Steps that wait for the check.
    pending: Vec<Step>,
    steps: Vec<Step>,
    ids: Vec<u32>,
    ids_whole: bool,
    tokens: usize,
    /// Number of tokens of the steps so far, by their accepted lengths.
    ///
    /// Must equal the number of tokens that were streamed.
    end: usize,
}

impl TimedSteps {
    fn new(prompt_id: &str) -> Self {
        Self {
            prompt_id: prompt_id.to_owned(),
            before: Timing::default(),
            now: None,
            pending: Vec::new(),
            steps: Vec::new(),
            ids: Vec::new(),
            ids_whole: true,
            tokens: 0,
            end: 1,
        }
    }

    /// Takes a chunk in; returns the steps that are certain now.
    fn take(&mut self, value: &Value) -> Result<Vec<Step>, String> {
        let timing = Timing::read(value)?;
        if timing.tokens < self.tokens || !timing.milliseconds.is_finite() {
            return Err("its counts of tokens fall".to_owned());
        }
        let ids: Vec<u32> = value["tokens"]
            .as_array()
            .map(|ids| ids.iter().filter_map(token).collect())
            .unwrap_or_default();
        self.ids_whole &= ids.len() == timing.tokens - self.tokens || value["stop"] == true;
        if self.ids_whole {
            self.ids.extend(ids);
        }
        self.tokens = timing.tokens;
        let mut certain = Vec::new();
        match &mut self.now {
            Some(now) if now.milliseconds == timing.milliseconds => now.tokens = timing.tokens,
            None if timing.tokens <= 1 => {
                // The first token comes with the pass over the prompt.
                self.before = timing;
                self.now = Some(timing);
            }
            _ => {
                self.close()?;
                if timing.tokens == self.end + 1 {
                    certain = self.confirm();
                }
                self.now = Some(timing);
            }
        }
        Ok(certain)
    }

    /// Ends the step in progress.
    fn close(&mut self) -> Result<(), String> {
        let Some(now) = self.now.take() else { return Ok(()) };
        let wrong = "its counts of drafted tokens fall";
        let drafted = now.drafted.checked_sub(self.before.drafted).ok_or(wrong)?;
        let accepted = now.accepted.checked_sub(self.before.accepted).ok_or(wrong)?;
        if now.milliseconds > self.before.milliseconds || now.tokens > self.before.tokens {
            let start = self.end;
            self.end += accepted + 1;
            self.pending.push(Step {
                prompt_id: self.prompt_id.clone(),
                step: self.steps.len() + self.pending.len(),
                start,
                accepted: Some(accepted),
                drafted: Some(drafted),
                emitted: accepted + 1,
                seconds: Some((now.milliseconds - self.before.milliseconds) / 1e3)
                    .filter(|seconds| *seconds >= 0.0),
                exact: false,
            });
        }
        self.before = now;
        Ok(())
    }

    fn confirm(&mut self) -> Vec<Step> {
        let mut certain = std::mem::take(&mut self.pending);
        certain.iter_mut().for_each(|step| step.exact = true);
        self.steps.extend(certain.iter().cloned());
        certain
    }

    /// Ends the text: the steps that are left, exact if their tokens add up.
    fn finish(&mut self) -> Vec<Step> {
        if self.close().is_err() {
            return Vec::new();
        }
        let missing = self.end.checked_sub(self.tokens);
        let last = self.pending.last_mut();
        if let (Some(missing), Some(last)) = (missing, last)
            && missing < last.emitted
        {
            // A stop within the accepted tokens cuts the last step.
            last.emitted -= missing;
            return self.confirm();
        }
        let left = std::mem::take(&mut self.pending);
        self.steps.extend(left.iter().cloned());
        left
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::attach::sse::Events;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/attach/", $name))
        };
    }

    /// Steps and the rest of a recorded stream.
    fn read(text: &str) -> TimedSteps {
        let mut events = Events::new(text.as_bytes(), "x".into(), 1 << 24);
        let mut timed = TimedSteps::new("p");
        let mut reported = 0;
        while let Some(value) = events.next_json().unwrap() {
            reported += timed.take(&value).unwrap().len();
        }
        reported += timed.finish().len();
        assert_eq!(reported, timed.steps.len());
        timed
    }

    #[test]
    fn steps_of_a_recorded_stream_equal_the_counters() {
        let timed = read(fixture!("llama-stream.txt"));
        let counted = counters(fixture!("llama-metrics.txt"));
        assert!(timed.steps.iter().all(|step| step.exact && step.seconds.unwrap() > 0.0));
        let sum = |of: fn(&Step) -> usize| timed.steps.iter().map(of).sum::<usize>();
        assert_eq!(Some(timed.steps.len() as f64), counted.drafted_steps);
        assert_eq!(Some(sum(|step| step.accepted.unwrap()) as f64), counted.accepted);
        assert_eq!(Some(sum(|step| step.drafted.unwrap()) as f64), counted.drafted);
        assert_eq!((sum(|step| step.emitted), timed.tokens, timed.ids.len()), (23, 24, 24));
        assert_eq!(counted.budget, Some(4));
        let accepted: Vec<usize> = timed.steps.iter().map(|step| step.accepted.unwrap()).collect();
        assert_eq!(accepted, [0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0, 2, 0, 1, 1]);
        let starts: Vec<usize> = timed.steps.iter().map(|step| step.start).collect();
        assert_eq!(starts[..6], [1, 2, 3, 4, 6, 7]);
    }

    #[test]
    fn steps_are_exact_where_text_is_held_back() {
        // A character of three tokens comes with the last of them: only every third token has a
        // chunk.
        let timed = read(fixture!("llama-held.txt"));
        assert_eq!((timed.tokens, timed.ids.len()), (30, 0), "ids of held tokens are not reported");
        let emitted: usize = timed.steps.iter().map(|step| step.emitted).sum();
        assert_eq!(emitted, 29);
        assert!(timed.steps.iter().all(|step| step.exact), "{:?}", timed.steps);
        let drafted: usize = timed.steps.iter().map(|step| step.drafted.unwrap()).sum();
        assert_eq!((drafted, timed.steps.len()), (21, 8));
    }

    #[test]
    fn a_step_without_any_chunk_is_not_passed_over() {
        // Cut out all chunks of one step: what follows can't be split into steps any more.
        let chunks: Vec<&str> = fixture!("llama-stream.txt").split_inclusive("\n\n").collect();
        let without = |cut: usize| -> String {
            chunks.iter().enumerate().filter(|(i, _)| *i != cut).map(|(_, chunk)| *chunk).collect()
        };
        let timed = read(&without(2));
        assert!(timed.steps.iter().any(|step| !step.exact));
        // The last token of a step with two may be missing, or the first.
        for cut in [4, 5] {
            let timed = read(&without(cut));
            assert!(
                timed.steps.iter().all(|step| step.exact) && timed.steps.len() == 15,
                "{cut}: {:?}",
                timed.steps
            );
        }
    }

    #[test]
    fn a_stop_cuts_the_last_step() {
        let chunk = |n: usize, ms: f64, drafted: usize, accepted: usize, stop: bool| {
            json!({ "content": "x", "tokens": [n], "stop": stop,
                "timings": { "predicted_n": n, "predicted_ms": ms, "draft_n": drafted, "draft_n_accepted": accepted } })
        };
        let mut timed = TimedSteps::new("p");
        // Of three accepted tokens the first is a stop: it comes with the last chunk alone.
        for value in
            [chunk(1, 0.001, 0, 0, false), chunk(2, 5.0, 3, 0, false), chunk(3, 9.0, 6, 3, true)]
        {
            timed.take(&value).unwrap();
        }
        timed.finish();
        let seen: Vec<_> =
            timed.steps.iter().map(|s| (s.accepted.unwrap(), s.emitted, s.exact)).collect();
        assert_eq!(seen, [(0, 1, true), (3, 1, true)]);
        for bad in [
            json!({}),
            json!({ "timings": { "predicted_n": 1, "predicted_ms": 99.0 } }),
            json!({ "timings": 3 }),
        ] {
            assert!(timed.take(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn distributions_are_read_before_and_after_the_sampler() {
        let found = |text: &str, top| found(&serde_json::from_str(text).unwrap(), top).unwrap();
        let plain = found(fixture!("llama-score.json"), 3);
        assert_eq!((plain.best, plain.position.top().len()), (198, 3));
        assert!((plain.position.top()[0] - (-1.957_983_f64).exp()).abs() < 1e-6);
        let drawn = plain.position.drawn().unwrap();
        assert!(drawn.in_top && (drawn.surprisal - 2.000_04).abs() < 1e-4);
        let half = found(fixture!("llama-score-half.json"), 3);
        assert!(
            !half.position.drawn().unwrap().in_top
                && (half.position.top()[0] - 0.285_265).abs() < 1e-5
        );
        for bad in [
            json!({}),
            json!({ "completion_probabilities": [] }),
            json!({ "completion_probabilities": [{ "top_logprobs": [] }] }),
        ] {
            assert!(super::found(&bad, 3).is_err());
        }
    }

    #[test]
    fn facts_of_the_fixture_hold_no_folder() {
        let both: Value = serde_json::from_str(fixture!("llama-props.json")).unwrap();
        let found = identity(&both["props"], &both["models"]);
        assert_eq!(found.model.as_deref(), Some("SmolLM2-135M-Instruct.Q4_1.gguf"));
        assert_eq!(
            (found.vocabulary, found.version.as_deref()),
            (Some(49_152), Some("b0-unknown"))
        );
    }

    #[test]
    fn sampled_groups_are_whole_steps_within_the_quota() {
        let timed = read(fixture!("llama-stream.txt"));
        let text = ProbedText {
            ids: timed.ids,
            tokens: timed.tokens,
            steps: timed.steps,
            ..ProbedText::default()
        };
        let sizes =
            |most| sampled_groups(&text, most, 3).iter().map(|group| group.tokens).sum::<usize>();
        assert_eq!(sizes(1000), 24);
        assert!((8..=12).contains(&sizes(16)) && sizes(0) == 0);
        let groups = sampled_groups(&text, 16, 3);
        assert!(groups.is_sorted_by_key(|group| group.start));
    }
}
