#!/usr/bin/env python3
"""Load directories that `zprune prune` wrote with transformers, unmodified, and compare perplexities.

    zprune eval --model DIR --tokens TOKENS.safetensors --json DIR.json
    python tools/check_pruned.py DIR --tokens TOKENS.safetensors --json DIR.json

Exits with 1 if transformers warns about anything, misses or invents a tensor, or a perplexity differs
by more than 1e-4 of itself.
"""

import argparse
import json
import logging
import math
import sys
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


class Collect(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@torch.no_grad()
def check(directory, tokens, found):
    collect = Collect()
    for name in ("transformers", "py.warnings"):
        logging.getLogger(name).addHandler(collect)
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    faults = list(collect.messages)
    faults += [f"{kind}: {names}" for kind, names in info.items() if names]
    means = []
    for w in tokens:
        logits = model.eval()(w[None], use_cache=False).logits[0, :-1]
        means.append(F.cross_entropy(logits, w[1:]).double().item())
    want = math.exp(sum(means) / len(means))
    off = found["perplexity"] / want - 1
    if abs(off) > 1e-4:
        faults.append(f"perplexity {found['perplexity']} here, {want} in transformers")
    print(f"{directory}: transformers {want:.6f}, off {off:+.1e}" + "".join(f"\n  FAULT {it}" for it in faults))
    return not faults


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("directory", type=Path)
    p.add_argument("--tokens", type=Path, required=True)
    p.add_argument("--json", type=Path, required=True, help="what `zprune eval --json` wrote")
    a = p.parse_args()
    transformers.utils.logging.disable_progress_bar()
    tokens = load_file(a.tokens)["input_ids"]
    sys.exit(not check(a.directory, tokens, json.loads(a.json.read_text())))


if __name__ == "__main__":
    main()
