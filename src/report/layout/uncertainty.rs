//! Tables of where uncertainty comes from.

use super::view::View;
use crate::report::format::{digits, percent};
use crate::report::results::{MeasureKind, MethodResult, Section};
use crate::report::sheet::{Column, Sheet, SheetCell, number};
use crate::stats::{Interval, Shown, Summary};

impl View<'_> {
    /// A table per perplexity measure that splits its uncertainty into seeds and texts.
    pub(super) fn uncertainty(&self) -> Vec<Sheet> {
        let confidence = percent(self.confidence());
        let sheets = self.sections(MeasureKind::Perplexity).map(|section| {
            let mut columns = ["method", "pattern"].map(Column::words).to_vec();
            columns.extend([
                Column::numbers("perplexity"),
                Column::numbers("seeds"),
                Column::numbers("sd over seeds"),
                Column::numbers("range over seeds"),
                Column::numbers("se over windows, %"),
                Column::numbers(confidence.clone()),
            ]);
            let of = |(name, _): (&str, _)| {
                let entries = std::iter::once(&section.dense).chain(&section.entries);
                let own: Vec<&MethodResult> = entries.filter(|entry| entry.method == name).collect();
                own
            };
            let entries = self.methods().into_iter().flat_map(of);
            let rows = entries.filter_map(|entry| self.sources_of(section, entry)).collect();
            Sheet {
                title: format!("{} on {}", section.model, section.measure.label()),
                columns,
                rows,
                notes: vec![format!(
                    "Calibration seeds and evaluation windows are two sources of chance. Sd and range over seeds: the spread of \
                     perplexities when the calibration texts are drawn anew; empty for what does not calibrate or has one seed. Se over \
                     windows: the standard error of the perplexity, in percent, had other text of this kind been evaluated; \
                     from blocks of neighbouring windows. {confidence}: the t-interval from both sources, or from windows alone \
                     where there is one run. Most of what windows add is shared by all methods, which is why methods are \
                     compared window by window and not by these intervals."
                )],
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
            self.named(&entry.method),
            SheetCell::plain(entry.pattern.map_or(String::new(), |pattern| pattern.to_string())),
            number(Some(summary.mean), digits),
            SheetCell::plain(if entry.seeded {
                summary.n.to_string()
            } else {
                String::new()
            }),
            number(spread, digits + 1),
            SheetCell::plain(range.unwrap_or_default()),
            number(components.map(|it| 100.0 * it.texts.robust_standard_error), 2),
            ends(components.and_then(|it| it.interval(self.confidence()))),
        ])
    }
}
