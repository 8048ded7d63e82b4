//! One model's zero-shot results as a table.

use crate::record::{Metric, TaskRecord};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

/// One row per task and metric: accuracies in percent with standard error and 95 % Wilson interval. A
/// perplexity has neither.
pub fn table(tasks: &[TaskRecord]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["task", "metric", "value", "± se", "95 %", "documents"]);
    for task in tasks {
        for (name, metric) in &task.metrics {
            let Metric {
                value,
                stderr,
                interval,
            } = metric;
            let percent = |fraction: f64| format!("{:.2}", 100.0 * fraction);
            let accuracy = interval.is_some();
            table.add_row([
                task.name.clone(),
                name.clone(),
                if accuracy {
                    format!("{} %", percent(*value))
                } else {
                    format!("{value:.4}")
                },
                stderr.map_or(String::new(), percent),
                interval.map_or(String::new(), |[low, high]| {
                    format!("{} to {}", percent(low), percent(high))
                }),
                task.documents.to_string(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
