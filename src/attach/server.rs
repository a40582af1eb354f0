//! [`Server`]: one engine behind an address, its capabilities, and its events.

use super::bracket::OmittedSampling;
use super::counters::{Counters, Window};
use super::error::AttachError;
use super::estimate::Scored;
use super::http::Http;
use super::plan::{Plan, ProbeSettings, ProbedText, Request, Step};
use super::server_kind::ServerKind;

/// Facts about a server that don't change while it runs; `None` where not reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Version of the engine.
    pub version: Option<String>,
    /// Name of the model that is served.
    pub model: Option<String>,
    /// Tokens in the vocabulary.
    pub vocabulary: Option<usize>,
    /// B: tokens of a verify pass, the root included.
    pub budget: Option<usize>,
    /// Speculative method, as the engine names it.
    pub method: Option<String>,
    /// Reason why the ceilings do not apply, such as a lossy threshold.
    ///
    /// Shown with every ceiling.
    pub outside: Option<String>,
}

/// Abilities of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// True if counters can be read without sending anything.
    pub scrape: bool,
    /// True if prompts can be sent and steps read from the stream.
    pub probe: bool,
    /// True if distributions have to be requested in a second pass.
    pub score: bool,
}

/// Sink for the events of a probe; `false` asks it to stop.
pub type Sink<'a> = &'a mut dyn FnMut(Event) -> bool;

/// One engine behind an address.
pub trait Server: Send {
    /// Returns the engine behind the address.
    fn engine(&self) -> ServerKind;

    /// Abilities of this server.
    fn capabilities(&self) -> Capabilities;

    /// Reads the properties that don't change while the server runs.
    ///
    /// # Errors
    /// If a request fails in a way that later ones would, too.
    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError>;

    /// Reads the counters once.
    ///
    /// # Errors
    /// If they can't be read, with the reason.
    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError>;

    /// Sampling parameters of a probe's text that its distributions are reported without.
    fn omitted(&self, settings: &ProbeSettings) -> OmittedSampling {
        let _ = settings;
        OmittedSampling::NONE
    }

    /// Returns the budget B, root included, if it is known by now.
    fn budget(&self) -> Option<usize> {
        None
    }

    /// Lists the requests that a probe will send, before it sends any.
    ///
    /// # Errors
    /// If this engine's steps can't be read from outside.
    fn plan(&self, settings: &ProbeSettings) -> Result<Plan, AttachError> {
        let _ = settings;
        Err(AttachError::Unsupported {
            engine: self.engine(),
            why: "its steps can't be read from outside".to_owned(),
        })
    }

    /// Sends one prompt and reports its steps. `None` where the sink asked to stop.
    ///
    /// # Errors
    /// If the request fails or the stream can't be read.
    fn probe(
        &mut self,
        http: &Http,
        request: &Request,
        sink: Sink<'_>,
    ) -> Result<Option<ProbedText>, AttachError> {
        let _ = (http, request, sink);
        Err(AttachError::Unsupported {
            engine: self.engine(),
            why: "its steps can't be read from outside".to_owned(),
        })
    }

    /// Requests the distributions of a text's positions.
    ///
    /// Sends at most `most` requests of one token each.
    ///
    /// # Errors
    /// If a request fails.
    fn score(
        &mut self,
        http: &Http,
        text: &ProbedText,
        request: &Request,
        most: usize,
        sink: Sink<'_>,
    ) -> Result<Scored, AttachError> {
        let _ = (http, text, request, most, sink);
        Ok(Scored::default())
    }
}

/// Events of a server that is watched or probed.
#[derive(Clone, Debug)]
pub enum Event {
    /// Figures since the last reading.
    Interval(Box<Window>),
    /// Figures since the first reading.
    Window(Box<Window>),
    /// Something that the user should know, in one line.
    Notice(String),
    /// A prompt was sent.
    TextStarted {
        /// Name of the prompt.
        id: String,
        /// Number of the request from 0.
        index: usize,
    },
    /// One step of the server.
    Step(Step),
    /// One more request is about to be sent; nothing to show.
    Progress,
    /// B of the server, root included.
    Budget(usize),
    /// Distributions of positions of the last text.
    Scored(Box<Scored>),
    /// The text is complete.
    TextEnded {
        /// Tokens generated, those outside of steps included.
        tokens: usize,
    },
    /// Every request of the plan was answered, or the sink asked to stop.
    Finished,
    /// Nothing more can be had.
    Failed(String),
}
