//! The numbers of a report with all their digits: CSV to compute with, one JSON document with everything.
//!
//! A text that a spreadsheet would take for a formula has an apostrophe before it in CSV, and none in JSON. What does not exist is an
//! empty field, or absent. Times are the last columns and the keys `seconds`; nothing else differs
//! when the same cells are run again.

use super::comparison::{ComparisonFamily, Test};
use super::csv::{CsvRow, csv};
use super::published::published;
use super::results::{Measure, MeasureKind, MethodResult, Results, Section};
use crate::error::{Error, Result};
use crate::stats::Interval;
use crate::stats::bootstrap::{RESAMPLES, SEED};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How the first lines of the data files of a report begin.
pub(super) const BEGINNINGS: [&str; 5] = [
    "model,evaluation,method,pattern,",
    "model,evaluation,measure,method,pattern,",
    "model,task,metric,method,pattern,",
    "model,measure,pattern,method,ours,published,",
    "family,model,measure,pattern,ours,against,",
];

/// A CSV file with one row per model, evaluation, method and pattern.
///
/// # Errors
/// Never for in-memory output.
pub fn perplexity_csv(results: &Results) -> Result<String> {
    csv(&rows(results, MeasureKind::Perplexity), "perplexity.csv")
}

/// A CSV file with one row per model, evaluation, measure (KL divergence, agreement), method and pattern.
///
/// # Errors
/// Never for in-memory output.
pub fn to_dense_csv(results: &Results) -> Result<String> {
    csv(&rows(results, MeasureKind::ToDense), "to_dense.csv")
}

/// A CSV file with one row per model, task, metric, method and pattern.
///
/// # Errors
/// Never for in-memory output.
pub fn accuracy_csv(results: &Results) -> Result<String> {
    csv(&rows(results, MeasureKind::Accuracy), "accuracy.csv")
}

/// A CSV file with one row per comparison.
///
/// # Errors
/// Never for in-memory output.
pub fn comparisons_csv(families: &[ComparisonFamily], confidence: f64) -> Result<String> {
    let rows: Vec<CsvRow> = families
        .iter()
        .flat_map(|family| family.tests.iter().map(|test| comparison(family, test, confidence)))
        .collect();
    csv(&rows, "comparisons.csv")
}

/// A CSV file with one row per published value.
///
/// # Errors
/// Never for in-memory output.
pub fn published_csv(results: &Results) -> Result<String> {
    let rows: Vec<CsvRow> = published(results)
        .iter()
        .map(|it| {
            vec![
                ("model", json!(it.section.model)),
                ("measure", json!(it.section.measure.label())),
                ("pattern", json!(it.pattern.to_string())),
                ("method", json!(it.method)),
                ("ours", json!(it.ours)),
                ("published", json!(it.value)),
                ("sd_published", json!(it.deviation)),
                ("deviation", json!(it.off())),
                ("unit", json!(it.section.measure.unit())),
                ("source", json!(it.source)),
            ]
        })
        .collect();
    csv(&rows, "published.csv")
}

/// The whole report as JSON, for other programs.
///
/// # Errors
/// Never for in-memory output.
pub fn json(results: &Results, families: &[ComparisonFamily]) -> Result<String> {
    let experiment = &results.plan.experiment;
    let object = |row: CsvRow| -> Value {
        let there = row.into_iter().filter(|(_, value)| !value.is_null());
        Value::Object(
            there
                .map(|(key, value)| (key.to_string(), value))
                .collect::<Map<_, _>>(),
        )
    };
    let confidence = experiment.confidence;
    let list = |rows: Vec<CsvRow>| Value::Array(rows.into_iter().map(object).collect());
    let finding = super::finding::sentence(results, families);
    let families: Vec<Value> = families
        .iter()
        .map(|family| {
            json!({
                "name": family.name,
                "declared": family.declared,
                "missing": family.missing,
                "same": family.same,
                "comparisons": list(family.tests.iter().map(|test| comparison(family, test, confidence)).collect()),
            })
        })
        .collect();
    let mut document = json!({
        "experiment": experiment.name,
        "description": experiment.description,
        "finding": finding,
        "zprune": results.plan.zprune,
        "confidence": confidence,
        "bootstrap": { "resamples": RESAMPLES, "seed": SEED },
        "perplexity": list(rows(results, MeasureKind::Perplexity)),
        "accuracy": list(rows(results, MeasureKind::Accuracy)),
        "families": families,
        "references": experiment.references,
    });
    let to_dense = rows(results, MeasureKind::ToDense);
    if !to_dense.is_empty() {
        document["to_dense"] = list(to_dense);
    }
    let text =
        serde_json::to_string_pretty(&document).map_err(|error| Error::output(Path::new("report.json"), error))?;
    Ok(format!("{text}\n"))
}

fn rows(results: &Results, kind: MeasureKind) -> Vec<CsvRow> {
    let confidence = results.plan.experiment.confidence;
    let sections = results.sections.iter();
    let sections = sections.filter(|section| section.measure.kind() == kind);
    let of = |section: &Section| -> Vec<CsvRow> {
        let entries = std::iter::once(&section.dense).chain(&section.entries);
        entries.map(|entry| score(section, entry, confidence)).collect()
    };
    sections.flat_map(of).collect()
}

fn low(interval: Option<Interval>) -> Value {
    interval.map(|interval| interval.low).into()
}

fn high(interval: Option<Interval>) -> Value {
    interval.map(|interval| interval.high).into()
}

