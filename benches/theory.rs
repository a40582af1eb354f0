//! Cost of the ceilings.
//!
//! Covers adding a distribution over a real vocabulary, and the fluid bound for all budgets.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use speclight::distribution::{Sampling, TokenDist};
use speclight::theory::pool::SurprisalPool;

/// Logits below 8, but for three likely tokens, of which the first is at `sharp`.
fn logits(sharp: f32) -> Vec<f32> {
    // A multiplicative hash scatters the values over the token ids, as in a real vocabulary.
    let mut logits: Vec<f32> = (0..49_152u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 21) as f32)
        .collect();
    for (i, x) in [7, 1_000, 40_000].into_iter().zip([sharp, sharp - 1.0, sharp - 2.5]) {
        logits[i] = x;
    }
    logits
}

fn theory(c: &mut Criterion) {
    let mut pool = SurprisalPool::new();
    for sharp in [30.0, 20.0, 14.0, 8.0] {
        let logits = logits(sharp);
        if let Ok(law) = TokenDist::new(&logits, &Sampling::PLAIN) {
            let moments = law.moments();
            pool.add(&law, moments);
            c.bench_function(
                &format!("add a law of 49,152, entropy {:.2}", moments.entropy),
                |b| {
                    let mut into = SurprisalPool::new();
                    b.iter(|| into.add(black_box(&law), moments));
                },
            );
        }
    }
    c.bench_function("fluid, B = 16", |b| b.iter(|| pool.fluid(black_box(15))));
    c.bench_function("fluid, every B from 1 to 1,024", |b| {
        b.iter(|| pool.fluid_curve(black_box(1023)))
    });
    let mut uniform = SurprisalPool::new();
    uniform.add_probabilities(&vec![1.0 / 50_000.0; 50_000]);
    c.bench_function("fluid, every B from 1 to 1,024, uniform law", |b| {
        b.iter(|| uniform.fluid_curve(black_box(1023)))
    });
}

criterion_group!(benches, theory);
criterion_main!(benches);
