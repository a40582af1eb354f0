//! Suffix automaton that grows token by token and counts the followers of each context. Blumer et
//! al., "The smallest automaton recognizing the subwords of a text", 1985, section 2; extended to
//! several texts as in its generalized form.

use crate::tree::TokenId;

/// Length in tokens up to which repeated contexts are distinguished. It bounds the cost of a token:
/// a text that repeats one token forever would otherwise have as many contexts as tokens.
const LONGEST: u32 = 256;
/// Marker for a missing state.
const NONE: u32 = u32::MAX;
/// State of the empty context.
pub const ROOT: u32 = 0;

/// Transition of a state to the contexts extended by one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub token: TokenId,
    /// Number of times that the token followed.
    pub count: u32,
    /// State of the contexts with this token appended.
    to: u32,
}

/// Set of contexts that end at the same positions of the texts. The longest one has `len` tokens;
/// the others are its suffixes that are longer than the contexts of `link`.
#[derive(Clone, Debug)]
struct State {
    len: u32,
    link: u32,
    /// Sum of the counts of all edges.
    total: u32,
    /// Outgoing transitions, sorted by token.
    edges: Vec<Edge>,
}

/// Longest known context that ends at some position of a text or a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    state: u32,
    /// Length of the context, in tokens.
    pub len: u32,
}

/// Followers of one context, to be interpolated with those of shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Followers<'a> {
    /// Length of the context in tokens, from 1.
    pub len: u32,
    /// Number of times that any token followed.
    pub total: u32,
    /// Followers, sorted by token.
    pub edges: &'a [Edge],
}

impl Followers<'_> {
    /// Returns the number of times that `token` followed.
    pub fn count(&self, token: TokenId) -> u32 {
        self.edges
            .binary_search_by_key(&token, |edge| edge.token)
            .map_or(0, |at| self.edges[at].count)
    }
}

/// Suffix automaton of all texts so far. The last text can grow.
#[derive(Clone, Debug)]
pub struct Automaton {
    states: Vec<State>,
    /// State of the end of the last text.
    last: u32,
}

impl Default for Automaton {
    fn default() -> Self {
        let root = State { len: 0, link: NONE, total: 0, edges: Vec::new() };
        Self { states: vec![root], last: ROOT }
    }
}

impl Automaton {
    /// Begins a new, empty text.
    pub fn begin(&mut self) {
        self.last = ROOT;
    }

    /// Appends `token` to the text. Takes one step for each state on the suffix links from the end
    /// of the text, which are usually few.
    pub fn push(&mut self, token: TokenId) {
        let last = self.last;
        let cur = match self.edge(last, token) {
            // The edge exists if another text, or this one before it was cut short, continued in
            // this way.
            Some(_) => self.exact(last, token),
            None => {
                let cur = self.add(State {
                    len: self.len(last) + 1,
                    link: ROOT,
                    total: 0,
                    edges: Vec::new(),
                });
                let mut at = last;
                while at != NONE && self.edge(at, token).is_none() {
                    let edges = &mut self.states[at as usize].edges;
                    let place = edges.partition_point(|edge| edge.token < token);
                    edges.insert(place, Edge { token, count: 0, to: cur });
                    at = self.link(at);
                }
                if at != NONE {
                    self.states[cur as usize].link = self.exact(at, token);
                }
                cur
            }
        };
        let mut at = last;
        while at != NONE {
            if let Some(place) = self.edge(at, token) {
                let state = &mut self.states[at as usize];
                state.edges[place].count += 1;
                state.total += 1;
            }
            at = self.link(at);
        }
        self.last = cur;
        // A match longer than `LONGEST` is cut: the tokens before it add no information.
        while self.link(self.last) != NONE && self.len(self.link(self.last)) > LONGEST {
            self.last = self.link(self.last);
        }
    }

    /// Returns the state whose longest context is that of `at` followed by `token`. The state is
    /// split off if it is part of a larger one.
    fn exact(&mut self, at: u32, token: TokenId) -> u32 {
        let Some(place) = self.edge(at, token) else { return ROOT };
        let whole = self.states[at as usize].edges[place].to;
        let len = self.len(at) + 1;
        if self.len(whole) == len {
            return whole;
        }
        // The shorter contexts of that state now have one more end position than the longer ones,
        // so the state is split.
        let part = self.add(State { len, ..self.states[whole as usize].clone() });
        self.states[whole as usize].link = part;
        let mut at = at;
        while at != NONE {
            match self.edge(at, token) {
                Some(place) if self.states[at as usize].edges[place].to == whole => {
                    self.states[at as usize].edges[place].to = part;
                }
                _ => break,
            }
            at = self.link(at);
        }
        part
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        // More than 2^32 states would take hundreds of GB of memory.
        (self.states.len() - 1) as u32
    }

