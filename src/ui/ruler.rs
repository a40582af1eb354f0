//! Labels on a ruler that never overlap: they move to the other side of their mark, stack, shorten, or give way.

/// On which side of the ruler a label goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Over it.
    Above,
    /// Under it.
    Below,
}

/// Something to mark, in the order of importance.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The column it stands at.
    pub column: usize,
    /// Which side its label goes.
    pub side: Side,
    /// Its label, and shorter forms of it.
    pub labels: Vec<String>,
}

/// Where the label of a mark went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index of the mark.
    pub mark: usize,
    /// Row, 0 being next to the ruler.
    pub row: usize,
    /// First column of the text (not of the pointer).
    pub start: usize,
    /// The text.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Free,
    /// A pointer, or the line that leads to it, of the mark at this column.
    Pointer,
    Text,
}

/// Places the labels of one side on `rows` rows of `width` columns. `measure` gives the width of a text.
///
/// Each label stands beside its pointer, one column from it, and the pointer's column is free (or a pointer too) on all
/// rows between it and the ruler. A mark that finds no room for any of its labels is not in the answer.
pub fn place(marks: &[Mark], side: Side, rows: usize, width: usize, measure: impl Fn(&str) -> usize) -> Vec<Placed> {
    let mut cells = vec![vec![Cell::Free; width]; rows];
    let mut out = Vec::new();
    for (index, mark) in marks.iter().enumerate().filter(|(_, m)| m.side == side && m.column < width) {
        let found = mark.labels.iter().find_map(|text| {
            let long = measure(text);
            let row_and_start = (0..rows).find_map(|row| fit(&cells, row, mark.column, long).map(|start| (row, start)));
            row_and_start.map(|(row, start)| (row, start, long, text))
        });
        if let Some((row, start, long, text)) = found {
            cells.iter_mut().take(row + 1).for_each(|r| r[mark.column] = Cell::Pointer);
            cells[row][start..start + long].fill(Cell::Text);
            out.push(Placed { mark: index, row, start, text: text.clone() });
        }
    }
    out
}

/// Where a text of that width can start in `row` beside the pointer at `column`.
fn fit(cells: &[Vec<Cell>], row: usize, column: usize, long: usize) -> Option<usize> {
    if cells[..=row].iter().any(|r| r[column] == Cell::Text) {
        return None;
    }
    let line = &cells[row];
    // A line that already leads through this row to a label above would be broken by a pointer here; one that ends
    // here may have a label on its other side. Both look the same, and both read well.
    let free = |from: usize, to: usize| {
        let (before, after) = (from.saturating_sub(1), (to + 1).min(line.len()));
        to <= line.len() && (before..after).all(|x| x == column || line[x] == Cell::Free)
    };
    let right = column + 2;
    if free(right, right + long) && right + long <= line.len() {
        return Some(right);
    }
    let start = column.checked_sub(long + 1)?;
    free(start, start + long).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(column: usize, labels: &[&str]) -> Mark {
        Mark { column, side: Side::Above, labels: labels.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn labels_stack_turn_and_shorten() {
        let marks = [mark(2, &["first 1.0"]), mark(4, &["second 2.0", "2nd"]), mark(28, &["last"]), mark(3, &["x"])];
        let placed = place(&marks, Side::Above, 2, 30, str::len);
        let seen: Vec<_> = placed.iter().map(|p| (p.mark, p.row, p.start, p.text.as_str())).collect();
        assert_eq!(seen, [(0, 0, 4, "first 1.0"), (2, 0, 23, "last"), (3, 0, 1, "x")]);
    }

    proptest! {
        #[test]
        fn labels_never_overlap_or_leave(
            marks in prop::collection::vec((0usize..60, 1usize..16, any::<bool>()), 0..9), rows in 0usize..4, width in 1usize..60,
        ) {
            let marks: Vec<Mark> = marks.into_iter()
                .map(|(column, long, above)| Mark {
                    column, side: if above { Side::Above } else { Side::Below },
                    labels: vec!["x".repeat(long), "x".repeat(long.div_ceil(2))],
                })
                .collect();
            for side in [Side::Above, Side::Below] {
                let placed = place(&marks, side, rows, width, str::len);
                let mut taken = vec![vec![None; width]; rows];
                for p in &placed {
                    prop_assert_eq!(marks[p.mark].side, side);
                    for cell in &mut taken[p.row][p.start..p.start + p.text.len()] {
                        prop_assert_eq!(cell.replace(p.mark), None);
                    }
                }
                for p in &placed {
                    // The way from the ruler to the label is clear of all text, and labels in a row do not touch.
                    let column = marks[p.mark].column;
                    for row in &taken[..=p.row] {
                        prop_assert_eq!(row[column], None);
                    }
                    for beside in [p.start.checked_sub(1), Some(p.start + p.text.len())].into_iter().flatten() {
                        prop_assert!(beside >= width || taken[p.row][beside].is_none());
                    }
                }
            }
        }
    }
}
