//! Divergence of this program's and llama.cpp's distributions from f32 on the same weights.

use std::path::PathBuf;
use std::sync::Arc;

use speclight::cli::{built_in, columns, read_files};
use speclight::distribution::{Sampling, TokenDist};
use speclight::model::candle::{self, CandleDecoder, Precision};
use speclight::model::device::DeviceChoice;
use speclight::model::format::weights::Weights;
use speclight::model::{Decoder, Logits, Model, Pass};
use speclight::tree::TokenId;
use speclight::verify::TextRandom;

use crate::sides::{PeerProcess, chain};

/// Maximum length of a text, in tokens.
const LENGTH: usize = 250;
/// Length of a text that the model writes, the dropped beginning included.
const WRITTEN: usize = 2 * LENGTH;

/// Returns texts with `positions` positions in total.
///
/// They come from the prompts in `files`, or else the model writes them at temperature 1 after its
/// built-in prompts. The common beginning of chats is dropped: the rounding of the first tokens
/// affects every later position, and if they were the same in all texts, so would be that error.
pub fn texts(
    model: &Model,
    files: &[PathBuf],
    positions: usize,
) -> anyhow::Result<Vec<Vec<TokenId>>> {
    let mut texts: Vec<Vec<TokenId>> = Vec::new();
    let mut left = positions;
    let [a, b] = [model.prompt_tokens("a", false)?, model.prompt_tokens("b", false)?];
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let mut keep = |mut text: Vec<TokenId>| {
        text.drain(..same);
        text.truncate(LENGTH.min(left));
        left -= text.len();
        texts.push(text);
        left > 0
    };
    if files.is_empty() {
        let prompts = built_in();
        let mut decoder = model.decoder(WRITTEN)?;
        // The same prompts with other seeds, until there are enough positions.
        for seed in 0.. {
            for prompt in &prompts {
                if !keep(write(
                    model,
                    &mut *decoder,
                    &prompt.text,
                    TextRandom::new(seed, &prompt.id),
                )?) {
                    return Ok(texts);
                }
            }
        }
    }
    for prompt in read_files(files, None, &mut |line| eprintln!("peer: {line}"))? {
        if !keep(model.prompt_tokens(&prompt.text, false)?) {
            return Ok(texts);
        }
    }
    eprintln!("peer: the files have {} positions", positions - left);
    Ok(texts)
}

/// Returns a prompt and its sampled continuation, [`WRITTEN`] tokens in total, stop tokens
/// included.
fn write(
    model: &Model,
    decoder: &mut dyn Decoder,
    prompt: &str,
    draws: TextRandom,
) -> anyhow::Result<Vec<TokenId>> {
    let mut text = model.prompt_tokens(prompt, false)?;
    text.truncate(WRITTEN);
    decoder.truncate(0);
    decoder.prefill(&text, text.len(), Logits::Last)?;
    let mut row = text.len() - 1;
    while text.len() < WRITTEN {
        let token = TokenDist::new(decoder.logits(row), &Sampling::PLAIN)?
            .sample(draws.uniform(text.len()));
        decoder.append(&chain(&[token]), Pass::FULL)?;
        decoder.commit(&[0])?;
        text.push(token);
        row = 0;
    }
    Ok(text)
}

/// Divergence of one side's distributions from those of f32.
#[derive(Default)]
struct Tally {
    /// KL divergence at each position, in nats.
    kl: Vec<f64>,
    /// Number of positions with the same likeliest token.
    same: usize,
    /// Sum of -ln p of the following tokens.
    surprise: f64,
}

impl Tally {
    fn add(&mut self, truth: &[f64], law: &[f64], next: Option<TokenId>) {
        let term = |(p, q): (&f64, &f64)| p.exp() * (p - q);
        self.kl.push(truth.iter().zip(law).map(term).sum());
        self.same += usize::from(best(truth) == best(law));
        self.surprise -= next.map_or(0.0, |next| law[next as usize]);
    }

