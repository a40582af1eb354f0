//! Hidden states that a decoder keeps beside its cache, for drafters that read them.

use std::ops::Range;

use super::memory::Shared;

/// Rows of the residual stream behind some layers, a row for each slot of the cache.
#[derive(Debug)]
pub(super) struct Hidden {
    /// Behind so many layers each; rising.
    after: Vec<usize>,
    dim: usize,
    /// The first slot of which anything is known: what was run before has no rows.
    from: usize,
    rows: Shared<f32>,
}

impl Hidden {
    /// Nothing kept yet, to be kept behind each of `after` layers, `dim` numbers each, from slot `from` on.
    pub fn new(after: &[usize], dim: usize, from: usize) -> Self {
        Self { after: after.to_vec(), dim, from, rows: Shared::new(0) }
    }

    /// Slots from `len` on will be run anew.
    pub fn truncate(&mut self, len: usize) {
        self.from = self.from.min(len);
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.after.len() * self.dim
    }

    /// Makes room for `slots` slots, of which the first `used` hold something.
    pub fn reserve(&mut self, used: usize, slots: usize) {
        let width = self.width();
        if slots * width > self.rows.len() {
            let mut rows = Shared::new(slots.next_power_of_two() * width);
            let kept = (used * width).min(self.rows.len());
            rows.all_mut()[..kept].copy_from_slice(&self.rows.all_mut()[..kept]);
            self.rows = rows;
        }
    }

    /// Keeps rows `tokens` of `x` (rows of `stride`), as they are behind `layers` layers, for the slots from `slot` on.
    ///
    /// # Safety
    /// No other thread touches these slots' rows or writes these of x meanwhile.
    #[allow(unsafe_code)]
    pub unsafe fn put(&self, layers: usize, slot: usize, tokens: Range<usize>, x: &Shared<f32>, stride: usize) {
        let Some(part) = self.after.iter().position(|&after| after == layers) else { return };
        for t in tokens {
            let at = (slot + t) * self.width() + part * self.dim;
            // SAFETY: the caller's promise.
            unsafe { self.rows.write(at..at + self.dim).copy_from_slice(x.read(t * stride..t * stride + self.dim)) };
        }
    }

    /// The rows of `slots`, one after the other.
    #[allow(unsafe_code)]
    pub fn rows(&self, slots: Range<usize>) -> Option<&[f32]> {
        let range = slots.start * self.width()..slots.end * self.width();
        // SAFETY: rows are written by passes alone, and none runs while the decoder is borrowed.
        (self.from <= slots.start && range.end <= self.rows.len()).then(|| unsafe { self.rows.read(range) })
    }

    /// Moves the rows of slots as the cache does (`Cache::gather`).
    pub fn gather(&mut self, to: usize, from: impl Iterator<Item = usize>) {
        let width = self.width();
        for (to, from) in (to..).zip(from).filter(|(to, from)| to != from) {
            self.rows.all_mut().copy_within(from * width..(from + 1) * width, to * width);
        }
    }

    /// The first `used` rows of another.
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
