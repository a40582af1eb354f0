//! KV cache of one context, on the device.

use candle_core::{DType, Device, Result, Tensor};

use crate::model::Config;

/// Initial number of rows.
///
/// The cache doubles when it is full, since few contexts grow as long as the model allows.
const FIRST_ROWS: usize = 256;

/// Keys and values of every layer, one row per position.
///
/// Committed positions come first, then the uncommitted nodes by slot.
#[derive(Debug)]
pub(super) struct Cache {
    /// Keys and values of each layer, both (kv_heads, rows, head_dim).
    layers: Vec<(Tensor, Tensor)>,
    rows: usize,
    capacity: usize,
}

impl Cache {
    /// Creates an empty cache that can grow to `capacity` positions.
    pub fn new(config: &Config, capacity: usize, device: &Device) -> Result<Self> {
        let rows = capacity.min(FIRST_ROWS);
        let empty = || Tensor::zeros((config.kv_heads, rows, config.head_dim), DType::F32, device);
        let layers = (0..config.layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(Self { layers, rows, capacity })
    }

    /// Number of positions that the cache can grow to.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Grows the cache to at least `needed` rows; `needed` must not exceed the capacity.
    pub fn reserve(&mut self, needed: usize) -> Result<()> {
        if needed <= self.rows {
            return Ok(());
        }
        let rows = needed.next_power_of_two().min(self.capacity);
        let grow = |old: &Tensor| -> Result<Tensor> {
            let (heads, old_rows, size) = old.dims3()?;
            Tensor::cat(
                &[old, &Tensor::zeros((heads, rows - old_rows, size), DType::F32, old.device())?],
                1,
            )?
            .contiguous()
        };
        let grown =
            self.layers.iter().map(|(k, v)| Ok((grow(k)?, grow(v)?))).collect::<Result<_>>()?;
        (self.layers, self.rows) = (grown, rows);
        Ok(())
    }

    /// Writes keys and values of one layer, (kv_heads, n, head_dim), from row `at` on.
    ///
    /// Returns all rows of the layer up to the end of those written.
    pub fn put(
        &self,
        layer: usize,
        at: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (k, v) = &self.layers[layer];
        k.slice_set(keys, 1, at)?;
        v.slice_set(values, 1, at)?;
        let end = at + keys.dim(1)?;
        Ok((k.narrow(1, 0, end)?, v.narrow(1, 0, end)?))
    }

    /// Moves rows `base + path[i]` to `base + i`. `path` must be ascending.
    pub fn gather(&mut self, base: usize, path: &[usize]) -> Result<()> {
        let stay = path.iter().enumerate().take_while(|&(i, &slot)| i == slot).count();
        let moved = &path[stay..];
        let Some((k, _)) = self.layers.first().filter(|_| !moved.is_empty()) else { return Ok(()) };
        let from: Vec<u32> = moved.iter().map(|slot| (base + slot) as u32).collect();
        let from = Tensor::new(from, k.device())?;
        for tensor in self.layers.iter().flat_map(|(k, v)| [k, v]) {
            tensor.slice_set(&tensor.index_select(&from, 1)?, 1, base + stay)?;
        }
        Ok(())
    }

    /// Copies the first `len` rows to a new cache.
    pub fn fork(&self, len: usize) -> Result<Self> {
        let rows = len.max(FIRST_ROWS).next_power_of_two().min(self.capacity);
        let copy = |old: &Tensor| -> Result<Tensor> {
            let (heads, _, size) = old.dims3()?;
            let new = Tensor::zeros((heads, rows, size), DType::F32, old.device())?;
            if len > 0 {
                new.slice_set(&old.narrow(1, 0, len)?.contiguous()?, 1, 0)?;
            }
            Ok(new)
        };
        let layers =
            self.layers.iter().map(|(k, v)| Ok((copy(k)?, copy(v)?))).collect::<Result<_>>()?;
        Ok(Self { layers, rows, capacity: self.capacity })
    }
}
