//! The loop that repeats [`Session::step`]: it obeys commands between steps and tells what happens.

mod looks;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::calibrate::{enough, tokens_per_second};
use super::load::{Engine, load};
use super::look::Looking;
use super::{Command, EngineOptions, Event, Prompt};
use crate::clean::causes;
use crate::telemetry::Ending;

/// Plain decoding is timed first after so many steps: not before, since the first token is waited for.
const FIRST_CALIBRATION: usize = 3;
/// Plain decoding is timed again when the engine has nothing to do, but not sooner than this after the last time.
const REPEAT: Duration = Duration::from_secs(20);

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
            let EngineOptions { prompts, max_tokens, once, start_paused, .. } = options;
            let (present, paused, steps, calibrated) = (None, start_paused, 0, None);
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
                calibrated,
                timed: Vec::new(),
                costed: false,
                rested: false,
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
    /// When plain decoding was timed last.
    calibrated: Option<Instant>,
    /// Seconds of the passes timed since.
    timed: Vec<f64>,
    /// Whether the cost of passes was measured, or could not be.
    costed: bool,
    /// Whether it was timed since the engine last had nothing to do.
    rested: bool,
    /// Which steps are looked at when they are made: each one whose number is a multiple of this; 0 for none.
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
        if let Some(cost) = self.engine.session.cost().cloned() {
            self.tell(Event::Cost(cost))?;
        }
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
        self.rest()?;
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
        (self.paused, self.rested) = (true, false);
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
        let step = record.step;
        self.steps += 1;
        self.tell(Event::Step(Arc::new(record)))?;
        if self.look_every > 0 && step.is_multiple_of(self.look_every) {
            self.look_at_once(step)?;
        }
        let ending = self.engine.session.ending();
        if let Some(fluid) = self.engine.session.fluid(ending.is_some()) {
            self.tell(Event::Fluid(Arc::new(fluid)))?;
        }
        if let Some(ending) = ending {
            self.tell(Event::PromptEnded { ending })?;
            self.rested = false;
            self.rest()?;
            // The ceilings of the wall clock go by the cost of passes: about a second, once for a model and a machine, where
            // nobody waits for the next token.
            if self.engine.session.cost().is_none() && !std::mem::replace(&mut self.costed, true) {
                self.measure_cost()?;
            }
        }
        if self.steps >= FIRST_CALIBRATION && self.due() {
            self.time_plain()?;
        }
        // Only who goes by the cost of passes waits until it is measured: about a second, once for a model and a machine.
        if self.steps >= FIRST_CALIBRATION && self.engine.session.settings().automatic() && self.engine.session.cost().is_none() {
            self.measure_cost()?;
        }
        Ok(())
    }

    fn measure_cost(&mut self) -> Result<(), End> {
        if let Some(cost) = self.engine.measure_cost().map_err(End::failed)? {
            self.tell(Event::Cost(cost))?;
        }
        Ok(())
    }

    /// Begins the prompt that follows in the list, or the first one after it that is not refused. Waits where all are.
    fn next(&mut self) -> Result<(), End> {
        for _ in 0..self.prompts.len() {
            let index = self.present.map_or(0, |index| index + 1);
            if index >= self.prompts.len() && self.once {
                return Err(End::Finished);
            }
            let index = index % self.prompts.len();
            self.present = Some(index);
            if self.begin(index)? {
                return Ok(());
            }
        }
        if self.once { Err(End::Finished) } else { self.pause() }
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
        let Prompt { id, text: prompt } = prompt;
        self.tell(Event::PromptStarted { index, id, prompt, tokens: tokens.len(), prefill_seconds })?;
        Ok(true)
    }

    /// There is nothing to do for a moment: time to time plain decoding, once, where that was long ago.
    fn rest(&mut self) -> Result<(), End> {
        if std::mem::replace(&mut self.rested, true) {
            return Ok(());
        }
        while self.due() && self.time_plain()? {}
        Ok(())
    }

    /// Whether plain decoding is to be timed.
    fn due(&self) -> bool {
        self.calibrated.is_none_or(|when| when.elapsed() >= REPEAT)
    }

    /// Times one step of plain decoding; with the last one of a few, tells the speed. Between steps there is one at a time, so
    /// that nobody waits long. Says whether there is room for another.
    fn time_plain(&mut self) -> Result<bool, End> {
        let Some(seconds) = self.engine.session.time_plain().map_err(End::failed)? else { return Ok(false) };
        self.timed.push(seconds);
        if enough(&self.timed) {
            self.calibrate()?;
        }
        Ok(true)
    }

    fn calibrate(&mut self) -> Result<(), End> {
        // What passes cost has followed the machine since it was measured.
        if let (Some(shelf), Some(cost), true) =
            (&self.engine.shelf, self.engine.session.cost(), self.engine.session.settings().automatic())
        {
            shelf.keep(cost);
        }
        let plain_tokens_per_second = tokens_per_second(&mut self.timed);
        self.timed.clear();
        self.calibrated = Some(Instant::now());
        self.tell(Event::Calibrated { plain_tokens_per_second })
    }
}

/// An error as one line: those of devices can have several.
fn line(error: &dyn Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
