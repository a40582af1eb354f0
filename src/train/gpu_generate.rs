//! Corpus generation on a GPU: hundreds of answers at a time, kept as texts alone.

use std::collections::VecDeque;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::TrainError;
use super::corpus::{Corpus, CorpusText};
use super::gather::{
    GIVEN_PROMPT_TOKENS, GenerationOptions, PromptTask, answered, build_follow_up, start_tokens,
    temperature,
};
use crate::model::Model;
use crate::model::candle::{Llama, TextBatch};
use crate::model::device::memory;
use crate::tree::TokenId;
use crate::verify::TextRandom;

/// Maximum number of answers generated together.
///
/// A large GPU takes little longer for this many than for a few.
const MAX_BATCH: usize = 2048;
/// Number of prompts sorted by length, so that those answered together are of similar length.
const SORTED: usize = 4 * MAX_BATCH;
/// Divisor of the device's memory that gives the part for keys and values.
const MEMORY_DIVISOR: usize = 4;
/// Tokens of each prompt in one pass.
const CHUNK: usize = 64;
/// Number of probabilities summed together in sampling a token.
const BLOCK: usize = 256;

/// Answer that is being generated.
struct Answer {
    prompt: u32,
    then: Option<String>,
    prompt_tokens: usize,
    tokens: Vec<TokenId>,
    temperature: f32,
    draws: TextRandom,
    ended: bool,
}

/// Generates answers to `asks` with `llama`, which is `model` on a GPU.
///
/// Goes on in order until the corpus is large enough or all are answered, as [`super::gather`]
/// does. The sampled tokens of a prompt do not depend on the prompts beside it, except for the last
/// bits of the device's sums.
///
/// # Errors
/// If the device fails or the corpus can't be written.
pub fn gather_on_gpu(
    llama: &Arc<Llama>,
    model: &Model,
    asks: &[PromptTask],
    corpus: &mut Corpus,
    writing: GenerationOptions,
    tell: &mut dyn FnMut(&Corpus) -> bool,
) -> std::result::Result<(), TrainError> {
    let answered = answered(corpus, asks.len())?;
    let memory = memory(llama.device()) / MEMORY_DIVISOR;
    let mut waiting: VecDeque<(u32, PromptTask)> = (0..)
        .zip(asks)
        .filter(|(i, _)| !answered[*i as usize])
        .map(|(i, ask)| (i, ask.clone()))
        .collect();
    while corpus.tokens() < writing.tokens && !waiting.is_empty() {
        let mut answers = Vec::new();
        for (prompt, ask) in waiting.drain(..waiting.len().min(SORTED)) {
            let Some(tokens) = start_tokens(model, &ask)? else { continue };
            if ask.is_given_text {
                // No more than requested, as where texts are generated.
                if corpus.tokens() < writing.tokens {
                    let prompt_tokens = GIVEN_PROMPT_TOKENS as u32;
                    corpus.push(&CorpusText::tokens_only(prompt, prompt_tokens, tokens))?;
                }
                continue;
            }
            let draws = TextRandom::new(writing.seed, &prompt.to_string());
            let temperature = temperature(&draws);
            answers.push(Answer {
                prompt,
                then: ask.follow_up,
                prompt_tokens: tokens.len(),
                tokens,
                temperature,
                draws,
                ended: false,
            });
        }
        answers.retain(|answer| answer.prompt_tokens > 0 && room(llama, answer, writing) <= memory);
        answers.sort_by_key(|answer| answer.prompt_tokens);
        while let Some(last) = answers.last() {
            // The last one has the longest prompt.
            let together =
                (memory / room(llama, last, writing)).clamp(1, MAX_BATCH).min(answers.len());
            let now = answers.split_off(answers.len() - together);
            for answer in write(llama, model, now, writing)? {
                let Answer { prompt, prompt_tokens, tokens, .. } = answer;
                let number = prompt + asks.len() as u32;
                if let Some(then) =
                    answer.then.filter(|_| !answered.get(number as usize).copied().unwrap_or(true))
                {
                    waiting.push_back((
                        number,
                        build_follow_up(model, &then, &tokens[prompt_tokens..]),
                    ));
                }
                let prompt_tokens = prompt_tokens as u32;
                corpus.push(&CorpusText::tokens_only(prompt, prompt_tokens, tokens))?;
            }
            if !tell(corpus) {
                return Ok(());
            }
            if corpus.tokens() >= writing.tokens {
                break;
            }
        }
    }
    Ok(())
}

