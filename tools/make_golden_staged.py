"""Writes tests/golden/staged/sparsegpt.safetensors: true-sequential SparseGPT of models/tiny-llama by PyTorch.

The layers of a block are pruned in four groups (q k v, o, gate up, down); before each group its inputs are observed anew,
on what was pruned so far. Everything but the model's forward pass is in float64 and written here from the paper's
formulas: H = 2 / sequences X X^T, 1 % of its mean diagonal added, U from the Cholesky factor of the inverse, blocks of
128 columns, in each the lowest half of w^2 / U_jj^2 removed, updated weights rounded to half precision.

    python tools/make_golden_staged.py          # needs torch, transformers, safetensors
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
SEQUENCES, LENGTH, SPARSITY, BLOCK = 32, 128, 0.5, 128
GROUPS = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"],
          ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
# Of these blocks masks and weights are kept; of all others the perplexity sees what they became.
KEPT = [0, 1]


def tokens(first: int) -> torch.Tensor:
    """Ids that any language can make again."""
    t = np.arange(first, first + SEQUENCES * LENGTH, dtype=np.int64)
    return torch.from_numpy(((t * 7919 + (t // 13) * 104729) % 1999 + 3).reshape(SEQUENCES, LENGTH))


def factor(x: torch.Tensor) -> torch.Tensor:
    """U with H^-1 = U^T U."""
    hessian = 2.0 / SEQUENCES * x.T @ x
    dead = torch.diag(hessian) == 0
    hessian[dead, dead] = 1.0
    hessian += 0.01 * torch.diag(hessian).mean() * torch.eye(len(hessian), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


def sparsegpt(weight: torch.Tensor, upper: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weight = weight.clone()
    removed = torch.zeros_like(weight, dtype=torch.bool)
    rows, columns = weight.shape
    for first in range(0, columns, BLOCK):
        last = min(first + BLOCK, columns)
        inner = upper[first:last, first:last]
        scores = (weight[:, first:last] / torch.diag(inner)) ** 2
        # Among equal scores the lower column goes first, then the lower row.
        order = torch.argsort(scores.T.reshape(-1), stable=True)[: int(rows * (last - first) * SPARSITY)]
        mask = torch.zeros(rows * (last - first), dtype=torch.bool)
        mask[order] = True
        mask = mask.reshape(last - first, rows).T
        removed[:, first:last] = mask
        errors = torch.zeros(rows, last - first, dtype=torch.float64)
        for j in range(last - first):
            column = weight[:, first + j]
            error = torch.where(mask[:, j], column, 0.0) / inner[j, j]
            weight[:, first + j : last] -= error[:, None] * inner[j, j:][None, :]
            weight[mask[:, j], first + j] = 0.0
            errors[:, j] = error
        weight[:, last:] -= errors @ upper[first:last, last:]
    return weight, removed


def main() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(ROOT / "models/tiny-llama", dtype=torch.float32).eval()
    ids = tokens(0)
    found: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for index, block in enumerate(model.model.layers):
            for group in GROUPS:
                layers = [block.get_submodule(name) for name in group]
                seen: list[torch.Tensor] = []
                hook = layers[0].register_forward_hook(lambda _m, x, _y: seen.append(x[0].double().reshape(-1, x[0].shape[-1])))
                model(ids)
                hook.remove()
                upper = factor(torch.cat(seen))
                for name, layer in zip(group, layers, strict=True):
                    weight, removed = sparsegpt(layer.weight.double(), upper)
                    layer.weight.copy_(weight.half().float())
                    if index in KEPT:
                        found[f"{index}.{name}.removed"] = np.packbits(removed.numpy(), axis=1, bitorder="little")
                        found[f"{index}.{name}.rows"] = layer.weight[:4].half().numpy()
        held = tokens(1 << 20)
        logits = model(held).logits[:, :-1].double()
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), held[:, 1:].reshape(-1))
        found["loss"] = np.array([loss.item()])
    save_file({name: np.ascontiguousarray(value) for name, value in found.items()},
              ROOT / "tests/golden/staged/sparsegpt.safetensors")
    print("loss", loss.item(), len(found), "tensors")


if __name__ == "__main__":
    main()
