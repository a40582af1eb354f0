//! Plan of a probe: the requests, listed before they are sent, and the result of each.

use super::estimate::{ChainMark, Position};
use crate::engine::Prompt;

/// Tokens requested at once: at most, and at least where the total allows.
const REQUEST_TOKENS: std::ops::RangeInclusive<usize> = 32..=256;
/// Requests among which the tokens are divided: intervals need several texts.
const REQUESTS: usize = 16;

/// Settings of a probe.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Prompts, taken in turn.
    pub prompts: Vec<Prompt>,
    /// Maximum number of tokens to generate.
    pub tokens: usize,
    /// Temperature of the text; 0 is greedy.
    pub temperature: f64,
    /// Top-p of the texts, applied after the temperature; 1 keeps all tokens.
    pub top_p: f64,
    /// Seed of the first request; the next ones count up.
    pub seed: u64,
    /// Number of most probable tokens requested for each position.
    pub top: usize,
    /// Number of positions to score, if scoring needs separate requests.
    pub score: usize,
    /// True if prompts are sent without a chat template.
    pub raw: bool,
}

/// One prompt to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the request in the plan, from 0.
    pub index: usize,
    /// Name of the prompt.
    pub id: String,
    /// Text of the prompt, before any chat template.
    pub text: String,
    /// Maximum number of tokens to generate.
    pub max_tokens: usize,
    /// Temperature of the text.
    pub temperature: f64,
    /// Top-p of the text, applied after the temperature; 1 keeps all tokens.
    pub top_p: f64,
    /// Seed of the server's sampler.
    pub seed: u64,
    /// Number of most probable tokens requested for each position.
    pub top: usize,
    /// True if the prompt is sent without a chat template.
    pub raw: bool,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Method and path, as `POST /completion`.
    pub request: &'static str,
    /// Maximum number of such requests.
    pub count: usize,
    /// Maximum number of tokens that each generates.
    pub tokens: usize,
    /// Purpose in a few words.
    pub purpose: &'static str,
}

/// Requests of a probe.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Requests that will be sent, grouped by kind.
    pub kinds: Vec<Planned>,
    /// Prompts in the order in which they are sent.
    pub requests: Vec<Request>,
    /// Maximum number of scoring requests for one text.
    pub score_each: usize,
}

impl Plan {
    /// Returns the prompts of a probe, with its tokens divided among them.
    pub fn prompts(settings: &ProbeSettings) -> Vec<Request> {
        let total = settings.tokens.max(1);
        let each =
            (total / REQUESTS).clamp(*REQUEST_TOKENS.start(), *REQUEST_TOKENS.end()).min(total);
        let requests = total.div_ceil(each);
        let request = |(index, prompt): (usize, &Prompt)| Request {
            index,
            id: prompt.id.clone(),
            text: prompt.text.clone(),
            max_tokens: each.min(total - index * each),
            temperature: settings.temperature,
            top_p: settings.top_p,
            seed: settings.seed.wrapping_add(index as u64),
            top: settings.top,
            raw: settings.raw,
        };
        settings
            .prompts
            .iter()
            .cycle()
            .take(if settings.prompts.is_empty() { 0 } else { requests })
            .enumerate()
            .map(request)
            .collect()
    }

    /// Requests in all, at most.
    pub fn count(&self) -> usize {
        self.kinds.iter().map(|kind| kind.count).sum()
    }

    /// Tokens generated in all, at most.
    pub fn tokens(&self) -> usize {
        self.kinds.iter().map(|kind| kind.count * kind.tokens).sum()
    }
}

/// One step of the server, as it could be known.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the prompt.
    pub prompt_id: String,
    /// Number of the step in its text, from 0.
    pub step: usize,
    /// Index of its first token in the text.
    pub start: usize,
    /// Accepted drafted tokens, bonus token excluded; `None` where unknown.
    pub accepted: Option<usize>,
    /// Drafted tokens, accepted or rejected; `None` where unknown.
    pub drafted: Option<usize>,
    /// Tokens that it emitted.
    pub emitted: usize,
    /// Seconds that it took.
    pub seconds: Option<f64>,
    /// True if it is certain that this was one step.
    pub exact: bool,
}

