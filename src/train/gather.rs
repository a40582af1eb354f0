//! Corpus generation: the target answers prompts, several at a time.

use std::sync::mpsc::{SyncSender, sync_channel};

use half::f16;

use super::TrainError;
use super::corpus::{Corpus, CorpusText, TOP};
use crate::distribution::{Sampling, TokenDist};
use crate::model::{Decoder, Logits, Model, Node, Parent, Pass};
use crate::tree::TokenId;
use crate::verify::TextRandom;

/// Number of answers generated together.
///
/// A token of a larger pass costs less, but each answer's keys lie further apart.
const MAX_BRANCHES: usize = 4;
/// Number of texts that may wait in a writer's queue.
///
/// Texts differ much in length, and a writer that is ahead can go on meanwhile.
const QUEUE_CAPACITY: usize = 64;
/// Tokens of a prompt in one pass.
const CHUNK: usize = 64;

/// Prompt to answer, and the follow-up prompt to build from the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptTask {
    /// Text of the prompt.
    pub text: String,
    /// Beginning of the answer, to be continued; `None` to start a new one.
    pub answer_start: Option<String>,
    /// Follow-up prompt, with the answer in place of `{}`.
    pub follow_up: Option<String>,
    /// Marks a text to train on as it stands, not a prompt; nothing is generated.
    pub is_given_text: bool,
}

/// Answer being generated, as a branch below the empty context.
struct Branch {
    prompt: u32,
    then: Option<String>,
    prompt_tokens: usize,
    tokens: Vec<TokenId>,
    slots: Vec<usize>,
    laws: Vec<(TokenId, f16)>,
    warp: Sampling,
    draws: TextRandom,
}

/// Settings for generating texts.
#[derive(Clone, Copy, Debug)]
pub struct GenerationOptions {
    /// Seed for sampling the answers.
    pub seed: u64,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
    /// Corpus size, in tokens, at which generation ends.
    pub tokens: usize,
}

