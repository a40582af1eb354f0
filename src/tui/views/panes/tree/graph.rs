//! Graph: the tree from left to right, a node's first child on its own row.
//!
//! The weight of a line is the target's p. Lines are dashed where nothing was verified: below cut
//! nodes, and to the token that was missed.

use super::nodes::{NodeOutcome, Picture, Shown};
use super::token::token;
use crate::tui::Step;
use crate::tui::theme::Role;
use crate::tui::views::number::{ordinal, probability};
use crate::tui::views::pen::Pen;

/// Probability from which a line is heavy.
const HEAVY: f64 = 0.3;
/// Columns between two levels: a blank, the junction, the line, a blank.
const LINK: usize = 5;
/// Label widths in cells, widest first; the widest with a probability.
const LABELS: [usize; 4] = [16, 12, 9, 6];

/// Placement of the nodes that are drawn.
struct Placement {
    /// Row of each node; `None` if it is not drawn.
    rows: Vec<Option<usize>>,
    /// Number of rows that are used.
    height: usize,
}

/// Returns for each node if it fits into `room` rows.
///
/// The accepted path and the bonus token come first, then the most likely nodes.
fn kept(picture: &Picture, room: usize) -> Vec<bool> {
    let nodes = &picture.nodes;
    let mut keep: Vec<bool> = nodes
        .iter()
        .map(|n| {
            matches!(n.outcome, NodeOutcome::Root | NodeOutcome::Accepted | NodeOutcome::Bonus)
        })
        .collect();
    // Each child beyond the first of its parent adds a row.
    let mut children: Vec<usize> = vec![0; nodes.len()];
    nodes.iter().zip(&keep).filter(|(_, kept)| **kept).for_each(|(node, _)| {
        node.parent.iter().for_each(|&parent| children[parent] += 1);
    });
    let mut rows = 1 + children.iter().map(|n| n.saturating_sub(1)).sum::<usize>();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&i| !keep[i]).collect();
    let cut = |i: usize| nodes[i].outcome == NodeOutcome::Cut;
    // A parent is at least as likely as its child and comes first.
    order.sort_by(|&a, &b| {
        cut(a).cmp(&cut(b)).then(nodes[b].pi.total_cmp(&nodes[a].pi)).then(a.cmp(&b))
    });
    for i in order {
        let Some(parent) = nodes[i].parent.filter(|&parent| keep[parent]) else { continue };
        let more = usize::from(children[parent] > 0);
        if rows + more <= room {
            keep[i] = true;
            children[parent] += 1;
            rows += more;
        }
    }
    keep
}

/// Returns the kept children of a node, the accepted one first.
///
/// The bonus token follows the verified ones.
fn branches(picture: &Picture, keep: &[bool], node: usize) -> Vec<usize> {
    let mut list: Vec<usize> =
        picture.children[node].iter().copied().filter(|&child| keep[child]).collect();
    list.sort_by_key(|&child| picture.nodes[child].outcome != NodeOutcome::Accepted);
    list
}

fn place(picture: &Picture, keep: &[bool]) -> Placement {
    let (mut rows, mut height) = (vec![None; picture.nodes.len()], 0);
    // Nodes to place, each with the row of its parent if it is a first child.
    let mut stack: Vec<(usize, bool)> = vec![(0, false)];
    while let Some((node, first)) = stack.pop() {
        let parent_row = picture.nodes[node].parent.and_then(|parent| rows[parent]);
        rows[node] = match parent_row.filter(|_| first) {
            Some(row) => Some(row),
            None => {
                height += 1;
                Some(height - 1)
            }
        };
        for (k, &child) in branches(picture, keep, node).iter().enumerate().rev() {
            stack.push((child, k == 0));
        }
    }
    Placement { rows, height }
}