/// Text of one request.
#[derive(Clone, Debug, Default)]
pub struct ProbedText {
    /// Tokens of the prompt, where known.
    pub prompt: Vec<u32>,
    /// Token ids from the start of the text, up to the first unknown one.
    pub ids: Vec<u32>,
    /// Number of tokens generated; `ids` may hold fewer.
    pub tokens: usize,
    /// Steps; the first token is of none, since the pass over the prompt gives it.
    pub steps: Vec<Step>,
    /// Distributions that came with the text.
    pub positions: Vec<Position>,
    /// Matches of the tokens with the target's most probable ones; `None` where unknown.
    pub matches: Vec<Option<bool>>,
    /// Slot of the server that holds the text in its cache.
    pub slot: Option<u64>,
    /// Notice about missing figures.
    pub notice: Option<String>,
}

/// Returns the oracle-chain marks of the steps whose tokens were all compared.
///
/// Tokens are compared with the target's most probable ones.
///
/// A chain of `limit` most probable tokens is accepted at a step as far as the emitted text goes
/// along with it.
pub(crate) fn chain_marks(
    steps: &[Step],
    matches: &[Option<bool>],
    limit: usize,
) -> Vec<ChainMark> {
    let mark = |step: &Step| {
        let run = |limit: usize| -> Option<usize> {
            let tokens = matches.iter().skip(step.start).take(limit);
            let mut reached = 0;
            for token in tokens {
                match token {
                    Some(true) => reached += 1,
                    Some(false) => return Some(reached),
                    None => return None,
                }
            }
            Some(reached)
        };
        let accepted = step.accepted.filter(|_| step.exact)?;
        let drafted = step.drafted.unwrap_or(limit);
        Some(ChainMark { reached: run(limit)?, at_drafted: run(drafted.min(limit))?, accepted })
    };
    steps.iter().filter_map(mark).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(tokens: usize, prompts: usize) -> ProbeSettings {
        let prompts =
            (0..prompts).map(|i| Prompt { id: i.to_string(), text: "x".into() }).collect();
        ProbeSettings {
            prompts,
            tokens,
            temperature: 1.0,
            top_p: 1.0,
            seed: 5,
            top: 20,
            score: 100,
            raw: false,
        }
    }

    #[test]
    fn tokens_are_divided_among_requests_and_never_exceeded() {
        for (tokens, prompts, want) in
            [(4000, 5, 16), (1, 3, 1), (100, 2, 4), (20_000, 40, 79), (513, 1, 17)]
        {
            let requests = Plan::prompts(&settings(tokens, prompts));
            assert_eq!(requests.len(), want, "{tokens}");
            assert_eq!(requests.iter().map(|request| request.max_tokens).sum::<usize>(), tokens);
            assert!(requests.iter().all(|request| (1..=256).contains(&request.max_tokens)));
            assert_eq!(requests.last().unwrap().id, ((want - 1) % prompts).to_string());
        }
        assert!(Plan::prompts(&settings(100, 0)).is_empty());
    }

    #[test]
    fn chains_reach_as_far_as_the_text_goes_along() {
        let step = |start, accepted, drafted| Step {
            prompt_id: "p".into(),
            step: 0,
            start,
            accepted: Some(accepted),
            drafted: Some(drafted),
            emitted: accepted + 1,
            seconds: None,
            exact: true,
        };
        let matches = [true, true, true, false, true, true].map(Some);
        let steps = [step(1, 1, 1), step(3, 0, 2), step(4, 1, 3)];
        let marks = chain_marks(&steps, &matches, 3);
        let reached: Vec<(usize, usize)> =
            marks.iter().map(|mark| (mark.reached, mark.at_drafted)).collect();
        assert_eq!(reached, [(2, 1), (0, 0), (2, 2)]);
        assert!(
            chain_marks(&steps, &[Some(true), None], 3).len() < 3,
            "what was not compared gives no mark"
        );
    }
}
