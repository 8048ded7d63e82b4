#!/usr/bin/env python3
"""Write what transformers' apply_chat_template makes of some conversations, and its tokens, for every template of a folder.

The tokenizer is the tiny one of the tests. A template that asks for the date is told the one of `zprune::data::chat::TODAY`. Where a
template refuses a conversation, its message is written.

    python tools/make_golden_chats.py --templates tests/fixtures/chats --tokenizer tests/fixtures/tiny --out tests/golden/chats.json
"""

import argparse
import datetime
import json
import shutil
import tempfile
from pathlib import Path

import jinja2
import tokenizers
import transformers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

CONVERSATIONS = [
    ["What is 2 + 3?"],
    ["How many?\n", "  Four. ", "Question: \"a\" & 'b' < c?\nAnswer:"],
    ["na\u00efve \u4e16\u754c", "\U0001f600 yes", "{{ bos_token }} {% if %} <s> </s>", "<think>\nhm\n</think>\n\nno", "\n\n and now?  "],
]


class Today(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chat_template_utils.datetime = Today
    cases = []
    for template in sorted(arguments.templates.glob("*.jinja")):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(arguments.tokenizer / "tokenizer.json", folder)
            shutil.copy(template, Path(folder) / "chat_template.jinja")
            config = {"tokenizer_class": "PreTrainedTokenizerFast", **NAMED}
            (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            for said in CONVERSATIONS:
                turns = [{"role": ["user", "assistant"][at % 2], "content": text} for at, text in enumerate(said)]
                case = {"template": template.name, "said": said}
                try:
                    case["text"] = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
                    ids = tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
                    case["ids"] = ids
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = error.message
                cases.append(case)
    versions = {
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "jinja2": jinja2.__version__,
    }
    golden = {"versions": versions, "named": NAMED, "cases": cases}
    arguments.out.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
