//! The shipped drafting heads, on the model that they were trained for.

use speclight::draft::Limits;
use speclight::draft::shape::{Plan, grow};
use speclight::draft::{Draft, DraftRequest, Drafter, Eagle, EarlyExit, Shape};
use speclight::model::device::DeviceChoice;
use speclight::model::{Decoder, Head, HeadForm, Logits, Model, Node, Parent, Pass};
use speclight::registry::Registry;

const LIMITS: Limits = Limits { budget: 16, depth: 12 };

fn shipped(form: HeadForm, model: &Model) -> Head {
    let registry = Registry::load().unwrap();
    let sha256 = registry.find(Some("SmolLM2-135M-Instruct")).unwrap().sha256().unwrap().to_owned();
    assert!(Head::load_built_in(Some("another"), form, model).unwrap().is_none());
    Head::load_built_in(Some(&sha256), form, model).unwrap().expect("a head for the default model")
}

fn draft(eagle: &mut dyn Drafter, target: &mut dyn Decoder, tokens: &[u32], stop: &[u32]) -> Draft {
    let mut request = DraftRequest { stop, limits: LIMITS, ..DraftRequest::new(tokens, target) };
    let draft = grow(Shape::BestFirst, eagle, &mut request, &Plan::default()).unwrap();
    assert_eq!(draft.tree.len(), LIMITS.budget, "it has something to say");
    draft
}

#[test]
fn drafts_depend_only_on_the_text() {
    let model = Model::open(&super::common::path(), DeviceChoice::Cpu, Some(2)).unwrap();
    let head = shipped(HeadForm::Eagle, &model);
    assert!(
        head.weight_bytes() < 12_000_000 && head.info().source_layers.len() == 3,
        "{:?}",
        head.info().source_layers
    );
    let stop = model.tokenizer().stop_tokens().to_vec();
    let mut tokens = model.prompt_tokens("List the planets of the solar system.", false).unwrap();
    let begin = tokens.len();

    let mut target = model.decoder(512).unwrap();
    assert!(target.keep_hidden(&head.info().source_layers));
    target.prefill(&tokens[..begin - 1], 32, Logits::None).unwrap();
    let mut eagle = Eagle::new(&head, 512);
    let mut drafts = Vec::new();
    for _ in 0..24 {
        drafts.push(draft(&mut eagle, &mut *target, &tokens, &stop));
        tokens.push(next(&mut *target, *tokens.last().unwrap()));
    }
    // It predicts at least half of the next tokens, or it would not be shipped.
    let right = (0..24).filter(|&i| {
        let tree = &drafts[i].tree;
        tree.children(0).any(|child| tree.token(child) == tokens[begin + i])
    });
    assert!(right.count() >= 12);

    // The trees are the same if drafted again, by an earlier state, by a new drafter, and after a
    // reset.
    for at in [0, 7, 23] {
        let text = &tokens[..begin + at];
        let mut then = target.fork().unwrap();
        then.truncate(text.len() - 1);
        let mut back = eagle.fork_at(text.len()).unwrap();
        assert_eq!(
            draft(&mut *back, &mut *then, text, &stop),
            drafts[at],
            "looked back from later, {at}"
        );
        assert_eq!(draft(&mut *back, &mut *then, text, &stop), drafts[at], "asked again, {at}");
        let mut late = Eagle::new(&head, 512);
        assert_eq!(draft(&mut late, &mut *then, text, &stop), drafts[at], "come late, {at}");
        late.reset();
        assert_eq!(
            draft(&mut late, &mut *then, text, &stop),
            drafts[at],
            "after another text, {at}"
        );
    }

    // Without hidden states or capacity, it drafts nothing.
    let mut bare = model.decoder(512).unwrap();
    bare.prefill(&tokens[..begin - 1], 32, Logits::None).unwrap();
    for (eagle, target) in
        [(&mut Eagle::new(&head, 512), &mut bare), (&mut Eagle::new(&head, 8), &mut target)]
    {
        target.truncate(begin - 1);
        let mut request = DraftRequest {
            stop: &stop,
            limits: LIMITS,
            ..DraftRequest::new(&tokens[..begin], &mut **target)
        };
        let draft = grow(Shape::BestFirst, eagle, &mut request, &Plan::default()).unwrap();
        assert_eq!(draft.tree.len(), 1);
    }
}

/// Returns the target's greedy next token and commits the given one.
fn next(target: &mut dyn Decoder, token: u32) -> u32 {
    target.append(&[Node { token, parent: Parent::Context }], Pass::FULL).unwrap();
    let logits = target.logits(0);
    let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    target.commit(&[0]).unwrap();
    best as u32
}

#[test]
fn the_adapter_reads_an_early_layer_better_than_the_models_own_head() {
    let model = Model::open(&super::common::path(), DeviceChoice::Cpu, Some(2)).unwrap();
    let adapter = shipped(HeadForm::Adapter, &model);
    assert!(adapter.weight_bytes() < 12_000_000);
    let [exit] = adapter.info().source_layers[..] else {
        panic!("one layer: {:?}", adapter.info().source_layers)
    };
    let layers = model.config().layers;
    let stop = model.tokenizer().stop_tokens().to_vec();
    let mut tokens = model.prompt_tokens("List the planets of the solar system.", false).unwrap();
    let begin = tokens.len();
    let mut target = model.decoder(512).unwrap();
    target.prefill(&tokens[..begin - 1], 32, Logits::None).unwrap();
    let (mut with, mut without) =
        (EarlyExit::with_adapter(&adapter, layers).unwrap(), EarlyExit::new(exit, layers).unwrap());
    let (mut drafts, mut right) = (Vec::new(), [0, 0]);
    for _ in 0..32 {
        let nodes = target.nodes();
        let both = [
            draft(&mut with, &mut *target, &tokens, &stop),
            draft(&mut without, &mut *target, &tokens, &stop),
        ];
        assert_eq!(target.nodes(), nodes, "the target is left as it was found");
        let token = next(&mut *target, *tokens.last().unwrap());
        for (right, Draft { tree, .. }) in right.iter_mut().zip(&both) {
            *right += usize::from(tree.children(0).any(|child| tree.token(child) == token));
        }
        drafts.push(both[0].clone());
        tokens.push(token);
    }
    assert!(right[0] >= 12 && right[0] > right[1], "{right:?} of 32");
    // An earlier state drafts the same trees.
    for at in [0, 7, 31] {
        let text = &tokens[..begin + at];
        let mut then = target.fork().unwrap();
        then.truncate(text.len() - 1);
        let mut back = with.fork_at(text.len()).unwrap();
        assert_eq!(
            draft(&mut *back, &mut *then, text, &stop),
            drafts[at],
            "looked back from later, {at}"
        );
    }
}
