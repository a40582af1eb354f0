//! A real llama.cpp server with the model that this program runs itself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use speclight::attach::estimate::Distributions;
use speclight::attach::{
    Address, Event, Http, Keys, OmittedSampling, ProbeSettings, Request, ServerKind, Target, detect,
};
use speclight::distribution::{Sampling, TokenDist};
use speclight::engine::Prompt;
use speclight::model::candle::{CandleDecoder, Llama, Precision};
use speclight::model::device::DeviceChoice;
use speclight::model::format::weights::Weights;
use speclight::model::{Decoder, Logits, Model, Node, Pass};
use speclight::theory::bounds;
use speclight::theory::pool::SurprisalPool;

use super::stub::Proxy;
use super::{command, ended, lines, model, run, steps, sum};

/// The package that holds llama.cpp's server.
const PACKAGE: &str = "xllamacpp==2026.10.11549";

/// A server that ends with the test.
struct LlamaServer {
    child: Child,
    address: String,
}

impl LlamaServer {
    fn start(kind: &str, key: Option<&str>) -> LlamaServer {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attach/serve.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(model::path()).arg(kind).args(key).env("PYTHONPATH", package());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 runs");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("http://"), "the server did not start: {address}");
        LlamaServer { child, address: address.trim().to_owned() }
    }

    fn counter(&self, name: &str) -> f64 {
        let text = ureq::get(format!("{}/metrics", self.address))
            .call()
            .unwrap()
            .into_body()
            .read_to_string()
            .unwrap();
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Drafts, drafted and accepted tokens so far. They are counted when a request ends.
    fn counters(&self) -> [f64; 3] {
        ["drafts", "draft_tokens", "accepted_tokens"]
            .map(|name| self.counter(&format!("llamacpp:spec_decode_num_{name}_total")))
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Folder with the package, fetched by pip once.
fn package() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE.replace("==", "-"));
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.join("done").exists() {
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--target",
        ];
        let done = Command::new("python3")
            .args(pip)
            .arg(&folder)
            .arg(PACKAGE)
            .status()
            .expect("python3 with pip");
        assert!(done.success(), "{PACKAGE} can't be had");
        std::fs::write(folder.join("done"), "").unwrap();
    }
    folder
}

#[test]
fn steps_equal_the_counters_of_the_server() {
    let server = LlamaServer::start("draft-simple", None);
    let before = server.counters();
    let out = run(&[
        "attach",
        &server.address,
        "--probe",
        "--tokens",
        "192",
        "--score",
        "60",
        "--json",
        "-",
        "--seed",
        "3",
    ]);
    assert_eq!(out.status, 0, "{}", out.err);
    let lines = lines(&out.out);
    let (run, steps, summary) = (&lines[0], steps(&lines), lines.last().unwrap());
    assert_eq!(
        (run["engine"].as_str(), run["mode"].as_str()),
        (Some("llama-server"), Some("probe"))
    );
    assert!(
        !out.out.contains(model::path().parent().unwrap().to_str().unwrap()),
        "no path of the server's machine is told"
    );
    assert!(
        steps.len() > 20
            && steps
                .iter()
                .all(|step| step["exact"] == true && step["seconds"].as_f64().unwrap() > 0.0)
    );
    let drafts = steps.iter().filter(|step| step["drafted"].as_f64().unwrap() > 0.0).count();
    let told = [drafts as f64, sum(&steps, "drafted"), sum(&steps, "accepted")];
    let after = server.counters();
    let counted: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(told.to_vec(), counted);
    assert_eq!(
        summary["tokens"].as_f64().unwrap(),
        sum(&steps, "emitted") + summary["texts"].as_f64().unwrap()
    );
    assert_eq!(
        summary["accepted_mean"].as_f64().unwrap(),
        sum(&steps, "accepted") / steps.len() as f64
    );
    for pointer in [
        "/mu/low",
        "/mu2/high",
        "/ceilings/fluid/low",
        "/ladder/oracle_chain/value",
        "/speed_of_light/share",
    ] {
        assert!(summary.pointer(pointer).is_some_and(Value::is_f64), "{pointer}: {summary}");
    }
    assert_eq!(summary["budget"], 4);
    watched(&server);
}

