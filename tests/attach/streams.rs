//! Stubs of vLLM and SGLang that speak their streams.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::stub::{Proxy, Request, Server, event, reply, stream_head};
use super::{lines, run, steps, sum};

/// A small generator, so that texts differ.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Pace of the stub's client: chunks as they are sent.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    /// One chunk a step.
    Quick,
    /// Neighboring steps are merged now and then.
    Slow,
}

/// Accepted lengths of a text's steps, cut to `tokens` tokens with the first one.
fn accepted_lengths(seed: u64, tokens: usize, drafted: usize) -> Vec<usize> {
    let (mut draws, mut left, mut lengths) = (Draws(seed), tokens - 1, Vec::new());
    while left > 0 {
        let accepted = draws.below(drafted + 1).min(left - 1);
        lengths.push(accepted);
        left -= accepted + 1;
    }
    lengths
}

/// Chunks of a text: the first token, then the steps, merged for a slow reader.
fn chunk_sizes(lengths: &[usize], reader: Reader) -> Vec<usize> {
    let mut sizes = vec![1];
    for (i, accepted) in lengths.iter().enumerate() {
        match sizes.last_mut() {
            Some(last) if reader == Reader::Slow && i % 3 == 1 => *last += accepted + 1,
            _ => sizes.push(accepted + 1),
        }
    }
    sizes
}

const DRAFTED: usize = 3;

/// Counters of the vLLM stub: drafts, drafted, accepted, tokens, texts.
#[derive(Default)]
struct Counted {
    steps: usize,
    accepted: usize,
    by_depth: [usize; DRAFTED],
    tokens: usize,
    texts: usize,
}

impl Counted {
    fn metrics(&self) -> String {
        let mut text = format!(
            "vllm:spec_decode_num_drafts_total{{engine=\"0\"}} {}\nvllm:spec_decode_num_draft_tokens_total{{engine=\"0\"}} {}\n\
             vllm:spec_decode_num_accepted_tokens_total{{engine=\"0\"}} {}\nvllm:generation_tokens_total{{engine=\"0\"}} {}\n\
             vllm:time_to_first_token_seconds_count{{engine=\"0\"}} {}\nvllm:inter_token_latency_seconds_count{{engine=\"0\"}} {}\n\
             vllm:inter_token_latency_seconds_sum{{engine=\"0\"}} {}\n",
            self.steps,
            DRAFTED * self.steps,
            self.accepted,
            self.tokens,
            self.texts,
            self.steps,
            0.02 * self.steps as f64
        );
        for (depth, count) in self.by_depth.iter().enumerate() {
            text += &format!(
                "vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine=\"0\",position=\"{depth}\"}} {count}\n"
            );
        }
        text
    }
}

fn vllm(reader: Reader, detailed: bool) -> Server {
    let counted = Mutex::new(Counted::default());
    let answer = move |request: &Request, _: usize, to: &mut TcpStream| -> std::io::Result<()> {
        match request.line().as_str() {
            "GET /metrics" => reply(to, 200, "", counted.lock().unwrap().metrics().as_bytes()),
            "GET /version" => reply(to, 200, "", b"{\"version\":\"0.32.0\"}"),
            "GET /v1/models" => reply(
                to,
                200,
                "",
                br#"{"object":"list","data":[{"id":"llama","owned_by":"vllm"}]}"#,
            ),
            "POST /tokenize" => reply(to, 200, "", br#"{"tokens":[1,2,3],"count":3}"#),
            "POST /v1/completions" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                assert_eq!((&body["prompt"], &body["stream"]), (&json!([1, 2, 3]), &json!(true)));
                assert!(body["top_p"] == 1.0 || body["temperature"] != 1.0);
                let tokens = body["max_tokens"].as_u64().unwrap() as usize;
                let lengths = accepted_lengths(body["seed"].as_u64().unwrap() + 7, tokens, DRAFTED);
                let mut draws = Draws(body["seed"].as_u64().unwrap());
                stream_head(to)?;
                let sizes = chunk_sizes(&lengths, reader);
                let mut left = tokens;
                for size in sizes {
                    left -= size;
                    event(to, &vllm_chunk(size, left == 0, &mut draws).to_string())?;
                }
                {
                    let mut counted = counted.lock().unwrap();
                    counted.steps += lengths.len();
                    counted.accepted += lengths.iter().sum::<usize>();
                    counted.tokens += tokens;
                    counted.texts += 1;
                    lengths.iter().for_each(|&length| {
                        counted.by_depth[..length].iter_mut().for_each(|count| *count += 1)
                    });
                }
                let speculation = json!({ "num_spec_steps": lengths.len(), "num_spec_tokens": DRAFTED,
                    "per_step_accepted": lengths, "per_step_drafted": vec![DRAFTED; lengths.len()] });
                let metrics = if detailed {
                    json!({ "speculative_decoding": speculation })
                } else {
                    Value::Null
                };
                event(to, &json!({ "choices": [], "usage": { "completion_tokens": tokens }, "metrics": metrics }).to_string())?;
                event(to, "[DONE]")
            }
            _ => reply(to, 404, "", b"{\"detail\":\"Not Found\"}"),
        }
    };
    Server::start(answer)
}

