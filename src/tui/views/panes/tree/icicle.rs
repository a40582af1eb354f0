//! Icicle: a row per depth, the width of a node is its path probability.
//!
//! The filled area is E\[X | T\] in units of one full row, and a gap is probability that the tree
//! does not cover. The missed token stands in the gap where it was missed. Nodes of the oracle tree
//! that were not drafted are outlined in the gaps: their area is what better knowledge of the
//! target would have gained.

use super::nodes::{NodeOutcome, Picture, PictureNode, Shown};
use super::token::token;
use crate::tui::Step;
use crate::tui::theme::Role;
use crate::tui::views::number::{probability, two};
use crate::tui::views::pen::Pen;

/// Columns at the right for the share of each depth that is covered.
const ASIDE: usize = 8;

/// Horizontal extent of a node, as fractions of the full width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Extent {
    from: f64,
    to: f64,
}

impl Extent {
    /// Returns the first column and the one after the last, of `width` columns.
    fn columns(self, width: usize) -> (usize, usize) {
        let column = |x: f64| ((x * width as f64).round() as usize).min(width);
        (column(self.from), column(self.to))
    }
}

/// Returns the extent of every node: children side by side below their parent, from its left end.
fn extents(picture: &Picture) -> Vec<Extent> {
    let mut extents = vec![Extent::default(); picture.nodes.len()];
    extents[0].to = 1.0;
    let mut stack = vec![0];
    while let Some(node) = stack.pop() {
        let (mut from, end) = (extents[node].from, extents[node].to);
        for &child in &picture.children[node] {
            let to = (from + picture.nodes[child].pi).min(end);
            extents[child] = Extent { from, to };
            from = to;
            stack.push(child);
        }
    }
    extents
}

/// Draws the icicle of a step's tree.
pub fn icicle(step: &Step, shown: Shown, pen: &mut Pen) {
    let picture = Picture::new(step, shown);
    let (width, height) = (pen.width(), pen.height());
    if width < 12 || height < 2 {
        return;
    }
    let aside = if width >= 44 { ASIDE } else { 0 };
    let inner = width - 2 - aside;
    let extents = extents(&picture);
    // Levels that hold a block of at least one column.
    let visible = |i: usize| {
        let (from, to) = extents[i].columns(inner);
        to > from
    };
    let visible: Vec<usize> = (0..picture.nodes.len()).filter(|&i| visible(i)).collect();
    let deepest = visible.iter().map(|&i| picture.nodes[i].depth).max().unwrap_or(0);
    let legend = legend(step, &picture, shown, pen);
    let legend_rows = usize::from(height >= 4);
    let room = height - legend_rows;
    // The root takes one row; below it each level takes as many rows as all of them can.
    let per_level = (room.saturating_sub(1) / deepest.max(1)).clamp(1, 3);
    let levels = deepest.min((room - 1) / per_level);
    let root = format!("{} {}", pen.glyphs().root, token(picture.nodes[0].text, pen, inner / 2));
    let line = pen.glyphs().line;
    let x = pen.text(1, 0, &root, Role::NodeRoot);
    pen.rule(x + 1, 1 + inner, 0, line, Role::Branch);
    if aside > 0 {
        pen.right(width - 1, 0, if picture.plain { "" } else { "reached" }, Role::Label);
    }
    for i in visible.into_iter().skip(1).filter(|&i| picture.nodes[i].depth <= levels) {
        let node = &picture.nodes[i];
        let (from, to) = extents[i].columns(inner);
        let top = 1 + (node.depth - 1) * per_level;
        let area =
            &mut pen.part((1 + from) as u16, top as u16, (to - from) as u16, per_level as u16);
        block(node, area);
    }
    for depth in 1..=levels {
        let covered = picture.covered(depth, shown);
        if aside > 0 && !picture.plain {
            pen.right(
                width - 1,
                1 + (depth - 1) * per_level,
                probability(covered).trim(),
                Role::Value,
            );
        }
    }
    if legend_rows == 1 {
        let deeper = deepest - levels;
        let more = if deeper > 0 {
            format!("; {deeper} more level{} below", if deeper == 1 { "" } else { "s" })
        } else {
            String::new()
        };
        let room = width - 2;
        let lines: Vec<String> = legend
            .iter()
            .map(|words| format!("{words}{more}"))
            .chain(legend.iter().cloned())
            .collect();
        let words = lines.iter().find(|words| pen.measure(words) <= room).or(lines.last());
        let y = (1 + levels * per_level).min(height - 1);
        pen.text(1, y, &pen.shorten(words.map_or("", String::as_str), room), Role::Label);
    }
}

