//! The loop that repeats [`Session::step`]: it obeys commands between steps and tells what happens.

mod looks;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::load::{Engine, load};
use super::look::Looking;
use super::machine::LoadWatch;
use super::{Command, EngineOptions, Event, Prompt};
use crate::clean::causes;
use crate::model::device::default_threads;
use crate::telemetry::{Ending, StepSettings};
use crate::theory::cost::Cost;
use crate::theory::pass_times::median;

/// Plain decoding is timed first after so many steps: not before, since the first token is waited for.
const FIRST_CALIBRATION: usize = 3;
/// Times of plain decoding that a run has at least, however short it is.
const FEWEST_PLAIN: usize = 3;
/// Times of plain decoding whose median is its present speed.
const RECENT_PLAIN: usize = 5;
/// Share of the steps' seconds that timing plain decoding may take: while there are fewer times than this, and later.
const PLAIN_SHARE: (usize, f64, f64) = (8, 0.03, 0.01);
/// Share of the steps' seconds that probes of t(B) may take: while t(B) is uncertain, and later.
const PROBE_SHARE: (f64, f64) = (0.02, 0.005);
/// Relative change of t(B) anywhere that is told.
const COST_CHANGE: f64 = 0.01;
/// Time between two writes of t(B) to the cache folder.
const KEEP_COST: Duration = Duration::from_secs(30);

/// Starts the engine on a thread of its own, named "engine". It loads the model and decodes the prompts in turn;
/// `sink` is called with every event and says whether anybody still listens. The thread ends when told to, when
/// nobody listens or nobody can command it any more, and after [`Event::Failed`] and [`Event::Finished`].
///
/// # Panics
/// If the system has no thread to give.
pub fn spawn(options: EngineOptions, sink: impl FnMut(Event) -> bool + Send + 'static) -> (Sender<Command>, JoinHandle<()>) {
    let (commands, orders) = mpsc::channel();
    let mut sink = sink;
    let work = move || drive(options, &orders, &mut sink);
    let thread = thread::Builder::new().name("engine".into()).spawn(work).expect("a thread for the engine");
    (commands, thread)
}

/// The engine on the thread of the caller, until it ends as [`spawn`] says. While it waits it blocks on `orders`.
pub fn drive(options: EngineOptions, orders: &Receiver<Command>, sink: &mut dyn FnMut(Event) -> bool) {
    drive_with(options, orders, sink, |options, tell| load(options, tell).map_err(|error| causes(&error)));
}

/// As [`drive`], with the engine from `load`, which tells what it does and the share done. Its error is one line.
pub(super) fn drive_with(
    options: EngineOptions,
    orders: &Receiver<Command>,
    sink: &mut dyn FnMut(Event) -> bool,
    load: impl FnOnce(&EngineOptions, &mut dyn FnMut(&str, Option<f64>)) -> Result<Engine, String>,
) {
    let mut heard = true;
    let loaded = load(&options, &mut |what, done| heard &= sink(Event::Loading { what: what.to_owned(), done }));
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
                orders,
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
                told_cost: None,
                kept_cost: Instant::now(),
                finished: HashSet::new(),
                look_every: 0,
                looking: None,
            };
            match driver.run() {
                Err(end) => end,
            }
        }
    };
    // The last word; nothing follows whether it is heard or not.
    match end {
        End::Quit => {}
        End::Failed(why) => drop(sink(Event::Failed(line(&why)))),
        End::Finished => drop(sink(Event::Finished)),
    }
}

/// Why the loop ends.
enum End {
    /// It was told to, or nobody is there any more.
    Quit,
    /// It can't go on.
    Failed(String),
    /// All prompts are done.
    Finished,
}

impl End {
    fn failed(error: impl Display) -> End {
        End::Failed(error.to_string())
    }
}

