//! What holds of every record that zprune wrote, whatever its schema: numbers that follow from others do, and all are in
//! their range. A record that breaks a rule was edited or damaged.

use super::fields::{EvaluationRecord, Metric, Part, Record, Status, StructureRecord, TaskRecord, ToDenseRecord};
use crate::eval::metrics::{mean, right, standard_error};
use crate::eval::perplexity::perplexity;
use crate::eval::to_dense;
use crate::experiment::identity::PruningIdentity;
use crate::prune::layer::LayerRecord;

/// Largest relative difference between a sum and the same sum in another order.
const ROUNDING: f64 = 1e-9;

/// The smallest possible mean negative log-likelihood, in nats: probabilities are at most 1, except for rounding.
const LEAST: f64 = -0.01;

/// The smallest possible divergence, in nats: none is negative, except for rounding.
const LEAST_KL: f64 = -1e-4;

/// How much two records of the same cell may differ: relative for perplexities, in nats for windows. Other vector
/// units change results by less than this, any change of a method by more.
const SAME: f64 = 1e-4;

/// The same for shares of tokens.
const TOKENS: f64 = 0.01;

/// A rule that does not hold, in words.
type Broken = Result<(), String>;

fn rule(holds: bool, broken: impl FnOnce() -> String) -> Broken {
    if holds { Ok(()) } else { Err(broken()) }
}

/// Checks every rule that can be checked from the record alone.
///
/// # Errors
/// Says which number breaks which rule.
pub(super) fn check(record: &Record) -> Broken {
    let good = record.status == Status::Ok;
    rule(good == record.error.is_none(), || match good {
        true => "its status is `ok`, but it has an `error`".to_string(),
        false => "it has no result and no `error` that says why".to_string(),
    })?;
    if let Some(sparsity) = record.sparsity {
        share("sparsity", sparsity)?;
    }
    if let Some(tokens) = &record.calibration_tokens {
        digest("calibration_tokens", tokens)?;
    }
    if good {
        complete(record)?;
    }
    for (index, evaluation) in record.evaluations.iter().enumerate() {
        let length = record.cell.evaluations.get(index).map(|cell| cell.length);
        of_evaluation(evaluation, length).map_err(|broken| format!("evaluation {}: {broken}", evaluation.name))?;
    }
    for task in &record.tasks {
        of_task(task).map_err(|broken| format!("task {}: {broken}", task.name))?;
    }
    for layer in &record.layers {
        of_layer(layer).map_err(|broken| format!("layer {}: {broken}", layer.tensor))?;
    }
    if let (Some(sparsity), false) = (record.sparsity, record.layers.is_empty()) {
        let sum = |of: fn(&LayerRecord) -> f64| record.layers.iter().map(of).sum::<f64>();
        let removed = sum(|layer| layer.removed as f64) / sum(|layer| weights(layer) as f64);
        rule((sparsity - removed).abs() <= ROUNDING, || {
            format!("sparsity is {sparsity}, but its layers say {removed}")
        })?;
    }
    let without = record.without.contains(&Part::Layers);
    rule(!without || record.layers.is_empty(), || {
        "it says that it is without its layers, but has some".to_string()
    })?;
    rule(record.widest_inputs.is_none() || without, || {
        "`widest_inputs` belongs to copies without layers".to_string()
    })?;
    rule(record.widest_inputs != Some(0), || "`widest_inputs` is 0".to_string())?;
    if let Some(before) = &record.pruned_before {
        share("pruned_before.zeros", before.zeros)?;
    }
    if let Some(structure) = &record.structure {
        of_structure(structure, record)?;
    }
    if let Some(times) = record.turned_round {
        let recipe = record.cell.pruning.as_ref().and_then(PruningIdentity::recipe);
        rule(recipe.is_some_and(|recipe| recipe.criterion.name == "mask"), || {
            "`turned_round` belongs to masks from files".to_string()
        })?;
        rule(times.is_finite() && times > 1.0, || {
            format!("turned_round = {times}, and the removed weights would be the smaller ones")
        })?;
    }
    let run = &record.run;
    if let Some(seconds) = run.seconds_per_token {
        rule(record.structure.is_some(), || {
            "`seconds_per_token` belongs to models that lost whole units".to_string()
        })?;
        rule(
            seconds.iter().all(|seconds| seconds.is_finite() && *seconds > 0.0),
            || format!("seconds_per_token = {seconds:?} are no durations"),
        )?;
    }
    for (name, seconds) in [
        ("calibrate_seconds", run.calibrate_seconds),
        ("prune_seconds", run.prune_seconds),
        ("total_seconds", run.total_seconds),
    ] {
        rule(seconds.is_finite() && seconds >= 0.0, || {
            format!("{name} = {seconds} is no duration")
        })?;
    }
    Ok(())
}

