//! Tables of where uncertainty comes from.

use super::view::View;
use crate::report::format::{digits, percent};
use crate::report::results::{MethodResult, Section};
use crate::report::sheet::{Column, Sheet, SheetCell, number};
use crate::stats::{Interval, Shown, Summary};

impl View<'_> {
    /// A table per perplexity measure that splits its uncertainty into seeds and texts.
    pub(super) fn uncertainty(&self) -> Vec<Sheet> {
        let confidence = percent(self.confidence());
        let sheets = self.sections(true).map(|section| {
            let mut columns = ["method", "pattern"].map(Column::words).to_vec();
            columns.extend([
                Column::numbers("perplexity"),
                Column::numbers("seeds"),
                Column::numbers("sd over seeds"),
                Column::numbers("range over seeds"),
                Column::numbers(format!("{confidence} over windows")),
                Column::numbers(format!("{confidence} over both")),
            ]);
            let entries = std::iter::once(&section.dense).chain(&section.entries);
            let rows = entries.filter_map(|entry| self.sources_of(section, entry)).collect();
            Sheet {
                title: format!("{} on {}", section.model, section.measure.label()),
                columns,
                rows,
                notes: vec![
                    "Calibration seeds and evaluation windows are two sources of chance. Over seeds: the spread of \
                     perplexities when the calibration texts are drawn anew; empty for what does not calibrate. Over windows: a \
                     t-interval from blocks of neighbouring windows, had other text of this kind been evaluated. Most of \
                     the latter is shared by all methods, which is why methods are compared window by window and not by \
                     these intervals."
                        .to_string(),
                ],
            }
        });
        sheets.filter(|sheet| !sheet.rows.is_empty()).collect()
    }

    pub(super) fn sources_of(&self, section: &Section, entry: &MethodResult) -> Option<Vec<SheetCell>> {
        let summary: &Summary = entry.summary.as_ref()?;
        let components = entry.components(&section.measure);
        let digits = digits(summary.mean);
        let ends = |interval: Option<Interval>| {
            let interval = interval.map(|it| it.map(|end| section.measure.shown(end)));
            SheetCell::plain(interval.map_or(String::new(), |it| {
                format!("{:.digits$} to {:.digits$}", Shown(it.low), Shown(it.high))
            }))
        };
        let spread = crate::stats::variance_of(&entry.values()).map(f64::sqrt);
        let range =
            (summary.n > 1).then(|| format!("{:.digits$} to {:.digits$}", Shown(summary.min), Shown(summary.max)));
        Some(vec![
            SheetCell::plain(&entry.method),
            SheetCell::plain(entry.pattern.map_or(String::new(), |pattern| pattern.to_string())),
            number(Some(summary.mean), digits),
            SheetCell::plain(if entry.seeded {
                summary.n.to_string()
            } else {
                String::new()
            }),
            number(spread, digits + 1),
            SheetCell::plain(range.unwrap_or_default()),
            ends(components.and_then(|it| it.texts.robust_interval(self.confidence()))),
            ends(
                components
                    .filter(|it| it.seeds > 1)
                    .and_then(|it| it.interval(self.confidence())),
            ),
        ])
    }
}
