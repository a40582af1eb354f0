//! Weights of a model: tensors found by name and read by rows from their files.
//!
//! [`Weights`] hides the source: a GGUF file, a folder of safetensors, or memory. Tensor names are
//! those of GGUF in all cases. Names and shapes are checked once, when the weights are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::gguf::{self, Gguf, Metadata, TensorEntry};
use super::quant::TensorFormat;
use super::{safetensors, shards};
use crate::model::config::{JsonConfig, TensorShape};
use crate::model::error::LoadError;
use crate::model::head_form::HeadForm;
use crate::model::{Config, config};

const EMBEDDING: &str = "token_embd.weight";
const CURE_WHOLE: &str =
    "the model is incomplete or of another architecture: fetch it again, or take another";

/// Name, format and shape of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name as in GGUF (`blk.0.attn_q.weight`), whatever the source.
    pub name: String,
    /// Number format of the values.
    pub kind: TensorFormat,
    /// Number of rows; 1 for a vector.
    ///
    /// Rows are the outputs of a linear layer, or the tokens of the embedding.
    pub rows: usize,
    /// Number of values in a row: the inputs of a linear layer.
    pub cols: usize,
}

impl TensorInfo {
    /// Size of a row in bytes.
    pub fn row_bytes(&self) -> usize {
        // `cols` is a whole number of blocks: checked when the tensor was added.
        self.cols / self.kind.block_len() * self.kind.block_bytes()
    }
}

/// Tensor for [`Weights::from_tensors`]: name, format, rows, columns, bytes.
pub type RawTensor = (String, TensorFormat, usize, usize, Vec<u8>);

/// Weights of a Llama, from a GGUF file, a folder of safetensors, or memory.
///
/// Tensors in files are not kept in memory: [`read_rows`](Self::read_rows) reads them from disk,
/// from any thread. Opening checks that every tensor that the shape requires exists and has the
/// right shape.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    config: Config,
    tensors: BTreeMap<String, (TensorInfo, TensorStorage)>,
    files: Vec<(PathBuf, File)>,
    rope_interleaved: bool,
    rope_factors: Option<Vec<f32>>,
    metadata: Option<Metadata>,
    attends: bool,
    /// True for a drafting head, which has the [`HEAD_INPUT_TENSORS`] tensors before its layers.
    of_head: bool,
}

/// Tensors of a drafting head that come before its layers.
const HEAD_INPUT_TENSORS: [&str; 5] =
    ["fuse_norm.weight", "fuse.weight", "token_norm.weight", "state_norm.weight", "input.weight"];

/// Source of the bytes of a GGUF file.
enum GgufSource<'a> {
    File(File),
    Bytes(&'a [u8]),
}

#[derive(Debug)]
enum TensorStorage {
    File { file: usize, offset: u64 },
    Memory(Vec<u8>),
}