/// Every position has the distribution 1/2, 1/4, and a tail of 1/4 over 1,000 tokens.
fn draw(draws: &mut Draws) -> (String, f64) {
    match draws.below(4) {
        0 | 1 => ("token_id:0".into(), 0.5f64.ln()),
        2 => ("token_id:1".into(), 0.25f64.ln()),
        _ => (format!("token_id:{}", 2 + draws.below(1000)), 0.000_25f64.ln()),
    }
}

fn vllm_chunk(size: usize, last: bool, draws: &mut Draws) -> Value {
    let drawn: Vec<(String, f64)> = (0..size).map(|_| draw(draws)).collect();
    let top = |(name, log): &(String, f64)| {
        // Twenty listed tokens, and the drawn one where it is not among them: as probable as the
        // last ones listed.
        let listed = (2..20).map(|i| (format!("token_id:{i}"), json!(0.000_25f64.ln())));
        let first = [
            ("token_id:0".to_owned(), json!(0.5f64.ln())),
            ("token_id:1".to_owned(), json!(0.25f64.ln())),
        ];
        let mut top: serde_json::Map<String, Value> = first.into_iter().chain(listed).collect();
        top.insert(name.clone(), json!(log));
        top
    };
    let ids: Vec<u64> = drawn.iter().map(|(name, _)| name[9..].parse().unwrap()).collect();
    json!({ "choices": [{ "index": 0, "text": "x", "token_ids": ids, "finish_reason": last.then_some("length"),
        "logprobs": { "tokens": drawn.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "token_logprobs": drawn.iter().map(|(_, log)| log).collect::<Vec<_>>(),
            "top_logprobs": drawn.iter().map(top).collect::<Vec<_>>() } }] })
}

const PROBE: [&str; 6] = ["--probe", "--tokens", "640", "--json", "-", "--plain"];

fn probe(server: &Server) -> Vec<Value> {
    let out = run(&[&["attach", &server.address][..], &PROBE].concat());
    assert_eq!(out.status, 0, "{}", out.err);
    lines(&out.out)
}