    fn len(&self, state: u32) -> u32 {
        self.states[state as usize].len
    }

    fn link(&self, state: u32) -> u32 {
        self.states[state as usize].link
    }

    fn edge(&self, state: u32, token: TokenId) -> Option<usize> {
        self.states[state as usize].edges.binary_search_by_key(&token, |edge| edge.token).ok()
    }

    /// Returns the context at the end of the last text.
    pub fn end(&self) -> Match {
        Match { state: self.last, len: self.len(self.last) }
    }

    /// Extends a context by `token`, and shortens it from the left until it is known.
    pub fn follow(&self, before: Match, token: TokenId) -> Match {
        let Match { mut state, mut len } = before;
        loop {
            if let Some(place) = self.edge(state, token) {
                return Match { state: self.states[state as usize].edges[place].to, len: len + 1 };
            }
            state = self.link(state);
            if state == NONE {
                return Match { state: ROOT, len: 0 };
            }
            len = self.len(state);
        }
    }

    /// Returns the followers of the contexts at `end`, the longest first. Contexts with the same
    /// followers appear once, and contexts without followers or tokens are skipped.
    pub fn contexts(&self, end: Match) -> impl Iterator<Item = Followers<'_>> {
        let mut next = Some(end).filter(|end| end.state != ROOT);
        std::iter::from_fn(move || {
            let Match { state, len } = next?;
            let link = self.link(state);
            next =
                (link != ROOT && link != NONE).then(|| Match { state: link, len: self.len(link) });
            let state = &self.states[state as usize];
            Some(Followers { len, total: state.total, edges: &state.edges })
        })
        .filter(|followers| followers.total > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Followers of `context` in `texts`, counted directly.
    fn counted(texts: &[Vec<TokenId>], context: &[TokenId]) -> BTreeMap<TokenId, u32> {
        let mut found = BTreeMap::new();
        for text in texts {
            for window in text.windows(context.len() + 1).filter(|w| w.starts_with(context)) {
                *found.entry(window[context.len()]).or_default() += 1;
            }
        }
        found
    }

    fn of(texts: &[Vec<TokenId>]) -> Automaton {
        let mut automaton = Automaton::default();
        for text in texts {
            automaton.begin();
            text.iter().for_each(|&token| automaton.push(token));
        }
        automaton
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_texts(
            texts in prop::collection::vec(prop::collection::vec(0u32..3, 0..40), 1..4), more in prop::collection::vec(0u32..4, 0..8)
        ) {
            let automaton = of(&texts);
            // Contexts at the end of the last text, and then extended by tokens that are not in it.
            let mut context = texts[texts.len() - 1].clone();
            let mut end = automaton.end();
            for token in std::iter::once(None).chain(more.into_iter().map(Some)) {
                if let Some(token) = token {
                    context.push(token);
                    end = automaton.follow(end, token);
                }
                let contexts: Vec<Followers> = automaton.contexts(end).collect();
                prop_assert!(contexts.is_sorted_by(|a, b| a.len > b.len));
                for n in 1..=context.len() {
                    let want = counted(&texts, &context[context.len() - n..]);
                    // A context of n tokens is represented by the shortest listed one with at least
                    // n tokens.
                    let got = contexts.iter().rev().find(|f| f.len as usize >= n);
                    let got: BTreeMap<TokenId, u32> = got.map_or_else(BTreeMap::new, |f| f.edges.iter().map(|e| (e.token, e.count)).collect());
                    prop_assert_eq!(got, want, "context {:?}", &context[context.len() - n..]);
                }
                for f in &contexts {
                    prop_assert_eq!(f.total, f.edges.iter().map(|e| e.count).sum::<u32>());
                    prop_assert_eq!((f.count(f.edges[0].token), f.count(99)), (f.edges[0].count, 0));
                }
            }
            let tokens: usize = texts.iter().map(Vec::len).sum();
            prop_assert!(automaton.states.len() <= 2 * tokens + 1);
        }
    }

    #[test]
    fn repeated_token_has_bounded_cost() {
        let automaton = of(&[vec![7; 3000]]);
        let contexts: Vec<Followers> = automaton.contexts(automaton.end()).collect();
        assert!(
            contexts.len() <= LONGEST as usize + 2
                && automaton.states.len() <= LONGEST as usize + 4,
            "{}",
            contexts.len()
        );
        assert!(contexts.iter().all(|f| f.edges.len() == 1));
        // Counts of short contexts are exact.
        assert_eq!(contexts[contexts.len() - 1].total, 2999);
    }
}
