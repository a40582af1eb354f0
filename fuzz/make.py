#!/usr/bin/env python3
"""Writes the binary files of the fuzzing corpora: tiny models and tokenizers with random weights.

Text files of the corpora are written by hand, head files by `speclight train` on the models, and
training texts of the present format by the training corpus itself.
"""
import json, random, struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
DIM, FFN, HEADS = 32, 32, 2


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def pair(key, kind, value):
    head = text(key)
    if kind == "strings":
        return head + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    if kind in ("floats", "integers"):
        number, code = (6, "f") if kind == "floats" else (5, "i")
        return head + struct.pack("<IIQ", 9, number, len(value)) + struct.pack(f"<{len(value)}{code}", *value)
    number = {"u32": 4, "f32": 6, "bool": 7, "string": 8}[kind]
    return head + struct.pack("<I", number) + (text(value) if kind == "string" else struct.pack({"u32": "<I", "f32": "<f", "bool": "<B"}[kind], value))


def byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def vectors(rng, rows, cols, kind):
    """Bytes of a matrix: F32, or Q8_0 in blocks of 32."""
    if kind == 0:
        return struct.pack(f"<{rows * cols}f", *(rng.gauss(0, 0.3) for _ in range(rows * cols)))
    return b"".join(struct.pack("<e32b", 0.01, *(rng.randrange(-100, 100) for _ in range(32))) for _ in range(rows * cols // 32))


def tensors(vocabulary):
    yield "token_embd.weight", vocabulary, DIM
    yield "output_norm.weight", 1, DIM
    yield "blk.0.attn_norm.weight", 1, DIM
    yield "blk.0.ffn_norm.weight", 1, DIM
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"blk.0.{name}.weight", DIM, DIM
    for name, rows, cols in (("ffn_gate", FFN, DIM), ("ffn_up", FFN, DIM), ("ffn_down", DIM, FFN)):
        yield f"blk.0.{name}.weight", rows, cols


def gguf(name, pairs, vocabulary, kind):
    rng = random.Random(name)
    pairs = [
        ("general.architecture", "string", "llama"), ("general.name", "string", name), ("llama.block_count", "u32", 1),
        ("llama.context_length", "u32", 512), ("llama.embedding_length", "u32", DIM), ("llama.feed_forward_length", "u32", FFN),
        ("llama.attention.head_count", "u32", HEADS), ("llama.attention.head_count_kv", "u32", HEADS),
        ("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5), ("llama.rope.freq_base", "f32", 10000.0), *pairs,
    ]
    infos, data, all = b"", b"", list(tensors(vocabulary))
    for tensor, rows, cols in all:
        number = 0 if rows == 1 else kind
        shape = (cols,) if rows == 1 else (cols, rows)
        infos += text(tensor) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", number, len(data))
        data += vectors(rng, rows, cols, number)
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(all), len(pairs)) + b"".join(pair(*p) for p in pairs) + infos
    write("gguf", name, head + bytes(-len(head) % 32) + data)


def write(target, name, content):
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(content)


letters = byte_letters()
merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r"]
tokens = letters + [merge.replace(" ", "") for merge in merges] + ["<|endoftext|>", "<|user|>", "<|assistant|>"]
types = [1] * (len(tokens) - 3) + [3, 3, 4]
gguf("ok-bytes", [
    ("tokenizer.ggml.model", "string", "gpt2"), ("tokenizer.ggml.pre", "string", "smollm"), ("tokenizer.ggml.tokens", "strings", tokens),
    ("tokenizer.ggml.merges", "strings", merges), ("tokenizer.ggml.token_type", "integers", types),
    ("tokenizer.ggml.eos_token_id", "u32", tokens.index("<|endoftext|>")), ("tokenizer.chat_template", "string", TEMPLATE),
], len(tokens), 8)
pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "h", "e", "l", "o", "he", "ll", "hello", "▁hello"]
gguf("ok-pieces", [
    ("tokenizer.ggml.model", "string", "llama"), ("tokenizer.ggml.tokens", "strings", pieces),
    ("tokenizer.ggml.scores", "floats", [-float(i) for i in range(len(pieces))]),
    ("tokenizer.ggml.token_type", "integers", [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259)),
    ("tokenizer.ggml.bos_token_id", "u32", 1), ("tokenizer.ggml.eos_token_id", "u32", 2), ("tokenizer.ggml.add_bos_token", "bool", 1),
], len(pieces), 8)

special = ["<s>", "</s>"]
added = [dict(id=262 + i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) for i, t in enumerate(special)]
vocabulary = {token: i for i, token in enumerate(tokens[:262])}
tokenizer = dict(
    version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None,
    pre_tokenizer=dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True), post_processor=None,
    decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
    model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
               byte_fallback=False, ignore_merges=False, vocab=vocabulary, merges=[m.split(" ") for m in merges]))
