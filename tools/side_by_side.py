"""What the programs compare_*.py share: layers to prune, times of `cargo bench`, and rounds of PyTorch and zprune in turn."""

import argparse
import os
import re
import statistics
import subprocess
import time

import torch

SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}


def uniform(*shape):
    return torch.rand(*shape) * 2 - 1


def layer(rows, inputs):
    """Weights and inputs that share what they say, of unequal size, like those of `correlated` in benches/operations.rs."""
    x = uniform(2 * inputs, 32) @ uniform(32, inputs) + uniform(2 * inputs, inputs)
    x[:, ::97] *= 10
    return uniform(rows, inputs), x


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def zprune_side(group, names):
    """Median seconds by name, from divan's table: name, fastest, slowest, median, mean."""
    command = ["cargo", "bench", "--bench", "operations", "--", group]
    # Freed memory is kept for the next operation, as the program keeps it (src/main.rs).
    memory = {"MIMALLOC_PURGE_DELAY": "1000", "MIMALLOC_ALLOW_LARGE_OS_PAGES": "1"}
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | memory).stdout
    found = {}
    for name in names:
        column = r"\s+([\d.]+ \S+)\s+│"
        [times] = re.findall(rf"[ \"]{re.escape(name)}(?:\".*?\))?{3 * column}", text)
        value, unit = times[2].split()
        found[name] = float(value) * SECONDS[unit]
    return found


def compare(description, group, methods, torch_side, rounds=3):
    """Prints the median seconds of both sides and their ratio for every method, as many rounds as the command line says."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--only", nargs="+", choices=list(methods), default=list(methods), help="some of the methods")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    with torch.no_grad():
        taken = []
        for _ in range(options.rounds):
            theirs = {name: torch_side(methods[name]) for name in options.only}
            taken.append((theirs, zprune_side(group, options.only)))
    width = max(map(len, options.only))
    for name in options.only:
        theirs, ours = ([side[i][name] for side in taken] for i in (0, 1))
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        print(f"{name:{width}} PyTorch {statistics.median(theirs):8.3f} s  zprune {statistics.median(ours):8.3f} s  ratio "
              f"{statistics.median(ratios):.1f} (rounds: {', '.join(f'{r:.1f}' for r in ratios)})")
    print("load", " ".join(f"{load:.1f}" for load in os.getloadavg()))
