#!/usr/bin/env python3
"""Write a tiny GGUF file for each architecture besides LLaMA, with transformers' logits and the ids of short texts.

transformers makes a random model and its logits. The package `gguf` names the tensors and writes the file, with the keys that
llama.cpp's `convert_hf_to_gguf.py` writes. Gemma's pieces are given to SentencePiece itself, whose ids are the expected ones;
those of Qwen come from transformers' own tokenizer class.

    python tools/make_golden_gguf_models.py --out tests/golden/gguf_models

Needs gguf, sentencepiece, tokenizers, torch, transformers (0.19.0, 0.2.3, 0.23.3, 2.15.0, 5.24.0 made the files in the
repository).
"""

import argparse
import json
from pathlib import Path

import gguf
import sentencepiece
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Qwen2Config, Qwen2Tokenizer, Qwen3Config

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# SentencePiece's pieces in Gemma's order, as (piece, type). Pieces that are further down have lower scores.
PIECES = (
    [(piece, CONTROL) for piece in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")]
    + [("\n", USER_DEFINED), ("\n\n", USER_DEFINED), ("  ", USER_DEFINED), ("   ", USER_DEFINED), ("<b>", USER_DEFINED)]
    + [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    + [(piece, NORMAL) for piece in ("\u2581a", "he", "in", "\u2581the", "th", "\u2581th", "er", "here", "\u2581in", "ab", "bb", "ba")]
    + [(piece, NORMAL) for piece in "\u2581abehinrt<>.\u00e9"]
)

TEXTS = ["", "a", "the here", "there in  the   a", "abba abab", "a\n\n\nb", "<b>the</b>", "caf\u00e9 \U0001f642", " the ", "a    a"]

WORDS = [
    "The quick brown fox's 12 dogs; 3456 cats don't (ASK).",
    "na\u00efve caf\u00e9s cost 4\u20ac, \u4f60\u597d \U0001f642\n\n  two  spaces,\ta tab\r\n",
    "e\u0301 composed",
    "a<|end|>b",
]


def sentence_piece(writer):
    scores = [-1000.0 if kind in (CONTROL, USER_DEFINED) else 0.0 if kind == BYTE else -float(place) for place, (_, kind) in enumerate(PIECES)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _ in PIECES])
    writer.add_token_scores(scores)
    writer.add_token_types([kind for _, kind in PIECES])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    proto = sentencepiece_model_pb2.ModelProto()
    for (piece, kind), score in zip(PIECES, scores):
        proto.pieces.add(
            piece=piece.replace(" ", "\u2581") if kind == USER_DEFINED else piece,
            score=score,
            type=UNKNOWN if piece == "<unk>" else kind,
        )
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = 2, True, len(PIECES)
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    normalizer.name, normalizer.escape_whitespaces = "identity", True
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return len(PIECES), {text: [2, *processor.encode(text)] for text in TEXTS}


def byte_level(writer):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator([__doc__, *WORDS], trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    end = len(model["vocab"])
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]], eos_token="<|end|>", unk_token=None, pad_token=None)
    assert tokenizer.convert_tokens_to_ids("<|end|>") == end
    tokens = sorted(model["vocab"], key=model["vocab"].get) + ["<|end|>", "[PAD]"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([NORMAL] * end + [CONTROL, UNUSED])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    return len(tokens), {text: tokenizer(text)["input_ids"] for text in WORDS}


def gemma3(vocabulary):
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0}
    sliding = {"rope_type": "default", "rope_theta": 10_000.0}
    return Gemma3TextConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=7, num_attention_heads=2, num_key_value_heads=1,
        head_dim=4, query_pre_attn_scalar=4, sliding_window=5, max_position_embeddings=64,
        rope_parameters={"full_attention": full, "sliding_attention": sliding},
    )


def qwen(kind, vocabulary, **others):
    return kind(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}, **others,
    )


CASES = {
    "gemma3": (gguf.MODEL_ARCH.GEMMA3, sentence_piece, gemma3),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, byte_level, lambda size: qwen(Qwen2Config, size, tie_word_embeddings=True)),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, byte_level, lambda size: qwen(Qwen3Config, size, head_dim=12, tie_word_embeddings=False)),
}


def randomise(model):
    """Weights that all matter: the norms' gains vary about what the model multiplies by 1 with."""
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name and "gemma" not in model.config.model_type else 0.0
        parameter.data.normal_(centre, 0.3 if "norm" in name else 0.2)


def write(name, folder, seed):
    kind, tokenizer, configuration = CASES[name]
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", name)
    vocabulary, tokens = tokenizer(writer)
    config = configuration(vocabulary)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomise(model)
    gemma = name == "gemma3"

    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1_000_000.0)
    if name != "qwen2":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if gemma:
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for hugging, parameter in model.state_dict().items():
        if hugging == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = parameter + 1 if gemma and hugging.endswith("norm.weight") else parameter
        writer.add_tensor(names.get_name(hugging, try_suffixes=(".weight", ".bias")), values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    ids = torch.randint(0, vocabulary, (2, 9))
    with torch.no_grad():
        logits = model(ids).logits
    save_file({"input_ids": ids, "logits": logits.contiguous()}, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)
    (folder / f"{name}.json").write_text(json.dumps(tokens, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed, name in enumerate(CASES):
        write(name, folder, seed)


if __name__ == "__main__":
    main()