    fn mean(&self) -> f64 {
        self.kl.iter().sum::<f64>() / self.kl.len() as f64
    }
}

/// Returns the log probabilities of a softmax over `logits`.
fn law(logits: &[f32]) -> anyhow::Result<Vec<f64>> {
    anyhow::ensure!(logits.iter().all(|x| x.is_finite()), "a logit is not finite");
    let most = f64::from(logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x)));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    Ok(logits.iter().map(|&x| f64::from(x) - most - sum.ln()).collect())
}

fn best(law: &[f64]) -> Option<usize> {
    (0..law.len()).max_by(|&a, &b| law[a].total_cmp(&law[b]))
}

/// Compares over all texts, in passes of `at_once` tokens, and prints the results.
pub fn compare(
    model: &Model,
    mut llama: PeerProcess,
    texts: &[Vec<TokenId>],
    at_once: usize,
) -> anyhow::Result<()> {
    let vocab = model.config().vocab;
    let weights = Weights::open(model.path())?;
    let floats = candle::Llama::load(&weights, &DeviceChoice::Cpu.open()?, Precision::F32)?;
    let mut floats = CandleDecoder::new(Arc::new(floats), LENGTH)?;
    let mut ours = model.decoder(LENGTH)?;
    let mut tallies: [Tally; 3] = Default::default();
    // Differences of both means, text by text: nearby positions of a text are correlated, texts are
    // independent.
    let mut differences = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        llama.ask("context 0")?;
        floats.truncate(0);
        ours.truncate(0);
        let before = tallies[0].kl.len();
        for (pass, tokens) in text.chunks(at_once).enumerate() {
            for decoder in [&mut floats as &mut dyn Decoder, &mut *ours] {
                decoder.append(&chain(tokens), Pass::FULL)?;
            }
            let theirs = llama.logits(tokens, vocab)?;
            for i in 0..tokens.len() {
                let truth = law(floats.logits(i))?;
                let next = text.get(pass * at_once + i + 1).copied();
                let laws =
                    [law(ours.logits(i))?, law(&theirs[i * vocab..][..vocab])?, truth.clone()];
                for (tally, law) in tallies.iter_mut().zip(&laws) {
                    tally.add(&truth, law, next);
                }
            }
            let all: Vec<usize> = (0..tokens.len()).collect();
            floats.commit(&all)?;
            ours.commit(&all)?;
        }
        let part = |tally: &Tally| tally.kl[before..].iter().sum::<f64>() / text.len() as f64;
        differences.push(part(&tallies[0]) - part(&tallies[1]));
        eprint!("\rpeer: text {} of {}", number + 1, texts.len());
    }
    eprintln!();
    let count = tallies[0].kl.len();
    println!(
        "{} on {}, {count} positions in {} texts, {at_once} tokens a pass",
        model.quantization(),
        model.device_name(),
        texts.len()
    );
    let mut rows = vec![
        [
            "against plain floats",
            "mean KL, nats",
            "median",
            "99%",
            "most",
            "same arg-max",
            "text, nats a token",
        ]
        .map(str::to_owned),
    ];
    for (name, tally) in ["ours", "llama.cpp", "plain floats"].into_iter().zip(&mut tallies) {
        let mean = tally.mean();
        tally.kl.sort_by(f64::total_cmp);
        let at = |share: f64| format!("{:.5}", tally.kl[(share * (count - 1) as f64) as usize]);
        rows.push([
            name.into(),
            format!("{mean:.5}"),
            at(0.5),
            at(0.99),
            at(1.0),
            format!("{:.2}%", 100.0 * tally.same as f64 / count as f64),
            format!("{:.4}", tally.surprise / (count - texts.len()) as f64),
        ]);
    }
    print!("{}", columns(&rows));
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let spread =
        (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    println!(
        "ours less llama.cpp's, text by text: {mean:+.5} with a standard error of {spread:.5}"
    );
    Ok(())
}
