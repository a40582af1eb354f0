//! Work with a server: probe it or watch it.

use std::path::PathBuf;
use std::time::Duration;

use super::options::AttachOptions;
use crate::attach::earlier;
use crate::attach::{
    self, Address, AttachError, Event, Identity, Plan, ProbeSettings, ServerKind, Summary,
};
use crate::cli::errors::{add_attach_fix, warn};

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
        settings: &ProbeSettings,
    ) -> anyhow::Result<Work> {
        let plan = options
            .probe
            .then(|| target.server.plan(settings))
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

/// Keeps the figures of a probe for later runs.
pub(super) struct Keeper {
    /// `None` where there is nothing to keep, or no folder for it.
    cache: Option<PathBuf>,
    address: Address,
    engine: ServerKind,
    identity: Identity,
    temperature: f64,
    top_p: f64,
}

impl Keeper {
    pub fn new(options: &AttachOptions, target: &attach::Target, cache: Option<PathBuf>) -> Keeper {
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
    pub fn keep(&self, summary: &Summary) {
        let Some(cache) = &self.cache else { return };
        let Some(probe) = summary.to_earlier_probe(self.temperature, self.top_p) else { return };
        let kept = earlier::keep(cache, &self.address, self.engine, &self.identity, &probe);
        if let Err(error) = kept {
            let folder = cache.display();
            warn(&format!("{folder}: the probe can't be kept for later runs: {error}"));
        }
    }
}
