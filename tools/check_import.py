"""Holds an imported directory against transformers' own reading of the GGUF it came from.

    python tools/check_import.py MODEL.gguf DIRECTORY [--text FILE]

Loads DIRECTORY (and fails on any warning), loads MODEL.gguf through transformers' GGUF loader, and compares
tensor by tensor, bit for bit where the directory is float32. With --text, both tokenizers read the file.
Needs torch, transformers, accelerate, gguf, safetensors.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer


class Collector(logging.Handler):
    """Keeps every warning that transformers logs."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--text", type=Path)
    arguments = parser.parse_args()

    collector = Collector()
    logging.getLogger("transformers").addHandler(collector)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AutoModelForCausalLM.from_pretrained(arguments.directory, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(arguments.directory)
    complaints = collector.messages + [str(warning.message) for warning in caught]
    print(f"transformers {transformers.__version__}: {len(complaints)} warnings", *complaints, sep="\n  ")

    folder = str(arguments.gguf.parent)
    reference = AutoModelForCausalLM.from_pretrained(folder, gguf_file=arguments.gguf.name, dtype=torch.float32)
    ours, theirs = model.state_dict(), reference.state_dict()
    failures = sorted(set(ours) ^ set(theirs))
    worst, equal = 0.0, 0
    for name in sorted(set(ours) & set(theirs)):
        if ours[name].shape != theirs[name].shape:
            failures.append(f"{name}: shapes {tuple(ours[name].shape)}, {tuple(theirs[name].shape)}")
            continue
        # Rounded to the directory's type, the values must be the same to the last bit.
        expected = theirs[name].to(ours[name].dtype)
        if torch.equal(ours[name], expected):
            equal += 1
            continue
        difference = (ours[name].double() - expected.double()).abs().max().item()
        worst = max(worst, difference)
        failures.append(f"{name}: largest difference {difference:g}")
    print(f"{equal} of {len(theirs)} tensors equal, largest difference {worst:g}")

    # What transformers reads must be what is stored.
    stored = 0
    for file in sorted(arguments.directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                stored += 1
                if not torch.equal(tensors.get_tensor(name), ours[name]):
                    failures.append(f"{name}: loaded and stored values differ")
    print(f"{stored} stored tensors compared with the loaded model")

    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "rms_norm_eps", "max_position_embeddings", "vocab_size"]:
        values = [getattr(loaded.config, key, None) for loaded in (model, reference)]
        if values[0] != values[1]:
            print(f"config {key}: {values[0]} here, {values[1]} in transformers' reading")
    print("config rope:", json.dumps(getattr(model.config, "rope_parameters", None)))

    if arguments.text:
        text = arguments.text.read_text()
        other = AutoTokenizer.from_pretrained(folder, gguf_file=arguments.gguf.name)
        ids = [loaded(text)["input_ids"] for loaded in (tokenizer, other)]
        same = "the same" if ids[0] == ids[1] else "other"
        print(f"tokens: {len(ids[0])}; transformers' own conversion yields {same} ids ({len(ids[1])})")

    print(*failures, sep="\n")
    sys.exit(bool(failures or complaints))


if __name__ == "__main__":
    main()
