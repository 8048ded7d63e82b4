//! Results as the tables look at them: cells, titles and notes that several of them have.

use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::comparison::{ComparisonFamily, Test, TestVerdict};
use crate::report::format::{digits, percent};
use crate::report::published::{self, Published};
use crate::report::results::{Measure, Results, Section};
use crate::report::sheet::{Mark, SheetCell};
use crate::stats::Shown;
use crate::stats::power::POWER;
use crate::stats::proportion::FEW;

/// The results that tables are made from.
pub struct View<'a> {
    pub results: &'a Results,
    pub families: &'a [ComparisonFamily],
}

impl View<'_> {
    pub(super) fn confidence(&self) -> f64 {
        self.results.plan.experiment.confidence
    }

    pub(super) fn sections(&self, perplexities: bool) -> impl Iterator<Item = &Section> {
        let sections = self.results.sections.iter();
        sections.filter(move |section| section.measure.higher_is_better() != perplexities)
    }

    pub(super) fn title(&self, what: &str, measure: &Measure) -> String {
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

    /// The score of a method, marked if it is the best of its column or not told apart from the best.
    pub(super) fn value(&self, section: &Section, method: &str, pattern: Pattern) -> SheetCell {
        let Some(entry) = section.entry(method, pattern) else {
            return SheetCell::default();
        };
        let Some(summary) = &entry.summary else {
            // Missing is not zero: a cell that has no value says nothing, or that it failed.
            return SheetCell::plain(if entry.failed > 0 { "failed" } else { "" });
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
        SheetCell {
            text,
            mark: self.mark(section, method, pattern),
        }
    }

    /// Whether a method is the best of its column, or not told apart from the best.
    pub(super) fn mark(&self, section: &Section, method: &str, pattern: Pattern) -> Mark {
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
                Some(TestVerdict::NotTold) => Mark::Tied,
                _ if equal(&method) => Mark::Tied,
                _ => Mark::None,
            };
        }
        if methods().any(|name| equal(&name)) {
            return Mark::Tied;
        }
        let verdicts: Vec<TestVerdict> = methods().filter(|name| *name != best).filter_map(verdict).collect();
        let all = |wanted| !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == wanted);
        if all(TestVerdict::Better) {
            Mark::Best
        } else if verdicts.contains(&TestVerdict::NotTold) {
            Mark::Tied
        } else {
            Mark::None
        }
    }

    pub(super) fn references<'a>(
        &'a self,
        section: &'a Section,
        method: &'a str,
        pattern: Pattern,
    ) -> Option<Published<'a>> {
        published::of(&self.results.plan.experiment.references, section, method, pattern).next()
    }

    pub(super) fn has_reference(&self, section: &Section, pattern: Pattern) -> bool {
        let mut methods = self.results.plan.experiment.methods.iter().map(|it| it.name.as_str());
        methods.any(|method| self.references(section, method, pattern).is_some())
    }

    /// The first published value for a place in the table; a separate table has all of them.
    pub(super) fn reference_cell(&self, section: &Section, method: &str, pattern: Pattern) -> SheetCell {
        let first = self.references(section, method, pattern);
        SheetCell::plain(first.map_or(String::new(), |it| it.value.to_string()))
    }

    /// Notes that explain how to read a table of scores.
    pub(super) fn notes(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
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
        let tests: Vec<(&ComparisonFamily, &Test)> = self
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

/// The smallest difference that would be found, as text, if it is known. Accuracies cannot differ by more than 100
/// points.
pub(super) fn detectable(test: &Test, digits: usize) -> Option<String> {
    let difference = test.shown(test.detectable?);
    Some(match test.measure {
        Measure::Accuracy { .. } if difference > 100.0 => "over 100".to_string(),
        _ => format!("{:.digits$}", Shown(difference)),
    })
}
