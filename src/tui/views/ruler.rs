//! Placement of labels on a ruler without overlap.
//!
//! A label moves to the other side of its pointer, to a row further away, or to a shorter form; the
//! least important is dropped if none of that helps.

/// Side of the ruler on which a label is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the rows above the ruler.
    Above,
    /// On the rows below the ruler.
    Below,
}

/// Mark on a ruler. Slices of marks are ordered by importance.
#[derive(Clone, Debug, PartialEq)]
pub struct RulerMark {
    /// Column that its pointer stands at.
    pub column: usize,
    /// Side on which its label is placed.
    pub side: Side,
    /// Label, longest form first.
    pub labels: Vec<String>,
}

/// Placed label of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLabel {
    /// Index of the mark in the slice.
    pub mark: usize,
    /// Row, counted from the ruler; 0 is next to it.
    pub row: usize,
    /// First column of the text, not of the pointer.
    pub start: usize,
    /// Text of the form that was chosen.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Free,
    /// Pointer of the mark at this column, or the line that leads to it.
    Pointer,
    Text,
}

/// Places the labels of one side on `rows` rows of `width` columns.
///
/// `measure` returns the width of a text in columns. Each label stands one column from its pointer.
/// The pointer's column holds no text on any row between the label and the ruler. If not all labels
/// fit, all are shortened; if that does not help, the least important marks are left out of the
/// result.
pub fn place(
    marks: &[RulerMark],
    side: Side,
    rows: usize,
    width: usize,
    measure: impl Fn(&str) -> usize,
) -> Vec<PlacedLabel> {
    let mut chosen: Vec<usize> =
        (0..marks.len()).filter(|&i| marks[i].side == side && marks[i].column < width).collect();
    let longest = chosen.iter().map(|&i| marks[i].labels.len()).max().unwrap_or(0);
    loop {
        for shortest in 0..longest.max(1) {
            if let Some(placed) = attempt(marks, &chosen, shortest, rows, width, &measure) {
                return placed;
            }
        }
        chosen.pop();
    }
}

/// Places all chosen marks, each with one of its labels from index `from` on. `None` if one does
/// not fit.
///
/// Marks are handled from right to left, with labels right of their pointers. A label that does not
/// fit beside its right neighbor goes a row further out. Nothing crosses its line there, because
/// everything placed so far lies to the right of it.
fn attempt(
    marks: &[RulerMark],
    chosen: &[usize],
    from: usize,
    rows: usize,
    width: usize,
    measure: &impl Fn(&str) -> usize,
) -> Option<Vec<PlacedLabel>> {
    let mut cells = vec![vec![Cell::Free; width]; rows];
    let mut order = chosen.to_vec();
    order.sort_by_key(|&i| std::cmp::Reverse(marks[i].column));
    let mut out = Vec::with_capacity(order.len());
    for (k, &index) in order.iter().enumerate() {
        let mark = &marks[index];
        let pending: Vec<usize> = order[k + 1..].iter().map(|&i| marks[i].column).collect();
        let labels = &mark.labels[from.min(mark.labels.len().saturating_sub(1))..];
        let (row, start, long, text) = labels.iter().find_map(|text| {
            let long = measure(text);
            (0..rows).find_map(|row| {
                fit(&cells, row, mark.column, long, &pending).map(|start| (row, start, long, text))
            })
        })?;
        cells.iter_mut().take(row + 1).for_each(|r| r[mark.column] = Cell::Pointer);
        cells[row][start..start + long].fill(Cell::Text);
        out.push(PlacedLabel { mark: index, row, start, text: text.clone() });
    }
    Some(out)
}

/// Returns the start of a text of width `long` beside the pointer at `column`. The text avoids the
/// columns of pending marks.
fn fit(
    cells: &[Vec<Cell>],
    row: usize,
    column: usize,
    long: usize,
    pending: &[usize],
) -> Option<usize> {
    if cells[..=row].iter().any(|r| r[column] == Cell::Text) {
        return None;
    }
    let line = &cells[row];
    let free = |from: usize, to: usize| {
        let (before, after) = (from.saturating_sub(1), (to + 1).min(line.len()));
        to <= line.len()
            && (before..after).all(|x| x == column || line[x] == Cell::Free)
            && pending.iter().all(|&p| p == column || !(before..after).contains(&p))
    };
    let right = column + 2;
    if free(right, right + long) {
        return Some(right);
    }
    let start = column.checked_sub(long + 1)?;
    free(start, start + long).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(column: usize, labels: &[&str]) -> RulerMark {
        RulerMark {
            column,
            side: Side::Above,
            labels: labels.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn labels_stack_turn_and_shorten() {
        let seen = |marks: &[RulerMark], rows| -> Vec<(usize, usize, usize, String)> {
            let mut placed = place(marks, Side::Above, rows, 30, str::len);
            placed.sort_by_key(|p| p.mark);
            placed.into_iter().map(|p| (p.mark, p.row, p.start, p.text)).collect()
        };
        let near = [mark(2, &["first 1.0", "first"]), mark(6, &["second 2.0", "second", "2nd"])];
        assert_eq!(
            seen(&near, 2),
            [(0, 1, 4, "first 1.0".into()), (1, 0, 8, "second 2.0".into())],
            "the left one stacks"
        );
        let far = [mark(12, &["first 1.0", "first", "1"]), mark(28, &["last"]), mark(18, &["mid"])];
        let one =
            [(0, 0, 2, "first 1.0".into()), (1, 0, 23, "last".into()), (2, 0, 20, "mid".into())];
        assert_eq!(seen(&far, 1)[..1], one[..1], "to the left, where the right is taken");
        let tight =
            [mark(2, &["first 1.0", "1st"]), mark(8, &["second", "2nd"]), mark(3, &["third"])];
        assert_eq!(
            seen(&tight, 1),
            [(0, 0, 4, "1st".into()), (1, 0, 10, "second".into())],
            "the last gives way"
        );
        let same = [mark(14, &["one"]), mark(14, &["two"])];
        assert_eq!(
            seen(&same, 1),
            [(0, 0, 16, "one".into()), (1, 0, 10, "two".into())],
            "a shared pointer, a label on each side"
        );
    }

    proptest! {
        #[test]
        fn labels_never_overlap_or_leave(
            marks in prop::collection::vec((0usize..60, 1usize..16, any::<bool>()), 0..9), rows in 0usize..4, width in 1usize..60,
        ) {
            let marks: Vec<RulerMark> = marks.into_iter()
                .map(|(column, long, above)| RulerMark {
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
                // The most important mark is placed whenever it would fit alone.
                let alone = marks.iter().position(|m| m.side == side && m.column < width);
                if let Some(first) = alone.filter(|&i| place(&marks[i..=i], side, rows, width, str::len).len() == 1) {
                    prop_assert!(placed.iter().any(|p| p.mark == first));
                }
                for p in &placed {
                    // The line from the ruler to the label crosses no text, and labels in a row do
                    // not touch.
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
