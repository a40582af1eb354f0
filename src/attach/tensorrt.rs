//! TensorRT-LLM: Prometheus at `/prometheus/metrics` (`tensorrt_llm/metrics/collector.py` at
//! 050f80de).
//!
//! `GET /metrics` gives iteration records instead and removes them for every other reader, so it is
//! never read here; files of such records can be imported.

use super::prometheus::Samples;
use super::{AttachError, Capabilities, Counters, Http, Identity, Server, ServerKind};

/// [`Server`] for TensorRT-LLM: counters only, no probes.
pub struct TensorRtLlm;

impl Server for TensorRtLlm {
    fn engine(&self) -> ServerKind {
        ServerKind::TensorRtLlm
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { scrape: true, probe: false, score: false }
    }

    fn identify(&mut self, http: &Http) -> Result<Identity, AttachError> {
        let models = http.get_json("/v1/models")?;
        let model = models.and_then(|value| value["data"][0]["id"].as_str().map(str::to_owned));
        let answer = http.get("/prometheus/metrics")?;
        if answer.status == 404 {
            let (at, engine) = (http.address().as_str().to_owned(), ServerKind::TensorRtLlm);
            return Err(AttachError::NoCounters {
                at,
                engine,
                why: "set return_perf_metrics: true in its configuration".to_owned(),
            });
        }
        let samples = Samples::parse(&answer.text(), &["trtllm_"]);
        let method = samples.label("trtllm_speculative_config_info", "method").map(str::to_owned);
        let budget = counters(&answer.text()).budget;
        Ok(Identity { model, method, budget, ..Identity::default() })
    }

    fn scrape(&mut self, http: &Http) -> Result<Counters, AttachError> {
        Ok(counters(&http.get_ok("/prometheus/metrics")?.text()))
    }
}

/// Counters in a body of `/prometheus/metrics`.
///
/// Every drafted step drafts a first token, so the drafted tokens at position 0 count the drafted
/// steps.
pub fn counters(text: &str) -> Counters {
    let samples = Samples::parse(text, &["trtllm_"]);
    let drafted_by_depth =
        samples.by_position("trtllm_spec_decode_drafted_tokens", "token_position");
    let accepted_by_depth =
        samples.by_position("trtllm_spec_decode_accepted_tokens", "token_position");
    Counters {
        drafted_steps: drafted_by_depth.first().copied(),
        drafted: samples.sum("trtllm_spec_decode_num_draft_tokens"),
        accepted: samples.sum("trtllm_spec_decode_num_accepted_tokens"),
        budget: (!drafted_by_depth.is_empty()).then(|| drafted_by_depth.len() + 1),
        drafted_by_depth,
        accepted_by_depth,
        running: samples.mean("trtllm_num_requests_running"),
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_of_the_fixture_are_read() {
        let found = counters(include_str!("../../tests/fixtures/attach/trtllm-metrics.txt"));
        let window = found.since(&Counters::default(), 1.0);
        assert_eq!(
            (found.budget, found.drafted_steps, window.accepted_mean),
            (Some(4), Some(200.0), Some(1.33))
        );
        assert_eq!(window.acceptance_by_depth, [0.7, 0.6, 0.5]);
        assert!(!window.depth_is_lower_bound);
    }
}
