#!/usr/bin/env python3
"""Times pruning and evaluation of a model on the CPU with zprune and with PyTorch in turn, on the same tokens, and
prints medians and ratios.

    zprune tokens X.toml --out tokens
    python tools/compare_speed.py X.toml MODEL_DIR --calibration tokens/MODEL/calibration_seed0.safetensors \\
        --evaluation tokens/MODEL/evaluation_NAME.safetensors --method z-pruner sparsegpt

X.toml has one model, one pattern, seed 0 and the methods named, and no `[compute]`. PyTorch goes block by block like zprune: it keeps
the hidden states, runs a block once for the statistics and once pruned, one sequence at a time. The layers that read the same input
share their statistics and the first pass ends before the down projection, as in zprune; with `--statistics layer` every layer has its
own and both passes are whole, as in the papers' code. Thresholds come from torch.sort, SparseGPT's factor from torch.linalg in
float32. Loading is timed on neither side. The first line names the processor; `taskset -c 0,1` before the command leaves both
programs two of its cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_torch import inverse_factor, sparsegpt, wanda, z_pruner
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TAPS = {"q_proj": "attention_in", "k_proj": "attention_in", "v_proj": "attention_in", "o_proj": "attention_out",
        "gate_proj": "mlp_in", "up_proj": "mlp_in", "down_proj": "mlp_middle"}


class Stop(Exception):
    """Ends a pass before the down projection."""


@torch.no_grad()
def prune(model, method, windows, sparsity, of_layer):
    """Prunes in place; returns seconds of calibration, of pruning and of propagation."""
    inner = model.model
    position = torch.arange(windows.shape[1])[None]
    hidden = [inner.embed_tokens(w[None]) for w in windows]
    angles = inner.rotary_emb(hidden[0], position)
    times = [0.0, 0.0, 0.0]
    for block in inner.layers:
        start = time.perf_counter()
        sums, hooks = {}, []
        layers = {name: m for name, m in block.named_modules() if isinstance(m, torch.nn.Linear)}
        seen = set()
        key = {name: name if of_layer else TAPS[name.split(".")[-1]] for name in layers}
        for name, layer in layers.items():
            tap = key[name]
            if tap in seen:
                continue
            seen.add(tap)

            def hook(_module, inputs, tap=tap):
                x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
                if method == "sparsegpt":
                    sums[tap] = sums[tap].addmm_(x.t(), x) if tap in sums else x.t() @ x
                else:
                    sums[tap] = sums.get(tap, 0) + x.pow(2).sum(0)
                if tap == "mlp_middle":
                    raise Stop
            hooks.append(layer.register_forward_pre_hook(hook))
        for x in hidden:
            try:
                block(x, position_embeddings=angles)
            except Stop:
                pass
        for hook in hooks:
            hook.remove()
        calibrated = time.perf_counter()
        if method == "sparsegpt":
            factors = {tap: inverse_factor(gram, len(windows)) for tap, gram in sums.items()}
        for name, layer in layers.items():
            tap = key[name]
            if method == "sparsegpt":
                sparsegpt(layer.weight.data, factors[tap], sparsity)
            elif method == "wanda":
                wanda(layer.weight.data, sums[tap] / len(windows), sparsity)
            else:
                z_pruner(layer.weight.data, sums[tap] / len(windows), sparsity)
        pruned = time.perf_counter()
        for i, x in enumerate(hidden):
            hidden[i] = block(x, position_embeddings=angles)
        for i, seconds in enumerate((calibrated - start, pruned - calibrated, time.perf_counter() - pruned)):
            times[i] += seconds
    return times


@torch.no_grad()
def perplexity(model, windows):
    losses = [F.cross_entropy(model(w[None]).logits[0, :-1].float(), w[1:]).double() for w in windows]
    return torch.stack(losses).mean().exp().item()


def torch_side(options, method):
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    calibration = load_file(options.calibration)["input_ids"].long()
    evaluation = load_file(options.evaluation)["input_ids"].long()
    start = time.perf_counter()
    stages = prune(model, method, calibration, options.sparsity, options.statistics == "layer")
    pruned = time.perf_counter()
    found = perplexity(model, evaluation)
    return {"stages": [*stages, time.perf_counter() - pruned], "total": time.perf_counter() - start, "perplexity": found}


def zprune_side(options, method):
    with tempfile.TemporaryDirectory() as folder:
        compute = {"float32": "f32", "bfloat16": "bf16"}[options.dtype]
        settings = ["--results", folder, "--compute", compute, "--backend", "cpu"]
        plan = subprocess.run([options.zprune, "plan", str(options.experiment), "--json", *settings], check=True, capture_output=True)
        [cell] = [cell["id"] for cell in json.loads(plan.stdout)["cells"] if cell["method"] == method]
        # One cell alone shares no statistics with others.
        run = [options.zprune, "run", str(options.experiment), "--cell", cell, *settings]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        [records] = Path(folder).rglob("runs.jsonl")
        [line] = records.read_text().splitlines()
    record = json.loads(line)
    run = record["run"]
    passes, pruning, total = run["calibrate_seconds"], run["prune_seconds"], run["total_seconds"]
    stages = [passes, pruning, 0.0, total - passes - pruning]
    return {"stages": stages, "total": total, "perplexity": record["evaluations"][0]["perplexity"]}


def processor():
    """Name, family and model of the processor, and the instructions that decide how fast products are."""
    lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    found = {}
    for key, value in lines:
        found.setdefault(key.strip(), value.strip())
    flags = found.get("flags", "").split()
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return (f"{found.get('model name', 'an unknown processor')} (family {found.get('cpu family', '?')}, "
            f"model {found.get('model', '?')}), {cores()} threads, {', '.join(sets)}")


def cores():
    """Number of cores that this process may use; zprune takes as many."""
    return len(os.sched_getaffinity(0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--zprune", default="target/release/zprune")
    parser.add_argument("--method", nargs="+", choices=["wanda", "z-pruner", "sparsegpt"], default=["z-pruner"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--statistics", choices=["input", "layer"], default="input")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    print(processor(), f"PyTorch {torch.__version__}", sep=", ", flush=True)
    for method in options.method:
        sides = {"PyTorch": [], "zprune": []}
        for _ in range(options.rounds):
            sides["PyTorch"].append(torch_side(options, method))
            sides["zprune"].append(zprune_side(options, method))
        for name, runs in sides.items():
            stages = [statistics.median(run["stages"][i] for run in runs) for i in range(4)]
            total = statistics.median(run["total"] for run in runs)
            shown = "  ".join(f"{label} {seconds:6.2f}" for label, seconds in
                              zip(("calibrate", "prune", "propagate", "evaluate"), stages, strict=True))
            print(f"{method:10} {options.dtype:8} {name:8} {total:7.2f} s  {shown}  perplexity {runs[0]['perplexity']:.4f}")
        ratios = [a["total"] / b["total"] for a, b in zip(sides["PyTorch"], sides["zprune"], strict=True)]
        print(f"{method:10} {options.dtype:8} zprune's speed is {statistics.median(ratios):.2f} of PyTorch's "
              f"(rounds: {', '.join(f'{r:.2f}' for r in ratios)})", flush=True)


if __name__ == "__main__":
    main()
