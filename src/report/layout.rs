//! What the tables of a report say: methods by patterns, methods by models, methods by tasks, comparisons, sources of
//! uncertainty, and published values beside ours.

use super::comparison::{Family, MOST_PAIRS, Test, Verdict};
use super::published::{self, Published};
use super::results::{Entry, Measure, Results, Section};
use super::sheet::{Cell, Chapter, Column, Mark, Sheet, number};
use crate::experiment::plan::{DENSE, MethodPlan};
use crate::prune::pattern::Pattern;
use crate::stats::average::macro_average;
use crate::stats::power::POWER;
use crate::stats::proportion::FEW;
use crate::stats::{Interval, Shown, Summary, normal_quantile};

/// All chapters of a report that have something to show.
pub fn chapters(results: &Results, families: &[Family]) -> Vec<Chapter> {
    let view = View { results, families };
    let chapter = |file, title, sheets| Chapter { file, title, sheets };
    let chapters = [
        chapter("perplexity", "Perplexity", view.perplexity()),
        chapter("accuracy", "Zero-shot accuracy", view.accuracy()),
        chapter("published", "Against published values", view.published()),
        chapter("comparisons", "Comparisons", view.comparisons()),
        chapter("uncertainty", "Where uncertainty comes from", view.uncertainty()),
    ];
    chapters
        .into_iter()
        .filter(|chapter| !chapter.sheets.is_empty())
        .collect()
}

/// `95 %`.
pub fn percent(confidence: f64) -> String {
    Pattern::Unstructured { sparsity: confidence }.to_string()
}

/// Digits after the point that a value of this size is shown with: five or so in all.
pub fn digits(value: f64) -> usize {
    match value.abs() {
        small if small < 100.0 => 2,
        medium if medium < 1000.0 => 1,
        _ => 0,
    }
}

/// A p-value.
pub fn p_value(p: f64) -> String {
    match p {
        tiny if tiny < 0.0001 => "< 0.0001".to_string(),
        small if small < 0.01 => format!("{small:.4}"),
        other => format!("{other:.3}"),
    }
}

struct View<'a> {
    results: &'a Results,
    families: &'a [Family],
}