/// Watches the server while another client lets it write.
fn watched(server: &LlamaServer) {
    let args = ["attach", &server.address, "--every", "0.2", "--seconds", "4", "--json", "-"];
    let watch = command(&args).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(800));
    let body = serde_json::json!({ "prompt": "one two three one two three", "n_predict": 16, "temperature": 0 });
    let before = server.counters();
    ureq::post(format!("{}/completion", server.address))
        .send(body.to_string())
        .unwrap()
        .into_body()
        .read_to_string()
        .unwrap();
    let out = watch.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    let lines = lines(&String::from_utf8(out.stdout).unwrap());
    let (summary, after) = (lines.last().unwrap(), server.counters());
    assert_eq!(lines[0]["mode"], "passive");
    let told = ["drafted_steps", "drafted", "accepted"].map(|name| summary[name].as_f64().unwrap());
    assert_eq!(told, [0, 1, 2].map(|i| after[i] - before[i]));
    assert!(summary["mu"].is_null() && summary["ceilings"]["fluid"].is_null());
}

/// Probability, of each token of the whole vocabulary, in the body of a scoring request; they sum
/// to 1.
fn whole_distribution(body: &Value, vocabulary: usize) -> Vec<f64> {
    let list = body["completion_probabilities"][0]["top_logprobs"].as_array().unwrap();
    assert_eq!(list.len(), vocabulary);
    let raw: Vec<f64> = list.iter().map(|entry| entry["logprob"].as_f64().unwrap().exp()).collect();
    let sum: f64 = raw.iter().sum();
    // The server sums 49,152 numbers of 32 bits.
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    raw.iter().map(|p| p / sum).collect()
}

#[test]
fn whole_distributions_give_the_figures_of_a_recomputation() {
    let server = LlamaServer::start("draft-simple", None);
    let proxy = Proxy::start(&server.address, |_, body| body);
    let vocabulary = 49_152;
    let top = vocabulary.to_string();
    let out = run(&[
        "attach",
        &proxy.server.address,
        "--probe",
        "--tokens",
        "48",
        "--score",
        "200",
        "--top",
        &top,
        "--seed",
        "3",
        "--json",
        "-",
    ]);
    assert_eq!(out.status, 0, "{}", out.err);
    let lines = lines(&out.out);
    let summary = lines.last().unwrap();
    // The same numbers, which the server sent, by other code.
    let (mut pool, mut first) = (SurprisalPool::new(), 0.0);
    for passed in proxy.passed() {
        let asked: Value = serde_json::from_str(&passed.request.body).unwrap_or_default();
        if passed.request.path == "/completion" && asked["n_predict"] == 1 {
            let body = serde_json::from_slice(&passed.body).unwrap();
            let distribution = whole_distribution(&body, vocabulary);
            pool.add_probabilities(&distribution);
            first += distribution.iter().copied().fold(0.0, f64::max);
        }
    }
    let positions = pool.positions();
    assert!(positions > 40 && summary["positions"].as_u64() == Some(positions as u64), "{summary}");
    let drafted = summary["budget"].as_u64().unwrap() as usize - 1;
    let (mu, mu2) = (pool.mu().unwrap(), pool.mu2().unwrap());
    let chain: f64 = (1..=drafted).map(|j| (first / positions as f64).powi(j as i32)).sum();
    for (name, truth) in [
        ("mu", Some(mu)),
        ("mu2", Some(mu2)),
        ("renewal", bounds::renewal(mu, mu2, drafted)),
        ("renewal_tuned", bounds::renewal_tuned(mu, mu2, drafted)),
        ("fluid", pool.fluid(drafted)),
        ("chain", Some(chain)),
    ] {
        let truth = truth.unwrap();
        let place = if name.starts_with("mu") { "" } else { "/ceilings" };
        let value = summary.pointer(&format!("{place}/{name}/value")).unwrap().as_f64().unwrap();
        let bracket = &summary["brackets"][name];
        let ends = [&bracket["low"], &bracket["high"]].map(|end| end.as_f64().unwrap());
        // Sums of 49,152 products in 64 bits: nothing but their rounding.
        for found in [value, ends[0], ends[1]] {
            assert!((found / truth - 1.0).abs() < 1e-9, "{name}: {found} and {truth}");
        }
    }
}

/// Distributions of a text's positions by a decoder of this program.
fn each_position(
    decoder: &mut dyn Decoder,
    prompt: &[u32],
    ids: &[u32],
    visit: &mut dyn FnMut(&TokenDist),
) {
    let tokens = [prompt, ids].concat();
    for (i, chunk) in tokens.chunks(32).enumerate() {
        decoder
            .append(&Node::chain(chunk), Pass { layers: usize::MAX, logits: Logits::All })
            .unwrap();
        for j in 0..chunk.len() {
            // The row of token i is the distribution of the next one: positions of the text begin
            // with the last row of the prompt.
            let at = 32 * i + j + 1;
            if (prompt.len()..tokens.len()).contains(&at) {
                visit(&TokenDist::new(decoder.logits(j), &Sampling::PLAIN).unwrap());
            }
        }
        decoder.commit(&(0..chunk.len()).collect::<Vec<_>>()).unwrap();
    }
}

