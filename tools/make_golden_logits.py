#!/usr/bin/env python3
"""Write tiny random Hugging Face checkpoints with the logits transformers computes from them.

Each case becomes a directory holding

  config.json            as `save_pretrained` writes it (one case rewrites it in the older style)
  model.safetensors      or shards with model.safetensors.index.json
  golden.safetensors     input_ids i64 [2, T] and logits f32 [2, T, vocab], with the versions and
                         the seed in the metadata

so that a test of another implementation can load the directory and compare. Every case is reloaded
from its directory before the script ends, and the logits have to come out bit for bit the same.

    python tools/make_golden_logits.py --out tests/golden/logits
    python tools/make_golden_logits.py --out tests/golden/logits --check
"""

import argparse
import json
import math
import shutil
import struct
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

BATCH = 2
VOCAB = 96
WEIGHT_STD = 0.2  # about 1/sqrt(hidden), so that activations, scores and logits are of order 1
BIAS_STD = 0.2
NORM_SPREAD = 0.3

# Relative to the largest |logit|. The tolerance meant for comparing against the logits is 1e-4.
MUST_CHANGE = 1e-2

# A key bias adds the same amount to every score of a query, which softmax removes. Rotary models
# escape this, because the bias is rotated together with the key.
INERT_PARAMETERS = {"opt": ("k_proj.bias",)}

# Key words of a model's norms, whose gains are drawn around 1 (around 0 where 1 is added to them).
NORM_NAMES = ("norm", "ln_")
OFFSET_NORMS = ("gemma2", "gemma3_text")


@dataclass
class Case:
    name: str
    about: str
    config: transformers.PreTrainedConfig
    seq_len: int = 24
    dtype: torch.dtype = torch.float32  # of the saved weights; logits are always float32
    shard_size: str | None = None
    old_config: bool = False  # rewrite config.json with top-level rope_theta and rope_scaling
    weights_of: str | None = None  # draw the weights with another case's seed
    # Config attributes whose change must change the logits, with a value to try.
    must_matter: dict = field(default_factory=dict)
    must_matter_by: float = MUST_CHANGE


def llama(**overrides):
    return LlamaConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    ) | overrides))


def mistral(**overrides):
    return MistralConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    ) | overrides))


def opt(**overrides):
    return OPTConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
    ) | overrides))


def granite(**overrides):
    return GraniteConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        attention_bias=True,
        mlp_bias=True,
        attention_multiplier=0.3,
    ) | overrides))


def qwen2(**overrides):
    return Qwen2Config(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    ) | overrides))


def qwen3(**overrides):
    return Qwen3Config(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=64,
    ) | overrides))


def gemma2(**overrides):
    return Gemma2Config(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=12,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=4.0,
        sliding_window=7,
        max_position_embeddings=64,
    ) | overrides))


def gemma3(**overrides):
    return Gemma3TextConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=12,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        max_position_embeddings=64,
    ) | overrides))


def gpt_neox(**overrides):
    return GPTNeoXConfig(**(dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    ) | overrides))


def gpt2(**overrides):
    return GPT2Config(**(dict(
        vocab_size=VOCAB,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=32,
    ) | overrides))


def llama3_rope(theta):
    # The shortest wavelength is always 2 pi, and the unscaled band ends at
    # original_max_position_embeddings / high_freq_factor, so with a high_freq_factor of 4 anything
    # below 26 positions would leave that band empty.
    return dict(
        rope_type="llama3",
        rope_theta=theta,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=32,
    )


def plain_rope(theta):
    return dict(rope_type="default", rope_theta=theta)


