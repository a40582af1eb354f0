//! GGUF files that are damaged, hostile, of another kind, or not runnable.

use super::Case;
use super::tiny_gguf::{DIM, Gguf, Value, f32s};

const RUN: &str =
    "run --model DIR/m.gguf --prompt hi --raw --max-tokens 2 --threads 1 --drafter none";
const CHAT: &str = "run --model DIR/m.gguf --prompt hi --max-tokens 2 --threads 1 --drafter none";

/// Model that works before a case changes it.
fn base() -> Gguf {
    Gguf::sentence_piece(&["a", "b", "h", "i", " ", "hi"], false)
}

/// Case of a file with these bytes.
fn bytes(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::new(&format!("GGUF {name}"), RUN, 1).file("m.gguf", content)
}

/// Case of the working model after a change.
fn changed(name: &str, change: impl FnOnce(&mut Gguf)) -> Case {
    let mut file = base();
    change(&mut file);
    bytes(name, file.bytes())
}

/// Case of the working model with another value of a key.
fn key(key: &str, value: Value) -> Case {
    let name = format!("key {key} as {:.60}", format!("{value:?}"));
    changed(&name, |file| file.set(key, value))
}

/// Case of a chat template.
fn template(name: &str, source: &str) -> Case {
    let mut file = base();
    file.set("tokenizer.chat_template", Value::String(source.into()));
    Case::new(&format!("template {name}"), CHAT, 1).file("m.gguf", file.bytes())
}

