#!/usr/bin/env python3
"""Hold zprune's perplexities of any model against PyTorch and transformers, on the same tokens.

Both programs read the token windows that `zprune tokens` wrote, so nothing but the arithmetic can
differ. Prunes block by block, with inputs from the pruned blocks before, and shares no code with zprune.

    zprune tokens X.toml --out tokens
    zprune X.toml
    python tools/check_model.py MODEL_DIR --calibration tokens/MODEL/calibration_seed0.safetensors \\
        --evaluation tokens/MODEL/evaluation_NAME.safetensors --runs results/X/runs.jsonl

Prints one line per cell of the experiment (seed 0) and exits with 1 where one is off by more than
`--tolerance`.
"""

import argparse
import copy
import json
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


class Stop(Exception):
    """Ends a forward pass after the block of interest."""


@torch.no_grad()
def window_means(model, windows):
    """The mean NLL of every window, in nats."""
    means = []
    for w in windows:
        logits = model(w[None]).logits[0, :-1]
        means.append(F.cross_entropy(logits, w[1:]).double().item())
    return means


def blocks_of(model):
    inner = model.model
    return inner.layers if hasattr(inner, "layers") else inner.decoder.layers


def linears_of(block):
    return {n: m for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)}


@torch.no_grad()
def grams(model, block, windows):
    """X'X of the inputs of each linear layer of a block, in float64."""
    sums, hooks = {}, []
    for name, layer in linears_of(block).items():
        def hook(_module, args, name=name):
            x = args[0].reshape(-1, args[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + x.T @ x
        hooks.append(layer.register_forward_pre_hook(hook))

    def stop(*_):
        raise Stop
    hooks.append(block.register_forward_hook(stop))
    for w in windows:
        try:
            model.model(w[None])
        except Stop:
            pass
    for h in hooks:
        h.remove()
    return sums


def lowest(score, pattern, group):
    """Mask of the weights to remove."""
    rows, cols = score.shape
    if "of" in pattern:
        keep, of = pattern["keep"], pattern["of"]
        order = score.view(rows, cols // of, of).argsort(dim=2, stable=True)[:, :, : of - keep]
        mask = torch.zeros(rows, cols // of, of, dtype=torch.bool, device=score.device)
        return mask.scatter_(2, order, True).view(rows, cols)
    groups = score if group == "row" else score.reshape(1, -1)
    order = groups.argsort(dim=1, stable=True)[:, : int(groups.shape[1] * pattern["sparsity"])]
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter_(1, order, True).view(rows, cols)


def one_shot_score(criterion, w, squares):
    a = w.abs()
    norm = squares.sqrt() if squares is not None else None
    if criterion == "magnitude":
        return a
    if criterion == "wanda":
        return a * norm
    if criterion == "ria":
        return (a / a.sum(0, keepdim=True) + a / a.sum(1, keepdim=True)) * norm.sqrt()
    assert criterion == "z-pruner", criterion
    cubes = []
    for dim in (1, 0):
        r = w / w.norm(dim=dim, keepdim=True)
        cubes.append(((r - r.mean()) / r.std()).abs() ** 3)
    rho = (a < 0.1 * a.mean()).double().mean()
    alpha = 0.7 * (1 - 0.3 * rho)
    return (alpha * cubes[0] + (1 - alpha) * cubes[1]) * norm ** 1.5


def obs(w, gram, pattern, width=128, damping=0.01):
    """SparseGPT in float64: column by column, each error moved into the columns not yet reached."""
    w, h = w.clone(), gram.clone()
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
        mask = torch.zeros_like(part, dtype=torch.bool)
        if "of" not in pattern:
            mask = lowest((part / d[start:end]) ** 2, pattern, "block")
        for i in range(end - start):
            of = pattern.get("of")
            if of and i % of == 0:
                mask[:, i : i + of] = lowest((part[:, i : i + of] / d[start + i : start + i + of]) ** 2, pattern, None)
            kept = part[:, i].masked_fill(mask[:, i], 0)
            errors[:, i] = (part[:, i] - kept) / d[start + i]
            part[:, i:] -= errors[:, i : i + 1] * u[start + i, start + i : end]
            part[:, i] = kept
        w[:, end:] -= errors @ u[start:end, end:]
    return w


@torch.no_grad()
def prune(dense, pruning, windows):
    model = copy.deepcopy(dense)
    criterion, solver = pruning["criterion"]["name"], pruning["solver"]["name"]
    for block in blocks_of(model):
        sums = {} if criterion == "magnitude" else grams(model, block, windows)
        for name, layer in linears_of(block).items():
            w = layer.weight.data.double()
            if solver == "obs":
                assert criterion == "obs", "only SparseGPT's own criterion is updated here"
                pruned = obs(w, sums[name], pruning["pattern"])
            else:
                squares = sums[name].diagonal() if sums else None
                score = one_shot_score(criterion, w, squares)
                pruned = w.masked_fill(lowest(score, pruning["pattern"], pruning.get("group")), 0)
            layer.weight.data.copy_(pruned)
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("model", type=Path)
    p.add_argument("--calibration", type=Path, required=True)
    p.add_argument("--evaluation", type=Path, required=True)
    p.add_argument("--runs", type=Path, required=True, help="zprune's records")
    p.add_argument("--tolerance", type=float, default=2e-3, help="of a pruned perplexity, as a fraction")
    p.add_argument("--dense-tolerance", type=float, default=2e-4)
    p.add_argument("--json", type=Path, help="write the reference's numbers here")
    a = p.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    calibration = load_file(a.calibration)["input_ids"].to(device)
    evaluation = load_file(a.evaluation)["input_ids"].to(device)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).to(device).eval()

    bad, results = False, []
    for line in a.runs.read_text().splitlines():
        record = json.loads(line)
        pruning = record["cell"].get("pruning")
        calibrated = (pruning or {}).get("calibration")
        if record["status"] != "ok" or (calibrated and calibrated["seed"] != 0):
            continue
        started = time.time()
        means = window_means(prune(model, pruning, calibration) if pruning else model, evaluation)
        want = math.exp(sum(means) / len(means))
        found = record["evaluations"][0]
        window = max(abs(x - y) for x, y in zip(found["windows"], means, strict=True))
        off = found["perplexity"] / want - 1
        bound = a.tolerance if pruning else a.dense_tolerance
        bad |= abs(off) > bound
        pattern = pruning["pattern"] if pruning else {}
        label = f"{record['label']['method']:10} {json.dumps(pattern):24}"
        print(f"{label} PyTorch {want:9.4f}  zprune {found['perplexity']:9.4f}  off {100 * off:+.4f} %  "
              f"worst window {window:.1e} nats  ({time.time() - started:.0f} s; zprune {record['run']['total_seconds']:.0f} s)"
              + ("  OFF" if abs(off) > bound else ""), flush=True)
        results.append({"method": record["label"]["method"], "pattern": pattern, "perplexity": want, "windows": means})
    if a.json:
        a.json.write_text(json.dumps(results) + "\n")
    sys.exit(bad)


if __name__ == "__main__":
    main()
