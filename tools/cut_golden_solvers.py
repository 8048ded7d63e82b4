"""Cuts tests/golden/recipes/solvers.safetensors out of the reference values of layer-wise methods.

    python tools/cut_golden_solvers.py path/to/recipes/layers2.safetensors

Values stay as they are stored. Of the cases whose Hessian is in tests/golden/layers.safetensors only results are taken. Needs
nothing but Python.
"""

import json
import struct
import sys
from pathlib import Path

PATTERNS = ["50", "70", "keep2of4"]
METHODS = ["wanda_lsq01", "wanda_lsq0", "admm", "admm_cubic", "admm_row", "alps", "fista", "fista_mag", "thanos"]


def wanted(name: str) -> bool:
    case, *rest = name.split(".")
    if case == "gqa" and rest in (["weight"], ["hessian"], ["n_seq"]):
        return True
    if case in ("real", "gauss", "dead") and rest in (["weight"], ["n_seq"]):
        return True
    if len(rest) != 3:
        return False
    method, pattern, what = rest
    taken = {
        "gqa": method in METHODS or (method, pattern) == ("fista_sgpt", "keep2of4"),
        "real": (method, pattern) in (("wanda_lsq01", "70"), ("alps", "50"), ("fista_sgpt", "keep2of4")),
        "dead": (method, pattern) in (("admm", "keep2of4"), ("alps", "70"), ("wanda_lsq01", "50")),
        "gauss": (method, pattern) in (("admm_row", "70"), ("fista", "50"), ("fista_mag", "70"), ("alps", "keep2of4")),
    }
    if not (taken.get(case, False) or (case in taken and method == "thanos")):
        return False
    return what in ("pruned", "objective") or (what == "weight" and method == "wanda_lsq01" and case == "gqa")


source = Path(sys.argv[1]).read_bytes()
(length,) = struct.unpack("<Q", source[:8])
header = json.loads(source[8 : 8 + length])
taken, data = {}, b""
for name in sorted(header):
    if name == "__metadata__" or not wanted(name):
        continue
    start, end = header[name]["data_offsets"]
    taken[name] = {**header[name], "data_offsets": [len(data), len(data) + end - start]}
    data += source[8 + length + start : 8 + length + end]
text = json.dumps(taken, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
to = Path(__file__).parent.parent / "tests/golden/recipes/solvers.safetensors"
to.parent.mkdir(exist_ok=True)
to.write_bytes(struct.pack("<Q", len(text)) + text + data)
print(to, len(taken), "tensors", to.stat().st_size, "bytes")
