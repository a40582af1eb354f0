//! Steps from chunks of a stream: chunks that carry all tokens of a step (vLLM, SGLang).

use super::plan::Step;

/// Chunks of one text, as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    /// Tokens and arrival time (seconds since the request) of each chunk that held tokens.
    pub sizes: Vec<(usize, f64)>,
}

/// Proof about the steps of a text that an engine gives besides its chunks.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    /// Verify passes; the one over the prompt is not among them.
    pub passes: Option<usize>,
    /// Accepted tokens in all.
    pub accepted: Option<usize>,
    /// Accepted and drafted tokens of each drafted step, in their order.
    pub by_step: Option<Vec<(usize, usize)>>,
}

impl Chunks {
    pub fn add(&mut self, tokens: usize, seconds: f64) {
        if tokens > 0 {
            self.sizes.push((tokens, seconds));
        }
    }

    pub fn tokens(&self) -> usize {
        self.sizes.iter().map(|(tokens, _)| tokens).sum()
    }

    /// Returns the steps of the text.
    ///
    /// Accepted lengths by step are used where the proof has them. Otherwise each chunk after the
    /// first is a step, which is exact if the proof counts as many passes.
    ///
    /// `drafted` is the number of tokens that each step drafts, if it is fixed. `budget` is B, if
    /// known: a longer chunk certainly holds two steps.
    pub fn steps(
        &self,
        prompt_id: &str,
        proof: &Proof,
        drafted: Option<usize>,
        budget: Option<usize>,
    ) -> Vec<Step> {
        let total = self.tokens();
        let step = |step, start, accepted, drafted, emitted, seconds, exact| Step {
            prompt_id: prompt_id.to_owned(),
            step,
            start,
            accepted,
            drafted,
            emitted,
            seconds,
            exact,
        };
        // The first chunk holds the token that the pass over the prompt gives; what it holds
        // besides was merged into it.
        let later = &self.sizes[self.sizes.len().min(1)..];
        let merged_first = self.sizes.first().is_some_and(|(tokens, _)| *tokens > 1);
        let whole = proof.passes.is_none_or(|passes| passes == later.len()) && !merged_first;
        let gap = |i: usize| (self.sizes[i + 1].1 - self.sizes[i].1).max(0.0);
        if let Some(by_step) = &proof.by_step {
            let emitted: usize = by_step.iter().map(|(accepted, _)| accepted + 1).sum();
            let undrafted = (total.saturating_sub(1)).saturating_sub(emitted);
            // Without a step that drafted nothing the order is known, and with as many chunks their
            // times.
            let timed = whole && undrafted == 0 && by_step.len() == later.len();
            let mut start = total.min(1);
            let mut steps = Vec::new();
            for (i, &(accepted, drafted)) in by_step.iter().enumerate() {
                let emitted = (accepted + 1).min(total.saturating_sub(start));
                let seconds = timed.then(|| gap(i));
                steps.push(step(i, start, Some(accepted), Some(drafted), emitted, seconds, true));
                start += emitted;
            }
            // Steps without a draft emit one token each; their places are not reported.
            for i in 0..undrafted {
                steps.push(step(by_step.len() + i, start, Some(0), Some(0), 1, None, true));
                start += 1;
            }
            return if undrafted == 0 { steps } else { placed(steps, later, by_step.len()) };
        }
        let proven = proof.passes.is_some() || proof.accepted.is_some();
        let accepted: usize = later.iter().map(|(tokens, _)| tokens - 1).sum();
        // The last step may have accepted more than was emitted.
        let fits = proof.accepted.is_none_or(|reported| {
            accepted <= reported && reported <= accepted + budget.unwrap_or(1).saturating_sub(1)
        });
        let short = budget.is_none_or(|budget| later.iter().all(|(tokens, _)| *tokens <= budget));
        let exact = proven && whole && fits && short;
        let mut start = self.sizes.first().map_or(0, |(tokens, _)| *tokens);
        let mut steps = Vec::new();
        for (i, &(tokens, _)) in later.iter().enumerate() {
            // A last step that was cut accepted more than is seen, if the totals say so.
            let missing = proof
                .accepted
                .filter(|_| exact && i + 1 == later.len())
                .map_or(0, |reported| reported - accepted);
            let seconds = whole.then(|| gap(i));
            steps.push(step(i, start, Some(tokens - 1 + missing), drafted, tokens, seconds, exact));
            start += tokens;
        }
        steps
    }
}

