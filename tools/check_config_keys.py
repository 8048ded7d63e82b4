"""Score tiny models under every key of every family's configuration, as transformers reads them.

    python tools/check_config_keys.py --out tests/golden/configurations.json

For each family: every key of its configuration class, and every key that another family or an older version of
transformers knows, each absent, null and at other values; old and new spellings together; rotary settings in all their
places; and random configurations. Every one is written as a config.json, read by transformers, and scored with weights
that are a formula of their name, so that tests/golden_logits/configurations.rs computes the same without any weights
being stored. Models that are too large to score (a size is left to its default) are held by their counts.

`--list` prints what transformers itself refuses. Needs transformers and torch (versions: see the output).
"""

import argparse
import dataclasses
import itertools
import json
import random
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

WINDOWS, LENGTH, VOCAB = 2, 24, 64
LARGEST_SCORED = 2_000_000  # parameters

LLAMA = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             max_position_embeddings=40)
GEMMA = LLAMA | dict(num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8, sliding_window=7)
BASES = {
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "gpt2": dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=40),
    "gpt_neox": LLAMA | dict(num_attention_heads=2),
    "llama": LLAMA,
    "mistral": LLAMA | dict(num_key_value_heads=2, sliding_window=7),
    "opt": dict(vocab_size=VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=40),
    "qwen2": LLAMA | dict(num_key_value_heads=2),
    "qwen3": LLAMA | dict(num_key_value_heads=2, head_dim=12),
}
ROTARY = [family for family in BASES if family not in ("gpt2", "opt")]

