//! Construction of the drafters available in a run.
//!
//! A drafter is left out when its prerequisites are missing: a draft model, a head, or an external
//! command.

use super::EngineOptions;
use super::settings::BadSetting;
use crate::draft::{
    DRAFTERS, Drafter, Eagle, EarlyExit, External, Mix, ModelDrafter, Ngram, NoDraft, Oracle,
    Suffix,
};
use crate::model::load::Model;
use crate::model::{Config, Head};

/// Default members of a mix, if there is a head.
const MIXED: [&str; 2] = ["suffix", "eagle"];
/// Default members of a mix without a head, then of one without early exit too.
///
/// A model of one layer has no early exit.
const MIXED_WITHOUT_HEAD: [&str; 2] = ["suffix", "early-exit"];
const MIXED_WITHOUT_EXIT: [&str; 2] = ["suffix", "ngram"];

/// Inputs from which drafters are built.
pub(super) struct DrafterBuilder<'a> {
    /// Options of the run.
    pub options: &'a EngineOptions,
    /// Configuration of the target model.
    pub target: &'a Config,
    /// Draft model with its name, if any.
    pub second: Option<(&'a str, &'a Model)>,
    /// Head of the `eagle` drafter, if any.
    pub head: Option<&'a Head>,
    /// Adapter of the `early-exit` drafter, if any.
    pub adapter: Option<&'a Head>,
    /// Cache capacity in positions.
    pub capacity: usize,
}

impl DrafterBuilder<'_> {
    /// Builds all drafters available in this run, in the order of [`DRAFTERS`].
    ///
    /// # Errors
    /// If a drafter does not fit the target.
    pub fn build_all(&self) -> anyhow::Result<Vec<Box<dyn Drafter>>> {
        let mut all = Vec::new();
        for name in DRAFTERS {
            all.extend(self.one(name)?);
        }
        Ok(all)
    }

    /// Builds the drafter called `name`, or returns `None` if its prerequisites are missing.
    fn one(&self, name: &str) -> anyhow::Result<Option<Box<dyn Drafter>>> {
        let layers = self.target.layers;
        Ok(match name {
            "none" => Some(Box::new(NoDraft)),
            "ngram" => Some(Box::new(Ngram::default())),
            "suffix" => Some(Box::new(Suffix::new(self.options.remember))),
            "early-exit" => {
                let exit = match self.options.exit_layers {
                    Some(after) => Some(EarlyExit::new(after, layers)?),
                    None => EarlyExit::default_exit(self.adapter, layers)?,
                };
                exit.map(|exit| Box::new(exit) as Box<dyn Drafter>)
            }
            "eagle" => {
                self.head.map(|head| Box::new(Eagle::new(head, self.capacity)) as Box<dyn Drafter>)
            }
            "model" => match self.second {
                Some((name, second)) => {
                    let decoder = second.decoder(self.capacity.min(second.config().context))?;
                    Some(Box::new(ModelDrafter::new(decoder, name, self.target.vocab)))
                }
                None => None,
            },
            "external" => match &self.options.external {
                Some((command, limit)) => Some(Box::new(External::new(command, *limit)?)),
                None => None,
            },
            "mix" => Some(Box::new(self.mix("mix", self.options.mix.as_deref())?)),
            "auto" => Some(Box::new(self.mix("auto", None)?.with_model_only_if_sampled())),
            "oracle" => Some(Box::new(Oracle::default())),
            _ => None,
        })
    }

    /// Builds a mix called `name` of the requested members.
    ///
    /// Without a request it takes the first default whose members are all available.
    fn mix(&self, name: &'static str, asked: Option<&[String]>) -> anyhow::Result<Mix> {
        let mut members = Vec::new();
        for name in asked.into_iter().flatten() {
            members.push(
                self.one(name)?.ok_or_else(|| BadSetting::NoMember { member: name.clone() })?,
            );
        }
        if asked.is_none() {
            for names in [MIXED, MIXED_WITHOUT_HEAD, MIXED_WITHOUT_EXIT] {
                members.clear();
                for name in names {
                    members.extend(self.one(name)?);
                }
                if members.len() == names.len() {
                    break;
                }
            }
        }
        Ok(Mix::new(name, members)?)
    }
}
