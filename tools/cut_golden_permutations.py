"""Cuts from the reference values of an independent implementation what tests/golden_layers/permutations.rs compares with.

    python tools/cut_golden_permutations.py layers2.safetensors tests/golden/recipes/permutations.json

`layers2.safetensors` is the file of recipes that the project's shared folder has under golden/.
"""

import json
import sys

from safetensors.numpy import load_file


def main():
    recipes = load_file(sys.argv[1])
    cut = {}
    for case in ["real", "dead", "gauss"]:
        for pattern in ["keep2of4", "keep4of8"]:
            methods = ["ria", "ria_cp", "ria_cp_lsa"]
            cut[f"{case}.{pattern}"] = {
                "order": recipes[f"{case}.ria_cp.{pattern}.perm"].tolist(),
                "retained": {method: float(recipes[f"{case}.{method}.{pattern}.retained"][0]) for method in methods},
            }
    with open(sys.argv[2], "w") as file:
        json.dump(cut, file)


if __name__ == "__main__":
    main()
