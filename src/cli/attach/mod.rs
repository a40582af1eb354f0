//! `speclight attach`: running servers.

#[cfg(feature = "tui")]
mod screen;
pub(super) mod text;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::errors::{print_line, print_lines, warn};
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::{PromptError, built_in, read_files};
use crate::attach::earlier::{self, Earlier, EarlierProbe};
use crate::attach::lines::{AttachLine, AttachRunLine};
use crate::attach::{
    self, Address, AttachError, Engine, Event, Http, Identity, Key, Keys, Plan, ProbeSettings,
    Summary, Tally,
};
use crate::engine::Prompt;
use crate::registry;
use text::{ShownBrackets, Source};

/// Time that a request in progress has to end after Ctrl-C.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a file that can hold a key.
const LONGEST_KEY: u64 = 1 << 16;

const ENGINES: [&str; 9] = [
    "llama-server",
    "vllm",
    "sglang",
    "tensorrt-llm",
    "mistral.rs",
    "tgi",
    "ollama",
    "lm-studio",
    "mlx-lm",
];

/// Options of `speclight attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachOptions {
    /// Address of the server, as http://127.0.0.1:8080
    #[arg(value_name = "URL")]
    pub url: String,
    /// Engine of the server: llama-server, vllm, sglang, tensorrt-llm, mistral.rs, tgi [default:
    /// found by what it answers]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ENGINES), hide_possible_values = true,
          help_heading = "Server")]
    pub engine: Option<String>,
    /// File that holds the server's key [default: OPENAI_API_KEY, or the engine's own variable]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub key_file: Option<PathBuf>,
    /// Send a key over plain http to another machine, where others can read it on the way
    #[arg(long, help_heading = "Server")]
    pub insecure: bool,
    /// Seconds that a reading may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true,
          help_heading = "Server")]
    pub timeout: f64,
    /// Seconds between two readings of the counters
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, allow_negative_numbers = true,
          help_heading = "Server")]
    pub every: f64,
    /// Seconds after which watching ends [default: at Ctrl-C]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, conflicts_with = "probe",
          help_heading = "Server")]
    pub seconds: Option<f64>,
    /// Send prompts, and read each step of the answers
    #[arg(long, help_heading = "Probe")]
    pub probe: bool,
    /// File of prompts, one JSON object a line, as for `speclight run`; may be given several times
    /// [default: the built-in prompts]
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., requires = "probe", help_heading = "Probe")]
    pub prompts: Vec<PathBuf>,
    /// Maximum number of tokens that the probe lets the server write
    #[arg(long, value_name = "N", default_value = "4000", value_parser = tokens, allow_negative_numbers = true, help_heading = "Probe")]
    pub tokens: usize,
    /// Temperature of the probe's texts; 0 is greedy
    #[arg(long, value_name = "T", default_value = "1", value_parser = temperature, allow_negative_numbers = true,
          help_heading = "Probe")]
    pub temperature: f64,
    /// Top-p of the probe's texts, applied after the temperature; 1 samples from all tokens
    #[arg(long, value_name = "P", default_value = "1", value_parser = top_p, allow_negative_numbers = true,
          help_heading = "Probe")]
    pub top_p: f64,
    /// Seed of the server's sampler
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Probe")]
    pub seed: u64,
    /// Most probable tokens to ask for with each position; servers cap them (vLLM at 20)
    #[arg(long, value_name = "K", default_value = "20", value_parser = top, allow_negative_numbers = true, help_heading = "Probe")]
    pub top: usize,
    /// Maximum number of positions scored by a request each, where an engine reports no
    /// distributions while it drafts (llama-server)
    #[arg(long, value_name = "N", default_value = "1000", value_parser = score, allow_negative_numbers = true, help_heading = "Probe")]
    pub score: usize,
    /// Send prompts as they are, without the model's chat template
    #[arg(long, requires = "probe", help_heading = "Probe")]
    pub raw: bool,
    /// Write lines of JSON for the server, each step or window and the summary; - is standard
    /// output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Show the brackets that hold without an estimate beside the estimates
    #[arg(long, requires = "probe", help_heading = "Output")]
    pub brackets: bool,
    /// Write lines of text instead of showing a screen
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
}

/// Attaches to a server. The exit status is 130 after Ctrl-C.
///
/// # Errors
/// Whatever keeps it from being read, with the fix.
pub fn run(options: AttachOptions) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch().context("signals can't be watched")?;
    let prompts = prompts(&options)?;
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let address = Address::parse(&options.url).map_err(add_fix)?;
    let keys = keys(&options)?;
    let patience = Duration::from_secs_f64(options.timeout);
    let insecure = options.insecure;
    let client =
        move |key: Option<&Key>| Http::new(address.clone(), key.cloned(), patience, insecure);
    let named = options.engine.as_deref().and_then(Engine::named);
    // A server that answers slowly must not hold Ctrl-C up.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(Box::new(attach::detect(named, &keys, &client)))));
    let target = loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(found) => break found.map_err(add_fix)?,
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
    let settings = probe_settings(&options, prompts);
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

impl AttachOptions {
    fn shown_brackets(&self) -> ShownBrackets {
        if self.brackets { ShownBrackets::All } else { ShownBrackets::Missing }
    }
}

/// Keeps the figures of a probe for later runs.
struct Keeper {
    /// `None` where there is nothing to keep, or no folder for it.
    cache: Option<PathBuf>,
    address: Address,
    engine: Engine,
    identity: Identity,
    temperature: f64,
    top_p: f64,
}

