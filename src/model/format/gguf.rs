//! Reads GGUF files: metadata and the list of tensors.
//!
//! Files may be truncated, damaged or hostile. Every length is checked against the rest of the file
//! before anything is allocated for it, and every error says where the problem is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::quant::TensorFormat;
use crate::model::error::{LoadError, recognize_placeholder};

const CURE_CUT: &str = "the file is cut off or damaged: fetch it again";

/// Contents of a GGUF file except for the tensors' data.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Metadata keys and their values.
    pub metadata: Metadata,
    /// Tensors in the order of the file.
    pub tensors: Vec<TensorEntry>,
    /// Offset of the tensors' data in the file, in bytes.
    pub data: u64,
}

/// Name, format, shape and position of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorEntry {
    /// Name as written in the file.
    pub name: String,
    /// Number format of the values.
    pub kind: TensorFormat,
    /// Number of rows: the product of all dimensions except the innermost.
    pub rows: usize,
    /// Values per row: the innermost dimension, which the file lists first.
    pub cols: usize,
    /// Offset from the start of the file, in bytes.
    pub offset: u64,
    /// Size of the data in bytes.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    /// Array of numbers or flags.
    ///
    /// Holds the element type, and the elements as encoded in the file.
    Numbers(u32, Vec<u8>),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Unsigned(_) | Value::Signed(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a flag",
            Value::String(_) => "a string",
            Value::Strings(_) => "an array of strings",
            Value::Numbers(..) => "an array of numbers",
        }
    }
}

/// Metadata of a GGUF file, with typed access.
///
/// Each reader returns `None` for an absent key, and an error that names the key for a value of
/// another type.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Path of the file that the metadata come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates an error about this file.
    pub(crate) fn error(&self, what: impl Into<String>, cure: &str) -> LoadError {
        LoadError::file(&self.path, what, None, cure)
    }

    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| {
            let what =
                format!("metadata key {key} is {} where {wanted} was expected", value.type_name());
            self.error(what, "convert the model again")
        })
    }

    /// Returns true if the key exists, whatever its type.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Reads a whole number of at least 0 that fits into `usize`.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.read(key, "a whole number from 0 up", |v| match v {
            Value::Unsigned(n) => usize::try_from(*n).ok(),
            Value::Signed(n) => usize::try_from(*n).ok(),
            // Some converters write every number as a float.
            Value::Float(x) => (*x >= 0.0 && x.fract() == 0.0 && *x < 9e15).then_some(*x as usize),
            _ => None,
        })
    }

    /// Reads a whole number of either sign; values above `i64::MAX` become `i64::MAX`.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, LoadError> {
        self.read(key, "a whole number", |v| match v {
            Value::Unsigned(n) => Some(i64::try_from(*n).unwrap_or(i64::MAX)),
            Value::Signed(n) => Some(*n),
            _ => None,
        })
    }

    /// Reads a whole number of at least 0, also from an array of equal entries.
    ///
    /// # Errors
    /// If the value is something else, or the entries differ.
    pub fn equal_sizes(&self, key: &str) -> Result<Option<usize>, LoadError> {
        if !matches!(self.values.get(key), Some(Value::Numbers(..))) {
            return self.size(key);
        }
        let all = self.numbers(key)?.unwrap_or_default();
        let first = all.first().copied().unwrap_or(0.0);
        if !(first >= 0.0 && first.fract() == 0.0 && first < 9e15)
            || all.iter().any(|n| *n != first)
        {
            return Err(self.error(
                format!("metadata key {key} differs between layers"),
                "only layers of one shape can be run",
            ));
        }
        Ok(Some(first as usize))
    }

    /// Iterates over all keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Formats a value for messages; arrays are described by their type.
    pub fn display_value(&self, key: &str) -> String {
        match self.values.get(key) {
            Some(Value::Unsigned(n)) => n.to_string(),
            Some(Value::Signed(n)) => n.to_string(),
            Some(Value::Float(x)) => x.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::String(text)) => format!("{text:?}"),
            Some(other) => other.type_name().into(),
            None => "absent".into(),
        }
    }

    /// Reads a number of any type, as f32.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        self.read(key, "a number", |v| match v {
            Value::Unsigned(n) => Some(*n as f32),
            Value::Signed(n) => Some(*n as f32),
            Value::Float(x) => Some(*x as f32),
            _ => None,
        })
    }

    /// Reads a flag; the integers 0 and 1 count as flags.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        self.read(key, "a flag", |v| match v {
            Value::Bool(flag) => Some(*flag),
            Value::Unsigned(n @ 0..=1) => Some(*n == 1),
            Value::Signed(n @ 0..=1) => Some(*n == 1),
            _ => None,
        })
    }

    /// Reads a string value.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn string(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.values.get(key) {
            Some(Value::String(s)) => Ok(Some(s)),
            _ => self.read(key, "a string", |_| None),
        }
    }

    /// Reads an array of strings.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, LoadError> {
        match self.values.get(key) {
            Some(Value::Strings(s)) => Ok(Some(s)),
            // Some files store an empty array with another element type.
            Some(Value::Numbers(_, bytes)) if bytes.is_empty() => Ok(Some(&[])),
            _ => self.read(key, "an array of strings", |_| None),
        }
    }

    /// Reads an array of numbers as f64, which is exact for integers below 2^53.
    ///
    /// # Errors
    /// If the value is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, LoadError> {
        self.read(key, "an array of numbers", |v| match v {
            Value::Numbers(ty, bytes) => Some(
                bytes
                    .chunks_exact(scalar_bytes(*ty)? as usize)
                    .map(|b| scalar(*ty, b).as_f64())
                    .collect(),
            ),
            _ => None,
        })
    }
}

