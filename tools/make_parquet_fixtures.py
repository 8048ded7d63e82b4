"""Makes the small parquet files under tests/fixtures/parquet, and what Python makes of their rows.

    python tools/make_parquet_fixtures.py --out tests/fixtures/parquet

Needs pyarrow. The rows look like the hub's: WikiText's keep their newline and blank rows are empty strings; the Penn
Treebank's are sentences in a column of that name.
"""

import argparse
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

WIKITEXT = [
    "",
    " = Robert <unk> = \n",
    "",
    " The caf\u00e9 opened in 1998 @-@ 99 , and \u65e5\u672c\u8a9e was spoken there . \n",
    "",
    " = = Reception = = \n",
    "",
    " It was well received ; the critics said so . \n",
] * 6
PTB = [f"no it was n't black monday number N and <unk> {index}" for index in range(40)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    def write(name, columns, **options):
        pq.write_table(pa.table(columns), out / name, **options)

    # Several row groups, dictionary and plain pages, both page versions, the codecs the hub's files have.
    write("wikitext.parquet", {"text": WIKITEXT}, compression="snappy", row_group_size=7)
    write("ptb.parquet", {"sentence": PTB}, compression="zstd", use_dictionary=False, data_page_version="2.0")
    required = pa.schema([pa.field("id", pa.int64()), pa.field("tags", pa.list_(pa.string())),
                          pa.field("content", pa.large_string(), nullable=False)])
    code = pa.table({"id": [1, 2, 3], "tags": [["a"], [], ["b", "c"]], "content": ["fn main() {}\n", "x = 1\n", "\t"]},
                    schema=required)
    pq.write_table(code, out / "code.parquet", compression="gzip")
    write("no_text.parquet", {"url": ["a", "b"], "stars": [1, 2], "body": [["text"], ["text"]]}, compression="snappy")
    write("numbers.parquet", {"text": [1, 2, 3]}, compression="none")
    write("null.parquet", {"text": ["one", "two", None, "four"]}, compression="snappy", row_group_size=2)

    # Nested columns, as in the hub's ARC.
    tasks = pathlib.Path(__file__).parent.parent / "tests/fixtures/tasks/arc_easy.jsonl"
    rows = [json.loads(line) for line in tasks.read_text(encoding="utf-8").splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), out / "arc_easy.parquet", compression="snappy")

    (out / "wikitext.joined.txt").write_text("\n\n".join(WIKITEXT), encoding="utf-8", newline="")
    (out / "ptb.joined.txt").write_text(" ".join(PTB), encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