impl View<'_> {
    fn confidence(&self) -> f64 {
        self.results.plan.experiment.confidence
    }

    fn sections(&self, perplexities: bool) -> impl Iterator<Item = &Section> {
        let sections = self.results.sections.iter();
        sections.filter(move |section| section.measure.higher_is_better() != perplexities)
    }

    fn perplexity(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        let several = experiment.models.len() > 1;
        if !several || experiment.patterns.len() > 1 {
            sheets.extend(self.sections(true).map(|section| self.over_patterns(section)));
        }
        if several {
            for evaluation in &experiment.evaluations {
                let measured = |section: &&Section| section.measure.label() == evaluation.name;
                let sections: Vec<&Section> = self.sections(true).filter(measured).collect();
                for pattern in &experiment.patterns {
                    sheets.push(self.over_models(&sections, *pattern));
                }
            }
        }
        sheets
    }

    /// Methods by patterns, on one model.
    fn over_patterns(&self, section: &Section) -> Sheet {
        let experiment = &self.results.plan.experiment;
        let mut columns = vec![Column::words("method"), Column::words("group")];
        let published = |pattern: &Pattern| self.has_reference(section, *pattern);
        for pattern in &experiment.patterns {
            columns.push(Column::numbers(pattern.to_string()));
            if published(pattern) {
                columns.push(Column::numbers("published"));
            }
        }
        columns.extend([Column::numbers("seeds"), Column::time("prune, s")]);
        let row = |method: &str, group: String, calibrated: Option<bool>| {
            let mut row = vec![Cell::plain(method), Cell::plain(group)];
            for pattern in &experiment.patterns {
                row.push(self.value(section, method, *pattern));
                if published(pattern) {
                    row.push(self.reference_cell(section, method, *pattern));
                }
            }
            let entries: Vec<&Entry> = section.entries.iter().filter(|it| it.method == method).collect();
            row.extend([seeds(&entries, calibrated), seconds(&entries)]);
            row
        };
        let mut rows = vec![row(DENSE, String::new(), None)];
        let of = |method: &MethodPlan| row(&method.name, method.group.to_string(), Some(method.calibrated));
        rows.extend(experiment.methods.iter().map(of));
        Sheet {
            title: self.title(&section.model, &section.measure),
            columns,
            rows,
            notes: self.notes(&[section], &experiment.patterns),
        }
    }

    /// Methods by models, under one pattern.
    fn over_models(&self, sections: &[&Section], pattern: Pattern) -> Sheet {
        let experiment = &self.results.plan.experiment;
        let mut columns = vec![Column::words("method"), Column::words("group")];
        for section in sections {
            columns.push(Column::numbers(&section.model));
            if self.has_reference(section, pattern) {
                columns.push(Column::numbers("published"));
            }
        }
        columns.push(Column::numbers("seeds"));
        let row = |method: &str, group: String, calibrated: Option<bool>| {
            let mut row = vec![Cell::plain(method), Cell::plain(group)];
            for section in sections {
                row.push(self.value(section, method, pattern));
                if self.has_reference(section, pattern) {
                    row.push(self.reference_cell(section, method, pattern));
                }
            }
            let entries: Vec<&Entry> = sections.iter().filter_map(|it| it.entry(method, pattern)).collect();
            row.push(seeds(&entries, calibrated));
            row
        };
        let mut rows = vec![row(DENSE, String::new(), None)];
        let of = |method: &MethodPlan| row(&method.name, method.group.to_string(), Some(method.calibrated));
        rows.extend(experiment.methods.iter().map(of));
        let measure = sections.first().map(|section| &section.measure);
        let title = measure.map(|measure| self.title(&pattern.to_string(), measure));
        Sheet {
            title: title.unwrap_or_default(),
            columns,
            rows,
            notes: self.notes(sections, &[pattern]),
        }
    }

    /// Methods by tasks with their macro average, per model and pattern.
    fn accuracy(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let mut sheets = Vec::new();
        for model in &experiment.models {
            let sections: Vec<&Section> = self.sections(false).filter(|it| it.model == model.name).collect();
            if sections.is_empty() {
                continue;
            }
            for pattern in &experiment.patterns {
                let mut columns = vec![Column::words("method")];
                for section in &sections {
                    columns.push(Column::numbers(section.measure.label()));
                    if self.has_reference(section, *pattern) {
                        columns.push(Column::numbers("published"));
                    }
                }
                columns.extend([Column::numbers("macro average (acc)"), Column::numbers("seeds")]);
                let row = |method: &str, calibrated: Option<bool>| {
                    let mut row = vec![Cell::plain(method)];
                    for section in &sections {
                        row.push(self.value(section, method, *pattern));
                        if self.has_reference(section, *pattern) {
                            row.push(self.reference_cell(section, method, *pattern));
                        }
                    }
                    let entries: Vec<&Entry> = sections.iter().filter_map(|it| it.entry(method, *pattern)).collect();
                    row.extend([self.average(&sections, method, *pattern), seeds(&entries, calibrated)]);
                    row
                };
                let mut rows = vec![row(DENSE, None)];
                rows.extend(experiment.methods.iter().map(|it| row(&it.name, Some(it.calibrated))));
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

    /// The macro average of `acc` over all tasks, if a method has all of them.
    fn average(&self, sections: &[&Section], method: &str, pattern: Pattern) -> Cell {
        let plain = sections
            .iter()
            .filter(|section| matches!(&section.measure, Measure::Accuracy { metric, .. } if *metric == "acc"));
        let parts: Option<Vec<(f64, f64)>> = plain
            .map(|section| {
                let accuracy = section.entry(method, pattern)?.accuracy(self.confidence())?;
                Some((100.0 * accuracy.value, 100.0 * accuracy.standard_error))
            })
            .collect();
        let average = parts.and_then(|parts| macro_average(&parts));
        Cell::plain(average.map_or(String::new(), |average| {
            let half = normal_quantile(0.5 + self.confidence() / 2.0) * average.standard_error;
            format!("{:.2} ± {half:.2}", average.value)
        }))
    }

    fn title(&self, what: &str, measure: &Measure) -> String {
        let evaluations = &self.results.plan.experiment.evaluations;
        let length = evaluations
            .iter()
            .find(|it| it.name == measure.label())
            .map_or(String::new(), |it| it.length.to_string());
        format!(
            "{what}: perplexity on {}, context {length} (lower is better)",
            measure.label()
        )
    }

    /// What a method scored, marked for what it is in its column.
    fn value(&self, section: &Section, method: &str, pattern: Pattern) -> Cell {
        let Some(entry) = section.entry(method, pattern) else {
            return Cell::default();
        };
        let Some(summary) = &entry.summary else {
            // Missing is not zero: a cell that has no value says nothing, or that it failed.
            return Cell::plain(if entry.failed > 0 { "failed" } else { "" });
        };
        let spread = match &section.measure {
            Measure::Perplexity { .. } => summary.interval,
            Measure::Accuracy { .. } => entry
                .accuracy(self.confidence())
                .map(|accuracy| accuracy.interval.map(|share| 100.0 * share)),
        };
        let mut text = match (spread, &section.measure) {
            (None, _) => format!("{:.*}", digits(summary.mean), Shown(summary.mean)),
            (Some(interval), Measure::Perplexity { .. }) => {
                let digits = digits(summary.mean);
                format!(
                    "{:.digits$} ± {:.digits$}",
                    Shown(summary.mean),
                    Shown(summary.mean - interval.low)
                )
            }
            // These intervals are not symmetric.
            (Some(interval), Measure::Accuracy { .. }) => {
                format!("{:.2} [{:.1}, {:.1}]", summary.mean, interval.low, interval.high)
            }
        };
        if entry.failed > 0 {
            text.push_str(&format!(" ({} failed)", entry.failed));
        } else if entry.runs.len() < entry.planned {
            text.push_str(&format!(" ({} of {})", entry.runs.len(), entry.planned));
        }
        Cell {
            text,
            mark: self.mark(section, method, pattern),
        }
    }

    /// Whether a method is the best of its column, or not told apart from it.
    fn mark(&self, section: &Section, method: &str, pattern: Pattern) -> Mark {
        let experiment = &self.results.plan.experiment;
        let score = |method: &str| {
            let mean = section.entry(method, pattern)?.summary.as_ref()?.mean;
            Some(if section.measure.higher_is_better() {
                -mean
            } else {
                mean
            })
        };
        let methods = || experiment.methods.iter().map(|it| it.name.as_str());
        let best = methods()
            .filter_map(|name| Some((name, score(name)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((best, least)) = best.filter(|_| method != DENSE) else {
            return Mark::None;
        };
        let equal = |name: &&str| *name != best && score(name) == Some(least);
        let verdict = |other: &str| {
            let mut families = self.families.iter();
            families.find_map(|family| family.verdict(section, pattern, best, other, self.confidence()))
        };
        if method != best {
            return match verdict(method) {
                Some(Verdict::NotTold) => Mark::Tied,
                _ if equal(&method) => Mark::Tied,
                _ => Mark::None,
            };
        }
        if methods().any(|name| equal(&name)) {
            return Mark::Tied;
        }
        let verdicts: Vec<Verdict> = methods().filter(|name| *name != best).filter_map(verdict).collect();
        let all = |wanted| !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == wanted);
        if all(Verdict::Better) {
            Mark::Best
        } else if verdicts.contains(&Verdict::NotTold) {
            Mark::Tied
        } else {
            Mark::None
        }
    }

    fn references<'a>(&'a self, section: &'a Section, method: &'a str, pattern: Pattern) -> Option<Published<'a>> {
        published::of(&self.results.plan.experiment.references, section, method, pattern).next()
    }

    fn has_reference(&self, section: &Section, pattern: Pattern) -> bool {
        let mut methods = self.results.plan.experiment.methods.iter().map(|it| it.name.as_str());
        methods.any(|method| self.references(section, method, pattern).is_some())
    }

    /// The first published value of a place; all of them are in a table of their own.
    fn reference_cell(&self, section: &Section, method: &str, pattern: Pattern) -> Cell {
        let first = self.references(section, method, pattern);
        Cell::plain(first.map_or(String::new(), |it| it.value.to_string()))
    }

    /// Our values beside published ones.
    fn published(&self) -> Vec<Sheet> {
        let experiment = &self.results.plan.experiment;
        let rows = published::published(self.results);
        if rows.is_empty() {
            return Vec::new();
        }
        let mut columns = ["model", "measure", "pattern", "method"].map(Column::words).to_vec();
        columns.extend(["ours", "published", "deviation"].map(Column::numbers));
        columns.push(Column::words("source"));
        let row = |it: &Published| {
            let off = it.off().map(|off| match it.section.measure {
                Measure::Perplexity { .. } => format!("{:+.1} %", Shown(off)),
                Measure::Accuracy { .. } => format!("{off:+.2} points"),
            });
            let published = match it.deviation {
                Some(deviation) => format!("{} (sd {deviation})", it.value),
                None => it.value.to_string(),
            };
            let cells = [
                it.section.model.clone(),
                it.section.measure.label(),
                it.pattern.to_string(),
                it.method.to_string(),
                it.ours
                    .map(|ours| format!("{:.*}", digits(ours), Shown(ours)))
                    .unwrap_or_default(),
                published,
                off.unwrap_or_default(),
                it.source.to_string(),
            ];
            cells.map(Cell::plain).to_vec()
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

    /// Every comparison of every family.
    fn comparisons(&self) -> Vec<Sheet> {
        let families = self.families.iter();
        let families = families.filter(|family| !family.tests.is_empty() || family.refused > 0);
        families.map(|family| self.family(family)).collect()
    }

    fn family(&self, family: &Family) -> Sheet {
        let experiment = &self.results.plan.experiment;
        let confidence = percent(self.confidence());
        let several_models = experiment.models.len() > 1;
        let mut columns = Vec::new();
        if several_models {
            columns.push(Column::words("model"));
        }
        columns.extend(["measure", "pattern", "comparison"].map(Column::words));
        columns.extend([
            Column::numbers("difference"),
            Column::numbers(format!("{confidence} over texts")),
            Column::numbers(format!("{confidence} over texts and seeds")),
            Column::numbers("seeds agree"),
            Column::numbers("p"),
            Column::numbers("p (Holm)"),
            Column::numbers("detectable"),
        ]);
        let row = |test: &Test| {
            let unit = match test.measure {
                Measure::Perplexity { .. } => " %",
                Measure::Accuracy { .. } => "",
            };
            let digits = difference_digits(test);
            let ends = |interval: Interval| {
                let interval = interval.map(|end| test.shown(end));
                format!(
                    "{:+.digits$} to {:+.digits$}{unit}",
                    Shown(interval.low),
                    Shown(interval.high)
                )
            };
            let verdict = test.verdict(self.confidence());
            let mut row = Vec::new();
            if several_models {
                row.push(Cell::plain(&test.model));
            }
            row.extend([
                Cell::plain(test.measure.label()),
                Cell::plain(test.pattern.to_string()),
                Cell::plain(format!("{} against {}", test.ours, test.other)),
                Cell {
                    text: format!("{:+.digits$}{unit}", Shown(test.shown(test.difference.mean))),
                    mark: if verdict == Verdict::NotTold {
                        Mark::None
                    } else {
                        Mark::Best
                    },
                },
                Cell::plain(ends(test.over_texts)),
                Cell::plain(ends(test.over_both)),
                Cell::plain(agreement(test)),
                Cell::plain(p_value(test.p)),
                Cell::plain(p_value(test.adjusted)),
                Cell::plain(detectable(test, digits).map_or(String::new(), |it| format!("{it}{unit}"))),
            ]);
            row
        };
        let mut notes = vec![
            format!(
                "Differences are paired on the same texts, the first method less the second, in percent of the \
                 second's perplexity or in percentage points of accuracy; differences of one seed with the same seed. \
                 The first interval is a BCa bootstrap over texts (windows in blocks of neighbours, documents with their \
                 source), the second a t-interval over texts and seeds together. Bold differences survive Holm's \
                 correction over the {} comparisons of this family.",
                family.tests.len() + family.missing
            ),
            format!(
                "Seeds agree: how many seeds have the difference's sign, with Wilcoxon's p-value. Detectable: the smallest \
                 true difference that would be found with {} probability in this family.",
                percent(POWER)
            ),
        ];
        if !family.declared {
            notes.push(
                "The experiment declares no family ([[comparison]]), so every pair of methods is compared: nothing is \
                 chosen after the fact, and the correction is the strictest."
                    .to_string(),
            );
        }
        if family.refused > 0 {
            notes = vec![format!(
                "Nothing is compared: without a declared family every pair of methods would be, {} comparisons, and more than \
                 {MOST_PAIRS} are not made. Declare those that are meant ([[comparison]]).",
                family.refused
            )];
        }
        if family.missing > 0 {
            notes.push(format!(
                "{} comparisons of the family have no results yet.",
                family.missing
            ));
        }
        Sheet {
            title: format!("Family: {}", family.name),
            columns,
            rows: family.tests.iter().map(row).collect(),
            notes,
        }
    }

    /// Both sources of chance apart, for every perplexity.
    fn uncertainty(&self) -> Vec<Sheet> {
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

    fn sources_of(&self, section: &Section, entry: &Entry) -> Option<Vec<Cell>> {
        let summary: &Summary = entry.summary.as_ref()?;
        let components = entry.components(&section.measure);
        let digits = digits(summary.mean);
        let ends = |interval: Option<Interval>| {
            let interval = interval.map(|it| it.map(|end| section.measure.shown(end)));
            Cell::plain(interval.map_or(String::new(), |it| {
                format!("{:.digits$} to {:.digits$}", Shown(it.low), Shown(it.high))
            }))
        };
        let spread = crate::stats::variance_of(&entry.values()).map(f64::sqrt);
        let range =
            (summary.n > 1).then(|| format!("{:.digits$} to {:.digits$}", Shown(summary.min), Shown(summary.max)));
        Some(vec![
            Cell::plain(&entry.method),
            Cell::plain(entry.pattern.map_or(String::new(), |pattern| pattern.to_string())),
            number(Some(summary.mean), digits),
            Cell::plain(if entry.seeded {
                summary.n.to_string()
            } else {
                String::new()
            }),
            number(spread, digits + 1),
            Cell::plain(range.unwrap_or_default()),
            ends(components.and_then(|it| it.texts.robust_interval(self.confidence()))),
            ends(
                components
                    .filter(|it| it.seeds > 1)
                    .and_then(|it| it.interval(self.confidence())),
            ),
        ])
    }

    /// What is needed to read a table of scores.
    fn notes(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        let experiment = &self.results.plan.experiment;
        let confidence = percent(self.confidence());
        let Some(measure) = sections.first().map(|section| &section.measure) else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        let mut sizes = sections.iter().filter_map(|it| Some((it.measure.label(), it.texts()?)));
        let seeds = match experiment.seeds.len() {
            0 => "no calibration seeds".to_string(),
            1 => "one calibration seed".to_string(),
            n => format!("{n} calibration seeds"),
        };
        match measure {
            Measure::Perplexity { .. } => {
                let windows = sizes.next().map_or(String::new(), |(_, n)| format!("{n} windows, "));
                let mut text = format!("{windows}{seeds}. ");
                if experiment.seeds.len() > 1 {
                    text.push_str(&format!(
                        "Mean ± half of the {confidence} t-interval over calibration seeds; "
                    ));
                }
                text.push_str(
                    "a value without ± has one run (dense, or a method that uses no calibration). Differences between \
                     evaluation texts are not in these intervals.",
                );
                notes.push(text);
            }
            Measure::Accuracy { .. } => {
                let documents: Vec<String> = sizes.map(|(label, n)| format!("{label} {n}")).collect();
                notes.push(format!(
                    "Documents: {}; {seeds}. In brackets the {confidence} interval over documents: Wilson's, or exact below \
                     {FEW} documents; of several seeds the mean is shown, with the interval of one run. The average counts every \
                     task the same; ± is half of its {confidence} interval over documents.",
                    documents.join(", ")
                ));
            }
        }
        let tests: Vec<(&Family, &Test)> = self
            .families
            .iter()
            .flat_map(|family| family.tests.iter().map(move |test| (family, test)))
            .filter(|(_, test)| {
                let here = |section: &Section| section.model == test.model && section.measure == test.measure;
                sections.iter().any(|section| here(section)) && patterns.contains(&test.pattern)
            })
            .collect();
        if tests.is_empty() {
            return notes;
        }
        let mut families: Vec<String> = Vec::new();
        for (family, _) in &tests {
            let text = format!(
                "“{}” ({} comparisons)",
                family.name,
                family.tests.len() + family.missing
            );
            if !families.contains(&text) {
                families.push(text);
            }
        }
        let unmarked = match tests.iter().any(|(family, _)| family.declared) {
            true => " No mark: worse than the best, or not compared with it.",
            false => "",
        };
        notes.push(format!(
            "Bold: better than every other method it is compared with, after Holm's correction over {}. ≈: the best, or not \
             told apart from it.{unmarked}",
            families.join(" and ")
        ));
        let mut known: Vec<(f64, &Test)> = tests.iter().filter_map(|(_, it)| Some((it.detectable?, *it))).collect();
        known.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ends = known.first().zip(known.last());
        if let Some((least, most)) = ends.and_then(|(a, b)| detectable(a.1, 2).zip(detectable(b.1, 2))) {
            let unit = match measure {
                Measure::Perplexity { .. } => "% of the perplexity",
                Measure::Accuracy { .. } => "percentage points",
            };
            notes.push(format!(
                "Minimum detectable difference at {} power: {least} to {most} {unit}, depending on the pair.",
                percent(POWER)
            ));
        }
        notes
    }
}

/// The smallest difference that would be found, where that is known. No accuracies are more than 100 points apart.
fn detectable(test: &Test, digits: usize) -> Option<String> {
    let difference = test.shown(test.detectable?);
    Some(match test.measure {
        Measure::Accuracy { .. } if difference > 100.0 => "over 100".to_string(),
        _ => format!("{:.digits$}", Shown(difference)),
    })
}

/// Digits after the point for a comparison: two of the detectable difference.
fn difference_digits(test: &Test) -> usize {
    match test.detectable.map(|it| test.shown(it)) {
        Some(fine) if fine < 0.1 => 3,
        _ => 2,
    }
}

/// How many seeds have the sign of their mean difference.
fn agreement(test: &Test) -> String {
    let Some(p) = test.wilcoxon else {
        return String::new();
    };
    let agree = test.seeds.iter().filter(|it| **it * test.difference.mean > 0.0).count();
    format!("{agree} of {} (p {})", test.seeds.len(), p_value(p))
}

fn seeds(entries: &[&Entry], calibrated: Option<bool>) -> Cell {
    let most = entries.iter().map(|entry| entry.runs.len()).max().unwrap_or(0);
    Cell::plain(match calibrated {
        None => String::new(),
        Some(false) => "none".to_string(),
        Some(true) => most.to_string(),
    })
}

fn seconds(entries: &[&Entry]) -> Cell {
    let seconds: Vec<f64> = entries.iter().filter_map(|entry| entry.seconds).collect();
    number((!seconds.is_empty()).then(|| crate::stats::mean(&seconds)), 2)
}
