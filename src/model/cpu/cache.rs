//! Key-value cache in half precision, in the layout that attention reads.

use std::ops::Range;

use super::lanes::LANES;
use super::memory::Shared;
use super::rounding::Rounding;
use crate::model::Config;

/// Key-value cache of one context.
///
/// It has `capacity` slots; those below the committed length hold positions in order.
///
/// There is one plane for each layer and key-value head. Keys are laid out as [tile of 16
/// slots][dimension][16 slots], so that one load brings a dimension of 16 keys. Values are laid out
/// as [16 dimensions][slot][16 dimensions], so that one load brings 16 dimensions of a value, and
/// consecutive slots are adjacent.
#[derive(Debug)]
pub struct Cache {
    keys: Shared<u16>,
    values: Shared<u16>,
    planes: usize,
    kv_heads: usize,
    head_dim: usize,
    slots: usize,
}

#[allow(unsafe_code)]
impl Cache {
    /// Allocates an empty cache of at least `capacity` slots.
    ///
    /// # Errors
    /// Returns the number of bytes needed if the system cannot provide that memory.
    pub fn new(config: &Config, capacity: usize) -> Result<Self, usize> {
        let (planes, slots) = (config.layers * config.kv_heads, capacity.next_multiple_of(LANES));
        let padded = config.head_dim.next_multiple_of(LANES);
        let bytes = planes.saturating_mul(slots).saturating_mul(2 * (config.head_dim + padded));
        let room = |size: usize| {
            planes.checked_mul(slots).and_then(|n| n.checked_mul(size)).and_then(Shared::try_new)
        };
        Ok(Self {
            keys: room(config.head_dim).ok_or(bytes)?,
            values: room(padded).ok_or(bytes)?,
            planes,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            slots,
        })
    }

    fn key_plane(&self, plane: usize) -> usize {
        plane * self.slots * self.head_dim
    }

    fn value_plane(&self, plane: usize) -> usize {
        plane * self.slots * self.head_dim.next_multiple_of(LANES)
    }

    /// Returns the keys of `tiles`, 16 slots each from slot `16 * tile` on: [tile][dimension][16].
    ///
    /// # Safety
    /// No thread writes keys of these slots while they are read.
    pub unsafe fn key_tiles(&self, layer: usize, head: usize, tiles: Range<usize>) -> &[u16] {
        let (plane, size) = (self.key_plane(layer * self.kv_heads + head), LANES * self.head_dim);
        // SAFETY: guaranteed by the caller.
        unsafe { self.keys.read(plane + tiles.start * size..plane + tiles.end * size) }
    }

    /// Returns the values of `slots`: a pointer to the first 16 dimensions, and a stride.
    ///
    /// The layout behind the pointer is [slot][16]; the stride is the distance to the next 16
    /// dimensions, in elements.
    ///
    /// # Safety
    /// No thread writes values of these slots while they are read.
    pub unsafe fn value_runs(
        &self,
        layer: usize,
        head: usize,
        slots: Range<usize>,
    ) -> (*const u16, usize) {
        let (at, stride) = (
            self.value_plane(layer * self.kv_heads + head) + slots.start * LANES,
            self.slots * LANES,
        );
        let last = at + (self.head_dim.div_ceil(LANES) - 1) * stride;
        // SAFETY: guaranteed by the caller.
        (unsafe { self.values.read(at..last + slots.len() * LANES) }.as_ptr(), stride)
    }

    /// Stores a key, rounded to half precision.
    ///
    /// Inlined, so that it is compiled for the instruction set of its caller.
    ///
    /// # Safety
    /// No other thread accesses the keys of this head in the same tile of 16 slots meanwhile; the
    /// CPU supports the instructions of `R`.
    #[inline(always)]
    pub unsafe fn put_key<R: Rounding>(&self, [layer, head, slot]: [usize; 3], key: &[f32]) {
        let at =
            self.key_plane(layer * self.kv_heads + head) + slot / LANES * LANES * self.head_dim;
        // SAFETY: guaranteed by the caller.
        let tile = unsafe { self.keys.write(at..at + LANES * self.head_dim) };
        for (rows, key) in tile.chunks_mut(LANES * LANES).zip(key.chunks(LANES)) {
            // SAFETY: as above.
            let halves = unsafe { R::halves(&filled(key)) };
            for (row, half) in rows.chunks_exact_mut(LANES).zip(halves) {
                row[slot % LANES] = half;
            }
        }
    }

    /// Stores a value, rounded to half precision.
    ///
    /// Inlined, so that it is compiled for the instruction set of its caller.
    ///
    /// # Safety
    /// No other thread accesses the values of this slot and head meanwhile; the CPU supports the
    /// instructions of `R`.
    #[inline(always)]
    pub unsafe fn put_value<R: Rounding>(&self, [layer, head, slot]: [usize; 3], value: &[f32]) {
        let plane = self.value_plane(layer * self.kv_heads + head);
        for (part, value) in value.chunks(LANES).enumerate() {
            let at = plane + (part * self.slots + slot) * LANES;
            // SAFETY: guaranteed by the caller, for both accesses.
            unsafe {
                self.values
                    .write(at..at + value.len())
                    .copy_from_slice(&R::halves(&filled(value))[..value.len()])
            };
        }
    }

