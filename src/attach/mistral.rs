//! mistral.rs: counters by position at `/metrics` (`mistralrs-core/src/engine`, 0.9.2 at 9e922623).

use super::prometheus::Samples;
use super::{AttachError, Capabilities, Counters, Http, Identity, Server, ServerKind};

/// [`Server`] for mistral.rs: counters only, no probes.
pub struct MistralRs;

impl Server for MistralRs {
    fn engine(&self) -> ServerKind {
        ServerKind::MistralRs
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: true, probe: false, score: false }
    }

    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError> {
        let models = http.get_json("/v1/models")?;
        let model = models.and_then(|value| value["data"][0]["id"].as_str().map(str::to_owned));
        Ok(Identity { model, ..Identity::default() })
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        Ok(counters(&http.get_ok("/metrics")?.text()))
    }
}

/// Counters in a body of `/metrics`.
pub fn counters(text: &str) -> Counters {
    let samples = Samples::parse(text, &["mistralrs_"]);
    Counters {
        drafted_steps: samples.sum("mistralrs_speculative_drafts"),
        drafted: samples.sum("mistralrs_speculative_draft_tokens_proposed"),
        accepted: samples.sum("mistralrs_speculative_draft_tokens_accepted"),
        accepted_by_depth: samples
            .by_position("mistralrs_speculative_draft_tokens_accepted_per_pos", "position"),
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_fixture_are_read() {
        let found = counters(include_str!("../../tests/fixtures/attach/mistralrs-metrics.txt"));
        assert_eq!(
            (found.drafted_steps, found.drafted, found.accepted),
            (Some(820.0), Some(2460.0), Some(1722.0))
        );
        assert_eq!(found.accepted_by_depth, [738.0, 574.0, 410.0]);
    }
}