/// Inserts the steps without a draft among the drafted ones, by chunk lengths.
///
/// A chunk of several tokens is the next drafted step. Returns the steps unchanged if the chunks do
/// not fit, and then no step is compared with the text.
fn placed(steps: Vec<Step>, chunks: &[(usize, f64)], drafted: usize) -> Vec<Step> {
    let (with, without) = steps.split_at(drafted);
    if chunks.len() != steps.len() {
        return steps;
    }
    let (mut with, mut without) = (with.iter().peekable(), without.iter());
    let mut start = 1;
    let mut all = Vec::new();
    for (i, &(tokens, _)) in chunks.iter().enumerate() {
        let next = match with.peek() {
            Some(step) if step.emitted == tokens && (tokens > 1 || without.len() == 0) => {
                with.next()
            }
            _ if tokens == 1 && without.len() > 0 => without.next(),
            _ => with.next(),
        };
        let Some(next) = next.filter(|next| next.emitted == tokens) else { return steps };
        all.push(Step { step: i, start, ..next.clone() });
        start += tokens;
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chunks(sizes: &[usize]) -> Chunks {
        Chunks { sizes: sizes.iter().enumerate().map(|(i, &tokens)| (tokens, i as f64)).collect() }
    }

    #[test]
    fn chunks_are_steps_where_the_passes_agree() {
        let proof = Proof { passes: Some(3), ..Proof::default() };
        let steps = chunks(&[1, 3, 1, 4]).steps("p", &proof, Some(3), Some(4));
        let seen: Vec<_> =
            steps.iter().map(|s| (s.start, s.accepted.unwrap(), s.emitted, s.exact)).collect();
        assert_eq!(seen, [(1, 2, 3, true), (4, 0, 1, true), (5, 3, 4, true)]);
        assert_eq!(steps[1].seconds, Some(1.0));
    }

    #[test]
    fn merged_chunks_are_not_taken_for_steps() {
        let proof = |passes| Proof { passes: Some(passes), ..Proof::default() };
        let exact = |sizes: &[usize], passes, budget| {
            let steps = chunks(sizes).steps("p", &proof(passes), None, budget);
            steps.iter().all(|step| step.exact && step.seconds.is_some())
        };
        assert!(exact(&[1, 3, 2], 2, Some(4)));
        assert!(!exact(&[1, 3, 2], 3, Some(4)), "a pass more than chunks");
        assert!(!exact(&[1, 7, 2], 2, Some(4)), "a chunk longer than B");
        assert!(!exact(&[2, 3, 2], 2, Some(4)), "the first chunk has a step in it");
        let unproven = chunks(&[1, 3]).steps("p", &Proof::default(), None, Some(4));
        assert!(!unproven[0].exact);
    }

    #[test]
    fn accepted_lengths_by_step_go_before_chunks() {
        let proof = Proof { by_step: Some(vec![(2, 3), (0, 3), (3, 3)]), ..Proof::default() };
        // A slow reader: chunks were merged, and the steps are exact all the same, without times.
        let steps = chunks(&[1, 4, 4]).steps("p", &proof, None, Some(4));
        let seen: Vec<_> = steps
            .iter()
            .map(|s| (s.start, s.accepted.unwrap(), s.drafted.unwrap(), s.emitted))
            .collect();
        assert_eq!(seen, [(1, 2, 3, 3), (4, 0, 3, 1), (5, 3, 3, 4)]);
        assert!(steps.iter().all(|step| step.exact && step.seconds.is_none()));
        let timed = chunks(&[1, 3, 1, 4]).steps("p", &proof, None, Some(4));
        assert!(timed.iter().all(|step| step.seconds == Some(1.0)));
    }

    #[test]
    fn a_last_step_that_was_cut_emits_less_than_it_accepted() {
        let proof = Proof { by_step: Some(vec![(2, 3), (3, 3)]), ..Proof::default() };
        let steps = chunks(&[1, 3, 2]).steps("p", &proof, None, Some(4));
        assert_eq!((steps[1].accepted, steps[1].emitted), (Some(3), 2));
        let proof = Proof { passes: Some(2), accepted: Some(5), ..Proof::default() };
        let steps = chunks(&[1, 3, 2]).steps("p", &proof, None, Some(4));
        assert_eq!((steps[1].accepted, steps[1].emitted, steps[1].exact), (Some(3), 2, true));
    }

    #[test]
    fn steps_without_a_draft_find_their_places() {
        let proof = Proof { by_step: Some(vec![(2, 3), (1, 3)]), ..Proof::default() };
        let steps = chunks(&[1, 1, 3, 1, 2]).steps("p", &proof, None, Some(4));
        let seen: Vec<_> = steps.iter().map(|s| (s.start, s.drafted.unwrap(), s.emitted)).collect();
        assert_eq!(seen, [(1, 0, 1), (2, 3, 3), (5, 0, 1), (6, 3, 2)]);
    }
}
