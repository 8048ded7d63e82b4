#!/usr/bin/env python3
"""Write tiny GGUF files, one per block format, with the values and token ids an import must yield.

The package `gguf` writes the files. It quantises F32 to Q8_0; blocks of the K formats, which it can only read,
are random bytes with small scales. Weights are quantised in Hugging Face's order of rows and the quantised rows
are then permuted as llama.cpp's `convert_hf_to_gguf.py` does, so that the expected values, `gguf.quants.dequantize`
of the rows before that, know nothing of how an import puts the rows back.

    python tools/make_golden_gguf.py --out tests/golden/gguf

Needs gguf, numpy, safetensors, tokenizers (0.19.0, 2.4.6, 0.8.0, 0.23.3 made the files in the repository).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SMALL = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1]
LARGE = [Type.Q4_K, Type.Q5_K, Type.Q6_K]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# SentencePiece: (piece, score, type). `ab` and `bc` tie; the byte tokens spell a newline and an e with an acute accent.
PIECES = [
    ("<unk>", 0.0, UNKNOWN),
    ("<s>", 0.0, CONTROL),
    ("</s>", 0.0, CONTROL),
    ("<0x0A>", 0.0, BYTE),
    ("<0xC3>", 0.0, BYTE),
    ("<0xA9>", 0.0, BYTE),
    ("\u2581a", -1.0, NORMAL),
    ("ab", -2.0, NORMAL),
    ("bc", -2.0, NORMAL),
    ("abc", -3.0, NORMAL),
    ("\u2581ab", -4.0, NORMAL),
    ("\u2581abc", -5.0, NORMAL),
    ("ca", -6.0, NORMAL),
    ("\u2581\u2581", -7.0, NORMAL),
    ("aa", -8.0, NORMAL),
    ("aaa", -8.5, NORMAL),
    ("\u2581", -9.0, NORMAL),
    ("a", -10.0, NORMAL),
    ("b", -11.0, NORMAL),
    ("c", -12.0, NORMAL),
    ("  x", 0.0, USER_DEFINED),
    ("unused", -100.0, UNUSED),
    ("", 0.0, UNUSED),
    ("cab", -13.0, NORMAL),
]

TEXTS = ["", "a", "abc", "abcabc cab", "aaaa aaaaa", "a  b   c", "b\nc", "c\u00e9", "ab</s>ab", "a  xb", "abq"]

WORDS = [
    "Hello world, 12 345 times  and more.",
    "don't DON'T we'll\n\n  two",
    "caf\u00e9 \u4f60\u597d \U0001f600",
    "a<|end|>b",
]


def pieces_of(text):
    """SentencePiece's BPE as llama.cpp runs it: always the adjacent pair whose union scores best, the first of equals."""
    ids = {piece: index for index, (piece, _, _) in enumerate(PIECES)}
    marks = [(piece, index) for index, (piece, _, kind) in enumerate(PIECES) if kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    result, rest = [1], [text]
    for mark, index in sorted(marks, key=lambda mark: -len(mark[0])):
        rest = [
            part
            for old in rest
            for part in (
                [old] if isinstance(old, int) else [x for cut in old.split(mark) for x in (index, cut)][1:]
            )
        ]
    for part in rest:
        if isinstance(part, int):
            result.append(part)
            continue
        symbols = list("\u2581" + part.replace(" ", "\u2581")) if part else []
        while True:
            unions = [a + b for a, b in zip(symbols, symbols[1:])]
            scored = [(-PIECES[ids[u]][1], i) for i, u in enumerate(unions) if u in ids and PIECES[ids[u]][2] in (NORMAL, UNUSED)]
            if not scored:
                break
            _, at = min(scored)
            symbols[at : at + 2] = [unions[at]]
        for symbol in symbols:
            spelled = [f"<0x{byte:02X}>" for byte in symbol.encode()]
            if symbol in ids:
                result.append(ids[symbol])
            elif all(byte in ids for byte in spelled):
                result.extend(ids[byte] for byte in spelled)
            else:
                result.append(0)
    return result


def sentence_piece(writer, pieces=PIECES):
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _, _ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([kind for _, _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(pieces), {text: pieces_of(text) for text in TEXTS}


def byte_level(writer):
    """A BPE trained on this file; its own ids are the expected ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([__doc__, *WORDS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL] + [NORMAL] * (len(tokens) - 1))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")
    return len(tokens), {text: tokenizer.encode(text).ids for text in WORDS}


def permute(rows, heads):
    """llama.cpp's order of query and key rows (`LlamaModel.permute`)."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def blocks(random, kind, rows, columns):
    """Stored rows of `kind` and their values."""
    if kind in LARGE:
        size, width = GGML_QUANT_SIZES[kind]
        raw = random.integers(0, 256, (rows * columns // size, width), dtype=np.uint8)
        # Scales must be finite; in Q6_K the scale is last, in the others scale and minimum are first.
        scales = random.uniform(-0.01, 0.01, (len(raw), 2)).astype(np.float16)
        if kind == Type.Q6_K:
            raw[:, -2:] = scales[:, :1].view(np.uint8)
        else:
            raw[:, :4] = scales.view(np.uint8)
        raw = raw.reshape(rows, -1)
    else:
        raw = quantize(random.normal(0, 0.1, (rows, columns)).astype(np.float32), kind)
    return raw, dequantize(raw, kind).astype(np.float32).reshape(rows, columns)


def factors(head, theta, factor=8.0, low=1.0, high=4.0, original=8192):
    """llama.cpp's `rope_freqs` of LLaMA 3.1's scaling."""
    wavelength = 2 * np.pi * theta ** (np.arange(0, head, 2, dtype=np.float32) / head)
    kept = (original / wavelength - low) / (high - low)
    middle = 1 / ((1 - kept) / factor + kept)
    result = np.where(wavelength < original / high, 1.0, np.where(wavelength > original / low, factor, middle))
    return result.astype(np.float32)


def write(kind, folder, seed):
    random = np.random.default_rng(seed)
    name = kind.name.lower()
    large = kind in LARGE
    width, heads, kv_heads, head, middle = (256, 2, 1, 2, 2) if large else (32, 4, 2, 8, 32)
    blocks_count = 2 if kind == Type.Q4_0 else 1
    writer = GGUFWriter(folder / f"{name}.gguf", "llama")
    writer.add_name("tiny")
    writer.add_block_count(blocks_count)
    writer.add_context_length(16384)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(middle)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    theta = 500000.0 if kind == Type.Q8_0 else 10000.0
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(head)
    if large:
        writer.add_key_length(head)
        writer.add_value_length(head)
    vocabulary, tokens = byte_level(writer) if kind == Type.F16 else sentence_piece(writer, PIECES[:12] if large else PIECES)
    writer.add_vocab_size(vocabulary)

    expected = {}

    def add(stored, hugging, rows, columns, kind=kind, permuted=0):
        raw, values = blocks(random, kind, rows, columns)
        expected[hugging] = values
        writer.add_tensor(stored, permute(raw, permuted) if permuted else raw, raw_dtype=kind)

    def vector(stored, hugging, length, centre, permuted=0):
        values = random.normal(centre, 0.1, length).astype(np.float32)
        expected[hugging] = values
        writer.add_tensor(stored, permute(values, permuted) if permuted else values)

    # Rows shorter than a large block are stored in single precision, as llama.cpp's quantiser falls back too.
    short = Type.F32 if large else kind
    add("token_embd.weight", "model.embed_tokens.weight", vocabulary, width)
    for index in range(blocks_count):
        ours, theirs = f"blk.{index}.", f"model.layers.{index}."
        vector(f"{ours}attn_norm.weight", f"{theirs}input_layernorm.weight", width, 1)
        add(f"{ours}attn_q.weight", f"{theirs}self_attn.q_proj.weight", heads * head, width, permuted=heads)
        add(f"{ours}attn_k.weight", f"{theirs}self_attn.k_proj.weight", kv_heads * head, width, permuted=kv_heads)
        add(f"{ours}attn_v.weight", f"{theirs}self_attn.v_proj.weight", kv_heads * head, width)
        add(f"{ours}attn_output.weight", f"{theirs}self_attn.o_proj.weight", width, heads * head, short)
        vector(f"{ours}ffn_norm.weight", f"{theirs}post_attention_layernorm.weight", width, 1)
        add(f"{ours}ffn_gate.weight", f"{theirs}mlp.gate_proj.weight", middle, width)
        add(f"{ours}ffn_up.weight", f"{theirs}mlp.up_proj.weight", middle, width)
        add(f"{ours}ffn_down.weight", f"{theirs}mlp.down_proj.weight", width, middle, short)
        if kind == Type.F32:
            vector(f"{ours}attn_q.bias", f"{theirs}self_attn.q_proj.bias", heads * head, 0, heads)
            vector(f"{ours}attn_k.bias", f"{theirs}self_attn.k_proj.bias", kv_heads * head, 0, kv_heads)
            vector(f"{ours}attn_v.bias", f"{theirs}self_attn.v_proj.bias", kv_heads * head, 0)
            expected[f"{theirs}self_attn.o_proj.bias"] = np.zeros(width, np.float32)
    vector("output_norm.weight", "model.norm.weight", width, 1)
    if kind in (Type.F32, Type.Q5_0):
        add("output.weight", "lm_head.weight", vocabulary, width)
    if kind == Type.Q8_0:
        writer.add_tensor("rope_freqs.weight", factors(head, theta))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)
    if kind in (Type.F32, Type.F16):
        (folder / f"{name}.json").write_text(json.dumps(tokens, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for seed, kind in enumerate(SMALL + LARGE):
        write(kind, folder, seed)


if __name__ == "__main__":
    main()
