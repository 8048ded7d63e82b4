#!/usr/bin/env python3
"""Write the token ids transformers gives where the files beside tokenizer.json say more than it does.

Each case is the tiny tokenizer of the tests with some files beside it; recorded are the ids of one text and the ids of
the tokens that begin and end a text, all as `AutoTokenizer` has them.

    python tools/make_golden_token_settings.py > tests/golden/tokens/settings.json
"""

import json
import shutil
import tempfile
from pathlib import Path

import tokenizers
import transformers
from transformers import AutoTokenizer

TINY = Path(__file__).resolve().parent.parent / "tests/fixtures/tiny"
TEXT = "Emma <|im_start|>user<s> W  <x> [PAD]</s> 12\n<y>"
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
NAMED = {**FAST, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def plain(content, **properties):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **properties}


def decoder(tokens):
    return {**NAMED, "added_tokens_decoder": {str(id): token for id, token in tokens.items()}}


CASES = {
    "no files": {},
    "names alone": {"tokenizer_config.json": NAMED},
    "no names": {"tokenizer_config.json": FAST},
    "a token that only the decoder has": {"tokenizer_config.json": decoder({259: plain("<|im_start|>")})},
    "two of them, not in order": {"tokenizer_config.json": decoder({260: plain("<x>"), 259: plain("<|im_start|>")})},
    "one with properties left out": {"tokenizer_config.json": decoder({259: {"content": "<|im_start|>"}})},
    "one that takes white space": {"tokenizer_config.json": decoder({259: plain("<x>", lstrip=True, rstrip=True)})},
    "other properties of a known token": {"tokenizer_config.json": decoder({1: plain("<s>", rstrip=True)})},
    "special tokens are text": {"tokenizer_config.json": {**NAMED, "split_special_tokens": True}},
    "special tokens are text, others are not": {"tokenizer_config.json": {
        **decoder({259: plain("<x>", special=False)}), "split_special_tokens": True}},
    "a pad token": {"tokenizer_config.json": {**NAMED, "pad_token": "[PAD]"}},
    "several names, in the classes' order": {"tokenizer_config.json": {
        **NAMED, "mask_token": "<x>", "cls_token": "<y>", "pad_token": "[PAD]"}},
    "a name of this model alone": {"tokenizer_config.json": {**NAMED, "image_token": "<x>", "pad_token": "[PAD]"}},
    "further special tokens, old name": {"tokenizer_config.json": {
        **NAMED, "additional_special_tokens": ["<|im_start|>", "<x>"]}},
    "further special tokens, new name": {"tokenizer_config.json": {**NAMED, "extra_special_tokens": ["<|im_start|>", "<x>"]}},
    "further special tokens by name": {"tokenizer_config.json": {**NAMED, "extra_special_tokens": {"image_token": "<x>"}}},
    "both names": {"tokenizer_config.json": {
        **NAMED, "additional_special_tokens": ["<y>"], "extra_special_tokens": ["<x>"]}},
    "a map of names": {"tokenizer_config.json": FAST, "special_tokens_map.json": {
        "bos_token": "<s>", "pad_token": "[PAD]", "additional_special_tokens": ["<x>"]}},
    "a map goes before": {"tokenizer_config.json": NAMED, "special_tokens_map.json": {"bos_token": "</s>"}},
    "a map of tokens with properties": {"tokenizer_config.json": FAST, "special_tokens_map.json": {
        "pad_token": {"content": "[PAD]", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}}},
    "a map beside a decoder does not count": {
        "tokenizer_config.json": decoder({259: plain("<x>")}),
        "special_tokens_map.json": {"bos_token": "</s>", "pad_token": "[PAD]"}},
    "added tokens": {"tokenizer_config.json": NAMED, "added_tokens.json": {"<|im_start|>": 259, "<x>": 260}},
    "added tokens, one of them special": {
        "tokenizer_config.json": {**NAMED, "pad_token": "<x>"}, "added_tokens.json": {"<|im_start|>": 259, "<x>": 260}},
    "added tokens beside a decoder do not count": {
        "tokenizer_config.json": decoder({259: plain("<x>")}), "added_tokens.json": {"<|im_start|>": 259}},
    "BOS is null": {"tokenizer_config.json": {**NAMED, "bos_token": None}},
    "the post-processor decides of BOS": {"tokenizer_config.json": {**NAMED, "add_bos_token": False, "add_eos_token": True}},
    "a space in front is the pre-tokenizer's": {"tokenizer_config.json": {**NAMED, "add_prefix_space": True}},
    "small letters are the normalizer's": {"tokenizer_config.json": {**NAMED, "do_lower_case": True}},
    "GPT-2's class": {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>",
                                                "unk_token": "<unk>", "add_prefix_space": False}},
    "a number that is no JSON": {"tokenizer_config.json": {**NAMED, "model_max_length": float("inf"), "pad_token": "[PAD]"}},
}


def main():
    transformers.utils.logging.set_verbosity_error()
    cases = []
    for name, files in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for file in ("config.json", "tokenizer.json"):
                shutil.copy(TINY / file, folder / file)
            texts = {file: json.dumps(content) for file, content in files.items()}
            for file, text in texts.items():
                (folder / file).write_text(text)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            cases.append({
                "name": name,
                "files": texts,
                "ids": tokenizer(TEXT)["input_ids"],
                "bos": tokenizer.bos_token_id,
                "eos": tokenizer.eos_token_id,
            })
    golden = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "text": TEXT}
    lines = ",\n".join(json.dumps(case) for case in cases)
    print(json.dumps(golden)[:-1] + ', "cases": [\n' + lines + "\n]}")


if __name__ == "__main__":
    main()
