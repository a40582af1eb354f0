//! Screen of `speclight train`, with the training on a thread of its own.

use std::process::ExitCode;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;

use super::distill::{TrainingJob, distil};
use super::text::held_out;
use crate::cli::errors::{print_line, warn};
use crate::registry;
use crate::train::TrainEvent;
use crate::tui::theme::{self, TerminalAbilities, Theme};
use crate::tui::{self, EngineLink, ExitReason, Training};

/// Trains and shows a screen until the user quits or a signal arrives.
///
/// If training is still running then, the current step is finished and a checkpoint written first.
/// After the end of training, the screen stays open until the user quits.
///
/// # Errors
/// If the screen or the training can't start, or training fails.
pub fn run(job: TrainingJob) -> anyhow::Result<ExitCode> {
    let folder = registry::config_folder().ok().map(|config| theme::themes_folder(&config));
    let terminal = TerminalAbilities::from_env(false, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(None, &terminal)?;
    let screen = Training::new(job.found.name().to_owned(), job.options.out.clone(), themes.len());

    let (mut sink, events) = tui::channel();
    let (commands, orders) = channel();
    // Closed when the training thread ends for any reason; carries the last measurement.
    let (done, ended) = channel();
    let out = job.options.out.clone();
    let thread = thread::Builder::new().name("training".into()).spawn(move || {
        let told = distil(&job, &mut |news| {
            if let TrainEvent::Step(report, Some(drafted)) = &news
                && let Some(figures) = &report.held_out
            {
                let _ = done.send(held_out(report, figures, drafted));
            }
            sink(news) && orders.try_recv() == Err(TryRecvError::Empty)
        });
        drop(done);
        // The last event; it does not matter whether anyone receives it.
        let last = told.map_or_else(
            |error| TrainEvent::Failed(crate::cli::errors::one_line(&error)),
            |()| TrainEvent::Finished,
        );
        let _ = sink(last);
    })?;
    let shown = tui::show(
        screen,
        tui::ScreenOptions { themes, mouse: tui::Mouse::Free, pixels: None },
        EngineLink { commands, events, thread },
    );
    let mut measured = None;
    let open = loop {
        match ended.try_recv() {
            Ok(line) => measured = Some(line),
            Err(why) => break why == TryRecvError::Empty,
        }
    };
    if open {
        warn("finishing the current step and writing a checkpoint");
        measured = ended.iter().last().or(measured);
    }
    let shown = shown?;
    if let Some(measured) = measured {
        print_line(&measured)?;
        print_line(&format!("head written to {}", out.display()))?;
    }
    Ok(match shown.ended {
        ExitReason::Asked => ExitCode::SUCCESS,
        ExitReason::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}