write("tokenizer_json", "ok-bytes.json", json.dumps(tokenizer, ensure_ascii=False).encode())
split = dict(tokenizer, pre_tokenizer=dict(type="Sequence", pretokenizers=[
    dict(type="Split", pattern=dict(Regex=r"\p{N}{1,3}| ?\p{L}+|\s+(?!\S)|\s+"), behavior="Isolated", invert=False),
    dict(type="Digits", individual_digits=True), dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)]),
    post_processor=dict(type="TemplateProcessing", single=[dict(SpecialToken=dict(id="<s>", type_id=0)), dict(Sequence=dict(id="A", type_id=0))],
                        pair=[dict(Sequence=dict(id="A", type_id=0))], special_tokens={"<s>": dict(id="<s>", ids=[262], tokens=["<s>"])}),
    truncation=dict(direction="Right", max_length=16, strategy="LongestFirst", stride=0),
    padding=dict(strategy=dict(Fixed=8), direction="Right", pad_to_multiple_of=None, pad_id=0, pad_type_id=0, pad_token="<s>"))
write("tokenizer_json", "ok-split.json", json.dumps(split, ensure_ascii=False).encode())
sentence = dict(tokenizer, pre_tokenizer=None, decoder=dict(type="Sequence", decoders=[
    dict(type="Replace", pattern=dict(String="▁"), content=" "), dict(type="ByteFallback"), dict(type="Fuse"), dict(type="Strip", content=" ", start=1, stop=0)]),
    normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend="▁"), dict(type="Replace", pattern=dict(String=" "), content="▁")]),
    added_tokens=[dict(a, id=i + 1) for i, a in enumerate(added)],
    model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=True,
               byte_fallback=True, ignore_merges=False, vocab={t: i for i, t in enumerate(pieces[:264])}, merges=["h e", "l l"][:0]))
write("tokenizer_json", "ok-pieces.json", json.dumps(sentence, ensure_ascii=False).encode())

# Model folder: the config, and weights whose embedding has a row per token of each tokenizer.
write("config_json", "ok-tiny.json", json.dumps(dict(
    architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=DIM, intermediate_size=FFN, num_hidden_layers=1,
    num_attention_heads=HEADS, num_key_value_heads=HEADS, vocab_size=264, max_position_embeddings=512, rms_norm_eps=1e-5,
    rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=True, torch_dtype="float32", bos_token_id=262, eos_token_id=263,
    attention_bias=False), indent=1).encode())
write("config_json", "ok-scaled.json", json.dumps(dict(
    model_type="llama", hidden_size=DIM, intermediate_size=FFN, num_hidden_layers=1, num_attention_heads=HEADS, num_key_value_heads=HEADS,
    head_dim=DIM // HEADS, vocab_size=264, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=True,
    rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    eos_token_id=[262, 263], mlp_bias=False, sliding_window=None, quantization_config=None)).encode())
names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
         "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight", "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight"}
