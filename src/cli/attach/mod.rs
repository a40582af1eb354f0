//! `speclight attach`: running servers.

mod options;
#[cfg(feature = "tui")]
mod screen;
pub(super) mod text;
mod work;

pub use options::AttachOptions;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::errors::{add_attach_fix, print_line, print_lines, warn};
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::{PromptError, built_in, read_files};
use crate::attach::earlier::{self, Earlier};
use crate::attach::lines::{AttachLine, AttachRunLine};
use crate::attach::{
    self, Address, AttachError, Event, Http, Identity, Key, Keys, Plan, ServerKind, Tally,
};
use crate::engine::Prompt;
use crate::registry;
use text::Source;
use work::{Keeper, Work, work};

/// Time that a request in progress has to end after Ctrl-C.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a file that can hold a key.
const LONGEST_KEY: u64 = 1 << 16;

/// Attaches to a server. The exit status is 130 after Ctrl-C.
///
/// # Errors If the server can't be read; the message has the fix.
pub fn run(options: AttachOptions) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch().context("signals can't be watched")?;
    let prompts = prompts(&options)?;
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let address = Address::parse(&options.url).map_err(add_attach_fix)?;
    let keys = keys(&options)?;
    let patience = Duration::from_secs_f64(options.timeout);
    let insecure = options.insecure;
    let client =
        move |key: Option<&Key>| Http::new(address.clone(), key.cloned(), patience, insecure);
    let named = options.engine.as_deref().and_then(ServerKind::named);
    // A server that answers slowly must not hold Ctrl-C up.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(Box::new(attach::detect(named, &keys, &client)))));
    let target = loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(found) => break found.map_err(add_attach_fix)?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Some(status) = interrupt.status() {
                    return Ok(ExitCode::from(status));
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the server can't be read: please report it"));
            }
        }
    };
    let to_stdout = options.json.as_deref().is_some_and(AtomicOutput::is_stdout);
    let temperature = if options.probe { options.temperature } else { 1.0 };
    let cache = registry::cache_folder().ok();
    let earlier = match &cache {
        Some(cache) if !options.probe => {
            let engine = target.server.engine();
            earlier::read(cache, target.http.address(), engine, &target.identity)
        }
        _ => Earlier::None,
    };
    let settings = options.probe_settings(prompts);
    let mut tally = Tally::new(&target.identity, temperature);
    if options.probe {
        tally = tally.omitting(target.server.omitted(&settings), &target.identity);
    }
    let (found, stale) = match earlier {
        Earlier::Found(probe) => (Some(*probe), None),
        Earlier::Stale(line) => (None, Some(line)),
        Earlier::None => (None, None),
    };
    let tally = tally.beside(found);
    let job = Work::new(&options, &target, &settings)?;
    let keeper = Keeper::new(&options, &target, cache);
    #[cfg(feature = "tui")]
    if !options.plain && options.json.is_none() && crate::tui::check_terminal().is_ok() {
        return screen::run(target, job, tally, stale, &keeper, options.shown_brackets());
    }
    let mut report = Report {
        options,
        interrupt,
        json,
        text: !to_stdout,
        identity: target.identity.clone(),
        tally,
        requests: 0,
        keeper,
        stale,
    };
    report.begin(target.server.engine(), target.http.address().as_str())?;
    report.drive(target, job)
}

fn prompts(options: &AttachOptions) -> Result<Vec<Prompt>, PromptError> {
    match (options.probe, options.prompts.is_empty()) {
        (false, _) => Ok(Vec::new()),
        (true, true) => Ok(built_in()),
        (true, false) => read_files(&options.prompts, None, &mut |line| warn(&line)),
    }
}

/// Keys that may be sent, from a file or from variables.
fn keys(options: &AttachOptions) -> anyhow::Result<Keys> {
    let named = match &options.key_file {
        None => None,
        Some(path) => {
            let shown = path.display().to_string();
            let read = std::fs::File::open(path).and_then(|file| {
                let mut text = String::new();
                io::Read::read_to_string(&mut io::Read::take(file, LONGEST_KEY), &mut text)
                    .map(|_| text)
            });
            let unreadable = |error| {
                anyhow!(
                    "--key-file {shown}: can't be read: {error}; give a file that holds the key alone"
                )
            };
            let text = read.map_err(unreadable)?;
            Some(Key::new(&text, &format!("--key-file {shown}")).map_err(add_attach_fix)?)
        }
    };
    Keys::read(named, |name| std::env::var(name).ok()).map_err(add_attach_fix)
}

/// Outputs that the events go to.
struct Report {
    options: AttachOptions,
    interrupt: Interrupt,
    json: Option<AtomicOutput>,
    text: bool,
    identity: Identity,
    tally: Tally,
    /// Requests of the plan.
    requests: usize,
    keeper: Keeper,
    /// Reason why an earlier probe is not shown.
    stale: Option<String>,
}

