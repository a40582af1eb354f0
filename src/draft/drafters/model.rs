//! Drafter that runs a second, smaller model with the target's vocabulary.

use crate::draft::drafters::explore::{Explorer, best_tokens, drafter_sampling};
use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::model::{Decoder, Logits, Pass};
use crate::tree::{TokenId, TokenTree};

/// Tokens per pass while the draft model reads tokens that are new to it.
const PREFILL: usize = 128;

/// Draft model with its own decoder, whose cache follows the text. Nodes that it ran and the target
/// accepted are committed, not run again.
pub struct ModelDrafter {
    decoder: Box<dyn Decoder>,
    name: String,
    /// Number of tokens that both models have; those above are never drafted.
    common: usize,
    /// Token and parent slot of each uncommitted node, by slot. The next step uses it to find the
    /// accepted nodes.
    ran: Vec<(TokenId, Option<usize>)>,
    explorer: Explorer,
}

impl ModelDrafter {
    /// Creates a drafter that runs `decoder`; `name` appears in its cost description.
    ///
    /// The caller must check that the tokens are the same (`model::same_vocabulary`). The
    /// embeddings may have different numbers of rows, as from padding.
    pub fn new(decoder: Box<dyn Decoder>, name: &str, target_vocabulary: usize) -> Self {
        let common = decoder.config().vocab.min(target_vocabulary);
        let (ran, explorer) = (Vec::new(), Explorer::default());
        Self { decoder, name: name.into(), common, ran, explorer }
    }

    /// Returns whether the draft model knows a token.
    fn knows(&self, token: TokenId) -> bool {
        (token as usize) < self.decoder.config().vocab
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
    fn info(&self) -> DrafterInfo {
        let c = self.decoder.config();
        let cost = format!(
            "{}: {} layers of width {} and its head, once a depth",
            self.name, c.layers, c.dim
        );
        DrafterInfo::with_model(DrafterKind::Model, cost)
    }

    fn reset(&mut self) {
        self.decoder.truncate(0);
        self.ran.clear();
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.explorer.clear();
        // The root is not committed, so that a step can be begun again.
        let context = &request.tokens[..request.tokens.len().saturating_sub(1)];
        let known = self.decoder.len().min(context.len());
        let accepted = self.commit_accepted(&context[known..])?;
        // If the text does not fit this model's context, it proposes nothing and the run goes on.
        let new = &context[known + accepted..];
        // The same holds for a token that only the target has.
        let known = new.iter().all(|token| self.knows(*token));
        if known && self.decoder.len() + new.len() < self.decoder.capacity() {
            self.decoder.prefill(new, PREFILL, Logits::None)?;
        }
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        if self.decoder.len() + 1 < request.tokens.len() {
            return Ok(vec![Vec::new(); nodes.len()]);
        }
        let known: Vec<usize> =
            (0..nodes.len()).filter(|place| self.knows(tree.token(nodes[*place]))).collect();
        let run: Vec<usize> = known.iter().map(|place| nodes[*place]).collect();
        let ran =
            self.explorer.run(&mut *self.decoder, tree, &run, Pass::FULL, request.cost_model)?;
        let sampling = drafter_sampling(&request.sampling);
        let mut all = vec![Vec::new(); nodes.len()];
        let mut lists = vec![Vec::new(); run.len()];
        for (i, &ran) in ran.iter().enumerate() {
            let parent = tree.parent(run[ran]).and_then(|p| self.explorer.slot(p));
            self.ran.push((tree.token(run[ran]), parent));
            let logits = self.decoder.logits(i);
            let logits = &logits[..self.common.min(logits.len())];
            let list = best_tokens(logits, None, width, &sampling, request.stop)?;
            all[known[ran]].clone_from(&list);
            lists[ran] = list;
        }
        self.explorer.learn_pass(&lists);
        Ok(all)
    }

    fn fork_at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let mut decoder = self.decoder.fork()?;
        decoder.truncate(tokens.saturating_sub(1));
        Ok(Box::new(ModelDrafter {
            decoder,
            name: self.name.clone(),
            common: self.common,
            ran: Vec::new(),
            explorer: Explorer::default(),
        }))
    }
}
