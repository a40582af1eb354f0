//! Table: a node per row, with its outcome, p, q, and ranks.

use super::super::{greedy, speed};
use super::token::token;
use crate::telemetry::{Origins, StepRecord, TreeRecord};
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number;
use crate::tui::views::pen::Pen;
use crate::tui::{State, Step};

/// Outcome of a node in verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeOutcome {
    Root,
    Accepted,
    /// Node whose parent was reached, but the target chose another token.
    Refused,
    /// Node whose parent was not reached.
    Unreached,
    /// Drafted, but cut by the budget.
    Cut,
    /// Token that the target added.
    Bonus,
}

impl NodeOutcome {
    fn style(self, glyphs: &Glyphs) -> (&'static str, Role) {
        match self {
            NodeOutcome::Root => (glyphs.root, Role::NodeRoot),
            NodeOutcome::Accepted => (glyphs.accepted, Role::NodeAccepted),
            NodeOutcome::Refused => (glyphs.refused, Role::NodeRefused),
            NodeOutcome::Unreached => (glyphs.unreached, Role::NodeUnreached),
            NodeOutcome::Cut => (glyphs.cut, Role::NodeUnreached),
            NodeOutcome::Bonus => (glyphs.bonus, Role::NodeBonus),
        }
    }
}

/// Row of the picture.
#[derive(Debug, PartialEq)]
struct Row {
    branches: String,
    fate: NodeOutcome,
    /// Index of the node; nodes cut by the budget continue the numbering of the tree. `None` for
    /// the bonus token, which is not a node.
    node: Option<usize>,
    depth: usize,
}

/// Returns the parent of node `i`. A record from a file may hold any index, so only a smaller one
/// counts.
fn parent(tree: &TreeRecord, i: usize) -> Option<usize> {
    let parent = match i.checked_sub(tree.tokens.len()) {
        None => tree.parents.get(i).copied().flatten(),
        Some(cut) => tree.cut.get(cut).map(|cut| cut.parent),
    };
    parent.filter(|&p| p < i)
}

/// Returns the number of nodes, those cut by the budget included.
fn all_nodes(tree: &TreeRecord) -> usize {
    tree.tokens.len() + tree.cut.len()
}

fn fates(record: &StepRecord) -> Vec<NodeOutcome> {
    let mut reached = vec![false; record.tree.tokens.len()];
    let on_path = |i: &usize| *i < record.tree.tokens.len();
    reached.iter_mut().take(1).for_each(|r| *r = true);
    record.path.iter().copied().filter(|i| on_path(i)).for_each(|i| reached[i] = true);
    (0..all_nodes(&record.tree))
        .map(|i| match parent(&record.tree, i) {
            _ if i >= reached.len() => NodeOutcome::Cut,
            None => NodeOutcome::Root,
            Some(_) if reached[i] => NodeOutcome::Accepted,
            Some(parent) if reached.get(parent) == Some(&true) => NodeOutcome::Refused,
            Some(_) => NodeOutcome::Unreached,
        })
        .collect()
}

/// Returns each node's product of temperature-1 target probabilities along its path.
fn likelihood(tree: &TreeRecord) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::with_capacity(tree.tokens.len());
    for i in 0..tree.tokens.len() {
        let above = parent(tree, i).and_then(|p| all.get(p).copied()).unwrap_or(1.0);
        all.push(above * tree.p_plain.get(i).copied().unwrap_or(0.0));
    }
    all
}

