#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::*;
use crate::draft::{CostModel, Cut};
use crate::engine::testing::TableDecoder;

/// Names of members with the nodes that they were asked about.
type Calls = Arc<Mutex<Vec<(&'static str, Vec<usize>)>>>;

/// Drafter that proposes the same tokens below every node and records its calls.
struct Fixed {
    name: &'static str,
    model_use: ModelUse,
    candidates: Vec<(TokenId, f64)>,
    calls: Calls,
}

impl Drafter for Fixed {
    fn info(&self) -> DrafterInfo {
        DrafterInfo { model_use: self.model_use, ..DrafterInfo::new(self.name, "") }
    }
    fn reset(&mut self) {}
    fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
        self.calls.lock().unwrap().push((self.name, vec![usize::MAX]));
        Ok(())
    }
    fn propose(
        &mut self,
        _: &mut DraftRequest,
        _: &TokenTree,
        nodes: &[usize],
        _: usize,
    ) -> Proposed {
        self.calls.lock().unwrap().push((self.name, nodes.to_vec()));
        if self.model_use == ModelUse::Always {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(vec![
            self.candidates.iter().map(|&(token, q)| Candidate { token, q }).collect();
            nodes.len()
        ])
    }
    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Err(DraftError::Unfit("a drafter for tests has one text".into()))
    }
}

fn member(
    calls: &Calls,
    name: &'static str,
    model_use: ModelUse,
    candidates: Vec<(TokenId, f64)>,
) -> Box<dyn Drafter> {
    Box::new(Fixed { name, model_use, candidates, calls: Arc::clone(calls) })
}

#[test]
fn sampled_trees_use_only_the_model_member_if_configured() {
    let calls = Calls::default();
    let members = || {
        vec![
            member(&calls, "slow", ModelUse::Always, vec![(1, 0.6), (3, 0.1)]),
            member(&calls, "quick", ModelUse::Never, vec![(1, 0.3), (2, 0.2)]),
        ]
    };
    let propose = |mix: &mut Mix, sampled: bool| {
        let mut table = TableDecoder::new(4, 0);
        let mut request = DraftRequest { sampled, ..DraftRequest::new(&[0], &mut table) };
        mix.begin(&mut request).unwrap();
        let mut tree = TokenTree::new(0);
        let list = mix.propose(&mut request, &tree, &[0], 8).unwrap().remove(0);
        tree.push(0, 1, list[0].q);
        (list.iter().map(|c| (c.token, c.q)).collect::<Vec<_>>(), mix.origins(&tree)[1])
    };
    let mut alone = Mix::new("auto", members()).unwrap().with_model_only_if_sampled();
    assert_eq!(propose(&mut alone, false).0.len(), 3, "the best of both");
    // The member's own distribution, not combined with learned weights.
    assert_eq!(propose(&mut alone, true), (vec![(1, 0.6), (3, 0.1)], 0));
    assert_eq!(propose(&mut alone, false).0.len(), 3);
    let mut mix = Mix::new("mix", members()).unwrap();
    assert_eq!(propose(&mut mix, true).0.len(), 3, "a mix put together by the user stays one");
}

#[test]
fn model_member_is_gated_by_cost_and_skipped_in_back_off() {
    let calls = Calls::default();
    let member = |name, model_use, candidates| member(&calls, name, model_use, candidates);
    // The slow member is listed first and proposes last.
    let mut mix = Mix::new(
        "mix",
        vec![
            member("slow", ModelUse::Always, vec![(1, 0.6)]),
            member("quick", ModelUse::Never, vec![(1, 0.3), (2, 0.2)]),
        ],
    )
    .unwrap();
    assert_eq!(mix.info().model_use, ModelUse::Optional);
    // The root, a child with reach probability 0.5, and one with 0.01.
    let mut tree = TokenTree::new(0);
    tree.push(0, 1, 0.5);
    tree.push(0, 2, 0.01);
    let mut target = TableDecoder::new(4, 0);
    let mut request = DraftRequest::new(&[0], &mut target);
    let mut proposed_below = |cost_model: Option<CostModel>| {
        calls.lock().unwrap().clear();
        request.cost_model = cost_model;
        mix.begin(&mut request).unwrap();
        mix.propose(&mut request, &tree, &[0], 4).unwrap();
        let lists = mix.propose(&mut request, &tree, &[1, 2], 4).unwrap();
        assert!(
            lists.iter().all(|list| !list.is_empty()),
            "the quick one has something everywhere"
        );
        let names =
            |(name, nodes): &(&'static str, Vec<usize>)| (*name == "slow").then(|| nodes.clone());
        calls.lock().unwrap().iter().filter_map(names).collect::<Vec<_>>()
    };
    let begun = vec![usize::MAX];
    assert_eq!(proposed_below(None), [begun.clone(), vec![0], vec![1, 2]]);
    // A node costs more than the second child can save.
    let model = CostModel { seconds_per_token: 1.0, seconds_per_node: 0.02, back_off: false };
    assert_eq!(proposed_below(Some(model)), [begun.clone(), vec![0], vec![1]]);
    // The measured pass takes at least 2 ms, and a token saves only 1 ms.
    assert_eq!(
        proposed_below(Some(CostModel {
            seconds_per_token: 0.001,
            seconds_per_node: 0.0,
            ..model
        })),
        [begun.clone(), vec![0]]
    );
    // A token saves a minute.
    assert_eq!(
        proposed_below(Some(CostModel { seconds_per_token: 60.0, seconds_per_node: 0.0, ..model })),
        [begun, vec![0], vec![1, 2]]
    );
    assert_eq!(
        proposed_below(Some(CostModel { back_off: true, ..model })),
        Vec::<Vec<usize>>::new()
    );
}

#[test]
fn a_mix_has_two_to_four_different_members() {
    let calls = Calls::default();
    let mix = |names: &[&'static str]| {
        Mix::new(
            "mix",
            names.iter().map(|name| member(&calls, name, ModelUse::Never, Vec::new())).collect(),
        )
    };
    assert!(mix(&["a", "b"]).is_ok_and(|mix| mix.info().model_use == ModelUse::Never));
    for names in [&["a"][..], &["a", "a"], &["a", "b", "c", "d", "e"]] {
        assert!(mix(names).is_err(), "{names:?}");
    }
}

#[test]
fn mix_learns_from_cut_candidates() {
    let member = |name, candidates| member(&Calls::default(), name, ModelUse::Never, candidates);
    let mut mix =
        Mix::new("mix", vec![member("loud", vec![(1, 0.6)]), member("right", vec![(2, 0.2)])])
            .unwrap();
    let tree = TokenTree::new(0);
    let mut target = TableDecoder::new(4, 0);
    let mut request = DraftRequest::new(&[0], &mut target);
    let mut step = || {
        mix.begin(&mut request).unwrap();
        let list = mix.propose(&mut request, &tree, &[0], 4).unwrap().remove(0);
        // The tree has room for one candidate only, and the next token is always 2.
        let p = |token: TokenId| if token == 2 { 1.0 } else { 0.0 };
        let mut kept = tree.clone();
        kept.push(0, list[0].token, list[0].q);
        let cut = |&candidate: &Candidate| (Cut { parent: 0, candidate }, p(candidate.token));
        mix.learn(&VerifyFeedback::new(
            &kept,
            &[1.0, p(list[0].token)],
            &list[1..].iter().map(cut).collect::<Vec<_>>(),
        ));
        list
    };
    let first = step();
    assert_eq!(first[0].token, 1);
    let last = (0..20).map(|_| step()).last().unwrap();
    assert!(last[0].token == 2 && last[0].q > 0.7, "{last:?}");
}
