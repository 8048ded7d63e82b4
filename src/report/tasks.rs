//! One model's zero-shot results as a table.

use super::sheet::{Column, Sheet, SheetCell};
use crate::record::TaskRecord;
use crate::stats::proportion::{Accuracy, FEW};

/// Confidence level of the intervals.
const CONFIDENCE: f64 = 0.95;

/// One row per task and metric: accuracies in percent with the harness's standard error and the interval that reports give
/// them. A perplexity has neither.
pub fn sheet(tasks: &[TaskRecord]) -> Sheet {
    let mut columns = ["task", "metric"].map(Column::words).to_vec();
    columns.extend(["value", "± se", "95 %", "documents"].map(Column::numbers));
    let percent = |fraction: f64| format!("{:.2}", 100.0 * fraction);
    let mut rows = Vec::new();
    for task in tasks {
        for (name, metric) in &task.metrics {
            let marks = match name.as_str() {
                "acc" => Some(&task.correct),
                "acc_norm" => task.correct_norm.as_ref(),
                _ => None,
            };
            let accuracy = marks.and_then(|marks| Accuracy::of_marks(marks, task.sources.as_deref(), CONFIDENCE));
            let value = match accuracy {
                Some(_) => format!("{} %", percent(metric.value)),
                None => format!("{:.4}", metric.value),
            };
            let interval = accuracy.map(|it| format!("{} to {}", percent(it.interval.low), percent(it.interval.high)));
            let cells = [
                task.name.clone(),
                name.clone(),
                value,
                metric.stderr.map(percent).unwrap_or_default(),
                interval.unwrap_or_default(),
                task.documents.to_string(),
            ];
            rows.push(cells.map(SheetCell::plain).to_vec());
        }
    }
    Sheet {
        title: String::new(),
        columns,
        rows,
        notes: vec![format!(
            "± se: the standard error of lm-evaluation-harness. 95 %: Wilson's interval, or the exact one below {FEW} documents; \
             documents that share a source count for less."
        )],
    }
}
