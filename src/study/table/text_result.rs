//! Results of one text, reduced to what the rows of the table need.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::telemetry::{AcceptanceCurve, StageTimes, StepRecord};
use crate::theory::light::OracleCurve;
use crate::theory::light_units::StepSums;
use crate::theory::pool::SurprisalPool;
use crate::tree::TokenId;

/// Length of a stretch of text, in positions.
pub const STRETCH_TOKENS: usize = 32;
/// Grid cells per nat for the stretches' pools, of which only ratios are used.
const CELLS_PER_NAT: usize = 16;

/// Identity of a text, as indices into the lists of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextKey {
    /// Index of the prompt set.
    pub set: usize,
    /// Index of the temperature.
    pub temperature: usize,
    /// Index of the prompt within its set.
    pub prompt: usize,
    /// Index of the drafter; `None` for plain decoding.
    pub drafter: Option<usize>,
    /// Budget of the run, in tokens.
    pub budget: usize,
}

/// Sums over the steps that started in a stretch of text.
///
/// Acceptances are by budget, up to the budget of the text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Number of steps in the stretch.
    pub steps: usize,
    /// Accepted drafted tokens, by budget.
    pub accepted: Vec<usize>,
    /// Sum of E\[X | T\], by budget.
    pub expected: Vec<f64>,
    /// Distributions of the stretch's positions, on a coarse grid.
    ///
    /// `None` unless the text was decoded plainly.
    #[serde(rename = "laws")]
    pub distributions: Option<SurprisalPool>,
}

/// Step of a drafted text, for its speed of light.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LightStep {
    /// Tokens and seconds of the step.
    pub sums: StepSums,
    /// Result of the oracle search, if the step was searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<Searched>,
}

/// Result of an oracle search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// Mass of the context's oracle trees, by size.
    pub oracle: OracleCurve,
    /// E\[X | T\] of the drafter's best tree of the verified size.
    pub drafter_best: Option<f64>,
}

/// Results of one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextResult {
    /// Identity of the text.
    pub key: TextKey,
    /// Reason why the prompt was skipped, if it was.
    pub refused: Option<String>,
    /// Number of generated tokens.
    pub tokens: usize,
    /// Total seconds by stage.
    pub time: StageTimes,
    /// SHA-256 of the tokens, in hexadecimal.
    pub sha256: String,
    /// Stretches of the text, in order.
    pub stretches: Vec<Stretch>,
    /// Distributions of all positions of the text; `None` unless it was decoded plainly.
    #[serde(rename = "laws")]
    pub distributions: Option<SurprisalPool>,
    /// Steps in order, for drafted texts; empty in states of earlier versions.
    #[serde(default)]
    pub light: Vec<LightStep>,
}

impl TextResult {
    /// Returns the number of steps.
    pub fn steps(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.steps).sum()
    }

    /// Creates the result of a prompt that can't be run.
    pub fn refused(key: TextKey, why: String) -> TextResult {
        TextResult { refused: Some(why), ..TextResultBuilder::new(key, &[]).end() }
    }
}

/// Builder of a [`TextResult`] while its text is generated.
pub struct TextResultBuilder<'a> {
    budgets: &'a [usize],
    piece: TextResult,
    hash: Sha256,
}

impl<'a> TextResultBuilder<'a> {
    /// Creates an empty builder; `budgets` must not exceed the text's own.
    ///
    /// Acceptances are counted for each of the budgets.
    pub fn new(key: TextKey, budgets: &'a [usize]) -> Self {
        let piece = TextResult {
            key,
            refused: None,
            tokens: 0,
            time: StageTimes::default(),
            sha256: String::new(),
            stretches: Vec::new(),
            distributions: key.drafter.is_none().then(SurprisalPool::new),
            light: Vec::new(),
        };
        Self { budgets, piece, hash: Sha256::new() }
    }

    /// Adds a step and returns true if it completes a stretch.
    ///
    /// The stretch's distributions must then be passed to [`Self::add_distributions`], for plain
    /// decoding.
    pub fn step(&mut self, record: &StepRecord) -> bool {
        let piece = &mut self.piece;
        let at = piece.tokens / STRETCH_TOKENS;
        let empty = || Stretch {
            accepted: vec![0; self.budgets.len()],
            expected: vec![0.0; self.budgets.len()],
            ..Stretch::default()
        };
        piece.stretches.resize_with(piece.stretches.len().max(at + 1), empty);
        let (stretch, within) = (&mut piece.stretches[at], AcceptanceCurve::budgets(record));
        stretch.steps += 1;
        for (i, &budget) in self.budgets.iter().enumerate() {
            // A budget above the tree's size accepts no more than the tree.
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
        piece.tokens / STRETCH_TOKENS > at
    }

    /// Adds the distributions of the positions since the last call.
    pub fn add_distributions(&mut self, distributions: &SurprisalPool) {
        if let (Some(all), Some(stretch)) =
            (&mut self.piece.distributions, self.piece.stretches.last_mut())
        {
            all.absorb(distributions, 1);
            stretch
                .distributions
                .get_or_insert_with(|| SurprisalPool::with_grid(CELLS_PER_NAT))
                .absorb(distributions, 1);
        }
    }

    /// Adds the result of an oracle search to the last step.
    pub fn searched(&mut self, oracle: &OracleCurve, drafter_best: Option<f64>) {
        if let Some(step) = self.piece.light.last_mut() {
            step.searched = Some(Searched {
                oracle: oracle.shortened(crate::engine::MAX_BUDGET - 1),
                drafter_best,
            });
        }
    }

    /// Returns the finished result.
    pub fn end(self) -> TextResult {
        let sha256 = hex(&self.hash.finalize());
        TextResult { sha256, ..self.piece }
    }
}