/// A server's target, probed by the library.
fn attached(server: &LlamaServer) -> Target {
    let client = |key: Option<&speclight::attach::Key>| {
        let address = Address::parse(&server.address).unwrap();
        Http::new(address, key.cloned(), Duration::from_secs(30), false)
    };
    let target = detect(None, &Keys::default(), &client).unwrap();
    assert_eq!(target.server.engine(), ServerKind::LlamaServer);
    target
}

fn settings(tokens: usize, top: usize) -> ProbeSettings {
    let prompts = [
        "Why is the sky blue?",
        "Tell me a story about a fox.",
        "Count to ten.",
        "What is a prime number?",
    ];
    let prompt = |(i, text): (usize, &&str)| Prompt { id: i.to_string(), text: (*text).to_owned() };
    ProbeSettings {
        prompts: prompts.iter().enumerate().map(prompt).collect(),
        tokens,
        temperature: 1.0,
        top_p: 1.0,
        seed: 11,
        top,
        score: 10_000,
        raw: false,
    }
}

#[test]
fn estimates_agree_with_our_own_engine_on_the_same_tokens() {
    let server = LlamaServer::start("none", None);
    let mut target = attached(&server);
    let plan = target.server.plan(&settings(384, 20)).unwrap();
    let model = Model::open(&model::path(), DeviceChoice::Cpu, None).unwrap();
    let (mut estimated, mut own) = (
        Distributions::new(target.identity.vocabulary, OmittedSampling::NONE),
        SurprisalPool::new(),
    );
    let mut sink = |_: Event| true;
    for request in &plan.requests {
        let text = target.server.probe(&target.http, request, &mut sink).unwrap().unwrap();
        let mut scored =
            target.server.score(&target.http, &text, request, 10_000, &mut sink).unwrap();
        let mut decoder = model.decoder(1024).unwrap();
        each_position(&mut *decoder, &text.prompt, &text.ids, &mut |dist| {
            own.add(dist, dist.moments());
        });
        // A stop token has a position of its own, which is in no text.
        scored.positions.truncate(text.ids.len());
        assert_eq!(scored.positions.len(), text.ids.len());
        estimated.add(&scored);
    }
    let found = estimated.estimates(Some(8), Some(7.0));
    let (mu, mu2) = (own.mu().unwrap(), own.mu2().unwrap());
    for (name, estimate, truth) in [
        ("mu", found.mu, mu),
        ("mu2", found.mu2, mu2),
        ("fluid", found.fluid, own.fluid(7).unwrap()),
        ("fluid at mean", found.fluid_at_mean, own.fluid_bound_for_mean_size(7.0).unwrap()),
    ] {
        let interval = estimate.unwrap().interval.unwrap();
        assert!(
            interval.low <= truth && truth <= interval.high,
            "{name}: {truth} is not in {estimate:?}"
        );
    }
    let brackets = estimated.brackets(Some(8), None).unwrap();
    for (bracket, truth) in [(brackets.mu, mu), (brackets.mu2, mu2)] {
        let slack = ENGINE_DISTANCE * truth;
        assert!(
            bracket.low <= truth + slack && truth <= bracket.high.unwrap() + slack,
            "{bracket:?} {truth}"
        );
    }
}

/// Largest relative distance of mu, mu2 and fluid between this program's engine and llama.cpp, over
/// the same tokens (docs/attach.md).
const ENGINE_DISTANCE: f64 = 0.02;