def all_cases():
    return [
        Case("llama_mha_untied", "Llama, as many key-value heads as heads, own lm_head",
             llama(num_key_value_heads=4, num_hidden_layers=3),
             must_matter={"rope_parameters": plain_rope(500.0), "rms_norm_eps": 1e-2}),
        Case("llama_gqa_tied", "Llama, 4 heads over 2 key-value heads, lm_head tied",
             llama(tie_word_embeddings=True, rms_norm_eps=1e-5)),
        Case("llama_mqa", "Llama, 4 heads over 1 key-value head",
             llama(num_key_value_heads=1)),
        Case("llama_head_dim", "Llama, head_dim 12 where hidden/heads is 8",
             llama(head_dim=12)),
        Case("llama_biases", "Llama with attention_bias and mlp_bias",
             llama(attention_bias=True, mlp_bias=True)),
        Case("llama_rope_llama3", "Llama, llama3 rope scaling with all three bands, T past the original length",
             llama(num_attention_heads=2, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
                   rope_parameters=llama3_rope(500000.0)),
             seq_len=48, must_matter={"rope_parameters": plain_rope(500000.0)}),
        Case("llama_rope_linear", "Llama, linear rope scaling by an integer factor of 2, theta 1000",
             llama(rope_parameters=dict(rope_type="linear", rope_theta=1000.0, factor=2)),
             seq_len=48, must_matter={"rope_parameters": plain_rope(1000.0)}),
        Case("llama_sharded", "Llama, weights in several shards behind an index",
             llama(), shard_size="40KB"),
        Case("llama_f16", "Llama, weights stored as float16, logits computed in float32",
             llama(), dtype=torch.float16),
        Case("llama_bf16", "Llama, weights stored as bfloat16, logits computed in float32",
             llama(), dtype=torch.bfloat16),
        Case("llama_old_config", "llama_gqa_tied's weights with llama3 scaling, config.json in transformers 4 style",
             llama(tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=llama3_rope(100.0)),
             seq_len=48, old_config=True, weights_of="llama_gqa_tied",
             must_matter={"rope_parameters": plain_rope(100.0)}),
        Case("mistral", "Mistral, grouped heads, sliding window longer than T",
             mistral(sliding_window=4096)),
        Case("mistral_no_window", "Mistral, sliding_window null",
             mistral(sliding_window=None)),
        Case("mistral_window", "Mistral, sliding window shorter than T",
             mistral(sliding_window=5), must_matter={"sliding_window": 6}),
        Case("granite", "Granite: 3 heads that do not share out the width, biases, factors of scores and embeddings",
             granite(embedding_multiplier=2.0), must_matter={"attention_multiplier": 0.6, "embedding_multiplier": 1.0}),
        Case("qwen2", "Qwen 2: biases of queries, keys and values; tied",
             qwen2(tie_word_embeddings=True)),
        Case("qwen2_windows", "Qwen 2 with sliding windows in the blocks from max_window_layers on",
             qwen2(use_sliding_window=True, sliding_window=5, max_window_layers=1, num_hidden_layers=3),
             must_matter={"sliding_window": 6}),
        Case("qwen3", "Qwen 3: norms of query and key heads, head_dim 12 where hidden/heads is 8",
             qwen3()),
        Case("gemma2", "Gemma 2: norms around sub-layers, bounded scores and logits, alternating windows, tied",
             gemma2(), must_matter={"sliding_window": 8, "query_pre_attn_scalar": 8,
                                    "attn_logit_softcapping": None, "final_logit_softcapping": None}),
        Case("gemma3", "Gemma 3 text: norms of query and key heads, two bases of rotary positions, windows, tied",
             gemma3(), must_matter={"sliding_window": 8, "query_pre_attn_scalar": 8}),
        Case("gemma3_linear", "Gemma 3 text, full attention with linear rope scaling",
             gemma3(rope_parameters={
                 "full_attention": dict(rope_type="linear", rope_theta=1000.0, factor=4.0),
                 "sliding_attention": dict(rope_type="default", rope_theta=100.0),
             })),
        Case("gpt_neox", "GPT-NeoX: parallel residual, fused heads, a quarter of each head rotated",
             gpt_neox()),
        Case("gpt_neox_sequential", "GPT-NeoX without parallel residual, all of each head rotated, tied",
             gpt_neox(use_parallel_residual=False, tie_word_embeddings=True, hidden_act="gelu_fast",
                      rope_parameters=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=1.0))),
        Case("gpt2", "GPT-2: Conv1D weights, fused sections, learned positions, tied",
             gpt2()),
        Case("opt_base", "OPT, norms before the sublayers, tied",
             opt(num_hidden_layers=3)),
        Case("opt_post_norm", "OPT like opt-350m: norms after the sublayers, no final norm, project_in and project_out",
             opt(do_layer_norm_before=False, word_embed_proj_dim=16)),
        Case("opt_proj_pre_norm", "OPT, norms before the sublayers, with project_in and project_out",
             opt(word_embed_proj_dim=16)),
        Case("opt_no_bias", "OPT, enable_bias false (the norms keep their biases)",
             opt(enable_bias=False)),
        Case("opt_no_final_norm", "OPT, norms before the sublayers but _remove_final_layer_norm",
             opt(_remove_final_layer_norm=True)),
        Case("opt_untied", "OPT with its own lm_head",
             opt(tie_word_embeddings=False)),
        Case("opt_f16", "OPT, weights stored as float16, logits computed in float32",
             opt(), dtype=torch.float16),
        Case("opt_gelu", "OPT, activation_function gelu",
             # The error function and its tanh approximation are within 5e-4 of each other everywhere.
             opt(activation_function="gelu"),
             must_matter={"activation_function": "gelu_new"}, must_matter_by=2e-4),
        Case("opt_no_affine", "OPT, norms without weights and biases",
             opt(layer_norm_elementwise_affine=False)),
    ]


