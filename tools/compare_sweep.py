#!/usr/bin/env python3
"""Times a whole table, methods x patterns x seeds, with zprune and with a loop over PyTorch code, on one GPU and the same tokens.

    zprune tokens X.toml --out tokens
    python tools/compare_sweep.py X.toml MODEL_DIR --tokens tokens/MODEL --seeds 0

X.toml has one model of the LLaMA family, one evaluation, the methods and patterns below and `[compute] backend = "gpu"`. The loop does what the
papers' code does for every cell: the dense weights, the statistics of each block, its pruning, its outputs from the pruned block, the
perplexity. Sequences go one at a time, as in that code (`--batch`); the program starts and reads the model only once. `--seeds`
names the seeds that the loop runs: it shares nothing between seeds, so the time for all seeds of X.toml is counted from these.
"""

import argparse
import json
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_torch import inverse_factor
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

METHODS = ["magnitude", "wanda", "ria", "z-pruner", "sparsegpt"]
PATTERNS = {"0.5": 0.5, "0.6": 0.6, "0.7": 0.7, "2:4": (2, 4)}
TAPS = {"q_proj": "attention_in", "k_proj": "attention_in", "v_proj": "attention_in", "o_proj": "attention_out",
        "gate_proj": "mlp_in", "up_proj": "mlp_in", "down_proj": "mlp_middle"}


def score(method, w, norms):
    """Importance of each weight; norms are mean squared norms of the inputs."""
    v = w.float()
    if method == "magnitude":
        return v.abs()
    if method == "wanda":
        return v.abs() * norms.sqrt()
    if method == "ria":
        a = v.abs()
        return (a / a.sum(0, keepdim=True) + a / a.sum(1, keepdim=True)) * norms.sqrt() ** 0.5
    row, column = v / v.norm(dim=1, keepdim=True), v / v.norm(dim=0, keepdim=True)
    z_row, z_column = (row - row.mean()) / row.std(), (column - column.mean()) / column.std()
    alpha = 0.7 * (1 - 0.3 * (v.abs() < 0.1 * v.abs().mean()).float().mean())
    return (alpha * z_row.abs() ** 3 + (1 - alpha) * z_column.abs() ** 3) * norms**0.75


def removed(scores, pattern, by_row):
    """The mask of what is removed: the lowest of each row, of the matrix, or of each group of N:M."""
    if isinstance(pattern, tuple):
        keep, of = pattern
        groups = scores.reshape(scores.shape[0], -1, of)
        order = groups.argsort(stable=True, dim=-1)[..., : of - keep]
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, True).reshape(scores.shape)
    if by_row:
        order = torch.sort(scores, dim=-1, stable=True)[1][:, : int(scores.shape[1] * pattern)]
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)
    return scores <= torch.sort(scores.flatten())[0][int(scores.numel() * pattern)]


def sparsegpt(w, inverse, pattern, block=128):
    """SparseGPT's update, column by column, as its code does it."""
    work = w.float()
    for i1 in range(0, work.shape[1], block):
        i2 = min(i1 + block, work.shape[1])
        w1, h1 = work[:, i1:i2].clone(), inverse[i1:i2, i1:i2]
        errors = torch.zeros_like(w1)
        saliency = lambda a, b: w1[:, a:b] ** 2 / torch.diag(h1)[a:b] ** 2
        mask = torch.zeros_like(w1, dtype=torch.bool)
        if not isinstance(pattern, tuple):
            mask = removed(saliency(0, i2 - i1), pattern, False)
        for i in range(i2 - i1):
            if isinstance(pattern, tuple) and i % pattern[1] == 0:
                mask[:, i : i + pattern[1]] = removed(saliency(i, i + pattern[1]), pattern, False)
            column = w1[:, i].clone()
            kept = torch.where(mask[:, i], torch.zeros_like(column), column)
            error = (column - kept) / h1[i, i]
            w1[:, i:] -= error[:, None] @ h1[i, i:][None]
            w1[:, i], errors[:, i] = kept, error
        work[:, i1:i2] = w1
        work[:, i2:] -= errors @ inverse[i1:i2, i2:]
    w.copy_(work)


