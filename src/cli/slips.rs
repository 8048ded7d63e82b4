//! Arguments that there are none of: what other programs call ours, and parameters of methods, which are no arguments of their own.

use crate::experiment::source::OTHER_NAMES as OTHER_VALUES;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::UNITS;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Commands that change one model.
const CHANGING: &[&str] = &["prune", "shrink"];

/// Commands that compute with one model.
const COMPUTING: &[&str] = &["prune", "shrink", "eval", "export-statistics"];

/// Commands whose settings stand in an experiment file.
const OF_FILES: &[&str] = &["run", "plan", "search", "submit"];

/// Commands, names that are typed, and what to write.
const OTHER_NAMES: [(&[&str], &[&str], &str); 22] = [
    (
        &["init"],
        &["backend", "device", "cuda"],
        "add --gpu to write a file for a GPU",
    ),
    (
        &["prune"],
        &[
            "pattern",
            "patterns",
            "ratio",
            "amount",
            "sparsity-ratio",
            "pruning-ratio",
            "sparsity-type",
        ],
        "give how much to remove with --sparsity: --sparsity 0.5, --sparsity 50% or --sparsity 2:4",
    ),
    (
        &["shrink"],
        &["sparsity", "pattern", "ratio", "amount", "share", "pruning-ratio"],
        "give how much to remove with --units, as in --units 0.2",
    ),
    (
        &["prune"],
        &["criterion", "recipe", "prune-method"],
        "give the criterion with --method, as in --method wanda",
    ),
    (
        &["prune"],
        &["solver"],
        "write the solver after the criterion, as in --method wanda+admm",
    ),
    (&["prune"], &["units"], "to remove whole units, use `zprune shrink`"),
    (
        COMPUTING,
        &["nsamples", "num-samples", "samples", "calib-samples"],
        "give the number of calibration windows with --sequences (in `zprune eval`, --windows)",
    ),
    (
        COMPUTING,
        &["seqlen", "seq-len", "seq-length", "context", "max-length"],
        "give the number of tokens in a window with --length",
    ),
    (
        &["prune", "shrink", "export-statistics"],
        &[
            "corpus",
            "dataset",
            "data",
            "calib",
            "calibration-data",
            "calib-dataset",
        ],
        "give the calibration text with --calibration, as in --calibration c4.jsonl or --calibration hub:c4",
    ),
    (
        &["eval"],
        &["dataset", "text", "calibration"],
        "give the text with --corpus, as in --corpus hub:wikitext2, and the files of tasks with --data",
    ),
    (
        CHANGING,
        &["output", "save", "save-model", "output-dir", "outdir", "save-dir"],
        "give the folder to make with --out",
    ),
    (
        &["eval"],
        &["out", "output", "output-path", "save"],
        "give the file for the result with --json",
    ),
    (
        &["eval"],
        &["task"],
        "give tasks with --tasks, as in --tasks piqa,arc_easy",
    ),
    (
        &["eval"],
        &["num-fewshot", "shots"],
        "zprune scores tasks without examples (0 shots)",
    ),
    (
        &["prune", "shrink", "eval"],
        &["seeds"],
        "give one seed with --seed; an experiment (`zprune init`) runs several",
    ),
    (
        &["prune", "shrink", "eval", "export-statistics", "run", "plan"],
        &["device", "gpu", "cuda"],
        "choose what computes with --backend, as in --backend gpu",
    ),
    (
        &["prune", "shrink", "eval", "export-statistics", "run", "plan"],
        &["dtype", "precision"],
        "choose the number format with --compute: f32, or bf16 on a CPU and f16 on a GPU",
    ),
    (
        &["prune", "shrink", "eval", "export-statistics", "run", "plan"],
        &["batch-size", "batch"],
        "zprune chooses batches itself; --memory limits what the CPU keeps",
    ),
    (
        OF_FILES,
        &["out", "output", "results-dir"],
        "give the folder of results with --results",
    ),
    (
        OF_FILES,
        &[
            "model",
            "method",
            "methods",
            "sparsity",
            "pattern",
            "patterns",
            "seed",
            "seeds",
            "tasks",
            "calibration",
            "corpus",
            "windows",
        ],
        "write it into the experiment file (`zprune init` writes one with comments)",
    ),
    (
        &["run"],
        &["dry-run", "list"],
        "`zprune plan` shows what a run would do",
    ),
    (
        &["run"],
        &["force", "overwrite", "rerun"],
        "cells with results are not run again; to run all of them, give another folder with --results",
    ),
];

