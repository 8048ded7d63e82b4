#!/usr/bin/env python3
"""Times scoring, selecting and zeroing one 4096 x 11008 layer on the CPU with zprune (`cargo bench -- prune_layer`) and with
PyTorch's torch.sort as the papers' code does it, in turn, and prints medians and ratios. Needs torch and cargo.

    python tools/compare_selection.py --rounds 3
"""

import argparse
import os
import re
import statistics
import subprocess
import time

import torch
from bench_torch import wanda, z_pruner

SIZE = (4096, 11008)
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}


def magnitude_2_4(w, _norms, _sparsity):
    score = w.abs()
    mask = torch.zeros_like(score, dtype=torch.bool)
    for first in range(0, w.shape[1], 4):
        lowest = torch.topk(score[:, first : first + 4], 2, dim=1, largest=False)[1]
        mask.scatter_(1, first + lowest, True)
    w[mask] = 0


METHODS = {"wanda": wanda, "z-pruner": z_pruner, "magnitude 2:4": magnitude_2_4}


def zprune_side():
    """Median seconds by method, from divan's table: name, fastest, slowest, median, mean."""
    command = ["cargo", "bench", "--bench", "operations", "--", "prune_layer"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for method in METHODS:
        [times] = re.findall(rf"{re.escape(method)}\s+([\d.]+ \S+)\s+│\s+([\d.]+ \S+)\s+│\s+([\d.]+ \S+)", text)
        value, unit = times[2].split()
        found[method] = float(value) * SECONDS[unit]
    return found


@torch.no_grad()
def torch_side(weight, norms):
    found = {}
    for name, method in METHODS.items():
        times = []
        for _ in range(3):
            w = weight.clone()
            start = time.perf_counter()
            method(w, norms, 0.5)
            times.append(time.perf_counter() - start)
        found[name] = statistics.median(times)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    weight, norms = torch.rand(SIZE) * 2 - 1, torch.rand(SIZE[1])
    rounds = [(torch_side(weight, norms), zprune_side()) for _ in range(options.rounds)]
    for method in METHODS:
        theirs, ours = ([side[i][method] for side in rounds] for i in (0, 1))
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        print(f"{method:14} PyTorch {statistics.median(theirs):7.3f} s  zprune {statistics.median(ours):7.3f} s  ratio "
              f"{statistics.median(ratios):.1f} (rounds: {', '.join(f'{r:.1f}' for r in ratios)})")


if __name__ == "__main__":
    main()
