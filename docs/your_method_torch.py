#!/usr/bin/env python3
"""Scores and masks of your own in PyTorch, as `your_method.py` makes them with numpy. For models in bfloat16, which numpy does not have.

Usage: your_method_torch.py MODEL STATISTICS SEED; writes scores-SEED.safetensors, mask-0.5-SEED.safetensors and mask-2-4-SEED.safetensors.
Needs PyTorch and safetensors.
"""
import sys
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

model, path, seed = sys.argv[1:]
weights = load_file(f"{model}/model.safetensors")
statistics = load_file(path)
# Says for which model the files are, so that zprune takes them for no other.
made_for = {"model_weights_sha256": safe_open(path, "pt").metadata()["model_weights_sha256"]}


def score(weight, x2, mean, variance):
    """Your idea goes here: the importance of each weight. This one is Wanda's, with sizes as a part of those of the same input."""
    size = weight.abs() / weight.abs().mean(dim=0, keepdim=True)
    return size * x2.sqrt()


def half_of_each_row(scores):
    lowest = scores.argsort(dim=1, stable=True)[:, : scores.shape[1] // 2]
    return torch.ones_like(scores, dtype=torch.bool).scatter(1, lowest, False)


def two_of_four(scores):
    groups = scores.reshape(-1, 4)
    lowest = groups.argsort(dim=1, stable=True)[:, :2]
    return torch.ones_like(groups, dtype=torch.bool).scatter(1, lowest, False).reshape(scores.shape)


layers = [name.removesuffix(".input_squares") for name in statistics if name.endswith(".input_squares")]
scores = {}
for layer in layers:
    found = [statistics[f"{layer}.{what}"] for what in ("input_squares", "input_means", "input_variances")]
    scores[f"{layer}.weight"] = score(weights[f"{layer}.weight"].float(), *found).float()
save_file(scores, f"scores-{seed}.safetensors", made_for)
save_file({name: half_of_each_row(of) for name, of in scores.items()}, f"mask-0.5-{seed}.safetensors", made_for)
save_file({name: two_of_four(of) for name, of in scores.items()}, f"mask-2-4-{seed}.safetensors", made_for)