/// Returns the bytes that an answer's keys and values take.
fn room(llama: &Llama, answer: &Answer, writing: GenerationOptions) -> usize {
    let config = llama.config();
    (answer.prompt_tokens + writing.max_tokens)
        * config.layers
        * config.kv_heads
        * config.head_dim
        * 2
        * size_of::<f32>()
}

/// Generates answers to their ends.
fn write(
    llama: &Arc<Llama>,
    model: &Model,
    mut answers: Vec<Answer>,
    writing: GenerationOptions,
) -> Result<Vec<Answer>> {
    let longest = answers.iter().map(|answer| answer.prompt_tokens).max().unwrap_or(0);
    let pads: Vec<usize> = answers.iter().map(|answer| longest - answer.prompt_tokens).collect();
    let mut texts = TextBatch::new(llama.clone(), pads.clone(), longest + writing.max_tokens)?;
    let mut last = None;
    for from in (0..longest).step_by(CHUNK) {
        let to = longest.min(from + CHUNK);
        let token = |(answer, &pad): (&Answer, &usize), i: usize| {
            i.checked_sub(pad).map_or(0, |i| answer.tokens[i])
        };
        let tokens: Vec<TokenId> = answers
            .iter()
            .zip(&pads)
            .flat_map(|row| (from..to).map(move |i| token(row, i)))
            .collect();
        let seen = texts.append(&tokens, &[])?.last;
        last = Some(
            seen.reshape((answers.len(), to - from, ()))?
                .narrow(1, to - from - 1, 1)?
                .squeeze(1)?,
        );
    }
    let Some(mut last) = last else { return Ok(answers) };
    let stop = model.tokenizer().stop_tokens();
    let mut done = Vec::new();
    loop {
        let logits = llama.compute_logits(&last)?;
        let temperatures: Vec<f32> = answers.iter().map(|answer| answer.temperature).collect();
        let uniform: Vec<f32> =
            answers.iter().map(|answer| answer.draws.uniform(answer.tokens.len()) as f32).collect();
        let drawn = draw(&logits, &temperatures, &uniform)?;
        for (answer, &token) in answers.iter_mut().zip(&drawn).filter(|(answer, _)| !answer.ended) {
            answer.tokens.push(token);
            answer.ended = stop.contains(&token)
                || answer.tokens.len() >= answer.prompt_tokens + writing.max_tokens;
        }
        let going: Vec<u32> =
            (0..).zip(&answers).filter(|(_, answer)| !answer.ended).map(|(i, _)| i).collect();
        if going.is_empty() {
            done.append(&mut answers);
            return Ok(done);
        }
        // An answer that has ended stays in the batch for a while: removing it copies all others.
        let mut tokens = drawn;
        if going.len() * 8 <= answers.len() * 7 {
            texts.keep(&going)?;
            tokens = going.iter().map(|&i| tokens[i as usize]).collect();
            let (ends, on) = answers.into_iter().partition(|answer| answer.ended);
            done.extend::<Vec<Answer>>(ends);
            answers = on;
        }
        last = texts.append(&tokens, &[])?.last;
    }
}

