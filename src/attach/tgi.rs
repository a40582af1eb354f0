//! text-generation-inference: the histogram of tokens per step (`backends/v3/src/backend.rs` at
//! db931fcf).
//!
//! `tgi_request_skipped_tokens` holds, once per request and step, the tokens of one output less
//! one: the accepted length itself. Its sum over its count is exact; the shape is not, since the
//! server leaves its buckets out.

use super::prometheus::Samples;
use super::{AttachError, Capabilities, Counters, Http, Identity, Server, ServerKind};

/// [`Server`] for text-generation-inference: counters only, no probes.
pub struct Tgi;

impl Server for Tgi {
    fn engine(&self) -> ServerKind {
        ServerKind::Tgi
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
    let samples = Samples::parse(text, &["tgi_"]);
    let (accepted, steps) = (
        samples.sum("tgi_request_skipped_tokens_sum"),
        samples.sum("tgi_request_skipped_tokens_count"),
    );
    Counters {
        accepted,
        steps,
        step_tokens: accepted.zip(steps).map(|(accepted, steps)| accepted + steps),
        tokens: samples.sum("tgi_request_generated_tokens_sum"),
        running: samples.mean("tgi_batch_current_size"),
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_of_the_fixture_are_read() {
        let found = counters(include_str!("../../tests/fixtures/attach/tgi-metrics.txt"));
        let window = found.since(&Counters::default(), 1.0);
        assert_eq!(
            (found.accepted, found.steps, window.accepted_mean),
            (Some(900.0), Some(600.0), None)
        );
        assert!((window.tokens_per_step.unwrap() - 2.5).abs() < 1e-12);
    }
}
