//! Decoder on candle: slots, cache and logits of one context.

use std::cell::OnceCell;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::Llama;
use super::cache::Cache;
use super::llama::Batch;
use super::reduce::reduce;
use crate::model::uncommitted::UncommittedNodes;
use crate::model::{Config, Decoder, ForwardError, Logits, Node, Pass, Reductions};
use crate::tree::TokenId;

/// A [`Decoder`] that runs candle operations, on any device.
#[derive(Debug)]
pub struct CandleDecoder {
    llama: Arc<Llama>,
    cache: Cache,
    len: usize,
    uncommitted: UncommittedNodes,
    /// Logits of the last pass, (nodes, vocab), on the device.
    ///
    /// The first row belongs to node `first` of the pass.
    logits: Option<Tensor>,
    first: usize,
    /// Rows of `logits` that were copied to the host on request.
    rows: Vec<OnceCell<Vec<f32>>>,
    reduces: bool,
}

impl CandleDecoder {
    /// Creates an empty context for `capacity` positions (at least one).
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(llama: Arc<Llama>, capacity: usize) -> std::result::Result<Self, ForwardError> {
        let cache = Cache::new(llama.config(), capacity.max(1), llama.device())?;
        Ok(Self::over(llama, cache, 0))
    }

    fn over(llama: Arc<Llama>, cache: Cache, len: usize) -> Self {
        let reduces = !llama.device().is_cpu();
        Self {
            llama,
            cache,
            len,
            uncommitted: UncommittedNodes::default(),
            logits: None,
            first: 0,
            rows: Vec::new(),
            reduces,
        }
    }

    /// Makes [`Decoder::reduced`] work on a CPU too, for tests.
    ///
    /// There the logits are in host memory already and need no reduction.
    pub fn with_reduction(self) -> Self {
        Self { reduces: true, ..self }
    }

    /// Runs the pass over the nodes from slot `before` on.
    ///
    /// The nodes must have been added to `uncommitted` already.
    fn run(&mut self, before: usize, nodes: &[Node], pass: Pass) -> Result<()> {
        self.logits = None;
        self.rows.clear();
        if nodes.is_empty() {
            return Ok(());
        }
        self.cache.reserve(self.len + self.uncommitted.len())?;
        let tokens: Vec<TokenId> = nodes.iter().map(|node| node.token).collect();
        let positions: Vec<usize> = (before..self.uncommitted.len())
            .map(|slot| self.len + self.uncommitted.depth(slot))
            .collect();
        let mask = self.mask(before);
        let batch = Batch {
            tokens: &tokens,
            positions: &positions,
            first_row: self.len + before,
            mask,
            mask_from: self.len,
        };
        let x = self.llama.run_layers(&batch, &self.cache, pass.layers)?;
        let wanted = match pass.logits {
            Logits::All => nodes.len(),
            Logits::Last => 1,
            Logits::None => return Ok(()),
        };
        self.first = nodes.len() - wanted;
        self.logits = Some(self.llama.compute_logits(&x.narrow(0, self.first, wanted)?)?);
        self.rows.resize_with(wanted, OnceCell::new);
        // Waits for the device, so that timings cover the work itself and errors are reported here.
        self.llama.device().synchronize()?;
        Ok(())
    }

    /// Attention mask of the nodes from slot `before` on over all uncommitted nodes.
    ///
    /// 0 or -inf, row by row. `None` if every node sees all of them.
    fn mask(&self, before: usize) -> Option<Vec<f32>> {
        let slots = self.uncommitted.len();
        let mut mask = vec![f32::NEG_INFINITY; (slots - before) * slots];
        let mut hidden = mask.len();
        for (row, slot) in mask.chunks_exact_mut(slots).zip(before..) {
            for seen in self.uncommitted.path_to_context(slot) {
                row[seen] = 0.0;
                hidden -= 1;
            }
        }
        (hidden > 0).then_some(mask)
    }
}

impl Decoder for CandleDecoder {
    fn config(&self) -> &Config {
        self.llama.config()
    }

    fn capacity(&self) -> usize {
        self.cache.capacity()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn nodes(&self) -> usize {
        self.uncommitted.len()
    }

    fn append(&mut self, nodes: &[Node], pass: Pass) -> std::result::Result<(), ForwardError> {
        let before = self.uncommitted.len();
        let pass = Pass { layers: pass.layers.min(self.config().layers), ..pass };
        self.uncommitted.append(
            self.llama.config().vocab,
            self.cache.capacity(),
            self.len,
            nodes,
            pass.layers,
        )?;
        self.run(before, nodes, pass).map_err(|e| {
            self.uncommitted.truncate(before);
            e.into()
        })
    }

    /// Copies a row to the host on first use; empty if the device fails.
    fn logits(&self, i: usize) -> &[f32] {
        let row = i.checked_sub(self.first).and_then(|row| Some((row, self.rows.get(row)?)));
        let (row, cell) = row.expect("logits that were asked for");
        cell.get_or_init(|| {
            let logits = self.logits.as_ref().map(|all| all.get(row).and_then(|row| row.to_vec1()));
            logits.and_then(Result::ok).unwrap_or_default()
        })
    }

    fn reduced(
        &self,
        temperatures: &[f32],
        tokens: &[(usize, TokenId)],
    ) -> std::result::Result<Option<Reductions>, ForwardError> {
        match &self.logits {
            Some(logits) if self.reduces => Ok(Some(reduce(logits, temperatures, tokens)?)),
            _ => Ok(None),
        }
    }

    fn commit(&mut self, path: &[usize]) -> std::result::Result<(), ForwardError> {
        self.uncommitted.check_path(path, self.config().layers)?;
        self.cache.gather(self.len, path)?;
        self.len += path.len();
        self.uncommitted.truncate(0);
        Ok(())
    }

    fn discard(&mut self) {
        self.uncommitted.truncate(0);
    }

    fn truncate(&mut self, len: usize) {
        self.uncommitted.truncate(0);
        self.len = self.len.min(len);
    }

    fn fork(&self) -> std::result::Result<Box<dyn Decoder>, ForwardError> {
        let (llama, cache) = (self.llama.clone(), self.cache.fork(self.len)?);
        Ok(Box::new(Self { reduces: self.reduces, ..Self::over(llama, cache, self.len) }))
    }
}
