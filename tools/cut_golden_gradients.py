"""Cuts golden gradients from the whole set of an independent implementation (PyTorch, float64, autograd).

    python tools/cut_golden_gradients.py STRUCTURED OUTPUT MODEL...

STRUCTURED has `models/MODEL/` and `grads.safetensors`. For each model OUTPUT gets its checkpoint and `golden.safetensors`:
`ids`, `loss_per_sequence`, and for each weight every 17th entry (in the order of the checkpoint's tensor) of `grad`, `gradsq` and
`gradabs`, with the largest magnitude of each whole tensor in `largest`. Models whose queries, keys and values are one matrix also get
LLM-Pruner's scores, computed here: `llmp/MODE/head` and `llmp/MODE/neuron`, `(blocks, units)`.
"""

import json
import pathlib
import shutil
import sys

import numpy
from safetensors.numpy import load_file, save_file

STEP = 17

# Names of the layers of a block, and whether a weight is stored as (inputs, outputs).
FUSED = {
    "gpt2": (["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], True),
    "gpt_neox": (["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], False),
}


def saliences(weight, first, second):
    """The four forms; `second` is the mean over sequences of squares."""
    return {
        "vectorize": weight * first,
        "param_first": weight * first,
        "param_second": weight**2 * second,
        "param_mix": weight * first - 0.5 * weight**2 * second,
    }


def llm_pruner(folder, values, model):
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] not in FUSED:
        return {}
    layers, transposed = FUSED[config["model_type"]]
    heads = config.get("n_head") or config["num_attention_heads"]
    weights = load_file(folder / "model.safetensors")
    found = {}
    for block in range(config.get("n_layer") or config["num_hidden_layers"]):
        salience = []
        for layer in layers:
            name = next(name for name in weights if name.endswith(f".{block}.{layer}.weight"))
            arrays = [weights[name], values[f"{model}/grad/{name}"], values[f"{model}/gradsq/{name}"] / len(values[f"{model}/ids"])]
            salience.append(saliences(*(array.astype("f8").T if transposed else array.astype("f8") for array in arrays)))
        for mode in salience[0]:
            lines = (lambda matrix, axis: abs(matrix.sum(axis))) if mode == "vectorize" else (lambda matrix, axis: abs(matrix).sum(axis))
            fused, output, up, down = (of[mode] for of in salience)
            rows = lines(fused, 1)
            # GPT-2: three parts of whole heads. GPT-NeoX: heads of three parts.
            rows = rows.reshape(3, heads, -1).sum((0, 2)) if transposed else rows.reshape(heads, -1).sum(1)
            head = rows + lines(output, 0).reshape(heads, -1).sum(1)
            found.setdefault(f"llmp/{mode}/head", []).append(head)
            found.setdefault(f"llmp/{mode}/neuron", []).append(lines(up, 1) + lines(down, 0))
    return {name: numpy.stack(blocks).astype("f4") for name, blocks in found.items()}


source, output, *models = sys.argv[1:]
source, output = pathlib.Path(source), pathlib.Path(output)
values = load_file(source / "grads.safetensors")
for model in models:
    folder = output / model
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source / "models" / model / name, folder / name)
    cut = {name: values[f"{model}/{name}"] for name in ("ids", "loss_per_sequence")}
    for name, value in values.items():
        owner, kind, *weight = name.split("/")
        if owner == model and kind in ("grad", "gradsq", "gradabs"):
            key = f"{kind}/{'/'.join(weight)}"
            cut[key] = numpy.ascontiguousarray(value.reshape(-1)[::STEP])
            cut[f"largest/{key}"] = numpy.abs(value).max().reshape(1)
    cut.update(llm_pruner(folder, values, model))
    save_file(cut, folder / "golden.safetensors")
