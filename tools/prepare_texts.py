#!/usr/bin/env python3
"""Write the further training texts of tiny-llama-books, one paragraph per line.

Two sources, neither of which this program downloads:

- `--editions`: a folder with a clone of each project of EDITIONS below, bare or
  not, named after the project (`git clone --bare https://github.com/standardebooks/X X`).
  The texts are read at the commits given there, whatever is checked out.
- `--bible`: what Debian's program `bible` prints for `bible -f gen1:1-rev22:21`
  (packages bible-kjv and bible-kjv-text 4.38).

Quotation marks, dashes and emphasis are written as in the novels that
`train_tiny.py` reads: straight quotes, `--` and `_emphasis_`.

    bible -f gen1:1-rev22:21 > kjv.txt
    python tools/prepare_texts.py --editions EDITIONS --bible kjv.txt --out BOOKS
"""

import argparse
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

# Projects of github.com/standardebooks and the commits that were read.
EDITIONS = {
    "anne-bronte_the-tenant-of-wildfell-hall": "e926e971f396c36d7870eab4a3efdb8f1d862d17",
    "anthony-trollope_barchester-towers": "a9a60f58d91d6d04e6a4ac004f7b582e022734d6",
    "charles-dickens_david-copperfield": "b00322a0956fec6d38ff19142d7acae58cd64fe9",
    "charlotte-bronte_jane-eyre": "bbc672ec8b30581b4926c6926dbfbdb79ba21040",
    "elizabeth-gaskell_north-and-south": "9540442c93ed81e9e12c1b18afadb12127293663",
    "emily-bronte_wuthering-heights": "8aecddde5b744e641576b41b4a0b6ea1d20f8a85",
    "george-eliot_middlemarch": "c54ac09aae18f8b480daa8326111e2693691b2ba",
    "william-makepeace-thackeray_vanity-fair": "d9763f3bf7221b4555c4226a4013a51cf1f2259d",
}
PARAGRAPHS = {"p", "h2", "h3", "h4", "h5", "li", "cite"}
PLAIN = str.maketrans({
    "“": '"', "”": '"', "‘": "'", "’": "'",
    "—": "--", "–": "-", "‑": "-", "−": "-", "⸺": "----", "⸻": "------", "…": "...",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ",  # spaces that are not to break, or thin ones
    "\u200a": None, "\u2060": None, "\ufeff": None,  # hair space, joiner, byte order mark
})


def tag_of(node) -> str:
    """The name of an element without its namespace."""
    return node.tag.split("}")[-1]


def inline(node) -> str:
    """The text of a paragraph: references to notes left out, emphasis between underscores."""
    kind = " ".join(v for k, v in node.attrib.items() if k.endswith("type"))
    if "noteref" in kind or tag_of(node) == "img":
        return ""
    text = "\n" if tag_of(node) == "br" else node.text or ""
    for child in node:
        text += inline(child) + (child.tail or "")
    return f"_{text}_" if tag_of(node) in ("em", "i") and text.strip() else text


def paragraphs(node):
    """The paragraphs below an element, in reading order."""
    for child in node:
        if tag_of(child) in PARAGRAPHS and not any(tag_of(c) in PARAGRAPHS for c in child):
            text = " ".join(inline(child).translate(PLAIN).split())
            if text:
                yield text
        else:
            yield from paragraphs(child)


def edition(clone: Path, commit: str) -> list[str]:
    """All chapters of an edition in reading order; front and back matter are left out."""
    def show(path):
        place = f"{commit}:src/epub/{path}"
        return subprocess.run(["git", "-C", clone, "show", place], check=True, stdout=subprocess.PIPE).stdout.decode()

    found = []
    for name in re.findall(r'<itemref idref="(chapter-[^"]+\.xhtml)"', show("content.opf")):
        body = next(e for e in ET.fromstring(show(f"text/{name}")).iter() if tag_of(e) == "body")
        found += paragraphs(body)
    return found


def bible(file: Path) -> list[str]:
    """One paragraph per chapter, numbers of verses removed."""
    chapters = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        place, verse = line.split(" ", 1)
        chapters.setdefault(place.split(":")[0], []).append(" ".join(verse.split()))
    return [" ".join(verses) for verses in chapters.values()]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--editions", type=Path, required=True, help="folder with a clone of each project")
    p.add_argument("--bible", type=Path, required=True, help="the King James Bible, one verse per line")
    p.add_argument("--out", type=Path, required=True, help="folder for the texts, one .txt each")
    a = p.parse_args()
    missing = [name for name in EDITIONS if not (a.editions / name).is_dir()]
    if missing:
        p.error(f"{a.editions} has no {', '.join(missing)}")
    a.out.mkdir(parents=True, exist_ok=True)
    texts = {name.split("_", 1)[1]: edition(a.editions / name, commit) for name, commit in EDITIONS.items()}
    texts["king-james-bible"] = bible(a.bible)
    for name, lines in texts.items():
        text = "\n".join(lines) + "\n"
        (a.out / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {len(lines)} paragraphs, {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
