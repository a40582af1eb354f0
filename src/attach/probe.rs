//! Probe of a server: sends the requests of a plan and reports what each answer gives.

use super::estimate::Scored;
use super::plan::chain_marks;
use super::{AttachError, Event, Http, Plan, Server};

/// Sends the requests of a plan in turn, until `sink` returns false.
///
/// # Errors
/// If a request fails; a failure that may pass is repeated for no request, since what was announced
/// would be exceeded.
pub fn run(
    server: &mut dyn Server,
    http: &Http,
    plan: &Plan,
    sink: &mut dyn FnMut(Event) -> bool,
) -> Result<(), AttachError> {
    for request in &plan.requests {
        if !sink(Event::TextStarted { id: request.id.clone(), index: request.index }) {
            return Ok(());
        }
        let Some(mut text) = server.probe(http, request, sink)? else { return Ok(()) };
        if text.tokens == 0 {
            sink(Event::Notice(format!("prompt {}: the server wrote nothing", request.id)));
        }
        if let Some(notice) = text.notice.take() {
            sink(Event::Notice(notice));
        }
        let scored = if server.capabilities().score && plan.score_each > 0 {
            server.score(http, &text, request, plan.score_each, sink)?
        } else {
            let longest = text.steps.iter().filter_map(|step| step.drafted).max().unwrap_or(0);
            let limit = server.budget().map_or(longest, |budget| budget - 1);
            let chains = if request.temperature > 0.0 {
                chain_marks(&text.steps, &text.matches, limit)
            } else {
                Vec::new()
            };
            Scored { chains, positions: std::mem::take(&mut text.positions) }
        };
        if let Some(budget) = server.budget() {
            sink(Event::Budget(budget));
        }
        if !sink(Event::Scored(Box::new(scored))) || !sink(Event::TextEnded { tokens: text.tokens })
        {
            return Ok(());
        }
    }
    sink(Event::Finished);
    Ok(())
}