    /// Moves keys and values of slot `from[i]` to slot `to + i`, in order.
    ///
    /// No source may be overwritten before it is read, so `from` must be increasing with `from[i]
    /// >= to + i`.
    pub fn gather(&mut self, to: usize, from: impl Iterator<Item = usize> + Clone) {
        let (d, padded) = (self.head_dim, self.head_dim.next_multiple_of(LANES));
        for plane in 0..self.planes {
            let (keys, values) = (self.key_plane(plane), self.value_plane(plane));
            for (to, from) in (to..).zip(from.clone()).filter(|(to, from)| to != from) {
                let key = |slot: usize| keys + slot / LANES * LANES * d + slot % LANES;
                let all = self.keys.all_mut();
                for i in 0..d {
                    all[key(to) + i * LANES] = all[key(from) + i * LANES];
                }
                let all = self.values.all_mut();
                for part in 0..padded / LANES {
                    let at = |slot: usize| values + (part * self.slots + slot) * LANES;
                    all.copy_within(at(from)..at(from) + LANES, at(to));
                }
            }
        }
    }

    /// Copies the first `len` slots of another cache of the same model.
    pub fn copy_from(&mut self, other: &Cache, len: usize) {
        let tiles = len.div_ceil(LANES);
        let padded = self.head_dim.next_multiple_of(LANES);
        for plane in 0..self.planes {
            let n = tiles * LANES * self.head_dim;
            let (from, to) = (other.key_plane(plane), self.key_plane(plane));
            // SAFETY: `other` is borrowed from its owner and no forward pass of it runs, so no
            // thread writes it.
            self.keys.all_mut()[to..to + n]
                .copy_from_slice(unsafe { other.keys.read(from..from + n) });
            for part in 0..padded / LANES {
                let from = other.value_plane(plane) + part * other.slots * LANES;
                let to = self.value_plane(plane) + part * self.slots * LANES;
                // SAFETY: as above.
                self.values.all_mut()[to..to + len * LANES]
                    .copy_from_slice(unsafe { other.values.read(from..from + len * LANES) });
            }
        }
    }
}

/// Pads up to 16 numbers with zeros.
#[inline(always)]
fn filled(values: &[f32]) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    all[..values.len()].copy_from_slice(values);
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use half::f16;

    use super::super::rounding::Plain;
    use super::*;
    use crate::model::Config;

    fn config() -> Config {
        Config {
            dim: 32,
            ffn: 32,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 24,
            vocab: 8,
            context: 64,
            eps: 1e-5,
            rope_base: 1e4,
            rope_scaling: None,
        }
    }

    fn number(layer: usize, head: usize, slot: usize, d: usize, value: bool) -> f32 {
        (layer * 1000 + head * 500 + slot * 10 + d) as f32 / 4.0 * if value { -1.0 } else { 1.0 }
    }

    #[allow(unsafe_code)]
    fn fill(cache: &Cache, slots: usize) {
        for (layer, head, slot) in
            (0..2).flat_map(|l| (0..2).flat_map(move |h| (0..slots).map(move |s| (l, h, s))))
        {
            let row =
                |value| std::array::from_fn::<f32, 24, _>(|d| number(layer, head, slot, d, value));
            // SAFETY: only one thread runs.
            unsafe {
                cache.put_key::<Plain>([layer, head, slot], &row(false));
                cache.put_value::<Plain>([layer, head, slot], &row(true));
            }
        }
    }

    #[allow(unsafe_code)]
    fn holds(cache: &Cache, slot: usize, was: usize) {
        for (layer, head, d) in
            (0..2).flat_map(|l| (0..2).flat_map(move |h| (0..24).map(move |d| (l, h, d))))
        {
            // SAFETY: only one thread runs.
            let (key, value) = unsafe {
                let (values, stride) = cache.value_runs(layer, head, slot..slot + 1);
                let tile = slot / LANES;
                (
                    cache.key_tiles(layer, head, tile..tile + 1)[d * LANES + slot % LANES],
                    *values.add(d / LANES * stride + d % LANES),
                )
            };
            assert_eq!(f16::from_bits(key).to_f32(), number(layer, head, was, d, false));
            assert_eq!(f16::from_bits(value).to_f32(), number(layer, head, was, d, true));
        }
    }

    #[test]
    fn stored_slots_survive_gather_and_copy() {
        let mut cache = Cache::new(&config(), 40).unwrap();
        fill(&cache, 40);
        (0..40).for_each(|slot| holds(&cache, slot, slot));
        cache.gather(10, [10, 12, 17, 39].into_iter());
        (0..10).for_each(|slot| holds(&cache, slot, slot));
        [10, 12, 17, 39].into_iter().enumerate().for_each(|(i, was)| holds(&cache, 10 + i, was));
        let mut other = Cache::new(&config(), 100).unwrap();
        other.copy_from(&cache, 14);
        (0..10).for_each(|slot| holds(&other, slot, slot));
        [10, 12, 17, 39].into_iter().enumerate().for_each(|(i, was)| holds(&other, 10 + i, was));
    }
}
