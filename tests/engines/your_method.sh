#!/usr/bin/env bash
# Runs the commands of docs/your-method.md as they stand there, in an empty folder: statistics, a script that makes scores and masks from
# them, a model that another program pruned, and the table with all of them. Takes about two minutes.
# Installs nothing; needs numpy and safetensors. Usage: tests/engines/your_method.sh [ZPRUNE [PYTHON]]
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
zprune=$(realpath "${1:-target/release/zprune}")
# A virtual environment is known by the path that it is called by.
python=$(command -v "${2:-python3}") || { echo "missing: ${2:-python3}"; exit 1; }
case $python in /*) ;; *) python=$repository/$python ;; esac
"$python" -c 'import numpy, safetensors' || { echo "missing: numpy and safetensors (pip install numpy safetensors)"; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin" "$scratch/an empty folder"
ln -s "$zprune" "$scratch/bin/zprune"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$scratch/bin/python3"
chmod +x "$scratch/bin/python3"
export PATH="$scratch/bin:$PATH"
cd "$scratch/an empty folder"
page="$repository/docs/your-method.md"

# The text of all blocks of one language.
blocks() { awk -v begin="\`\`\`$1" '$0 == begin { inside = 1; next } $0 == "```" { inside = 0 } inside' "$page"; }

cp "$repository/docs/your_method.py" "$repository/docs/their_checkpoint.py" .
blocks toml >mine.toml
blocks sh >commands.sh
test "$(grep -c zprune commands.sh)" -ge 4 || { echo "the page has lost its commands"; exit 1; }
bash -euo pipefail commands.sh >"$scratch/told" 2>"$scratch/log" || { tail -n 40 "$scratch/log"; exit 1; }

# The script for PyTorch makes the same of the statistics, but for what rounding decides.
if "$python" -c 'import torch' 2>/dev/null; then
    mkdir torch
    (cd torch && "$python" "$repository/docs/your_method_torch.py" ../models/tiny-llama ../statistics-0.safetensors 0)
    "$python" - <<'EOF'
from safetensors.numpy import load_file
for name in ["scores-0", "mask-0.5-0", "mask-2-4-0"]:
    one, other = load_file(f"{name}.safetensors"), load_file(f"torch/{name}.safetensors")
    assert one.keys() == other.keys() and one
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.shape == other[key].shape, (name, key)
        far = abs(value.astype("float64") - other[key].astype("float64"))
        assert (far > 1e-5 * abs(value)).mean() < 1e-4, (name, key)
EOF
fi

table=results/mine/tables/perplexity.md
differences=results/mine/tables/comparisons.md
fail() { echo "your method: $1"; cat "$table" "$differences"; exit 1; }
for method in wanda "my formula" "my scores" "my mask" "my mask, refitted" "their model"; do
    grep -q "^| $method " "$table" || fail "the table has no row for $method"
done
grep -q "wanda.*their model\|their model.*wanda" "$differences" || fail "wanda and their model are not compared"
# Nothing failed, and every cell is there: dense, five methods by two patterns by three seeds, one checkpoint.
test "$(grep -c '"status":"ok"' results/mine/runs.jsonl)" -eq 32 || fail "not every cell has a result"
cat "$table"
