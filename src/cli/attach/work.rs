//! Work with a server: probe it or watch it.

use std::time::Duration;

use super::options::AttachOptions;
use crate::attach::{self, AttachError, Event, Plan, ProbeSettings};
use crate::cli::errors::add_attach_fix;
use crate::engine::Prompt;

/// Work to do with a server.
pub(super) struct Work {
    /// Requests of a probe; `None` where the server is watched.
    pub plan: Option<Plan>,
    every: Duration,
    most: Option<Duration>,
}

impl Work {
    pub fn new(
        options: &AttachOptions,
        target: &attach::Target,
        prompts: Vec<Prompt>,
    ) -> anyhow::Result<Work> {
        let settings = ProbeSettings {
            prompts,
            tokens: options.tokens,
            temperature: options.temperature,
            seed: options.seed,
            top: options.top,
            score: options.score,
            raw: options.raw,
        };
        let plan = options
            .probe
            .then(|| target.server.plan(&settings))
            .transpose()
            .map_err(add_attach_fix)?;
        let most = options.seconds.map(Duration::from_secs_f64);
        Ok(Work { plan, every: Duration::from_secs_f64(options.every), most })
    }
}

/// Watches or probes until it is done or `sink` says false.
pub(super) fn work(
    mut target: attach::Target,
    job: &Work,
    sink: &mut dyn FnMut(Event) -> bool,
) -> Result<(), AttachError> {
    match &job.plan {
        Some(plan) => attach::probe::run(&mut *target.server, &target.http, plan, sink),
        None => attach::watch::run(&mut *target.server, &target.http, job.every, job.most, sink),
    }
}