#[test]
fn vllm_at_detailed_is_exact_whatever_the_reader_gets() {
    for reader in [Reader::Quick, Reader::Slow] {
        let server = vllm(reader, true);
        let lines = probe(&server);
        let (steps, summary) = (steps(&lines), lines.last().unwrap());
        assert_eq!(
            (lines[0]["engine"].as_str(), lines[0]["version"].as_str()),
            (Some("vllm"), Some("0.32.0"))
        );
        assert_eq!(lines[0]["mode"], "probe");
        assert!(steps.iter().all(|step| step["exact"] == true && step["drafted"] == DRAFTED));
        assert_eq!(sum(&steps, "emitted"), 640.0 - summary["texts"].as_f64().unwrap());
        assert_eq!(
            summary["accepted_mean"].as_f64().unwrap(),
            sum(&steps, "accepted") / steps.len() as f64
        );
        assert_eq!(
            (summary["budget"].as_u64(), summary["positions"].as_u64()),
            (Some(4), Some(640))
        );
        assert_eq!(
            steps[0]["seconds"].is_null(),
            reader == Reader::Slow,
            "merged chunks have no times"
        );
        // 0.5 ln 2 + 0.25 ln 4 + 0.25 ln 4000, and squares.
        let (mu, mu2) = (2.7666, 0.25 * 0.480_45 * 2.0 + 0.25 * 1.921_81 + 0.25 * 68.792);
        for (name, truth) in [("mu", mu), ("mu2", mu2)] {
            let (low, high) =
                (summary[name]["low"].as_f64().unwrap(), summary[name]["high"].as_f64().unwrap());
            assert!(
                low <= truth && truth <= high && high - low < truth,
                "{name}: {truth} in [{low}, {high}]"
            );
        }
        assert!(
            summary["ladder"]["steps"].as_f64().unwrap() > 0.0
                && summary["ceilings"]["fluid"]["low"].is_f64()
        );
    }
}

#[test]
fn chunks_of_vllm_are_steps_only_where_its_counters_agree() {
    let quick = probe(&vllm(Reader::Quick, false));
    assert!(steps(&quick).iter().all(|step| step["exact"] == true && step["seconds"].is_f64()));
    let slow = probe(&vllm(Reader::Slow, false));
    assert!(steps(&slow).iter().all(|step| step["exact"] == false), "merged chunks are no steps");
    assert!(slow.last().unwrap()["mu"]["value"].is_f64(), "distributions stand all the same");
}

