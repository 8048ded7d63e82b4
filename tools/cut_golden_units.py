"""Cuts tests/golden/units from a reference set of structured pruning: python3 cut_golden_units.py REFERENCE OUT

REFERENCE is a folder with grads.safetensors, structured.safetensors and structured.json. Kept: ids, what FLAP and dropping blocks
give on two models, LLM-Pruner's scores, and what Olica gives on three models (whole matrices of one).
"""

import json
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

MODELS = ["llama_gqa_tied", "opt_pre"]
# Of these, every fourth token.
LOGITS = ("logits", "logits_without_bias")

reference, out = map(Path, sys.argv[1:])
tensors = load_file(reference / "structured.safetensors")
grads = load_file(reference / "grads.safetensors")
facts = json.loads((reference / "structured.json").read_text())
wanted = ("flap/", "drop/", "llmp/")
kept = {f"{name}/ids": grads[f"{name}/ids"] for name in MODELS}
for key, tensor in tensors.items():
    name, _, rest = key.partition("/")
    logits = rest.endswith("logits") and "llmp/" in rest
    if name in MODELS and rest.startswith(wanted) and "/sd/" not in rest and not logits and "token_variance" not in rest:
        kept[key] = tensor[:, ::4].copy() if rest.endswith(LOGITS) else tensor
save_file(kept, out / "units.safetensors")
facts = {name: {part: facts[name][part] for part in ("flap", "drop", "llmp")} for name in MODELS}
(out / "units.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")

MODELS = ["llama_mha", *MODELS]
kept = {f"{name}/ids": grads[f"{name}/ids"] for name in MODELS}
for key, tensor in tensors.items():
    name, _, rest = key.partition("/olica/")
    if name not in MODELS or not rest or rest.startswith("sd/") or "residual_E" in rest or "omega_clamp" in rest and "logits" not in rest:
        continue
    if rest.startswith(("rotated/", "expanded/")) and name != "llama_gqa_tied":
        continue
    kept[key] = tensor[:, ::4].copy() if rest.endswith(("logits", "at_the_end")) else tensor
save_file(kept, out / "olica.safetensors")
facts = {name: json.loads((reference / "structured.json").read_text())[name]["olica"] for name in MODELS}
(out / "olica.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
