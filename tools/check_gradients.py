#!/usr/bin/env python3
"""Compare gradients of the loss that `zprune export-statistics --gradients` writes with PyTorch's autograd in double precision.

    python tools/check_gradients.py --zprune target/release/zprune tests/golden/logits/* tests/golden/gradients/*

Each model is given four windows of 12 random tokens, once for each way of adding up (`mean`, `l2`, `l1`).
Exits with 1 if an entry differs by more than --tolerance of the largest of its matrix. Needs torch, transformers, NumPy, safetensors.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

ADDED = {
    "mean": lambda all_of: all_of.mean(0),
    "l2": lambda all_of: (all_of**2).sum(0).sqrt(),
    "l1": lambda all_of: all_of.abs().sum(0),
}


def of_sequences(folder, windows):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    found = []
    for window in windows:
        model.zero_grad()
        tokens = torch.tensor(window[None])
        model(tokens, labels=tokens).loss.backward()
        found.append({name: it.grad.clone() for name, it in model.named_parameters() if it.grad is not None})
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", type=Path, nargs="+")
    p.add_argument("--zprune", required=True)
    p.add_argument("--tolerance", type=float, default=1e-4)
    a = p.parse_args()
    faults, worst, count = [], 0.0, 0
    random = numpy.random.default_rng(0)
    for folder in a.models:
        if not list(folder.glob("*.safetensors")):
            continue
        # All tiny checkpoints have these tokens.
        windows = random.integers(0, 96, size=(4, 12))
        sequences = of_sequences(folder, windows)
        count += 1
        with tempfile.TemporaryDirectory() as temporary:
            tokens = Path(temporary, "tokens.safetensors")
            save_file({"input_ids": windows}, tokens)
            for added, of in ADDED.items():
                out = Path(temporary, f"{added}.safetensors")
                words = ["export-statistics", "--model", folder, "--tokens", tokens, "--gradients", added, "--out", out, "--quiet"]
                subprocess.run([a.zprune, *words], check=True, stdout=subprocess.DEVNULL)
                for name, got in load_file(out).items():
                    # A checkpoint may leave out the name of the inner model.
                    own = next(it for it in sequences[0] if it == name or it.endswith(f".{name}"))
                    want = of(torch.stack([sequence[own] for sequence in sequences])).numpy()
                    apart = abs(got - want).max() / abs(want).max() if got.shape == want.shape else numpy.inf
                    worst = max(worst, apart)
                    if not apart <= a.tolerance:
                        faults.append(f"{folder} {added} {name}: {apart:.1e}")
    print(f"{count} models: gradients differ by {worst:.1e} of the largest of their matrix at most")
    print(*faults, sep="\n")
    sys.exit(bool(faults) or count == 0)


if __name__ == "__main__":
    main()