impl Weights {
    /// Opens a GGUF file, or a folder with config.json and safetensors.
    ///
    /// In a folder, only the safetensors files that belong to the model are read; see the `shards`
    /// module.
    ///
    /// # Errors
    /// If files are missing or damaged, the architecture is not supported, or a tensor is missing:
    /// see [`LoadError`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let about = std::fs::metadata(path).map_err(|e| io_error(path, &e))?;
        if about.is_dir() { Self::open_folder(path) } else { Self::open_gguf(path, config::LLAMA) }
    }

    /// Opens the GGUF file of a drafting head of the given form.
    ///
    /// A head has the layers of a Llama (an adapter's without attention) and no embedding of its
    /// own. Its output matrix ([`head`](Self::output_matrix)) has rows for a part of the
    /// vocabulary.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_head(path: &Path, form: HeadForm) -> Result<Self, LoadError> {
        Self::open_gguf(path, form.architecture())
    }

    /// Reads a drafting head from the bytes of its GGUF file; errors call it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn head_from_bytes(bytes: &[u8], name: &str, form: HeadForm) -> Result<Self, LoadError> {
        let head = gguf::read_header(bytes, bytes.len() as u64, Path::new(name))?;
        Self::of_gguf(head, Path::new(name), form.architecture(), GgufSource::Bytes(bytes))
    }

    fn open_gguf(path: &Path, architecture: &str) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(|e| io_error(path, &e))?;
        let len = file.metadata().map_err(|e| io_error(path, &e))?.len();
        let head = gguf::read_header(&file, len, path)?;
        Self::of_gguf(head, path, architecture, GgufSource::File(file))
    }

    fn of_gguf(
        mut head: Gguf,
        path: &Path,
        architecture: &str,
        source: GgufSource,
    ) -> Result<Self, LoadError> {
        let of_llama = architecture == config::LLAMA;
        if !of_llama {
            // The layers expect a tied embedding; a head's output matrix takes its place.
            for output in head.tensors.iter_mut().filter(|e| e.name == "output.weight") {
                output.name = EMBEDDING.to_owned();
            }
        }
        config::reject_partial_model(&head.metadata)?;
        let embedding = head.tensors.iter().find(|e| e.name == EMBEDDING);
        let missing =
            || format!("has no tensor {}", if of_llama { EMBEDDING } else { "output.weight" });
        let vocab =
            embedding.ok_or_else(|| LoadError::file(path, missing(), None, CURE_WHOLE))?.rows;
        let (config, linear) = config::from_gguf(&head.metadata, architecture, vocab)?;
        let mut weights = Self {
            path: path.to_owned(),
            config,
            tensors: BTreeMap::new(),
            files: Vec::new(),
            // GGUF stores Llamas interleaved. Heads keep the order in which they were trained.
            rope_interleaved: of_llama,
            rope_factors: linear,
            metadata: Some(head.metadata),
            attends: architecture != HeadForm::Adapter.architecture(),
            of_head: !of_llama,
        };
        match source {
            GgufSource::File(file) => {
                head.tensors.into_iter().for_each(|entry| weights.enter(entry, 0));
                weights.files.push((path.to_owned(), file));
            }
            GgufSource::Bytes(bytes) => {
                for TensorEntry { name, kind, rows, cols, offset, bytes: len } in head.tensors {
                    // The reader of the header has checked that the range lies within `bytes`.
                    let own = bytes[offset as usize..(offset + len) as usize].to_vec();
                    weights.tensors.insert(
                        name.clone(),
                        (TensorInfo { name, kind, rows, cols }, TensorStorage::Memory(own)),
                    );
                }
            }
        }
        weights.check()?;
        if weights.tensor("rope_freqs.weight").is_some() {
            // As in llama.cpp, linear scaling applies on top of the list.
            let factor =
                weights.rope_factors.as_ref().and_then(|all| all.first().copied()).unwrap_or(1.0);
            let list = weights.read_vector("rope_freqs.weight")?;
            weights.rope_factors = Some(list.iter().map(|divisor| divisor * factor).collect());
        }
        match weights.rope_factors.iter().flatten().find(|f| !(f.is_finite() && **f > 0.0)) {
            Some(f) => Err(LoadError::file(
                path,
                format!("divides a rotary frequency by {f}"),
                None,
                CURE_WHOLE,
            )),
            None => Ok(weights),
        }
    }

    fn open_folder(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join("config.json");
        let text = match std::fs::read_to_string(&path) {
            // The folder's other files explain better what it is than the missing config.json.
            Err(e)
                if e.kind() == std::io::ErrorKind::NotFound
                    && folder.join("adapter_config.json").exists() =>
            {
                shards::find(folder)?;
                return Err(io_error(&path, &e));
            }
            text => text.map_err(|e| io_error(&path, &e))?,
        };
        let JsonConfig { config, tied, rope_factors } = config::from_json(&text, &path)?;
        let shards = shards::find(folder)?;
        let mut weights = Self {
            path: folder.to_owned(),
            config,
            tensors: BTreeMap::new(),
            files: Vec::new(),
            rope_interleaved: false,
            rope_factors,
            metadata: None,
            attends: true,
            of_head: false,
        };
        for path in shards.files() {
            let file = File::open(&path).map_err(|e| io_error(&path, &e))?;
            for entry in safetensors::read(&file, &path)? {
                // The index decides which file a duplicated tensor is read from.
                if !shards.holds(&path, &entry.name) {
                    continue;
                }
                // The reader of the header has rejected all other names.
                let Some(name) = safetensors::gguf_name(&entry.name) else { continue };
                // Some files carry a redundant copy of the tied embedding.
                if tied && name == "output.weight" {
                    continue;
                }
                if let Some((_, TensorStorage::File { file, .. })) = weights.tensors.get(&name) {
                    let other = weights
                        .files
                        .get(*file)
                        .map_or(path.as_path(), |(other, _)| other)
                        .display()
                        .to_string();
                    let what = format!("tensor {} is in {other} too", entry.name);
                    return Err(LoadError::file(
                        &path,
                        what,
                        None,
                        "remove the file that is not the model's",
                    ));
                }
                weights.enter(TensorEntry { name, ..entry }, weights.files.len());
            }
            weights.files.push((path, file));
        }
        if !tied && weights.tensor("output.weight").is_none() {
            let what =
                "has no tensor lm_head.weight, and config.json doesn't say tie_word_embeddings";
            return Err(LoadError::file(folder, what, None, CURE_WHOLE));
        }
        weights.check()?;
        Ok(weights)
    }

    /// Creates a model from tensors in memory.
    ///
    /// For `rope_interleaved` see the method [`rope_interleaved`](Self::rope_interleaved).
    ///
    /// # Errors
    /// If the shape is not valid for a Llama, a tensor is missing or has the wrong shape, or its
    /// bytes do not match its shape.
    pub fn from_tensors(
        config: Config,
        tensors: Vec<RawTensor>,
        rope_interleaved: bool,
    ) -> Result<Self, LoadError> {
        let path = PathBuf::from("(memory)");
        config::check(&config, &path)?;
        let mut entered = BTreeMap::new();
        for (name, kind, rows, cols, bytes) in tensors {
            if kind.row_bytes(cols).and_then(|b| b.checked_mul(rows)) != Some(bytes.len()) {
                let what = format!(
                    "tensor {name}: {} bytes for {rows} rows of {cols} values in {}",
                    bytes.len(),
                    kind.name()
                );
                return Err(LoadError::file(&path, what, None, "give all bytes of whole blocks"));
            }
            entered.insert(
                name.clone(),
                (TensorInfo { name, kind, rows, cols }, TensorStorage::Memory(bytes)),
            );
        }
        let (files, rope_factors, metadata) = (Vec::new(), None, None);
        let weights = Self {
            path,
            config,
            tensors: entered,
            files,
            rope_interleaved,
            rope_factors,
            metadata,
            attends: true,
            of_head: false,
        };
        weights.check()?;
        Ok(weights)
    }

    /// Creates a model in memory with random weights, for tests and benchmarks.
    ///
    /// The same seed gives the same bytes. Matrices are stored as `kind`, or as F32 where a row is
    /// not a whole number of blocks; norms are stored as F32 near 1. Values are scaled so that
    /// activations stay in a reasonable range, and the distributions over the vocabulary are
    /// neither uniform nor certain. If `tied`, the output head is the embedding.
    ///
    /// # Errors
    /// If the shape is not valid for a Llama.
    pub fn random(
        config: Config,
        kind: TensorFormat,
        tied: bool,
        seed: u64,
    ) -> Result<Self, LoadError> {
        config::check(&config, Path::new("(memory)"))?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Vec::new();
        let head = (!tied).then(|| TensorShape {
            name: "output.weight".to_string(),
            rows: config.vocab,
            cols: config.dim,
        });
        for TensorShape { name, rows, cols } in config::required_tensors(&config).chain(head) {
            let norm = name.ends_with("norm.weight");
            let vocabulary = name == "token_embd.weight" || name == "output.weight";
            let (mean, sd) = if norm {
                (1.0, 0.1)
            } else {
                (0.0, if vocabulary { 2.5 } else { 1.0 } / (cols as f32).sqrt())
            };
            let values: Vec<f32> =
                (0..rows * cols).map(|_| mean + sd * sample_normal(&mut rng)).collect();
            let kind =
                if norm || kind.row_bytes(cols).is_none() { TensorFormat::F32 } else { kind };
            let tensor = Tensor::from_vec(values, (rows, cols), &Device::Cpu)?;
            let bytes = QTensor::quantize(&tensor, ggml_type(kind))?.data()?.into_owned();
            tensors.push((name, kind, rows, cols, bytes));
        }
        Self::from_tensors(config, tensors, false)
    }

    fn enter(&mut self, e: TensorEntry, file: usize) {
        let info = TensorInfo { name: e.name.clone(), kind: e.kind, rows: e.rows, cols: e.cols };
        self.tensors.insert(e.name, (info, TensorStorage::File { file, offset: e.offset }));
    }

    /// Rejects missing tensors, wrong shapes, and tensors that the forward pass does not use.
    fn check(&self) -> Result<(), LoadError> {
        let error = |what: String| Err(LoadError::file(&self.path, what, None, CURE_WHOLE));
        let c = &self.config;
        let optional = |name: &str, rows, cols| {
            self.tensor(name).map(|t| TensorShape { name: t.name.clone(), rows, cols })
        };
        let head = optional("output.weight", c.vocab, c.dim);
        let factors = optional("rope_freqs.weight", 1, c.head_dim / 2);
        let attends = |name: &str| self.attends || !name.contains(".attn_");
        let mut known = BTreeSet::new();
        for TensorShape { name, rows, cols } in config::required_tensors(c)
            .filter(|tensor| attends(&tensor.name))
            .chain(head)
            .chain(factors)
        {
            known.insert(name.clone());
            let Some(t) = self.tensor(&name) else { return error(format!("has no tensor {name}")) };
            if (t.rows, t.cols) != (rows, cols) {
                return error(format!(
                    "tensor {name} is {} x {}, where {rows} x {cols} was expected",
                    t.rows, t.cols
                ));
            }
        }
        // Ignoring an extra tensor (norms of queries and keys, sub-norms, scales, biases) would
        // silently change the logits.
        let own = |name: &str| {
            known.contains(name)
                || ["output.weight", "rope_freqs.weight"].contains(&name)
                || (self.of_head && HEAD_INPUT_TENSORS.contains(&name))
        };
        match self.tensors.keys().find(|name| !own(name)) {
            Some(name) => {
                error(format!("has a tensor {name}, which a Llama's forward does not compute"))
            }
            None => Ok(()),
        }
    }

    /// Returns the shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Path of the file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GGUF metadata; `None` for safetensors and models in memory.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Iterates over all tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(info, _)| info)
    }

    /// Returns the tensor with this GGUF name. A norm has one row.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// Returns true if the layers have attention; an adapter's layers have none.
    pub fn has_attention(&self) -> bool {
        self.attends
    }

    /// Name of the output matrix: `output.weight`, or the embedding if they are tied.
    pub fn output_matrix(&self) -> &'static str {
        if self.tensors.contains_key("output.weight") {
            "output.weight"
        } else {
            "token_embd.weight"
        }
    }

    /// Size of all tensors in bytes, as stored.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|t| (t.rows * t.row_bytes()) as u64).sum()
    }

    /// Returns the order of query and key rows within an attention head.
    ///
    /// True: the two values that are rotated together are neighbors, (2i, 2i + 1), as GGUF stores
    /// Llamas. False: they are (i, i + head_dim / 2), as in safetensors.
    pub fn rope_interleaved(&self) -> bool {
        self.rope_interleaved
    }

    /// Divisors of the `head_dim / 2` rotary frequencies, if the file gives them.
    ///
    /// GGUF stores Llama 3's scaling in this form. Linear scaling is converted to it.
    pub fn rope_factors(&self) -> Option<&[f32]> {
        self.rope_factors.as_deref()
    }

    /// Replaces the contents of `out` with the bytes of rows `rows` of a tensor.
    ///
    /// # Errors
    /// If the tensor or a row does not exist, reading fails, or a value is NaN or infinite.
    pub fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        let found = self
            .tensors
            .get(name)
            .filter(|(info, _)| rows.start <= rows.end && rows.end <= info.rows);
        let Some((info, place)) = found else {
            let what = format!("has no rows {} to {} of a tensor {name}", rows.start, rows.end);
            return Err(LoadError::file(&self.path, what, None, CURE_WHOLE));
        };
        let (skip, len) = (rows.start * info.row_bytes(), rows.len() * info.row_bytes());
        match place {
            TensorStorage::Memory(bytes) => {
                out.clear();
                out.extend_from_slice(&bytes[skip..skip + len]);
            }
            TensorStorage::File { file, offset } => {
                let (path, file) = &self.files[*file];
                let at = offset + skip as u64;
                out.resize(len, 0);
                read_at(file, path, out, at).map_err(|e| {
                    LoadError::file(
                        path,
                        format!("reading {name} failed: {e}"),
                        Some(at),
                        "check the disk",
                    )
                })?;
            }
        }
        // Checked here because every read passes through: a non-finite weight would corrupt the
        // logits on every backend.
        if let Some(at) = info.kind.first_not_finite(out) {
            return Err(self.non_finite_error(name, rows.start + at / info.cols, at % info.cols));
        }
        Ok(())
    }

    /// Returns the values of rows `rows` of a tensor, row by row.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub fn read_values(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, LoadError> {
        let mut bytes = Vec::new();
        self.read_rows(name, rows.clone(), &mut bytes)?;
        let mut values = Vec::new();
        if let Some(info) = self.tensor(name) {
            values.resize(rows.len() * info.cols, 0.0);
            info.kind.dequantize(&bytes, &mut values);
        }
        Ok(values)
    }

    /// Returns the values of a vector, such as a norm.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows).
    pub fn read_vector(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        self.read_values(name, 0..1)
    }

    /// Error about a weight that is NaN or infinite.
    fn non_finite_error(&self, name: &str, row: usize, column: usize) -> LoadError {
        let what = format!(
            "tensor {name} has a value that is not finite, NaN or infinite, in row {row} from column {column} on"
        );
        LoadError::file(
            &self.path,
            what,
            None,
            "the file is damaged: fetch it again, or convert the model again",
        )
    }
}

