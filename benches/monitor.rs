//! Slowdown of the engine by the monitor, and time to the first token on screen.
//!
//! Runs the monitor in a pseudo-terminal and `speclight run`, alternating, with the same prompt and
//! settings, and compares tokens per second.
//!
//! `cargo bench --bench monitor` prints each pair and the medians. Targets: a slowdown of at most
//! 2%, and a first token within 1 s.
//!
//! Two measurements are reported. "In steps" divides tokens by the seconds that the engine spends
//! in its steps, which both programs count alike: the monitor's value is the mean on its last
//! screen, that of `run` comes from its summary. "By the clock" divides the tokens after the first
//! step by the time from the first step to the end, as seen from outside. The monitor's last frame
//! may appear up to 120 ms after the event it shows, which counts against it. If other programs
//! run, the pairs scatter. The CPU time of the monitor's own thread, as a fraction of one core,
//! does not; it is reported too where the system provides it.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/model.rs"]
mod model;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::Value;

/// Time without terminal output after which the run may have ended.
const SILENCE: Duration = Duration::from_millis(1000);
/// Upper bound on the duration of a run.
const PATIENCE: Duration = Duration::from_secs(600);

/// Compares the monitor's tokens per second with those of `speclight run`
#[derive(Parser)]
#[command(name = "monitor")]
struct Options {
    /// Number of pairs of runs, after one warm-up pair
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = pairs)]
    pairs: usize,
    /// Size of the terminal
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x40", value_parser = size)]
    size: (u16, u16),
    /// Output of each run, in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// Drafter to run
    #[arg(long, value_name = "NAME", default_value = "ngram")]
    drafter: String,
    /// Sampling temperature
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// Prompt text
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Write a long story about a lighthouse and its keeper."
    )]
    prompt: String,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn pairs(value: &str) -> Result<usize, String> {
    value
        .parse()
        .ok()
        .filter(|&pairs| pairs > 0)
        .ok_or_else(|| "give a whole number from 1".to_owned())
}

fn size(value: &str) -> Result<(u16, u16), String> {
    let parsed = value
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    parsed
        .filter(|&(width, height)| width >= 80 && height >= 24)
        .ok_or_else(|| "give a size from 80x24 up".to_owned())
}

/// Measurements of one run, of either program.
struct Outcome {
    /// Tokens per second of step time.
    in_steps: f64,
    /// Tokens per second of elapsed time.
    by_clock: f64,
    /// Total number of tokens.
    tokens: usize,
    /// Seconds from program start to the first visible token.
    first: f64,
    /// Fraction of one core used by the program's first thread, which draws the monitor's screen.
    own: Option<f64>,
}

fn main() {
    let options = Options::parse();
    let folder = tempfile::tempdir().unwrap();
    let path = model::path();
    let mut args: Vec<String> = ["--device", "cpu", "--seed", "1"].map(String::from).to_vec();
    for (name, value) in [
        ("--model", path.to_str().unwrap()),
        ("--drafter", &options.drafter),
        ("--temperature", &options.temperature.to_string()),
        ("--max-tokens", &options.max_tokens.to_string()),
        ("--prompt", &options.prompt),
    ] {
        args.extend([name.to_owned(), value.to_owned()]);
    }
    let (width, height) = options.size;
    println!(
        "{} at temperature {}, {width}x{height}, {} pairs",
        options.drafter, options.temperature, options.pairs
    );
    println!(
        "                in steps, tokens/s        by the clock, tokens/s      first   its thread"
    );
    println!(
        "tokens        run  monitor    cost        run  monitor    cost      token    of a core"
    );
    let (mut in_steps, mut by_clock, mut first, mut own) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=options.pairs {
        // The order alternates, so that drift affects both programs.
        let (plain, shown) = if pair % 2 == 0 {
            let plain = run(&args, folder.path());
            (plain, monitor(&args, options.size, folder.path()))
        } else {
            let shown = monitor(&args, options.size, folder.path());
            (run(&args, folder.path()), shown)
        };
        assert_eq!(shown.tokens, plain.tokens, "both write the same text");
        if pair == 0 {
            continue;
        }
        let costs = [1.0 - shown.in_steps / plain.in_steps, 1.0 - shown.by_clock / plain.by_clock];
        println!(
            "{:>6}   {:>8.1} {:>8.1} {:>6.1}%   {:>8.1} {:>8.1} {:>6.1}%    {:>5.2} s  {:>10}",
            plain.tokens,
            plain.in_steps,
            shown.in_steps,
            100.0 * costs[0],
            plain.by_clock,
            shown.by_clock,
            100.0 * costs[1],
            shown.first,
            shown.own.map_or("-".to_owned(), |own| format!("{:.2}%", 100.0 * own))
        );
        in_steps.push(costs[0]);
        by_clock.push(costs[1]);
        first.push(shown.first);
        own.extend(shown.own);
    }
    for (name, costs) in [("in steps", &mut in_steps), ("by the clock", &mut by_clock)] {
        let [low, middle, high] = quartiles(costs).map(|cost| 100.0 * cost);
        println!(
            "the monitor costs {middle:.1}% {name} (median; half of the pairs {low:.1}% to {high:.1}%)"
        );
    }
    let [_, middle, high] = quartiles(&mut first);
    println!(
        "its first token comes after {middle:.2} s (median; a quarter later than {high:.2} s)"
    );
    if !own.is_empty() {
        println!("its own thread used {:.2}% of a core (median)", 100.0 * quartiles(&mut own)[1]);
    }
}

