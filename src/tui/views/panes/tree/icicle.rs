//! Icicle: a row per depth, the width of a node is its path probability.
//!
//! The filled area is E\[X | T\] in units of one full row, and a gap is probability that the tree
//! does not cover. The missed token stands in the gap where it was missed. Nodes of the oracle tree
//! that were not drafted are outlined in the gaps: their area is what better knowledge of the
//! target would have gained.

use super::icicle_pixels::{extents, paint, pixel_blocks};
use super::nodes::{NodeOutcome, Picture, PictureNode, Shown};
use super::token::token;
use crate::tui::Step;
use crate::tui::pixels::Pixels;
use crate::tui::theme::Role;
use crate::tui::views::number::{probability, two};
use crate::tui::views::pen::Pen;

/// Columns at the right for the share of each depth that is covered.
const ASIDE: usize = 8;

/// Columns of a block: the first, and the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    from: usize,
    to: usize,
}

/// Returns the block of every node on `width` columns.
///
/// The accepted path and the missed token have a column at least, however improbable they are;
/// other nodes may have none.
fn blocks(picture: &Picture, width: usize) -> Vec<Block> {
    let blocks = extents(picture).into_iter().zip(&picture.nodes).map(|(extent, node)| {
        let (from, to) = extent.columns(width);
        if from == to && node.outcome.emitted() {
            let from = from.min(width - 1);
            return Block { from, to: from + 1 };
        }
        Block { from, to }
    });
    blocks.collect()
}