/// Returns which nodes are shown if `room` of them fit.
///
/// The accepted path comes first, then the most likely nodes, then those cut by the budget. A
/// parent is at least as likely as its child, so the nodes shown are connected.
fn kept(record: &StepRecord, room: usize) -> Vec<bool> {
    let tree = &record.tree;
    let pi = likelihood(tree);
    let mut keep = vec![false; all_nodes(tree)];
    keep.iter_mut().take(1).for_each(|k| *k = true);
    record.path.iter().for_each(|&i| {
        if let Some(k) = keep.get_mut(i) {
            *k = true
        }
    });
    let mut order: Vec<usize> = (0..tree.tokens.len()).filter(|&i| !keep[i]).collect();
    order.sort_by(|&a, &b| pi[b].total_cmp(&pi[a]).then(a.cmp(&b)));
    let mut left = room.saturating_sub(keep.iter().filter(|k| **k).count());
    for i in order.into_iter().chain(tree.tokens.len()..keep.len()) {
        let parent_shown = parent(tree, i).is_none_or(|p| keep.get(p) == Some(&true));
        if left > 0 && parent_shown {
            keep[i] = true;
            left -= 1;
        }
    }
    keep
}

/// Returns the rows of the picture, depth first, with the accepted child first among siblings.
///
/// With `narrow`, an only child stands straight below its parent, without indentation.
fn rows(record: &StepRecord, keep: &[bool], narrow: bool, glyphs: &Glyphs) -> Vec<Row> {
    let tree = &record.tree;
    let fates = fates(record);
    let last = record.path.last().copied().unwrap_or(0);
    let mut children: Vec<Vec<Option<usize>>> = vec![Vec::new(); keep.len()];
    for (i, _) in keep.iter().enumerate().filter(|(_, kept)| **kept) {
        if let Some(list) = parent(tree, i).and_then(|p| children.get_mut(p)) {
            list.push(Some(i));
        }
    }
    for list in &mut children {
        // Stable sort: the other children stay in drafting order.
        list.sort_by_key(|c| c.is_none_or(|i| fates[i] != NodeOutcome::Accepted));
    }
    if let Some(list) = children.get_mut(last) {
        list.insert(0, None);
    }
    let mut out = Vec::new();
    // Node, branches before its own, own branch, depth.
    let mut stack: Vec<(Option<usize>, String, &str, usize)> =
        vec![(Some(0), String::new(), "", 0)];
    while let Some((node, before, branch, depth)) = stack.pop() {
        let fate =
            node.map_or(NodeOutcome::Bonus, |i| fates.get(i).copied().unwrap_or(NodeOutcome::Root));
        out.push(Row { branches: format!("{before}{branch}"), fate, node, depth });
        let below = match branch {
            "" => before,
            b if b == glyphs.tee => before + glyphs.pass,
            _ => before + "  ",
        };
        let list = node.and_then(|i| children.get(i)).map_or(&[][..], Vec::as_slice);
        let straight = narrow && list.len() == 1;
        for (k, &child) in list.iter().enumerate().rev() {
            let branch = match () {
                () if straight => "",
                () if k + 1 < list.len() => glyphs.tee,
                () => glyphs.corner,
            };
            stack.push((child, below.clone(), branch, depth + 1));
        }
    }
    out
}

/// Returns a distinct letter for each drafter of a mix; empty without a mix.
fn letters(tree: &TreeRecord) -> Vec<char> {
    let mut letters: Vec<char> = Vec::new();
    for name in tree.members.iter().filter(|_| tree.members.len() > 1) {
        let own = name.chars().find(|c| c.is_ascii_alphanumeric() && !letters.contains(c));
        letters.push(own.unwrap_or('?'));
    }
    letters
}

/// Returns accepted and proposed nodes by drafter of a mix, longest form first.
fn origins(record: &StepRecord, letters: &[char]) -> Vec<String> {
    let mut counts = Origins::default();
    counts.add(record);
    let each = |long: bool| {
        let of = |(name, letter): (&String, &char)| {
            let counts = counts
                .iter()
                .find(|(own, _)| own == name)
                .map(|(_, counts)| counts)
                .unwrap_or_default();
            let name = if long { format!("{letter} {name}") } else { letter.to_string() };
            format!("{name} {}/{}", counts.accepted, counts.proposed)
        };
        record.tree.members.iter().zip(letters).map(of).collect::<Vec<_>>().join(", ")
    };
    vec![format!("accepted/proposed: {}", each(true)), each(true), each(false)]
}

