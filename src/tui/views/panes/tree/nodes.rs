//! Nodes of a step's tree as the pictures show them, with what was not drafted.

use super::super::greedy;
use crate::telemetry::{OracleTree, StepRecord};
use crate::tui::Step;
use crate::tui::theme::{Glyphs, Role};

/// Tree that a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Verified tree, with the missing nodes of the oracle tree.
    Drafter,
    /// Oracle tree on its own.
    Oracle,
}

/// Outcome of a node in verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOutcome {
    Root,
    Accepted,
    /// Node whose parent was reached, but the target chose another token.
    Rejected,
    /// Node whose parent was not reached.
    Unreached,
    /// Drafted, but cut by the budget.
    Cut,
    /// Token that the target added.
    Bonus,
    /// Node of the oracle tree that was not drafted.
    Oracle,
}

impl NodeOutcome {
    /// Returns the mark before the token, and the role of both.
    pub fn style(self, glyphs: &Glyphs) -> (&'static str, Role) {
        match self {
            NodeOutcome::Root => (glyphs.root, Role::NodeRoot),
            NodeOutcome::Accepted => (glyphs.accepted, Role::NodeAccepted),
            NodeOutcome::Rejected => (glyphs.refused, Role::NodeRefused),
            NodeOutcome::Unreached => (glyphs.unreached, Role::NodeUnreached),
            NodeOutcome::Cut => (glyphs.cut, Role::NodeUnreached),
            NodeOutcome::Bonus => (glyphs.bonus, Role::NodeBonus),
            NodeOutcome::Oracle => (glyphs.oracle, Role::NodeOracle),
        }
    }

    /// Returns the role of the node's block in the icicle.
    pub fn block(self) -> Role {
        match self {
            NodeOutcome::Root | NodeOutcome::Unreached | NodeOutcome::Cut => Role::BlockUnreached,
            NodeOutcome::Accepted => Role::BlockAccepted,
            NodeOutcome::Rejected => Role::BlockRejected,
            NodeOutcome::Bonus => Role::BlockBonus,
            NodeOutcome::Oracle => Role::BlockOracle,
        }
    }

    /// Returns `true` for the accepted path and the bonus token.
    pub fn emitted(self) -> bool {
        matches!(self, NodeOutcome::Accepted | NodeOutcome::Bonus)
    }

    /// Returns `true` for nodes that were verified.
    pub fn verified(self) -> bool {
        matches!(
            self,
            NodeOutcome::Root
                | NodeOutcome::Accepted
                | NodeOutcome::Rejected
                | NodeOutcome::Unreached
        )
    }
}

/// Node of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureNode<'a> {
    /// Parent, at a smaller index; `None` for the root.
    pub parent: Option<usize>,
    /// Depth, from 0 for the root.
    pub depth: usize,
    /// Probability after the parent; `None` where the target was not run.
    pub p: Option<f64>,
    /// Drafter's probability after the parent; `None` if it did not propose the token.
    pub q: Option<f64>,
    /// Path probability; 0 where `p` is unknown.
    pub pi: f64,
    /// Text of the token.
    pub text: &'a str,
    /// Outcome of the node in verification.
    pub outcome: NodeOutcome,
    /// Set for nodes of the oracle tree.
    pub in_oracle: bool,
}

/// Nodes of a step: those of its tree, cut ones, the bonus token, the oracle's.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture<'a> {
    /// Nodes with parents before children; the root first. Never empty.
    pub nodes: Vec<PictureNode<'a>>,
    /// Children of each node.
    ///
    /// Drafted ones by falling p, then the bonus token, those of the oracle tree, and cut ones.
    pub children: Vec<Vec<usize>>,
    /// Set if p is that of temperature 1, since decoding is greedy.
    pub plain: bool,
    /// Index of the bonus token, if it is in the picture.
    pub bonus: Option<usize>,
}