/// An interval as it can be: one of percents has no end outside 0 to 100, and equal seeds say nothing of how much others differ.
fn possible(measure: &Measure, interval: Interval) -> Option<Interval> {
    match measure {
        Measure::Perplexity { .. } | Measure::Divergence { .. } => Some(interval),
        Measure::Agreement { .. } | Measure::Accuracy { .. } => {
            let interval = interval.map(|end| end.clamp(0.0, 100.0));
            (interval.low < interval.high).then_some(interval)
        }
    }
}

fn score(section: &Section, entry: &MethodResult, confidence: f64) -> CsvRow {
    let summary = entry.summary.as_ref();
    let over_seeds = summary.and_then(|summary| possible(&section.measure, summary.interval?));
    let components = entry.components(&section.measure);
    let shown = |interval: Interval| interval.map(|end| section.measure.shown(end));
    let (value, texts, over_texts) = match section.measure {
        Measure::Perplexity { .. } | Measure::Divergence { .. } | Measure::Agreement { .. } => {
            let interval = components.and_then(|it| it.texts.robust_interval(confidence));
            let value = match section.measure.kind() {
                MeasureKind::Perplexity => "perplexity",
                _ => "value",
            };
            ((value, "windows"), "windows", interval)
        }
        Measure::Accuracy { .. } => {
            let interval = entry.accuracy(confidence).map(|it| it.interval);
            (("accuracy", "documents"), "documents", interval)
        }
    };
    let over_texts = over_texts.map(shown);
    let over_both = components
        .filter(|it| it.seeds > 1)
        .and_then(|it| it.interval(confidence))
        .and_then(|it| possible(&section.measure, shown(it)));
    let spread = crate::stats::variance_of(&entry.values()).map(f64::sqrt);
    let count = entry.runs.first().map(|run| run.texts.len());
    let measure = match &section.measure {
        Measure::Perplexity { evaluation } => vec![("evaluation", json!(evaluation))],
        Measure::Divergence { evaluation } => vec![("evaluation", json!(evaluation)), ("measure", json!("kl"))],
        Measure::Agreement { evaluation } => vec![("evaluation", json!(evaluation)), ("measure", json!("agreement"))],
        Measure::Accuracy { task, metric } => vec![("task", json!(task)), ("metric", json!(metric))],
    };
    let (over_low, over_high) = match texts {
        "windows" => ("windows_low", "windows_high"),
        _ => ("documents_low", "documents_high"),
    };
    let mut row = vec![("model", json!(section.model))];
    row.extend(measure);
    row.extend([
        ("method", json!(entry.method)),
        ("pattern", json!(entry.pattern.map(|pattern| pattern.to_string()))),
        (
            "target_sparsity",
            json!(entry.pattern.map(|pattern| pattern.sparsity())),
        ),
        ("sparsity", json!(entry.sparsity)),
        ("planned", json!(entry.planned)),
        ("n", json!(entry.runs.len())),
        ("failed", json!(entry.failed)),
        (value.0, json!(summary.map(|summary| summary.mean))),
        ("low", low(over_seeds)),
        ("high", high(over_seeds)),
        ("confidence", json!(over_seeds.map(|_| confidence))),
        ("min", json!(summary.map(|summary| summary.min))),
        ("max", json!(summary.map(|summary| summary.max))),
        ("sd_seeds", json!(spread)),
        (value.1, json!(count)),
        (over_low, low(over_texts)),
        (over_high, high(over_texts)),
        ("both_low", low(over_both)),
        ("both_high", high(over_both)),
        (
            "seconds",
            entry.seconds.map(|seconds| json!((seconds * 1e3).round() / 1e3)).into(),
        ),
    ]);
    row
}

fn comparison(family: &ComparisonFamily, test: &Test, confidence: f64) -> CsvRow {
    let shown = |interval: Interval| Some(interval.map(|end| test.shown(end)));
    let (texts, both) = (shown(test.over_texts), shown(test.over_both));
    vec![
        ("family", json!(family.name)),
        ("model", json!(test.model)),
        ("measure", json!(test.measure.label())),
        ("pattern", json!(test.pattern.to_string())),
        ("ours", json!(test.ours)),
        ("against", json!(test.other)),
        ("unit", json!(test.measure.unit())),
        ("difference", json!(test.shown(test.difference.mean))),
        ("texts", json!(test.difference.texts.n)),
        ("texts_low", low(texts)),
        ("texts_high", high(texts)),
        // Of documents that all agree, what could still be there; of a handful of texts, no resampling.
        (
            "texts_interval",
            json!(if test.resampled { "BCa" } else { "not resampled" }),
        ),
        ("both_low", low(both)),
        ("both_high", high(both)),
        ("confidence", json!(confidence)),
        ("standard_error", json!(test.difference.standard_error)),
        ("freedom", json!(test.difference.freedom)),
        ("seeds", json!(test.seeds.len())),
        ("sd_seeds", json!(test.difference.seed_deviation)),
        ("variance_seeds", json!(test.difference.seed_component)),
        ("variance_texts", json!(test.difference.text_component)),
        ("variance_rest", json!(test.difference.rest_component)),
        ("wilcoxon_p", json!(test.wilcoxon)),
        ("p", json!(test.p)),
        ("p_holm", json!((!test.lone).then_some(test.adjusted))),
        ("detectable", json!(test.detectable.map(|it| test.shown(it)))),
        (
            "verdict",
            json!(match test.verdict(confidence) {
                super::comparison::TestVerdict::Better => "better",
                super::comparison::TestVerdict::Worse => "worse",
                super::comparison::TestVerdict::NotTold if test.lone => "one seed",
                super::comparison::TestVerdict::NotTold => "not told apart",
            }),
        ),
    ]
}
