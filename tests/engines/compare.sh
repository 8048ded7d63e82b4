#!/usr/bin/env bash
# Holds the results of a disturbed sweep against those of an undisturbed one, made here: every cell has exactly one
# good record, and records (but for where and when they were made) and plans are the same.
# Usage: compare.sh ZPRUNE EXPERIMENT RESULTS, in the folder that the experiment's paths are relative to.
set -euo pipefail
zprune=$1 experiment=$2 results=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# `run`, which says where, when and how fast, and `check`, the checksum of all that, are the last parts of every record.
timeless() { sed -E 's/"run":\{[^{}]*\},"check":"[0-9a-f]*"//' "$1" | sort; }

"$zprune" run "$experiment" --results "$scratch" >"$scratch/table" 2>"$scratch/log" || { cat "$scratch/log"; exit 1; }
name=$(basename "$(dirname "$(find "$scratch" -name runs.jsonl)")")
timeless "$scratch/$name/runs.jsonl" >"$scratch/undisturbed"
timeless "$results/$name/runs.jsonl" >"$scratch/disturbed"
cmp "$scratch/undisturbed" "$scratch/disturbed"
cmp "$scratch/$name/plan.toml" "$results/$name/plan.toml"
ls "$results/$name"/tables/*.md >/dev/null
test ! -e "$results/$name/claims" || { echo "claims are left in $results/$name"; exit 1; }
echo "$(wc -l <"$scratch/disturbed") cells, each recorded once, with the numbers of an undisturbed run"