impl<'a> Picture<'a> {
    /// Builds the picture of a step. The oracle's tree is included where it was searched and says
    /// something: not for sampled trees, and not when greedy, where it is the text that follows.
    pub fn new(step: &'a Step, shown: Shown) -> Picture<'a> {
        let oracle = step
            .oracle
            .as_deref()
            .filter(|_| !step.record.settings.samples_trees() && !greedy(&step.record));
        let all = Self::of(&step.record, oracle);
        match shown {
            Shown::Drafter => all,
            Shown::Oracle => all.restricted(|node| node.in_oracle),
        }
    }

    /// Returns the picture without the nodes that `keep` rejects.
    ///
    /// Descendants of these nodes are left out, too.
    pub fn restricted(self, keep: impl Fn(&PictureNode) -> bool) -> Picture<'a> {
        let mut places: Vec<Option<usize>> = Vec::with_capacity(self.nodes.len());
        let mut nodes = Vec::new();
        for node in &self.nodes {
            let parent = node.parent.and_then(|parent| places.get(parent).copied().flatten());
            let kept = node.parent.is_none() || (parent.is_some() && keep(node));
            places.push(kept.then_some(nodes.len()));
            if kept {
                nodes.push(PictureNode { parent, ..node.clone() });
            }
        }
        let mut children = vec![Vec::new(); nodes.len()];
        for (list, place) in self.children.iter().zip(&places) {
            place.iter().for_each(|&place| {
                children[place] = list.iter().filter_map(|&child| places[child]).collect()
            });
        }
        let bonus = self.bonus.and_then(|bonus| places.get(bonus).copied().flatten());
        Picture { nodes, children, plain: self.plain, bonus }
    }

