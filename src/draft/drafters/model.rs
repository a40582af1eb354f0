//! Drafter that runs a second, smaller model with the target's vocabulary.

use crate::draft::drafters::explore::{Explorer, candidates, drafter_warp};
use crate::draft::{Candidate, Context, CostModel, DraftError, Drafter};
use crate::model::{Decoder, Logits, Pass};
use crate::tree::{TokenId, TokenTree};

/// Tokens per pass while the draft model reads tokens that are new to it.
const PREFILL: usize = 128;

/// Draft model with its own decoder, whose cache follows the text. Nodes that it ran and the target
/// accepted are committed, not run again.
pub struct ModelDrafter {
    decoder: Box<dyn Decoder>,
    name: String,
    /// Token and parent slot of each uncommitted node, by slot. The next step uses it to find the
    /// accepted nodes.
    ran: Vec<(TokenId, Option<usize>)>,
    explorer: Explorer,
}

impl ModelDrafter {
    /// Creates a drafter that runs `decoder`; `name` appears in its cost description.
    ///
    /// The sizes of the vocabularies are checked here. The caller must check that their tokens are
    /// the same (`model::same_vocabulary`).
    ///
    /// # Errors
    /// If the vocabularies have different sizes.
    pub fn new(
        decoder: Box<dyn Decoder>,
        name: &str,
        target_vocabulary: usize,
    ) -> Result<Self, DraftError> {
        let own = decoder.config().vocab;
        if own != target_vocabulary {
            return Err(DraftError::Unfit(format!(
                "{name} has a vocabulary of {own} tokens, the target of {target_vocabulary}: give a draft model of the same family"
            )));
        }
        Ok(Self { decoder, name: name.into(), ran: Vec::new(), explorer: Explorer::default() })
    }

    /// Commits the path of uncommitted nodes that carries the text's next tokens. Returns the
    /// number of committed tokens.
    fn commit_accepted(&mut self, new: &[TokenId]) -> Result<usize, DraftError> {
        let mut path = Vec::new();
        for &token in new {
            let below = path.last().copied();
            match self.ran.iter().position(|&(t, parent)| t == token && parent == below) {
                Some(slot) => path.push(slot),
                None => break,
            }
        }
        if path.is_empty() {
            self.decoder.discard();
        } else {
            self.decoder.commit(&path)?;
        }
        self.ran.clear();
        Ok(path.len())
    }
}

impl Drafter for ModelDrafter {
    fn name(&self) -> &'static str {
        "model"
    }

    fn cost(&self) -> String {
        let c = self.decoder.config();
        format!("{}: {} layers of width {} and its head, once a depth", self.name, c.layers, c.dim)
    }

    fn reset(&mut self) {
        self.decoder.truncate(0);
        self.ran.clear();
    }

    fn worth(&mut self, worth: Option<CostModel>) {
        self.explorer.set_cost_model(worth);
    }

    fn costly(&self) -> bool {
        true
    }

    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError> {
        self.explorer.clear();
        // The root is not committed, so that a step can be begun again.
        let context = &cx.tokens[..cx.tokens.len().saturating_sub(1)];
        let known = self.decoder.len().min(context.len());
        let accepted = self.commit_accepted(&context[known..])?;
        // If the text does not fit this model's context, it proposes nothing and the run goes on.
        let new = &context[known + accepted..];
        if self.decoder.len() + new.len() < self.decoder.capacity() {
            self.decoder.prefill(new, PREFILL, Logits::None)?;
        }
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        if self.decoder.len() + 1 < cx.tokens.len() {
            return Ok(vec![Vec::new(); nodes.len()]);
        }
        let ran = self.explorer.run(&mut *self.decoder, tree, nodes, Pass::FULL)?;
        for node in ran.iter().map(|&place| nodes[place]) {
            let parent = tree.parent(node).and_then(|p| self.explorer.slot(p));
            self.ran.push((tree.token(node), parent));
        }
        let all = candidates(
            &*self.decoder,
            None,
            &ran,
            nodes.len(),
            width,
            &drafter_warp(cx.warp),
            cx.stop,
        )?;
        self.explorer.learn_pass(&all);
        Ok(all)
    }

    fn at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let mut decoder = self.decoder.fork()?;
        decoder.truncate(tokens.saturating_sub(1));
        Ok(Box::new(ModelDrafter {
            decoder,
            name: self.name.clone(),
            ran: Vec::new(),
            explorer: Explorer::default(),
        }))
    }
}
