#!/usr/bin/env python3
"""Doubles blocks, sequences and tokens per sequence of a random model in turn, prunes and evaluates it with zprune on the CPU, and
prints by how much each stage's time grows. Needs only Python's standard library.

    python tools/check_growth.py --rounds 3

Sizes take turns within a round, so that a machine that slows down slows all of them; medians over rounds are compared. Attention is
part of the passes: per token it grows with the tokens of a sequence, everything else does not.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

BASE = {"layers": 8, "sequences": 8, "length": 256}
STAGES = ("passes over calibration text", "pruning", "evaluation")

EXPERIMENT = """
name = "growth"
[[model]]
name = "random"
path = "{model}"
[calibration]
tokens = "{model}/windows.safetensors"
sequences = {sequences}
length = {length}
[sweep]
seeds = [0]
patterns = [{{ sparsity = 0.5 }}]
[[method]]
{method}
[[evaluation]]
name = "same"
tokens = "{model}/windows.safetensors"
length = {length}
"""

METHODS = {"z-pruner": 'criterion = "z-pruner"', "sparsegpt": 'name = "sparsegpt"\ncriterion = "obs"\nsolver = "obs"'}


def quietly(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(zprune, folder, size, method):
    """Seconds of each stage of the pruned cell."""
    experiment = folder / "growth.toml"
    experiment.write_text(EXPERIMENT.format(model=folder / "model", method=METHODS[method], **size))
    with tempfile.TemporaryDirectory() as results:
        quietly([zprune, "run", str(experiment), "--results", results, "--backend", "cpu"])
        [records] = Path(results).rglob("runs.jsonl")
        lines = [json.loads(line) for line in records.read_text().splitlines()]
    [run] = [record["run"] for record in lines if record["label"]["method"] == method]
    passes, pruning = run["calibrate_seconds"], run["prune_seconds"]
    return passes, pruning, run["total_seconds"] - passes - pruning


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zprune", default="target/release/zprune")
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = {"base": BASE} | {f"twice the {name}": BASE | {name: 2 * BASE[name]} for name in BASE}
    times = {(name, method): [] for name in sizes for method in METHODS}
    with tempfile.TemporaryDirectory() as scratch:
        for name, size in sizes.items():
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            numbers = [part for key, value in size.items() for part in (f"--{key}", str(value))]
            quietly([options.zprune, "bench", "--shape", options.shape, *numbers, "--write", str(folder / "model")])
        for _ in range(options.rounds):
            for name, size in sizes.items():
                for method in METHODS:
                    folder = Path(scratch) / name.replace(" ", "-")
                    times[name, method].append(seconds(options.zprune, folder, size, method))
    print("| method | stage | seconds | " + " | ".join(name for name in sizes if name != "base") + " |")
    print("|---|---|" + "---:|" * len(sizes))
    for method in METHODS:
        for stage, label in enumerate(STAGES):
            median = {name: statistics.median(run[stage] for run in times[name, method]) for name in sizes}
            ratios = " | ".join(f"{median[name] / median['base']:.2f}" for name in sizes if name != "base")
            print(f"| {method} | {label} | {median['base']:.2f} | {ratios} |")


if __name__ == "__main__":
    main()
