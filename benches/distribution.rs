//! Cost of distributions over a real vocabulary.
//!
//! This is the part of a step that is neither drafting nor the forward pass.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use speclight::distribution::{Sampling, TokenDist, argmax};

fn law(c: &mut Criterion) {
    // A multiplicative hash scatters the values over the token ids, as in a real vocabulary.
    let mut logits: Vec<f32> = (0..49_152u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 21) as f32)
        .collect();
    logits[30_000] = 14.0;
    c.bench_function("arg-max of 49,152", |b| b.iter(|| argmax(black_box(&logits))));
    let warps =
        [("plain", Sampling::PLAIN), ("top-p 0.9", Sampling { top_p: 0.9, ..Sampling::PLAIN })];
    for (name, warp) in warps {
        c.bench_function(&format!("law, {name}"), |b| {
            b.iter(|| TokenDist::new(black_box(&logits), &warp))
        });
        if let Ok(law) = TokenDist::new(&logits, &warp) {
            c.bench_function(&format!("moments, {name}"), |b| b.iter(|| black_box(&law).moments()));
            // The pool of distributions takes surprisals within 16 nats.
            let surprisals = || {
                let mut sum = 0.0;
                black_box(&law).surprisals(
                    16.0,
                    #[inline(always)]
                    |x, p| sum += f64::from(x) * p,
                );
                sum
            };
            c.bench_function(&format!("surprisals, {name}"), |b| b.iter(surprisals));
            c.bench_function(&format!("rank, {name}"), |b| b.iter(|| black_box(&law).rank(20_000)));
            c.bench_function(&format!("sample, {name}"), |b| {
                b.iter(|| black_box(&law).sample(0.7))
            });
            c.bench_function(&format!("the best 15, {name}"), |b| {
                b.iter(|| black_box(&law).top(15))
            });
        }
    }
}

criterion_group!(benches, law);
criterion_main!(benches);
