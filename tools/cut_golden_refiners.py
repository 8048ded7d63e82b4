"""Cuts from the reference values of an independent implementation what tests/golden_layers/refiners.rs compares with.

    python tools/cut_golden_refiners.py layers2.safetensors layers.safetensors tests/golden/recipes/refiners.safetensors [CASE ...]

`layers2.safetensors` and `layers.safetensors` are the files that the project's shared folder has under golden/. Masks are
packed, eight entries to a byte, the first in the lowest bit. Weights and Hessians of the cases that
tests/golden/layers.safetensors has are not copied.
"""

import sys

import numpy as np
from safetensors.numpy import load_file, save_file

METHODS = ["wanda", "sparseswaps", "magnitude_sparseswaps", "dsnot", "sparsefw"]
PATTERNS = ["50", "70", "keep2of4"]
THERE = ["real", "dead", "gauss"]


def main():
    recipes, layers, out = sys.argv[1:4]
    cases = sys.argv[4:] or THERE + ["gqa"]
    recipes, layers = load_file(recipes), load_file(layers)
    cut = {}
    for case in cases:
        for name in ["sum_mean", "var", "n_seq"] + ([] if case in THERE else ["weight", "hessian", "sq_norm"]):
            cut[f"{case}.{name}"] = recipes[f"{case}.{name}"]
        tokens = recipes[f"{case}.x"] if f"{case}.x" in recipes else layers.get(f"{case}.x", layers["real.x"])
        cut[f"{case}.tokens"] = np.array([len(tokens)], dtype=np.int32)
        for method in METHODS:
            for pattern in PATTERNS:
                key = f"{case}.{method}.{pattern}"
                mask = recipes[f"{key}.pruned"]
                cut[f"{key}.pruned"] = np.packbits(mask, axis=1, bitorder="little")
                cut[f"{key}.objective"] = recipes[f"{key}.objective"]
                for extra in ["swaps", "relaxed"]:
                    if f"{key}.{extra}" in recipes:
                        cut[f"{key}.{extra}"] = recipes[f"{key}.{extra}"]
    save_file(cut, out)


if __name__ == "__main__":
    main()
