//! Scores of tasks in the layout of lm-evaluation-harness's result files, for programs that read those.
//!
//! Keys and their order are those of `lm_eval` 0.4.9: `results` has `acc,none` and `acc_stderr,none` (no filter is applied, so
//! the filter's name is `none`), and every task has a version, a number of examples in its context (0), and a configuration.
//! What zprune does not have (a batch size, seeds of examples, a standard error of a perplexity) is null, or `N/A` where the
//! harness writes that. What the harness does not have stands under `zprune`: hashes of the model and of the data.

use super::eval::TaskEvaluation;
use crate::choices;
use crate::error::Result;
use crate::eval::tasks::{TASKS, TaskMeasure};
use crate::experiment::identity::TaskIdentity;
use crate::record::TaskRecord;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The result file of the harness for these scores; `model` is what the user called the model.
///
/// # Errors
/// A task is none of the known ones.
pub fn results(found: &TaskEvaluation, model: &Path) -> Result<Value> {
    let model = model.display().to_string();
    let tasks = || found.tasks.iter().zip(&found.protocol);
    let by_task = |of: &dyn Fn(&TaskRecord, &TaskIdentity) -> Value| -> Value {
        let each = tasks().map(|(record, identity)| (record.name.clone(), of(record, identity)));
        Value::Object(each.collect())
    };
    let mut configs = Map::new();
    for (record, identity) in tasks() {
        configs.insert(record.name.clone(), config(record, identity)?);
    }
    let limits: Vec<usize> = found.protocol.iter().filter_map(|task| task.limit).collect();
    let limit = limits.first();
    let harness = found.protocol.first().map(|task| choices::name(&task.harness));
    let now = jiff::Timestamp::now();
    Ok(json!({
        "results": by_task(&|record, _| scores(record)),
        "group_subtasks": by_task(&|_, _| json!([])),
        "configs": configs,
        "versions": by_task(&|record, _| json!(f64::from(record.version))),
        "n-shot": by_task(&|_, _| json!(0)),
        "higher_is_better": by_task(&|record, _| {
            let metrics = record.metrics.keys();
            Value::Object(metrics.map(|name| (name.clone(), json!(higher_is_better(name)))).collect())
        }),
        "n-samples": by_task(&|record, identity| {
            // With a limit that was reached, nobody has counted the others.
            let all = identity.limit.is_none_or(|limit| record.documents < limit);
            json!({ "original": all.then_some(record.documents), "effective": record.documents })
        }),
        "config": {
            "model": "zprune",
            "model_args": format!("pretrained={model},dtype={}", found.compute.name()),
            "model_dtype": found.compute.name(),
            "batch_size": null,
            "batch_sizes": [],
            "device": found.backend,
            "use_cache": null,
            "limit": limit,
            "bootstrap_iters": 0,
            "gen_kwargs": null,
            "random_seed": null,
            "numpy_seed": null,
            "torch_seed": null,
            "fewshot_seed": null,
        },
        "git_hash": null,
        "date": now.as_millisecond() as f64 / 1e3,
        "lm_eval_version": harness,
        "model_source": "zprune",
        "model_name": model,
        "model_name_sanitized": sanitized(&model),
        "zprune": {
            "version": found.zprune,
            "model": found.model,
            "tasks": found.protocol,
        },
    }))
}

/// The metrics of a task under the harness's keys.
fn scores(record: &TaskRecord) -> Value {
    let mut scores = Map::new();
    scores.insert("alias".to_string(), json!(record.name));
    for (name, metric) in &record.metrics {
        scores.insert(format!("{name},none"), json!(metric.value));
        let error = metric.stderr.map_or(json!("N/A"), |error| json!(error));
        scores.insert(format!("{name}_stderr,none"), error);
    }
    Value::Object(scores)
}

/// What the harness says of a task: where its documents are from, what is asked and what is counted.
fn config(record: &TaskRecord, identity: &TaskIdentity) -> Result<Value> {
    let task = &TASKS.find(&record.name)?.item;
    let place = task.hub.trim_start_matches("hub:");
    let data_set: Vec<&str> = place.splitn(3, '/').collect();
    let name = data_set.iter().take(2).copied().collect::<Vec<_>>().join("/");
    let metric = |name: &String| {
        json!({
            "metric": name,
            "aggregation": if name == "perplexity" { "perplexity" } else { "mean" },
            "higher_is_better": higher_is_better(name),
        })
    };
    Ok(json!({
        "task": record.name,
        // The revision is not part of a data set's name.
        "dataset_path": name.split('@').next(),
        "dataset_kwargs": { "data_files": data_set.get(2) },
        "output_type": match task.measure {
            TaskMeasure::LastWord => "loglikelihood",
            TaskMeasure::Accuracy | TaskMeasure::NormalisedAccuracy => "multiple_choice",
        },
        "num_fewshot": 0,
        "repeats": 1,
        "metric_list": record.metrics.keys().map(metric).collect::<Vec<_>>(),
        "metadata": {
            "version": f64::from(record.version),
            "data_sha256": identity.data,
        },
    }))
}

fn higher_is_better(metric: &str) -> bool {
    metric != "perplexity"
}

/// A model's name as the harness uses it in file names: two underscores in place of what some file systems refuse.
fn sanitized(model: &str) -> String {
    let mut name = String::new();
    for c in model.chars() {
        match "\"<>:/|\\?*[]".contains(c) {
            false => name.push(c),
            true if name.ends_with("__") => {}
            true => name.push_str("__"),
        }
    }
    name
}
