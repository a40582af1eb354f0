//! A real llama.cpp server with the model that this program runs itself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use speclight::attach::estimate::Laws;
use speclight::attach::{Address, Engine, Event, Http, Keys, ProbeSettings, detect};
use speclight::distribution::{Sampling, TokenDist};
use speclight::engine::Prompt;
use speclight::model::device::DeviceChoice;
use speclight::model::{Logits, Model, Node, Pass};
use speclight::theory::pool::Pool;

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

/// Exact laws of a text's positions by this program's own engine: a pool of them, and their
/// entropies.
fn own_laws(model: &Model, prompt: &[u32], ids: &[u32], pool: &mut Pool) -> Vec<f64> {
    let mut decoder = model.decoder(1024).unwrap();
    let tokens = [prompt, ids].concat();
    let mut entropies = Vec::new();
    for (i, chunk) in tokens.chunks(32).enumerate() {
        decoder
            .append(&Node::chain(chunk), Pass { layers: usize::MAX, logits: Logits::All })
            .unwrap();
        for j in 0..chunk.len() {
            // The row of token i tells the law of the next one: positions of the text begin with
            // the last row of the prompt.
            let at = 32 * i + j + 1;
            if (prompt.len()..tokens.len()).contains(&at) {
                let law = TokenDist::new(decoder.logits(j), &Sampling::PLAIN).unwrap();
                pool.add(&law, law.moments());
                entropies.push(law.moments().entropy);
            }
        }
        decoder.commit(&(0..chunk.len()).collect::<Vec<_>>()).unwrap();
    }
    entropies
}

#[test]
fn estimates_agree_with_our_own_engine_on_the_same_tokens() {
    let server = LlamaServer::start("none", None);
    let client = |key: Option<&speclight::attach::Key>| {
        Http::new(
            Address::parse(&server.address).unwrap(),
            key.cloned(),
            Duration::from_secs(30),
            false,
        )
    };
    let mut target = detect(None, &Keys::default(), &client).unwrap();
    assert_eq!(target.server.engine(), Engine::LlamaServer);
    let vocabulary = target.identity.vocabulary.unwrap();
    let prompts = [
        "Why is the sky blue?",
        "Tell me a story about a fox.",
        "Count to ten.",
        "What is a prime number?",
    ];
    let prompts = prompts
        .iter()
        .enumerate()
        .map(|(i, text)| Prompt { id: i.to_string(), text: (*text).into() })
        .collect();
    let settings = ProbeSettings {
        prompts,
        tokens: 384,
        temperature: 1.0,
        seed: 11,
        top: 20,
        score: 10_000,
        raw: false,
    };
    let plan = target.server.plan(&settings).unwrap();
    let model = Model::open(&model::path(), DeviceChoice::Cpu, None).unwrap();
    let (mut estimated, mut own, mut whole) =
        (Laws::new(Some(vocabulary)), Pool::new(), Vec::new());
    let mut sink = |_: Event| true;
    for request in &plan.requests {
        let text = target.server.probe(&target.http, request, &mut sink).unwrap().unwrap();
        let mut scored =
            target.server.score(&target.http, &text, request, 10_000, &mut sink).unwrap();
        let entropies = own_laws(&model, &text.prompt, &text.ids, &mut own);
        // A stop token has a position of its own, which is in no text.
        scored.positions.truncate(entropies.len());
        assert_eq!(scored.positions.len(), entropies.len());
        estimated.add(&scored);
        if request.index < 2 {
            // The whole vocabulary at some positions: the entropy itself, without an estimate.
            let mut all = request.clone();
            all.top = vocabulary;
            let mut some = text.clone();
            (some.tokens, some.steps) = (1, text.steps[..4].to_vec());
            let found = target.server.score(&target.http, &some, &all, 8, &mut sink).unwrap();
            let brackets =
                found.positions.iter().map(|position| position.entropy_bracket(Some(vocabulary)));
            whole.extend(
                brackets.zip(&entropies).map(|((low, high), own)| (low, high.unwrap(), *own)),
            );
        }
    }
    let found = estimated.estimates(Some(8), Some(7.0));
    for (name, estimate, truth) in [
        ("mu", found.mu, own.mu().unwrap()),
        ("mu2", found.mu2, own.mu2().unwrap()),
        ("fluid", found.fluid, own.fluid(7).unwrap()),
        ("fluid at mean", found.fluid_at_mean, own.fluid_bound_for_mean_size(7.0).unwrap()),
    ] {
        let interval = estimate.unwrap().interval.unwrap();
        assert!(
            interval.low <= truth && truth <= interval.high,
            "{name}: {truth} is not in {estimate:?}"
        );
    }
    let brackets = estimated.brackets(Some(8)).unwrap();
    // Both round activations, each in its own way: some thousandths of a nat.
    let slack = 0.02 * own.mu().unwrap();
    assert!(
        brackets.mu.0 <= own.mu().unwrap() + slack
            && own.mu().unwrap() <= brackets.mu.1.unwrap() + slack
    );
    assert!(whole.len() >= 8);
    let mean = |of: &dyn Fn(&(f64, f64, f64)) -> f64| {
        whole.iter().map(of).sum::<f64>() / whole.len() as f64
    };
    assert!(
        mean(&|(low, high, _)| high - low) < 1e-3,
        "whole distributions leave nothing open: {whole:?}"
    );
    // Rounding of activations moves single entropies by some percent.
    assert!(
        mean(&|(low, _, own)| (low - own).abs()) < 0.1 * mean(&|(_, _, own)| *own),
        "{whole:?}"
    );
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
