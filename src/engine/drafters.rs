//! The drafters that a run can switch between.

use anyhow::anyhow;

use super::EngineOptions;
use crate::draft::{DRAFTERS, Drafter, Eagle, EarlyExit, External, Mix, ModelDrafter, Ngram, NoDraft, Oracle, Suffix};
use crate::model::load::Model;
use crate::model::{Config, Head};

/// The members of a mix where nobody says otherwise.
const MIXED: [&str; 2] = ["suffix", "eagle"];
/// The same where there is no head, and in a model of one layer, which has no early exit.
const MIXED_WITHOUT_HEAD: [&str; 2] = ["suffix", "early-exit"];
const MIXED_WITHOUT_EXIT: [&str; 2] = ["suffix", "ngram"];

/// What drafters are made from.
pub(super) struct Makers<'a> {
    /// What the run was started with.
    pub options: &'a EngineOptions,
    /// The target's shape.
    pub target: &'a Config,
    /// The second model with its name, where there is one.
    pub second: Option<(&'a str, &'a Model)>,
    /// The head of the `eagle` drafter, where there is one.
    pub head: Option<&'a Head>,
    /// The adapter of the `early-exit` drafter, where there is one.
    pub adapter: Option<&'a Head>,
    /// Positions that contexts are kept room for.
    pub capacity: usize,
}

impl Makers<'_> {
    /// All that this run has, in the order of the key.
    ///
    /// # Errors
    /// If one does not fit the target.
    pub fn all(&self) -> anyhow::Result<Vec<Box<dyn Drafter>>> {
        let mut all = Vec::new();
        for name in DRAFTERS {
            all.extend(self.one(name)?);
        }
        Ok(all)
    }

    /// The drafter of this name; none where this run has none.
    fn one(&self, name: &str) -> anyhow::Result<Option<Box<dyn Drafter>>> {
        let layers = self.target.layers;
        Ok(match name {
            "none" => Some(Box::new(NoDraft)),
            "ngram" => Some(Box::new(Ngram::default())),
            "suffix" => Some(Box::new(Suffix::new(self.options.remember))),
            "early-exit" => {
                let exit = match self.options.exit_layers {
                    Some(after) => Some(EarlyExit::new(after, layers)?),
                    None => EarlyExit::usual(self.adapter, layers)?,
                };
                exit.map(|exit| Box::new(exit) as Box<dyn Drafter>)
            }
            "eagle" => self.head.map(|head| Box::new(Eagle::new(head, self.capacity)) as Box<dyn Drafter>),
            "model" => match self.second {
                Some((name, second)) => {
                    let decoder = second.decoder(self.capacity.min(second.config().context))?;
                    Some(Box::new(ModelDrafter::new(decoder, name, self.target.vocab)?))
                }
                None => None,
            },
            "external" => match &self.options.external {
                Some((command, limit)) => Some(Box::new(External::new(command, *limit)?)),
                None => None,
            },
            "mix" => Some(Box::new(self.mix("mix", self.options.mix.as_deref())?)),
            "auto" => Some(Box::new(self.mix("auto", None)?.alone_where_drawn())),
            "oracle" => Some(Box::new(Oracle::default())),
            _ => None,
        })
    }

    /// A mix called `name`, of the members that were asked for; else the usual one, where its members are there.
    fn mix(&self, name: &'static str, asked: Option<&[String]>) -> anyhow::Result<Mix> {
        let mut members = Vec::new();
        for name in asked.into_iter().flatten() {
            members.push(self.one(name)?.ok_or_else(|| {
                anyhow!(
                    "--mix {name}: this run has no such drafter (model needs --draft-model, external --external, eagle a head for \
                     the model)"
                )
            })?);
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
