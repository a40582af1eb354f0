//! Programs under test: this one, llama.cpp and candle-transformers.
//!
//! All run the same tasks on the same token ids.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use speclight::distribution::argmax;
use speclight::model::{Decoder, Logits, Model, Node, Parent, Pass};
use speclight::tree::TokenId;

/// Number of committed tokens before a pass.
pub const CONTEXT: usize = 128;

/// Work to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Decodes this many tokens, one per pass, after [`CONTEXT`].
    Decode(usize),
    /// Reads this many tokens, with the logits of the last one.
    Prefill(usize),
    /// Runs one pass over this many tokens after [`CONTEXT`], with all logits.
    Pass(usize),
}

impl Task {
    /// Returns the task's name in the results.
    pub fn name(self) -> String {
        match self {
            Task::Decode(_) => "decode".into(),
            Task::Prefill(n) => format!("prefill.{n}"),
            Task::Pass(n) => format!("pass.{n}"),
        }
    }

    fn line(self) -> String {
        match self {
            Task::Decode(n) => format!("decode {n}"),
            Task::Prefill(n) => format!("prefill {n}"),
            Task::Pass(n) => format!("pass {n}"),
        }
    }

    fn parse(line: &str) -> anyhow::Result<Task> {
        let (name, n) = line.split_once(' ').context("no such task")?;
        let n = n.parse()?;
        Ok(match name {
            "decode" => Task::Decode(n),
            "prefill" => Task::Prefill(n),
            "pass" => Task::Pass(n),
            _ => bail!("no such task"),
        })
    }
}

/// Program that can be timed.
pub trait Side {
    /// Runs a task and returns its time in seconds.
    fn time(&mut self, task: Task) -> anyhow::Result<f64>;
}

/// Returns the i-th synthetic token; the amount of work does not depend on the tokens.
pub fn synthetic_token(i: usize, vocab: usize) -> TokenId {
    (i * 7919 % vocab) as TokenId
}

/// Returns the nodes of a chain below the context.
pub fn chain(tokens: &[TokenId]) -> Vec<Node> {
    let parent = |i: usize| i.checked_sub(1).map_or(Parent::Context, Parent::Slot);
    tokens.iter().enumerate().map(|(i, &token)| Node { token, parent: parent(i) }).collect()
}

/// Speclight itself, called as a library.
pub struct Speclight {
    decoder: Box<dyn Decoder>,
    words: Vec<TokenId>,
}

impl Speclight {
    pub fn new(model: &Model) -> anyhow::Result<Self> {
        let vocab = model.config().vocab;
        Ok(Self {
            decoder: model.decoder(1024)?,
            words: (0..1024).map(|i| synthetic_token(i, vocab)).collect(),
        })
    }
}

impl Side for Speclight {
    fn time(&mut self, task: Task) -> anyhow::Result<f64> {
        let Self { decoder, words } = self;
        if let Task::Prefill(n) = task {
            decoder.truncate(0);
            let start = Instant::now();
            decoder.prefill(&words[..n], n, Logits::Last)?;
            return Ok(start.elapsed().as_secs_f64());
        }
        decoder.truncate(CONTEXT);
        if decoder.len() < CONTEXT {
            let from = decoder.len();
            decoder.prefill(&words[from..CONTEXT], CONTEXT, Logits::None)?;
        }
        let start = Instant::now();
        match task {
            Task::Pass(n) => {
                decoder.append(&chain(&words[..n]), Pass::FULL)?;
                std::hint::black_box(decoder.logits(0));
            }
            Task::Decode(n) | Task::Prefill(n) => {
                let mut token = words[0];
                for _ in 0..n {
                    decoder.append(&chain(&[token]), Pass::FULL)?;
                    token = argmax(decoder.logits(0))?.0;
                    decoder.commit(&[0])?;
                }
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Child process that answers each line of command with a line.
pub struct PeerProcess {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl PeerProcess {
    /// Starts the process with piped standard input and output.
    pub fn start(name: &'static str, command: &mut Command) -> anyhow::Result<PeerProcess> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("can't start {name}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no output")?);
        Ok(PeerProcess { name, child, input, output: BufReader::new(output) })
    }

    /// Starts llama.cpp on a model.
    pub fn llama(driver: &Path, model: &Path, threads: usize) -> anyhow::Result<PeerProcess> {
        PeerProcess::start("llama.cpp", Command::new(driver).arg(model).arg(threads.to_string()))
    }

    /// Sends a command and returns the answer.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        let mut answer = String::new();
        if let Some(input) = &mut self.input {
            // If the process has ended, the empty answer below reports it.
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
        self.output.read_line(&mut answer)?;
        let answer = answer.trim();
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None if answer.is_empty() => bail!("{} ended at {line:.20}", self.name),
            None => bail!("{}, asked for {line:.20}: {answer}", self.name),
        }
    }

    /// Returns the logits after each of `tokens`, which follow the tokens read before.
    pub fn logits(&mut self, tokens: &[TokenId], vocab: usize) -> anyhow::Result<Vec<f32>> {
        let line: String = tokens.iter().map(|token| format!(" {token}")).collect();
        self.ask(&format!("logits{line}"))?;
        let mut bytes = vec![0; tokens.len() * vocab * 4];
        self.output.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

impl Side for PeerProcess {
    fn time(&mut self, task: Task) -> anyhow::Result<f64> {
        if !matches!(task, Task::Prefill(_)) {
            self.ask(&format!("context {CONTEXT}"))?;
        }
        Ok(self.ask(&task.line())?.parse()?)
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // Closing its input ends the process.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Serves candle-transformers' quantized_llama in a process of its own.
///
/// So its threads can be set by the environment variable that it reads. It computes only the last
/// token's logits in every pass.
pub fn serve_candle(model: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(model)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut empty = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let input = |tokens: &[TokenId]| Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0);
    let logits = |model: &mut ModelWeights, tokens: &[TokenId], at: usize| {
        model.forward(&input(tokens)?, at)?.to_vec2::<f32>()
    };
    let vocab = logits(&mut empty, &[0], 0)?[0].len();
    let words: Vec<TokenId> = (0..1024).map(|i| synthetic_token(i, vocab)).collect();
    let mut read = empty.clone();
    logits(&mut read, &words[..CONTEXT], 0)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        if line.starts_with("context") {
            println!("ok");
            continue;
        }
        let (task, mut model) = (Task::parse(&line)?, read.clone());
        let start = Instant::now();
        match task {
            Task::Prefill(n) => drop(logits(&mut model, &words[..n], 0)?),
            Task::Pass(n) => drop(logits(&mut model, &words[..n], CONTEXT)?),
            Task::Decode(n) => {
                let mut token = words[0];
                for i in 0..n {
                    token = argmax(&logits(&mut model, &[token], CONTEXT + i)?[0])?.0;
                }
            }
        }
        println!("ok {:.9}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