/// Draws the icicle of a step's tree; returns the number of rows that it takes.
///
/// Also asks `pixels` for the same in pixels, unless the accepted path is cut off. If not all levels
/// fit, the deepest are left out. If the accepted path is among them, the last
/// row holds what is left of it.
pub fn icicle(step: &Step, shown: Shown, pixels: Option<&Pixels>, pen: &mut Pen) -> usize {
    let picture = Picture::new(step, shown);
    let (width, height) = (pen.width(), pen.height());
    if width < 12 || height < 2 {
        return 0;
    }
    let aside = if width >= 44 { ASIDE } else { 0 };
    let inner = width - 2 - aside;
    let blocks = blocks(&picture, inner);
    // Nodes with a block. Those that were emitted come last, so that no other covers them.
    let mut visible: Vec<usize> =
        (1..picture.nodes.len()).filter(|&i| blocks[i].to > blocks[i].from).collect();
    visible.sort_by_key(|&i| picture.nodes[i].outcome.emitted());
    let depth = |i: &usize| picture.nodes[*i].depth;
    let deepest = visible.iter().map(depth).max().unwrap_or(0);
    let emitted: Vec<usize> =
        visible.iter().copied().filter(|&i| picture.nodes[i].outcome.emitted()).collect();
    let legend = legend(step, &picture, shown, pen);
    let legend_rows = usize::from(height >= 4);
    let room = height - legend_rows;
    // The root takes one row; below it each level takes as many rows as all of them can.
    let per_level = (room.saturating_sub(1) / deepest.max(1)).clamp(1, 2);
    let levels = deepest.min((room - 1) / per_level);
    let end = emitted.iter().map(depth).max().unwrap_or(0);
    // Levels that have rows of their own.
    let whole = if end > levels { levels - 1 } else { levels };
    let root = format!("{} {}", pen.glyphs().root, token(picture.nodes[0].text, pen, inner / 2));
    let line = pen.glyphs().line;
    let x = pen.text(1, 0, &root, Role::NodeRoot);
    pen.rule(x + 1, 1 + inner, 0, line, Role::Branch);
    if aside > 0 {
        pen.right(width - 1, 0, if picture.plain { "" } else { "reached" }, Role::Label);
    }
    // Second row of a token without q.
    let unproposed = if step.record.tree.tokens.len() > 1 { "not proposed" } else { "" };
    for i in visible.iter().copied().filter(|i| depth(i) <= whole) {
        let (node, Block { from, to }) = (&picture.nodes[i], blocks[i]);
        // Columns up to the next block of this level, which a label may use.
        let beside = visible.iter().filter(|&other| depth(other) == node.depth);
        let next = beside
            .map(|&other| blocks[other])
            .filter(|other| other.to > to)
            .map(|other| other.from.max(to))
            .min()
            .unwrap_or(inner);
        let label = if node.outcome.emitted() { next - from } else { to - from };
        let top = 1 + (node.depth - 1) * per_level;
        let area = &mut pen.part((1 + from) as u16, top as u16, label as u16, per_level as u16);
        block(node, to - from, unproposed, area);
    }
    for depth in 1..=whole {
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
    if whole < levels {
        let y = 1 + whole * per_level;
        let mut rest: Vec<usize> = emitted.into_iter().filter(|i| depth(i) > whole).collect();
        rest.sort_by_key(depth);
        let from = rest.first().map_or(0, |&i| blocks[i].from);
        path_end(&picture, &rest, from, &mut pen.part(1, y as u16, inner as u16, 1));
        if aside > 0 {
            pen.right(width - 1, y, &format!("d {}-{end}", whole + 1), Role::Label);
        }
    }
    let rows = 1 + levels * per_level;
    if let Some(pixels) = pixels.filter(|_| whole == levels && levels > 0) {
        let order = &visible;
        let blocks = pixel_blocks(&picture, &extents(&picture), order, levels, unproposed, pen);
        let background = pen.background();
        let place = pen.place(1, 1, inner as u16, (levels * per_level) as u16);
        pixels.show(place, |painter, size, cell| {
            paint(&blocks, per_level, background, painter, size, cell)
        });
    }
    if legend_rows == 1 {
        let deeper = deepest - levels.max(end);
        let more = match (whole < levels, deeper) {
            (true, 0) => "; last row: the end of the path".to_owned(),
            (true, _) => format!("; last row: the end of the path; {deeper} more below"),
            (false, 0) => String::new(),
            (false, 1) => "; 1 more level below".to_owned(),
            (false, _) => format!("; {deeper} more levels below"),
        };
        let room = width - 2;
        let lines: Vec<String> = legend
            .iter()
            .map(|words| format!("{words}{more}"))
            .chain(legend.iter().cloned())
            .collect();
        let words = lines.iter().find(|words| pen.measure(words) <= room).or(lines.last());
        let y = rows.min(height - 1);
        pen.text(1, y, &pen.shorten(words.map_or("", String::as_str), room), Role::Label);
    }
    rows + legend_rows
}

/// Writes emitted nodes one after another, from a column on.
///
/// Starts further left if there is no room.
///
/// If the path is too long, its end is shown.
fn path_end(picture: &Picture, nodes: &[usize], from: usize, pen: &mut Pen) {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let words: Vec<(String, Role)> = nodes
        .iter()
        .map(|&i| {
            let node = &picture.nodes[i];
            let (mark, role) = node.outcome.style(glyphs);
            (format!("{mark} {}", token(node.text, pen, 16)), role)
        })
        .collect();
    let length = |words: &[(String, Role)]| {
        words.iter().map(|(words, _)| pen.measure(words) + 1).sum::<usize>().saturating_sub(1)
    };
    let ellipsis = pen.measure(glyphs.ellipsis) + 1;
    let first = (0..words.len())
        .find(|&first| length(&words[first..]) + if first > 0 { ellipsis } else { 0 } <= width)
        .unwrap_or(words.len().saturating_sub(1));
    let total = length(&words[first..]) + if first > 0 { ellipsis } else { 0 };
    let mut x = from.min(width.saturating_sub(total));
    if first > 0 {
        x = pen.text(x, 0, glyphs.ellipsis, Role::Label) + 1;
    }
    for (words, role) in &words[first..] {
        x = pen.text(x, 0, words, *role) + 1;
    }
}

/// Draws the block of a node over the first `width` columns of the pen.
///
/// Its label may reach beyond the block. `unproposed` stands below a token without q.
fn block(node: &PictureNode, width: usize, unproposed: &str, pen: &mut Pen) {
    let (height, glyphs) = (pen.height(), pen.glyphs());
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
    let (mark, style) = node.outcome.style(glyphs);
    let p = node.p.map_or_else(String::new, |p| probability(p).trim().to_owned());
    let own = width.saturating_sub(if width >= 6 { 2 } else { 1 });
    // A label beyond the block leaves one column free.
    let room = if node.outcome.emitted() { own.max(pen.width().saturating_sub(2)) } else { own };
    if room == 0 {
        if node.outcome.emitted() {
            pen.text(0, 0, mark, role);
        }
        return;
    }
    let text = token(node.text, pen, room);
    let forms = [
        format!("{mark} {text} {p}"),
        format!("{mark} {text}"),
        // The mark of an emitted token matters more than its end.
        match node.outcome.emitted() {
            true if room >= 4 => format!("{mark} {}", token(node.text, pen, room - 2)),
            true => mark.to_owned(),
            false => text.clone(),
        },
    ];
    let words = forms.iter().find(|form| pen.measure(form) <= room);
    let words = words.cloned().unwrap_or_else(|| pen.shorten(&text, room));
    label(&words, 0, width, (role, style), pen);
    if height > 1 {
        let q = node.q.map(|q| format!("q {}", probability(q).trim()));
        let words = q.unwrap_or_else(|| unproposed.to_owned());
        if pen.measure(&words) <= room {
            label(&words, 1, width, (role, style), pen);
        }
    }
}

/// Writes a label into row `y` of a block.
///
/// The part beyond the block has the role of its mark.
fn label(words: &str, y: usize, width: usize, (inside, beyond): (Role, Role), pen: &mut Pen) {
    pen.text(1, y, words, beyond);
    pen.part(1, 0, width.saturating_sub(1) as u16, u16::MAX).text(0, y, words, inside);
}

/// Returns the legend below the picture, longest form first.
fn legend(step: &Step, picture: &Picture, shown: Shown, pen: &Pen) -> Vec<String> {
    if picture.plain {
        let words = "width: path probability at temperature 1 (greedy: p is 0 or 1)";
        return vec![words.to_owned(), "width: p at temperature 1".to_owned()];
    }
    let expected = two(step.record.expected_accepted);
    let Some(result) = step.search_result else {
        let short = format!("filled area {expected} = E[X|T]");
        return vec![
            format!("{short}; gaps: not drafted; o searches for the oracle tree"),
            format!("{short}; gaps: not drafted"),
            short,
        ];
    };
    let oracle = result.best_known_mass(step.record.expected_accepted);
    let best = result
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
