#!/usr/bin/env python3
"""Write tiny random checkpoints whose blocks have different sizes, with the logits of the class that zprune writes beside them.

Each case becomes a directory with config.json, model.safetensors and golden.safetensors (input_ids, logits), as those of
make_golden_logits.py. The class itself is left out, since `src/model/export/modeling_zprune.py` is it.

    python tools/make_golden_own_sizes.py --out tests/golden/own_sizes

With --check DIRECTORY, one that zprune wrote, nothing is made: transformers loads it with `trust_remote_code=True`, has to use every
tensor, must write the same text with and without a cache, and has to refuse it without `trust_remote_code`. With --against
ANOTHER as well, its logits are compared with those of another directory with the same function, such as its `--pad` twin.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from make_golden_logits import (
    Case,
    case_seed,
    compute_logits,
    draw_inputs,
    gemma2,
    gpt2,
    gpt_neox,
    granite,
    llama,
    mistral,
    opt,
    qwen2,
    randomise,
    sort_metadata,
)
from safetensors.torch import save, save_file
from transformers import AutoConfig, AutoModelForCausalLM

CLASS = Path(__file__).parents[1] / "src/model/export/modeling_zprune.py"
AUTO_MAP = {
    "AutoConfig": "modeling_zprune.BlocksConfig",
    "AutoModelForCausalLM": "modeling_zprune.BlocksForCausalLM",
}
NO_HEADS = {"num_attention_heads": 0, "num_key_value_heads": 0}


def heads(heads, kv_heads, **others):
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads} | others


def cases():
    small = dict(hidden_size=16, head_dim=8, num_hidden_layers=4, intermediate_size=24)
    three = dict(hidden_size=16, num_hidden_layers=3)
    return [
        (llama(**small, tie_word_embeddings=True), "llama",
         {0: heads(2, 2, intermediate_size=20), 1: NO_HEADS, 2: {"intermediate_size": 0}}),
        (mistral(**small, sliding_window=5, tie_word_embeddings=True), "mistral", {1: heads(3, 1), 3: {"intermediate_size": 7}}),
        (qwen2(**small, tie_word_embeddings=True), "qwen2", {1: heads(6, 2), 2: NO_HEADS | {"intermediate_size": 12}}),
        (granite(**small, tie_word_embeddings=True), "granite", {0: heads(2, 1), 2: {"intermediate_size": 9}}),
        (gemma2(**small), "gemma2", {0: heads(3, 1), 1: NO_HEADS, 2: {"intermediate_size": 0}}),
        (gpt2(n_embd=16, n_layer=3, n_inner=32), "gpt2", {1: {"n_inner": 11}, 2: {"n_inner": 0}}),
        (gpt_neox(**three, intermediate_size=32, tie_word_embeddings=True), "gpt_neox",
         {0: {"intermediate_size": 21}, 1: {"intermediate_size": 0}}),
        (opt(**three, ffn_dim=32), "opt", {0: {"ffn_dim": 40}, 2: {"ffn_dim": 5}}),
    ]


def load(directory):
    """The model, as the class builds it."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, trust_remote_code=True, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    left = {kind: names for kind, names in info.items() if names}
    assert not left, f"{directory}: {left}"
    return model.eval()


def write(config, name, sizes, out):
    case = Case(f"own_sizes_{name}", "", config)
    seed = case_seed(case.name, 0)
    said = config.to_dict() | {
        "auto_map": AUTO_MAP,
        "per_layer_config": {str(block): own for block, own in sizes.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
        text = CLASS.read_text().replace('"FAMILY"', f'"{config.model_type}"')
        (folder / CLASS.name).write_text(text)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=True), trust_remote_code=True)
        randomise(model, seed)
        named = {key: value.clone() for key, value in model.state_dict().items() if key != "lm_head.weight"}
        save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
        input_ids = draw_inputs(case, seed)
        model = load(folder)
        logits = compute_logits(model, input_ids)
        check_cache(model, name)
        target = out / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in ["config.json", "model.safetensors"]:
            shutil.copy(folder / file, target)
    blob = save({"input_ids": input_ids, "logits": logits}, metadata={
        "case": case.name,
        "seed": str(seed),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    })
    (target / "golden.safetensors").write_bytes(sort_metadata(blob))
    print(f"{name}: largest |logit| {logits.abs().max():.2f}")


def check_cache(model, name):
    start = torch.arange(8)[None] * 7 % model.config.vocab_size
    written = [
        model.generate(start, max_new_tokens=8, do_sample=False, use_cache=cache, eos_token_id=None)
        for cache in (True, False)
    ]
    assert torch.equal(*written), f"{name}: another text with a cache"


def check(directory, against):
    model = load(directory)
    check_cache(model, directory)
    try:
        AutoModelForCausalLM.from_pretrained(directory)
    except Exception as error:
        print(f"{directory}: without trust_remote_code: {type(error).__name__}")
    else:
        raise SystemExit(f"{directory}: transformers loads it without trust_remote_code")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{directory}: {count} parameters")
    if against:
        ids = torch.arange(48).reshape(2, 24) * 37 % model.config.vocab_size
        other = AutoModelForCausalLM.from_pretrained(against, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            ours, theirs = (it(ids, use_cache=False).logits for it in (model, other))
        apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        print(f"{directory}: logits differ by {apart:.1e} of the largest from those of {against}")
        assert apart < 1e-4


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--out", type=Path, help="directory that gets one directory per case")
    p.add_argument("--check", type=Path, metavar="DIRECTORY")
    p.add_argument("--against", type=Path, metavar="DIRECTORY")
    a = p.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if a.check:
        check(a.check, a.against)
    else:
        for config, name, sizes in cases():
            write(config, name, sizes, a.out)


if __name__ == "__main__":
    main()
