//! The screen of `speclight train`.

use std::process::ExitCode;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;

use super::distil::{Job, distil};
use super::held_out;
use crate::app::{self, Ended, Link, Training};
use crate::cli::errors::{print_line, warn};
use crate::registry;
use crate::theme::{self, Terminal, Theme};
use crate::train::News;

/// Trains under a screen until all is done and the person leaves, or the person or a signal ends it: then a checkpoint is kept first.
///
/// # Errors
/// Whatever keeps it from starting, or from going on.
pub fn run(job: Job) -> anyhow::Result<ExitCode> {
    let folder = registry::config_folder().ok().map(|config| theme::folder_in(&config));
    let terminal = Terminal::from_env(false, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(None, &terminal)?;
    let screen = Training::new(job.found.name().to_owned(), job.options.out.clone(), themes.len());

    let (mut sink, events) = app::channel();
    let (commands, orders) = channel();
    // Closed by the thread when it is done, whatever it ends with; the last measurement goes through.
    let (done, ended) = channel();
    let out = job.options.out.clone();
    let thread = thread::Builder::new().name("training".into()).spawn(move || {
        let told = distil(&job, &mut |news| {
            if let News::Step(report, Some(drafted)) = &news
                && let Some(figures) = &report.held_out
            {
                let _ = done.send(held_out(report, figures, drafted));
            }
            sink(news) && orders.try_recv() == Err(TryRecvError::Empty)
        });
        drop(done);
        // The last word; nothing follows whether it is heard or not.
        let last = told.map_or_else(|error| News::Failed(crate::cli::errors::one_line(&error)), |()| News::Finished);
        let _ = sink(last);
    })?;
    let shown = app::show(screen, app::Options { themes }, Link { commands, events, thread });
    let mut measured = None;
    let open = loop {
        match ended.try_recv() {
            Ok(line) => measured = Some(line),
            Err(why) => break why == TryRecvError::Empty,
        }
    };
    if open {
        warn("the last step ends, and a checkpoint is kept");
        measured = ended.iter().last().or(measured);
    }
    let shown = shown?;
    if let Some(measured) = measured {
        print_line(&measured)?;
        print_line(&format!("the head is in {}", out.display()))?;
    }
    Ok(match shown {
        Ended::Asked => ExitCode::SUCCESS,
        Ended::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}
