#!/usr/bin/env python3
"""A model pruned by another program, as a directory of Hugging Face: by magnitude, with one threshold for each layer.

Usage: their_checkpoint.py MODEL SPARSITY OUT. Needs numpy and safetensors. It stands for whatever program you compare with.
"""
import shutil
import sys
import numpy as np
from safetensors.numpy import load_file, save_file

model, sparsity, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
shutil.copytree(model, out)
weights = load_file(f"{out}/model.safetensors")
for name, weight in weights.items():
    if "layers." in name and weight.ndim == 2:
        threshold = np.quantile(np.abs(weight).astype("float32"), sparsity)
        weights[name] = np.where(np.abs(weight) > threshold, weight, 0).astype(weight.dtype)
save_file(weights, f"{out}/model.safetensors", metadata={"format": "pt"})