@torch.no_grad()
def prune(model, method, pattern, windows, batch):
    inner = model.model
    position = torch.arange(windows.shape[1], device=windows.device)[None]
    hidden = [inner.embed_tokens(part) for part in windows.split(batch)]
    angles = inner.rotary_emb(hidden[0], position)
    for block in inner.layers:
        layers = {name: m for name, m in block.named_modules() if isinstance(m, torch.nn.Linear)}
        sums, hooks, seen = {}, [], set()
        for name, layer in layers.items():
            tap = TAPS[name.split(".")[-1]]
            if tap in seen or method == "magnitude":
                continue
            seen.add(tap)

            def hook(_module, inputs, tap=tap):
                x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
                sums[tap] = sums.get(tap, 0) + (x.t() @ x if method == "sparsegpt" else x.pow(2).sum(0))
            hooks.append(layer.register_forward_pre_hook(hook))
        if method != "magnitude":
            for x in hidden:
                block(x, position_embeddings=angles)
        for hook in hooks:
            hook.remove()
        factors = {tap: inverse_factor(gram, len(windows)) for tap, gram in sums.items()} if method == "sparsegpt" else {}
        for name, layer in layers.items():
            tap, w = TAPS[name.split(".")[-1]], layer.weight.data
            if method == "sparsegpt":
                sparsegpt(w, factors[tap], pattern)
            else:
                norms = sums[tap] / len(windows) if sums else None
                w[removed(score(method, w, norms), pattern, method == "wanda")] = 0
        if method != "magnitude":
            for i, x in enumerate(hidden):
                hidden[i] = block(x, position_embeddings=angles)


@torch.no_grad()
def perplexity(model, windows, batch):
    losses = []
    for part in windows.split(batch):
        logits = model(part).logits[:, :-1].float()
        losses.append(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()).double() * len(part))
    return (torch.stack(losses).sum() / len(windows)).exp().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="the folder that `zprune tokens` made for the model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--zprune", default="target/release/zprune")
    parser.add_argument("--options", nargs="*", default=[], help="more options of zprune, without their dashes: adapter=1")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        more = [f"--{option}" for option in options.options]
        start = time.perf_counter()
        subprocess.run([options.zprune, "run", str(options.experiment), "--results", folder, *more], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ours = time.perf_counter() - start
        [records] = Path(folder).rglob("runs.jsonl")
        cells = [json.loads(line) for line in records.read_text().splitlines()]
    failed = sum(cell["status"] != "ok" for cell in cells)
    print(f"zprune: {len(cells)} cells in {ours:.1f} s, start to end; {failed} failed", flush=True)
    seeds = tomllib.loads(options.experiment.read_text())["sweep"]["seeds"]

    dtype = torch.float16 if options.device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval().to(options.device)
    dense = {name: value.clone() for name, value in model.state_dict().items()}
    evaluation = load_file(next(options.tokens.glob("evaluation_*.safetensors")))["input_ids"].long().to(options.device)
    perplexity(model, evaluation[:2], options.batch)
    spent, count = {}, 0
    start = time.perf_counter()
    for seed in options.seeds:
        calibration = load_file(options.tokens / f"calibration_seed{seed}.safetensors")["input_ids"].long().to(options.device)
        for method in options.methods:
            for label in options.patterns:
                before = time.perf_counter()
                model.load_state_dict(dense)
                prune(model, method, PATTERNS[label], calibration, options.batch)
                found = perplexity(model, evaluation, options.batch)
                spent.setdefault(method, []).append(time.perf_counter() - before)
                count += 1
                print(f"PyTorch: {method}, {label}, seed {seed}: perplexity {found:.4f}, {spent[method][-1]:.1f} s", flush=True)
    theirs = time.perf_counter() - start
    # Magnitude needs no seed, so its cells are counted once for all seeds, as zprune counts them.
    whole = sum(sum(times) / len(options.seeds) * (1 if method == "magnitude" else len(seeds)) for method, times in spent.items())
    print(f"PyTorch: {count} cells in {theirs:.1f} s; for {len(seeds)} seeds {whole:.1f} s")
    print(f"zprune's speed is {whole / ours:.2f} of PyTorch's")


if __name__ == "__main__":
    main()
