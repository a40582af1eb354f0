//! Fixed trees: a given number of children per node at each depth. This is an expansion
//! configuration (Miao et al. 2024, SpecInfer, section 3).

use std::fmt;
use std::str::FromStr;

/// Maximum number of depths.
const DEPTHS: usize = 16;
/// Maximum number of children of a node.
const WIDEST: u8 = 64;

/// Number of children of each node, by depth from the root down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Terminated by the first 0.
    list: [u8; DEPTHS],
}

impl Widths {
    /// Default widths, which depend on the budget (see [`Widths::width_at`]).
    pub const DEFAULT: Widths = Widths { list: [0; DEPTHS] };

    /// Returns the number of children of a node at `depth` (0 for the root).
    ///
    /// `drafted` is the maximum number of drafted nodes P. By default, the tree has 0.8 sqrt(P)
    /// parallel chains, rounded down and at least one. With P >= 32, each chain forks once.
    pub fn width_at(&self, depth: usize, drafted: usize) -> usize {
        let first = ((drafted as f64).sqrt() * 0.8).max(1.0) as usize;
        match (self.list[0], depth) {
            (0, 0) => first,
            (0, 1) if drafted >= 32 => 2,
            (0, _) => 1,
            _ => self.list.get(depth).copied().unwrap_or(0).into(),
        }
    }
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (depth, width) in self.list.iter().take_while(|width| **width > 0).enumerate() {
            write!(f, "{}{width}", if depth > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut widths = Self::DEFAULT;
        for (depth, width) in text.split(',').enumerate() {
            let width = width.trim().parse().ok().filter(|width| (1..=WIDEST).contains(width));
            match (width, widths.list.get_mut(depth)) {
                (Some(width), Some(place)) => *place = width,
                _ => {
                    return Err(format!(
                        "give the children of a node at each depth: up to {DEPTHS} numbers from 1 to {WIDEST}, as 4,2,2,1,1"
                    ));
                }
            }
        }
        Ok(widths)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::draft::shape::{Plan, Shape, grow};
    use crate::draft::testing::Fixed;
    use crate::draft::{Candidate, Draft, DraftRequest, Limits};
    use crate::engine::testing::TableDecoder;

    fn grown(widths: Widths, budget: usize, depth: usize) -> (Draft, usize) {
        let candidates_after = |_: &[u32]| {
            [0.5, 0.25, 0.125].iter().zip(0..).map(|(&q, token)| Candidate { token, q }).collect()
        };
        let mut fixed = Fixed::new(candidates_after);
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&[9], &mut target);
        request.limits = Limits { budget, depth };
        let draft = grow(Shape::Fixed(widths), &mut fixed, &mut request, &Plan::default()).unwrap();
        (draft, fixed.rounds)
    }

    #[test]
    fn each_depth_has_its_width() {
        let count = |draft: &Draft| {
            (1..=draft.tree.max_depth())
                .map(|d| draft.tree.nodes().filter(|&i| draft.tree.depth(i) == d).count())
                .collect::<Vec<_>>()
        };
        let (draft, rounds) = grown("3,2,1".parse().unwrap(), 64, 9);
        assert_eq!((count(&draft), rounds), (vec![3, 6, 6], 3));
        // Wider than the candidates, limited in depth, and limited by the budget, where the best
        // nodes of the last depth stay.
        assert_eq!(count(&grown("9,1".parse().unwrap(), 64, 9).0), [3, 3]);
        assert_eq!(count(&grown("3,2,1".parse().unwrap(), 64, 1).0), [3]);
        let (cut, _) = grown("3,2,1".parse().unwrap(), 6, 9);
        assert_eq!(count(&cut), [3, 2]);
        let pi = cut.tree.path_products(|i| cut.tree.q(i));
        assert_eq!(pi, [1.0, 0.5, 0.25, 0.25, 0.125, 0.125]);
        assert_eq!(
            (cut.expanded[..].to_vec(), cut.tree.parent(3)),
            (vec![true, true, true, false, true, false], Some(1))
        );
        assert_eq!(cut.cut_q(1, 2), Some(0.125));
    }

    #[test]
    fn default_widths_fill_the_budget() {
        for budget in [1, 2, 3, 8, 16, 33, 64, 256] {
            let (draft, _) = grown(Widths::DEFAULT, budget, 100);
            assert!(draft.tree.len() == budget || budget > 64, "{budget}: {}", draft.tree.len());
        }
        assert_eq!(Widths::DEFAULT.width_at(0, 15), 3);
    }

    #[test]
    fn widths_round_trip_as_text() {
        assert_eq!("4, 2,1".parse::<Widths>().unwrap().to_string(), "4,2,1");
        for bad in ["", "0", "4,,1", "65", "-1", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "many"] {
            assert!(bad.parse::<Widths>().unwrap_err().contains("as 4,2,2,1,1"), "{bad}");
        }
    }
}
