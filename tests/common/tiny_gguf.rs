//! Tiny Llamas as GGUF files, built byte by byte: independent of the crate's own reader.
#![allow(dead_code)]

/// Value of a metadata key.
#[derive(Clone, Debug)]
pub enum Value {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// A value of this type, as these bytes.
    Raw(u32, Vec<u8>),
}

/// Tensor with its dimensions, innermost first.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
}

/// File whose parts can be changed before it is written.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub version: u32,
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    /// Counts of tensors and keys in the header, if they differ from the actual ones.
    pub counts: Option<(u64, u64)>,
    /// Offset of the last tensor, if it differs from the actual one.
    pub last_offset: Option<u64>,
}

pub const DIM: usize = 32;
const FFN: usize = 64;
pub const LAYERS: usize = 1;

/// Bytes of a floating-point tensor.
pub fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Pseudo-random numbers around 0, of about this size.
fn noise(seed: &mut u64, count: usize, size: f32) -> Vec<f32> {
    let mut next = || {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 2.0 * size * (next() + next())).collect()
}

/// Returns a character for each byte, as byte-level vocabularies spell it.
pub fn byte_level() -> Vec<char> {
    let printable = |b: u32| {
        (0x21..=0x7e).contains(&b) || (0xa1..=0xac).contains(&b) || (0xae..=0xff).contains(&b)
    };
    let mut next = 0xff;
    let spelled = (0..256u32).map(|b| {
        if printable(b) {
            b
        } else {
            next += 1;
            next
        }
    });
    spelled.map(|c| char::from_u32(c).unwrap()).collect()
}

impl Gguf {
    /// Llama of one layer with a SentencePiece vocabulary: 3 control tokens, 256 bytes, `pieces`.
    ///
    /// Pieces have falling scores. `favored` raises the logits of all pieces, so that the model
    /// writes them.
    pub fn sentence_piece(pieces: &[&str], favored: bool) -> Gguf {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
        let first = tokens.len();
        tokens.extend(pieces.iter().map(|piece| piece.replace(' ', "\u{2581}")));
        let kinds = (0..tokens.len())
            .map(|i| {
                if i == 0 {
                    2
                } else if i < 3 {
                    3
                } else if i < first {
                    6
                } else {
                    1
                }
            })
            .collect();
        let scores = (0..tokens.len()).map(|i| -(i as f32)).collect();
        let mut file = Gguf::llama(tokens.len(), favored.then_some(first));
        file.set("tokenizer.ggml.model", Value::String("llama".into()));
        file.set("tokenizer.ggml.tokens", Value::Strings(tokens));
        file.set("tokenizer.ggml.scores", Value::F32s(scores));
        file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
        file.set("tokenizer.ggml.bos_token_id", Value::U32(1));
        file.set("tokenizer.ggml.eos_token_id", Value::U32(2));
        file
    }

    /// Llama of one layer with a byte-level vocabulary: 256 bytes, an end token, `words`.
    ///
    /// `words` are given as bytes. `favored` is as in [`Gguf::sentence_piece`].
    pub fn byte_pairs(words: &[&[u8]], favored: bool) -> Gguf {
        let table = byte_level();
        let mut tokens: Vec<String> = table.iter().map(char::to_string).collect();
        tokens.push("<|endoftext|>".into());
        let first = tokens.len();
        tokens.extend(
            words.iter().map(|word| word.iter().map(|b| table[*b as usize]).collect::<String>()),
        );
        let kinds = (0..tokens.len()).map(|i| if i == 256 { 3 } else { 1 }).collect();
        let mut file = Gguf::llama(tokens.len(), favored.then_some(first));
        file.set("tokenizer.ggml.model", Value::String("gpt2".into()));
        file.set("tokenizer.ggml.pre", Value::String("gpt-2".into()));
        file.set("tokenizer.ggml.tokens", Value::Strings(tokens));
        file.set("tokenizer.ggml.merges", Value::Strings(Vec::new()));
        file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
        file.set("tokenizer.ggml.eos_token_id", Value::U32(256));
        file
    }