def case_seed(name, base):
    """A seed that does not depend on which other cases there are."""
    return (base + zlib.crc32(name.encode())) % 2**31


def randomise(model, seed):
    """Fill every parameter, padding rows included, with values that leave no term negligible."""
    generator = torch.Generator().manual_seed(seed)
    gain = 0.0 if model.config.model_type in OFFSET_NORMS else 1.0
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = BIAS_STD * noise
        elif any(word in name for word in NORM_NAMES):
            value = gain + NORM_SPREAD * noise
        else:
            value = WEIGHT_STD * noise
        with torch.no_grad():
            parameter.copy_(value)


def draw_inputs(case, seed):
    generator = torch.Generator().manual_seed(seed + 1)
    input_ids = torch.randint(0, VOCAB, (BATCH, case.seq_len), generator=generator)
    # The ids that could be special (padding, start, end) stand in the middle and must not be.
    input_ids[0, 5:8] = torch.tensor([1, 2, 0])
    input_ids[1, -3:] = torch.tensor([2, 1, 1])
    return input_ids


def load_float32(directory, **config_overrides):
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", **config_overrides)
    return model.eval()


@torch.no_grad()
def compute_logits(model, input_ids):
    logits = model(input_ids=input_ids, use_cache=False).logits
    assert logits.dtype == torch.float32 and logits.shape == (*input_ids.shape, VOCAB)
    return logits


def rewrite_config_in_old_style(path):
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.43.0"
    del config["head_dim"]  # left to hidden_size / num_attention_heads
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def sort_metadata(blob):
    """Order the metadata of a safetensors file: the library writes it in the order of a hash map."""
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8:8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + blob[8 + length:]


def write_case(case, out, base_seed):
    seed = case_seed(case.weights_of or case.name, base_seed)
    directory = out / case.name
    shutil.rmtree(directory, ignore_errors=True)

    model = AutoModelForCausalLM.from_config(case.config, attn_implementation="eager")
    randomise(model, seed)
    model.to(case.dtype)
    shards = {} if case.shard_size is None else {"max_shard_size": case.shard_size}
    model.save_pretrained(directory, **shards)
    (directory / "generation_config.json").unlink(missing_ok=True)

    # Logits come from the files, so that they see the rounding of 16-bit weights.
    input_ids = draw_inputs(case, seed)
    logits = compute_logits(load_float32(directory), input_ids)
    if case.old_config:
        rewrite_config_in_old_style(directory / "config.json")

    blob = save({"input_ids": input_ids, "logits": logits}, metadata={
        "case": case.name,
        "seed": str(seed),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    })
    (directory / "golden.safetensors").write_bytes(sort_metadata(blob))


