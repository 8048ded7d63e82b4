#!/usr/bin/env python3
"""Write the prompts of experiments/prompts: small sums in words, with answers in GSM8K's form.

    python tools/make_prompts.py --out experiments/prompts

A model of 135 million parameters answers some of GSM8K's questions by chance at most. These it can answer, and it can lose that.
"""

import argparse
import json
import random
from pathlib import Path

NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Frank", "Greta", "Henry"]
THINGS = ["apples", "books", "coins", "marbles", "pencils", "stamps", "tickets", "shells"]


def rows(seed, count):
    draw = random.Random(seed)
    seen = set()
    while len(seen) < count:
        name, thing = draw.choice(NAMES), draw.choice(THINGS)
        first, second = draw.randint(2, 49), draw.randint(2, 49)
        if (name, thing, first, second) in seen:
            continue
        seen.add((name, thing, first, second))
        question = f"{name} has {first} {thing} and gets {second} more. How many {thing} does {name} have?"
        yield dict(question=question, answer=f"{first} + {second} = {first + second}\n#### {first + second}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name, seed, count in (("sums", 1, 200), ("sums_examples", 2, 5)):
        with open(out / f"{name}.jsonl", "w") as file:
            for row in rows(seed, count):
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
