//! Tree pane: a step's token tree as icicle, graph, or table.

mod graph;
mod icicle;
mod icicle_pixels;
mod nodes;
mod table;
mod token;

pub use token::token;

use self::nodes::Shown;
use super::{Pen, empty};
use crate::tui::theme::Role;
use crate::tui::views::number;
use crate::tui::{Overlay, RunState, State, Step, TreeForm};

/// Width from which the oracle's tree stands beside the drafter's.
const SIDE_BY_SIDE: usize = 100;

/// Rows below an icicle from which the graph stands there.
const GRAPH_ROWS: usize = 3;

/// Returns the title's summary: step number, accepted and drafted tokens.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(step) = state.step() else { return (Vec::new(), Role::Label) };
    let record = &step.record;
    let drafted = record.tree.tokens.len().saturating_sub(1);
    let role = if state.selected.is_some() { Role::Notice } else { Role::Label };
    let short = format!("step {}: {} of {drafted} accepted", record.step, record.accepted);
    let long = format!("{short}, E[X|T] {}", number::two(record.expected_accepted));
    (vec![long, short, format!("{} of {drafted}", record.accepted)], role)
}

/// Draws the tree in the selected form.
///
/// The oracle tree is beside it if there is room.
pub fn tree(state: &State, pen: &mut Pen) {
    let Some(step) = state.step() else {
        empty(pen, "token tree of each step appears here");
        return;
    };
    let (width, height) = (pen.width(), pen.height());
    let side_by_side = width >= SIDE_BY_SIDE && step.oracle.is_some() && !state.oracle_tree;
    if state.tree_form == TreeForm::Table {
        table::table(state, step, pen);
        return;
    }
    if state.oracle_tree && step.oracle.is_none() {
        let why = match () {
            () if step.record.settings.samples_trees() => {
                "no oracle tree: children are sampled from the drafter"
            }
            () if super::greedy(&step.record) => {
                "greedy: the oracle's tree is the text that follows"
            }
            () => "oracle tree not searched: pause here, or o to search every few steps",
        };
        empty(pen, why);
        return;
    }
    if side_by_side && height >= 4 {
        let half = width / 2;
        let left = half - 1;
        pen.text(1, 0, "drafter's tree", Role::Title);
        pen.text(
            half + 1,
            0,
            "oracle's tree: what perfect knowledge would have drafted",
            Role::NodeOracle,
        );
        for y in 0..height {
            pen.text(left, y, pen.glyphs().vline, Role::Frame);
        }
        let rows = (height - 1) as u16;
        picture(state, step, Shown::Drafter, &mut pen.part(0, 1, left as u16, rows));
        picture(
            state,
            step,
            Shown::Oracle,
            &mut pen.part(half as u16, 1, (width - half) as u16, rows),
        );
        return;
    }
    picture(state, step, if state.oracle_tree { Shown::Oracle } else { Shown::Drafter }, pen);
}

/// Draws a tree in the form of the state. Rows that an icicle leaves hold the graph.
fn picture(state: &State, step: &Step, shown: Shown, pen: &mut Pen) {
    if state.tree_form == TreeForm::Graph {
        return graph::graph(step, shown, pen);
    }
    let (width, height) = (pen.width(), pen.height());
    // A running tree changes faster than pictures can be sent.
    let still = state.overlay == Overlay::None
        && (state.selected.is_some() || state.motion == RunState::Paused);
    let pixels = state.pixels.as_deref().filter(|_| still);
    let used = icicle::icicle(step, shown, pixels, pen) + 1;
    let left = height.saturating_sub(used);
    if left >= GRAPH_ROWS && step.record.tree.tokens.len() > 1 {
        graph::graph(step, shown, &mut pen.part(0, used as u16, width as u16, left as u16));
    }
}