/// Size in bytes of a number or flag of metadata type `ty`.
///
/// `None` for strings, arrays and unknown types.
fn scalar_bytes(ty: u32) -> Option<u64> {
    match ty {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Decodes the number or flag in `b`, which has [`scalar_bytes`] bytes.
fn scalar(ty: u32, b: &[u8]) -> Value {
    let mut wide = [0u8; 8];
    wide[..b.len()].copy_from_slice(b);
    let bits = u64::from_le_bytes(wide);
    match ty {
        1 => Value::Signed(bits as i8 as i64),
        3 => Value::Signed(bits as i16 as i64),
        5 => Value::Signed(bits as i32 as i64),
        6 => Value::Float(f32::from_bits(bits as u32) as f64),
        7 => Value::Bool(bits != 0),
        11 => Value::Signed(bits as i64),
        12 => Value::Float(f64::from_bits(bits)),
        _ => Value::Unsigned(bits),
    }
}

impl Value {
    fn as_f64(&self) -> f64 {
        match self {
            Value::Unsigned(n) => *n as f64,
            Value::Signed(n) => *n as f64,
            Value::Float(x) => *x,
            Value::Bool(b) => *b as u8 as f64,
            _ => f64::NAN,
        }
    }
}

/// Maps tensor type `ty` to its format.
///
/// The error is the name of an unsupported format, or its number if it has no name.
fn tensor_kind(ty: u32) -> Result<TensorFormat, String> {
    Ok(match ty {
        0 => TensorFormat::F32,
        1 => TensorFormat::F16,
        2 => TensorFormat::Q4_0,
        3 => TensorFormat::Q4_1,
        8 => TensorFormat::Q8_0,
        12 => TensorFormat::Q4K,
        13 => TensorFormat::Q5K,
        14 => TensorFormat::Q6K,
        30 => TensorFormat::BF16,
        6 => TensorFormat::Q5_0,
        7 => TensorFormat::Q5_1,
        9 => return Err("Q8_1".into()),
        10 => return Err("Q2_K".into()),
        11 => return Err("Q3_K".into()),
        15 => return Err("Q8_K".into()),
        16..=23 | 29 => return Err(format!("{ty} (one of the IQ formats)")),
        _ => return Err(ty.to_string()),
    })
}

/// Reads the header of a GGUF file of `len` bytes from `input`.
///
/// Errors name the file as `path`.
///
/// # Errors
/// If it is not a GGUF file of version 2 or 3, is truncated or damaged, or has a tensor in a format
/// that is not in [`TensorFormat`]. The error names the file, the byte, what was found, and the fix.
pub fn read_header(input: impl Read, len: u64, path: &Path) -> Result<Gguf, LoadError> {
    let mut r =
        Reader { input: std::io::BufReader::with_capacity(1 << 16, input), at: 0, len, path };
    let magic = r.bytes(4, "the four bytes that begin a GGUF file")?;
    if magic != *b"GGUF" {
        let left = len.saturating_sub(4).min(200);
        let more = r.bytes(left, "the begin of the file").unwrap_or_default();
        let (what, cure) = describe_other_file(&[&magic[..], &more].concat());
        return Err(r.error_at(0, what, cure));
    }
    let version = r.u32("the version")?;
    if !(2..=3).contains(&version) {
        let what = match version.swap_bytes() {
            2 | 3 => "a big-endian GGUF file".to_string(),
            _ => format!("GGUF version {version}, where 2 or 3 was expected"),
        };
        return Err(r.error_at(4, what, "convert the model again"));
    }
    let tensors = r.u64("the count of tensors")?;
    let keys = r.u64("the count of metadata keys")?;

    let mut values = BTreeMap::new();
    for i in 0..keys {
        let at = r.at;
        let key = r.string(&format!("metadata key {} of {keys}", i + 1))?;
        let ty = r.u32(&key)?;
        let value = r.value(ty, &key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(r.error_at(at, format!("metadata key {key} comes twice"), CURE_CUT));
        }
    }
    let metadata = Metadata { path: path.to_owned(), values };

    let mut entries = Vec::new();
    for i in 0..tensors {
        entries.push(r.entry(&format!("tensor {} of {tensors}", i + 1))?);
    }
    let align = metadata.size("general.alignment")?.unwrap_or(32) as u64;
    if !align.is_power_of_two() {
        return Err(
            metadata.error(format!("general.alignment is {align}, not a power of two"), CURE_CUT)
        );
    }
    let data = r.at.checked_next_multiple_of(align).unwrap_or(u64::MAX);
    place(&mut entries, data, align, &r)?;
    Ok(Gguf { metadata, tensors: entries, data })
}

/// Describes a file that is not GGUF by its first bytes, with the fix.
fn describe_other_file(begin: &[u8]) -> (String, &'static str) {
    const OTHER: &str = "give a GGUF file, or a folder with config.json and safetensors";
    if let Some((what, cure)) = recognize_placeholder(begin) {
        (what.into(), cure)
    } else if begin.starts_with(b"PK\x03\x04") || begin.starts_with(b"\x80\x02") {
        (
            "is a PyTorch file (.bin, .pt or .pth) or another archive".into(),
            "take or convert to safetensors, or a GGUF file",
        )
    } else if ["lmgg", "fmgg", "tjgg", "algg"].iter().any(|old| begin.starts_with(old.as_bytes())) {
        ("is in a format before GGUF (GGML, GGMF or GGJT)".into(), "take a GGUF file of the model")
    } else if begin.len() > 9
        && begin[8] == b'{'
        && begin[9..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'"')
    {
        (
            "is a safetensors file by itself".into(),
            "give its folder, with config.json and tokenizer.json",
        )
    } else if begin.trim_ascii_start().starts_with(b"{") {
        ("is a file of JSON".into(), OTHER)
    } else if begin.starts_with(b"\x1f\x8b")
        || begin.starts_with(b"\xfd7zXZ")
        || begin.starts_with(b"(\xb5/\xfd")
    {
        ("is compressed".into(), "unpack it first")
    } else {
        (format!("begins with {:02x?}, not with \"GGUF\"", &begin[..begin.len().min(4)]), OTHER)
    }
}

/// Makes the tensors' offsets relative to the file, and checks that each lies within it.
fn place(
    entries: &mut [TensorEntry],
    data: u64,
    align: u64,
    r: &Reader<impl Read>,
) -> Result<(), LoadError> {
    let mut names = std::collections::HashSet::new();
    for e in entries.iter_mut() {
        if !e.offset.is_multiple_of(align) {
            let what = format!(
                "tensor {} begins at {}, which is no multiple of the alignment {align}",
                e.name, e.offset
            );
            return Err(LoadError::file(r.path, what, None, CURE_CUT));
        }
        e.offset = e.offset.saturating_add(data);
    }
    for e in entries.iter() {
        let end = e.offset.saturating_add(e.bytes);
        if end > r.len {
            let whole =
                entries.iter().map(|e| e.offset.saturating_add(e.bytes)).max().unwrap_or(end);
            let what = format!(
                "tensor {} ends at byte {end}, and the file has {} of at least {whole} bytes",
                e.name, r.len
            );
            return Err(r.error_at(e.offset, what, CURE_CUT));
        }
        if !names.insert(&e.name) {
            return Err(r.error_at(e.offset, format!("tensor {} comes twice", e.name), CURE_CUT));
        }
    }
    Ok(())
}

/// Reader that tracks its position and the size of the file.
struct Reader<'a, R> {
    input: std::io::BufReader<R>,
    at: u64,
    len: u64,
    path: &'a Path,
}

impl<R: Read> Reader<'_, R> {
    fn error_at(&self, at: u64, what: impl Into<String>, cure: &str) -> LoadError {
        LoadError::file(self.path, what, Some(at), cure)
    }

    /// Reads the next `n` bytes; errors call them `what`.
    fn bytes(&mut self, n: u64, what: &str) -> Result<Vec<u8>, LoadError> {
        if n > self.len.saturating_sub(self.at) {
            let left = self.len.saturating_sub(self.at);
            return Err(self.error_at(
                self.at,
                format!("{what} needs {n} bytes, and {left} are left of {}", self.len),
                CURE_CUT,
            ));
        }
        let mut bytes = vec![0; n as usize];
        self.input.read_exact(&mut bytes).map_err(|e| {
            self.error_at(self.at, format!("reading failed: {e}"), "check the disk")
        })?;
        self.at += n;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        let b = self.bytes(4, what)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn u64(&mut self, what: &str) -> Result<u64, LoadError> {
        let b = self.bytes(8, what)?;
        Ok(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    }

    /// Reads a string, replacing invalid UTF-8: no value used here depends on it.
    fn string(&mut self, what: &str) -> Result<String, LoadError> {
        let n = self.u64(what)?;
        let bytes = self.bytes(n, what)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn value(&mut self, ty: u32, key: &str) -> Result<Value, LoadError> {
        let at = self.at;
        match ty {
            8 => Ok(Value::String(self.string(key)?)),
            9 => {
                let ty = self.u32(key)?;
                let n = self.u64(key)?;
                if ty == 8 {
                    // Not preallocated: the count is not trustworthy.
                    let mut strings = Vec::new();
                    for _ in 0..n {
                        strings.push(self.string(key)?);
                    }
                    return Ok(Value::Strings(strings));
                }
                let Some(each) = scalar_bytes(ty) else {
                    let what = format!(
                        "metadata key {key} is an array of elements of type {ty}, which GGUF doesn't have"
                    );
                    return Err(self.error_at(at, what, CURE_CUT));
                };
                Ok(Value::Numbers(ty, self.bytes(n.saturating_mul(each), key)?))
            }
            _ => match scalar_bytes(ty) {
                Some(n) => Ok(scalar(ty, &self.bytes(n, key)?)),
                None => {
                    let what = format!("metadata key {key} has type {ty}, which GGUF doesn't have");
                    Err(self.error_at(at, what, CURE_CUT))
                }
            },
        }
    }

    fn entry(&mut self, what: &str) -> Result<TensorEntry, LoadError> {
        let at = self.at;
        let name = self.string(what)?;
        let what = format!("tensor {name}");
        let dims = self.u32(&what)?;
        if !(1..=4).contains(&dims) {
            return Err(self.error_at(
                at,
                format!("{what} has {dims} dimensions, where 1 to 4 were expected"),
                CURE_CUT,
            ));
        }
        let (mut cols, mut rows) = (0, 1usize);
        for i in 0..dims {
            let n = self.u64(&what)?;
            let product = usize::try_from(n)
                .ok()
                .filter(|&n| n > 0)
                .and_then(|n| if i == 0 { Some(n) } else { rows.checked_mul(n) });
            let Some(product) = product else {
                return Err(self.error_at(at, format!("{what} has a dimension of {n}"), CURE_CUT));
            };
            if i == 0 { cols = product } else { rows = product }
        }
        let ty = self.u32(&what)?;
        let kind = tensor_kind(ty).map_err(|ty| {
            let known = TensorFormat::ALL.map(TensorFormat::name).join(", ");
            self.error_at(
                at,
                format!("{what} is stored in format {ty}"),
                &format!("take a file in one of {known}"),
            )
        })?;
        let offset = self.u64(&what)?;
        let bytes = kind.row_bytes(cols).and_then(|b| b.checked_mul(rows)).map(|b| b as u64);
        let Some(bytes) = bytes else {
            let what = format!(
                "{what} has {rows} rows of {cols} values, which {} can't hold",
                kind.name()
            );
            return Err(self.error_at(at, what, CURE_CUT));
        };
        Ok(TensorEntry { name, kind, rows, cols, offset, bytes })
    }
}
