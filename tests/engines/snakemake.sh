#!/usr/bin/env bash
# A real Snakemake runs a sweep as `zprune submit` writes it, two cells at once; one process is killed, so that Snakemake
# runs its cell again; started once more, it finds nothing to do. The results are held against an undisturbed run.
# Takes about a minute.
# Installs nothing; needs snakemake (PyPI), in PATH or named. Usage: tests/engines/snakemake.sh [ZPRUNE [SNAKEMAKE]]
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
zprune=$(realpath "${1:-target/release/zprune}")
snakemake=${2:-snakemake}
command -v "$snakemake" >/dev/null || { echo "missing: $snakemake (PyPI: pip install snakemake)"; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
work="$scratch/a folder"
mkdir "$work"
cp -r models corpora tests/engines/sweep.toml "$work"
cd "$work"
fail() { echo "snakemake: $1"; tail -n 40 "$scratch"/*.log; exit 1; }
await() {
    local what=$1; shift
    for _ in $(seq 450); do if "$@"; then return 0; fi; sleep 0.2; done
    fail "waited in vain for $what"
}
echo "Snakemake $("$snakemake" --version)"
"$zprune" submit sweep.toml --engine snakemake --cores 1 --mem 1G --write | head -n 1
start() { "$snakemake" --snakefile results/engines/submit/Snakefile --cores 2 "$@"; }

# The process of a claimed cell, as its claim names it.
claimed() { sed -n 's/^process \([0-9]*\) on .*/\1/p' results/engines/claims/*.lock 2>/dev/null | head -n 1; }
two_at_once() { [ "$(ls results/engines/claims 2>/dev/null | wc -l)" -ge 2 ] && [ -n "$(claimed)" ]; }

start >"$scratch/first.log" 2>&1 &
first=$!
await "two cells at once" two_at_once
victim=$(claimed)
echo "two cells at once; killing process $victim"
kill -KILL "$victim" || fail "the process had ended already"
wait $first || fail "the workflow failed"
grep -q 'Trying to restart job' "$scratch/first.log" || fail "nothing was started again"
start >"$scratch/second.log" 2>&1 || fail "the second start failed"
grep -q 'Nothing to be done' "$scratch/second.log" || fail "the second start did something"
"$repository/tests/engines/compare.sh" "$zprune" sweep.toml results || fail "the results differ"
