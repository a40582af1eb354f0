//! Packed weights of a Llama model, and their loading.
//!
//! [`Llama::load`] reads and packs all matrices. The submodules run passes (`forward`), multiply
//! matrices (`products`), split the work among threads (`split`), and run the input stage of a
//! drafting head (`input`).

mod forward;
mod input;
mod products;
mod split;

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use self::forward::Batch;
use super::input_stage::InputStage;
use super::kernel::Kernel;
use super::memory::Shared;
use super::pool::ThreadPool;
use super::tile::{PackedMatrix, Packing, ROWS, pack_tile, unpack_row};
use crate::model::error::LoadError;
use crate::model::format::quant::TensorFormat;
use crate::model::format::weights::Weights;
use crate::model::{Config, rope};
use crate::tree::TokenId;

/// Weights of one layer.
#[derive(Debug)]
struct Layer {
    /// `None` for an adapter, which has no attention.
    attention: Option<AttentionWeights>,
    ffn_norm: Vec<f32>,
    gate: PackedMatrix,
    up: PackedMatrix,
    down: PackedMatrix,
}

/// Weights of a layer's attention.
#[derive(Debug)]
struct AttentionWeights {
    norm: Vec<f32>,
    /// Query, key and value projections.
    qkv: [PackedMatrix; 3],
    output: PackedMatrix,
}

/// Storage of the token embedding.
#[derive(Debug)]
enum Embedding {
    /// Shared with the output head.
    Tied,
    /// Own rows in the format of the file, `row` bytes each.
    Own { kind: TensorFormat, row: usize, bytes: Vec<u8> },
}

/// Input of a drafting head.
#[derive(Debug)]
pub(super) struct HeadInput {
    /// Model whose embedding is used.
    target: Arc<Llama>,
    stage: InputStage,
}

impl HeadInput {
    /// Number of fused hidden states; 1 for an adapter.
    pub fn fused(&self) -> usize {
        self.stage.fused()
    }

    /// Vocabulary size, which is that of the target.
    pub fn vocab(&self) -> usize {
        self.target.config.vocab
    }
}

/// Weights packed for the CPU, shared by all contexts of the model.
#[derive(Debug)]
pub struct Llama {
    config: Config,
    kernel: &'static Kernel,
    pool: Arc<ThreadPool>,
    packed: Shared<u8>,
    /// Power-of-two factors of the tiles that have one.
    scales: Shared<f32>,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    lm_head: PackedMatrix,
    embedding: Embedding,
    /// Rotary frequency of each pair, in radians per position.
    frequencies: Vec<f32>,
    /// Set if the two values of a rotated pair are adjacent.
    rope_interleaved: bool,
    /// Formats that were requantized to 8 bits, since they have no packing of their own.
    rounded: Vec<TensorFormat>,
    /// Input stage of a drafting head, in place of an embedding.
    head_input: Option<HeadInput>,
    /// Overrides the measured distance between threads in tests.
    #[cfg(test)]
    pub(super) far: Option<bool>,
}

/// Matrix to pack, and its destination.
struct MatrixPlan<'a> {
    name: String,
    kind: TensorFormat,
    mat: PackedMatrix,
    weights: &'a Weights,
}

impl Llama {
    /// Reads and packs the weights on `threads` threads, for the fastest kernel of this CPU.
    ///
    /// # Errors
    /// If reading fails.
    pub fn load(weights: &Weights, threads: usize) -> Result<Self, LoadError> {
        Self::with_kernel(weights, threads, Kernel::detect())
    }

    /// Loads a drafting head for `target`.
    ///
    /// Its layers follow an input stage (`InputStage`) and run on the target's threads and kernel.
    ///
    /// # Errors
    /// If reading fails, or the head does not fit the target.
    pub fn load_head(weights: &Weights, target: &Arc<Llama>) -> Result<Self, LoadError> {
        Self::build(weights, target.threads(), target.kernel, Some(target))
    }

