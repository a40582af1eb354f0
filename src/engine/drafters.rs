//! Construction of the drafters available in a run.
//!
//! A drafter is left out when its prerequisites are missing: a draft model, a head, or an external
//! command.

use super::EngineOptions;
use super::settings::BadSetting;
use crate::draft::{
    Drafter, DrafterKind, Eagle, EarlyExit, External, Mix, ModelDrafter, Ngram, NoDraft, Oracle,
    Suffix,
};
use crate::model::load::Model;
use crate::model::{Config, Head};

/// Default members of a mix, if there is a head.
const MIXED: [DrafterKind; 2] = [DrafterKind::Suffix, DrafterKind::Eagle];
/// Default members of a mix without a head, then of one without early exit too.
///
/// A model of one layer has no early exit.
const MIXED_WITHOUT_HEAD: [DrafterKind; 2] = [DrafterKind::Suffix, DrafterKind::EarlyExit];
const MIXED_WITHOUT_EXIT: [DrafterKind; 2] = [DrafterKind::Suffix, DrafterKind::Ngram];

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
    /// Builds all drafters available in this run, in the order of [`DrafterKind::ALL`].
    ///
    /// # Errors
    /// If a drafter does not fit the target.
    pub fn build_all(&self) -> anyhow::Result<Vec<Box<dyn Drafter>>> {
        let mut all = Vec::new();
        for kind in DrafterKind::ALL {
            all.extend(self.build(&kind)?);
        }
        Ok(all)
    }

    /// Builds the drafter of this kind, or returns `None` if its prerequisites are missing.
    fn build(&self, kind: &DrafterKind) -> anyhow::Result<Option<Box<dyn Drafter>>> {
        let layers = self.target.layers;
        Ok(match kind {
            DrafterKind::None => Some(Box::new(NoDraft)),
            DrafterKind::Ngram => Some(Box::new(Ngram::default())),
            DrafterKind::Suffix => Some(Box::new(Suffix::new(self.options.remember))),
            DrafterKind::EarlyExit => {
                let exit = match self.options.exit_layers {
                    Some(after) => Some(EarlyExit::new(after, layers)?),
                    None => EarlyExit::default_exit(self.adapter, layers)?,
                };
                exit.map(|exit| Box::new(exit) as Box<dyn Drafter>)
            }
            DrafterKind::Eagle => {
                self.head.map(|head| Box::new(Eagle::new(head, self.capacity)) as Box<dyn Drafter>)
            }
            DrafterKind::Model => match self.second {
                Some((name, second)) => {
                    let decoder = second.decoder(self.capacity.min(second.config().context))?;
                    Some(Box::new(ModelDrafter::new(decoder, name, self.target.vocab)))
                }
                None => None,
            },
            DrafterKind::External => match &self.options.external {
                Some((command, limit)) => Some(Box::new(External::new(command, *limit)?)),
                None => None,
            },
            DrafterKind::Mix => {
                Some(Box::new(self.mix(DrafterKind::Mix, self.options.mix.as_deref())?))
            }
            DrafterKind::Auto => {
                Some(Box::new(self.mix(DrafterKind::Auto, None)?.with_model_only_if_sampled()))
            }
            DrafterKind::Oracle => Some(Box::new(Oracle::default())),
            DrafterKind::Custom(_) => None,
        })
    }

    /// Builds a mix of the requested members.
    ///
    /// Without a request it takes the first default whose members are all available.
    fn mix(&self, kind: DrafterKind, requested: Option<&[DrafterKind]>) -> anyhow::Result<Mix> {
        let mut members = Vec::new();
        for member in requested.into_iter().flatten() {
            members.push(
                self.build(member)?
                    .ok_or_else(|| BadSetting::NoMember { member: member.to_string() })?,
            );
        }
        if requested.is_none() {
            for kinds in [MIXED, MIXED_WITHOUT_HEAD, MIXED_WITHOUT_EXIT] {
                members.clear();
                for member in &kinds {
                    members.extend(self.build(member)?);
                }
                if members.len() == kinds.len() {
                    break;
                }
            }
        }
        Ok(Mix::new(kind, members)?)
    }
}
