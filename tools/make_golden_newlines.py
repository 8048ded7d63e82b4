#!/usr/bin/env python3
"""Write the lines that Python's text mode makes of texts with all kinds of line ends.

Every text of up to five of `a`, CR and LF, and some with characters that end lines for `str.splitlines` but not for files.

    python tools/make_golden_newlines.py > tests/golden/universal_newlines.json
"""

import itertools
import json
import tempfile

TEXTS = ["".join(text) for length in range(6) for text in itertools.product("a\r\n", repeat=length)]
TEXTS += ["x\u2028y\x0bz\x0c\x85w\x1c\r\nv", "\u00e9\r\u00e9\r\n\u00e9", " \r\n = T = \r\n"]


def lines(text):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        with open(file.name, encoding="utf-8") as again:
            return again.readlines()


print("[\n" + ",\n".join(json.dumps([text, lines(text)]) for text in TEXTS) + "\n]")
