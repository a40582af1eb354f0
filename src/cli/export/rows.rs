//! Steps and nodes of a recording as tables of typed columns.

use std::time::Duration;

use crate::csv_row::format_csv_row;
use crate::telemetry::{OracleResult, StepRecord};

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signed integer of 64 bits.
    Int,
    /// Floating point number of 64 bits.
    Float,
    /// Boolean, true or false.
    Bool,
    /// Text in UTF-8, without a limit.
    Text,
}

/// Value of a cell; `None` if it does not apply or is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Integer of 64 bits.
    Int(Option<i64>),
    /// Floating point number of 64 bits.
    Float(Option<f64>),
    /// Boolean, true or false.
    Bool(Option<bool>),
    /// Text in UTF-8, not escaped.
    Text(Option<String>),
}

/// Name and type of a column.
pub type Column = (&'static str, Kind);

/// Kind of rows to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rows {
    /// One row for each step.
    Steps,
    /// One row for each node of each step's tree, the root included.
    Nodes,
}

/// Columns of steps. Units are seconds and nats.
const STEPS: &[Column] = &[
    ("step", Kind::Int),
    ("at_seconds", Kind::Float),
    ("prompt_id", Kind::Text),
    ("prompt_step", Kind::Int),
    ("position", Kind::Int),
    ("repeated", Kind::Bool),
    ("drafter", Kind::Text),
    ("shape", Kind::Text),
    ("budget", Kind::Int),
    ("auto", Kind::Bool),
    ("verify", Kind::Text),
    ("temperature", Kind::Float),
    ("top_p", Kind::Float),
    ("top_k", Kind::Int),
    ("seed", Kind::Text),
    ("drafted", Kind::Int),
    ("accepted", Kind::Int),
    ("tokens", Kind::Int),
    ("text", Kind::Text),
    ("expected_accepted", Kind::Float),
    ("draft_seconds", Kind::Float),
    ("verify_seconds", Kind::Float),
    ("other_seconds", Kind::Float),
    ("entropy_mean", Kind::Float),
    ("mu", Kind::Float),
    ("fluid", Kind::Float),
    ("bonus", Kind::Int),
    ("bonus_text", Kind::Text),
    ("bonus_rank", Kind::Int),
    ("miss_cause", Kind::Text),
    ("miss_depth", Kind::Int),
    ("miss_text", Kind::Text),
    ("miss_p", Kind::Float),
    ("miss_q", Kind::Float),
    ("miss_rank", Kind::Int),
    ("oracle_lower", Kind::Float),
    ("oracle_upper", Kind::Float),
];

/// Columns of nodes, one row for each.
const NODES: &[Column] = &[
    ("step", Kind::Int),
    ("prompt_id", Kind::Text),
    ("prompt_step", Kind::Int),
    ("node", Kind::Int),
    ("parent", Kind::Int),
    ("depth", Kind::Int),
    ("token", Kind::Int),
    ("text", Kind::Text),
    ("p", Kind::Float),
    ("accept", Kind::Float),
    ("p_plain", Kind::Float),
    ("q", Kind::Float),
    ("calibrated", Kind::Float),
    ("drafter", Kind::Text),
    ("rank", Kind::Int),
    ("accepted", Kind::Bool),
];

impl Rows {
    /// Returns the columns of these rows.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Rows::Steps => STEPS,
            Rows::Nodes => NODES,
        }
    }

    /// Returns the rows of one step.
    ///
    /// `number` counts steps of the recording from 0; `result` is the last result of its oracle
    /// search.
    pub fn of(
        self,
        number: usize,
        at: Duration,
        record: &StepRecord,
        result: Option<&OracleResult>,
    ) -> Vec<Vec<Cell>> {
        match self {
            Rows::Steps => vec![step(number, at, record, result)],
            Rows::Nodes => {
                (0..record.tree.tokens.len()).map(|node| tree_node(number, record, node)).collect()
            }
        }
    }
}

fn int(value: usize) -> Cell {
    Cell::Int(i64::try_from(value).ok())
}

fn float(value: f64) -> Cell {
    Cell::Float(Some(value))
}

