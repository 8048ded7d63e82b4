//! A record in one line of a log.

use crate::record::Record;
use crate::stats::Shown;
use crate::stats::paired::{TextMean, Texts};
use crate::stats::proportion::Accuracy;
use bytesize::ByteSize;

/// A record in a few words: perplexities and accuracies, with the intervals over windows and documents that reports give
/// them.
pub(crate) fn summary(record: &Record, confidence: f64) -> String {
    match &record.error {
        Some(error) => format!("failed: {error}"),
        None => {
            let results = record.evaluations.iter().map(|it| {
                let spread = TextMean::of(&it.windows, Texts::Stream);
                let interval = spread.and_then(|spread| spread.robust_interval(confidence));
                let interval = interval.map_or(String::new(), |interval| {
                    format!(
                        " ({:.2} to {:.2})",
                        Shown(interval.low.exp()),
                        Shown(interval.high.exp())
                    )
                });
                format!("{} {:.2}{interval}", it.name, Shown(it.perplexity))
            });
            let tasks = record.tasks.iter().filter_map(|task| {
                let (name, marks) = match &task.correct_norm {
                    Some(marks) => ("acc_norm", marks),
                    None => ("acc", &task.correct),
                };
                let metric = task.metrics.get(name)?;
                let found = Accuracy::of_marks(marks, task.sources.as_deref(), confidence);
                let interval = found.map_or(String::new(), |found| {
                    let interval = found.interval.map(|end| 100.0 * end);
                    format!(" ({:.1} to {:.1})", interval.low, interval.high)
                });
                Some(format!(
                    "{} ({name}) {:.1} %{interval}",
                    task.name,
                    100.0 * metric.value
                ))
            });
            let lists = [
                ("perplexity", results.collect::<Vec<_>>()),
                ("accuracy", tasks.collect()),
            ];
            let lists = lists.iter().filter(|(_, list)| !list.is_empty());
            let lists: Vec<String> = lists
                .map(|(what, list)| format!("{what} {}", list.join(", ")))
                .collect();
            let run = &record.run;
            let resident = run
                .peak_resident_bytes
                .map(|bytes| format!(", {} resident", ByteSize(bytes)));
            let spilled = run
                .spilled_bytes
                .map(|bytes| format!(", {} written to scratch files", ByteSize(bytes)));
            format!(
                "{}, {:.1} s{}{}",
                lists.join("; "),
                run.total_seconds,
                resident.unwrap_or_default(),
                spilled.unwrap_or_default()
            )
        }
    }
}