for own, theirs in dict(attn_q="self_attn.q_proj", attn_k="self_attn.k_proj", attn_v="self_attn.v_proj", attn_output="self_attn.o_proj",
                        ffn_gate="mlp.gate_proj", ffn_up="mlp.up_proj", ffn_down="mlp.down_proj").items():
    names[f"blk.0.{own}.weight"] = f"model.layers.0.{theirs}.weight"
rng, entries, data = random.Random(1), {"__metadata__": {"format": "pt"}}, b""
for tensor, rows, cols in tensors(264):
    # Half precision keeps the file small.
    content = struct.pack(f"<{rows * cols}e", *(rng.gauss(0, 0.3) for _ in range(rows * cols)))
    entries[names[tensor]] = dict(dtype="F16", shape=[cols] if rows == 1 else [rows, cols], data_offsets=[len(data), len(data) + len(content)])
    data += content
head = json.dumps(entries).encode()
head += b" " * (-len(head) % 8)
write("safetensors", "ok-tiny", struct.pack("<Q", len(head)) + head + data)

# Training texts: a header of settings, then records of tokens, states and distributions.
about = json.dumps(dict(form=1, model="m", dim=2, after=[1, 3], prompts="p", seed=1, max_tokens=9), separators=(",", ":")).encode()
records = struct.pack("<Q", len(about)) + about
for tokens in ([1, 2, 3], [4, 5]):
    records += b"text" + struct.pack("<III", len(tokens), 0, 1) + struct.pack(f"<{len(tokens)}I", *tokens)
    records += struct.pack(f"<{(len(tokens) - 1) * 4}e", *range((len(tokens) - 1) * 4))
    records += b"".join(struct.pack("<Ie", i, 0.02) for i in range(48)) * (len(tokens) - 1)
write("training_corpus", "two-texts-of-format-1", records)

# Checkpoints of training: three tensors for each of the head's, and a description in JSON.
SHAPE = dict(dim=16, ffn=16, heads=2, kv_heads=2, head_dim=8, vocab=16, fused=2, eps=1e-5, rope_base=10000.0)
HEAD = {"fuse_norm": (2, 16), "fuse": (16, 32), "token_norm": (1, 16), "state_norm": (1, 16), "input": (16, 32), "blk.0.attn_norm": (1, 16),
        "blk.0.attn_q": (16, 16), "blk.0.attn_k": (16, 16), "blk.0.attn_v": (16, 16), "blk.0.attn_output": (16, 16), "blk.0.ffn_norm": (1, 16),
        "blk.0.ffn_gate": (16, 16), "blk.0.ffn_up": (16, 16), "blk.0.ffn_down": (16, 16), "output_norm": (1, 16), "output": (16, 16)}
for form in ("eagle", "adapter"):
    rng, entries, data = random.Random(form), {}, b""
    options = dict(form=form, steps=9, rate=1e-3, warm_up=2, depths=2, vocab=16, window=8, batch=1, prompt_weight=0.1, regression=0.1, clip=1.0,
                   held_out=2, every=4, seed=1, threads=1)
    about = json.dumps(dict(options=options, sizes=dict(SHAPE, form=form, fused=2 if form == "eagle" else 1), tokens=list(range(16)), step=4,
                            tokens_read=20, seconds=0.5, adam_steps=4)).encode()
    contents = {"about": ("U8", [len(about)], about)}
    for tensor, (rows, cols) in HEAD.items():
        if form == "adapter" and ".ffn_" not in tensor and not tensor.startswith("output"):
            continue
        for suffix, size in (("", 0.3), (".m", 0.001), (".v", 0.0)):
            values = [rng.gauss(0, size) if size else 1e-6 for _ in range(rows * cols)]
            contents[f"{tensor}.weight{suffix}"] = ("F32", [cols] if rows == 1 else [rows, cols], struct.pack(f"<{rows * cols}f", *values))
    for tensor, (kind, shape, content) in contents.items():
        entries[tensor] = dict(dtype=kind, shape=shape, data_offsets=[len(data), len(data) + len(content)])
        data += content
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    write("training_checkpoint", f"ok-{form}", struct.pack("<Q", len(head)) + head + data)
