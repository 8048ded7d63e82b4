"""Cuts golden scores and masks of criteria with gradients from the whole set of an independent implementation (PyTorch, float64).

    python tools/cut_golden_criteria.py STRUCTURED OUTPUT MODEL...

STRUCTURED has `criteria.safetensors` and `grads.safetensors`. OUTPUT, a safetensors file, gets of each model `MODEL/ids`, and of each
criterion and layer every 17th score (`MODEL/CRITERION/score/LAYER`), the largest of them all (`.../largest/LAYER`), and which weights
are removed in bits, row after row (`.../mask_50/LAYER`, `.../mask_2of4/LAYER`).
"""

import pathlib
import sys

import numpy
from safetensors.numpy import load_file, save_file

STEP = 17

source, output, *models = sys.argv[1:]
source = pathlib.Path(source)
values = load_file(source / "criteria.safetensors")
ids = load_file(source / "grads.safetensors")
cut = {f"{model}/ids": ids[f"{model}/ids"] for model in models}
for name, value in values.items():
    model, criterion, *rest = name.split("/")
    if model not in models or len(rest) < 2:
        continue
    kind, layer = rest[0], "/".join(rest[1:])
    if kind == "score":
        cut[name] = numpy.ascontiguousarray(value.reshape(-1)[::STEP])
        cut[f"{model}/{criterion}/largest/{layer}"] = numpy.abs(value).max().reshape(1)
    else:
        cut[name] = numpy.packbits(value, axis=1, bitorder="little")
save_file(cut, output)
