//! Means over many steps.

use sha2::{Digest, Sha256};

use super::{Ceilings, StepRecord, Summary};
use crate::dist::Moments;
use crate::theory::bounds;

impl Ceilings {
    /// The ceilings for budget `batch` (B, the root included) from the mean entropy `mu` and the mean `mu2` of
    /// sum p ln^2 p, in nats, and the fluid bound where it is known.
    pub fn at(mu: f64, mu2: f64, batch: usize, fluid: Option<f64>) -> Ceilings {
        let drafted = batch.saturating_sub(1);
        Ceilings {
            batch: drafted as f64,
            published: bounds::published(mu, mu2, batch),
            renewal: bounds::renewal(mu, mu2, drafted),
            renewal_tuned: bounds::renewal_tuned(mu, mu2, drafted),
            fluid,
            fluid_floor: None,
        }
    }
}

/// Mean entropy moments over positions, as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMoments {
    positions: usize,
    entropy: f64,
    second: f64,
}

impl RunningMoments {
    /// One more position.
    pub fn add(&mut self, moments: &Moments) {
        self.positions += 1;
        self.entropy += moments.entropy;
        self.second += moments.second;
    }

    /// Positions so far.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Mean entropy in nats; 0 before the first position.
    pub fn mu(&self) -> f64 {
        self.entropy / self.positions.max(1) as f64
    }

    /// Mean of sum p ln^2 p in nats^2; 0 before the first position.
    pub fn mu2(&self) -> f64 {
        self.second / self.positions.max(1) as f64
    }
}

/// A [`Summary`] that grows step by step.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: Summary,
    moments: RunningMoments,
    budget: usize,
    fluid: Option<f64>,
    text: Sha256,
}

impl Tally {
    /// One more step.
    pub fn add(&mut self, record: &StepRecord) {
        self.sums.steps += 1;
        self.sums.tokens += record.emitted.len();
        self.sums.accepted_mean += record.accepted as f64;
        self.sums.expected_accepted_mean += record.expected_accepted;
        self.sums.time.add(&record.time);
        record.entropy.iter().for_each(|e| self.moments.add(&e.law));
        self.budget = record.settings.budget;
        self.fluid = record.ceilings.fluid;
        record.emitted_text.iter().for_each(|text| self.text.update(text.as_bytes()));
    }

    /// The means so far. The ceilings are those of the last step's budget. `plain` is the measured speed of plain
    /// decoding, in tokens a second.
    pub fn summary(&self, plain: Option<f64>) -> Summary {
        let steps = self.sums.steps.max(1) as f64;
        let seconds = self.sums.time.total();
        let (mu, mu2) = (self.moments.mu(), self.moments.mu2());
        let hash: String = self.text.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Summary {
            accepted_mean: self.sums.accepted_mean / steps,
            expected_accepted_mean: self.sums.expected_accepted_mean / steps,
            tokens_per_step: self.sums.tokens as f64 / steps,
            mu,
            mu2,
            ceilings: Ceilings::at(mu, mu2, self.budget, self.fluid),
            tokens_per_second: (seconds > 0.0).then(|| self.sums.tokens as f64 / seconds),
            autoregressive_tokens_per_second: plain,
            text_sha256: Some(hash),
            ..self.sums.clone()
        }
    }
}