/// Returns the quartiles of `all`, which it sorts.
fn quartiles(all: &mut [f64]) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| {
        let place = share * (all.len() - 1) as f64;
        let (low, high) = (all[place.floor() as usize], all[place.ceil() as usize]);
        low + (high - low) * place.fract()
    })
}

fn environment(folder: &Path) -> [(&'static str, String); 5] {
    let below = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    [
        ("TERM", "xterm-256color".into()),
        ("LANG", "C.UTF-8".into()),
        ("COLORTERM", "truecolor".into()),
        ("SPECLIGHT_CACHE", below("cache")),
        ("SPECLIGHT_CONFIG", below("config")),
    ]
}

/// Runs `speclight run` and reads its JSON from a pipe.
fn run(args: &[String], folder: &Path) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command
        .arg("run")
        .args(args)
        .args(["--json", "-"])
        .envs(environment(folder))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let lines: Vec<(Duration, String)> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| (start.elapsed(), line.unwrap()))
        .collect();
    assert!(child.wait().unwrap().success());
    let summary: Value = serde_json::from_str(&lines[lines.len() - 1].1).unwrap();
    let step: Value = serde_json::from_str(&lines[1].1).unwrap();
    let tokens = summary["tokens"].as_u64().unwrap() as usize;
    let after = tokens - step["emitted"].as_array().unwrap().len();
    let (first, end) = (lines[1].0, lines[lines.len() - 1].0);
    Outcome {
        in_steps: summary["tokens_per_second"].as_f64().unwrap(),
        by_clock: after as f64 / (end - first).as_secs_f64(),
        tokens,
        first: first.as_secs_f64(),
        own: None,
    }
}

/// Runs the monitor in a pseudo-terminal.
///
/// Its output is stored with arrival times while it runs and parsed when the terminal is silent: a
/// terminal that parsed at the same time would take part of what is measured.
fn monitor(args: &[String], (width, height): (u16, u16), folder: &Path) -> Outcome {
    let pair = native_pty_system()
        .openpty(PtySize { rows: height, cols: width, pixel_width: 0, pixel_height: 0 })
        .unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_speclight"));
    command.arg("--once");
    command.args(args);
    // Without the slow start of the first prompts.
    command.args(["--pace", "full"]);
    environment(folder).into_iter().for_each(|(name, value)| command.env(name, value));
    command.env("NO_COLOR", "");
    let mut reader = pair.master.try_clone_reader().unwrap();
    let mut writer = pair.master.take_writer().unwrap();
    let start = Instant::now();
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let (sender, chunks) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            if sender.send((start.elapsed(), buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
    let mut parser = vt100::Parser::new(height, width, 0);
    let (mut kept, mut first, mut end) = (Vec::new(), None, None);
    while end.is_none() {
        assert!(start.elapsed() < PATIENCE, "no end of it:\n{}", parser.screen().contents());
        match chunks.recv_timeout(SILENCE) {
            Ok(chunk) => {
                kept.push(chunk);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                panic!("it ended by itself:\n{}", parser.screen().contents())
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        for (at, bytes) in kept.drain(..) {
            parser.process(&bytes);
            let screen = parser.screen().contents();
            if first.is_none() {
                first = tokens(&screen).filter(|&tokens| tokens > 0).map(|tokens| (at, tokens));
            }
            if end.is_none()
                && screen.lines().next().is_some_and(|line| line.trim_end().ends_with("finished"))
            {
                end = Some(at);
            }
        }
    }
    let screen = parser.screen().contents();
    let end = end.unwrap();
    // The first field is the time on a core, in nanoseconds.
    let spent =
        std::fs::read_to_string(format!("/proc/{}/schedstat", child.process_id().unwrap())).ok();
    let spent = spent.and_then(|spent| spent.split(' ').next()?.parse::<f64>().ok());
    let ((first, before), tokens) = (first.unwrap(), tokens(&screen).unwrap());
    // The view of speeds has the mean to more digits than the bar.
    writer.write_all(b"4").unwrap();
    while let Ok((_, bytes)) = chunks.recv_timeout(SILENCE) {
        parser.process(&bytes);
    }
    let screen = parser.screen().contents();
    writer.write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success());
    Outcome {
        in_steps: mean_speed(&screen).unwrap_or_else(|| panic!("no speed:\n{screen}")),
        by_clock: (tokens - before) as f64 / (end - first).as_secs_f64(),
        tokens,
        first: first.as_secs_f64(),
        own: spent.map(|spent| spent * 1e-9 / end.as_secs_f64()),
    }
}

/// Reads the token count in the title of the text pane.
fn tokens(screen: &str) -> Option<usize> {
    screen
        .match_indices(" tokens")
        .find_map(|(at, _)| screen[..at].rsplit(' ').next()?.parse().ok())
}

/// Reads the mean in the speed pane.
fn mean_speed(screen: &str) -> Option<f64> {
    let line = screen.lines().find(|line| line.contains("mean ") && line.contains(" tok/s"))?;
    line.split_once("mean ")?.1.split_whitespace().next()?.parse().ok()
}