fn of_structure(structure: &StructureRecord, record: &Record) -> Broken {
    let units = record.cell.pruning.as_ref().is_some_and(PruningIdentity::is_of_units);
    rule(units && record.layers.is_empty(), || {
        "`structure` belongs to models that lost whole units, and has no layers beside it".to_string()
    })?;
    for (name, [before, after]) in [
        ("parameters", structure.parameters),
        ("bytes", structure.bytes),
        ("multiply_adds", structure.multiply_adds),
    ] {
        rule(before > 0 && after > 0, || {
            format!("{name} = [{before}, {after}], and there is no model without any")
        })?;
    }
    let rising = structure.blocks.windows(2).all(|pair| pair[0].block < pair[1].block);
    rule(rising && !structure.blocks.is_empty(), || {
        "its blocks are not in the order of the original".to_string()
    })
}

/// Checks that a good record has everything that its cell asks for.
fn complete(record: &Record) -> Broken {
    let cell = &record.cell;
    rule(record.sparsity.is_some() == cell.pruning.is_some(), || {
        "`sparsity` belongs to pruned models, and to all of them".to_string()
    })?;
    let units = cell.pruning.as_ref().is_some_and(PruningIdentity::is_of_units);
    rule(record.structure.is_some() == units, || {
        "`structure` belongs to models that lost whole units, and to all of them".to_string()
    })?;
    let (found, asked) = (record.evaluations.len(), cell.evaluations.len());
    rule(found == asked, || {
        format!("it has {found} evaluations, but its cell asks for {asked}")
    })?;
    for (evaluation, asked) in record.evaluations.iter().zip(&cell.evaluations) {
        rule(evaluation.to_dense.is_some() == asked.compare_to_dense, || {
            format!(
                "evaluation {}: `to_dense` belongs to cells that are compared with the dense model, and to all of them",
                evaluation.name
            )
        })?;
    }
    let (found, asked) = (record.tasks.len(), cell.tasks.len() + cell.generations.len());
    rule(found == asked, || {
        format!("it has {found} tasks, but its cell asks for {asked}")
    })?;
    for (task, asked) in record.tasks.iter().zip(&cell.tasks) {
        let same = task.name == asked.name && task.version == asked.version && task.data_digest == asked.data;
        rule(same, || {
            format!("task {} is not the {} that its cell asks for", task.name, asked.name)
        })?;
    }
    for (task, asked) in record.tasks.iter().skip(cell.tasks.len()).zip(&cell.generations) {
        rule(task.name == asked.name && task.data_digest == asked.prompts, || {
            format!(
                "the answers {} are not those to the prompts {} that its cell asks for",
                task.name, asked.name
            )
        })?;
    }
    Ok(())
}

fn of_evaluation(evaluation: &EvaluationRecord, length: Option<usize>) -> Broken {
    let windows = &evaluation.windows;
    rule(!windows.is_empty(), || "`windows` is empty".to_string())?;
    let bad = windows.iter().position(|window| !window.is_finite() || *window < LEAST);
    rule(bad.is_none(), || {
        let index = bad.unwrap_or_default();
        format!("window {index} = {} is no mean negative log-likelihood", windows[index])
    })?;
    let expected = perplexity(windows).map_err(|error| error.to_string())?;
    let found = evaluation.perplexity;
    rule((found - expected).abs() <= ROUNDING * expected, || {
        format!("perplexity = {found}, but its windows give {expected}")
    })?;
    let tokens = length.map(|length| length.saturating_mul(windows.len()));
    rule(tokens.is_none_or(|tokens| tokens == evaluation.tokens), || {
        format!(
            "tokens = {}, but it has {} windows of {}",
            evaluation.tokens,
            windows.len(),
            length.unwrap_or_default()
        )
    })?;
    if let Some(to_dense) = &evaluation.to_dense {
        of_distance(to_dense, windows.len())?;
    }
    digest("token_digest", &evaluation.token_digest)
}

fn of_distance(to_dense: &ToDenseRecord, windows: usize) -> Broken {
    for (name, value, each, least, most) in [
        ("kl", to_dense.kl, &to_dense.kl_windows, LEAST_KL, f64::MAX),
        ("agreement", to_dense.agreement, &to_dense.agreement_windows, 0.0, 1.0),
    ] {
        rule(each.len() == windows, || {
            format!(
                "`{name}_windows` is about {} windows, but there are {windows}",
                each.len()
            )
        })?;
        let bad = each.iter().position(|window| !(least..=most).contains(window));
        rule(bad.is_none(), || {
            let index = bad.unwrap_or_default();
            format!("{name} of window {index} = {} cannot be", each[index])
        })?;
        let expected = to_dense::mean(each);
        rule((value - expected).abs() <= ROUNDING * (1.0 + expected.abs()), || {
            format!("{name} = {value}, but its windows give {expected}")
        })?;
    }
    Ok(())
}

