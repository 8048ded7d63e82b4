"""Interrupts a sweep at random moments and holds its end against an undisturbed run.

Runs an experiment twice, each time into a results folder of its own: once undisturbed, once ended by SIGKILL, SIGTERM or SIGINT at
random moments, a given number of times, and started again after each. Then, apart from times, every file of the two folders
must be the same byte for byte. Times come from the member `run` of records alone: records are compared without it, the report in
the disturbed folder must be what `zprune report` makes of its records, and with `run` made equal in both folders, their reports
must be the same. Needs only Python's standard library.

    python tools/interrupt_sweep.py experiments/calibration_draws.toml --times 20
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Of processes that were asked to stop and did, and of those that a signal ended.
STOPPED = (130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)


def command(zprune, experiment, results):
    return [str(zprune), "run", str(experiment), "--results", str(results)]


def undisturbed(zprune, experiment, results):
    started = time.monotonic()
    subprocess.run(command(zprune, experiment, results), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def disturbed(zprune, experiment, results, times, seconds, dice):
    """Returns what ended each process, and seconds in all."""
    started = time.monotonic()
    ends = []
    while True:
        process = subprocess.Popen(command(zprune, experiment, results), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if len(ends) < times:
            # They add up to about half the sweep: a machine that has less to do meanwhile must not come to its end first.
            try:
                process.wait(dice.uniform(0, seconds / (times + 1)))
            except subprocess.TimeoutExpired:
                which = dice.choice(SIGNALS)
                process.send_signal(which)
                code = process.wait()
                if code in STOPPED:
                    ends.append(f"{which.name} -> {code}")
                    continue
                if code != 0:
                    sys.exit(f"ended with {code} after {which.name}")
        code = process.wait()
        if code != 0:
            sys.exit(f"ended by itself with {code}")
        if len(ends) < times:
            sys.exit(f"the sweep was at its end after {len(ends)} interruptions; ask for fewer")
        return ends, time.monotonic() - started


EQUAL = {"version": "", "machine": "", "finished": "", "calibrate_seconds": 1.0, "prune_seconds": 1.0, "total_seconds": 1.0}


def timeless(records):
    """`runs.jsonl` as if all was done at the same place and time, equally fast, each line with the checksum of what it then says."""
    lines = []
    for line in records.splitlines():
        # As text, since Python writes some numbers in another way. `run` and `check` are the last members.
        body = line[: line.rindex(',"run":{')] + ',"run":' + json.dumps(EQUAL, separators=(",", ":"))
        check = hashlib.sha256((body + "}").encode()).hexdigest()[:16]
        lines.append(f'{body},"check":"{check}"}}\n')
    return "".join(lines)


def report(zprune, plan, records, folder):
    """What `zprune report` makes of records; records and plan included."""
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_bytes(plan)
    (folder / "runs.jsonl").write_text(records)
    subprocess.run([str(zprune), "report", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return files(folder)


def files(folder):
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "events.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def compare(what, one, other):
    if one.keys() != other.keys():
        sys.exit(f"{what}: other files: {sorted(one.keys() ^ other.keys())}")
    differing = [path for path in one if one[path] != other[path]]
    if differing:
        sys.exit(f"{what}: {differing} differ")
    print(f"{what}: {len(one)} files are the same, {sum(map(len, one.values()))} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zprune", type=Path, default=Path("target/release/zprune"))
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        load = os.getloadavg()
        seconds = undisturbed(options.zprune, options.experiment, scratch / "undisturbed")
        print(f"undisturbed: {seconds:.0f} s, report included (load before: {load[0]:.1f}, {os.cpu_count()} cores)")
        ends, longer = disturbed(options.zprune, options.experiment, scratch / "disturbed", options.times, seconds, dice)
        print(f"interrupted {len(ends)} times: {longer:.0f} s (load now: {os.getloadavg()[0]:.1f})")
        for end in sorted(set(ends)):
            print(f"  {ends.count(end):2} x {end}")
        name = next((scratch / "disturbed").iterdir()).name
        folders = [scratch / which / name for which in ("disturbed", "undisturbed")]
        plans = [(folder / "plan.toml").read_bytes() for folder in folders]
        records = [(folder / "runs.jsonl").read_text() for folder in folders]
        ids = [json.loads(line)["id"] for line in records[0].splitlines()]
        if len(ids) != len(set(ids)):
            sys.exit("a cell was recorded twice")
        print(f"{len(ids)} cells, each recorded once")
        again = report(options.zprune, plans[0], records[0], scratch / "again")
        compare("the report of the disturbed sweep, and what its records say", files(folders[0]), again)
        equal = [
            report(options.zprune, plan, timeless(text), scratch / "equal" / str(index))
            for index, (plan, text) in enumerate(zip(plans, records))
        ]
        compare("records, plans and reports of both sweeps with equal times", *equal)


if __name__ == "__main__":
    main()