    /// Builds the picture of a record. Records from a file may hold any index: nodes whose parent
    /// does not come before them count as children of the root.
    pub fn of(record: &'a StepRecord, oracle: Option<&'a OracleTree>) -> Picture<'a> {
        let tree = &record.tree;
        let plain = greedy(record) && !record.settings.samples_trees();
        let count = tree.tokens.len().max(1);
        let mut nodes: Vec<PictureNode> = Vec::with_capacity(count + tree.cut.len() + 1);
        let mut tokens = Vec::with_capacity(nodes.capacity());
        let mut on_path = vec![false; count];
        on_path[0] = true;
        record
            .path
            .iter()
            .for_each(|&i| on_path.iter_mut().skip(i).take(1).for_each(|on| *on = true));
        for i in 0..count {
            let parent = (i > 0)
                .then(|| tree.parents.get(i).copied().flatten().filter(|&p| p < i).unwrap_or(0));
            let p = match plain {
                true => tree.p_plain.get(i).copied().unwrap_or(0.0),
                false => tree.acceptance(i),
            };
            let p = if p.is_finite() { p.clamp(0.0, 1.0) } else { 0.0 };
            let above = parent.and_then(|p| nodes.get(p));
            let (pi, depth) = above.map_or((1.0, 0), |above| (above.pi * p, above.depth + 1));
            let outcome = match parent {
                None => NodeOutcome::Root,
                Some(_) if on_path[i] => NodeOutcome::Accepted,
                Some(parent) if on_path[parent] => NodeOutcome::Rejected,
                Some(_) => NodeOutcome::Unreached,
            };
            let text = tree.text.get(i).map_or("", String::as_str);
            nodes.push(PictureNode {
                parent,
                depth,
                p: Some(p),
                q: tree.q.get(i).copied(),
                pi,
                text,
                outcome,
                in_oracle: i == 0,
            });
            tokens.push(tree.tokens.get(i).copied().unwrap_or_default());
        }
        for (i, cut) in tree.cut.iter().enumerate() {
            let parent = if cut.parent < count + i { cut.parent } else { 0 };
            let (depth, text) = (nodes[parent].depth + 1, cut.text.as_str());
            let outcome = NodeOutcome::Cut;
            nodes.push(PictureNode {
                parent: Some(parent),
                depth,
                p: None,
                q: Some(cut.q),
                pi: 0.0,
                text,
                outcome,
                in_oracle: false,
            });
            tokens.push(cut.token);
        }
        let bonus = nodes.len();
        let last = record.path.last().copied().filter(|&last| last < count).unwrap_or(0);
        let emitted = record.entropy.last();
        let p = emitted.map(|e| if plain { e.p_plain.unwrap_or(e.p) } else { e.p });
        // Where children are sampled, the share that was not accepted at all is the bonus token's.
        let p = p.filter(|p| p.is_finite() && !record.settings.samples_trees());
        let (pi, depth) = (nodes[last].pi * p.unwrap_or(0.0), nodes[last].depth + 1);
        let (text, outcome) = (record.bonus_text.as_str(), NodeOutcome::Bonus);
        nodes.push(PictureNode {
            parent: Some(last),
            depth,
            p,
            q: record.bonus_q,
            pi,
            text,
            outcome,
            in_oracle: false,
        });
        tokens.push(record.bonus);
        let mut children = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            node.parent.iter().for_each(|&parent| children[parent].push(i));
        }
        if let Some(oracle) = oracle {
            // Index in the picture of each node of the oracle tree.
            let mut places = vec![0];
            for (i, &token) in oracle.tokens.iter().enumerate().skip(1) {
                let parent = oracle.parents.get(i).copied().filter(|&p| p < i).unwrap_or(0);
                let parent = places.get(parent).copied().unwrap_or(0);
                let p = oracle.p.get(i).copied().filter(|p| p.is_finite());
                let p = p.unwrap_or(0.0).clamp(0.0, 1.0);
                // The bonus token may be among the cut nodes, too.
                let same = children[parent].iter().copied().filter(|&c| tokens[c] == token);
                let known = same.min_by_key(|&c| nodes[c].outcome == NodeOutcome::Cut);
                places.push(known.unwrap_or(nodes.len()));
                if let Some(known) = known {
                    nodes[known].in_oracle = true;
                    // The target's p of a cut node is known from the search.
                    if nodes[known].p.is_none() {
                        (nodes[known].p, nodes[known].pi) = (Some(p), nodes[parent].pi * p);
                    }
                    continue;
                }
                let (pi, depth) = (nodes[parent].pi * p, nodes[parent].depth + 1);
                let text = oracle.text.get(i).map_or("", String::as_str);
                let outcome = NodeOutcome::Oracle;
                children[parent].push(nodes.len());
                children.push(Vec::new());
                nodes.push(PictureNode {
                    parent: Some(parent),
                    depth,
                    p: Some(p),
                    q: None,
                    pi,
                    text,
                    outcome,
                    in_oracle: true,
                });
                tokens.push(token);
            }
        }
        let group = |outcome: NodeOutcome| match outcome {
            NodeOutcome::Bonus => 1,
            NodeOutcome::Oracle => 2,
            NodeOutcome::Cut => 3,
            _ => 0,
        };
        for list in &mut children {
            // Stable, so that equal ones stay in drafting order.
            list.sort_by(|&a, &b| {
                let by_group = group(nodes[a].outcome).cmp(&group(nodes[b].outcome));
                by_group.then(nodes[b].p.unwrap_or(0.0).total_cmp(&nodes[a].p.unwrap_or(0.0)))
            });
        }
        Picture { nodes, children, plain, bonus: Some(bonus) }
    }

    /// Returns the mass of the nodes at a depth.
    ///
    /// That is the probability that the tree shown covers the depth.
    pub fn covered(&self, depth: usize, shown: Shown) -> f64 {
        let counts = |node: &&PictureNode| {
            node.depth == depth && (shown == Shown::Oracle || node.outcome.verified())
        };
        self.nodes.iter().filter(counts).map(|node| node.pi).sum::<f64>() + 0.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::{record, tree};
    use crate::telemetry::{CutNode, PositionEntropy};

    /// Root with children 1 (0.5) and 3 (0.25); 1 has child 2 (0.5). Node 1 is accepted, and then
    /// token 9 (0.3) missed.
    fn step() -> StepRecord {
        let mut step = record(tree(&[(0, 0.5), (1, 0.5), (0, 0.25)]), &[1], 4);
        (step.bonus, step.bonus_text) = (9, "nine".into());
        let position = |p| PositionEntropy { p, ..PositionEntropy::default() };
        step.entropy = vec![position(0.5), position(0.3)];
        step
    }

    fn outcomes(picture: &Picture) -> Vec<NodeOutcome> {
        picture.nodes.iter().map(|node| node.outcome).collect()
    }

    #[test]
    fn nodes_of_the_tree_the_miss_and_the_oracle_are_told_apart() {
        use NodeOutcome::*;
        let step = step();
        let plain = Picture::of(&step, None);
        assert_eq!(outcomes(&plain), [Root, Accepted, Rejected, Rejected, Bonus]);
        let bonus = &plain.nodes[plain.bonus.unwrap()];
        assert_eq!((bonus.parent, bonus.depth, bonus.pi), (Some(1), 2, 0.15));
        assert_eq!(plain.children[1], [2, 4], "the missed token stands behind the drafted ones");
        // The oracle has nodes 1 and 9 of the picture, and a new child of 9.
        let oracle = OracleTree {
            tokens: vec![0, 1, 9, 7],
            text: vec![String::new(); 4],
            parents: vec![0, 0, 1, 2],
            p: vec![1.0, 0.5, 0.3, 0.5],
        };
        let both = Picture::of(&step, Some(&oracle));
        assert_eq!(outcomes(&both), [Root, Accepted, Rejected, Rejected, Bonus, Oracle]);
        assert_eq!((both.nodes[5].parent, both.nodes[5].pi), (Some(4), 0.075));
        let alone = both.restricted(|node| node.in_oracle);
        assert_eq!(outcomes(&alone), [Root, Accepted, Bonus, Oracle]);
        assert_eq!(alone.children, [vec![1], vec![2], vec![3], vec![]]);
        assert_eq!(alone.bonus, Some(2));
        let covered: f64 = (1..4).map(|depth| alone.covered(depth, Shown::Oracle)).sum();
        assert!((covered - (0.5 + 0.15 + 0.075)).abs() < 1e-12);
    }

    #[test]
    fn oracle_nodes_below_cut_ones_have_their_path_probability() {
        let mut step = step();
        let cut = |token, parent| CutNode { parent, token, text: "cut".into(), q: 0.1 };
        step.tree.cut = vec![cut(9, 1), cut(8, 0)];
        let oracle = OracleTree {
            tokens: vec![0, 1, 9, 8, 7, 6],
            text: vec![String::new(); 6],
            parents: vec![0, 0, 1, 0, 2, 3],
            p: vec![1.0, 0.5, 0.3, 0.2, 0.5, 0.5],
        };
        let alone = Picture::of(&step, Some(&oracle)).restricted(|node| node.in_oracle);
        use NodeOutcome::*;
        assert_eq!(outcomes(&alone), [Root, Accepted, Cut, Bonus, Oracle, Oracle]);
        let pi: Vec<f64> = alone.nodes.iter().map(|node| node.pi).collect();
        for (found, expected) in pi.into_iter().zip([1.0, 0.5, 0.2, 0.15, 0.075, 0.1]) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    proptest! {
        #[test]
        fn the_filled_area_is_the_expected_accepted_length(
            nodes in prop::collection::vec((any::<prop::sample::Index>(), 0.0f64..1.0), 0..30)
        ) {
            let nodes: Vec<(usize, f64)> =
                nodes.iter().enumerate().map(|(i, (at, p))| (at.index(i + 1), *p)).collect();
            let step = record(tree(&nodes), &[], 40);
            let picture = Picture::of(&step, None);
            let area: f64 = (1..=nodes.len()).map(|depth| picture.covered(depth, Shown::Drafter)).sum();
            prop_assert!((area - step.expected_accepted).abs() < 1e-9);
        }
    }
}
