//! Engines that report no figures of speculative decoding, with the reason in one line each.

use super::{AttachError, Capabilities, Counters, Http, Identity, Server, ServerKind};

/// Server of an engine without figures.
pub(super) struct Silent(pub ServerKind);

impl Server for Silent {
    fn engine(&self) -> ServerKind {
        self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: false, probe: false, score: false }
    }

    fn identify(&mut self, _: &Http) -> Result<Identity, AttachError> {
        let why = match self.0 {
            ServerKind::Ollama => {
                "it passes on none of its llama-server's draft counts, neither as counters nor with an answer; attach to the port of \
                 that llama-server instead, which listens on 127.0.0.1"
            }
            ServerKind::LmStudio => {
                "it has no counters, and its answers count accepted drafted tokens without the number of steps, so that accepted tokens \
                 per step can't be formed"
            }
            _ => "it has no counters, and its answers don't say which tokens were drafted",
        };
        Err(AttachError::Unsupported { engine: self.0, why: why.to_owned() })
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        self.identify(http).map(|_| Counters::default())
    }
}
