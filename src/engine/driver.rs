//! Driver loop: applies commands between steps, repeats
//! [`Session::step`](super::Session::step) and reports events.
//!
//! Between steps it also times plain decoding and probes the pass times t(B), each within a fixed
//! fraction of the time, and runs oracle searches. [`spawn`] runs the loop on a thread of its own,
//! [`drive`] on the caller's.

mod search;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ceilings::FluidReport;
use super::load::{Engine, load};
use super::machine_load::LoadWatch;
use super::step_search::StepSearch;
use super::{Command, EngineOptions, Event, Pace, Prompt, Session};
use crate::model::device::default_threads;
use crate::telemetry::{Ending, StepSettings};
use crate::theory::cost::CostCurve;
use crate::theory::pass_times::median;

/// Steps before plain decoding is first timed, so that the first tokens aren't delayed.
const FIRST_TIMING: usize = 3;
/// Minimum number of measurements of plain decoding in a run, however short.
const FEWEST_PLAIN: usize = 3;
/// Number of recent measurements whose median is the speed of plain decoding.
const RECENT_PLAIN: usize = 5;
/// Fraction of the steps' time that timing plain decoding may take.
///
/// The first fraction applies until there are this many measurements, the second afterwards.
const PLAIN_TIME_FRACTION: (usize, f64, f64) = (8, 0.03, 0.01);
/// Fraction of the steps' time that probes of t(B) may take.
///
/// The first applies while t(B) is uncertain, the second afterwards.
const PROBE_TIME_FRACTION: (f64, f64) = (0.02, 0.005);
/// Wait before a step after which the CPU and its caches count as cold.
const COLD_AFTER: Duration = Duration::from_millis(5);
/// Wait that is assumed before a single step, which a user requested.
const SINGLE_STEP_WAIT: Duration = Duration::from_millis(100);
/// Relative change of t(B), at any size, from which on it is reported.
const COST_CHANGE: f64 = 0.01;
/// Minimum time between two writes of t(B) to the cache folder.
const KEEP_COST: Duration = Duration::from_secs(30);

/// Starts the engine on its own thread, named "engine".
///
/// It loads the models and decodes the prompts in turn. `sink` receives every event and returns
/// false to stop the thread. It also ends on [`Command::Quit`], when the command sender is dropped,
/// and after [`Event::Failed`] and [`Event::Finished`].
///
/// # Panics
/// If the system can't start a thread.
pub fn spawn(
    options: EngineOptions,
    sink: impl FnMut(Event) -> bool + Send + 'static,
) -> (Sender<Command>, JoinHandle<()>) {
    let (sender, commands) = mpsc::channel();
    let mut sink = sink;
    let work = move || drive(options, &commands, &mut sink);
    let thread =
        thread::Builder::new().name("engine".into()).spawn(work).expect("a thread for the engine");
    (sender, thread)
}

/// Runs the engine on the caller's thread until it ends, as described at [`spawn`].
///
/// While paused it blocks on `commands`.
pub fn drive(
    options: EngineOptions,
    commands: &Receiver<Command>,
    sink: &mut dyn FnMut(Event) -> bool,
) {
    drive_with(options, commands, sink, |options, report| {
        load(options, report).map_err(|error| (options.error_format.0)(&error))
    });
}