/// Draws the block of a node over the whole pen.
fn block(node: &PictureNode, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let role = node.outcome.block();
    let style = pen.style(role);
    // Without a background the extent is drawn with a glyph.
    let filled =
        style.bg.is_some() || style.add_modifier.contains(ratatui::style::Modifier::REVERSED);
    let fill = match node.outcome {
        _ if filled => " ",
        NodeOutcome::Bonus => glyphs.losses[4],
        NodeOutcome::Oracle => glyphs.unreached,
        _ => glyphs.line,
    };
    let edge = if node.outcome == NodeOutcome::Oracle { glyphs.change } else { glyphs.vline };
    for y in 0..height {
        pen.rule(0, width, y, fill, role);
        pen.rule(0, 1, y, edge, role);
    }
    let room = width.saturating_sub(if width >= 6 { 2 } else { 1 });
    if room == 0 {
        return;
    }
    let mark = node.outcome.look(glyphs).0;
    let p = node.p.map_or_else(String::new, |p| probability(p).trim().to_owned());
    let text = token(node.text, pen, room);
    let forms =
        [format!("{mark} {text} {p}"), format!("{mark} {text}"), text.clone(), mark.to_owned()];
    let whole = |form: &&String| pen.measure(form) <= room;
    let form = match node.outcome {
        // The mark matters more than the end of a long token.
        NodeOutcome::Accepted | NodeOutcome::Bonus if room < 6 => {
            [&forms[1], &forms[3]].into_iter().find(|form| whole(form))
        }
        _ => forms[..3].iter().find(whole),
    };
    let words = form.cloned().unwrap_or_else(|| pen.shorten(&text, room));
    pen.text(1, 0, &words, role);
    if height > 1 {
        let q = node.q.map(|q| format!("q {}", probability(q).trim()));
        let words = q.unwrap_or_else(|| "not proposed".to_owned());
        if pen.measure(&words) <= room {
            pen.text(1, 1, &words, role);
        }
    }
}

/// Returns the legend below the picture, longest form first.
fn legend(step: &Step, picture: &Picture, shown: Shown, pen: &Pen) -> Vec<String> {
    if picture.plain {
        let words = "width: path probability at temperature 1 (greedy: p is 0 or 1)";
        return vec![words.to_owned(), "width: p at temperature 1".to_owned()];
    }
    let expected = two(step.record.expected_accepted);
    let Some(look) = step.look else {
        let short = format!("filled area {expected} = E[X|T]");
        return vec![
            format!("{short}; gaps: not drafted; o searches for the oracle tree"),
            format!("{short}; gaps: not drafted"),
            short,
        ];
    };
    let oracle = look.best_known_mass(step.record.expected_accepted);
    let best = look
        .drafter_best
        .unwrap_or(step.record.expected_accepted)
        .max(step.record.expected_accepted);
    let lost = two((oracle - best).max(0.0));
    if shown == Shown::Oracle {
        let dotted = pen.glyphs().change;
        return vec![
            format!(
                "area {} = E[X] of the oracle tree; outlined with {dotted}: not drafted",
                two(oracle)
            ),
            format!("area {}; {dotted}: not drafted", two(oracle)),
        ];
    }
    let outlined = picture.nodes.iter().any(|node| node.outcome == NodeOutcome::Oracle);
    let oracle = two(oracle);
    let how = if outlined {
        format!("outlined with {}: the oracle tree, {oracle}", pen.glyphs().change)
    } else {
        format!("oracle tree {oracle}")
    };
    vec![
        format!("filled area {expected} = E[X|T]; {how}; knowledge lost here {lost}"),
        format!("filled {expected} = E[X|T]; {how}; lost {lost}"),
        format!("filled {expected} = E[X|T]; oracle {oracle}; knowledge lost {lost}"),
        format!("filled {expected}, oracle {oracle}"),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::{record, tree};

    proptest! {
        #[test]
        fn children_lie_below_their_parent_side_by_side(
            nodes in prop::collection::vec((any::<prop::sample::Index>(), 0.0f64..1.0), 0..30), width in 1usize..300
        ) {
            let nodes: Vec<(usize, f64)> =
                nodes.iter().enumerate().map(|(i, (at, p))| (at.index(i + 1), *p)).collect();
            let step = record(tree(&nodes), &[], 40);
            let picture = Picture::of(&step, None);
            let extents = extents(&picture);
            for (parent, children) in picture.children.iter().enumerate() {
                let mut from = extents[parent].from;
                for &child in children {
                    let own = extents[child];
                    prop_assert!(own.from == from && own.to >= own.from && own.to <= extents[parent].to);
                    // A node has its path probability, except where siblings exceed their parent.
                    let room = extents[parent].to - own.from;
                    prop_assert!((own.to - own.from - picture.nodes[child].pi.min(room)).abs() < 1e-12);
                    let (start, end) = own.columns(width);
                    prop_assert!(start <= end && end <= width);
                    from = own.to;
                }
            }
        }
    }
}
