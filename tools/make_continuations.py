#!/usr/bin/env python3
"""Write prompts whose answers are what a model itself writes: how many of its continuations does a pruned one keep?

    python tools/make_continuations.py --zprune target/release/zprune --model models/tiny-llama \\
        --corpus corpora/persuasion.txt --out experiments/prompts/continuations.jsonl

A prompt is 30 words from the beginning of a sentence, an answer the next 8 tokens.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

WORDS = 30
TOKENS = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zprune", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    words = arguments.corpus.read_text().split()
    starts = [at for at in range(1, len(words) - WORDS - TOKENS) if words[at - 1].endswith(".")]
    step = len(starts) / arguments.count
    starts = [starts[int(index * step)] for index in range(arguments.count)]
    prompts = [" ".join(words[at : at + WORDS]) for at in starts]
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "asked.jsonl", Path(folder) / "found.json"
        asked.write_text("".join(json.dumps({"prompt": text, "answer": "?"}) + "\n" for text in prompts))
        command = [arguments.zprune, "eval", "--model", arguments.model, "--generate", asked, "--match", "exact"]
        subprocess.run([*command, "--max-tokens", str(TOKENS), "--json", found], check=True)
        samples = json.loads(found.read_text())["samples"]["asked"]
    with open(arguments.out, "w") as file:
        for text, sample in zip(prompts, samples, strict=True):
            if sample["text"].strip():
                file.write(json.dumps({"prompt": text, "answer": sample["text"].strip()}) + "\n")


if __name__ == "__main__":
    main()