fn of_task(task: &TaskRecord) -> Broken {
    digest("data_digest", &task.data_digest)?;
    rule(task.documents > 0, || "`documents` is 0".to_string())?;
    let length = |name: &str, length: usize| {
        rule(length == task.documents, || {
            format!(
                "`{name}` is about {length} documents, but `documents` is {}",
                task.documents
            )
        })
    };
    length("correct", task.correct.len())?;
    if let Some(correct) = &task.correct_norm {
        length("correct_norm", correct.len())?;
    }
    if let Some(sources) = &task.sources {
        length("sources", sources.len())?;
    }
    accuracy("acc", task.metrics.get("acc"), Some(&task.correct))?;
    accuracy("acc_norm", task.metrics.get("acc_norm"), task.correct_norm.as_deref())?;
    for (name, metric) in &task.metrics {
        let others = !["acc", "acc_norm"].contains(&name.as_str());
        rule(!others || metric.value.is_finite() && metric.value >= 0.0, || {
            format!("{name} = {} is no score", metric.value)
        })?;
    }
    Ok(())
}

/// Checks an accuracy and its uncertainty against the documents that it counts; both or neither must be there.
fn accuracy(name: &str, metric: Option<&Metric>, correct: Option<&str>) -> Broken {
    let (Some(metric), Some(correct)) = (metric, correct) else {
        return rule(metric.is_none() && correct.is_none(), || {
            format!("`{name}` and the outcomes of its documents are not both there")
        });
    };
    let digits = correct.bytes().all(|mark| matches!(mark, b'0' | b'1'));
    rule(digits, || format!("the outcomes of `{name}` are not all 0 or 1"))?;
    let outcomes: Vec<bool> = correct.bytes().map(|mark| mark == b'1').collect();
    let counted = mean(&outcomes);
    rule((metric.value - counted).abs() <= ROUNDING, || {
        format!(
            "{name} = {}, but {} of {} documents are right",
            metric.value,
            right(&outcomes),
            outcomes.len()
        )
    })?;
    let near = |found: f64, expected: f64| (found - expected).abs() <= ROUNDING;
    let stderr = match (metric.stderr, standard_error(&outcomes)) {
        (Some(found), Some(expected)) => near(found, expected),
        (found, expected) => found.is_none() == expected.is_none(),
    };
    rule(stderr, || {
        format!("the standard error of {name} does not follow from its documents")
    })?;
    if let Some([low, high]) = metric.interval {
        let holds =
            low >= -ROUNDING && low <= counted + ROUNDING && counted <= high + ROUNDING && high <= 1.0 + ROUNDING;
        rule(holds, || {
            format!("the interval of {name}, {low} to {high}, does not hold {counted}")
        })?;
    }
    Ok(())
}

fn of_layer(layer: &LayerRecord) -> Broken {
    let (all, removed, zeros) = (weights(layer), layer.removed as u128, layer.zeros as u128);
    rule(all > 0 && removed <= zeros && zeros <= all, || {
        format!("{removed} removed and {zeros} zeros of {all} weights cannot be")
    })?;
    for (name, value) in [
        ("damping", layer.damping),
        ("compensated", layer.compensated),
        ("output_error", layer.output_error),
    ] {
        let holds = value.is_none_or(|value| value.is_finite() && value >= 0.0);
        rule(holds, || format!("{name} = {} is negative", value.unwrap_or(f64::NAN)))?;
    }
    Ok(())
}

fn weights(layer: &LayerRecord) -> u128 {
    layer.shape[0] as u128 * layer.shape[1] as u128
}

fn share(name: &str, value: f64) -> Broken {
    rule((0.0..=1.0).contains(&value), || {
        format!("{name} = {value} is no fraction from 0 to 1")
    })
}

fn digest(name: &str, text: &str) -> Broken {
    let holds = text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    rule(holds, || format!("`{name}` is no SHA-256"))
}

impl Record {
    /// Whether this record and another good one of the same cell have the same numbers, except for the differences that other vector
    /// units make.
    pub fn agrees(&self, other: &Record) -> bool {
        agree(self, other)
    }
}

fn agree(one: &Record, other: &Record) -> bool {
    let windows = |one: &[f64], other: &[f64]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| (one - other).abs() <= SAME)
    };
    // Of two tokens that are almost equally likely either may come first, so agreement is only near.
    let near = |one: &ToDenseRecord, other: &ToDenseRecord| {
        (one.kl - other.kl).abs() <= SAME * (1.0 + one.kl.abs()) && (one.agreement - other.agreement).abs() <= TOKENS
    };
    let evaluations = one.evaluations.iter().zip(&other.evaluations).all(|(one, other)| {
        one.token_digest == other.token_digest
            && one.to_dense.is_some() == other.to_dense.is_some()
            && one
                .to_dense
                .iter()
                .zip(&other.to_dense)
                .all(|(one, other)| near(one, other))
            && (one.perplexity - other.perplexity).abs() <= SAME * one.perplexity
            && windows(&one.windows, &other.windows)
    });
    let tasks = one.tasks.iter().zip(&other.tasks).all(|(one, other)| {
        (&one.correct, &one.correct_norm, &one.sources) == (&other.correct, &other.correct_norm, &other.sources)
    });
    let sparsity = match (one.sparsity, other.sparsity) {
        (Some(one), Some(other)) => (one - other).abs() <= SAME,
        (one, other) => one == other,
    };
    evaluations && tasks && sparsity && one.calibration_tokens == other.calibration_tokens
}
