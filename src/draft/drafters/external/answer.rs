//! Parsing and validation of the answers of an external drafter (docs/external.md).

use serde::Deserialize;

use crate::draft::Limits;
use crate::tree::{TokenId, TokenTree};

/// Tolerance for rounding in the sum of the q of one node's children.
const ROUNDING: f64 = 1e-6;

#[derive(Debug, Deserialize)]
struct Answer {
    step: usize,
    tree: Tree,
}

#[derive(Debug, Deserialize)]
struct Tree {
    parents: Vec<usize>,
    tokens: Vec<TokenId>,
    q: Vec<f64>,
}

/// Parses an answer into its step number and its tree below `root`.
///
/// The inner result is an error if the tree is invalid.
///
/// # Errors
/// If the line can't be parsed, and the step is therefore unknown.
pub fn parse_answer(
    line: &str,
    root: TokenId,
    limits: Limits,
    vocabulary: usize,
    stop: &[TokenId],
) -> Result<(usize, Result<TokenTree, String>), String> {
    let answer: Answer = serde_json::from_str(line)
        .map_err(|why| format!("the answer is not as docs/external.md says: {why}"))?;
    Ok((answer.step, check(&answer.tree, root, limits, vocabulary, stop)))
}

fn check(
    tree: &Tree,
    root: TokenId,
    limits: Limits,
    vocabulary: usize,
    stop: &[TokenId],
) -> Result<TokenTree, String> {
    let Tree { parents, tokens, q } = tree;
    let (nodes, most) = (tokens.len(), limits.budget.saturating_sub(1));
    if parents.len() != nodes || q.len() != nodes {
        return Err(format!(
            "{} parents, {nodes} tokens, {} q: give one of each for a node",
            parents.len(),
            q.len()
        ));
    }
    if nodes > most {
        return Err(format!("{nodes} nodes: the budget leaves room for {most}"));
    }
    let mut grown = TokenTree::new(root);
    let mut unassigned = vec![1.0 + ROUNDING; nodes + 1];
    for (i, ((&parent, &token), &q)) in (1..).zip(parents.iter().zip(tokens).zip(q)) {
        if parent >= i {
            return Err(format!(
                "node {i} hangs under {parent}: a parent comes before its children, the root is 0"
            ));
        }
        if token as usize >= vocabulary {
            return Err(format!(
                "node {i} is token {token}: the vocabulary ends at {}",
                vocabulary.saturating_sub(1)
            ));
        }
        if stop.contains(&token) {
            return Err(format!(
                "node {i} is token {token}, which ends a text: nothing can follow it"
            ));
        }
        if !(q > 0.0 && q <= 1.0) {
            return Err(format!("node {i} has q {q}: give a probability above 0, up to 1"));
        }
        unassigned[parent] -= q;
        if unassigned[parent] < 0.0 {
            return Err(format!("the children of node {parent} have q of more than 1 together"));
        }
        if grown.child(parent, token).is_some() {
            return Err(format!("node {i}: node {parent} has a child with token {token} already"));
        }
        if grown.depth(parent) >= limits.depth {
            return Err(format!(
                "node {i} is {} deep: the step goes down to {}",
                grown.depth(parent) + 1,
                limits.depth
            ));
        }
        grown.push(parent, token, q);
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits { budget: 5, depth: 2 };

    fn of(parents: &str, tokens: &str, q: &str) -> Result<TokenTree, String> {
        let line = format!(
            r#"{{"step":3,"tree":{{"parents":[{parents}],"tokens":[{tokens}],"q":[{q}]}}}}"#
        );
        let (step, tree) = parse_answer(&line, 7, LIMITS, 10, &[9])?;
        assert_eq!(step, 3);
        tree
    }

    #[test]
    fn valid_answer_is_parsed() {
        let tree = of("0,0,1", "1,2,3", "0.5,0.5,1").unwrap();
        assert_eq!((tree.tokens(), tree.parent(3), tree.q(3)), (&[7, 1, 2, 3][..], Some(1), 1.0));
        assert_eq!(of("", "", "").unwrap().drafted(), 0);
    }

    #[test]
    fn invalid_answer_names_the_error() {
        for (parents, tokens, q, says) in [
            ("0", "1,2", "0.5", "1 parents, 2 tokens, 1 q"),
            (
                "0,0,0,0,0",
                "1,2,3,4,5",
                "0.1,0.1,0.1,0.1,0.1",
                "5 nodes: the budget leaves room for 4",
            ),
            ("1", "1", "0.5", "node 1 hangs under 1"),
            ("0", "10", "0.5", "node 1 is token 10: the vocabulary ends at 9"),
            ("0", "9", "0.5", "ends a text"),
            ("0", "1", "0", "node 1 has q 0"),
            ("0", "1", "1.5", "node 1 has q 1.5"),
            ("0,0", "1,2", "0.6,0.5", "the children of node 0 have q of more than 1"),
            ("0,0", "1,1", "0.1,0.1", "node 0 has a child with token 1 already"),
            ("0,1,2", "1,1,1", "1,1,1", "node 3 is 3 deep: the step goes down to 2"),
            ("-1", "1", "1", "not as docs/external.md says"),
            ("0", "1", "\"a\"", "not as docs/external.md says"),
        ] {
            let said = of(parents, tokens, q).unwrap_err();
            assert!(said.contains(says), "{said} for {says}");
        }
        assert!(
            parse_answer("nonsense", 0, LIMITS, 10, &[]).is_err()
                && parse_answer("", 0, LIMITS, 10, &[]).is_err()
        );
    }
}
