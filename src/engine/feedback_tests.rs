//! Tests of the feedback that drafters receive after a step.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{LAYERS, TableDecoder, run, settings};
use super::{Session, Vocabulary};
use crate::distribution::TokenDist;
use crate::draft::testing::Fixed;
use crate::draft::{Candidate, VerifyFeedback};
use crate::tree::TokenId;

const PROPOSED: [Candidate; 4] = [
    Candidate { token: 2, q: 0.4 },
    Candidate { token: 0, q: 0.3 },
    Candidate { token: 3, q: 0.2 },
    Candidate { token: 1, q: 0.1 },
];

proptest! {
    #[test]
    fn feedback_covers_every_node_and_candidates_left_out_on_the_accepted_path(
        seed in any::<u64>(), budget in 1usize..12, shape in 0usize..4, sampled in any::<bool>(), drawn in any::<bool>(),
    ) {
        let table = TableDecoder::new(5, seed);
        let drafter = Fixed::new(|_: &[TokenId]| PROPOSED.to_vec());
        let heard = Arc::clone(&drafter.feedback);
        let shape = ["chain", "fixed 2,2,1", "static", "best-first"][shape];
        let mut settings = settings("fixed", shape, budget, if sampled { 1.0 } else { 0.0 });
        if drawn && shape != "best-first" {
            settings.verify = crate::verify::Rule::Rejection;
        }
        let vocabulary = Arc::new(Vocabulary::new(vec![[b'a'].into(); 5], Vec::new()));
        let mut session = Session::new(Box::new(table.clone()), vec![Box::new(drafter)], vocabulary, settings.clone()).unwrap();
        let prompt = [1, 4, 0];
        let (out, records) = run(&mut session, &prompt, 40);
        let text = [&prompt[..], &out].concat();
        let heard = heard.lock().unwrap();
        prop_assert_eq!(heard.len(), records.len());
        for (VerifyFeedback { tree, p, weight }, record) in heard.iter().zip(&records) {
            let own = record.tree.tokens.len();
            prop_assert_eq!(&tree.tokens()[..own], &record.tree.tokens[..]);
            prop_assert_eq!(&p[..own], &record.tree.p[..]);
            let walk: Vec<usize> = std::iter::once(0).chain(record.path.iter().copied()).collect();
            for i in tree.nodes() {
                let parent = tree.parent(i).unwrap();
                let path: Vec<TokenId> = tree.path(parent).into_iter().map(|node| tree.token(node)).collect();
                let row = table.row(&[&text[..record.position], &path].concat(), LAYERS);
                prop_assert_eq!(p[i], TokenDist::new(&row, &settings.sampling()).unwrap().p(tree.token(i)));
                let reached: f64 = tree.path(parent).into_iter().map(|node| p[node]).product();
                let right = if i < own { (weight[i] - reached).abs() < 1e-12 } else { weight[i] == 1.0 && walk.contains(&parent) };
                prop_assert!(right, "node {} of {}: {}", i, own, weight[i]);
            }
            // A drafter that was asked about the root gets feedback on all of its candidates there.
            prop_assert!(own == 1 || tree.children(0).count() == 4);
        }
        prop_assert!(budget == 1 || heard.iter().any(|verified| verified.tree.max_depth() > 0));
    }
}
