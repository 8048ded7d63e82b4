#!/usr/bin/env python3
"""Write the token ids transformers gives for some texts, one JSON file per tokenizer.

Each file records the versions, a list of short texts with their ids (with and without the special
tokens that the tokenizer adds) and what the ids decode to, and for each whole corpus file the number
of ids, the first and last few, and the SHA-256 of all of them as little-endian 32-bit integers.

    python tools/make_golden_tokens.py --model models/tiny-llama models/tiny-opt \\
        --corpus corpora/austen_calibration.txt corpora/persuasion.txt --out tests/golden/tokens
"""

import argparse
import hashlib
import json
import struct
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

ENDS = 16  # ids kept from either end of a corpus

TEXTS = [
    "",
    "a",
    " ",
    "Hello world",
    " Hello world",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune",
    # contractions, which the byte-level pattern splits off, in both cases and with a curly quote
    "don't can't we'll they've I'm he'd it's you're",
    "DON'T IT'S I'M",
    "don\u2019t",
    # runs of spaces, tabs and line ends, at the start, inside and at the end
    "two  spaces   three    four",
    "  leading and trailing  ",
    "line one\nline two\n\nline four\n",
    "windows\r\nline\r\nends",
    "\ttab\tand \t mixed \n \n",
    "no-break\u00a0space, thin\u2009space, zero\u200bwidth",
    # digits and punctuation
    "In 1811, 3.14159 and 1,000,000 (100%)!?",
    "a_b-c/d\\e:f;g'h\"i`j~k@l#m$n%o^p&q*r",
    "...---...\u2014\u2013\u2026",
    # letters outside ASCII, composed and decomposed, and other scripts
    "na\u00efve caf\u00e9 \u0152uvre",
    "nai\u0308ve cafe\u0301",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600\U0001f469\u200d\U0001f4bb\U0001f1eb\U0001f1f7",
    "\u0000\u0001\u007f\ufeff\ufffd",
    # special tokens spelled out in the text
    "<s>",
    "before <s> after</s>end<unk><pad>",
    "<s",
    "antidisestablishmentarianism" * 3,
]


def short_texts(tokenizer):
    rows = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append({
            "text": text,
            "ids": ids,
            "ids_without_special": plain,
            "decoded": tokenizer.decode(plain, clean_up_tokenization_spaces=False),
        })
    return rows


def whole_file(tokenizer, path):
    ids = tokenizer(path.read_bytes().decode("utf-8"))["input_ids"]
    packed = struct.pack(f"<{len(ids)}I", *ids)
    return {
        "file": path.name,
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "count": len(ids),
        "first": ids[:ENDS],
        "last": ids[-ENDS:],
        "ids_sha256": hashlib.sha256(packed).hexdigest(),
    }


def check_against_file(tokenizer, directory):
    """transformers may rebuild a tokenizer rather than read tokenizer.json; they have to agree."""
    plain = Tokenizer.from_file(str(directory / "tokenizer.json"))
    for text in TEXTS:
        for special in (True, False):
            ours = tokenizer(text, add_special_tokens=special)["input_ids"]
            theirs = plain.encode(text, add_special_tokens=special).ids
            assert ours == theirs, f"{directory.name}: {text!r}: transformers {ours}, tokenizer.json {theirs}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="directories with a tokenizer.json")
    parser.add_argument("--corpus", type=Path, nargs="*", default=[], help="UTF-8 files to encode whole")
    parser.add_argument("--out", type=Path, required=True, help="directory that gets <model name>.json")
    args = parser.parse_args()

    # Corpora are longer than a model's window, which is no news here.
    transformers.utils.logging.set_verbosity_error()
    args.out.mkdir(parents=True, exist_ok=True)
    for directory in args.model:
        tokenizer = AutoTokenizer.from_pretrained(directory)
        check_against_file(tokenizer, directory)
        golden = {
            "tokenizer": directory.name,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "vocab_size": len(tokenizer),
            "texts": short_texts(tokenizer),
            "corpora": [whole_file(tokenizer, path) for path in args.corpus],
        }
        path = args.out / f"{directory.name}.json"
        path.write_text(json.dumps(golden, indent=1) + "\n")
        print(f"{path.name}: {len(TEXTS)} texts, " + ", ".join(
            f"{c['file']} {c['count']} ids" for c in golden["corpora"]))


if __name__ == "__main__":
    main()
