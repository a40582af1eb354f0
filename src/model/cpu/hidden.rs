//! Hidden states that a decoder keeps beside its cache, for drafters that read them.

use std::ops::Range;

use super::memory::Shared;

/// Residual stream after some layers, one row for each slot of the cache.
#[derive(Debug)]
pub(super) struct Hidden {
    /// Layer counts after which the stream is kept, increasing.
    after: Vec<usize>,
    dim: usize,
    /// First slot with known rows; positions that ran before have none.
    from: usize,
    rows: Shared<f32>,
}

impl Hidden {
    /// Creates an empty store for slots from `from` on.
    ///
    /// It keeps `dim` numbers after each layer count in `after`.
    pub fn new(after: &[usize], dim: usize, from: usize) -> Self {
        Self { after: after.to_vec(), dim, from, rows: Shared::new(0) }
    }

    /// Drops the rows of slots from `len` on, which will be recomputed.
    pub fn truncate(&mut self, len: usize) {
        self.from = self.from.min(len);
    }

    /// Number of values in a row.
    pub fn width(&self) -> usize {
        self.after.len() * self.dim
    }

    /// Grows the buffer to `slots` slots and keeps the first `used` ones.
    pub fn reserve(&mut self, used: usize, slots: usize) {
        let width = self.width();
        if slots * width > self.rows.len() {
            let mut rows = Shared::new(slots.next_power_of_two() * width);
            let kept = (used * width).min(self.rows.len());
            rows.all_mut()[..kept].copy_from_slice(&self.rows.all_mut()[..kept]);
            self.rows = rows;
        }
    }

    /// Stores rows `tokens` of `x` (rows of `stride`) for the slots from `slot` on.
    ///
    /// Does nothing unless the stream after `layers` layers is to be kept.
    ///
    /// # Safety
    /// No other thread accesses these slots' rows or writes these rows of `x` meanwhile.
    #[allow(unsafe_code)]
    pub unsafe fn store_rows(
        &self,
        layers: usize,
        slot: usize,
        tokens: Range<usize>,
        x: &Shared<f32>,
        stride: usize,
    ) {
        let Some(part) = self.after.iter().position(|&after| after == layers) else { return };
        for t in tokens {
            let at = (slot + t) * self.width() + part * self.dim;
            // SAFETY: guaranteed by the caller.
            unsafe {
                self.rows
                    .write(at..at + self.dim)
                    .copy_from_slice(x.read(t * stride..t * stride + self.dim))
            };
        }
    }

    /// Returns the rows of `slots`, concatenated; `None` if they are not known.
    #[allow(unsafe_code)]
    pub fn rows(&self, slots: Range<usize>) -> Option<&[f32]> {
        let range = slots.start * self.width()..slots.end * self.width();
        // SAFETY: only passes write rows, and none runs while the decoder is borrowed.
        (self.from <= slots.start && range.end <= self.rows.len())
            .then(|| unsafe { self.rows.read(range) })
    }

    /// Moves rows of slots as `Cache::gather` does.
    pub fn gather(&mut self, to: usize, from: impl Iterator<Item = usize>) {
        let width = self.width();
        for (to, from) in (to..).zip(from).filter(|(to, from)| to != from) {
            self.rows.all_mut().copy_within(from * width..(from + 1) * width, to * width);
        }
    }

    /// Copies the first `used` rows of another store.
    pub fn copy_of(other: &Hidden, used: usize) -> Self {
        let mut copy = Self::new(&other.after, other.dim, other.from);
        copy.reserve(0, used);
        if let Some(rows) = other.rows(other.from..used) {
            let at = other.from * other.width();
            copy.rows.all_mut()[at..at + rows.len()].copy_from_slice(rows);
        }
        copy
    }
}