/// Both engines round activations to 8 bits, each at other places. The reference does not round.
#[test]
fn engines_differ_by_the_rounding_of_activations_alone() {
    let server = LlamaServer::start("none", None);
    let mut target = attached(&server);
    let vocabulary = target.identity.vocabulary.unwrap();
    let plan = target.server.plan(&settings(128, vocabulary)).unwrap();
    let model = Model::open(&model::path(), DeviceChoice::Cpu, None).unwrap();
    let weights = Weights::open(&model::path()).unwrap();
    let device = DeviceChoice::Cpu.open().unwrap();
    let reference = Arc::new(Llama::load(&weights, &device, Precision::F32).unwrap());
    let (mut llama, mut own, mut exact) =
        (SurprisalPool::new(), SurprisalPool::new(), SurprisalPool::new());
    let mut sink = |_: Event| true;
    for request in &plan.requests {
        let text = target.server.probe(&target.http, request, &mut sink).unwrap().unwrap();
        let scored = target.server.score(&target.http, &text, request, 10_000, &mut sink).unwrap();
        for position in &scored.positions[..text.ids.len()] {
            llama.add_probabilities(position.top());
        }
        let mut decoders: [(Box<dyn Decoder>, &mut SurprisalPool); 2] = [
            (model.decoder(1024).unwrap(), &mut own),
            (Box::new(CandleDecoder::new(Arc::clone(&reference), 1024).unwrap()), &mut exact),
        ];
        for (decoder, pool) in &mut decoders {
            each_position(&mut **decoder, &text.prompt, &text.ids, &mut |dist| {
                pool.add(dist, dist.moments());
            });
        }
    }
    let figures = |pool: &SurprisalPool| [pool.mu(), pool.mu2(), pool.fluid(7)].map(Option::unwrap);
    let all = [figures(&llama), figures(&own), figures(&exact)];
    let distance = |a: usize, b: usize| (0..3).map(move |i| (all[a][i] / all[b][i] - 1.0).abs());
    println!("{} positions: llama.cpp, own, reference: {all:?}", own.positions());
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        println!("{a} {b}: {:?}", distance(a, b).collect::<Vec<_>>());
        assert!(distance(a, b).all(|d| d < ENGINE_DISTANCE), "{all:?}");
    }
}

/// Temperature and top-p applied by the server, and by this program to its raw distributions.
#[test]
fn the_servers_sampler_gives_what_is_computed_from_raw_distributions() {
    let server = LlamaServer::start("none", None);
    let mut target = attached(&server);
    let vocabulary = target.identity.vocabulary.unwrap();
    let raw = target.server.plan(&settings(24, vocabulary)).unwrap().requests.remove(0);
    let sampled = Request { temperature: 0.7, top_p: 0.9, ..raw.clone() };
    let mut sink = |_: Event| true;
    let text = target.server.probe(&target.http, &sampled, &mut sink).unwrap().unwrap();
    let omitted = OmittedSampling { temperature: 0.7, top_p: 0.9 };
    let figures = |request: &Request, omitted: OmittedSampling, target: &mut Target| {
        let mut all = Distributions::new(Some(vocabulary), omitted);
        let scored =
            target.server.score(&target.http, &text, request, 1000, &mut |_: Event| true).unwrap();
        all.add(&scored);
        assert!(all.positions() > 8 && all.positions() == scored.positions.len());
        all.brackets(Some(8), None).unwrap()
    };
    let computed = figures(&raw, omitted, &mut target);
    let reported = figures(&sampled, OmittedSampling::NONE, &mut target);
    for (name, computed, reported) in [
        ("mu", Some(computed.mu), Some(reported.mu)),
        ("mu2", Some(computed.mu2), Some(reported.mu2)),
        ("fluid", computed.fluid, reported.fluid),
        ("chain", computed.chain, reported.chain),
    ] {
        let (computed, reported) = (computed.unwrap(), reported.unwrap());
        // Both are whole; the server's sums up to top-p are of 32 bits.
        for end in [computed.high.unwrap(), reported.low, reported.high.unwrap()] {
            let distance = (end / computed.low - 1.0).abs();
            assert!(distance < 1e-3, "{name}: {computed:?} {reported:?}");
        }
    }
}

#[test]
fn nothing_is_sent_that_was_not_announced_and_a_key_is_kept() {
    let server = LlamaServer::start("ngram-simple", Some("sk-test"));
    let wrong = ended(command(&["attach", &server.address]).env("LLAMA_API_KEY", "sk-other"));
    assert!(
        wrong.status == 1 && wrong.err.lines().count() == 1 && !wrong.err.contains("sk-other"),
        "{}",
        wrong.err
    );
    let args = [
        "attach",
        &server.address,
        "--probe",
        "--tokens",
        "64",
        "--score",
        "0",
        "--temperature",
        "0",
        "--plain",
    ];
    let out = ended(command(&args).env("LLAMA_API_KEY", "sk-test"));
    assert_eq!(out.status, 0, "{}", out.err);
    assert!(!(out.out.clone() + &out.err).contains("sk-test"));
    assert!(out.out.contains("greedy text: the only ceiling"), "{}", out.out);
    let announced: BTreeSet<&str> =
        out.out.lines().filter(|line| line.contains(" x POST ")).collect();
    assert_eq!(announced.len(), 3, "{}", out.out);
}
