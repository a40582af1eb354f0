//! `speclight train`: distills a drafting head for a model, on this machine.
//!
//! `distil` holds the work, `drafted` measures how well the head drafts, `screen` shows the
//! progress on a terminal; without the screen, progress is written as lines.

mod distill;
mod draft_trial;
mod options;
#[cfg(feature = "tui")]
mod screen;
mod text;

pub use options::TrainOptions;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use self::distill::{TrainingJob, distil};
use self::text::held_out;
use super::errors::{print_line, warn, warn_if_too_many_threads};
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};
use super::progress::{self, DownloadBar};
use super::prompts::{read_asks, read_text};
use crate::registry::Registry;
use crate::train::TrainEvent;

/// Environment variable from which candle takes its number of threads.
const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";

/// Runs the same command again, with one thread for each operation of candle.
///
/// Training processes one text per thread, which is several times as fast. Candle reads the thread
/// count only from its environment.
fn restart_with_one_thread() -> anyhow::Result<ExitCode> {
    let mut command = std::process::Command::new(
        std::env::current_exe().context("can't find the program's own executable")?,
    );
    command.args(std::env::args_os().skip(1)).env(CANDLE_THREADS, "1");
    #[cfg(unix)]
    {
        let failed = std::os::unix::process::CommandExt::exec(&mut command);
        Err(failed).context("can't start training")
    }
    #[cfg(not(unix))]
    {
        let status = command.status().context("can't start training")?;
        Ok(ExitCode::from(status.code().map_or(1, |code| code.clamp(0, 255) as u8)))
    }
}

/// Generates the missing texts, then trains on them.
///
/// On a terminal, progress is shown on a screen, otherwise as one line for each measurement.
///
/// # Errors
/// If the model can't be obtained, a file can't be read or written, or training fails.
pub fn run(options: TrainOptions) -> anyhow::Result<ExitCode> {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        return restart_with_one_thread();
    }
    warn_if_too_many_threads(options.threads);
    let mut inputs: Vec<NamedFile> = NamedFile::all("--prompts", &options.prompts)
        .chain(NamedFile::all("--text", &options.text))
        .chain(options.from.iter().map(|path| NamedFile::new("--from", path)))
        .chain(NamedFile::lists())
        .collect();
    inputs.extend(NamedFile::model("--model", options.model.as_deref()));
    inputs.push(NamedFile::new("--folder", &options.folder));
    let mut outputs = vec![NamedFile::new("--out", &options.out)];
    outputs.extend(options.json.iter().map(|path| NamedFile::new("--json", path)));
    check_outputs(&inputs, &outputs)?;
    let mut asks = Vec::new();
    for file in &options.prompts {
        asks.extend(read_asks(file, &mut |line| warn(&line))?);
    }
    for file in &options.text {
        asks.extend(read_text(file)?);
    }
    let found = Registry::load()?.find(options.model.as_deref())?;
    let mut bar = DownloadBar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    let quiet = options.json.as_deref().is_some_and(AtomicOutput::is_stdout);
    let job = TrainingJob { options, asks, found, path };
    #[cfg(feature = "tui")]
    if !job.options.plain
        && !quiet
        && std::io::IsTerminal::is_terminal(&std::io::stdout())
        && crate::tui::check_terminal().is_ok()
    {
        return screen::run(job);
    }
    let interrupt = Interrupt::watch().context("can't install signal handlers")?;
    let line = progress::status();
    let mut first = None;
    let told = distil(&job, &mut |news| {
        match news {
            TrainEvent::Writing { tokens, of, rate } => {
                let left = time(of.saturating_sub(tokens) as f64 / rate);
                let said = format!(
                    "writing texts: {tokens} of {of} tokens, {rate:.0} tokens/s, {left} left"
                );
                progress::message(&line, &said);
            }
            TrainEvent::Step(report, drafted) => {
                let (began, from) = *first.get_or_insert((Instant::now(), report.step));
                let each = began.elapsed().as_secs_f64() / (report.step - from) as f64;
                let said = format!(
                    "step {} of {}: loss {:.3}, learning rate {:.1e}, gradient norm {:.2}, {} left",
                    report.step,
                    report.steps,
                    report.loss,
                    report.rate,
                    report.norm,
                    time(each * (report.steps - report.step) as f64)
                );
                progress::message(&line, &said);
                if let (Some(figures), Some(drafted), false) = (&report.held_out, &drafted, quiet) {
                    // A closed standard output does not end the training.
                    let _ = line.suspend(|| print_line(&held_out(&report, figures, drafted)));
                }
            }
            TrainEvent::Training { .. } | TrainEvent::Finished | TrainEvent::Failed(_) => {}
        }
        interrupt.status().is_none()
    });
    line.finish_and_clear();
    told?;
    Ok(interrupt.status().map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Formats a time in seconds; `?` if it is not finite.
fn time(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or("?".into(), progress::time)
}
