#!/usr/bin/env python3
"""Times what `zprune bench` times, in PyTorch on a CUDA device: half precision weights and activations, scaled dot
product attention, thresholds by torch.sort, SparseGPT's Hessian and factorisation in single precision, as the papers'
code does. Needs torch only.

    python tools/bench_torch.py --shape llama-2-7b --layers 4 --method z-pruner wanda sparsegpt

Prints one line of JSON per method: seconds per stage and block, and for the whole model.
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

SHAPES = {
    # width, mlp, heads, kv heads, blocks
    "llama-2-7b": (4096, 11008, 32, 32, 32),
    "llama-3-8b": (4096, 14336, 32, 8, 32),
    "smollm2-135m": (576, 1536, 9, 3, 30),
}


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


class Block:
    """A LLaMA block; `tap(name, x)` sees the input of every group of linear layers."""

    def __init__(self, shape, dtype):
        self.width, self.mlp, self.heads, self.kv, _ = shape
        d = self.width // self.heads
        sizes = {
            "q": (self.width, self.width), "k": (self.kv * d, self.width), "v": (self.kv * d, self.width),
            "o": (self.width, self.width), "gate": (self.mlp, self.width), "up": (self.mlp, self.width),
            "down": (self.width, self.mlp),
        }
        self.w = {name: (torch.randn(size, device="cuda") * 0.02).to(dtype) for name, size in sizes.items()}
        self.gain = torch.ones(self.width, device="cuda", dtype=dtype)

    def run(self, x, cos, sin, tap, whole=True):
        n, t, _ = x.shape
        d = self.width // self.heads
        h = F.rms_norm(x, (self.width,), self.gain, 1e-5)
        tap("attention_in", h)
        q = F.linear(h, self.w["q"]).view(n, t, self.heads, d).transpose(1, 2)
        k = F.linear(h, self.w["k"]).view(n, t, self.kv, d).transpose(1, 2)
        v = F.linear(h, self.w["v"]).view(n, t, self.kv, d).transpose(1, 2)
        turn = lambda y: torch.cat((-y[..., d // 2 :], y[..., : d // 2]), -1)
        q = q * cos + turn(q) * sin
        k = k * cos + turn(k) * sin
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv != self.heads)
        a = a.transpose(1, 2).reshape(n, t, self.width)
        tap("attention_out", a)
        x = x + F.linear(a, self.w["o"])
        h = F.rms_norm(x, (self.width,), self.gain, 1e-5)
        tap("mlp_in", h)
        m = F.silu(F.linear(h, self.w["gate"])) * F.linear(h, self.w["up"])
        tap("mlp_middle", m)
        return x + F.linear(m, self.w["down"]) if whole else None


TAP = {"q": "attention_in", "k": "attention_in", "v": "attention_in", "o": "attention_out", "gate": "mlp_in",
       "up": "mlp_in", "down": "mlp_middle"}


def wanda(w, norms, sparsity):
    score = w.abs().float() * norms.sqrt()
    order = torch.sort(score, dim=-1, stable=True)[1]
    mask = torch.zeros_like(score, dtype=torch.bool).scatter_(1, order[:, : int(w.shape[1] * sparsity)], True)
    w[mask] = 0


def z_pruner(w, norms, sparsity):
    v = w.float()
    row, column = v / v.norm(dim=1, keepdim=True), v / v.norm(dim=0, keepdim=True)
    z_row, z_column = (row - row.mean()) / row.std(), (column - column.mean()) / column.std()
    rho = (v.abs() < 0.1 * v.abs().mean()).float().mean()
    alpha = 0.7 * (1 - 0.3 * rho)
    score = (alpha * z_row.abs() ** 3 + (1 - alpha) * z_column.abs() ** 3) * norms**0.75
    threshold = torch.sort(score.flatten())[0][int(score.numel() * sparsity)]
    w[score <= threshold] = 0


def sparsegpt(w, factor, sparsity, blocksize=128):
    work, inverse = w.float(), factor
    columns = work.shape[1]
    for i1 in range(0, columns, blocksize):
        i2 = min(i1 + blocksize, columns)
        w1 = work[:, i1:i2].clone()
        q1, errors = torch.zeros_like(w1), torch.zeros_like(w1)
        h1 = inverse[i1:i2, i1:i2]
        score = w1**2 / torch.diag(h1).reshape(1, -1) ** 2
        threshold = torch.sort(score.flatten())[0][int(score.numel() * sparsity)]
        mask = score <= threshold
        for i in range(i2 - i1):
            column = w1[:, i]
            q = column.clone()
            q[mask[:, i]] = 0
            q1[:, i] = q
            error = (column - q) / h1[i, i]
            w1[:, i:] -= error.unsqueeze(1).matmul(h1[i, i:].unsqueeze(0))
            errors[:, i] = error
        work[:, i1:i2] = q1
        work[:, i2:] -= errors.matmul(inverse[i1:i2, i2:])
    w.copy_(work)


def inverse_factor(gram, sequences):
    h = gram * (2.0 / sequences)
    diagonal = torch.arange(h.shape[0], device=h.device)
    h[diagonal, diagonal] += 0.01 * torch.mean(torch.diag(h))
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)


def bench(shape, method, layers, sequences, length, sparsity, dtype, batch):
    blocks = shape[4]
    layers = min(layers, blocks)
    d = shape[0] // shape[2]
    torch.manual_seed(0)
    angle = torch.outer(torch.arange(length), 1 / 10000 ** (torch.arange(0, d, 2) / d)).cuda()
    cos, sin = (torch.cat((f(angle), f(angle)), -1).to(dtype) for f in (torch.cos, torch.sin))
    hidden = [torch.randn(min(batch, sequences - i), length, shape[0], device="cuda").to(dtype) * 0.02
              for i in range(0, sequences, batch)]
    times = []
    for index in range(layers):
        block = Block(shape, dtype)
        start = now()
        sums = {}

        def tap(name, x):
            x = x.reshape(-1, x.shape[-1]).float()
            if method == "sparsegpt":
                if name not in sums:
                    sums[name] = torch.zeros(x.shape[1], x.shape[1], device="cuda")
                sums[name].addmm_(x.t(), x)
            else:
                sums[name] = sums.get(name, 0) + x.pow(2).sum(0)

        for x in hidden:
            block.run(x, cos, sin, tap, whole=False)
        calibrated = now()
        # One factorisation serves the layers of a tap, which the papers' code repeats per layer.
        factors = {name: inverse_factor(gram, sequences) for name, gram in sums.items()} if method == "sparsegpt" else {}
        for name, w in block.w.items():
            if method == "wanda":
                wanda(w, sums[TAP[name]] / sequences, sparsity)
            elif method == "z-pruner":
                z_pruner(w, sums[TAP[name]] / sequences, sparsity)
            else:
                sparsegpt(w, factors[TAP[name]], sparsity)
        pruned = now()
        if index + 1 < blocks:
            for i, x in enumerate(hidden):
                hidden[i] = block.run(x, cos, sin, lambda *_: None)
        times.append((calibrated - start, pruned - calibrated, now() - pruned))
    later = times[1:] or times
    mean = [sum(t[i] for t in later) / len(later) for i in range(3)]
    whole = blocks * (mean[0] + mean[1]) + (blocks - 1) * mean[2]
    return {"calibrate": mean[0], "prune": mean[1], "propagate": mean[2], "model_seconds": whole}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-2-7b")
    parser.add_argument("--method", nargs="+", choices=["wanda", "z-pruner", "sparsegpt"], default=["z-pruner"])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=8, help="sequences together (the papers' code: 1)")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.no_grad():
        for method in options.method:
            found = bench(SHAPES[options.shape], method, options.layers, options.sequences, options.length,
                          options.sparsity, getattr(torch, options.dtype), options.batch)
            print(json.dumps({"shape": options.shape, "method": method, "dtype": options.dtype,
                              "device": torch.cuda.get_device_name(), "torch": torch.__version__, **found}), flush=True)


if __name__ == "__main__":
    main()
