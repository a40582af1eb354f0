//! The screen of `speclight attach`.

use std::process::ExitCode;
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::text::{self, ShownBrackets, Source};
use super::work::{Keeper, Work, work};
use crate::attach::{Event, ServerKind, Tally, Target};
use crate::cli::errors::{add_attach_fix, one_line, print_lines};
use crate::registry;
use crate::tui::theme::{self, TerminalAbilities, Theme};
use crate::tui::{self, Attached, EngineLink, ExitReason, Mouse};

/// Shows a server until the user or a signal ends it.
///
/// Then writes the table of the whole run, and keeps the figures of a probe.
///
/// # Errors If the screen can't start, or the server can't be read.
pub fn run(
    target: Target,
    job: Work,
    tally: Tally,
    stale: Option<String>,
    keeper: &Keeper,
    brackets: ShownBrackets,
) -> anyhow::Result<ExitCode> {
    let folder = registry::config_folder().ok().map(|config| theme::themes_folder(&config));
    let terminal = TerminalAbilities::from_env(false, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(None, &terminal)?;
    let engine: ServerKind = target.server.engine();
    let address = target.http.address().as_str().to_owned();
    let server = text::server(engine, &target.identity, &address);
    let plan = job.plan.as_ref().map(|plan| text::plan(plan).join("; "));
    if let Some(plan) = &job.plan {
        // Stays on the terminal, above the table that follows the screen.
        print_lines(&format!("{server}\n{}\n", text::plan(plan).join("\n")))?;
    }
    let requests = job.plan.as_ref().map_or(0, |plan| plan.requests.len());
    let source = if job.plan.is_some() { Source::Probe } else { Source::Counters };
    let screen = Attached::new(
        server,
        plan.map(|plan| plan.split_whitespace().collect::<Vec<_>>().join(" ")),
        requests,
        tally.clone(),
        themes.len(),
    )
    .for_engine(engine)
    .with_notice(stale);

    let (mut sink, events) = tui::channel();
    let (commands, orders) = channel();
    let kept = Arc::new(Mutex::new(tally));
    let seen = Arc::clone(&kept);
    let thread = thread::Builder::new().name("attach".into()).spawn(move || {
        let mut heard = |event: Event| {
            if matches!(event, Event::Progress) {
                return orders.try_recv() == Err(TryRecvError::Empty);
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
            sink(event) && orders.try_recv() == Err(TryRecvError::Empty)
        };
        let done = work(target, &job, &mut heard);
        let last = done.map_or_else(
            |error| Event::Failed(one_line(&add_attach_fix(error))),
            |()| Event::Finished,
        );
        let _ = sink(last);
    })?;
    let exit = tui::show(
        screen,
        tui::ScreenOptions { themes, mouse: Mouse::Free, pixels: None },
        EngineLink { commands, events, thread },
    )?;
    let summary = kept.lock().unwrap_or_else(PoisonError::into_inner).summary();
    print_lines(&text::table(&summary, Some(engine), source, brackets))?;
    keeper.keep(&summary);
    Ok(match exit.ended {
        ExitReason::Asked => ExitCode::SUCCESS,
        ExitReason::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}