/// Draws one node per row, with as many number columns as fit.
pub fn table(state: &State, step: &Step, pen: &mut Pen) {
    let record = &step.record;
    let (width, mut height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let letters = letters(&record.tree);
    let proposed = (!letters.is_empty()).then(|| origins(record, &letters));
    for words in [speed::chosen(state), proposed].into_iter().flatten() {
        if height < 7 {
            break;
        }
        height -= 1;
        let line = words.iter().find(|w| pen.measure(w) + 2 <= width).or(words.last());
        pen.text(
            1,
            height,
            &pen.shorten(line.map_or("", String::as_str), width.saturating_sub(2)),
            Role::Label,
        );
    }
    let nodes = all_nodes(&record.tree);
    // One row for the column heads, one for the bonus token.
    let head = usize::from(height >= 6);
    let room = height.saturating_sub(head);
    let all = nodes < room;
    let keep = kept(record, if all { nodes } else { room.saturating_sub(2) });
    let wide = rows(record, &keep, false, glyphs);
    let deepest = wide.iter().map(|r| r.branches.chars().count()).max().unwrap_or(0);
    let numbers = columns(width, greedy(record));
    let words = width.saturating_sub(numbers.last().map_or(0, |c| c.1) + 2);
    let picture = if deepest + 12 > words { rows(record, &keep, true, glyphs) } else { wide };
    if head == 1 {
        pen.text(1, 0, "token", Role::Label);
        for (column, from_right) in &numbers {
            pen.right(width - from_right + column.width() + 1, 0, column.name(), Role::Label);
        }
    }
    // If even the accepted path is too long, its end is shown.
    let rows_left = room.saturating_sub(usize::from(!all));
    let skipped = picture.len().saturating_sub(rows_left);
    let pi = record.tree.path_products();
    for (y, row) in picture.iter().skip(skipped).enumerate() {
        let y = y + head;
        let (glyph, role) = row.fate.style(glyphs);
        let branch = if row.fate == NodeOutcome::Cut { role } else { Role::Branch };
        let mut x = pen.text(1, y, &pen.shorten(&row.branches, words.saturating_sub(4)), branch);
        x = pen.text(x, y, glyph, role);
        let member = row.node.and_then(|i| record.tree.origin.get(i).copied().flatten());
        if let Some((member, letter)) =
            member.and_then(|member| Some((member, letters.get(member)?)))
        {
            x = pen.text(x, y, letter.encode_utf8(&mut [0; 4]), Role::origin(member));
        }
        let cut =
            row.node.and_then(|i| record.tree.cut.get(i.checked_sub(record.tree.tokens.len())?));
        let (text, p, p_plain, q) = match (row.node, cut) {
            (_, Some(cut)) => (Some(&cut.text), None, None, Some(&cut.q)),
            (Some(i), _) => (
                record.tree.text.get(i),
                record.tree.p.get(i),
                record.tree.p_plain.get(i),
                record.tree.q.get(i),
            ),
            (None, _) => {
                let last = record.entropy.last();
                (
                    Some(&record.bonus_text),
                    last.map(|e| &e.p),
                    last.and_then(|e| e.p_plain.as_ref()),
                    record.bonus_q.as_ref(),
                )
            }
        };
        let shown = token(text.map_or("", String::as_str), pen, words.saturating_sub(x));
        x = pen.text(x + 1, y, &shown, role);
        let labels: &[&str] = match row.fate {
            NodeOutcome::Bonus => &["bonus"],
            NodeOutcome::Cut => &["cut by the budget", "cut"],
            _ => &[],
        };
        if let Some(label) = labels.iter().find(|label| x + label.len() + 1 < words) {
            pen.text(
                x + 1,
                y,
                label,
                if row.fate == NodeOutcome::Cut { role } else { Role::Label },
            );
        }
        let quiet = matches!(row.fate, NodeOutcome::Unreached | NodeOutcome::Cut);
        let number_role = if quiet { Role::NodeUnreached } else { Role::Base };
        for (column, from_right) in &numbers {
            let value = match (column, row.node) {
                (_, Some(0)) => continue,
                (Column::P, _) => p.map_or_else(String::new, |p| number::probability(*p)),
                (Column::PlainP, _) => {
                    p_plain.map_or_else(String::new, |p| number::probability(*p))
                }
                (Column::Q, _) => q.map_or_else(String::new, |q| number::probability(*q)),
                (Column::Rank, Some(i)) => {
                    record.tree.rank.get(i).map_or_else(String::new, |r| rank(*r))
                }
                (Column::Pi, Some(i)) => {
                    pi.get(i).map_or_else(String::new, |p| number::probability(*p))
                }
                (Column::Depth, _) => row.depth.to_string(),
                (Column::Rank, None) => rank(record.bonus_rank),
                (Column::Pi, None) => continue,
            };
            pen.right(width - from_right + column.width() + 1, y, &value, number_role);
        }
    }
    let (tree_nodes, cut_nodes) = keep.split_at(record.tree.tokens.len().min(keep.len()));
    let hidden_of = |nodes: &[bool]| nodes.iter().filter(|k| !**k).count();
    let (hidden, hidden_cut) = (hidden_of(tree_nodes), hidden_of(cut_nodes));
    if !all && height > head {
        let mass: f64 =
            keep.iter().zip(&pi).filter(|(k, _)| !**k).map(|(_, p)| p).sum::<f64>() + 0.0; // -0 becomes 0
        let above = if skipped > 0 { format!("{skipped} rows above, ") } else { String::new() };
        let short = format!("{} {above}{hidden} less likely nodes hidden", glyphs.ellipsis);
        let long = format!("{short}, {} of E[X|T]", number::two(mass));
        let cut = format!("{long}; {hidden_cut} cut by the budget");
        let forms = [Some(cut).filter(|_| hidden_cut > 0), Some(long), Some(short)];
        let line = forms.into_iter().flatten().find(|l| pen.measure(l) + 2 <= width);
        let line = line.unwrap_or_else(|| format!("{} {above}{hidden} hidden", glyphs.ellipsis));
        if hidden > 0 || hidden_cut > 0 || skipped > 0 {
            pen.text(1, head + rows_left, &line, Role::Label);
        }
    }
}

/// Number column of the pane.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Column {
    Depth,
    Pi,
    Rank,
    P,
    /// p at temperature 1, shown if greedy, where p itself is 0 or 1.
    PlainP,
    Q,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Depth => "d",
            Column::Pi => "path",
            Column::Rank => "rank",
            Column::P => "p",
            Column::PlainP => "p T=1",
            Column::Q => "q",
        }
    }

    fn width(self) -> usize {
        match self {
            Column::Depth => 2,
            Column::PlainP => 5,
            _ => 4,
        }
    }
}

/// Returns the columns that fit, rightmost first. Each comes with the distance of its start from
/// the right edge.
fn columns(width: usize, greedy: bool) -> Vec<(Column, usize)> {
    let p = if greedy { Column::PlainP } else { Column::P };
    let wanted: &[Column] = match width {
        0..=44 => &[Column::Q, p],
        45..=56 => &[Column::Q, p, Column::Rank],
        _ => &[Column::Q, p, Column::Rank, Column::Pi, Column::Depth],
    };
    let mut used = 1;
    wanted
        .iter()
        .map(|&c| {
            used += c.width() + 1;
            (c, used)
        })
        .collect()
}

fn rank(rank: usize) -> String {
    if rank > 999 { ">999".to_owned() } else { rank.to_string() }
}