/// Runs the engine as [`drive`] does, with an engine made by `load`.
///
/// `load` reports its progress as a description and the fraction done. Its error is one line.
pub(super) fn drive_with(
    options: EngineOptions,
    commands: &Receiver<Command>,
    sink: &mut dyn FnMut(Event) -> bool,
    load: impl FnOnce(&EngineOptions, &mut dyn FnMut(&str, Option<f64>)) -> Result<Engine, String>,
) {
    let mut heard = true;
    let loaded = load(&options, &mut |what, done| {
        heard &= sink(Event::Loading { what: what.to_owned(), done })
    });
    if !heard {
        return;
    }
    let end = match loaded {
        Err(why) => End::Failed(why),
        Ok(engine) => {
            let EngineOptions { prompts, max_tokens, once, start_paused, threads, .. } = options;
            let (present, paused, steps) = (None, start_paused, 0);
            let load = LoadWatch::new(threads.unwrap_or_else(default_threads));
            let mut driver = Driver {
                engine,
                prompts,
                max_tokens,
                once,
                commands,
                waiting: VecDeque::new(),
                sink,
                present,
                paused,
                steps,
                lap: 0,
                plain: Plain::default(),
                load,
                probe_credit: 0.0,
                costed: false,
                reported_cost: None,
                kept_cost: Instant::now(),
                finished: HashSet::new(),
                look_every: 0,
                search: None,
                pace: Pace::Full,
                began_step: None,
            };
            match driver.run() {
                Err(end) => end,
            }
        }
    };
    // The last event: nothing follows, even if nobody receives it.
    match end {
        End::Quit => {}
        End::Failed(why) => drop(sink(Event::Failed(line(&why)))),
        End::Finished => drop(sink(Event::Finished)),
    }
}

/// Reason why the loop ends.
enum End {
    /// Requested by a command, or the other side is gone.
    Quit,
    /// An error, in one line.
    Failed(String),
    /// All prompts are done.
    Finished,
}

impl End {
    fn failed(error: impl Display) -> End {
        End::Failed(error.to_string())
    }
}

/// Measurements of plain decoding, interleaved with steps.
#[derive(Default)]
struct Plain {
    /// Number of measurements so far.
    count: usize,
    /// Seconds per token of the most recent measurements.
    recent: VecDeque<f64>,
    /// Seconds that timing may take by now, and seconds that the last measurement took.
    credit: f64,
    took: f64,
}

struct Driver<'a> {
    engine: Engine,
    prompts: Vec<Prompt>,
    max_tokens: usize,
    once: bool,
    commands: &'a Receiver<Command>,
    /// Commands that arrived during an oracle search.
    waiting: VecDeque<Command>,
    sink: &'a mut dyn FnMut(Event) -> bool,
    /// Index of the prompt that was started last, or rejected when its turn came.
    present: Option<usize>,
    paused: bool,
    /// Steps made since the start of the run.
    steps: usize,
    /// Value of `steps` when the list of prompts last started over.
    lap: usize,
    /// Measurements of plain decoding.
    plain: Plain,
    /// Load of this machine from other processes.
    load: LoadWatch,
    /// Seconds that probes of t(B) may take by now.
    probe_credit: f64,
    /// Set once a measurement of the pass cost was attempted.
    costed: bool,
    /// Pass cost in the last [`Event::Cost`].
    reported_cost: Option<CostCurve>,
    /// Time of the last write of the pass cost to the cache folder.
    kept_cost: Instant,
    /// Greedy texts that were completed, by prompt and settings. Repeating one gives the same text.
    finished: HashSet<(usize, String)>,
    /// Interval, in steps, of the oracle search right after a step; 0 disables it.
    look_every: usize,
    /// Oracle search that was requested while paused, even after it has ended.
    search: Option<StepSearch>,
    /// Maximum number of steps per second.
    pace: Pace,
    /// Start of the last step, for the pace.
    began_step: Option<Instant>,
}