    /// Reads and packs the weights for a given kernel.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn with_kernel(
        weights: &Weights,
        threads: usize,
        kernel: &'static Kernel,
    ) -> Result<Self, LoadError> {
        Self::build(weights, threads, kernel, None)
    }

    fn build(
        weights: &Weights,
        threads: usize,
        kernel: &'static Kernel,
        target: Option<&Arc<Llama>>,
    ) -> Result<Self, LoadError> {
        let config = weights.config().clone();
        let mut plans: Vec<MatrixPlan> = Vec::new();
        let mut size = 0;
        let (mut rounded, mut scaled) = (Vec::new(), 0);
        let mut plan = |name: String| -> PackedMatrix {
            // The tensor exists: this was checked when the weights were opened.
            let (kind, rows, cols) = weights
                .tensor(&name)
                .map_or((TensorFormat::F32, 0, 0), |t| (t.kind, t.rows, t.cols));
            let (packing, exact) = Packing::of(kind);
            if !exact && !rounded.contains(&kind) {
                rounded.push(kind);
            }
            let mat = PackedMatrix {
                packing,
                rows,
                cols,
                offset: size,
                scales: (!exact).then_some(scaled),
            };
            size += mat.bytes().next_multiple_of(64);
            scaled += if exact { 0 } else { mat.tiles() };
            plans.push(MatrixPlan { name, kind, mat, weights });
            mat
        };
        let mut layers = Vec::with_capacity(config.layers);
        for l in 0..config.layers {
            let mut mat = |name: &str| plan(format!("blk.{l}.{name}.weight"));
            let attention = if weights.has_attention() {
                let norm = weights.read_vector(&format!("blk.{l}.attn_norm.weight"))?;
                Some(AttentionWeights {
                    norm,
                    qkv: [mat("attn_q"), mat("attn_k"), mat("attn_v")],
                    output: mat("attn_output"),
                })
            } else {
                None
            };
            layers.push(Layer {
                attention,
                ffn_norm: weights.read_vector(&format!("blk.{l}.ffn_norm.weight"))?,
                gate: mat("ffn_gate"),
                up: mat("ffn_up"),
                down: mat("ffn_down"),
            });
        }
        let lm_head = plan(weights.output_matrix().to_owned());
        let head_input = target
            .map(|target| {
                let dim = target.config.dim;
                let stage = InputStage::load(weights, dim, |name| plan(name.to_owned()))?;
                Ok::<_, LoadError>(HeadInput { target: Arc::clone(target), stage })
            })
            .transpose()?;
        let packed = Shared::try_streamed(size).ok_or_else(|| {
            let what =
                format!("its packed weights need {size} bytes of memory, which can't be had");
            LoadError::file(
                weights.path(),
                what,
                None,
                "take a smaller model, or close other programs",
            )
        })?;
        let scales = Shared::new(scaled);
        pack(&plans, &packed, &scales, threads)?;
        let embedding =
            match weights.tensor("token_embd.weight").filter(|t| t.name != weights.output_matrix())
            {
                None => Embedding::Tied,
                Some(t) => {
                    let mut bytes = Vec::new();
                    weights.read_rows(&t.name, 0..t.rows, &mut bytes)?;
                    Embedding::Own { kind: t.kind, row: t.row_bytes(), bytes }
                }
            };
        Ok(Self {
            kernel,
            pool: ThreadPool::shared(threads),
            packed,
            scales,
            layers,
            output_norm: weights.read_vector("output_norm.weight")?,
            lm_head,
            embedding,
            frequencies: rope::frequencies(&config, weights.rope_factors()),
            rope_interleaved: weights.rope_interleaved(),
            rounded,
            head_input,
            #[cfg(test)]
            far: None,
            config,
        })
    }

    /// Returns `true` if the threads' cores share no cache.
    fn far(&self) -> bool {
        #[cfg(test)]
        if let Some(far) = self.far {
            return far;
        }
        self.pool.cores_are_far()
    }

    /// Dimensions of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Kernel that runs the products.
    pub(super) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// Display name of the kernel.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name
    }

    /// Number of target hidden states that a drafting head fuses; 0 for other models.
    pub fn fused(&self) -> usize {
        self.head_input.as_ref().map_or(0, HeadInput::fused)
    }

    /// Input stage of a drafting head.
    pub(super) fn head_input(&self) -> Option<&HeadInput> {
        self.head_input.as_ref()
    }

    /// Number of threads of a forward pass.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Formats in the file that were requantized to 8 bits, since they have no packing.
    ///
    /// Each group of 32 values has one scale.
    pub fn requantized_kinds(&self) -> &[TensorFormat] {
        &self.rounded
    }

    /// Size of the packed weights in bytes, all of which a pass reads.
    pub fn weight_bytes(&self) -> usize {
        self.packed.len()
    }

    /// Returns the power of two that the values of a tile are multiplied by.
    #[allow(unsafe_code)]
    fn scale(&self, mat: &PackedMatrix, tile: usize) -> f32 {
        // SAFETY: like packed weights, the scales are never written after loading.
        mat.scales.map_or(1.0, |at| unsafe { self.scales.read(at + tile..at + tile + 1) }[0])
    }

    /// Writes the embedding of a token to `out`.
    #[allow(unsafe_code)]
    fn embed(&self, token: TokenId, out: &mut [f32]) {
        let row = token as usize;
        match &self.embedding {
            Embedding::Own { kind, row: bytes, bytes: all } => {
                kind.dequantize(&all[row * bytes..][..*bytes], out)
            }
            Embedding::Tied => {
                let size = self.lm_head.tile_bytes();
                let at = self.lm_head.offset + row / ROWS * size;
                // SAFETY: packed weights are never written after loading.
                unpack_row(
                    self.lm_head.packing,
                    unsafe { self.packed.read(at..at + size) },
                    row % ROWS,
                    out,
                );
                let scale = self.scale(&self.lm_head, row / ROWS);
                if scale != 1.0 {
                    out.iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
    }

    /// Appends rows for positions `known..positions` to `angles`, each with cosines, then sines.
    pub(super) fn angles(&self, known: usize, positions: usize, angles: &mut Vec<f32>) {
        for p in known..positions {
            let angle = |f: &f32| f64::from(*f) * p as f64;
            angles.extend(self.frequencies.iter().map(|f| angle(f).cos() as f32));
            angles.extend(self.frequencies.iter().map(|f| angle(f).sin() as f32));
        }
    }
}

/// Reads and packs all matrices; threads take runs of tiles dynamically.
#[allow(unsafe_code)]
fn pack(
    plans: &[MatrixPlan],
    packed: &Shared<u8>,
    scales: &Shared<f32>,
    threads: usize,
) -> Result<(), LoadError> {
    /// Number of tiles read at once.
    const RUN: usize = 16;
    let runs: Vec<(&MatrixPlan, Range<usize>)> = (plans.iter())
        .flat_map(|plan| {
            let tiles = plan.mat.tiles();
            (0..tiles).step_by(RUN).map(move |from| (plan, from..(from + RUN).min(tiles)))
        })
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || -> Result<(), LoadError> {
        let mut bytes = Vec::new();
        while let Some((plan, tiles)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mat = plan.mat;
            plan.weights.read_rows(
                &plan.name,
                tiles.start * ROWS..(tiles.end * ROWS).min(mat.rows),
                &mut bytes,
            )?;
            let Some(row) = plan.kind.row_bytes(mat.cols) else { continue };
            let rows: Vec<&[u8]> = bytes.chunks_exact(row).collect();
            for (i, rows) in rows.chunks(ROWS).enumerate() {
                let at = mat.offset + (tiles.start + i) * mat.tile_bytes();
                // SAFETY: each tile is packed by the one thread that took its run.
                let tile = unsafe { packed.write(at..at + mat.tile_bytes()) };
                let scale = pack_tile(plan.kind, mat.cols, rows, tile);
                if let Some(first) = mat.scales {
                    // SAFETY: as above.
                    let own = unsafe {
                        scales.write(first + tiles.start + i..first + tiles.start + i + 1)
                    };
                    own[0] = scale;
                }
            }
        }
        Ok(())
    };
    let work = || {
        if let Err(error) = work() {
            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If the system grants no more threads, fewer do the work.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}