/// Times of plain decoding, interleaved with steps.
#[derive(Default)]
struct Plain {
    /// Times so far.
    count: usize,
    /// Seconds a token of the last ones.
    recent: VecDeque<f64>,
    /// Seconds that timing may take by now, and that it took the last time.
    credit: f64,
    took: f64,
}

struct Driver<'a> {
    engine: Engine,
    prompts: Vec<Prompt>,
    max_tokens: usize,
    once: bool,
    orders: &'a Receiver<Command>,
    /// Commands that came while a step was looked at.
    waiting: VecDeque<Command>,
    sink: &'a mut dyn FnMut(Event) -> bool,
    /// Index of the prompt that was begun last, or refused in its turn.
    present: Option<usize>,
    paused: bool,
    /// Steps made since the start.
    steps: usize,
    /// Steps when the list of prompts began again last.
    lap: usize,
    /// Times of plain decoding.
    plain: Plain,
    /// Other work on this machine.
    load: LoadWatch,
    /// Seconds that probes of t(B) may take by now.
    probe_credit: f64,
    /// Whether the cost of passes was measured, or could not be.
    costed: bool,
    /// The cost that was told last.
    told_cost: Option<Cost>,
    /// When the cost was written to the cache folder last.
    kept_cost: Instant,
    /// Greedy texts that were written to their end: prompt and settings. Written again they are the same.
    finished: HashSet<(usize, String)>,
    /// One in how many steps is searched for its oracle tree right after it; 0 for none.
    look_every: usize,
    /// The look that is refined while it waits, or was to its end.
    looking: Option<Looking>,
}

