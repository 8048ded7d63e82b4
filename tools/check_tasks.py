"""Holds `zprune eval --tasks` against lm-evaluation-harness: the same documents, the harness's own task definitions.

    python tools/check_tasks.py harness MODEL --data FOLDER --limit 200 --out harness.json
    zprune eval --model MODEL --tasks TASKS --data FOLDER --limit 200 --json zprune.json
    python tools/check_tasks.py compare harness.json zprune.json

The golden files of the tests are made with

    python tools/check_tasks.py harness models/tiny-llama --data tests/fixtures/tasks --texts --out tests/golden/tasks/tokenizer.json
    python tools/check_tasks.py harness models/tiny-llama --data tests/fixtures/tasks --bos never --prefix 2 --out tests/golden/tasks/never.json

`harness` reads local files named after the task, as zprune does (`FOLDER/<task>.jsonl`), through the definitions that
lm_eval installs; only where the rows come from is changed. No network is used. `compare` exits with 1 if a log-likelihood
is further apart than 1e-3 or an accuracy differs. `--out` may be a file from an earlier call, to which tasks are added. Needs PyTorch, transformers, lm_eval.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

DEFINITIONS = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "winogrande": "winogrande/default.yaml",
    "mnli": "glue/mnli/default.yaml",
    "wnli": "glue/wnli/default.yaml",
    "rte": "glue/rte/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
}
OTHER_NAMES = {"hellaswag": "hellaswag_prepared", "mnli": "mnli_matched"}
CLOSE = 1e-3


def rows_of(folder, task):
    for name in (task, OTHER_NAMES.get(task)):
        path = pathlib.Path(folder) / f"{name}.jsonl"
        if name and path.exists():
            return path
    sys.exit(f"{folder} has no {task}.jsonl")


def definition(folder, task):
    """The harness's own definition of a task, with rows from a local file."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(pathlib.Path(lm_eval.__file__).parent / "tasks" / DEFINITIONS[task])
    path = rows_of(folder, task)
    split = config.get("test_split") or config["validation_split"]
    for key in ("training_split", "validation_split", "test_split", "tag", "dataset_name"):
        config[key] = None
    config["test_split" if split.startswith("test") else "validation_split"] = split
    config["num_fewshot"] = 0
    config["dataset_path"] = "json"
    config["dataset_kwargs"] = {"data_files": {split: str(path)}}
    with open(path) as lines:
        first = json.loads(lines.readline())
    if task == "hellaswag" and "ctx_a" not in first:
        # The rows are what the harness's process_docs returns already.
        config["process_docs"] = None
        config["doc_to_target"] = "{{gold}}"
    return config


def harness(arguments):
    import torch
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    bos = {"model": None, "never": False, "always": True}[arguments.bos]
    model = HFLM(
        pretrained=arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        batch_size=arguments.batch,
        add_bos_token=bos,
        prefix_token_id=arguments.prefix,
    )
    result = {
        "lm_eval": importlib.metadata.version("lm_eval"),
        "transformers": importlib.metadata.version("transformers"),
        "torch": torch.__version__,
        "dtype": arguments.dtype,
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "cpu",
        "tasks": {},
    }
    out = pathlib.Path(arguments.out)
    if out.exists():
        before = json.loads(out.read_text())
        result["tasks"] = before.pop("tasks")
        if before != {key: value for key, value in result.items() if key != "tasks"}:
            sys.exit(f"{out} was made with other versions, on another device or in another type")
    for name in arguments.tasks:
        task = ConfigurableTask(config=definition(arguments.data, name))
        started = time.perf_counter()
        # `simple_evaluate` would also collect a description of the machine, which takes a minute.
        loaded = {"tasks": {name: task}, "groups": {}, "group_map": {}}
        found = evaluate(model, loaded, limit=arguments.limit, bootstrap_iters=100)
        seconds = time.perf_counter() - started
        metrics = {key.split(",")[0]: value for key, value in found["results"][name].items() if key.endswith(",none")}
        documents = [
            {
                "doc": sample["doc_id"],
                "gold": sample["target"],
                "loglikelihood": [float(answer[0][0] if isinstance(answer[0], (list, tuple)) else answer[0])
                                  for answer in sample["resps"]],
                "greedy": [bool(answer[0][1] if isinstance(answer[0], (list, tuple)) else answer[1])
                           for answer in sample["resps"]],
            }
            for sample in found["samples"][name]
        ]
        if arguments.texts:
            for document, sample in zip(documents, found["samples"][name]):
                texts = sample["arguments"]
                pairs = texts.values() if isinstance(texts, dict) else texts
                document["texts"] = [list(pair.values()) if isinstance(pair, dict) else list(pair) for pair in pairs]
        documents.sort(key=lambda it: it["doc"])
        result["tasks"][name] = {"metrics": metrics, "seconds": seconds, "documents": documents}
        print(f"{name}: {len(documents)} documents in {seconds:.1f} s, {metrics}", file=sys.stderr, flush=True)
        out.write_text(json.dumps(result, ensure_ascii=False) + "\n")