/// What to write in place of what clap refuses; `arguments` are all that were typed, the program first.
pub(super) fn meant(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.as_str()),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg)?;
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    let command = words.find(|word| !word.starts_with('-'))?;
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(name) = argument.strip_prefix("--") else {
                return place(&command, argument, arguments);
            };
            let name = name.split('=').next().unwrap_or(name);
            let mut others = OTHER_NAMES.iter();
            let other = others.find(|(commands, names, _)| commands.contains(&&*command) && names.contains(&name));
            other
                .map(|(_, _, meant)| (*meant).to_string())
                .or_else(|| parameter(&command, &name.replace('-', "_")))
        }
        ErrorKind::InvalidValue => {
            let typed = text(ContextKind::InvalidValue)?.to_lowercase();
            let ContextValue::Strings(valid) = error.get(ContextKind::ValidValue)? else {
                return None;
            };
            let other = OTHER_VALUES.iter().find(|(name, _)| *name == typed);
            let meant = other
                .map(|(_, meant)| *meant)
                .filter(|meant| valid.iter().any(|it| it == meant))?;
            Some(format!("did you mean `{meant}`?"))
        }
        _ => None,
    }
}

/// The option that a word without one was meant for.
fn place(command: &str, word: &str, arguments: &[OsString]) -> Option<String> {
    let given = |option: &str| {
        arguments.iter().any(|argument| {
            let argument = argument.to_string_lossy();
            argument == option || argument.starts_with(&format!("{option}="))
        })
    };
    let (what, option) = match command {
        _ if word.starts_with('-') => return None,
        "export" | "import" | "compress" | "expand" => ("what is made", "--out"),
        "eval" | "prune" | "shrink" | "rotate" | "export-statistics" if !given("--model") => ("the model", "--model"),
        "eval" if !given("--corpus") => ("the text", "--corpus"),
        "prune" | "shrink" | "export-statistics" if !given("--calibration") => {
            ("the calibration text", "--calibration")
        }
        "verify" => ("the model it was made from", "--against"),
        "card" => ("a result of `zprune eval --json`", "--measured"),
        "run" | "plan" | "search" | "submit" if word.ends_with(".toml") => {
            return Some(format!(
                "a command takes one experiment; for the other one, run `zprune {command} {word}`"
            ));
        }
        "submit" if !given("--engine") => ("the engine", "--engine"),
        "run" | "plan" | "search" | "submit" => ("the folder of results", "--results"),
        _ => return None,
    };
    Some(format!("give {what} as {option} {word}"))
}

/// The `--set` of a parameter that a step or a method of whole units has.
fn parameter(command: &str, key: &str) -> Option<String> {
    match command {
        "prune" => {
            let steps = [
                of_step(&CRITERIA, "", key),
                of_step(&SOLVERS, "solver.", key),
                of_step(&ALLOCATORS, "allocator.", key),
                of_step(&TRANSFORMS, "transform.", key),
                of_step(&PERMUTATIONS, "permutation.", key),
                of_step(&REFINERS, "refine.", key),
                of_step(&COMPENSATIONS, "compensate.", key),
            ];
            let found: Vec<String> = steps.into_iter().flatten().collect();
            (!found.is_empty()).then(|| format!("give parameters of methods with --set: {}", found.join("; ")))
        }
        "shrink" => of_step(&UNITS, "", key).map(|found| format!("give parameters of methods with --set: {found}")),
        _ => None,
    }
}

/// How the parameter is set of the components of a step that have it.
fn of_step<T: ?Sized>(components: &Components<T>, step: &str, key: &str) -> Option<String> {
    let has = |name: &str| {
        let parameters = components.parameters(name).unwrap_or_default();
        parameters.iter().any(|parameter| parameter.name == key)
    };
    let entries = components.entries();
    let names: Vec<&str> = entries
        .iter()
        .map(|entry| entry.name)
        .filter(|name| has(name))
        .collect();
    (!names.is_empty()).then(|| format!("--set {step}{key}=VALUE ({} {})", components.kind(), names.join(", ")))
}
