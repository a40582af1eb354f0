//! Identity of a drafter: its kind and what it costs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Kind of drafter. In settings, records, and options it is written as its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DrafterKind {
    /// Plain decoding: nothing is drafted.
    None,
    /// Prompt lookup with suffixes of a few tokens.
    Ngram,
    /// Prompt lookup with suffixes of any length.
    Suffix,
    /// First layers of the target.
    EarlyExit,
    /// Trained head over the target's hidden states.
    Eagle,
    /// Second model with the same vocabulary.
    Model,
    /// Process outside of this program.
    External,
    /// Several drafters merged in one tree.
    Mix,
    /// Default mix, which always chooses its own budget.
    Auto,
    /// The target itself, at full cost.
    Oracle,
    /// Any other drafter, by name: one that a user of the library wrote.
    Custom(Arc<str>),
}

impl DrafterKind {
    /// All kinds but custom ones. A run offers those whose requirements are met, such as a draft
    /// model or a trained head, in this order.
    pub const ALL: [DrafterKind; 10] = [
        DrafterKind::None,
        DrafterKind::Ngram,
        DrafterKind::Suffix,
        DrafterKind::EarlyExit,
        DrafterKind::Eagle,
        DrafterKind::Model,
        DrafterKind::External,
        DrafterKind::Mix,
        DrafterKind::Auto,
        DrafterKind::Oracle,
    ];

    /// Returns the name, as used in settings and on the command line.
    pub fn name(&self) -> &str {
        match self {
            DrafterKind::Custom(name) => name,
            built_in => built_in.built_in_name().unwrap_or_default(),
        }
    }

    fn built_in_name(&self) -> Option<&'static str> {
        Some(match self {
            DrafterKind::None => "none",
            DrafterKind::Ngram => "ngram",
            DrafterKind::Suffix => "suffix",
            DrafterKind::EarlyExit => "early-exit",
            DrafterKind::Eagle => "eagle",
            DrafterKind::Model => "model",
            DrafterKind::External => "external",
            DrafterKind::Mix => "mix",
            DrafterKind::Auto => "auto",
            DrafterKind::Oracle => "oracle",
            DrafterKind::Custom(_) => return None,
        })
    }

    /// Returns the names of those of [`DrafterKind::ALL`] for which `keep` is true.
    pub(crate) fn names(keep: impl Fn(&DrafterKind) -> bool) -> Vec<&'static str> {
        DrafterKind::ALL.iter().filter(|kind| keep(kind)).filter_map(Self::built_in_name).collect()
    }

    /// Returns `true` if `mix` can have the drafter as a member, chosen by name.
    pub fn can_be_mixed(&self) -> bool {
        match self {
            DrafterKind::Ngram
            | DrafterKind::Suffix
            | DrafterKind::EarlyExit
            | DrafterKind::Eagle
            | DrafterKind::Model
            | DrafterKind::External => true,
            DrafterKind::None
            | DrafterKind::Mix
            | DrafterKind::Auto
            | DrafterKind::Oracle
            | DrafterKind::Custom(_) => false,
        }
    }
}

impl From<&str> for DrafterKind {
    fn from(name: &str) -> Self {
        let known = DrafterKind::ALL.into_iter().find(|kind| kind.name() == name);
        known.unwrap_or_else(|| DrafterKind::Custom(name.into()))
    }
}

impl From<String> for DrafterKind {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<DrafterKind> for String {
    fn from(kind: DrafterKind) -> Self {
        kind.name().to_owned()
    }
}

impl fmt::Display for DrafterKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for DrafterKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DrafterKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Use of a model by a drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelUse {
    /// Proposing runs no model.
    Never,
    /// Proposing runs a model, unless the drafter backs off ([`CostModel::back_off`]). It then
    /// proposes without one.
    ///
    /// [`CostModel::back_off`]: super::CostModel::back_off
    Optional,
    /// Proposing always runs a model and therefore takes time.
    Always,
}

/// Description of a drafter. It never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct DrafterInfo {
    /// Kind, by which settings select the drafter.
    pub kind: DrafterKind,
    /// Cost of a draft in words: weights read and passes run.
    pub cost: String,
    /// Use of a model, which decides on cost gating and back-off.
    pub model_use: ModelUse,
    /// Drafters whose candidates it merges; the drafter alone if it merges none.
    pub members: Vec<DrafterKind>,
}

impl DrafterInfo {
    /// Creates the description of a drafter that runs no model.
    pub fn new(kind: impl Into<DrafterKind>, cost: impl Into<String>) -> Self {
        let kind = kind.into();
        let members = vec![kind.clone()];
        DrafterInfo { kind, cost: cost.into(), model_use: ModelUse::Never, members }
    }

    /// Creates the description of a drafter that always runs a model.
    pub fn with_model(kind: impl Into<DrafterKind>, cost: impl Into<String>) -> Self {
        DrafterInfo { model_use: ModelUse::Always, ..Self::new(kind, cost) }
    }

    /// Returns `true` if proposing may run a model.
    pub fn runs_model(&self) -> bool {
        self.model_use != ModelUse::Never
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_round_trip_as_json_strings() {
        for kind in DrafterKind::ALL.into_iter().chain([DrafterKind::Custom("latest".into())]) {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("{:?}", kind.name()));
            assert_eq!(serde_json::from_str::<DrafterKind>(&text).unwrap(), kind);
        }
    }

    #[test]
    fn every_drafter_is_documented() {
        let docs = include_str!("../../docs/drafters.md");
        for kind in DrafterKind::ALL {
            assert!(docs.contains(&format!("`{kind}`")), "docs/drafters.md lacks `{kind}`");
        }
    }

    #[test]
    fn the_schema_lists_the_drafters_that_propose_nodes() {
        let schema = include_str!("../../schema/run.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let mut lists = Vec::new();
        find_origins(&schema, &mut lists);
        let [mut listed]: [Vec<String>; 1] = lists.try_into().unwrap();
        // Nodes of a mix are attributed to its members.
        let mut kinds =
            DrafterKind::names(|kind| !matches!(kind, DrafterKind::Mix | DrafterKind::Auto));
        listed.sort();
        kinds.sort();
        assert_eq!(listed, kinds);
    }

    /// Collects the allowed names in every definition of `origins`.
    fn find_origins(schema: &serde_json::Value, lists: &mut Vec<Vec<String>>) {
        if let Some(names) = schema.pointer("/origins/propertyNames/enum") {
            lists.push(serde_json::from_value(names.clone()).unwrap());
        }
        match schema {
            serde_json::Value::Object(all) => all.values().for_each(|v| find_origins(v, lists)),
            serde_json::Value::Array(all) => all.iter().for_each(|v| find_origins(v, lists)),
            _ => {}
        }
    }
}
