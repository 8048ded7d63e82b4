#!/usr/bin/env python3
"""Times scoring, selecting and zeroing one 4096 x 11008 layer on the CPU with zprune (`cargo bench -- prune_layer`) and with
PyTorch's torch.sort as the papers' code does it, in turn, and prints medians and ratios. Needs torch and cargo.

    python tools/compare_selection.py --rounds 3
"""

import statistics

import torch
from bench_torch import wanda, z_pruner
from side_by_side import compare, seconds, uniform

SIZE = (4096, 11008)


def magnitude_2_4(w, _norms, _sparsity):
    score = w.abs()
    mask = torch.zeros_like(score, dtype=torch.bool)
    for first in range(0, w.shape[1], 4):
        lowest = torch.topk(score[:, first : first + 4], 2, dim=1, largest=False)[1]
        mask.scatter_(1, first + lowest, True)
    w[mask] = 0


METHODS = {"wanda": wanda, "z-pruner": z_pruner, "magnitude 2:4": magnitude_2_4}


def main():
    torch.manual_seed(0)
    weight, norms = uniform(*SIZE), torch.rand(SIZE[1])

    def once(method):
        fresh = weight.clone()
        return seconds(lambda: method(fresh, norms, 0.5))

    compare(__doc__, "prune_layer", METHODS, lambda method: statistics.median(once(method) for _ in range(3)))


if __name__ == "__main__":
    main()