impl Driver<'_> {
    fn run(&mut self) -> Result<Infallible, End> {
        let mut info = self.engine.info.clone();
        info.prompts = self.prompts.iter().map(|prompt| prompt.text.clone()).collect();
        let settings = self.engine.session.settings().clone();
        self.send(Event::Ready { info: Arc::new(info), settings })?;
        self.report_cost()?;
        let wait = std::mem::take(&mut self.paused);
        self.next()?;
        if wait && !self.paused {
            self.pause()?;
        }
        loop {
            while let Some(command) = self.next_command()? {
                self.apply(command)?;
            }
            self.advance()?;
        }
    }

    fn send(&mut self, event: Event) -> Result<(), End> {
        if (self.sink)(event) { Ok(()) } else { Err(End::Quit) }
    }

    /// Returns the next command.
    ///
    /// While paused it refines the oracle search, if any, and then blocks for a command.
    fn next_command(&mut self) -> Result<Option<Command>, End> {
        loop {
            if let Some(command) = self.received_command()? {
                return Ok(Some(command));
            }
            if !self.paused {
                return self.wait_for_pace();
            }
            if !self.refine_search()? {
                break;
            }
        }
        if self.plain.count == 0 && self.steps > 0 {
            self.time_plain()?;
        }
        self.commands.recv().map(Some).map_err(|_| End::Quit)
    }

    /// Waits until the pace allows the next step; returns a command that arrives before.
    fn wait_for_pace(&mut self) -> Result<Option<Command>, End> {
        let due =
            self.began_step.zip(self.pace.interval()).map(|(began, interval)| began + interval);
        let wait = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return Ok(None);
        }
        let warm_up = if wait < COLD_AFTER { Duration::ZERO } else { Session::warm_up_time(wait) };
        match self.commands.recv_timeout(wait - warm_up) {
            Ok(command) => Ok(Some(command)),
            Err(RecvTimeoutError::Disconnected) => Err(End::Quit),
            Err(RecvTimeoutError::Timeout) => {
                self.engine.session.warm_up(warm_up).map_err(End::failed)?;
                Ok(None)
            }
        }
    }

    /// Returns the next command if one has arrived.
    fn received_command(&mut self) -> Result<Option<Command>, End> {
        if let Some(command) = self.waiting.pop_front() {
            return Ok(Some(command));
        }
        match self.commands.try_recv() {
            Ok(command) => Ok(Some(command)),
            Err(TryRecvError::Disconnected) => Err(End::Quit),
            Err(TryRecvError::Empty) => Ok(None),
        }
    }

    fn apply(&mut self, command: Command) -> Result<(), End> {
        // Any other kind of command stops the oracle search.
        if !matches!(command, Command::SearchOracle(_) | Command::SearchEvery(_) | Command::Pace(_))
        {
            self.stop_search()?;
        }
        match command {
            Command::Pause => self.pause(),
            Command::Resume => {
                self.paused = false;
                self.send(Event::Resumed)
            }
            // A running engine steps on its own, so that one more step means nothing.
            Command::Step if self.paused => {
                let warm_up = Session::warm_up_time(SINGLE_STEP_WAIT);
                self.engine.session.warm_up(warm_up).map_err(End::failed)?;
                self.advance()
            }
            Command::Step => Ok(()),
            Command::Pace(pace) => {
                self.pace = pace;
                Ok(())
            }
            Command::Settings(settings) => match self.engine.session.set(settings.clone()) {
                Ok(()) => self.send(Event::Settings(settings)),
                Err(why) => self.refuse(&why),
            },
            Command::Prompt(index) if index < self.prompts.len() => self.begin(index).map(drop),
            Command::Prompt(index) => self.refuse(&format!(
                "there is no prompt {index}: the list has {}, from 0",
                self.prompts.len()
            )),
            Command::Text(text) => {
                let index = self.prompts.len();
                // The id of another prompt would give this one the same random numbers.
                let mut id = index.to_string();
                while self.prompts.iter().any(|prompt| prompt.id == id) {
                    id.push('+');
                }
                self.prompts.push(Prompt { id, text });
                if !self.begin(index)? {
                    self.prompts.pop();
                }
                Ok(())
            }
            Command::RestartPrompt => match self.present {
                Some(index) => self.begin(index).map(drop),
                None => self.refuse(&"there is no prompt yet"),
            },
            Command::SearchOracle(_) if !self.paused => {
                self.refuse(&"a step is looked at while it waits: pause first")
            }
            Command::SearchOracle(step) => self.start_search(step),
            Command::SearchEvery(every) => {
                self.look_every = every;
                Ok(())
            }
            Command::Quit => Err(End::Quit),
        }
    }

    fn pause(&mut self) -> Result<(), End> {
        self.paused = true;
        self.send(Event::Paused)
    }

    fn refuse(&mut self, why: &dyn Display) -> Result<(), End> {
        self.send(Event::Refused(line(why)))
    }

    /// Returns true if there is a text that has not ended.
    fn writing(&self) -> bool {
        let session = &self.engine.session;
        !session.tokens().is_empty() && session.ending().is_none()
    }

    /// Makes one step, starting the next prompt first if the text has ended.
    fn advance(&mut self) -> Result<(), End> {
        if !self.writing() {
            self.next()?;
        }
        self.began_step = Some(Instant::now());
        let Some(record) = self.engine.session.step().map_err(End::failed)? else { return Ok(()) };
        let (step, seconds, plain) =
            (record.step, record.time.total(), record.settings.is_plain_decoding());
        self.steps += 1;
        self.send(Event::Step(Arc::new(record)))?;
        if self.engine.session.is_searched(step, self.look_every) {
            self.search_now(step)?;
        }
        let ending = self.engine.session.ending();
        if let Some(fluid) = self.engine.session.fluid(FluidReport::after_step(ending.is_some())) {
            self.send(Event::Fluid(Arc::new(fluid)))?;
        }
        // Before the text is reported as ended, since these measurements belong to it.
        self.run_timing_probes(seconds, plain, ending.is_some())?;
        if let Some(ending) = ending {
            if let Some(key) = self.text_key() {
                self.finished.insert(key);
            }
            self.send(Event::PromptEnded { ending })?;
        }
        Ok(())
    }

    /// Times plain decoding and single passes between steps, within their fractions of the time.
    ///
    /// `seconds` is the duration of the last step, and `ended` is set if it ended the text. A
    /// `plain` step, one without drafting, makes timing plain decoding unnecessary.
    fn run_timing_probes(&mut self, seconds: f64, plain: bool, ended: bool) -> Result<(), End> {
        let (first, early, late) = PLAIN_TIME_FRACTION;
        self.plain.credit += seconds * if self.plain.count < first { early } else { late };
        let settled = self.engine.session.probes_settled();
        self.probe_credit +=
            seconds * if settled { PROBE_TIME_FRACTION.1 } else { PROBE_TIME_FRACTION.0 };
        if !plain {
            if self.steps >= FIRST_TIMING
                && (self.plain.count == 0 || self.plain.credit >= self.plain.took)
            {
                self.time_plain()?;
            }
            while ended && self.plain.count < FEWEST_PLAIN && self.time_plain()? {}
        }
        // Measuring the pass cost takes about a second, once per model and machine. Only an
        // automatic budget needs it at once; otherwise it is measured at the end of a text, where
        // nobody waits for the next token.
        let session = &mut self.engine.session;
        let automatic = session.settings().automatic();
        if session.cost().is_none() && (ended || (automatic && self.steps >= FIRST_TIMING)) {
            if !std::mem::replace(&mut self.costed, true) || automatic {
                self.engine.measure_cost().map_err(End::failed)?;
            }
        } else if session.probe_seconds().is_some_and(|needed| self.probe_credit >= needed) {
            let took = session.probe().map_err(End::failed)?;
            self.probe_credit -= took.unwrap_or(self.probe_credit);
        }
        if ended || self.reported_cost.is_none() {
            self.report_cost()?;
        }
        let session = &mut self.engine.session;
        if let Some(load) = self.load.read(|| session.times().and_then(|times| times.spread())) {
            self.send(Event::Load(load))?;
            self.report_cost()?;
        }
        Ok(())
    }

    /// Reports the pass cost if it changed, and writes it to the cache at intervals.
    fn report_cost(&mut self) -> Result<(), End> {
        let Some(cost) = self.engine.session.cost() else { return Ok(()) };
        let differs = |reported: &CostCurve| {
            let off = |&(batch, seconds): &(usize, f64)| {
                (reported.seconds(batch) / seconds - 1.0).abs() > COST_CHANGE
            };
            reported.largest() != cost.largest() || cost.points().iter().any(off)
        };
        if self.reported_cost.as_ref().is_some_and(|reported| !differs(reported)) {
            return Ok(());
        }
        let cost = cost.clone();
        if self.kept_cost.elapsed() >= KEEP_COST && self.engine.session.probes_settled() {
            self.kept_cost = Instant::now();
            self.engine.keep_cost();
        }
        self.reported_cost = Some(cost.clone());
        self.send(Event::Cost(cost))
    }

    /// Returns the current prompt and settings if decoding is greedy.
    ///
    /// They identify a text that is the same each time.
    fn text_key(&self) -> Option<(usize, String)> {
        let settings = self.engine.session.settings();
        let key = || serde_json::to_string(settings).ok();
        self.present.filter(|_| settings.sampling().greedy()).zip(key())
    }

    /// Starts the next prompt of the list that isn't rejected; pauses if all are.
    fn next(&mut self) -> Result<(), End> {
        for _ in 0..self.prompts.len() {
            let index = self.present.map_or(0, |index| index + 1);
            if index >= self.prompts.len() && self.once {
                return Err(End::Finished);
            }
            if index >= self.prompts.len()
                && self.steps > std::mem::replace(&mut self.lap, self.steps)
            {
                self.next_seed()?;
            }
            let index = index % self.prompts.len();
            self.present = Some(index);
            if self.begin(index)? {
                return Ok(());
            }
        }
        if self.once { Err(End::Finished) } else { self.pause() }
    }

    /// Switches sampled texts to the next seed, so that repeated prompts give other texts.
    fn next_seed(&mut self) -> Result<(), End> {
        let settings = self.engine.session.settings();
        if settings.sampling().greedy() {
            return Ok(());
        }
        let next = StepSettings { seed: settings.seed.wrapping_add(1), ..settings.clone() };
        self.engine.session.set(next.clone()).map_err(End::failed)?;
        self.send(Event::Settings(next))
    }

    /// Starts a prompt and returns true, or reports why it was rejected.
    ///
    /// A rejected prompt leaves the current text as it is.
    fn begin(&mut self, index: usize) -> Result<bool, End> {
        let prompt = self.prompts[index].clone();
        let tokens = match (self.engine.tokens)(&prompt.text) {
            Ok(tokens) => tokens,
            Err(why) => {
                return self.refuse(&format!("prompt {}: {why}", prompt.id)).map(|()| false);
            }
        };
        if let Err(why) = self.engine.session.check_prompt_length(tokens.len()) {
            return self.refuse(&format!("prompt {}: {why}", prompt.id)).map(|()| false);
        }
        if self.writing() {
            self.send(Event::PromptEnded { ending: Ending::Interrupted })?;
        }
        let began = Instant::now();
        self.engine.session.start(&prompt.id, &tokens, self.max_tokens).map_err(End::failed)?;
        let prefill_seconds = began.elapsed().as_secs_f64();
        self.present = Some(index);
        if self.text_key().is_some_and(|key| self.finished.contains(&key)) {
            self.engine.session.mark_repeated();
        }
        let Prompt { id, text: prompt } = prompt;
        self.send(Event::PromptStarted {
            index,
            id,
            prompt,
            tokens: tokens.len(),
            prefill_seconds,
        })?;
        Ok(true)
    }

    /// Times a few consecutive steps of plain decoding and reports the speed.
    ///
    /// Returns false if the context has no room for it.
    fn time_plain(&mut self) -> Result<bool, End> {
        let began = Instant::now();
        let Some(seconds) = self.engine.session.time_plain().map_err(End::failed)? else {
            return Ok(false);
        };
        let plain = &mut self.plain;
        plain.took = began.elapsed().as_secs_f64();
        plain.credit = (plain.credit - plain.took).max(0.0);
        plain.count += 1;
        if plain.recent.len() == RECENT_PLAIN {
            plain.recent.pop_front();
        }
        plain.recent.push_back(seconds);
        let mut recent: Vec<f64> = plain.recent.iter().copied().collect();
        let middle = median(&mut recent).unwrap_or(seconds);
        let plain_tokens_per_second = 1.0 / middle.max(1e-9);
        self.engine.session.set_plain(middle);
        self.send(Event::PlainTimed { plain_tokens_per_second, seconds })?;
        Ok(true)
    }
}

/// Joins an error into one line; errors of devices can span several.
fn line(error: &dyn Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
