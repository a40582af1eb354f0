//! Speed-up of drafting over plain decoding, by file of prompts, on a quiet and on a busy machine.
//!
//! Runs `speclight run` with and without drafting, alternating, over the same prompts, and compares
//! tokens per second in steps. With `--busy N`, everything is repeated beside N processes that each
//! keep a core busy, and the costs of passes t(B)/t(1) that the automatic budget fitted there are
//! compared with those of the quiet runs.
//!
//! `cargo bench --bench speed_up -- FILE.jsonl...` prints a row per file and the mean. The
//! exit status is 1 if drafting is more than 3% slower than plain decoding on a file, or if a
//! t(B)/t(1) differs by more than 25%.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Parser;
use serde_json::Value;

/// Variable that turns this program into one that keeps a core busy until it is killed.
const SPIN: &str = "SPECLIGHT_BENCH_SPIN";
/// Smallest speed-up that is no failure.
const LEAST_SPEED_UP: f64 = 0.97;
/// Largest relative difference of t(B)/t(1) that is no failure.
const MOST_DRIFT: f64 = 0.25;
/// Largest size whose cost is compared, in tokens.
///
/// Larger ones are not visited by the automatic budget.
const LARGEST: u64 = 64;

/// Compares drafting with plain decoding over files of prompts
#[derive(Parser)]
#[command(name = "speed_up")]
struct Options {
    /// Files of prompts, one JSON object per line
    #[arg(required = true, value_name = "FILE.jsonl")]
    prompts: Vec<PathBuf>,
    /// Sampling temperatures
    #[arg(long, value_name = "T,..", value_delimiter = ',', default_value = "0,1")]
    temperatures: Vec<f32>,
    /// Maximum number of prompts from each file
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Maximum output of a prompt, in tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// Number of pairs of runs per file
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Drafter to compare with plain decoding
    #[arg(long, value_name = "NAME", default_value = "auto")]
    drafter: String,
    /// Budget of the drafter: a number of tokens, or auto
    #[arg(long, value_name = "B", default_value = "auto")]
    budget: String,
    /// Number of busy processes beside which everything is repeated
    #[arg(long, value_name = "N", default_value_t = 0)]
    busy: usize,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Processes that keep cores busy; dropping them ends them.
struct Busy(Vec<Child>);

impl Busy {
    fn start(processes: usize) -> Busy {
        let program = std::env::current_exe().unwrap();
        let spin = |_| Command::new(&program).env(SPIN, "1").spawn().unwrap();
        Busy((0..processes).map(spin).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Costs t(B)/t(1) by B, in tokens.
type RelativeCosts = BTreeMap<u64, f64>;

/// Results of the runs over one file.
struct FileResult {
    name: String,
    /// Median of the ratios of drafted to plain tokens per second.
    speed_up: f64,
    plain_tokens_per_second: f64,
    costs: Vec<RelativeCosts>,
}

fn main() -> ExitCode {
    if std::env::var_os(SPIN).is_some() {
        loop {
            std::hint::spin_loop();
        }
    }
    let options = Options::parse();
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for &temperature in &options.temperatures {
        let mut quiet_costs = Vec::new();
        let loads = if options.busy > 0 { vec![0, options.busy] } else { vec![0] };
        for busy in loads {
            println!(
                "\n{} with budget {} at temperature {temperature}, beside {busy} busy processes",
                options.drafter, options.budget
            );
            println!("{:>16} {:>14} {:>9}", "prompts", "plain tokens/s", "speed-up");
            let processes = Busy::start(busy);
            let results: Vec<FileResult> = options
                .prompts
                .iter()
                .map(|file| measure(file, temperature, &options, folder.path()))
                .collect();
            drop(processes);
            for result in &results {
                println!(
                    "{:>16} {:>14.0} {:>9.2}",
                    result.name, result.plain_tokens_per_second, result.speed_up
                );
                if result.speed_up < LEAST_SPEED_UP {
                    failures.push(format!(
                        "{}: x{:.2} beside {busy} busy processes",
                        result.name, result.speed_up
                    ));
                }
            }
            let mean = results.iter().map(|r| r.speed_up).sum::<f64>() / results.len() as f64;
            let least = results.iter().map(|r| r.speed_up).fold(f64::INFINITY, f64::min);
            println!("{:>16} {:>14} {mean:>9.2}, least {least:.2}", "mean", "");
            let costs = median_costs(results.into_iter().flat_map(|r| r.costs).collect());
            if busy == 0 {
                quiet_costs.push(costs);
            } else if let Some(quiet) = quiet_costs.last() {
                failures.extend(compare_costs(quiet, &costs));
            }
        }
    }
    for failure in &failures {
        println!("not met: {failure}");
    }
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// Prints both costs by size, and returns the differences that are too large.
fn compare_costs(quiet: &RelativeCosts, busy: &RelativeCosts) -> Vec<String> {
    println!("\n{:>6} {:>16} {:>16}", "B", "quiet t(B)/t(1)", "busy t(B)/t(1)");
    let mut failures = Vec::new();
    for (size, before) in quiet {
        let Some(after) = busy.get(size) else { continue };
        println!("{size:>6} {before:>16.2} {after:>16.2}");
        if (after / before - 1.0).abs() > MOST_DRIFT {
            failures.push(format!("t({size})/t(1): {after:.2} instead of {before:.2}"));
        }
    }
    failures
}

fn measure(file: &Path, temperature: f32, options: &Options, folder: &Path) -> FileResult {
    let (mut ratios, mut plain_speeds, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    let plain = ["--drafter", "none"].map(str::to_owned).to_vec();
    let drafted = ["--drafter", &options.drafter, "--budget", &options.budget];
    let drafted = drafted.map(str::to_owned).to_vec();
    for round in 0..options.rounds.max(1) {
        // The order alternates, so that drift affects both sides.
        let speed = |args: &[String]| run(file, temperature, args, options, folder);
        let (without, with) = if round % 2 == 0 {
            let without = speed(&plain);
            (without, speed(&drafted))
        } else {
            let with = speed(&drafted);
            (speed(&plain), with)
        };
        ratios.push(with.0 / without.0);
        plain_speeds.push(without.0);
        costs.push(with.1);
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    FileResult {
        name,
        speed_up: median(&mut ratios),
        plain_tokens_per_second: median(&mut plain_speeds),
        costs,
    }
}

/// Runs the program over a file; returns tokens per second in steps, and the costs of passes.
fn run(
    file: &Path,
    temperature: f32,
    args: &[String],
    options: &Options,
    folder: &Path,
) -> (f64, RelativeCosts) {
    let json = folder.join("run.jsonl");
    let status = Command::new(env!("CARGO_BIN_EXE_speclight"))
        .args(["run", "--device", "cpu", "--model"])
        .arg(model::path())
        .arg("--prompts")
        .arg(file)
        .args(["--limit", &options.limit.to_string()])
        .args(["--max-tokens", &options.max_tokens.to_string()])
        .args(["--temperature", &temperature.to_string()])
        .args(args)
        .arg("--json")
        .arg(&json)
        .env("SPECLIGHT_CACHE", folder.join("cache"))
        .env("SPECLIGHT_CONFIG", folder.join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "speclight run failed on {}", file.display());
    let lines = std::fs::read_to_string(&json).unwrap();
    let summary: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let seconds: BTreeMap<u64, f64> = (summary["pass_seconds"].as_array().into_iter().flatten())
        .filter_map(|pass| Some((pass["tokens"].as_u64()?, pass["seconds"].as_f64()?)))
        .filter(|(size, _)| size.is_power_of_two() && *size <= LARGEST)
        .collect();
    let one = seconds.get(&1).copied().unwrap_or(f64::NAN);
    let costs = seconds.into_iter().map(|(size, t)| (size, t / one)).collect();
    (summary["tokens_per_second"].as_f64().unwrap(), costs)
}

/// Returns the median cost of each size over several runs.
fn median_costs(runs: Vec<RelativeCosts>) -> RelativeCosts {
    let mut all: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (size, cost) in runs.into_iter().flatten() {
        all.entry(size).or_default().push(cost);
    }
    all.into_iter().map(|(size, mut costs)| (size, median(&mut costs))).collect()
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    if all.len() % 2 == 1 { all[middle] } else { (all[middle - 1] + all[middle]) / 2.0 }
}
