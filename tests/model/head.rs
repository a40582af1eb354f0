//! The head that comes with the program, on the model that it is for.

use speclight::dist::Warp;
use speclight::draft::shape::{Limits, Plan, grow};
use speclight::draft::{Context, Draft, Drafter, Eagle, Shape};
use speclight::model::device::DeviceChoice;
use speclight::model::{Decoder, Head, Logits, Model, Node, Parent, Pass};
use speclight::registry::Registry;

const LIMITS: Limits = Limits { budget: 16, depth: 12 };

fn draft(eagle: &mut dyn Drafter, target: &mut dyn Decoder, tokens: &[u32], stop: &[u32]) -> Draft {
    let mut cx = Context { tokens, target, warp: &Warp::PLAIN, stop };
    let draft = grow(Shape::BestFirst, eagle, &mut cx, LIMITS, &Plan::default()).unwrap();
    assert_eq!(draft.tree.len(), LIMITS.budget, "it has something to say");
    draft
}

#[test]
fn what_it_drafts_is_a_function_of_the_text() {
    let model = Model::open(&super::common::path(), DeviceChoice::Cpu, Some(2)).unwrap();
    let registry = Registry::load().unwrap();
    let sha256 = registry.find(Some("SmolLM2-135M-Instruct")).unwrap().sha256().unwrap().to_owned();
    let head = Head::shipped(&sha256, &model).unwrap().expect("a head for the default model");
    assert!(Head::shipped("another", &model).unwrap().is_none());
    assert!(head.weight_bytes() < 12_000_000 && head.about().after.len() == 3, "{:?}", head.about().after);
    let stop = model.tokenizer().stop().to_vec();
    let mut tokens = model.prompt_tokens("List the planets of the solar system.", false).unwrap();
    let begin = tokens.len();

    let mut target = model.decoder(512).unwrap();
    assert!(target.keep_hidden(&head.about().after));
    target.prefill(&tokens[..begin - 1], 32, Logits::None).unwrap();
    let mut eagle = Eagle::new(&head, 512);
    let mut drafts = Vec::new();
    for _ in 0..24 {
        drafts.push(draft(&mut eagle, &mut *target, &tokens, &stop));
        target.append(&[Node { token: *tokens.last().unwrap(), parent: Parent::Context }], Pass::FULL).unwrap();
        let logits = target.logits(0);
        let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        target.commit(&[0]).unwrap();
        tokens.push(best);
    }
    // It is right more often than not about the token that comes next, or it would not be shipped.
    let right = (0..24).filter(|&i| {
        let tree = &drafts[i].tree;
        tree.children(0).any(|child| tree.token(child) == tokens[begin + i])
    });
    assert!(right.count() >= 12);

    // Asked again, seen from later, by one that comes late, and by one that was told in two parts: the same trees.
    for at in [0, 7, 23] {
        let text = &tokens[..begin + at];
        let mut then = target.fork().unwrap();
        then.truncate(text.len() - 1);
        let mut back = eagle.at(text.len()).unwrap();
        assert_eq!(draft(&mut *back, &mut *then, text, &stop), drafts[at], "looked back from later, {at}");
        assert_eq!(draft(&mut *back, &mut *then, text, &stop), drafts[at], "asked again, {at}");
        let mut late = Eagle::new(&head, 512);
        assert_eq!(draft(&mut late, &mut *then, text, &stop), drafts[at], "come late, {at}");
        late.reset();
        assert_eq!(draft(&mut late, &mut *then, text, &stop), drafts[at], "after another text, {at}");
    }

    // Without hidden states, and without room, it is silent.
    let mut bare = model.decoder(512).unwrap();
    bare.prefill(&tokens[..begin - 1], 32, Logits::None).unwrap();
    for (eagle, target) in [(&mut Eagle::new(&head, 512), &mut bare), (&mut Eagle::new(&head, 8), &mut target)] {
        target.truncate(begin - 1);
        let mut cx = Context { tokens: &tokens[..begin], target: &mut **target, warp: &Warp::PLAIN, stop: &stop };
        let draft = grow(Shape::BestFirst, eagle, &mut cx, LIMITS, &Plan::default()).unwrap();
        assert_eq!(draft.tree.len(), 1);
    }
}
