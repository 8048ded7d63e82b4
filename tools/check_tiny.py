#!/usr/bin/env python3
"""Check the tiny models with PyTorch alone: perplexity and pruning curves.

Reads a model directory and the two corpora, measures the dense and the unigram
perplexity, prunes every linear layer of the blocks with four one-shot methods at
four sparsities and at 2:4, and fails (exit code 1) when the known shape does not
hold. It shares no code with zprune, so it is an independent reference.

    python tools/check_tiny.py models/tiny-llama models/tiny-opt
"""

import argparse
import copy
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

METHODS = ["magnitude", "wanda", "ria", "sparsegpt"]
TARGETS = [0.5, 0.6, 0.7, 0.8, "2:4"]


def load(directory: Path, device: str):
    """The model with its float16 weights, computing in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).to(device).eval()


@torch.no_grad()
def perplexity(model, windows) -> float:
    """exp of the mean over windows of the window's mean NLL."""
    total = 0.0
    for w in windows.split(32):
        logits = model(w).logits[:, :-1]
        nll = F.cross_entropy(logits.transpose(1, 2), w[:, 1:], reduction="none")
        total += nll.mean(1).double().sum().item()
    return math.exp(total / len(windows))


def cut(ids, context):
    n = len(ids) // context
    return ids[: n * context].view(n, context)


def blocks_of(model):
    return model.model.layers if hasattr(model.model, "layers") else model.model.decoder.layers


def linears_of(block):
    return {n: m for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)}