/// Generates answers to `asks` with `models`, all copies of the same one.
///
/// Goes on in order until the corpus is large enough or all are answered. Each model runs on a
/// thread of its own; the texts enter the corpus by turns, so that its order does not depend on
/// which is faster. Prompts that the corpus already has are skipped. `after` has the numbers of
/// layers after which hidden states are kept. `tell` is called after each text; it returns false to
/// stop.
///
/// # Errors
/// If a pass fails or the corpus can't be written.
pub fn gather(
    models: &[Model],
    asks: &[PromptTask],
    corpus: &mut Corpus,
    after: &[usize],
    writing: GenerationOptions,
    tell: &mut dyn FnMut(&Corpus) -> bool,
) -> Result<(), TrainError> {
    let answered = answered(corpus, asks.len())?;
    let answered = &answered;
    std::thread::scope(|scope| {
        let (mut texts, mut writers) = (Vec::new(), Vec::new());
        for (w, model) in models.iter().enumerate() {
            let (give, take) = sync_channel(QUEUE_CAPACITY);
            texts.push(take);
            let write = move || {
                let mine = (0..).zip(asks).filter(|(i, _)| i % models.len() == w && !answered[*i]);
                let waiting = mine.map(|(i, ask)| (i as u32, ask.clone())).collect();
                Writer { model, asks: asks.len() as u32, answered, writing }
                    .write(waiting, after, &give)
            };
            let writer = std::thread::Builder::new().spawn_scoped(scope, write);
            writers.push(writer.map_err(|source| TrainError::Thread { source })?);
        }
        let (mut turn, mut on) = (0, corpus.tokens() < writing.tokens);
        while on && !texts.is_empty() {
            turn %= texts.len();
            let Ok(text) = texts[turn].recv() else {
                drop(texts.remove(turn));
                continue;
            };
            corpus.push(&text)?;
            turn += 1;
            on = tell(corpus) && corpus.tokens() < writing.tokens;
        }
        // Writers that are still running fail to send their texts, and end.
        drop(texts);
        writers.into_iter().try_for_each(|writer| {
            writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// Returns for each prompt, then for each follow-up, true if the corpus already has it.
pub(super) fn answered(corpus: &mut Corpus, asks: usize) -> Result<Vec<bool>, TrainError> {
    let mut answered = vec![false; 2 * asks];
    for i in 0..corpus.len() {
        if let Some(done) = answered.get_mut(corpus.read(i)?.prompt as usize) {
            *done = true;
        }
    }
    Ok(answered)
}

/// Number of tokens of a text to train on that count as its prompt.
pub(super) const GIVEN_PROMPT_TOKENS: usize = 8;

/// Returns the tokens that an answer follows, or all tokens of a given text.
///
/// Returns `None` for a text that is too short to train on.
pub(super) fn start_tokens(
    model: &Model,
    ask: &PromptTask,
) -> Result<Option<Vec<TokenId>>, TrainError> {
    let mut tokens = if ask.is_given_text {
        model.tokenizer().encode(&ask.text, false)?
    } else {
        model.prompt_tokens(&ask.text, false)?
    };
    if let Some(begun) = &ask.answer_start {
        tokens.extend(model.tokenizer().encode(begun, false)?);
    }
    Ok((!ask.is_given_text || tokens.len() > GIVEN_PROMPT_TOKENS).then_some(tokens))
}

/// Chooses a temperature of 0, 0.6 or 1 at random.
///
/// Greedy texts repeat themselves and sampled ones drift: a head has to draft for both.
pub(super) fn temperature(draws: &TextRandom) -> f32 {
    match draws.uniform(usize::MAX >> 1) {
        u if u < 0.45 => 0.0,
        u if u < 0.65 => 0.6,
        _ => 1.0,
    }
}

/// Builds the follow-up prompt from an answer.
pub(super) fn build_follow_up(model: &Model, then: &str, answer: &[TokenId]) -> PromptTask {
    let (bytes, stop) = (model.tokenizer().token_bytes(), model.tokenizer().stop_tokens());
    let of = |token: &TokenId| bytes.get(*token as usize).map_or(&[][..], |bytes| bytes);
    let said: Vec<u8> = answer.iter().filter(|t| !stop.contains(t)).flat_map(of).copied().collect();
    PromptTask {
        text: then.replace("{}", String::from_utf8_lossy(&said).trim()),
        answer_start: None,
        follow_up: None,
        is_given_text: false,
    }
}

/// Thread that generates answers with one model.
struct Writer<'a> {
    model: &'a Model,
    /// Number of prompts in total.
    asks: u32,
    /// True for each prompt, then for each follow-up, that the corpus already has.
    answered: &'a [bool],
    writing: GenerationOptions,
}

impl Writer<'_> {
    /// Answers `waiting` in order, until all are answered or the receiver is gone.
    fn write(
        &self,
        mut waiting: Vec<(u32, PromptTask)>,
        after: &[usize],
        give: &SyncSender<CorpusText>,
    ) -> Result<(), TrainError> {
        let Writer { model, writing, .. } = self;
        let mut decoder = model.decoder(8192)?;
        if !decoder.keep_hidden(after) {
            return Err(TrainError::Device);
        }
        // `pop` takes the last one first.
        waiting.reverse();
        let stop = model.tokenizer().stop_tokens();
        let mut branches: Vec<Branch> = Vec::new();
        loop {
            while branches.len() < MAX_BRANCHES
                && let Some((number, ask)) = waiting.pop()
            {
                let Some(tokens) = start_tokens(model, &ask)? else { continue };
                let owed: usize = branches
                    .iter()
                    .map(|b| b.prompt_tokens + writing.max_tokens - b.tokens.len())
                    .sum();
                let needed = tokens.len() + writing.max_tokens;
                if decoder.nodes() + owed + needed > decoder.capacity() {
                    if needed <= decoder.capacity() && !branches.is_empty() {
                        // There is enough space once all branches have ended.
                        waiting.push((number, ask));
                        break;
                    }
                    if needed > decoder.capacity() {
                        continue;
                    }
                    decoder.discard();
                }
                let given = ask.is_given_text;
                let branch = Branch::begin(&mut *decoder, number, ask, tokens, writing.seed)?;
                if !given {
                    branches.push(branch);
                } else if give.send(branch.end(&*decoder)?).is_err() {
                    return Ok(());
                }
            }
            if branches.is_empty() {
                return Ok(());
            }
            let nodes: Vec<Node> = branches.iter().filter_map(Branch::next).collect();
            let first = decoder.nodes();
            decoder.append(&nodes, Pass::FULL)?;
            for (i, branch) in branches.iter_mut().enumerate() {
                branch.slots.push(first + i);
                branch.read(decoder.logits(i))?;
            }
            let ended = |b: &Branch| {
                b.tokens.last().is_some_and(|t| stop.contains(t))
                    || b.tokens.len() >= b.prompt_tokens + writing.max_tokens
            };
            let mut i = 0;
            while i < branches.len() {
                if !ended(&branches[i]) {
                    i += 1;
                    continue;
                }
                let branch = branches.remove(i);
                let follow = branch.then.as_ref().map(|then| {
                    build_follow_up(model, then, &branch.tokens[branch.prompt_tokens..])
                });
                let number = branch.prompt + self.asks;
                if let Some(ask) =
                    follow.filter(|_| !self.answered.get(number as usize).copied().unwrap_or(true))
                {
                    waiting.push((number, ask));
                }
                if give.send(branch.end(&*decoder)?).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Branch {
    fn begin(
        decoder: &mut dyn Decoder,
        prompt: u32,
        ask: PromptTask,
        mut tokens: Vec<TokenId>,
        seed: u64,
    ) -> Result<Branch, TrainError> {
        // The last token of a text to train on is known and needs no pass.
        let next = if ask.is_given_text { tokens.pop() } else { None };
        let draws = TextRandom::new(seed, &prompt.to_string());
        let temperature = temperature(&draws);
        let mut branch = Branch {
            prompt,
            then: ask.follow_up,
            prompt_tokens: if ask.is_given_text { GIVEN_PROMPT_TOKENS } else { tokens.len() },
            tokens: Vec::new(),
            slots: Vec::new(),
            laws: Vec::new(),
            warp: Sampling { temperature, ..Sampling::PLAIN },
            draws,
        };
        let last = tokens.len() - 1;
        for (c, chunk) in tokens.chunks(CHUNK).enumerate() {
            let first = decoder.nodes();
            let node = |(j, &token): (usize, &TokenId)| {
                let before =
                    if j == 0 { branch.slots.last().copied() } else { Some(first + j - 1) };
                Node { token, parent: before.map_or(Parent::Context, Parent::Slot) }
            };
            let nodes: Vec<Node> = chunk.iter().enumerate().map(node).collect();
            decoder.append(&nodes, Pass { layers: usize::MAX, logits: Logits::All })?;
            for (j, &token) in chunk.iter().enumerate() {
                branch.tokens.push(token);
                branch.slots.push(first + j);
                match next {
                    None if c * CHUNK + j == last => branch.read(decoder.logits(j))?,
                    _ => branch.keep(decoder.logits(j))?,
                }
            }
        }
        branch.tokens.extend(next);
        Ok(branch)
    }

    fn next(&self) -> Option<Node> {
        Some(Node {
            token: *self.tokens.last()?,
            parent: self.slots.last().map_or(Parent::Context, |&s| Parent::Slot(s)),
        })
    }

    fn keep(&mut self, logits: &[f32]) -> Result<(), TrainError> {
        let law = TokenDist::new(logits, &Sampling::PLAIN)?;
        let before = self.laws.len();
        self.laws.extend(law.top(TOP).into_iter().map(|(token, p)| (token, f16::from_f64(p))));
        self.laws.resize(before + TOP, (0, f16::ZERO));
        Ok(())
    }

    /// Keeps the distribution after the last token, and samples the next token.
    fn read(&mut self, logits: &[f32]) -> Result<(), TrainError> {
        self.keep(logits)?;
        let token =
            TokenDist::new(logits, &self.warp)?.sample(self.draws.uniform(self.tokens.len()));
        self.tokens.push(token);
        Ok(())
    }

    fn end(self, decoder: &dyn Decoder) -> Result<CorpusText, TrainError> {
        let mut hidden = Vec::new();
        for &slot in &self.slots {
            let row = decoder
                .hidden(decoder.len() + slot..decoder.len() + slot + 1)
                .ok_or(TrainError::Device)?;
            hidden.extend(row.iter().map(|&x| f16::from_f32(x.clamp(-65504.0, 65504.0))));
        }
        Ok(CorpusText {
            prompt: self.prompt,
            prompt_tokens: self.prompt_tokens as u32,
            tokens: self.tokens,
            hidden,
            distributions: self.laws,
        })
    }
}
