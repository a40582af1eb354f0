//! Line plots over budgets (log scale) or steps, with values from 0 up.
//!
//! Curves are drawn in braille, or with one letter per column in ASCII.

use super::pen::Pen;
use crate::tui::theme::Role;

/// Columns of the axis on the left, its line included.
const AXIS: usize = 5;
/// Maximum columns for the label at a curve's right end.
const LABEL: usize = 16;

/// Curve of a plot, with its color, letter, and label.
pub struct Curve<'a> {
    /// Label at the right end, longest form first.
    pub labels: Vec<String>,
    /// Letter that draws the curve in ASCII.
    pub letter: &'static str,
    /// Role whose color the curve has.
    pub role: Role,
    /// Set for a curve with gaps: a ceiling rather than a measurement.
    pub dashed: bool,
    /// Budget or step at which the curve ends, if before the plot's end.
    ///
    /// The label stands there.
    pub until: Option<usize>,
    /// Function from a budget or step, 1 or more, to its value, if any.
    pub value: &'a dyn Fn(f64) -> Option<f64>,
}

/// Quantity on the horizontal axis, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HorizontalAxis {
    /// Budgets on a log scale.
    Budgets,
    /// Steps on a linear scale.
    Steps,
}

/// Plot: its ranges, mark, and curves.
pub struct Plot<'a> {
    /// Quantity on the horizontal axis.
    pub across: HorizontalAxis,
    /// Largest budget, or last step.
    pub most: usize,
    /// Largest value; curves are not drawn above it.
    pub top: f64,
    /// Decimal places of the numbers on the vertical axis.
    pub places: usize,
    /// Budget or step to mark with a vertical line.
    pub mark: Option<usize>,
    /// Curves, most important first.
    pub curves: &'a [Curve<'a>],
}

/// Interpolates linearly in a list whose entry `i` belongs to budget `i + 1`. `None` outside the
/// list.
pub fn between(values: &[f64], batch: f64) -> Option<f64> {
    let at = batch - 1.0;
    if at < 0.0 {
        return None;
    }
    let (low, share) = (at.floor(), at - at.floor());
    let get = |i: f64| values.get(i as usize).copied().filter(|v| v.is_finite());
    match share {
        s if s < 1e-9 => get(low),
        s => Some(get(low)? * (1.0 - s) + get(low + 1.0)? * s),
    }
}

/// Returns a round number not below `value`. It is 1, 1.5, 2, 3, 4, 6, or 8 times a power of ten.
pub fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value < 1e12) {
        return 1.0;
    }
    let ten = 10f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|m| m * ten)
        .find(|&t| value <= t * (1.0 + 1e-9))
        .unwrap_or(value)
}

