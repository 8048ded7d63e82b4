"""Makes tests/golden/units/two_ssp.json: what 2SSP keeps, by PyTorch in float64 and transformers' models.

Usage: python tools/make_golden_two_ssp.py > tests/golden/units/two_ssp.json
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
MODELS = {"llama_gqa_tied": GOLDEN / "gradients" / "llama_gqa_tied", "opt_pre": GOLDEN / "units" / "opt_pre"}
SETS = [(0.25, 1.5), (0.5, 1.5), (0.5, 3.0)]


def loss(model, ids):
    logits = model(ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)).item()


def weights(module):
    return sum(layer.weight.numel() for layer in module if isinstance(layer, torch.nn.Linear))


class Nothing(torch.nn.Module):
    """An attention that adds nothing."""

    def forward(self, hidden_states, **_):
        return torch.zeros_like(hidden_states), None


@torch.no_grad()
def two_ssp(folder, ids, share, alpha):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    decoder = model.model.decoder if hasattr(model.model, "decoder") else model.model
    blocks = decoder.layers
    seconds = [block.mlp.down_proj if hasattr(block, "mlp") else block.fc2 for block in blocks]
    attention = weights(blocks[0].self_attn.modules())
    mlp = weights(blocks[0].modules()) - attention
    count = round(len(blocks) * share ** (mlp / attention / alpha))
    neurons = seconds[0].in_features
    lost = (share * len(blocks) * (attention + mlp) - count * attention) / len(blocks)
    left = round(neurons - lost / (mlp / neurons))

    norms = [torch.zeros(neurons, dtype=torch.float64) for _ in blocks]
    hooks = []
    for place, second in enumerate(seconds):
        def add(_, inputs, place=place):
            norms[place] += inputs[0].reshape(-1, neurons).norm(dim=0) / len(ids)
        hooks.append(second.register_forward_pre_hook(add))
    for window in ids:
        model(window[None])
    for hook in hooks:
        hook.remove()
    kept = []
    for second, norm in zip(seconds, norms):
        order = torch.argsort(norm, stable=True)
        kept.append(sorted(order[neurons - left:].tolist()))
        second.weight[:, order[: neurons - left]] = 0

    removed = []
    for _ in range(count):
        found = {}
        for place, block in enumerate(blocks):
            if isinstance(block.self_attn, Nothing):
                continue
            before, block.self_attn = block.self_attn, Nothing()
            found[place] = loss(model, ids[:1])
            block.self_attn = before
        best = min(found, key=found.get)
        blocks[best].self_attn = Nothing()
        removed.append({"block": best, "perplexity": math.exp(found[best])})
    return {"neurons": kept, "removed": removed, "loss": loss(model, ids), "norms": [norm.tolist() for norm in norms]}


ids = load_file(GOLDEN / "units" / "units.safetensors")
facts = {}
for name, folder in MODELS.items():
    facts[name] = {}
    for share, alpha in SETS:
        found = two_ssp(folder, ids[f"{name}/ids"], share, alpha)
        facts[name].setdefault("norms", [[float(f"{norm:.7g}") for norm in norms] for norms in found.pop("norms")])
        facts[name].setdefault("sets", []).append({"share": share, "alpha": alpha, **found})
print(json.dumps(facts, separators=(",", ":")))