#[test]
fn nothing_is_sent_that_was_not_announced() {
    let server = vllm(Reader::Quick, true);
    let out = run(&["attach", &server.address, "--probe", "--tokens", "320", "--plain"]);
    assert_eq!(out.status, 0, "{}", out.err);
    let announced = |request: &str| -> usize {
        let line =
            out.out.lines().find(|line| line.contains(&format!(" x {request}"))).unwrap_or("0 x");
        line.trim().split(' ').next().unwrap().parse().unwrap()
    };
    let sent = server.lines();
    let count = |request: &str| sent.iter().filter(|line| *line == request).count();
    assert_eq!(count("POST /v1/completions"), announced("POST /v1/completions"));
    assert_eq!(count("POST /tokenize"), announced("POST /tokenize"));
    let posts = sent.iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, count("POST /v1/completions") + count("POST /tokenize"));
    let asked: u64 = server
        .requests()
        .iter()
        .filter(|request| request.path == "/v1/completions")
        .map(|request| {
            serde_json::from_str::<Value>(&request.body).unwrap()["max_tokens"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(asked, 320);
    // The announcement comes before anything of the answers.
    let (first, text) = (out.out.find("will send").unwrap(), out.out.find("text 1 of").unwrap());
    assert!(first < text);
}

#[test]
fn without_a_probe_nothing_is_sent() {
    let server = vllm(Reader::Quick, true);
    let out =
        run(&["attach", &server.address, "--every", "0.1", "--seconds", "0.5", "--json", "-"]);
    assert_eq!(out.status, 0, "{}", out.err);
    let lines = lines(&out.out);
    assert!(lines.iter().any(|line| line["type"] == "window"));
    assert!(lines.last().unwrap()["mu"].is_null() && lines.last().unwrap()["budget"] == 4);
    let allowed = ["GET /metrics", "GET /v1/models", "GET /version"];
    assert!(
        server.lines().iter().all(|line| allowed.contains(&line.as_str())),
        "{:?}",
        server.lines()
    );
}

fn sglang(reader: Reader, extra: usize) -> Server {
    let info = include_str!("../fixtures/attach/sglang-server-info.json");
    let answer = move |request: &Request, _: usize, to: &mut TcpStream| -> std::io::Result<()> {
        match request.line().as_str() {
            "GET /metrics" => {
                reply(to, 200, "", include_bytes!("../fixtures/attach/sglang-metrics.txt"))
            }
            "GET /server_info" => reply(to, 200, "", info.as_bytes()),
            "POST /generate" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let sampling = &body["sampling_params"];
                let tokens = sampling["max_new_tokens"].as_u64().unwrap() as usize;
                let lengths = accepted_lengths(
                    sampling["sampling_seed"].as_u64().unwrap() + 3,
                    tokens,
                    DRAFTED,
                );
                stream_head(to)?;
                let (mut total, mut logs, mut tops) = (0, Vec::new(), Vec::new());
                let mut draws = Draws(sampling["sampling_seed"].as_u64().unwrap());
                for size in chunk_sizes(&lengths, reader) {
                    total += size;
                    for _ in 0..size {
                        let (name, log) = draw(&mut draws);
                        logs.push(json!([log, name[9..].parse::<u64>().unwrap(), null]));
                        tops.push(json!([[0.5f64.ln(), 0, null], [0.25f64.ln(), 1, null]]));
                    }
                    let done = total == tokens;
                    let mut meta = json!({ "completion_tokens": total, "finish_reason": null,
                        "output_token_logprobs": logs, "output_top_logprobs": tops });
                    if done {
                        meta["finish_reason"] = json!({ "type": "length" });
                        meta["spec_verify_ct"] = json!(lengths.len() + extra);
                        meta["spec_num_correct_drafts"] = json!(lengths.iter().sum::<usize>());
                    }
                    event(to, &json!({ "text": "x", "meta_info": meta }).to_string())?;
                }
                event(to, "[DONE]")
            }
            _ => reply(to, 404, "", b""),
        }
    };
    Server::start(answer)
}

#[test]
fn steps_of_sglang_are_checked_against_its_passes() {
    for (reader, extra, exact) in
        [(Reader::Quick, 0, true), (Reader::Quick, 1, false), (Reader::Slow, 0, false)]
    {
        let server = sglang(reader, extra);
        let lines = probe(&server);
        let (steps, summary) = (steps(&lines), lines.last().unwrap());
        assert_eq!(
            (lines[0]["engine"].as_str(), lines[0]["method"].as_str()),
            (Some("sglang"), Some("EAGLE3"))
        );
        assert!(steps.iter().all(|step| step["exact"] == exact));
        assert!(
            !exact
                || steps.iter().all(|step| step["drafted"] == DRAFTED && step["seconds"].is_f64())
        );
        assert_eq!(
            (summary["budget"].as_u64(), summary["positions"].as_u64()),
            (Some(4), Some(640))
        );
        let (low, high) =
            (summary["mu"]["low"].as_f64().unwrap(), summary["mu"]["high"].as_f64().unwrap());
        assert!(low <= 2.7666 && 2.7666 <= high, "[{low}, {high}]");
        assert!(
            !server.lines().iter().any(|line| line.starts_with("POST") && line != "POST /generate")
        );
    }
}

/// Moments of 1/2, 1/4, and 1/4 over 1,000 tokens, as sampled with these parameters.
fn sampled_moments(temperature: f64, top_p: f64) -> [f64; 2] {
    let weights = [0.5, 0.25].into_iter().chain([0.000_25; 1000]);
    let weights: Vec<f64> = weights.map(|p: f64| p.powf(1.0 / temperature)).collect();
    let (total, mut mass) = (weights.iter().sum::<f64>(), 0.0);
    let kept = weights.iter().take_while(|weight| {
        let more = mass < top_p * total;
        mass += *weight;
        more
    });
    let kept: Vec<f64> = kept.copied().collect();
    let total: f64 = kept.iter().sum();
    [1, 2].map(|power| kept.iter().map(|w| w / total * (-(w / total).ln()).powi(power)).sum())
}

#[test]
fn other_sampling_parameters_give_brackets_and_estimates_only_where_one_distribution_fits() {
    // With 0.99 top-p ends in the tail, with 0.95 after the second token.
    for (top_p, known) in [("0.99", false), ("0.95", true)] {
        let server = vllm(Reader::Quick, true);
        let sampling = ["--temperature", "0.7", "--top-p", top_p];
        let out = run(&[&["attach", &server.address][..], &PROBE, &sampling].concat());
        assert_eq!(out.status, 0, "{}", out.err);
        assert!(out.err.contains("ceilings are bracketed"), "{}", out.err);
        let (lines, sent) = (lines(&out.out), server.requests());
        let asked = sent.iter().find(|request| request.path == "/v1/completions").unwrap();
        let asked: Value = serde_json::from_str(&asked.body).unwrap();
        let top_p: f64 = top_p.parse().unwrap();
        assert_eq!((&asked["temperature"], &asked["top_p"]), (&json!(0.7), &json!(top_p)));
        let summary = lines.last().unwrap();
        assert!(summary["ladder"]["oracle_chain"]["value"].is_f64(), "chains need no distribution");
        assert_eq!(summary["ceilings"]["fluid"].is_null(), !known);
        for (name, truth) in ["mu", "mu2"].into_iter().zip(sampled_moments(0.7, top_p)) {
            let bracket = &summary["brackets"][name];
            let low = bracket["low"].as_f64().unwrap();
            // vLLM does not report the size of the vocabulary: below temperature 1 none is needed.
            let high = bracket["high"].as_f64().unwrap();
            let slack = 1e-9 * truth;
            assert!(low <= truth + slack && truth <= high + slack, "{name} {truth} {bracket}");
            assert!(high < 3.0 * truth, "{name} {truth} {bracket}");
            if known {
                let value = summary[name]["value"].as_f64().unwrap();
                assert!((value / truth - 1.0).abs() < 1e-9, "{name} {truth} {value}");
            } else {
                assert!(summary[name].is_null());
            }
        }
    }
}

#[test]
fn a_passive_run_shows_the_last_probe_apart_until_the_server_changes() {
    let stub = vllm(Reader::Quick, true);
    let updated = Arc::new(AtomicBool::new(false));
    let newer = Arc::clone(&updated);
    let proxy = Proxy::start(&stub.address, move |request, body| {
        if request.path == "/version" && newer.load(Ordering::SeqCst) {
            return b"{\"version\":\"0.33.0\"}".to_vec();
        }
        body
    });
    let address = proxy.server.address.as_str();
    let watch = |format: &[&str]| {
        run(&[&["attach", address, "--every", "0.1", "--seconds", "0.2"], format].concat())
    };
    let before = watch(&["--json", "-"]);
    assert!(lines(&before.out).last().unwrap()["earlier_probe"].is_null());
    let probed = run(&[&["attach", address][..], &PROBE].concat());
    assert_eq!(probed.status, 0, "{}", probed.err);
    let probed = lines(&probed.out).pop().unwrap();
    assert!(probed["earlier_probe"].is_null(), "a probe shows its own figures alone");
    let out = watch(&["--json", "-"]);
    let summary = lines(&out.out).pop().unwrap();
    let earlier = &summary["earlier_probe"];
    assert_eq!((&earlier["mu"], &earlier["ceilings"]), (&probed["mu"], &probed["ceilings"]));
    assert_eq!((&earlier["tokens"], &earlier["budget"]), (&json!(640), &json!(4)));
    assert!(summary["mu"].is_null() && summary["ceilings"]["fluid"].is_null());
    let text = watch(&["--plain"]).out;
    assert!(text.contains("from a probe of 20") && text.contains("640 tokens"), "{text}");
    // Nothing of prompts or texts is kept.
    let folder = super::cache().join("probes");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    // Other tests write there, too, and rename.
    let kept: Vec<String> = files.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    assert!(!kept.is_empty());
    for kept in kept {
        assert!(!kept.contains("127.0.0.1") && !kept.contains("prompt"), "{kept}");
    }
    updated.store(true, Ordering::SeqCst);
    let out = watch(&["--json", "-"]);
    assert!(lines(&out.out).last().unwrap()["earlier_probe"].is_null());
    let said: Vec<&str> = out.err.lines().filter(|line| line.contains("last probe")).collect();
    assert!(said.len() == 1 && said[0].contains("version was 0.32.0, and is 0.33.0"), "{said:?}");
}