impl Plot<'_> {
    /// Draws the plot into the pen's whole area. The last row holds the horizontal axis, the right
    /// the labels.
    pub fn draw(&self, pen: &mut Pen) {
        let (width, rows) = (pen.width(), pen.height().saturating_sub(1));
        let outer = |c: &&Curve| c.until.is_none_or(|u| u >= self.most);
        let longest = self
            .curves
            .iter()
            .filter(outer)
            .filter_map(|c| c.labels.first())
            .map(|l| pen.measure(l))
            .max()
            .unwrap_or(0);
        let labels = if width >= 44 { longest.min(LABEL) + 3 } else { longest.min(7) + 2 };
        let labels = if longest == 0 { 1 } else { labels };
        let columns = width.saturating_sub(AXIS + labels);
        if rows < 2 || columns < 8 || !(self.top > 0.0 && self.top.is_finite()) {
            return;
        }
        let glyphs = pen.glyphs();
        for (y, value) in [(0, self.top), (rows - 1, 0.0)] {
            pen.right(
                AXIS - 1,
                y,
                &format!("{value:.*}", if value == 0.0 { 0 } else { self.places }),
                Role::PlotAxis,
            );
        }
        for y in 0..rows {
            pen.text(AXIS - 1, y, glyphs.vline, Role::PlotAxis);
        }
        if let Some(column) = self.mark.and_then(|b| self.column(b, columns)) {
            for y in 0..rows {
                pen.text(AXIS + column, y, glyphs.change, Role::Frame);
            }
        }
        self.budgets(pen, rows, columns);
        for curve in self.curves.iter().rev() {
            if glyphs.ascii {
                self.letters(pen, curve, rows, columns);
            } else {
                self.dots(pen, curve, rows, columns);
            }
        }
        self.inner(pen, rows, columns);
        self.labels(pen, rows, AXIS + columns, labels);
    }

    /// Returns the column of a budget or step, if it is in range.
    fn column(&self, batch: usize, columns: usize) -> Option<usize> {
        let share = match self.across {
            _ if self.most <= 1 => 0.0,
            HorizontalAxis::Budgets => (batch as f64).ln() / (self.most as f64).ln(),
            HorizontalAxis::Steps => (batch as f64 - 1.0) / (self.most as f64 - 1.0),
        };
        (1..=self.most.max(1))
            .contains(&batch)
            .then(|| (share * (columns - 1) as f64).round() as usize)
    }

    /// Returns the budget or step at a horizontal position from 0 to 1.
    fn batch(&self, share: f64) -> f64 {
        let (most, share) = (self.most.max(1) as f64, share.clamp(0.0, 1.0));
        match self.across {
            HorizontalAxis::Budgets => most.powf(share),
            HorizontalAxis::Steps => 1.0 + share * (most - 1.0),
        }
    }

    /// Draws the horizontal axis, with as many numbers as fit. Budgets get powers of two, steps
    /// round numbers. The marked value always gets its number.
    fn budgets(&self, pen: &mut Pen, y: usize, columns: usize) {
        let apart = (round_up(self.most as f64 / 6.0) as usize).max(1);
        let tick = |i: u32| match self.across {
            HorizontalAxis::Budgets => 1usize.checked_shl(i).unwrap_or(usize::MAX),
            HorizontalAxis::Steps => apart.saturating_mul(i as usize + 1),
        };
        let powers = (0..usize::BITS).map(tick).take_while(|&b| b <= self.most);
        let mut taken: Vec<(usize, usize)> = Vec::new();
        let marked = self.mark.into_iter().chain([self.most, 1]).chain(powers);
        for batch in marked {
            let Some(column) = self.column(batch, columns) else { continue };
            let text = batch.to_string();
            let start = (AXIS + column).saturating_sub(text.len() / 2);
            let end = start + text.len();
            if taken.iter().all(|&(from, to)| end < from || start > to) && end <= pen.width() {
                let role = if self.mark == Some(batch) { Role::Value } else { Role::PlotAxis };
                pen.text(start, y, &text, role);
                taken.push((start, end));
            }
        }
        if taken.iter().all(|t| t.0 > 2) && self.across == HorizontalAxis::Budgets {
            pen.text(1, y, "B", Role::PlotAxis);
        }
    }

    /// Returns a value's distance from the top, where the height is divided into `parts`. `None`
    /// above the top.
    fn down(&self, value: f64, parts: usize) -> Option<usize> {
        let up = value / self.top * parts as f64;
        (up.is_finite() && up >= 0.0 && value <= self.top * 1.0001)
            .then(|| parts - 1 - (up as usize).min(parts - 1))
    }

    fn letters(&self, pen: &mut Pen, curve: &Curve, rows: usize, columns: usize) {
        for x in 0..columns {
            let batch = self.batch(x as f64 / (columns - 1) as f64);
            let row = (curve.value)(batch).and_then(|v| self.down(v, rows));
            if let Some(row) = row.filter(|_| !(curve.dashed && x % 2 == 1)) {
                pen.text(AXIS + x, row, curve.letter, curve.role);
            }
        }
    }

    fn dots(&self, pen: &mut Pen, curve: &Curve, rows: usize, columns: usize) {
        // Bits of a braille cell's dots by row and column.
        const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let mut cells = vec![0u32; rows * columns];
        let (wide, tall) = (columns * 2, rows * 4);
        let mut before: Option<usize> = None;
        for x in 0..wide {
            let batch = self.batch(x as f64 / (wide - 1) as f64);
            let at = (curve.value)(batch).and_then(|v| self.down(v, tall));
            if let Some(y) = at.filter(|_| !(curve.dashed && x % 4 >= 2)) {
                let from = before.unwrap_or(y);
                for y in from.min(y)..=from.max(y) {
                    cells[y / 4 * columns + x / 2] |= BITS[y % 4][x % 2];
                }
            }
            before = at;
        }
        for (i, bits) in cells.into_iter().enumerate().filter(|(_, bits)| *bits != 0) {
            let symbol = char::from_u32(0x2800 + bits).unwrap_or('.');
            pen.text(AXIS + i % columns, i / columns, symbol.encode_utf8(&mut [0; 4]), curve.role);
        }
    }

    /// Draws the labels of curves that end within the plot. They stand below and right of the ends,
    /// where no ceiling is.
    fn inner(&self, pen: &mut Pen, rows: usize, columns: usize) {
        let mut free = 0;
        let mut ends: Vec<(&Curve, usize, usize)> = (self.curves.iter())
            .filter_map(|c| {
                let until = c.until.filter(|&u| u < self.most)?;
                Some((c, self.column(until, columns)?, self.down((c.value)(until as f64)?, rows)?))
            })
            .collect();
        ends.sort_by_key(|e| e.2);
        for (curve, column, row) in ends {
            let row = (row + 1).max(free);
            let room = columns.saturating_sub(column + 2);
            if let Some(label) =
                curve.labels.iter().find(|l| pen.measure(l) <= room).filter(|_| row < rows)
            {
                pen.text(AXIS + column + 2, row, label, curve.role);
                free = row + 1;
            }
        }
    }

    /// Draws the labels beside the curves' right ends, one per row, higher values first. Labels
    /// that find no row are left out.
    fn labels(&self, pen: &mut Pen, rows: usize, x: usize, room: usize) {
        let end = self.most as f64;
        let mut wanted: Vec<(usize, f64, usize)> = (self.curves.iter().enumerate())
            .filter_map(|(i, c)| {
                let value = (c.value)(end).filter(|v| v.is_finite())?;
                Some((i, value, self.down(value.min(self.top), rows)?))
            })
            .collect();
        wanted.truncate(rows);
        wanted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut free = 0;
        let mut placed: Vec<usize> = Vec::with_capacity(wanted.len());
        for (k, (_, _, row)) in wanted.iter().enumerate() {
            let still = wanted.len() - k;
            let row = (*row).max(free).min(rows.saturating_sub(still));
            placed.push(row);
            free = row + 1;
        }
        for ((i, _, _), row) in wanted.iter().zip(placed) {
            let curve = &self.curves[*i];
            let fits = curve.labels.iter().find(|l| pen.measure(l) + 1 < room);
            if let Some(label) = fits.or(curve.labels.last()) {
                let label = pen.shorten(label, room.saturating_sub(2));
                pen.text(x + 1, row, &label, curve.role);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_is_linear_inside_and_none_outside() {
        let list = [0.0, 1.0, 3.0];
        let seen: Vec<Option<f64>> =
            [1.0, 1.5, 2.5, 3.0, 3.5, 0.5].map(|b| between(&list, b)).to_vec();
        assert_eq!(seen, [Some(0.0), Some(0.5), Some(2.0), Some(3.0), None, None]);
        assert_eq!(between(&[f64::NAN], 1.0), None);
    }

    #[test]
    fn rounded_tops_are_not_below_the_value() {
        let seen: Vec<f64> = [0.7, 1.2, 2.1, 33.0, 95.0, 100.0].map(round_up).to_vec();
        for (top, want) in seen.iter().zip([0.8, 1.5, 3.0, 40.0, 100.0, 100.0]) {
            assert!((top - want).abs() < 1e-9, "{seen:?}");
        }
        assert!([0.0, -1.0, f64::NAN, f64::INFINITY].into_iter().all(|v| round_up(v) == 1.0));
    }
}
