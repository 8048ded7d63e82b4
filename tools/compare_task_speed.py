"""Times zprune and lm-evaluation-harness on the same zero-shot documents, task by task and in turn, and holds their scores
against each other.

    python tools/compare_task_speed.py MODEL --data FOLDER                                    # an NVIDIA GPU, all documents
    python tools/compare_task_speed.py MODEL --data FOLDER --device cpu --backend cpu --limit 100

zprune is timed from start to end of the program (loading, hashing and tokenising included), the harness without its start
and without loading the model. No network is used. Needs what `check_tasks.py` needs, and `cargo build --release`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from check_tasks import DEFINITIONS

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--tasks", nargs="+", default=list(DEFINITIONS), choices=list(DEFINITIONS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--zprune", default=str(HERE.parent / "target/release/zprune"))
    parser.add_argument("--backend", default="gpu")
    parser.add_argument("--compute", default="f32", choices=["f32", "f16"])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", default="64", help="the harness's batch size; `auto` tries")
    parser.add_argument("--out", help="folder that keeps both sides' results")
    arguments = parser.parse_args()

    folder = pathlib.Path(arguments.out or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    limit = [] if arguments.limit is None else ["--limit", str(arguments.limit)]
    dtype = {"f32": "float32", "f16": "float16"}[arguments.compute]
    merged = {"tasks": [], "samples": {}}
    rows = []
    for task in arguments.tasks:
        ours = folder / f"zprune_{task}.json"
        command = [arguments.zprune, "eval", "--model", arguments.model, "--tasks", task, "--data", arguments.data]
        command += ["--backend", arguments.backend, "--compute", arguments.compute, "--json", str(ours), *limit]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        found = json.loads(ours.read_text())
        merged["tasks"] += found["tasks"]
        merged["samples"].update(found["samples"])

        theirs = folder / "harness.json"
        command = [sys.executable, str(HERE / "check_tasks.py"), "harness", arguments.model, "--data", arguments.data]
        command += ["--tasks", task, "--device", arguments.device, "--dtype", dtype, "--batch", arguments.batch]
        command += ["--out", str(theirs), *limit]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        other = json.loads(theirs.read_text())["tasks"][task]["seconds"]
        rows.append((task, found["tasks"][0]["documents"], seconds, other))
        print(f"{task}: zprune {seconds:.1f} s, harness {other:.1f} s", file=sys.stderr, flush=True)

    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    print("| task | documents | zprune, s | harness, s | zprune, documents/s | harness, documents/s | harness / zprune |")
    print("|---|---|---|---|---|---|---|")
    for task, count, ours, theirs in rows:
        print(f"| {task} | {count} | {ours:.1f} | {theirs:.1f} | {count / ours:.1f} | {count / theirs:.1f} | {theirs / ours:.2f} |")
    whole = folder / "zprune.json"
    whole.write_text(json.dumps(merged) + "\n")
    print(flush=True)
    sys.exit(subprocess.run([sys.executable, str(HERE / "check_tasks.py"), "compare", str(folder / "harness.json"), str(whole)]).returncode)


if __name__ == "__main__":
    main()