# Values to try, for keys whose default does not say what others make sense. Any family gets them all.
LAYERS = ["full_attention", "sliding_attention", "full_attention"]
VALUES = {
    "hidden_act": ["relu", "gelu", "gelu_new", "swish"],
    "hidden_activation": ["relu", "gelu", "silu"],
    "activation_function": ["relu", "gelu", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_python_tanh"],
    "vocab_size": [96],
    "hidden_size": [48, 64], "n_embd": [48],
    "intermediate_size": [40], "ffn_dim": [40], "n_inner": [40],
    "num_hidden_layers": [2], "n_layer": [3],
    "num_attention_heads": [2, 8], "n_head": [2],
    "num_key_value_heads": [1, 2, 4],
    "head_dim": [16, 20], "word_embed_proj_dim": [16, 32],
    "max_position_embeddings": [64, 512], "n_positions": [64], "n_ctx": [64],
    "sliding_window": [5, 6, 1000], "max_window_layers": [0, 1, 2, 28], "use_sliding_window": [True, False],
    "sliding_window_pattern": [1, 2, 3], "_sliding_window_pattern": [2],
    "layer_types": [LAYERS, ["sliding_attention"] * 3, ["full_attention"] * 3],
    "rms_norm_eps": [1e-2], "layer_norm_eps": [1e-2], "layer_norm_epsilon": [1e-2],
    "query_pre_attn_scalar": [16, 20], "attn_logit_softcapping": [0.5, 2.0], "final_logit_softcapping": [2.0],
    "rope_theta": [100.0, 500], "rotary_emb_base": [100], "rope_local_base_freq": [50.0],
    "rotary_pct": [0.5, 1.0], "partial_rotary_factor": [0.5, 1.0],
    "original_max_position_embeddings": [16],
    "rope_parameters": [], "rope_scaling": [],  # below, together
    "tie_word_embeddings": [True, False],
    "attention_bias": [True, False], "mlp_bias": [True, False], "enable_bias": [True, False],
    "layer_norm_elementwise_affine": [True, False], "do_layer_norm_before": [True, False],
    "_remove_final_layer_norm": [True, False], "use_parallel_residual": [True, False],
    "scale_attn_weights": [True, False], "scale_attn_by_inverse_layer_idx": [True, False],
    "reorder_and_upcast_attn": [True, False],
    "use_bidirectional_attention": [True, False], "is_causal": [True, False],
    # What changes nothing, all the same.
    "initializer_range": [0.3], "init_std": [0.3], "use_cache": [False], "pretraining_tp": [1, 2],
    "attention_dropout": [0.5], "hidden_dropout": [0.5], "dropout": [0.5], "layerdrop": [0.5], "resid_pdrop": [0.5],
    "embd_pdrop": [0.5], "attn_pdrop": [0.5], "classifier_dropout": [0.5], "summary_type": ["mean"],
    "pad_token_id": [5, -1], "bos_token_id": [5], "eos_token_id": [5, [5, 6]], "is_decoder": [True],
    "torch_dtype": ["bfloat16"], "dtype": ["bfloat16"], "num_labels": [3], "id2label": [{"0": "a"}],
    "chunk_size_feed_forward": [2], "output_hidden_states": [True], "return_dict": [True],
}
# Keys that old versions wrote, or that others read under another name.
LEGACY = ["rope_theta", "rope_scaling", "rope_parameters", "rotary_emb_base", "rotary_pct", "partial_rotary_factor",
          "rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern", "hidden_act", "is_causal",
          "original_max_position_embeddings", "torch_dtype", "n_ctx", "num_labels"]

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
SCALINGS = [
    None, {}, dict(rope_type="default"), dict(rope_theta=300.0), dict(type="linear", factor=4.0),
    dict(rope_type="linear", factor=4, rope_theta=300.0), dict(type="default", rope_type="linear", factor=4.0),
    LLAMA3, LLAMA3 | dict(original_max_position_embeddings=16),
    LLAMA3 | dict(original_max_position_embeddings=16, rope_theta=300.0, type="llama3"),
    dict(rope_type="default", partial_rotary_factor=0.5), dict(rope_type="linear", factor=2.0, attention_factor=0.7),
]
NESTED = [
    dict(full_attention=dict(rope_type="default", rope_theta=300.0), sliding_attention=dict(rope_type="default", rope_theta=50.0)),
    dict(full_attention=dict(rope_type="linear", factor=4.0), sliding_attention=dict(rope_type="default")),
    dict(full_attention=LLAMA3, sliding_attention=dict(type="linear", factor=2.0)),
    dict(full_attention=dict(rope_theta=300.0)), dict(sliding_attention=dict(rope_theta=300.0)),
    dict(full_attention=None, sliding_attention=dict(rope_theta=300.0)), dict(full_attention={}, sliding_attention={}),
]
ABSENT = object()


def changes(family):
    """Changes of the family's base: keys with their values, ABSENT for a key that is left out."""
    yield {}
    keys = set(LEGACY)
    for name in BASES:
        keys |= {field.name for field in dataclasses.fields(CONFIG_MAPPING[name])}
        keys |= set(CONFIG_MAPPING[name].attribute_map)
    unknown = keys - set(VALUES) - {
        "transformers_version", "architectures", "label2id", "problem_type", "is_encoder_decoder", "summary_use_proj",
        "summary_activation", "summary_proj_to_labels", "summary_first_dropout", "add_cross_attention"}
    assert not unknown, f"give values of {unknown}"
    for key in sorted(keys & set(VALUES)):
        if key in BASES[family]:
            yield {key: ABSENT}
        yield {key: None}
        for value in VALUES[key]:
            yield {key: value}
    # Keys that are read together.
    for pair in itertools.product([1, 2], [None, 4, ABSENT], [20, None, ABSENT]):
        if "num_attention_heads" in BASES[family]:
            yield dict(zip(["num_attention_heads", "num_key_value_heads", "head_dim"], [4 * pair[0], *pair[1:]]))
    if family in ("qwen2", "qwen3"):
        for on, window, first, kinds in itertools.product(
                [True, False], [5, None, ABSENT], [0, 2, ABSENT], [ABSENT, LAYERS]):
            yield dict(use_sliding_window=on, sliding_window=window, max_window_layers=first, layer_types=kinds)
    if family in ("mistral", "gemma2", "gemma3_text", "llama"):
        for window, kinds in itertools.product([5, None, ABSENT], [ABSENT, None, LAYERS, ["sliding_attention"] * 3]):
            yield dict(sliding_window=window, layer_types=kinds)
    if family == "gemma3_text":
        for old, new, kinds in itertools.product([2, ABSENT], [3, ABSENT], [ABSENT, LAYERS]):
            yield dict(sliding_window_pattern=old, _sliding_window_pattern=new, layer_types=kinds)
        for act, activation in itertools.product(["relu", ABSENT], ["silu", None, ABSENT]):
            yield dict(hidden_act=act, hidden_activation=activation)
        for base, local, scaling, parameters in itertools.product(
                [500.0, ABSENT], [20.0, ABSENT], [ABSENT, *SCALINGS], [ABSENT, NESTED[0], NESTED[3]]):
            yield dict(rope_theta=base, rope_local_base_freq=local, rope_scaling=scaling, rope_parameters=parameters,
                       layer_types=LAYERS)
        for scaling, parameters in itertools.product([ABSENT, LLAMA3], [*SCALINGS, *NESTED]):
            yield dict(rope_scaling=scaling, rope_parameters=parameters, layer_types=LAYERS)
    elif family in ROTARY:
        for theta, scaling, parameters in itertools.product([500.0, ABSENT], [ABSENT, *SCALINGS], [ABSENT, *SCALINGS]):
            change = dict(rope_theta=theta, rope_scaling=scaling, rope_parameters=parameters)
            if sum(value is not ABSENT for value in change.values()) < 3 or random.random() < 0.25:
                yield change
        for parameters, kinds in itertools.product(NESTED, [ABSENT, LAYERS]):
            yield dict(rope_parameters=parameters, layer_types=kinds)
        for scaling, original in itertools.product(SCALINGS[7:10], [16, 32]):
            yield dict(rope_scaling=scaling, original_max_position_embeddings=original)
    if family == "gpt_neox":
        for base, theta, pct, factor, parameters in itertools.product(
                [100, ABSENT], [500, None, ABSENT], [0.5, ABSENT], [0.5, 0.25, ABSENT],
                [ABSENT, None, dict(rope_type="default"), dict(rope_theta=300.0, rope_type="default", partial_rotary_factor=1.0)]):
            yield dict(rotary_emb_base=base, rope_theta=theta, rotary_pct=pct, partial_rotary_factor=factor,
                       rope_parameters=parameters, rope_scaling=None)
        for pct in [0.3, 0.45, 0.7]:  # an odd number of features, rounded up
            yield dict(rotary_pct=pct)
    if family == "gpt2":
        for key, alias in CONFIG_MAPPING["gpt2"].attribute_map.items():
            yield {alias: ABSENT, key: BASES["gpt2"][alias]}
            yield {key: VALUES[alias][0]}
    for _ in range(30):
        yield chance(family)


def chance(family):
    """A random configuration that a model could have."""
    pick = random.choice
    heads = pick([1, 2, 3, 4, 6])
    width = heads * pick([8, 12, 16])
    if family == "gpt2":
        return dict(n_embd=width, n_head=heads, n_layer=pick([1, 2, 4]), n_inner=pick([None, 20, 50]), n_positions=pick([24, 33]),
                    activation_function=pick(VALUES["activation_function"]), layer_norm_epsilon=pick([1e-5, 1e-3]),
                    tie_word_embeddings=pick([True, False]), vocab_size=pick([64, 99]))
    change = dict(hidden_size=width, num_attention_heads=heads, num_hidden_layers=pick([1, 2, 5]), vocab_size=pick([64, 99]),
                  max_position_embeddings=pick([24, 33, 100]), tie_word_embeddings=pick([True, False, ABSENT]))
    if family == "opt":
        return change | dict(ffn_dim=pick([20, 50]), word_embed_proj_dim=pick([ABSENT, 8, width]),
                             do_layer_norm_before=pick([True, False]), enable_bias=pick([True, False]),
                             layer_norm_elementwise_affine=pick([True, False]), _remove_final_layer_norm=pick([True, False]),
                             activation_function=pick(VALUES["activation_function"]))
    change |= dict(intermediate_size=pick([20, 50]))
    if family == "gpt_neox":
        return change | dict(rotary_pct=pick([0.25, 0.5, 1.0, ABSENT]), rotary_emb_base=pick([100, ABSENT]),
                             use_parallel_residual=pick([True, False]), attention_bias=pick([True, False]),
                             hidden_act=pick(VALUES["hidden_act"]), layer_norm_eps=pick([1e-5, 1e-3]),
                             rope_scaling=pick([ABSENT, None, SCALINGS[4], SCALINGS[7]]))
    change |= dict(num_key_value_heads=pick([n for n in (1, 2, 3) if heads % n == 0]), head_dim=pick([6, 8, 14]),
                   rms_norm_eps=pick([1e-6, 1e-3]))
    if family != "gemma3_text":
        change |= dict(rope_theta=pick([50.0, 1e6, ABSENT]), rope_scaling=pick([ABSENT, None, *SCALINGS[4:10]]))
    if family.startswith("gemma"):
        change |= dict(hidden_activation=pick(VALUES["hidden_activation"]), query_pre_attn_scalar=pick([6, 16, 100]),
                       attention_bias=pick([True, False]), sliding_window=pick([3, 9, 50]),
                       final_logit_softcapping=pick([1.0, None, ABSENT]), attn_logit_softcapping=pick([1.0, None, ABSENT]))
        if family == "gemma3_text":
            change |= dict(rope_theta=pick([500.0, ABSENT]), rope_local_base_freq=pick([20.0, ABSENT]),
                           rope_scaling=pick([ABSENT, None, SCALINGS[4]]), sliding_window_pattern=pick([2, 3, 6, ABSENT]))
        return change
    change |= dict(hidden_act=pick(VALUES["hidden_act"]))
    if family in ("llama", "qwen3"):
        change |= dict(attention_bias=pick([True, False]))
    if family == "llama":
        return change | dict(mlp_bias=pick([True, False]))
    change |= dict(sliding_window=pick([3, 9, 50, None, ABSENT]))
    if family.startswith("qwen"):
        change |= dict(use_sliding_window=pick([True, False, ABSENT]), max_window_layers=pick([0, 1, 3, ABSENT]))
    return change


def values(name, count):
    """`count` numbers between -1 and 1, in steps of 1 / 32768: what the test computes from the same formula."""
    x = np.uint32(zlib.crc32(name.encode())) + np.uint32(2654435761) * np.arange(count, dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return ((x >> np.uint32(16)).astype(np.float32) - 32768) / 32768


def fill(model, family):
    for name, parameter in model.named_parameters():
        if family == "gpt_neox" and name == "lm_head.weight":
            name = "embed_out.weight"  # as it is stored
        x = torch.from_numpy(values(name, parameter.numel()).copy()).reshape(parameter.shape)
        if name.endswith(".bias"):
            x = x / 4
        elif parameter.dim() == 1:
            x = x / 2 + (0 if family.startswith("gemma") else 1)
        else:
            x = x / 2
        with torch.no_grad():
            parameter.copy_(x)


@torch.no_grad()
def answer(family, config):
    """What transformers makes of a configuration."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        read = AutoConfig.from_pretrained(folder)
    found = {"positions": read.max_position_embeddings}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read, attn_implementation="eager", dtype=torch.float32)
    sizes = [parameter.numel() for parameter in model.parameters()]
    if sum(sizes) > LARGEST_SCORED:
        return found | {"parameters": sum(sizes), "tensors": len(sizes)}
    model = AutoModelForCausalLM.from_config(read, attn_implementation="eager", dtype=torch.float32).eval()
    fill(model, family)
    ids = torch.from_numpy((values("input_ids", WINDOWS * LENGTH) * 32768 + 32768).astype(np.int64) % VOCAB)
    ids = ids.reshape(WINDOWS, LENGTH)
    logits = model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)[:, :-1]
    nll = -logits.gather(-1, ids[:, 1:, None]).squeeze(-1).mean(-1)
    if not torch.isfinite(nll).all():
        raise ValueError("not finite")
    return found | {"nll": [round(value, 8) for value in nll.tolist()]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file for the cases")
    parser.add_argument("--only", nargs="+", metavar="FAMILY", choices=BASES, default=list(BASES))
    parser.add_argument("--seed", type=int, default=0, help="of the random configurations")
    parser.add_argument("--list", action="store_true", help="print what transformers refuses")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()

    families = {}
    for family in args.only:
        random.seed(f"{args.seed} {family}")
        cases, seen, refused = [], set(), 0
        for change in changes(family):
            config = {"model_type": family} | BASES[family]
            for key, value in change.items():
                if value is ABSENT:
                    config.pop(key, None)
                else:
                    config[key] = value
            text = json.dumps(config, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            # Only what differs from the base.
            base = {"model_type": family} | BASES[family]
            case = {"set": {key: value for key, value in config.items() if key not in base or base[key] != value or type(base[key]) != type(value)}}
            if gone := [key for key in base if key not in config]:
                case["without"] = gone
            try:
                cases.append(case | answer(family, config))
            except Exception as error:
                refused += 1
                if args.list:
                    print(f"{family} {case}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
        families[family] = {"base": {"model_type": family} | BASES[family], "cases": cases}
        print(f"{family}: {len(cases)} cases, {refused} that transformers refuses", flush=True)

    head = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0], "windows": WINDOWS,
            "length": LENGTH, "vocabulary": VOCAB}
    lines = []
    for family, content in families.items():
        cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in content["cases"])
        lines.append(f'{json.dumps(family)}: {{"base": {json.dumps(content["base"])}, "cases": [\n{cases}\n]}}')
    args.out.write_text(f'{{"made_by": {json.dumps(head)},\n"families": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