@torch.no_grad()
def input_hessians(model, block, windows):
    """X'X of the inputs of each linear layer of `block`, over all calibration tokens."""
    sums, hooks = {}, []
    for name, layer in linears_of(block).items():
        def hook(_module, args, name=name):
            x = args[0].reshape(-1, args[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + x.T @ x
        hooks.append(layer.register_forward_pre_hook(hook))
    for w in windows.split(8):
        model(w)
    for h in hooks:
        h.remove()
    return sums


def drop_lowest(score, target, per_row):
    """Mask of the weights to remove: the lowest scores per row, per matrix or per four."""
    rows, cols = score.shape
    if target == "2:4":
        lowest = score.view(rows, cols // 4, 4).argsort(dim=2, stable=True)[:, :, :2]
        mask = torch.zeros(rows, cols // 4, 4, dtype=torch.bool, device=score.device)
        return mask.scatter_(2, lowest, True).view(rows, cols)
    groups = score if per_row else score.reshape(1, -1)
    lowest = groups.argsort(dim=1, stable=True)[:, : int(groups.shape[1] * target)]
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter_(1, lowest, True).view(rows, cols)


def sparsegpt(weight, hessian, tokens, target, width=128, damping=0.01):
    """Column by column removal; each error moves into the columns not yet reached."""
    w, h = weight.double().clone(), hessian * (2.0 / tokens)
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += torch.eye(len(h), device=h.device, dtype=h.dtype) * (damping * h.diagonal().mean())
    u = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    d = u.diagonal()
    for start in range(0, w.shape[1], width):
        end = min(start + width, w.shape[1])
        part = w[:, start:end]
        errors = torch.zeros_like(part)
        if target != "2:4":
            mask = drop_lowest((part / d[start:end]) ** 2, target, per_row=False)
        else:
            mask = torch.zeros_like(part, dtype=torch.bool)
        for i in range(end - start):
            if target == "2:4" and i % 4 == 0:
                four = (part[:, i : i + 4] / d[start + i : start + i + 4]) ** 2
                mask[:, i : i + 4] = drop_lowest(four, "2:4", per_row=True)
            kept = part[:, i].masked_fill(mask[:, i], 0)
            errors[:, i] = (part[:, i] - kept) / d[start + i]
            part[:, i:] -= errors[:, i : i + 1] * u[start + i, start + i : end]
            part[:, i] = kept
        w[:, end:] -= errors @ u[start:end, end:]
    return w.to(weight.dtype)


@torch.no_grad()
def prune(dense, method, target, windows):
    model = copy.deepcopy(dense)
    for block in blocks_of(model):
        sums = {} if method == "magnitude" else input_hessians(model, block, windows)
        for name, layer in linears_of(block).items():
            w = layer.weight.data
            if method == "sparsegpt":
                w.copy_(sparsegpt(w, sums[name], windows.numel(), target))
                continue
            score = w.abs().double()
            if method == "wanda":
                score = score * sums[name].diagonal().sqrt()
            elif method == "ria":
                relative = score / score.sum(0, keepdim=True) + score / score.sum(1, keepdim=True)
                score = relative * sums[name].diagonal().sqrt().sqrt()
            w.masked_fill_(drop_lowest(score, target, per_row=method == "wanda"), 0)
    return model


def spread(values):
    v = values.double()
    return ((v / v.mean()) ** 2).mean().item()


def check(directory: Path, a, device: str):
    model = load(directory, device)
    tok = Tokenizer.from_file(str(directory / "tokenizer.json"))
    held = torch.tensor(tok.encode(a.held_out.read_text(encoding="utf-8")).ids, device=device)
    calibration = torch.tensor(tok.encode(a.calibration.read_text(encoding="utf-8")).ids, device=device)
    windows = cut(held, a.context)
    last = len(calibration) - a.context
    starts = [last * i // (a.samples - 1) for i in range(a.samples)]
    samples = torch.stack([calibration[s : s + a.context] for s in starts])
    dense = perplexity(model, windows)
    table = {m: {str(t): perplexity(prune(model, m, t, samples), windows) for t in TARGETS} for m in METHODS}

    faults = []
    record = json.loads((directory / "training.json").read_text())
    for t in map(str, TARGETS):
        for m in METHODS[1:]:
            if table[m][t] >= table["magnitude"][t]:
                faults.append(f"{m} is no better than magnitude at {t}")
    ratios = [table["magnitude"][str(t)] / min(table[m][str(t)] for m in METHODS[1:]) for t in (0.5, 0.6, 0.7, 0.8)]
    if ratios != sorted(ratios):
        faults.append(f"the gap to magnitude does not grow with sparsity: {ratios}")
    if table["sparsegpt"]["0.7"] > 1.1 * min(table[m]["0.7"] for m in METHODS):
        faults.append("sparsegpt is not near the best at 0.7")
    if record["unigram_perplexity"] < 4 * dense:
        faults.append("the dense perplexity is not 4x below the unigram's")
    if abs(record["perplexity_f32_weights"] / dense - 1) > 1e-3:
        faults.append("float16 weights changed the perplexity by 0.1 % or more")
    for name, layer in linears_of(blocks_of(model)).items():
        if layer.in_features % 64:
            faults.append(f"{name} has {layer.in_features} inputs")
    size = sum(f.stat().st_size for f in directory.iterdir())
    if size > 10_000_000:
        faults.append(f"{size} bytes on disk")

    count = sum(p.numel() for p in model.parameters())
    print(f"\n{directory.name}: {count} parameters, {size} bytes, {len(windows)} windows, dense {dense:.3f}, "
          f"unigram {record['unigram_perplexity']:.2f}, float32 weights {record['perplexity_f32_weights']:.3f}")
    print("| method | " + " | ".join(f"{t:.0%}" if t != "2:4" else t for t in TARGETS) + " |")
    print("| --- |" + " ---: |" * len(TARGETS))
    for m in METHODS:
        print(f"| {m} | " + " | ".join(f"{table[m][str(t)]:.2f}" for t in TARGETS) + " |")
    print("spread of the squared input norms (mean of squares over squared mean), first block:",
          {n: round(spread(h.diagonal()), 2)
           for n, h in input_hessians(model, blocks_of(model)[0], samples).items()})
    print("FAULTS: " + "; ".join(faults) if faults else "all checks hold")
    return {"dense": dense, "unigram": record["unigram_perplexity"], "pruned": table}, faults


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", type=Path, nargs="+")
    p.add_argument("--held-out", type=Path, default=Path("corpora/persuasion.txt"))
    p.add_argument("--calibration", type=Path, default=Path("corpora/austen_calibration.txt"))
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--samples", type=int, default=32, help="calibration windows, evenly spaced")
    p.add_argument("--json", type=Path, help="write the numbers here too")
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results, bad = {}, False
    for directory in a.models:
        results[directory.name], faults = check(directory, a, device)
        bad |= bool(faults)
    if a.json:
        a.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(bad)


if __name__ == "__main__":
    main()
