#!/usr/bin/env python3
"""Scores and masks of your own, from the statistics that `zprune export-statistics` writes.

Usage: your_method.py MODEL STATISTICS SEED; writes scores-SEED.safetensors, mask-0.5-SEED.safetensors and mask-2-4-SEED.safetensors.
Needs numpy and safetensors. `your_method_torch.py` is the same in PyTorch.
"""
import sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

model, path, seed = sys.argv[1:]
weights = load_file(f"{model}/model.safetensors")
statistics = load_file(path)
# Says for which model the files are, so that zprune takes them for no other.
made_for = {"model_weights_sha256": safe_open(path, "numpy").metadata()["model_weights_sha256"]}


def score(weight, x2, mean, variance):
    """Your idea goes here: the importance of each weight. This one is Wanda's, with sizes as a part of those of the same input."""
    size = np.abs(weight) / np.abs(weight).mean(axis=0, keepdims=True)
    return size * np.sqrt(x2)


def half_of_each_row(scores):
    kept = np.ones(scores.shape, bool)
    lowest = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
    np.put_along_axis(kept, lowest, False, axis=1)
    return kept


def two_of_four(scores):
    groups = scores.reshape(-1, 4)
    kept = np.ones(groups.shape, bool)
    np.put_along_axis(kept, np.argsort(groups, axis=1, kind="stable")[:, :2], False, axis=1)
    return kept.reshape(scores.shape)


layers = [name.removesuffix(".input_squares") for name in statistics if name.endswith(".input_squares")]
scores = {}
for layer in layers:
    found = [statistics[f"{layer}.{what}"] for what in ("input_squares", "input_means", "input_variances")]
    scores[f"{layer}.weight"] = score(weights[f"{layer}.weight"].astype("float32"), *found).astype("float32")
save_file(scores, f"scores-{seed}.safetensors", made_for)
save_file({name: half_of_each_row(of) for name, of in scores.items()}, f"mask-0.5-{seed}.safetensors", made_for)
save_file({name: two_of_four(of) for name, of in scores.items()}, f"mask-2-4-{seed}.safetensors", made_for)
