//! Validation of step settings.
//!
//! Checks every range that doesn't depend on the run. [`Session::set`](super::Session::set) also
//! checks that the drafter exists.

use crate::distribution::Sampling;
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Maximum budget B: tokens in one verify pass, root included.
pub const MAX_BUDGET: usize = 256;
/// Default maximum of an automatic budget, in tokens.
pub const AUTO_BUDGET: usize = 64;

/// Error for a setting that a run rejects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// Value out of range or unknown.
    ///
    /// The line names the value and the valid range.
    #[error("{0}")]
    Value(String),
    /// Drafter that needs a draft model, in a run without one.
    #[error("the drafter \"model\" needs a second model")]
    NoDraftModel,
    /// Drafter to mix that this run does not have.
    #[error("mix: this run has no drafter {member:?}")]
    NoMember {
        /// Name of the drafter.
        member: String,
    },
    /// Drafter that needs a head, in a run without one.
    #[error("the drafter \"eagle\" needs a head, and none comes with this model")]
    NoHead,
}

impl StepSettings {
    /// Returns the sampling parameters applied to the target's logits.
    pub fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p, top_k: self.top_k }
    }

    /// Checks all settings but the drafter.
    ///
    /// The drafter depends on the run and is checked by the session.
    ///
    /// # Errors
    /// If a setting is out of range: names it, its value and the range.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |line: String| Err(BadSetting::Value(line));
        if !(1..=MAX_BUDGET).contains(&self.budget) {
            return bad(format!(
                "budget {}: give 1 to {MAX_BUDGET} tokens a verify pass",
                self.budget
            ));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad(format!(
                "temperature {}: give a number from 0 (greedy) up",
                self.temperature
            ));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad(format!("top-p {}: give a number above 0, up to 1 (keep all)", self.top_p));
        }
        if self.top_k == Some(0) {
            return bad(
                "top-k 0: give the number of tokens to keep, from 1, or leave it out to keep all"
                    .into(),
            );
        }
        let shape = self.shape;
        if self.verify == Rule::Block && !shape.allows(self.verify) {
            let others = "verify by match, rejection or greedy-first";
            return bad(format!(
                "the shape {shape}: block verification takes chains only: give chain with block, or {others}"
            ));
        }
        if !shape.allows(self.verify) {
            let rule = self.verify.name();
            let why = "picks its nodes by what they are, and drawn ones must not be picked";
            return bad(format!(
                "the shape {shape} {why}: give chain, fixed or static with {rule}, or verify by match"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::draft::Shape;

    #[test]
    fn each_setting_out_of_range_is_named() {
        let good = StepSettings {
            drafter: "none".into(),
            shape: Shape::Chain,
            budget: 16,
            auto: false,
            verify: Rule::Match,
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            seed: 0,
        };
        assert_eq!(good.check(), Ok(()));
        let said = |change: fn(&mut StepSettings)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check().map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        assert_eq!(said(|s| s.budget = 0), "budget 0: give 1 to 256 tokens a verify pass");
        assert_eq!(
            said(|s| s.budget = 1_000_000_000),
            "budget 1000000000: give 1 to 256 tokens a verify pass"
        );
        assert_eq!(
            said(|s| s.temperature = f32::NAN),
            "temperature NaN: give a number from 0 (greedy) up"
        );
        assert_eq!(
            said(|s| s.temperature = -0.5),
            "temperature -0.5: give a number from 0 (greedy) up"
        );
        assert_eq!(
            said(|s| s.temperature = f32::INFINITY),
            "temperature inf: give a number from 0 (greedy) up"
        );
        assert_eq!(said(|s| s.top_p = 0.0), "top-p 0: give a number above 0, up to 1 (keep all)");
        assert_eq!(
            said(|s| s.top_p = f32::NAN),
            "top-p NaN: give a number above 0, up to 1 (keep all)"
        );
        assert!(said(|s| s.top_k = Some(0)).starts_with("top-k 0"));
        let drawn = said(|s| (s.verify, s.shape) = (Rule::Rejection, Shape::BestFirst));
        assert!(
            drawn.starts_with("the shape best-first picks")
                && drawn.ends_with("static with rejection, or verify by match"),
            "{drawn}"
        );
        assert_eq!(
            said(|s| (s.verify, s.shape) = (Rule::GreedyFirst, "fixed 2,1".parse().unwrap())),
            ""
        );
        for shape in ["fixed", "fixed 1,1", "best-first", "static"] {
            let mut bad =
                StepSettings { verify: Rule::Block, shape: shape.parse().unwrap(), ..good.clone() };
            let line = bad.check().unwrap_err().to_string();
            assert!(
                line.starts_with(&format!(
                    "the shape {shape}: block verification takes chains only"
                )),
                "{line}"
            );
            bad.shape = Shape::Chain;
            assert_eq!(bad.check(), Ok(()));
        }
    }
}