impl Driver<'_> {
    fn run(&mut self) -> Result<Infallible, End> {
        let mut info = self.engine.info.clone();
        info.prompts = self.prompts.iter().map(|prompt| prompt.text.clone()).collect();
        let settings = self.engine.session.settings().clone();
        self.tell(Event::Ready { info: Arc::new(info), settings })?;
        self.tell_cost()?;
        let wait = std::mem::take(&mut self.paused);
        self.next()?;
        if wait && !self.paused {
            self.pause()?;
        }
        loop {
            while let Some(order) = self.order()? {
                self.obey(order)?;
            }
            self.advance()?;
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), End> {
        if (self.sink)(event) { Ok(()) } else { Err(End::Quit) }
    }

    /// The next command. While paused there is nothing to do but to refine a look, where there is one, and to wait.
    fn order(&mut self) -> Result<Option<Command>, End> {
        loop {
            if let Some(order) = self.ordered()? {
                return Ok(Some(order));
            }
            if !self.paused {
                return Ok(None);
            }
            if !self.look_on()? {
                break;
            }
        }
        if self.plain.count == 0 && self.steps > 0 {
            self.time_plain()?;
        }
        self.orders.recv().map(Some).map_err(|_| End::Quit)
    }

    /// The next command, if one has come.
    fn ordered(&mut self) -> Result<Option<Command>, End> {
        if let Some(order) = self.waiting.pop_front() {
            return Ok(Some(order));
        }
        match self.orders.try_recv() {
            Ok(order) => Ok(Some(order)),
            Err(TryRecvError::Disconnected) => Err(End::Quit),
            Err(TryRecvError::Empty) => Ok(None),
        }
    }

    fn obey(&mut self, order: Command) -> Result<(), End> {
        // A look lasts until another wish comes.
        if !matches!(order, Command::Look(_) | Command::LookEvery(_)) {
            self.break_off()?;
        }
        match order {
            Command::Pause => self.pause(),
            Command::Resume => {
                self.paused = false;
                self.tell(Event::Resumed)
            }
            // Where steps come by themselves, one more is no wish.
            Command::Step if self.paused => self.advance(),
            Command::Step => Ok(()),
            Command::Settings(wish) => match self.engine.session.set(wish.clone()) {
                Ok(()) => self.tell(Event::Settings(wish)),
                Err(why) => self.refuse(&why),
            },
            Command::Prompt(index) if index < self.prompts.len() => self.begin(index).map(drop),
            Command::Prompt(index) => {
                self.refuse(&format!("there is no prompt {index}: the list has {}, from 0", self.prompts.len()))
            }
            Command::Text(text) => {
                let index = self.prompts.len();
                // An id that a file gave to another prompt would key the same random numbers.
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
            Command::Again => match self.present {
                Some(index) => self.begin(index).map(drop),
                None => self.refuse(&"there is no prompt yet"),
            },
            Command::Look(_) if !self.paused => self.refuse(&"a step is looked at while it waits: pause first"),
            Command::Look(step) => self.look(step),
            Command::LookEvery(every) => {
                self.look_every = every;
                Ok(())
            }
            Command::Quit => Err(End::Quit),
        }
    }

    fn pause(&mut self) -> Result<(), End> {
        self.paused = true;
        self.tell(Event::Paused)
    }

    fn refuse(&mut self, why: &dyn Display) -> Result<(), End> {
        self.tell(Event::Refused(line(why)))
    }

    /// Whether there is a text that goes on.
    fn writing(&self) -> bool {
        let session = &self.engine.session;
        !session.tokens().is_empty() && session.ending().is_none()
    }

    /// One step, of the next prompt where the text has ended.
    fn advance(&mut self) -> Result<(), End> {
        if !self.writing() {
            self.next()?;
        }
        let Some(record) = self.engine.session.step().map_err(End::failed)? else { return Ok(()) };
        let (step, seconds, plain) = (record.step, record.time.total(), record.settings.undrafted());
        self.steps += 1;
        self.tell(Event::Step(Arc::new(record)))?;
        if self.engine.session.searches(step, self.look_every) {
            self.look_at_once(step)?;
        }
        let ending = self.engine.session.ending();
        if let Some(fluid) = self.engine.session.fluid(ending.is_some()) {
            self.tell(Event::Fluid(Arc::new(fluid)))?;
        }
        // Before the text is said to have ended: what is timed belongs to it.
        self.time_passes(seconds, plain, ending.is_some())?;
        if let Some(ending) = ending {
            if let Some(key) = self.text_key() {
                self.finished.insert(key);
            }
            self.tell(Event::PromptEnded { ending })?;
        }
        Ok(())
    }

    /// Times plain decoding and single passes between steps, as far as their share of the time allows. A step took `seconds`; where
    /// it was `plain` itself, plain decoding needs no other times.
    fn time_passes(&mut self, seconds: f64, plain: bool, ended: bool) -> Result<(), End> {
        let (first, early, late) = PLAIN_SHARE;
        self.plain.credit += seconds * if self.plain.count < first { early } else { late };
        let settled = self.engine.session.probes_settled();
        self.probe_credit += seconds * if settled { PROBE_SHARE.1 } else { PROBE_SHARE.0 };
        if !plain {
            if self.steps >= FIRST_CALIBRATION && (self.plain.count == 0 || self.plain.credit >= self.plain.took) {
                self.time_plain()?;
            }
            while ended && self.plain.count < FEWEST_PLAIN && self.time_plain()? {}
        }
        // Only who goes by the cost of passes waits until it is measured: about a second, once for a model and a machine. Else it is
        // measured where nobody waits for the next token.
        let session = &mut self.engine.session;
        let automatic = session.settings().automatic();
        if session.cost().is_none() && (ended || (automatic && self.steps >= FIRST_CALIBRATION)) {
            if !std::mem::replace(&mut self.costed, true) || automatic {
                self.engine.measure_cost().map_err(End::failed)?;
            }
        } else if session.probe_seconds().is_some_and(|needed| self.probe_credit >= needed) {
            let took = session.probe().map_err(End::failed)?;
            self.probe_credit -= took.unwrap_or(self.probe_credit);
        }
        if ended || self.told_cost.is_none() {
            self.tell_cost()?;
        }
        let session = &mut self.engine.session;
        if let Some(load) = self.load.read(|| session.times().and_then(|times| times.spread())) {
            self.tell(Event::Load(load))?;
            self.tell_cost()?;
        }
        Ok(())
    }

    /// Tells the cost of passes where it has changed, and keeps it for later runs now and then.
    fn tell_cost(&mut self) -> Result<(), End> {
        let Some(cost) = self.engine.session.cost() else { return Ok(()) };
        let differs = |told: &Cost| {
            let off = |&(batch, seconds): &(usize, f64)| (told.seconds(batch) / seconds - 1.0).abs() > COST_CHANGE;
            told.largest() != cost.largest() || cost.points().iter().any(off)
        };
        if self.told_cost.as_ref().is_some_and(|told| !differs(told)) {
            return Ok(());
        }
        let cost = cost.clone();
        if self.kept_cost.elapsed() >= KEEP_COST && self.engine.session.probes_settled() {
            self.kept_cost = Instant::now();
            self.engine.keep_cost();
        }
        self.told_cost = Some(cost.clone());
        self.tell(Event::Cost(cost))
    }

    /// The present prompt and its settings, where decoding is greedy, so that the text is the same each time.
    fn text_key(&self) -> Option<(usize, String)> {
        let settings = self.engine.session.settings();
        let key = || serde_json::to_string(settings).ok();
        self.present.filter(|_| settings.warp().greedy()).zip(key())
    }

    /// Begins the prompt that follows in the list, or the first one after it that is not refused. Waits where all are.
    fn next(&mut self) -> Result<(), End> {
        for _ in 0..self.prompts.len() {
            let index = self.present.map_or(0, |index| index + 1);
            if index >= self.prompts.len() && self.once {
                return Err(End::Finished);
            }
            if index >= self.prompts.len() && self.steps > std::mem::replace(&mut self.lap, self.steps) {
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

    /// The list begins again: sampled texts take the next seed, so that they are other texts.
    fn next_seed(&mut self) -> Result<(), End> {
        let settings = self.engine.session.settings();
        if settings.warp().greedy() {
            return Ok(());
        }
        let next = StepSettings { seed: settings.seed.wrapping_add(1), ..settings.clone() };
        self.engine.session.set(next.clone()).map_err(End::failed)?;
        self.tell(Event::Settings(next))
    }

    /// Begins a prompt, or refuses it: says which. A text that is being written goes on where it is refused.
    fn begin(&mut self, index: usize) -> Result<bool, End> {
        let prompt = self.prompts[index].clone();
        let tokens = match (self.engine.tokens)(&prompt.text) {
            Ok(tokens) => tokens,
            Err(why) => return self.refuse(&format!("prompt {}: {why}", prompt.id)).map(|()| false),
        };
        if let Err(why) = self.engine.session.fits(tokens.len()) {
            return self.refuse(&format!("prompt {}: {why}", prompt.id)).map(|()| false);
        }
        if self.writing() {
            self.tell(Event::PromptEnded { ending: Ending::Interrupted })?;
        }
        let began = Instant::now();
        self.engine.session.start(&prompt.id, &tokens, self.max_tokens).map_err(End::failed)?;
        let prefill_seconds = began.elapsed().as_secs_f64();
        self.present = Some(index);
        if self.text_key().is_some_and(|key| self.finished.contains(&key)) {
            self.engine.session.mark_repeated();
        }
        let Prompt { id, text: prompt } = prompt;
        self.tell(Event::PromptStarted { index, id, prompt, tokens: tokens.len(), prefill_seconds })?;
        Ok(true)
    }

    /// Times a few steps of plain decoding in a row and tells the speed. Says whether there was room for it.
    fn time_plain(&mut self) -> Result<bool, End> {
        let began = Instant::now();
        let Some(seconds) = self.engine.session.time_plain().map_err(End::failed)? else { return Ok(false) };
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
        self.tell(Event::Calibrated { plain_tokens_per_second, seconds })?;
        Ok(true)
    }
}

/// An error as one line: those of devices can have several.
fn line(error: &dyn Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