    /// Llama without a vocabulary. Tokens from `favored` on get large logits of both signs.
    fn llama(vocab: usize, favored: Option<usize>) -> Gguf {
        let mut file = Gguf {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
            counts: None,
            last_offset: None,
        };
        let whole = |n: usize| Value::U32(n as u32);
        for (key, value) in [
            ("general.architecture", Value::String("llama".into())),
            ("general.name", Value::String("tiny".into())),
            ("llama.block_count", whole(LAYERS)),
            ("llama.context_length", whole(512)),
            ("llama.embedding_length", whole(DIM)),
            ("llama.feed_forward_length", whole(FFN)),
            ("llama.attention.head_count", whole(2)),
            ("llama.attention.head_count_kv", whole(2)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ] {
            file.set(key, value);
        }
        let mut seed = 1;
        let mut put = |name: &str, dims: &[usize], values: Vec<f32>| {
            let dims = dims.iter().map(|&n| n as u64).collect();
            file.tensors.push(Tensor { name: name.into(), dims, kind: 0, data: f32s(values) });
        };
        put("token_embd.weight", &[DIM, vocab], noise(&mut seed, DIM * vocab, 1.0));
        let mut output = noise(&mut seed, DIM * vocab, 0.3);
        if let Some(first) = favored {
            output
                .iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x *= if i < first * DIM { 0.01 } else { 8.0 });
        }
        put("output.weight", &[DIM, vocab], output);
        put("output_norm.weight", &[DIM], vec![1.0; DIM]);
        for name in ["attn_norm", "ffn_norm"] {
            put(&format!("blk.0.{name}.weight"), &[DIM], vec![1.0; DIM]);
        }
        for (name, cols, rows) in [
            ("attn_q", DIM, DIM),
            ("attn_k", DIM, DIM),
            ("attn_v", DIM, DIM),
            ("attn_output", DIM, DIM),
            ("ffn_gate", DIM, FFN),
            ("ffn_up", DIM, FFN),
            ("ffn_down", FFN, DIM),
        ] {
            put(&format!("blk.0.{name}.weight"), &[cols, rows], noise(&mut seed, cols * rows, 0.2));
        }
        file
    }

    /// Sets a key, which keeps its place if it exists.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, held)) => *held = value,
            None => self.keys.push((key.into(), value)),
        }
    }

    /// Removes a key.
    pub fn unset(&mut self, key: &str) {
        self.keys.retain(|(known, _)| known != key);
    }

    /// Returns a tensor to change.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        let (tensors, keys) =
            self.counts.unwrap_or((self.tensors.len() as u64, self.keys.len() as u64));
        out.extend(tensors.to_le_bytes());
        out.extend(keys.to_le_bytes());
        for (key, value) in &self.keys {
            string(key, &mut out);
            value.write(&mut out);
        }
        let mut offset = 0u64;
        for (i, tensor) in self.tensors.iter().enumerate() {
            string(&tensor.name, &mut out);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            let last = self.last_offset.filter(|_| i + 1 == self.tensors.len());
            out.extend(last.unwrap_or(offset).to_le_bytes());
            offset += (tensor.data.len() as u64).next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let array = |ty: u32, count: usize, out: &mut Vec<u8>| {
            out.extend(9u32.to_le_bytes());
            out.extend(ty.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Value::U32(n) => out.extend([4u32.to_le_bytes(), n.to_le_bytes()].concat()),
            Value::I32(n) => out.extend([5u32.to_le_bytes(), n.to_le_bytes()].concat()),
            Value::F32(x) => out.extend([6u32.to_le_bytes(), x.to_le_bytes()].concat()),
            Value::Bool(flag) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*flag));
            }
            Value::String(text) => {
                out.extend(8u32.to_le_bytes());
                string(text, out);
            }
            Value::Strings(all) => {
                array(8, all.len(), out);
                all.iter().for_each(|text| string(text, out));
            }
            Value::F32s(all) => {
                array(6, all.len(), out);
                all.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Value::I32s(all) => {
                array(5, all.len(), out);
                all.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Value::Raw(ty, bytes) => {
                out.extend(ty.to_le_bytes());
                out.extend(bytes);
            }
        }
    }
}
