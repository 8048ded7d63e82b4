//! Tables of scores: methods by patterns, by models, by tasks, and published values beside ours.

use super::view::View;
use crate::experiment::method::MethodPlan;
use crate::experiment::protocol::Averaged;
use crate::prune::pattern::Pattern;
use crate::report::format::digits;
use crate::report::published::{self, Published};
use crate::report::results::{Measure, MeasureKind, MethodResult, Section};
use crate::report::sheet::{Column, Sheet, SheetCell, number};
use crate::stats::average::macro_average;
use crate::stats::{Shown, normal_quantile};

/// The column of the time that pruning took.
const PRUNING_TIME: &str = "prune, s";

impl View<'_> {
    pub(super) fn perplexity(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        let several = experiment.models.len() > 1;
        if !several || experiment.patterns.len() > 1 {
            sheets.extend(
                self.sections(MeasureKind::Perplexity)
                    .map(|section| self.over_patterns(section)),
            );
        }
        if several {
            for evaluation in &experiment.evaluations {
                let measured = |section: &&Section| section.measure.label() == evaluation.name;
                let sections: Vec<&Section> = self.sections(MeasureKind::Perplexity).filter(measured).collect();
                // One model alone has its table of patterns already.
                if sections.is_empty() || sections.len() == 1 && experiment.patterns.len() > 1 {
                    continue;
                }
                for pattern in &experiment.patterns {
                    sheets.push(self.over_models(&sections, *pattern));
                }
            }
        }
        sheets
    }

    /// A table of one model: one row per method, one column per pattern.
    pub(super) fn over_patterns(&self, section: &Section) -> Sheet {
        let experiment = &self.results.plan.experiment;
        let mut columns = vec![Column::words("method"), Column::words("group").aside()];
        let published = |pattern: &Pattern| self.has_reference(section, *pattern);
        for pattern in &experiment.patterns {
            columns.push(Column::numbers(pattern.to_string()));
            if published(pattern) {
                columns.push(Column::numbers("published").beside());
            }
        }
        columns.extend([Column::numbers("seeds").aside(), Column::time(PRUNING_TIME).aside()]);
        let row = |method: &str, group: String, seeded: Option<bool>| {
            let mut row = vec![self.named(method), SheetCell::plain(group)];
            for pattern in &experiment.patterns {
                row.push(self.value(section, method, *pattern));
                if published(pattern) {
                    row.push(self.reference_cell(section, method, *pattern));
                }
            }
            let entries: Vec<&MethodResult> = section.entries.iter().filter(|it| it.method == method).collect();
            row.extend([seeds(&entries, seeded), seconds(&entries)]);
            row
        };
        let methods = self.methods().into_iter();
        let rows = methods.map(|(name, plan)| row(name, group(plan), plan.map(MethodPlan::seeded)));
        let rows = rows.collect();
        let mut notes = self.notes(&[section], &experiment.patterns);
        notes.push(format!(
            "Times ({PRUNING_TIME}) are those of calibration and pruning together: means over seeds and patterns."
        ));
        notes.extend(self.of_machines(section, PRUNING_TIME));
        Sheet {
            title: self.title(&section.model, &section.measure),
            columns,
            rows,
            notes,
        }
    }

    /// A table for one pattern: one row per method, one column per model.
    pub(super) fn over_models(&self, sections: &[&Section], pattern: Pattern) -> Sheet {
        let mut columns = vec![Column::words("method"), Column::words("group").aside()];
        for section in sections {
            columns.push(Column::numbers(&section.model));
            if self.has_reference(section, pattern) {
                columns.push(Column::numbers("published").beside());
            }
        }
        columns.push(Column::numbers("seeds").aside());
        let row = |method: &str, group: String, seeded: Option<bool>| {
            let mut row = vec![self.named(method), SheetCell::plain(group)];
            for section in sections {
                row.push(self.value(section, method, pattern));
                if self.has_reference(section, pattern) {
                    row.push(self.reference_cell(section, method, pattern));
                }
            }
            let entries: Vec<&MethodResult> = sections.iter().filter_map(|it| it.entry(method, pattern)).collect();
            row.push(seeds(&entries, seeded));
            row
        };
        let methods = self.methods().into_iter();
        let rows = methods.map(|(name, plan)| row(name, group(plan), plan.map(MethodPlan::seeded)));
        let rows = rows.collect();
        let measure = sections.first().map(|section| &section.measure);
        let title = measure.map(|measure| self.title(&pattern.to_string(), measure));
        Sheet {
            title: title.unwrap_or_default(),
            columns,
            rows,
            notes: self.notes(sections, &[pattern]),
        }
    }

    /// Tables of accuracy, one per model and pattern: one row per method, one column per task and the macro average.
    pub(super) fn accuracy(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        for model in &experiment.models {
            let sections: Vec<&Section> = self
                .sections(MeasureKind::Accuracy)
                .filter(|it| it.model == model.name)
                .collect();
            if sections.is_empty() {
                continue;
            }
            for pattern in &experiment.patterns {
                let mut columns = vec![Column::words("method")];
                for section in &sections {
                    columns.push(Column::numbers(section.measure.label()));
                    if self.has_reference(section, *pattern) {
                        columns.push(Column::numbers("published").beside());
                    }
                }
                columns.extend([Column::numbers(self.averaged()), Column::numbers("seeds").aside()]);
                let row = |method: &str, seeded: Option<bool>| {
                    let mut row = vec![self.named(method)];
                    for section in &sections {
                        row.push(self.value(section, method, *pattern));
                        if self.has_reference(section, *pattern) {
                            row.push(self.reference_cell(section, method, *pattern));
                        }
                    }
                    let entries: Vec<&MethodResult> =
                        sections.iter().filter_map(|it| it.entry(method, *pattern)).collect();
                    row.extend([self.average(&sections, method, *pattern), seeds(&entries, seeded)]);
                    row
                };
                let methods = self.methods().into_iter();
                let rows = methods.map(|(name, plan)| row(name, plan.map(MethodPlan::seeded)));
                let rows = rows.collect();
                sheets.push(Sheet {
                    title: format!("{}, {pattern}: accuracy in % (higher is better)", model.name),
                    columns,
                    rows,
                    notes: self.notes(&sections, &[*pattern]),
                });
            }
        }
        sheets
    }

    /// What is averaged over tasks, as a heading.
    fn averaged(&self) -> &'static str {
        match self.results.plan.experiment.averaged() {
            Averaged::Plain => "macro average (acc)",
            Averaged::Larger => "macro average (larger of acc, acc_norm)",
        }
    }

    /// The macro average over all tasks, if the method has results for all of them.
    pub(super) fn average(&self, sections: &[&Section], method: &str, pattern: Pattern) -> SheetCell {
        let averaged = self.results.plan.experiment.averaged();
        let of_metric = |wanted: &'static str| {
            sections.iter().filter_map(move |section| match &section.measure {
                Measure::Accuracy { task, metric } if *metric == wanted => Some((task, *section)),
                _ => None,
            })
        };
        let score = |section: &Section| {
            let accuracy = section.entry(method, pattern)?.accuracy(self.confidence())?;
            Some((100.0 * accuracy.value, 100.0 * accuracy.standard_error))
        };
        let parts: Option<Vec<(f64, f64)>> = of_metric("acc")
            .map(|(task, section)| {
                let plain = score(section)?;
                let normed = of_metric("acc_norm").find(|(other, _)| *other == task);
                match normed
                    .filter(|_| averaged == Averaged::Larger)
                    .map(|(_, section)| score(section))
                {
                    None => Some(plain),
                    Some(normed) => normed.map(|normed| if normed.0 > plain.0 { normed } else { plain }),
                }
            })
            .collect();
        let average = parts.and_then(|parts| macro_average(&parts));
        SheetCell::plain(average.map_or(String::new(), |average| {
            let half = normal_quantile(0.5 + self.confidence() / 2.0) * average.standard_error;
            match half > 0.0 {
                true => format!("{:.2} ± {half:.2}", average.value),
                // All answers are right or all wrong, which leaves no error to compute an interval from.
                false => format!("{:.2}", average.value),
            }
        }))
    }

    /// Tables with our values beside published ones.
    pub(super) fn published(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut rows = published::published(self.results);
        rows.retain(|it| self.shows(it.method));
        if rows.is_empty() {
            return Vec::new();
        }
        let mut columns = ["model", "measure", "pattern", "method"].map(Column::words).to_vec();
        columns.extend(["ours", "published", "deviation"].map(Column::numbers));
        columns.push(Column::words("source").aside());
        let row = |it: &Published| {
            let off = it.off().map(|off| match it.section.measure {
                Measure::Perplexity { .. } => format!("{:+.1} %", Shown(off)),
                _ => format!("{off:+.2} points"),
            });
            let published = match it.deviation {
                Some(deviation) => format!("{} (sd {deviation})", it.value),
                None => it.value.to_string(),
            };
            let cells = [
                it.section.model.clone(),
                it.section.measure.label(),
                it.pattern.to_string(),
                self.labels.label(it.method).to_string(),
                it.ours
                    .map(|ours| format!("{:.*}", digits(ours), Shown(ours)))
                    .unwrap_or_default(),
                published,
                off.unwrap_or_default(),
                it.source.to_string(),
            ];
            cells.map(SheetCell::plain).to_vec()
        };
        let mut sources: Vec<String> = Vec::new();
        for reference in &experiment.references {
            let text = format!("{}: {}", reference.source, reference.protocol);
            if !reference.protocol.is_empty() && !sources.contains(&text) {
                sources.push(text);
            }
        }
        sources.push("Deviation: ours against the published value; empty where we have no result.".to_string());
        Vec::from([Sheet {
            title: "Published values beside ours".to_string(),
            columns,
            rows: rows.iter().map(row).collect(),
            notes: sources,
        }])
    }
}

/// The comparison group of a method; nothing for the dense model.
fn group(plan: Option<&MethodPlan>) -> String {
    plan.map_or(String::new(), MethodPlan::group)
}

fn seeds(entries: &[&MethodResult], seeded: Option<bool>) -> SheetCell {
    let most = entries.iter().map(|entry| entry.runs.len()).max().unwrap_or(0);
    SheetCell::plain(match seeded {
        None => String::new(),
        Some(false) => "none".to_string(),
        // Nothing was measured: not a number of seeds, but nothing yet.
        Some(true) if most == 0 => String::new(),
        Some(true) => most.to_string(),
    })
}

fn seconds(entries: &[&MethodResult]) -> SheetCell {
    let seconds: Vec<f64> = entries.iter().filter_map(|entry| entry.seconds).collect();
    number((!seconds.is_empty()).then(|| crate::stats::mean(&seconds)), 2)
}