/// Samples an approximately normal number with mean 0 and variance 1.
///
/// It is the scaled sum of four uniform numbers: the operations are exact, so that every machine
/// produces the same values.
fn sample_normal(rng: &mut ChaCha8Rng) -> f32 {
    let sum: u64 = (0..4).map(|_| u64::from(rng.next_u32() >> 10)).sum();
    (sum as f32 / (1 << 22) as f32 - 2.0) * 3f32.sqrt()
}

pub(in crate::model) fn ggml_type(kind: TensorFormat) -> GgmlDType {
    match kind {
        TensorFormat::F32 => GgmlDType::F32,
        TensorFormat::F16 => GgmlDType::F16,
        TensorFormat::BF16 => GgmlDType::BF16,
        TensorFormat::Q4_0 => GgmlDType::Q4_0,
        TensorFormat::Q4_1 => GgmlDType::Q4_1,
        TensorFormat::Q5_0 => GgmlDType::Q5_0,
        TensorFormat::Q5_1 => GgmlDType::Q5_1,
        TensorFormat::Q8_0 => GgmlDType::Q8_0,
        TensorFormat::Q4K => GgmlDType::Q4K,
        TensorFormat::Q5K => GgmlDType::Q5K,
        TensorFormat::Q6K => GgmlDType::Q6K,
    }
}

fn io_error(path: &Path, e: &std::io::Error) -> LoadError {
    let cure = match e.kind() {
        std::io::ErrorKind::NotFound => {
            "give the path of a GGUF file or of a folder with config.json, or a model's name"
        }
        std::io::ErrorKind::PermissionDenied => "allow reading it",
        _ => "check the disk",
    };
    LoadError::file(path, format!("can't be opened: {e}"), None, cure)
}

#[cfg(unix)]
fn read_at(file: &File, _path: &Path, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

/// Opens the file again for each read.
///
/// Without positional reads, readers in several threads would share the position of one handle.
#[cfg(not(unix))]
fn read_at(_file: &File, path: &Path, out: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(out)
}