impl Report {
    fn begin(&mut self, engine: ServerKind, address: &str) -> anyhow::Result<()> {
        let probe = self.options.probe;
        let line = AttachRunLine {
            engine: engine.name(),
            version: self.identity.version.as_deref(),
            model: self.identity.model.as_deref(),
            mode: if probe { "probe" } else { "passive" },
            speclight: env!("CARGO_PKG_VERSION"),
            method: self.identity.method.as_deref(),
            temperature: probe.then_some(self.options.temperature),
            top_p: probe.then_some(self.options.top_p),
            top: probe.then_some(self.options.top),
            outside: self.identity.outside.as_deref(),
        };
        if let Some(json) = &mut self.json {
            json.write(&AttachLine::Run(line))?;
        }
        self.line(&text::server(engine, &self.identity, address))
    }

    /// Writes a line of text, to standard error where standard output has the JSON.
    fn line(&self, line: &str) -> anyhow::Result<()> {
        if self.text {
            print_line(line).context("can't write standard output")?;
        } else {
            warn(line);
        }
        Ok(())
    }

    fn drive(mut self, target: attach::Target, job: Work) -> anyhow::Result<ExitCode> {
        let engine = target.server.engine();
        match &job.plan {
            Some(plan) => self.announce(plan)?,
            None => {
                self.line("reads counters only, by GET; sends nothing")?;
                if let Some(stale) = self.stale.take() {
                    warn(&format!("{}: {stale}", engine.name()));
                }
                if let Some(earlier) = self.tally.summary().earlier {
                    self.line(&text::earlier(&earlier))?;
                }
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut sink = |event| {
                !stopped.load(Ordering::SeqCst)
                    && (matches!(event, Event::Progress) || sender.send(Ok(event)).is_ok())
            };
            if let Err(error) = work(target, &job, &mut sink) {
                let _ = sender.send(Err(error));
            }
        });
        let mut stopped_at: Option<Instant> = None;
        let failed = loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(event)) => self.take(engine, &event)?,
                Ok(Err(error)) => break Some(error),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
            }
            if self.interrupt.status().is_some() {
                stop.store(true, Ordering::SeqCst);
                if stopped_at.get_or_insert_with(Instant::now).elapsed() > LAST_WAIT {
                    break None;
                }
            }
        };
        self.finish(engine, failed)
    }

    fn announce(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.requests = plan.requests.len();
        let lines = text::plan(plan);
        if self.text {
            return print_lines(&(lines.join("\n") + "\n")).context("can't write standard output");
        }
        lines.iter().for_each(|line| warn(line));
        Ok(())
    }

    fn take(&mut self, engine: ServerKind, event: &Event) -> anyhow::Result<()> {
        self.tally.take(event);
        match event {
            Event::Step(step) => {
                if let Some(json) = &mut self.json {
                    json.write(&AttachLine::Step(step.into()))?;
                }
            }
            Event::Interval(window) => {
                if let Some(json) = &mut self.json {
                    json.write(&AttachLine::Window(Box::new((&**window).into())))?;
                }
                if self.text {
                    self.line(&text::window(window))?;
                }
            }
            Event::TextEnded { tokens } if self.text => {
                let summary = self.tally.summary();
                self.line(&text::progress(&summary, self.requests, *tokens))?;
            }
            Event::Notice(notice) => warn(&format!("{}: {notice}", engine.name())),
            _ => {}
        }
        Ok(())
    }

    fn finish(
        mut self,
        engine: ServerKind,
        failed: Option<AttachError>,
    ) -> anyhow::Result<ExitCode> {
        let summary = self.tally.summary();
        let nothing = summary.texts == 0
            && self.tally.steps().is_empty()
            && summary.tokens.is_none()
            && summary.accepted.is_none();
        if failed.is_some() && nothing {
            // Nothing is complete: a file of JSON does not get its name.
            return Err(failed.map_or_else(|| anyhow!("nothing was read"), add_attach_fix));
        }
        if let Some(mut json) = self.json.take() {
            json.write(&AttachLine::Summary(Box::new((&summary).into())))?;
            json.finish()?;
        }
        if self.text {
            print_lines(&text::table(
                &summary,
                Some(engine),
                if self.options.probe { Source::Probe } else { Source::Counters },
                self.options.shown_brackets(),
            ))
            .context("can't write standard output")?;
        }
        if failed.is_none() {
            self.keeper.keep(&summary);
        }
        match failed {
            Some(error) => Err(add_attach_fix(error)),
            None => Ok(self.interrupt.status().map_or(ExitCode::SUCCESS, ExitCode::from)),
        }
    }
}
