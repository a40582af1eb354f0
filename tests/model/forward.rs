//! Forward passes over trees, on small models with random weights.

use proptest::prelude::*;
use speclight::model::candle::Precision;
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::Weights;
use speclight::model::{ForwardError, Logits, Node, Parent, Pass};

use super::tiny::{self, Tree, alone, decoder, distance};

/// Tolerance with f32 throughout, where only the summation order differs.
///
/// candle changes that order with the batch size. Logits have magnitudes of 1 to 10; the largest
/// difference seen in thousands of nodes is 1.2e-5.
const F32: f32 = 1e-4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn logits_at_a_node_are_those_of_its_path_alone(seed in 0u64..72, tree in Tree::any(120, 12, 16)) {
        let weights = tiny::weights(seed);
        let got = tree.run(&mut *decoder(&weights, Precision::F32, 64));
        let mut one = decoder(&weights, Precision::F32, 64);
        for (i, got) in got.iter().enumerate() {
            let d = distance(got, &alone(&mut *one, &tree.text(i)));
            prop_assert!(d < F32, "node {i}: {d}");
        }
    }

    #[test]
    fn a_committed_path_is_a_context_like_any_other(
        seed in 0u64..72,
        tree in Tree::any(120, 12, 16),
        last in any::<prop::sample::Index>(),
        next in prop::collection::vec(0u32..120, 1..6),
    ) {
        let weights = tiny::weights(seed);
        let mut decoder = decoder(&weights, Precision::F32, 64);
        tree.run(&mut *decoder);
        let path = tree.path(last.index(tree.nodes.len()));
        decoder.commit(&path).unwrap();
        prop_assert_eq!((decoder.len(), decoder.nodes()), (tree.context.len() + path.len(), 0));
        let mut text = tree.text(path[path.len() - 1]);
        for token in next {
            decoder.append(&[Node { token, parent: Parent::Context }], Pass::FULL).unwrap();
            text.push(token);
            let got = decoder.logits(0).to_vec();
            let mut anew = tiny::decoder(&weights, Precision::F32, 64);
            let d = distance(&got, &alone(&mut *anew, &text));
            prop_assert!(d < F32, "after {} tokens: {d}", text.len());
            decoder.commit(&[0]).unwrap();
        }
    }

    /// Negative control: differences that the tests above would miss if their tolerance were too
    /// wide.
    #[test]
    fn another_text_has_other_logits(seed in 0u64..72, tree in Tree::any(120, 8, 12), at in any::<prop::sample::Index>()) {
        let weights = tiny::weights(seed);
        let got = tree.run(&mut *decoder(&weights, Precision::F32, 64));
        let mut one = decoder(&weights, Precision::F32, 64);
        for (i, got) in got.iter().enumerate() {
            let text = tree.text(i);
            // If a text repeats a single token, all values are equal, and so is their mean.
            if text.len() < 2 || text.iter().all(|token| *token == text[0]) {
                continue;
            }
            let mut changed = text.clone();
            let place = at.index(text.len());
            changed[place] = (changed[place] + 1) % 120;
            let d = distance(got, &alone(&mut *one, &changed));
            prop_assert!(d > 10.0 * F32, "token {place} of {} changed: {d}", text.len());
            let mut hidden = text.clone();
            hidden.remove(text.len() - 2);
            let d = distance(got, &alone(&mut *one, &hidden));
            prop_assert!(d > 10.0 * F32, "without the parent: {d}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Inputs of products are rounded to 8 bits.
    ///
    /// Logits then differ from those of f32 by up to 0.24. If a last bit decides a rounding, those
    /// of a tree could differ from those of its paths; up to 7.5e-6 was seen.
    #[test]
    fn quantized_products_round_and_stay_near(seed in 0u64..72, tree in Tree::any(120, 12, 16)) {
        let weights = tiny::weights(seed);
        let got = tree.run(&mut *decoder(&weights, Precision::Stored, 64));
        let mut one = decoder(&weights, Precision::Stored, 64);
        let mut exact = decoder(&weights, Precision::F32, 64);
        for (i, got) in got.iter().enumerate() {
            let d = distance(got, &alone(&mut *one, &tree.text(i)));
            let e = distance(got, &alone(&mut *exact, &tree.text(i)));
            prop_assert!(d < 0.1, "node {i}: {d} from its path alone");
            prop_assert!(e < 0.5, "node {i}: {e} from floats");
        }
    }
}

fn chain(tokens: &[u32]) -> Vec<Node> {
    let parent = |i: usize| i.checked_sub(1).map_or(Parent::Context, Parent::Slot);
    tokens.iter().enumerate().map(|(i, &token)| Node { token, parent: parent(i) }).collect()
}

#[test]
fn all_layers_are_the_full_pass_and_fewer_are_the_model_of_as_many() {
    let config = tiny::config(2);
    for kind in [TensorFormat::F32, TensorFormat::Q8_0] {
        let full = Weights::random(config.clone(), kind, true, 5).unwrap();
        let nodes = chain(&[3, 1, 4, 1, 5]);
        for layers in 1..=config.layers {
            // With the same seed, the first layers are the same.
            let short = speclight::model::Config { layers, ..config.clone() };
            let short = Weights::random(short, kind, true, 5).unwrap();
            let (mut exit, mut short) =
                (decoder(&full, Precision::Stored, 8), decoder(&short, Precision::Stored, 8));
            exit.append(&nodes, Pass { layers, logits: Logits::All }).unwrap();
            short.append(&nodes, Pass::FULL).unwrap();
            for i in 0..nodes.len() {
                assert_eq!(
                    exit.logits(i),
                    short.logits(i),
                    "{} after {layers} layers",
                    kind.name()
                );
            }
            let committed = exit.commit(&[0]);
            if layers < config.layers {
                assert!(matches!(committed, Err(ForwardError::Unfinished { slot: 0 })));
                // A child can't run more layers than its parent.
                let child = [Node { token: 1, parent: Parent::Slot(4) }];
                assert!(matches!(
                    exit.append(&child, Pass::FULL),
                    Err(ForwardError::Unfinished { slot: 4 })
                ));
            } else {
                committed.unwrap();
            }
        }
    }
}

#[test]
fn nodes_that_left_early_leave_no_trace() {
    let weights = tiny::weights(4);
    let (mut a, mut b) =
        (decoder(&weights, Precision::F32, 32), decoder(&weights, Precision::F32, 32));
    for d in [&mut a, &mut b] {
        d.prefill(&[1, 2, 3], 8, Logits::None).unwrap();
    }
    a.append(&chain(&[9, 9, 9]), Pass { layers: 1, logits: Logits::All }).unwrap();
    a.discard();
    for d in [&mut a, &mut b] {
        d.append(&chain(&[4, 5]), Pass::FULL).unwrap();
    }
    assert_eq!((a.logits(0), a.logits(1)), (b.logits(0), b.logits(1)));
}

#[test]
fn only_the_logits_that_were_asked_for_are_there() {
    let mut d = decoder(&tiny::weights(0), Precision::F32, 16);
    d.append(&chain(&[1, 2, 3]), Pass::FULL).unwrap();
    let all: Vec<Vec<f32>> = (0..3).map(|i| d.logits(i).to_vec()).collect();
    d.discard();
    d.append(&chain(&[1, 2, 3]), Pass { layers: usize::MAX, logits: Logits::Last }).unwrap();
    assert!(distance(d.logits(2), &all[2]) < F32);
    let asked = std::panic::AssertUnwindSafe(&d);
    assert!(std::panic::catch_unwind(|| asked.logits(1).len()).is_err());
    d.discard();
    d.append(&chain(&[1, 2, 3]), Pass { layers: usize::MAX, logits: Logits::None }).unwrap();
    let asked = std::panic::AssertUnwindSafe(&d);
    assert!(std::panic::catch_unwind(|| asked.logits(2).len()).is_err());
}

#[test]
fn a_fork_goes_its_own_way() {
    let weights = tiny::weights(7);
    let mut a = decoder(&weights, Precision::F32, 32);
    a.prefill(&[1, 2, 3, 4], 8, Logits::None).unwrap();
    a.append(&chain(&[5]), Pass::FULL).unwrap();
    let mut b = a.fork().unwrap();
    assert_eq!((b.len(), b.nodes(), b.capacity()), (4, 0, 32));
    // Each decoder overwrites what follows the common context.
    b.prefill(&[6, 7, 8], 8, Logits::Last).unwrap();
    a.commit(&[0]).unwrap();
    a.prefill(&[9], 8, Logits::Last).unwrap();
    let mut one = decoder(&weights, Precision::F32, 32);
    assert!(distance(b.logits(2), &alone(&mut *one, &[1, 2, 3, 4, 6, 7, 8])) < F32);
    assert!(distance(a.logits(0), &alone(&mut *one, &[1, 2, 3, 4, 5, 9])) < F32);
}

#[test]
fn a_shorter_context_forgets_the_rest() {
    let weights = tiny::weights(2);
    let mut d = decoder(&weights, Precision::F32, 32);
    d.prefill(&[1, 2, 3, 4, 5], 8, Logits::None).unwrap();
    d.append(&chain(&[6]), Pass::FULL).unwrap();
    d.truncate(9);
    assert_eq!((d.len(), d.nodes()), (5, 0));
    d.truncate(2);
    d.prefill(&[7, 8], 8, Logits::Last).unwrap();
    let mut one = decoder(&weights, Precision::F32, 32);
    assert!(distance(d.logits(1), &alone(&mut *one, &[1, 2, 7, 8])) < F32);
}

#[test]
fn a_long_context_outgrows_the_first_rows() {
    let weights = tiny::weights(3);
    let text: Vec<u32> = (0..290u32).map(|i| i * i % 120).collect();
    let mut d = decoder(&weights, Precision::F32, 300);
    // 250 + 30 rows exceed the initial cache capacity; one row of the tree stays.
    d.prefill(&text[..250], 64, Logits::None).unwrap();
    let nodes: Vec<Node> = (0..30).map(|i| Node { token: i, parent: Parent::Context }).collect();
    d.append(&nodes, Pass::FULL).unwrap();
    let slot = text[250] as usize % 30;
    d.commit(&[slot]).unwrap();
    d.prefill(&text[251..], 40, Logits::Last).unwrap();
    let mut same = text.clone();
    same[250] = slot as u32;
    let mut one = decoder(&weights, Precision::F32, 300);
    assert!(distance(d.logits(38), &alone(&mut *one, &same)) < F32);
}

#[test]
fn what_can_not_be_run_is_refused_and_nothing_changes() {
    let weights = tiny::weights(1);
    let mut d = decoder(&weights, Precision::F32, 6);
    d.prefill(&[1, 2, 3], 8, Logits::None).unwrap();
    d.append(&chain(&[4]), Pass::FULL).unwrap();
    let too_many = d.append(&chain(&[1, 2, 3]), Pass::FULL);
    assert!(matches!(too_many, Err(ForwardError::Full { needed: 7, capacity: 6 })));
    let unknown = d.append(
        &[Node { token: 5, parent: Parent::Slot(0) }, Node { token: 120, parent: Parent::Context }],
        Pass::FULL,
    );
    assert!(matches!(unknown, Err(ForwardError::Token { token: 120, vocab: 120 })));
    let orphan = d.append(&[Node { token: 5, parent: Parent::Slot(1) }], Pass::FULL);
    assert!(matches!(orphan, Err(ForwardError::Parent { node: 1, parent: 1 })));
    assert!(matches!(d.commit(&[1]), Err(ForwardError::Path { slot: 1 })));
    assert!(matches!(d.commit(&[0, 0]), Err(ForwardError::Path { slot: 0 })));
    assert_eq!((d.len(), d.nodes()), (3, 1));
    d.append(&[], Pass::FULL).unwrap();
    d.commit(&[0]).unwrap();
    d.append(&chain(&[5]), Pass::FULL).unwrap();
    let mut one = decoder(&weights, Precision::F32, 6);
    assert!(distance(d.logits(0), &alone(&mut *one, &[1, 2, 3, 4, 5])) < F32);
}
