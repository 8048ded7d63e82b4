#!/usr/bin/env python3
"""Write the token ids transformers gives where a tokenizer's class makes parts of tokenizer.json anew.

Each case is a tokenizer.json, the files beside it and a model type; recorded are the ids of one text and the ids of the
tokens that begin and end a text, all as `AutoTokenizer` has them, or null where transformers itself fails.

    python tools/make_golden_token_classes.py > tests/golden/tokens/classes.json     # one case in 64
    python tools/make_golden_token_classes.py 1 > /tmp/all.json                      # all of them

`ZPRUNE_TOKEN_CLASSES=/tmp/all.json cargo test --release --test golden_tokens` holds all of them against zprune.
"""

import itertools
import json
import random
import sys
import tempfile
from pathlib import Path

import tokenizers
import transformers
from transformers import AutoTokenizer

TINY = Path(__file__).resolve().parent.parent / "tests/fixtures/tiny"
TEXT = "Emma  saw the<s> W  <x>12345 [PAD]</s> it's\n\u00e9\u0301 Ⅳ x<|endoftext|>y the<unk>\n\n"
FAMILIES = ["llama", "mistral", "gpt2", "opt", "gpt_neox", "qwen2", "qwen3", "gemma2", "gemma3_text"]
CLASSES = [None, "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast",
           "GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "Qwen2Tokenizer",
           "Qwen2TokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast", "CodeLlamaTokenizer", "BloomTokenizerFast",
           "NoSuchTokenizer"]


def added(id, content, **properties):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **properties}


def template(begin, end):
    def part(token):
        return {"SpecialToken": {"id": token, "type_id": 0}}
    ids = {"<s>": 1, "</s>": 2}
    around = [part(token) for token in begin] + [{"Sequence": {"id": "A", "type_id": 0}}] + [part(token) for token in end]
    return {"type": "TemplateProcessing", "single": around,
            "pair": around + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in begin + end}}


def bases():
    """Tokenizers by name: of bytes, and of pieces as SentencePiece has them."""
    tiny = json.loads((TINY / "tokenizer.json").read_text())

    def changed(base, model=None, **parts):
        return {**base, **parts, "model": {**base["model"], **(model or {})}}

    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    merges = [["t", "h"], ["th", "e"], ["\u0120", "the"], ["\u0120", "\u0120"], ["\u010a", "\u010a"], ["1", "2"]]
    words = tiny["model"]["vocab"] | {"".join(merge): 259 + at for at, merge in enumerate(merges)}
    tiny = changed(tiny, {"vocab": words, "merges": merges})
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}| ?\p{L}+|\s+|[^\s\p{L}\p{N}]+"}, "behavior": "Isolated", "invert": False}
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    pieces += ["\u2581", "\n", "E", "m", "th", "the", "\u2581the", "\u2581\u2581", "1", "2", "12", "\n\n"]
    joins = [["t", "h"], ["th", "e"], ["\u2581", "the"], ["\u2581", "\u2581"], ["1", "2"], ["\n", "\n"]]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    llama2 = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space]},
        "pre_tokenizer": None, "post_processor": template(["<s>"], []),
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, "merges": joins},
    }
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}
    few = {piece: id for id, piece in enumerate(piece for piece in llama2["model"]["vocab"] if not piece.startswith("<0x"))}
    return {
        "bytes": tiny,
        "bytes, nothing around": changed(tiny, post_processor=None),
        "bytes, a space in front": changed(tiny, pre_tokenizer={**level, "add_prefix_space": True}),
        "bytes, words of its own": changed(tiny, {"ignore_merges": True}, pre_tokenizer={
            "type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}),
        "bytes, NFC and an end": changed(tiny, normalizer={"type": "NFC"}, post_processor=template(["<s>"], ["</s>"])),
        "bytes, further tokens": changed(tiny, added_tokens=tiny["added_tokens"] + [
            added(265, "<x>", rstrip=True), added(266, "<|endoftext|>", lstrip=True, special=False)]),
        "pieces": llama2,
        "pieces, Metaspace": changed(llama2, normalizer=None, pre_tokenizer=meta, post_processor=template([], ["</s>"])),
        "pieces, Gemma's": changed(llama2, normalizer=space, pre_tokenizer={
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}),
        "pieces, no bytes": changed(llama2, {"vocab": few, "fuse_unk": False, "byte_fallback": False}),
    }


NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SETTINGS = {
    "nothing": {},
    "names": {"tokenizer_config.json": NAMED},
    "BOS": {"tokenizer_config.json": {**NAMED, "add_bos_token": True}},
    "no BOS, EOS": {"tokenizer_config.json": {**NAMED, "add_bos_token": False, "add_eos_token": True}},
    "a space": {"tokenizer_config.json": {**NAMED, "add_prefix_space": True}},
    "no space": {"tokenizer_config.json": {**NAMED, "add_prefix_space": False, "legacy": True}},
    "legacy": {"tokenizer_config.json": {**NAMED, "legacy": True}},
    "no legacy": {"tokenizer_config.json": {**NAMED, "legacy": False, "add_prefix_space": True}},
    "no names by null": {"tokenizer_config.json": {"bos_token": None, "eos_token": "</s>", "unk_token": None}},
    "tokens of other properties": {"tokenizer_config.json": {
        **NAMED, "pad_token": {"__type": "AddedToken", "content": "[PAD]", "lstrip": True, "normalized": False, "rstrip": True,
                               "single_word": False}, "extra_special_tokens": ["<x>"]}},
    "all tokens listed": {"tokenizer_config.json": {**NAMED, "added_tokens_decoder": {
        str(id): {key: value for key, value in added(id, content).items() if key != "id"}
        for id, content in enumerate(["<unk>", "<s>", "</s>"])}}},
    "BOS by the map": {"tokenizer_config.json": NAMED, "special_tokens_map.json": {
        "bos_token": "<s>", "add_bos_token": True, "add_eos_token": True, "pad_token": "[PAD]"}},
    "no BOS by the map": {"tokenizer_config.json": NAMED, "special_tokens_map.json": {"eos_token": "</s>", "add_bos_token": False}},
    "text": {"tokenizer_config.json": {**NAMED, "split_special_tokens": True}},
}


def main():
    transformers.utils.logging.set_verbosity_error()
    share = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    tiny = json.loads((TINY / "config.json").read_text())
    all_bases = {name: json.dumps(base, ensure_ascii=False) for name, base in bases().items()}
    chosen = list(itertools.product(FAMILIES, CLASSES, all_bases, SETTINGS))
    random.Random(0).shuffle(chosen)
    cases = []
    for family, kind, base, setting in chosen[: len(chosen) // share]:
        files = {file: dict(content) for file, content in SETTINGS[setting].items()}
        if kind is not None:
            files.setdefault("tokenizer_config.json", {})["tokenizer_class"] = kind
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "config.json").write_text(json.dumps({**tiny, "model_type": family}))
            (folder / "tokenizer.json").write_text(all_bases[base])
            for file, content in files.items():
                (folder / file).write_text(json.dumps(content))
            case = {"family": family, "class": kind, "base": base, "setting": setting, "files": files}
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder)
                case |= {"ids": tokenizer(TEXT)["input_ids"], "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
            except Exception as error:
                case |= {"ids": None, "error": f"{type(error).__name__}: {error}"[:80]}
            cases.append(case)
    golden = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "text": TEXT,
              "bases": all_bases}
    lines = ",\n".join(json.dumps(case) for case in cases)
    print(json.dumps(golden)[:-1] + ', "cases": [\n' + lines + "\n]}")


if __name__ == "__main__":
    main()