fn text(value: impl Into<String>) -> Cell {
    Cell::Text(Some(value.into()))
}

fn step(
    number: usize,
    at: Duration,
    record: &StepRecord,
    result: Option<&OracleResult>,
) -> Vec<Cell> {
    let (settings, miss) = (&record.settings, record.miss.as_ref());
    let entropy: f64 = record.entropy.iter().map(|position| position.sampled.entropy).sum();
    let positions = record.entropy.len();
    vec![
        int(number),
        float(at.as_secs_f64()),
        text(&record.prompt_id),
        int(record.step),
        int(record.position),
        Cell::Bool(Some(record.repeated)),
        text(settings.drafter.name()),
        text(settings.shape.name()),
        int(settings.budget),
        Cell::Bool(Some(settings.automatic())),
        text(settings.verify.name()),
        // A number of 32 bits has fewer digits than as one of 64.
        Cell::Float(settings.temperature.to_string().parse().ok()),
        Cell::Float(settings.top_p.to_string().parse().ok()),
        Cell::Int(settings.top_k.and_then(|k| i64::try_from(k).ok())),
        text(settings.seed.to_string()),
        int(record.tree.tokens.len().saturating_sub(1)),
        int(record.accepted),
        int(record.emitted.len()),
        text(record.emitted_text.concat()),
        float(record.expected_accepted),
        float(record.time.draft),
        float(record.time.verify),
        float(record.time.other),
        Cell::Float((positions > 0).then(|| entropy / positions as f64)),
        float(record.mu),
        Cell::Float(record.ceilings.fluid),
        Cell::Int(Some(i64::from(record.bonus))),
        text(&record.bonus_text),
        int(record.bonus_rank),
        Cell::Text(miss.map(|miss| miss.cause.name().to_owned())),
        Cell::Int(miss.and_then(|miss| i64::try_from(miss.depth).ok())),
        Cell::Text(miss.map(|miss| miss.text.clone())),
        Cell::Float(miss.map(|miss| miss.p)),
        Cell::Float(miss.and_then(|miss| miss.q)),
        Cell::Int(miss.and_then(|miss| i64::try_from(miss.rank).ok())),
        Cell::Float(result.map(|result| result.oracle_lower)),
        Cell::Float(result.map(|result| result.oracle_upper)),
    ]
}

fn tree_node(number: usize, record: &StepRecord, node: usize) -> Vec<Cell> {
    let tree = &record.tree;
    let index = |value: Option<&usize>| Cell::Int(value.and_then(|&v| i64::try_from(v).ok()));
    let at = |list: &[f64]| Cell::Float(list.get(node).copied());
    let drafter =
        tree.origin.get(node).copied().flatten().and_then(|origin| tree.members.get(origin));
    vec![
        int(number),
        text(&record.prompt_id),
        int(record.step),
        int(node),
        index(tree.parents.get(node).and_then(Option::as_ref)),
        index(tree.depth.get(node)),
        Cell::Int(tree.tokens.get(node).map(|&token| i64::from(token))),
        Cell::Text(tree.text.get(node).cloned()),
        at(&tree.p),
        float(tree.acceptance(node)),
        at(&tree.p_plain),
        at(&tree.q),
        at(&tree.calibrated),
        Cell::Text(drafter.cloned()),
        index(tree.rank.get(node)),
        Cell::Bool(Some(node == 0 || record.path.contains(&node))),
    ]
}

/// Formats the names of columns as the first row of comma-separated values.
pub fn csv_header(columns: &[Column]) -> String {
    format_csv_row(&columns.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// Formats a row as comma-separated values. Unknown values are empty.
pub fn csv_row(row: &[Cell]) -> String {
    let cells = row.iter().map(|cell| match cell {
        Cell::Int(value) => value.map(|v| v.to_string()),
        Cell::Float(value) => value.filter(|v| v.is_finite()).map(|v| v.to_string()),
        Cell::Bool(value) => value.map(|v| v.to_string()),
        Cell::Text(value) => value.clone(),
    });
    format_csv_row(&cells.map(Option::unwrap_or_default).collect::<Vec<_>>())
}
