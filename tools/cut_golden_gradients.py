"""Cuts golden gradients from the whole set of an independent implementation (PyTorch, float64, autograd).

    python tools/cut_golden_gradients.py STRUCTURED OUTPUT MODEL...

STRUCTURED has `models/MODEL/` and `grads.safetensors`. For each model OUTPUT gets its checkpoint and `golden.safetensors`:
`ids`, `loss_per_sequence`, and for each weight every 17th entry (in the order of the checkpoint's tensor) of `grad`, `gradsq` and
`gradabs`, with the largest magnitude of each whole tensor in `largest`.
"""

import pathlib
import shutil
import sys

import numpy
from safetensors.numpy import load_file, save_file

STEP = 17

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
    save_file(cut, folder / "golden.safetensors")
