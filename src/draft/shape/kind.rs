//! Names of tree shapes, and which verification rules allow them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fixed::Widths;
use crate::verify::Rule;

/// Shape of the token tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Drafter's best token at each depth.
    Chain,
    /// Fixed number of children for each node of a depth.
    Fixed(Widths),
    /// Nodes of highest path probability under the drafter.
    BestFirst,
    /// Tree that is best on average, by the acceptance rate of each child rank (Sequoia).
    Static,
}

/// Shape of the token tree without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeKind {
    /// Drafter's best token at each depth.
    Chain,
    /// Fixed number of children by depth.
    Fixed,
    /// Nodes of highest path probability.
    BestFirst,
    /// Tree that is best on average.
    Static,
}

impl ShapeKind {
    /// All kinds, in the order in which the monitor cycles through them.
    pub const ALL: [ShapeKind; 4] =
        [ShapeKind::Chain, ShapeKind::Fixed, ShapeKind::BestFirst, ShapeKind::Static];

    /// Returns the name, as used in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            ShapeKind::Chain => "chain",
            ShapeKind::Fixed => "fixed",
            ShapeKind::BestFirst => "best-first",
            ShapeKind::Static => "static",
        }
    }

    /// Returns the kind of this name, if there is one.
    pub fn from_name(name: &str) -> Option<ShapeKind> {
        ShapeKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the shape of this kind; `widths` are those of a fixed shape.
    pub fn with_widths(self, widths: Widths) -> Shape {
        match self {
            ShapeKind::Chain => Shape::Chain,
            ShapeKind::Fixed => Shape::Fixed(widths),
            ShapeKind::BestFirst => Shape::BestFirst,
            ShapeKind::Static => Shape::Static,
        }
    }
}

/// Error for a text that names no shape. It lists the names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no shape {0:?}: give one of {names}", names = ShapeKind::ALL.map(ShapeKind::name).join(", "))]
pub struct UnknownShape(String);

impl Shape {
    /// All shapes with default widths, in the order of [`ShapeKind::ALL`].
    pub const ALL: [Shape; 4] =
        [Shape::Chain, Shape::Fixed(Widths::DEFAULT), Shape::BestFirst, Shape::Static];

    /// Returns the kind of shape, without its widths.
    pub fn kind(self) -> ShapeKind {
        match self {
            Shape::Chain => ShapeKind::Chain,
            Shape::Fixed(_) => ShapeKind::Fixed,
            Shape::BestFirst => ShapeKind::BestFirst,
            Shape::Static => ShapeKind::Static,
        }
    }

    /// Returns the name, as used in settings. A fixed shape includes its widths unless they are the
    /// default ones.
    pub fn name(self) -> String {
        match self {
            Shape::Fixed(widths) if widths != Widths::DEFAULT => format!("fixed {widths}"),
            _ => self.kind().name().to_owned(),
        }
    }

    /// Returns `true` if the topology is known before the tokens. Only then can children be
    /// sampled.
    pub fn can_be_sampled(self) -> bool {
        self != Shape::BestFirst
    }

    /// Returns `true` if trees of this shape can be verified by `rule`.
    pub fn allows(self, rule: Rule) -> bool {
        match rule {
            Rule::Match => true,
            Rule::Rejection | Rule::GreedyFirst => self.can_be_sampled(),
            Rule::Block => self == Shape::Chain,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// Parses the text that [`Shape::name`] returns.
impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(name: &str) -> Result<Shape, UnknownShape> {
        let shape = match name.strip_prefix("fixed ") {
            Some(widths) => widths.parse().ok().map(Shape::Fixed),
            None => ShapeKind::from_name(name).map(|kind| kind.with_widths(Widths::DEFAULT)),
        };
        shape.ok_or_else(|| UnknownShape(name.to_owned()))
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shapes_round_trip_as_json_strings() {
        let fixed = Shape::Fixed("4,2,1".parse().unwrap());
        for (shape, text) in Shape::ALL.into_iter().chain([fixed]).zip([
            "chain",
            "fixed",
            "best-first",
            "static",
            "fixed 4,2,1",
        ]) {
            assert_eq!(serde_json::to_string(&shape).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Shape>(&format!("{text:?}")).unwrap(), shape);
        }
        assert_eq!(Shape::ALL.map(Shape::kind), ShapeKind::ALL);
        assert_eq!(
            "star".parse::<Shape>().unwrap_err().to_string(),
            "there is no shape \"star\": give one of chain, fixed, best-first, static"
        );
        assert!("fixed 0".parse::<Shape>().is_err() && "fixed ".parse::<Shape>().is_err());
    }
}
