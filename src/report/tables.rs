//! Tables: methods by patterns, one per model and evaluation. Returns text, opens no file.

use super::{Entry, Results, Section};
use crate::error::{Error, Result};
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use comfy_table::TableStyle;
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_HORIZONTAL_ONLY};
use comfy_table::{CellAlignment, Table};
use std::path::Path;

/// All tables for a terminal.
pub fn terminal(results: &Results) -> String {
    let tables = results.sections.iter().map(|section| {
        let table = table(results, section, UTF8_HORIZONTAL_ONLY);
        format!("{}\n{table}\n", title(results, section))
    });
    tables.chain([note(results)]).collect::<Vec<_>>().join("\n")
}

/// All tables in Markdown, with what is needed to read them.
pub fn markdown(results: &Results) -> String {
    let experiment = &results.plan.experiment;
    let mut text = format!("# {}\n\n", experiment.name);
    if !experiment.description.is_empty() {
        text.push_str(&format!("{}\n\n", experiment.description));
    }
    for section in &results.sections {
        let table = table(results, section, ASCII_MARKDOWN);
        text.push_str(&format!("## {}\n\n{table}\n\n", title(results, section)));
    }
    text.push_str(&note(results));
    text.push('\n');
    text
}

/// One row per model, evaluation, method and pattern. A spread that does not exist is an empty cell.
///
/// # Errors
/// Never for in-memory output.
pub fn csv(results: &Results) -> Result<String> {
    let fail = |error: &dyn std::fmt::Display| Error::output(Path::new("perplexity.csv"), error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "model",
            "evaluation",
            "method",
            "pattern",
            "target_sparsity",
            "sparsity",
            "planned",
            "n",
            "failed",
            "perplexity",
            "low",
            "high",
            "confidence",
            "min",
            "max",
            "seconds",
        ])
        .map_err(|error| fail(&error))?;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for section in &results.sections {
        let dense = Entry {
            method: DENSE.to_string(),
            pattern: None,
            seeded: false,
            planned: 1,
            failed: 0,
            values: section.dense.into_iter().collect(),
            summary: crate::stats::Summary::of(&section.dense.into_iter().collect::<Vec<_>>(), 0.5),
            sparsity: None,
            seconds: None,
        };
        for entry in std::iter::once(&dense).chain(&section.entries) {
            let summary = entry.summary.as_ref();
            let interval = summary.and_then(|summary| summary.interval);
            let confidence = interval.map(|_| results.plan.experiment.confidence);
            writer
                .write_record([
                    section.model.clone(),
                    section.evaluation.clone(),
                    entry.method.clone(),
                    entry.pattern.map_or(String::new(), |pattern| pattern.to_string()),
                    number(entry.pattern.map(|pattern| pattern.sparsity())),
                    number(entry.sparsity),
                    entry.planned.to_string(),
                    entry.values.len().to_string(),
                    entry.failed.to_string(),
                    number(summary.map(|summary| summary.mean)),
                    number(interval.map(|interval| interval.low)),
                    number(interval.map(|interval| interval.high)),
                    number(confidence),
                    number(summary.map(|summary| summary.min)),
                    number(summary.map(|summary| summary.max)),
                    entry.seconds.map_or(String::new(), |seconds| format!("{seconds:.3}")),
                ])
                .map_err(|error| fail(&error))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| fail(&error))?;
    String::from_utf8(bytes).map_err(|error| fail(&error))
}

fn title(results: &Results, section: &Section) -> String {
    let evaluations = &results.plan.experiment.evaluations;
    let length = evaluations
        .iter()
        .find(|it| it.name == section.evaluation)
        .map_or(String::new(), |it| it.length.to_string());
    format!(
        "{}: perplexity on {}, context {length} (lower is better)",
        section.model, section.evaluation
    )
}

fn note(results: &Results) -> String {
    let experiment = &results.plan.experiment;
    let percent = Pattern::Unstructured {
        sparsity: experiment.confidence,
    };
    let seeds = match experiment.seeds.len() {
        0 => String::new(),
        1 => "One calibration seed: no interval. ".to_string(),
        n => format!("Mean ± half of the {percent} t-interval over {n} calibration seeds. "),
    };
    format!(
        "{seeds}A value without ± has one run: dense, or a method that uses no calibration. \
         Differences between evaluation texts are not in these intervals."
    )
}

fn table(results: &Results, section: &Section, style: TableStyle) -> Table {
    let experiment = &results.plan.experiment;
    let mut table = Table::new();
    table.load_style(style);
    let mut header = vec!["method".to_string(), "group".to_string()];
    header.extend(experiment.patterns.iter().map(|pattern| pattern.to_string()));
    header.push("seeds".to_string());
    header.push("prune, s".to_string());
    table.set_header(header);
    let dense = section
        .dense
        .map_or("pending".to_string(), |dense| format!("{dense:.2}"));
    let mut row = vec![DENSE.to_string(), String::new()];
    row.extend(experiment.patterns.iter().map(|_| dense.clone()));
    row.extend([String::new(), String::new()]);
    table.add_row(row);
    for method in &experiment.methods {
        let entries: Vec<&Entry> = section
            .entries
            .iter()
            .filter(|entry| entry.method == method.name)
            .collect();
        let mut row = vec![method.name.clone(), method.group.to_string()];
        row.extend(entries.iter().map(|entry| value(entry)));
        let seeds = entries.iter().map(|entry| entry.values.len()).max().unwrap_or(0);
        row.push(if method.calibrated {
            seeds.to_string()
        } else {
            "none".to_string()
        });
        let seconds: Vec<f64> = entries.iter().filter_map(|entry| entry.seconds).collect();
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        row.push(if seconds.is_empty() {
            String::new()
        } else {
            format!("{mean:.2}")
        });
        table.add_row(row);
    }
    for column in 2..experiment.patterns.len() + 4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table cell: mean and half-interval; what is missing says so.
fn value(entry: &Entry) -> String {
    let Some(summary) = &entry.summary else {
        return if entry.failed > 0 { "failed" } else { "pending" }.to_string();
    };
    let mut text = match summary.interval {
        Some(interval) => format!("{:.2} ± {:.2}", summary.mean, summary.mean - interval.low),
        None => format!("{:.2}", summary.mean),
    };
    if entry.failed > 0 {
        text.push_str(&format!(" ({} failed)", entry.failed));
    } else if entry.values.len() < entry.planned {
        text.push_str(&format!(" ({} of {})", entry.values.len(), entry.planned));
    }
    text
}