/// Draws the graph of a step.
pub fn graph(step: &Step, shown: Shown, pen: &mut Pen) {
    let mut picture = Picture::new(step, shown);
    if shown == Shown::Drafter {
        picture = picture.restricted(|node| node.outcome != NodeOutcome::Oracle);
    }
    let picture = picture;
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    if width < 12 || height == 0 {
        return;
    }
    let legend = usize::from(height >= 6);
    let room = height - legend;
    let keep = kept(&picture, room);
    let placement = place(&picture, &keep);
    let deepest =
        (0..keep.len()).filter(|&i| keep[i]).map(|i| picture.nodes[i].depth).max().unwrap_or(0);
    let label = |i: usize, cap: usize, pen: &Pen| {
        let node = &picture.nodes[i];
        let p = node
            .p
            .filter(|_| i > 0 && cap >= LABELS[1])
            .map_or_else(String::new, |p| format!(" {}", probability(p).trim()));
        let mark = node.outcome.style(glyphs).0;
        let text = token(node.text, pen, cap.saturating_sub(2 + p.len()).max(1));
        format!("{mark} {text}{p}")
    };
    // Width of each level at a label width, and their sum.
    let widths = |cap: usize, pen: &Pen| {
        let mut widths = vec![0; deepest + 1];
        for i in (0..keep.len()).filter(|&i| keep[i]) {
            let level = &mut widths[picture.nodes[i].depth];
            *level = pen.measure(&label(i, cap, pen)).max(*level);
        }
        widths
    };
    let total =
        |widths: &[usize]| widths.iter().sum::<usize>() + LINK * widths.len().saturating_sub(1) + 2;
    let cap = LABELS
        .into_iter()
        .find(|&cap| total(&widths(cap, pen)) <= width)
        .unwrap_or(LABELS[LABELS.len() - 1]);
    let widths = widths(cap, pen);
    let mut starts = vec![1];
    widths.iter().for_each(|w| starts.push(starts[starts.len() - 1] + w + LINK));
    // Levels beyond the right edge are left out, and said to be.
    let levels = (0..=deepest).take_while(|&d| d == 0 || starts[d] + 4 < width).last().unwrap_or(0);
    let first_row =
        placement.height.saturating_sub(room).min(placement.rows.iter().flatten().count());
    let row_of = |i: usize| {
        placement.rows[i].and_then(|row| row.checked_sub(first_row)).filter(|row| *row < room)
    };
    for i in (0..keep.len()).filter(|&i| keep[i] && picture.nodes[i].depth <= levels) {
        let Some(y) = row_of(i) else { continue };
        let node = &picture.nodes[i];
        let role = node.outcome.style(glyphs).1;
        let start = starts[node.depth];
        let words = label(i, cap, pen);
        let end = pen.text(start, y, &words, role);
        if Some(i) == picture.bonus {
            let notes = bonus_notes(step, &picture);
            if let Some(note) = notes.iter().find(|note| end + 2 + pen.measure(note) < width) {
                pen.text(end + 2, y, note, Role::Label);
            }
        }
        if node.depth == levels {
            continue;
        }
        let branches = branches(&picture, &keep, i);
        let junction = starts[node.depth + 1] - LINK + 1;
        for (k, &child) in branches.iter().enumerate() {
            let next = &picture.nodes[child];
            let dashed = matches!(next.outcome, NodeOutcome::Cut | NodeOutcome::Bonus);
            let line = match next.p {
                _ if dashed => glyphs.dashed,
                Some(p) if p >= HEAVY => glyphs.heavy,
                _ => glyphs.line,
            };
            let role = if next.outcome == NodeOutcome::Unreached || next.outcome == NodeOutcome::Cut
            {
                Role::Branch
            } else {
                next.outcome.style(glyphs).1
            };
            let Some(row) = placement.rows[child] else { continue };
            if k == 0 {
                pen.rule(end + 1, junction + 3, y, line, role);
                if branches.len() > 1 {
                    pen.text(junction, y, glyphs.fork, Role::Branch);
                }
                continue;
            }
            // The vertical line from the row above to this child.
            let above =
                branches.get(k - 1).and_then(|&before| placement.rows[before]).unwrap_or(row);
            for between in above + 1..row {
                if let Some(y) = between.checked_sub(first_row).filter(|y| *y < room) {
                    pen.text(junction, y, glyphs.vline, Role::Branch);
                }
            }
            if let Some(y) = row.checked_sub(first_row).filter(|y| *y < room) {
                let last = k + 1 == branches.len();
                pen.text(junction, y, if last { glyphs.corner } else { glyphs.tee }, Role::Branch);
                pen.rule(junction + 1, junction + 3, y, line, role);
            }
        }
    }
    if legend == 1 {
        let hidden = keep.iter().zip(&picture.nodes).filter(|(kept, _)| !**kept).count();
        let (heavy, light, dashed) =
            (glyphs.heavy.repeat(2), glyphs.line.repeat(2), glyphs.dashed.repeat(2));
        let key = format!("{heavy} p from {HEAVY}  {light} less  {dashed} not verified");
        let more = match (hidden, deepest - levels) {
            (0, 0) => String::new(),
            (hidden, 0) => format!("  {} {hidden} less likely nodes hidden", glyphs.ellipsis),
            (_, 1) => format!("  {} 1 level beyond the edge", glyphs.ellipsis),
            (_, deeper) => format!("  {} {deeper} levels beyond the edge", glyphs.ellipsis),
        };
        let forms = [format!("{key}{more}"), more.trim_start().to_owned()];
        let y = placement.height.min(room);
        if let Some(words) = forms.iter().find(|words| pen.measure(words) + 2 <= width) {
            pen.text(1, y, words, Role::Label);
        }
    }
}

/// Returns the words beside the bonus token, longest form first.
fn bonus_notes(step: &Step, picture: &Picture) -> Vec<String> {
    let record = &step.record;
    let drafted = record.tree.tokens.len() > 1;
    let Some(miss) = record.miss.as_ref().filter(|_| drafted) else {
        return vec!["bonus".to_owned()];
    };
    let choice = format!("target's {} choice", ordinal(miss.rank.saturating_add(1)));
    let p = picture
        .bonus
        .and_then(|bonus| picture.nodes[bonus].p)
        .map_or_else(String::new, |p| format!("p {}, ", probability(p).trim()));
    let q = match (miss.q, miss.draft_rank) {
        (Some(q), Some(rank)) => {
            format!("q {}, drafter's {}", probability(q).trim(), ordinal(rank.saturating_add(1)))
        }
        _ => "not proposed".to_owned(),
    };
    vec![
        format!("not drafted: {p}{choice}, {q}"),
        format!("not drafted, {q}"),
        "not drafted".to_owned(),
    ]
}