def check_llama3_bands(model):
    """All three bands of the llama3 frequency interpolation have to be populated."""
    rope = model.config.rope_parameters
    exponents = torch.arange(0, model.config.head_dim, 2) / model.config.head_dim
    wavelengths = 2 * math.pi * rope["rope_theta"] ** exponents
    original = rope["original_max_position_embeddings"]
    kept = wavelengths < original / rope["high_freq_factor"]
    divided = wavelengths > original / rope["low_freq_factor"]
    counts = (kept.sum().item(), (~kept & ~divided).sum().item(), divided.sum().item())
    assert min(counts) > 0, f"an empty llama3 band: {counts}"


def check_case(case, out):
    """Reload a written case and compare. Returns the case's line for the report."""
    directory = out / case.name
    golden = load_file(directory / "golden.safetensors")
    input_ids, logits = golden["input_ids"], golden["logits"]
    largest = logits.abs().max().item()
    model = load_float32(directory)

    again = compute_logits(model, input_ids)
    assert torch.equal(again, logits), f"{case.name}: reloading gives other logits"
    assert torch.isfinite(logits).all()

    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        check_llama3_bands(model)
        assert case.seq_len > rope["original_max_position_embeddings"]

    # Getting a config value wrong or leaving a parameter out has to show far above the tolerance.
    for attribute, value in case.must_matter.items():
        other = compute_logits(load_float32(directory, **{attribute: value}), input_ids)
        change = (other - logits).abs().max().item() / largest
        assert change > case.must_matter_by, f"{case.name}: {attribute} changes the logits by only {change:.1e}"
    inert = INERT_PARAMETERS.get(model.config.model_type, ())
    for name, parameter in model.named_parameters():
        if name.endswith(inert):
            continue
        with torch.no_grad():
            kept = parameter.clone()
            parameter.zero_()
            change = (compute_logits(model, input_ids) - logits).abs().max().item() / largest
            parameter.copy_(kept)
        assert change > MUST_CHANGE, f"{case.name}: {name} changes the logits by only {change:.1e}"

    # float64 shows how far rounding alone moves float32 logits.
    exact = model.double()(input_ids=input_ids, use_cache=False).logits
    rounding = (exact - logits).abs().max().item() / largest
    assert rounding < 1e-5, f"{case.name}: rounding alone moves the logits by {rounding:.1e}"

    size = sum(path.stat().st_size for path in directory.iterdir())
    assert size < 200_000, f"{case.name}: {size} bytes"
    shards = len(list(directory.glob("model*.safetensors")))
    assert case.shard_size is None or shards >= 3
    return (f"{case.name:20} {size:7} bytes  {shards} file(s)  T {input_ids.shape[1]}  "
            f"largest |logit| {largest:5.2f}  std {logits.std().item():.2f}  rounding {rounding:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory that gets one directory per case")
    parser.add_argument("--seed", type=int, default=0, help="base of the seeds (default 0)")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases only")
    parser.add_argument("--check", action="store_true", help="write nothing, only check what is there")
    args = parser.parse_args()

    # One thread, so that sums are taken in the same order on every machine.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()

    cases = all_cases()
    if args.only:
        unknown = set(args.only) - {case.name for case in cases}
        if unknown:
            sys.exit(f"no such case: {', '.join(sorted(unknown))}")
        cases = [case for case in cases if case.name in args.only]
    for case in cases:
        if not args.check:
            write_case(case, args.out, args.seed)
        print(check_case(case, args.out))


if __name__ == "__main__":
    main()
