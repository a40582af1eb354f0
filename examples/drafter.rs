//! A custom drafter that implements the public `Drafter` trait.
//!
//! It proposes the token that most recently followed the last one.
//!
//! `cargo run --release --example drafter -- model.gguf 'Say red, green, blue four times.'`

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use speclight::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, Shape};
use speclight::engine::{Session, Vocabulary};
use speclight::model::{Model, device::DeviceChoice};
use speclight::telemetry::{StepSettings, Tally};
use speclight::tree::{TokenId, TokenTree};

#[derive(Clone, Default)]
struct Latest(HashMap<TokenId, TokenId>);

impl Drafter for Latest {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::new("latest", "a look-up")
    }
    fn reset(&mut self) {
        self.0.clear();
    }
    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.0.extend(request.tokens.windows(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }
    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        at: &[usize],
        _: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let next = |&node: &usize| {
            self.0.get(&tree.token(node)).filter(|token| !request.stop.contains(token))
        };
        Ok(at
            .iter()
            .map(|node| next(node).map(|&token| Candidate { token, q: 0.5 }).into_iter().collect())
            .collect())
    }
    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(Latest::default()))
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (path, prompt) =
        arguments.next().zip(arguments.next()).context("give a model file and a prompt")?;
    let model = Model::open(path.as_ref(), DeviceChoice::Cpu, None)?;
    let tokens = model.prompt_tokens(&prompt, false)?;
    let vocabulary = Arc::new(Vocabulary::new(
        model.tokenizer().token_bytes(),
        model.tokenizer().stop_tokens().to_vec(),
    ));
    let settings = StepSettings::new("latest", Shape::Chain, 8, 0.0);
    let mut session = Session::new(
        model.decoder(2048)?,
        vec![Box::new(Latest::default())],
        vocabulary,
        settings,
    )?;
    session.start("0", &tokens, 200)?;
    let mut tally = Tally::default();
    while let Some(record) = session.step()? {
        print!("{}", record.emitted_text.concat());
        tally.add(&record);
    }
    println!("\n{:.2} tokens a step", tally.summary(None).tokens_per_step);
    Ok(())
}
