#!/usr/bin/env python3
"""Run GGUF files that `zprune export` wrote in llama.cpp, and compare with zprune.

    zprune export DIR --out FILE.gguf --dtype f32
    zprune eval --model DIR --tokens TOKENS.safetensors --json EVAL.json
    python tools/check_gguf.py FILE.gguf --tokens TOKENS.safetensors --json EVAL.json --tokenizer DIR --text TEXT

llama.cpp is asked for the log-probabilities of all tokens after every prefix of the windows, without flash attention and with
keys and values in single precision. Compared are the mean negative log-likelihoods of the windows. With --text, the first
characters of a file are cut into tokens by llama.cpp and by the package tokenizers.
Exits with 1 if a mean differs by more than --tolerance, or a token. Needs xllamacpp, NumPy, safetensors; for --text tokenizers.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path

import xllamacpp as xlc
from safetensors.numpy import load_file

# A text is short enough for one request.
CHARACTERS = 20_000


def server(path, length):
    params = xlc.CommonParams()
    params.model.path = str(path)
    params.n_ctx = max(256, length + 8)
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams.poll = 0
    params.flash_attn_type = xlc.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = xlc.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xlc.ggml_type.GGML_TYPE_F32
    return xlc.Server(params)


def after(running, prefix, vocabulary):
    """The log-probability of every token after a prefix."""
    answer = running.handle_completions(
        {"prompt": [int(token) for token in prefix], "n_predict": 1, "n_probs": vocabulary, "temperature": 1.0, "cache_prompt": False}
    )
    if isinstance(answer, (str, bytes)):
        answer = json.loads(answer)
    if "choices" not in answer:
        sys.exit(f"llama.cpp answers {json.dumps(answer)[:300]}")
    return {entry["id"]: entry["logprob"] for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


def likelihoods(running, windows, vocabulary):
    means = []
    for window in windows:
        total = 0.0
        for place in range(1, len(window)):
            total -= after(running, window[:place], vocabulary)[int(window[place])]
        means.append(total / (len(window) - 1))
    return means


def tokens_of(running, text):
    data = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
    request = urllib.request.Request(f"{running.listening_address}/tokenize", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["tokens"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf", type=Path)
    p.add_argument("--tokens", type=Path, required=True)
    p.add_argument("--json", type=Path, required=True, help="what `zprune eval --json` wrote")
    p.add_argument("--tokenizer", type=Path, help="model directory with tokenizer.json")
    p.add_argument("--text", type=Path)
    p.add_argument("--tolerance", type=float, default=1e-5, help="in nats per token; about 1e-3 for f16, 1e-2 for q8_0")
    a = p.parse_args()
    windows = load_file(a.tokens)["input_ids"]
    found = json.loads(a.json.read_text())["windows"]
    vocabulary = int(windows.max()) + 1
    if a.tokenizer:
        vocabulary = json.loads((a.tokenizer / "config.json").read_text())["vocab_size"]
    running = server(a.gguf, windows.shape[1])
    means = likelihoods(running, windows, vocabulary)
    apart = max(abs(one - other) for one, other in zip(means, found, strict=True))
    faults = [f"likelihoods differ by {apart:.1e}"] if not apart <= a.tolerance else []
    print(f"{a.gguf}: {windows.shape[0]} windows of {windows.shape[1]} tokens, likelihoods differ by {apart:.1e} nats per token at most")
    if a.text:
        from tokenizers import Tokenizer

        text = a.text.read_text()[:CHARACTERS]
        own = Tokenizer.from_file(str(a.tokenizer / "tokenizer.json")).encode(text).ids
        theirs = tokens_of(running, text)
        print(f"  {len(own)} tokens of {a.text}; llama.cpp's are {'the same' if own == theirs else 'others'}")
        if own != theirs:
            faults.append("tokens differ")
    print(*faults, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
