//! What one text gave: as much as the rows of the table need, and no more.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::telemetry::{StageTimes, StepRecord, Within};
use crate::theory::light::OracleCurve;
use crate::theory::light_units::StepSums;
use crate::theory::pool::Pool;
use crate::tree::TokenId;

/// Positions of a stretch of text: what the bootstrap resamples together, whoever drafts.
pub const STRETCH: usize = 32;
/// Cells to one nat of the grids of the stretches' laws, of which only ratios are used.
const COARSE: usize = 16;

/// Which text: indices into the settings' lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The set of prompts.
    pub set: usize,
    /// The temperature.
    pub temperature: usize,
    /// The prompt within its set.
    pub prompt: usize,
    /// The drafter; none for plain decoding.
    pub drafter: Option<usize>,
    /// The budget that it ran with.
    pub budget: usize,
}

/// A stretch of a text: the steps that began in it, by each budget up to the text's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Steps.
    pub steps: usize,
    /// Accepted drafted tokens, by budget.
    pub accepted: Vec<usize>,
    /// Sum of E\[X | T\], by budget.
    pub expected: Vec<f64>,
    /// The laws of its positions on a coarse grid, where it was decoded plainly.
    pub laws: Option<Pool>,
}

/// Step of a drafted text, for its speed of light.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LightStep {
    /// Tokens and seconds.
    pub sums: StepSums,
    /// Result of its oracle search, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<Searched>,
}

/// Result of an oracle search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// Masses of the oracle trees of the context.
    pub oracle: OracleCurve,
    /// E\[X | T\] of the drafter's best tree of the verified size.
    pub drafter_best: Option<f64>,
}

/// What one text gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Which text.
    pub key: Key,
    /// Why the prompt was refused, where it was.
    pub refused: Option<String>,
    /// Tokens that were put out.
    pub tokens: usize,
    /// Seconds by stage.
    pub time: StageTimes,
    /// SHA-256 of the tokens, in hexadecimal.
    pub sha256: String,
    /// Its stretches in turn.
    pub stretches: Vec<Stretch>,
    /// The laws of its positions, where it was decoded plainly.
    pub laws: Option<Pool>,
    /// Its steps in turn, where it was drafted. Empty in states of earlier versions.
    #[serde(default)]
    pub light: Vec<LightStep>,
}

impl Piece {
    /// Steps.
    pub fn steps(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.steps).sum()
    }

    /// A prompt that can't be run.
    pub fn refused(key: Key, why: String) -> Piece {
        Piece { refused: Some(why), ..Gather::new(key, &[]).end() }
    }
}

/// A [`Piece`] while its text is written.
pub struct Gather<'a> {
    budgets: &'a [usize],
    piece: Piece,
    hash: Sha256,
}

impl<'a> Gather<'a> {
    /// Nothing yet; `budgets` are those whose acceptances are wanted, none above the text's own.
    pub fn new(key: Key, budgets: &'a [usize]) -> Self {
        let piece = Piece {
            key,
            refused: None,
            tokens: 0,
            time: StageTimes::default(),
            sha256: String::new(),
            stretches: Vec::new(),
            laws: key.drafter.is_none().then(Pool::new),
            light: Vec::new(),
        };
        Self { budgets, piece, hash: Sha256::new() }
    }

    /// One more step. Says whether it ends a stretch: the laws of the stretch are then wanted, where it is decoded plainly.
    pub fn step(&mut self, record: &StepRecord) -> bool {
        let piece = &mut self.piece;
        let at = piece.tokens / STRETCH;
        let empty =
            || Stretch { accepted: vec![0; self.budgets.len()], expected: vec![0.0; self.budgets.len()], ..Stretch::default() };
        piece.stretches.resize_with(piece.stretches.len().max(at + 1), empty);
        let (stretch, within) = (&mut piece.stretches[at], Within::budgets(record));
        stretch.steps += 1;
        for (i, &budget) in self.budgets.iter().enumerate() {
            // Beyond the tree's own size nothing is gained.
            let b = budget.min(within.expected.len()).saturating_sub(1);
            stretch.accepted[i] += within.accepted.get(b).copied().unwrap_or(0);
            stretch.expected[i] += within.expected.get(b).copied().unwrap_or(0.0);
        }
        piece.tokens += record.emitted.len();
        piece.time.add(&record.time);
        if piece.key.drafter.is_some() {
            piece.light.push(LightStep { sums: record.sums(), searched: None });
        }
        record.emitted.iter().for_each(|token: &TokenId| self.hash.update(token.to_le_bytes()));
        piece.tokens / STRETCH > at
    }

    /// The laws of the positions since the last ones.
    pub fn laws(&mut self, laws: &Pool) {
        if let (Some(all), Some(stretch)) = (&mut self.piece.laws, self.piece.stretches.last_mut()) {
            all.absorb(laws, 1);
            stretch.laws.get_or_insert_with(|| Pool::with_grid(COARSE)).absorb(laws, 1);
        }
    }

    /// Adds what an oracle search found about the last step.
    pub fn searched(&mut self, oracle: &OracleCurve, drafter_best: Option<f64>) {
        if let Some(step) = self.piece.light.last_mut() {
            step.searched = Some(Searched { oracle: oracle.shortened(crate::engine::MAX_BUDGET - 1), drafter_best });
        }
    }

    /// The text ended.
    pub fn end(self) -> Piece {
        let sha256 = hex(&self.hash.finalize());
        Piece { sha256, ..self.piece }
    }
}