/// Samples a token for each row of `logits` (rows, vocab), at the row's temperature.
///
/// At temperature 0 it is the most probable token, else the first at which the probabilities, added
/// in order of ids, exceed `uniform`, which is below 1.
fn draw(logits: &Tensor, temperatures: &[f32], uniform: &[f32]) -> Result<Vec<TokenId>> {
    let (rows, vocab) = logits.dims2()?;
    let device = logits.device();
    let inverse: Vec<f32> =
        temperatures.iter().map(|&t| if t > 0.0 { 1.0 / t } else { 1.0 }).collect();
    let weights = softmax_last_dim(&logits.broadcast_mul(&Tensor::from_slice(
        &inverse,
        (rows, 1),
        device,
    )?)?)?;
    let blocks = vocab.div_ceil(BLOCK);
    let weights =
        weights.pad_with_zeros(1, 0, blocks * BLOCK - vocab)?.reshape((rows * blocks, BLOCK))?;
    // First the block, then the token within it: the number of cumulative sums that do not exceed
    // the goal.
    let beyond = |sums: &Tensor, goal: &Tensor| -> Result<Tensor> {
        let last = sums.dim(1)? as f64 - 1.0;
        sums.broadcast_le(goal)?.to_dtype(DType::F32)?.sum_keepdim(1)?.minimum(last)
    };
    let sums = cumulative_sums(&weights.sum(1)?.reshape((rows, blocks))?)?;
    let goal =
        (Tensor::from_slice(uniform, (rows, 1), device)? * sums.narrow(1, blocks - 1, 1)?)?;
    let block = beyond(&sums, &goal)?;
    let number = block.to_dtype(DType::U32)?;
    let before =
        Tensor::cat(&[&sums.zeros_like()?.narrow(1, 0, 1)?, &sums], 1)?.gather(&number, 1)?;
    let first: Vec<u32> = (0..rows).map(|row| (row * blocks) as u32).collect();
    let chosen = (Tensor::from_vec(first, (rows, 1), device)? + &number)?;
    let within = beyond(
        &cumulative_sums(&weights.index_select(&chosen.flatten_all()?, 0)?)?,
        &(goal - before)?,
    )?;
    let drawn = ((number * BLOCK as f64)? + within.to_dtype(DType::U32)?)?.flatten_all()?;
    let both = Tensor::stack(&[logits.argmax(1)?, drawn], 0)?.to_vec2::<u32>()?;
    let choose = |(row, &t): (usize, &f32)| both[usize::from(t > 0.0)][row].min(vocab as u32 - 1);
    Ok(temperatures.iter().enumerate().map(choose).collect())
}

/// Returns the cumulative sums of each row.
///
/// Candle's own version multiplies by a matrix of the row length squared, whatever the precision.
fn cumulative_sums(x: &Tensor) -> Result<Tensor> {
    let mut sums = x.clone();
    let n = x.dim(1)?;
    let mut by = 1;
    while by < n {
        let earlier = sums.narrow(1, 0, n - by)?.pad_with_zeros(1, by, 0)?;
        sums = (sums + earlier)?;
        by *= 2;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn tokens_are_sampled_by_their_probabilities() {
        let vocab = 700;
        let logits: Vec<f32> =
            (0..3 * vocab).map(|i| ((i * i) as f32 * 0.13).sin() * 4.0).collect();
        let rows = Tensor::from_slice(&logits, (3, vocab), &Device::Cpu).unwrap();
        let temperatures = [0.0, 1.0, 0.6];
        let best = (0..vocab).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        for u in [0.0, 1e-4, 0.25, 0.5, 0.75, 0.93, 0.9999] {
            let drawn = draw(&rows, &temperatures, &[u; 3]).unwrap();
            assert_eq!(drawn[0] as usize, best);
            for row in 1..3 {
                let weight =
                    |i: usize| f64::from(logits[row * vocab + i] / temperatures[row]).exp();
                let all: f64 = (0..vocab).map(weight).sum();
                let upto = |end: usize| (0..end).map(weight).sum::<f64>() / all;
                let token = drawn[row] as usize;
                // Sums are in 32 bits.
                let (from, to) = (upto(token) - 2e-6, upto(token + 1) + 2e-6);
                assert!(
                    (from..=to).contains(&f64::from(u)),
                    "{u} in row {row}: token {token}, {from} to {to}"
                );
            }
        }
    }

    #[test]
    fn sums_up_to_each_place() {
        let x = Tensor::from_slice(
            &[1f32, 2.0, 3.0, 4.0, 5.0, 0.5, 0.25, 0.0, 1.0, 1.0],
            (2, 5),
            &Device::Cpu,
        )
        .unwrap();
        let want = vec![vec![1.0, 3.0, 6.0, 10.0, 15.0], vec![0.5, 0.75, 0.75, 1.75, 2.75]];
        assert_eq!(cumulative_sums(&x).unwrap().to_vec2::<f32>().unwrap(), want);
    }
}