def compare(arguments):
    theirs = json.loads(pathlib.Path(arguments.harness).read_text())
    ours = json.loads(pathlib.Path(arguments.zprune).read_text())
    good = True
    print("| task | documents | choices | acc | acc (harness) | acc_norm | acc_norm (harness) | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for record in ours["tasks"]:
        name = record["name"]
        if name not in theirs["tasks"]:
            continue
        their = theirs["tasks"][name]
        samples = ours["samples"][name]
        if len(samples) != len(their["documents"]):
            print(f"{name}: {len(samples)} documents, but the harness has {len(their['documents'])}")
            good = False
            continue
        worst, choices = 0.0, 0
        for sample, document in zip(samples, their["documents"]):
            if sample["doc"] != document["doc"] or len(sample["loglikelihood"]) != len(document["loglikelihood"]):
                print(f"{name}: document {sample['doc']} is not the harness's document {document['doc']}")
                good = False
                break
            for mine, other in zip(sample["loglikelihood"], document["loglikelihood"]):
                worst = max(worst, abs(mine - other))
                choices += 1
            if sample["greedy"] != document["greedy"]:
                print(f"{name}: document {sample['doc']}: greedy {sample['greedy']}, not {document['greedy']}")
                good = False
        cells = []
        for metric in ("acc", "acc_norm"):
            mine = record["metrics"].get(metric, {}).get("value")
            other = their["metrics"].get(metric)
            # A metric that one side lacks is not compared: boolq and the like have no acc_norm.
            if mine is not None and other is not None and mine != other:
                good = False
            cells += ["" if value is None else f"{value:.6f}" for value in (mine, other)]
        good &= worst <= CLOSE
        print(f"| {name} | {len(samples)} | {choices} | {' | '.join(cells)} | {worst:.1e} |")
    print(f"lm_eval {theirs['lm_eval']}, transformers {theirs['transformers']}, torch {theirs['torch']}, "
          f"{theirs['dtype']} on {theirs['device']}")
    sys.exit(0 if good else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("harness")
    run.add_argument("model")
    run.add_argument("--data", required=True)
    run.add_argument("--tasks", nargs="+", default=list(DEFINITIONS), choices=list(DEFINITIONS))
    run.add_argument("--limit", type=int)
    run.add_argument("--device", default="cpu")
    run.add_argument("--dtype", default="float32")
    run.add_argument("--batch", default=8, type=lambda text: text if text.startswith("auto") else int(text))
    run.add_argument("--bos", default="model", choices=["model", "never", "always"])
    run.add_argument("--prefix", type=int, help="id of the token that stands for an empty context")
    run.add_argument("--texts", action="store_true", help="with contexts and continuations")
    run.add_argument("--out", required=True)
    run.set_defaults(call=harness)
    held = commands.add_parser("compare")
    held.add_argument("harness")
    held.add_argument("zprune")
    held.set_defaults(call=compare)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