impl Keeper {
    fn new(options: &AttachOptions, target: &attach::Target, cache: Option<PathBuf>) -> Keeper {
        Keeper {
            cache: cache.filter(|_| options.probe),
            address: target.http.address().clone(),
            engine: target.server.engine(),
            identity: target.identity.clone(),
            temperature: options.temperature,
            top_p: options.top_p,
        }
    }

    /// Keeps the figures of a probe that ended without a failure.
    fn keep(&self, summary: &Summary) {
        let Some(cache) = &self.cache else { return };
        let Some(probe) = EarlierProbe::of(summary, self.temperature, self.top_p) else { return };
        let kept = earlier::keep(cache, &self.address, self.engine, &self.identity, &probe);
        if let Err(error) = kept {
            let folder = cache.display();
            warn(&format!("{folder}: the probe can't be kept for later runs: {error}"));
        }
    }
}

fn probe_settings(options: &AttachOptions, prompts: Vec<Prompt>) -> ProbeSettings {
    ProbeSettings {
        prompts,
        tokens: options.tokens,
        temperature: options.temperature,
        top_p: options.top_p,
        seed: options.seed,
        top: options.top,
        score: options.score,
        raw: options.raw,
    }
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
            Some(Key::new(&text, &format!("--key-file {shown}")).map_err(add_fix)?)
        }
    };
    Keys::read(named, |name| std::env::var(name).ok()).map_err(add_fix)
}

/// Work to do with a server.
struct Work {
    /// Requests of a probe; `None` where the server is watched.
    plan: Option<Plan>,
    every: Duration,
    most: Option<Duration>,
}

impl Work {
    fn new(
        options: &AttachOptions,
        target: &attach::Target,
        settings: &ProbeSettings,
    ) -> anyhow::Result<Work> {
        let plan =
            options.probe.then(|| target.server.plan(settings)).transpose().map_err(add_fix)?;
        let most = options.seconds.map(Duration::from_secs_f64);
        Ok(Work { plan, every: Duration::from_secs_f64(options.every), most })
    }
}

/// Watches or probes until it is done or `sink` says false.
fn work(
    mut target: attach::Target,
    job: &Work,
    sink: &mut dyn FnMut(Event) -> bool,
) -> Result<(), AttachError> {
    match &job.plan {
        Some(plan) => attach::probe::run(&mut *target.server, &target.http, plan, sink),
        None => attach::watch::run(&mut *target.server, &target.http, job.every, job.most, sink),
    }
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
    fn begin(&mut self, engine: Engine, address: &str) -> anyhow::Result<()> {
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

    fn take(&mut self, engine: Engine, event: &Event) -> anyhow::Result<()> {
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

    fn finish(mut self, engine: Engine, failed: Option<AttachError>) -> anyhow::Result<ExitCode> {
        let summary = self.tally.summary();
        let nothing = summary.texts == 0
            && self.tally.steps().is_empty()
            && summary.tokens.is_none()
            && summary.accepted.is_none();
        if failed.is_some() && nothing {
            // Nothing is complete: a file of JSON does not get its name.
            return Err(failed.map_or_else(|| anyhow!("nothing was read"), add_fix));
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
            Some(error) => Err(add_fix(error)),
            None => Ok(self.interrupt.status().map_or(ExitCode::SUCCESS, ExitCode::from)),
        }
    }
}

/// Returns an error with its fix, in one line.
pub(super) fn add_fix(error: AttachError) -> anyhow::Error {
    let fix = match &error {
        AttachError::Address { .. } => "give the address of the server",
        AttachError::KeyInClear { .. } => {
            "use https or a tunnel, unset the variable, or give --insecure"
        }
        AttachError::BadKey { .. } => "give a file or variable that holds the key alone",
        AttachError::Unreachable { .. } => {
            "check the address and that the server runs; --timeout gives it longer"
        }
        AttachError::Unauthorized { with_key: true, .. } => "give the server's key with --key-file",
        AttachError::Unauthorized { .. } => "give its key with --key-file or in OPENAI_API_KEY",
        AttachError::Status { .. } => "check the address and the server's log",
        AttachError::Redirected { .. } => "give the address that it leads to, if you trust it",
        AttachError::TooLarge { .. } | AttachError::Malformed { .. } => {
            "check the address; --engine names the engine"
        }
        AttachError::Cut { .. } => "check the server's log and try again",
        AttachError::Refused { .. } => "check the server's log",
        AttachError::UnknownEngine { .. } => {
            "check the address and port, or name the engine with --engine"
        }
        AttachError::NoCounters { .. } => {
            "or send prompts with --probe, where the engine allows it"
        }
        AttachError::Unsupported { .. } => "docs/attach.md lists what each engine can give",
        AttachError::File { .. } => "docs/attach.md lists the files that can be imported",
    };
    anyhow!("{error}; {fix}")
}

fn seconds(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.05..=86_400.0 * 365.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, at least 0.05".into()),
    }
}

fn temperature(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(t) if (0.0..=10.0).contains(&t) => Ok(t),
        _ => Err("give a temperature from 0 (greedy) to 10".into()),
    }
}

fn top_p(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("give a mass above 0 and up to 1 (all tokens)".into()),
    }
}

fn tokens(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, 1_000_000, "tokens")
}

fn top(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, 1_000_000, "tokens")
}

fn score(value: &str) -> Result<usize, String> {
    super::options::whole(value, 0, 1_000_000, "positions")
}