pub fn cases() -> Vec<Case> {
    let whole = base().bytes();
    let count = base().keys.len() as u64;
    let tensors = base().tensors.len() as u64;
    vec![
        bytes("without a byte", ""),
        bytes("of two bytes", "GG"),
        bytes("cut in the header", &whole[..100]),
        bytes("cut in the last tensor", &whole[..whole.len() - 1]),
        bytes(
            "that is a pointer of Git LFS",
            "version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 5\n",
        ),
        bytes("that is a web page", "<!DOCTYPE html><html><body>Sign in</body></html>"),
        bytes("that is a PyTorch archive", b"PK\x03\x04\x14\x00\x00\x00\x08\x00"),
        bytes("of the format before GGUF", b"tjgg\x03\x00\x00\x00"),
        bytes("that is compressed", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
        bytes("that is JSON", "{\"model_type\": \"llama\"}"),
        bytes("of random bytes", [0x9b, 0x1b, 0x5d, 0x35, 0x32, 0x3b, 7, 0]),
        changed("of version 1", |file| file.version = 1),
        changed("of version 4", |file| file.version = 4),
        changed("in big-endian order", |file| file.version = 3u32.swap_bytes()),
        changed("with 2^63 keys", |file| file.counts = Some((tensors, 1 << 63))),
        changed("with 2^63 tensors", |file| file.counts = Some((1 << 63, count))),
        changed("with a string of 2^63 bytes", |file| {
            file.set("general.name", Value::Raw(8, (1u64 << 63).to_le_bytes().to_vec()));
        }),
        changed("with an array of 2^62 numbers", |file| {
            file.set(
                "general.name",
                Value::Raw(9, [&6u32.to_le_bytes()[..], &(1u64 << 62).to_le_bytes()].concat()),
            );
        }),
        changed("with an array of arrays", |file| {
            file.set(
                "general.name",
                Value::Raw(9, [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()),
            );
        }),
        key("general.name", Value::Raw(13, vec![0; 8])),
        changed("with a key twice", |file| {
            let twice = file.keys[1].clone();
            file.keys.push(twice);
        }),
        changed("with a tensor twice", |file| {
            let twice = file.tensors[2].clone();
            file.tensors.push(twice);
        }),
        changed("without an architecture", |file| file.unset("general.architecture")),
        key("general.architecture", Value::String("qwen2".into())),
        key("general.alignment", Value::U32(3)),
        key("general.type", Value::String("adapter".into())),
        key("split.count", Value::U32(2)),
        key("llama.block_count", Value::U32(0)),
        key("llama.block_count", Value::U32(u32::MAX)),
        key("llama.context_length", Value::U32(0)),
        key("llama.embedding_length", Value::String("32".into())),
        key("llama.embedding_length", Value::U32(1 << 31)),
        key("llama.attention.head_count", Value::U32(0)),
        key("llama.attention.head_count_kv", Value::U32(3)),
        key("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
        key("llama.attention.sliding_window", Value::U32(8)),
        key("llama.rope.freq_base", Value::F32(-1.0)),
        key("llama.rope.scaling.type", Value::String("yarn".into())),
        key("llama.expert_count", Value::U32(8)),
        changed("with a tensor of no dimension", |file| file.tensors[3].dims.clear()),
        changed("with a tensor of five dimensions", |file| {
            file.tensors[3].dims = vec![32, 1, 1, 1, 1]
        }),
        changed("with a dimension of 0", |file| file.tensors[3].dims = vec![0]),
        changed("with dimensions beyond 2^64", |file| {
            file.tensors[3].dims = vec![32, 1 << 40, 1 << 40]
        }),
        changed("with a tensor of format 99", |file| file.tensors[3].kind = 99),
        changed("with a tensor in an IQ format", |file| file.tensors[3].kind = 16),
        changed("with a tensor between two blocks", |file| file.last_offset = Some(33)),
        changed("with a tensor beyond the end", |file| file.last_offset = Some(1 << 62)),
        changed("without a tensor", |file| {
            file.tensors.retain(|tensor| tensor.name != "blk.0.ffn_up.weight")
        }),
        changed("with a tensor of another shape", |file| {
            file.tensor("blk.0.ffn_up.weight").dims = vec![64, 32]
        }),
        changed("with a tensor of another model", |file| {
            file.tensor("blk.0.attn_norm.weight").name = "blk.0.attn_q_norm.weight".into()
        }),
        changed("with NaN in a matrix", |file| {
            file.tensor("blk.0.ffn_up.weight").data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        changed("with infinity in a norm", |file| {
            file.tensor("output_norm.weight").data = f32s([f32::INFINITY; DIM]);
        }),
        changed("without a vocabulary", |file| file.unset("tokenizer.ggml.tokens")),
        changed("without scores", |file| file.unset("tokenizer.ggml.scores")),
        key("tokenizer.ggml.model", Value::String("bert".into())),
        key("tokenizer.ggml.tokens", Value::Strings(vec!["a".into(); 1000])),
        key("tokenizer.ggml.token_type", Value::I32s(vec![1; 3])),
        changed("with a score that is NaN", |file| {
            let count = file.tensor("token_embd.weight").dims[1] as usize;
            file.set("tokenizer.ggml.scores", Value::F32s(vec![f32::NAN; count]));
        }),
        bytes(
            "with a piece of 4,000 bytes",
            Gguf::sentence_piece(&[&"a".repeat(4000)], false).bytes(),
        ),
        bytes("with an unknown word split", {
            let mut file = Gguf::byte_pairs(&[b"hi"], false);
            file.set("tokenizer.ggml.pre", Value::String("none-such".into()));
            file.bytes()
        }),
        bytes("with a merge that makes no token", {
            let mut file = Gguf::byte_pairs(&[b"hi"], false);
            file.set("tokenizer.ggml.merges", Value::Strings(vec!["h".into()]));
            file.bytes()
        }),
        template("with a syntax error", "{% if %}"),
        template(
            "that never ends",
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        ),
        template(
            "that doubles a text",
            "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        ),
        template("of a megabyte", &"x".repeat(1 << 20)),
        template(
            "that refuses",
            "{{ raise_exception('roles must\nalternate \u{1b}]52;c;cHduZWQ=\u{7}') }}",
        ),
        Case::new("a model that is not there", "run --model DIR/none.gguf --prompt hi", 1),
        Case::new("an empty folder for a model", "run --model DIR/m --prompt hi", 1).file("m/", ""),
    ]
}
