//! Results as the tables look at them: cells, titles and notes that several of them have.

use crate::experiment::method::MethodPlan;
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::comparison::{ComparisonFamily, Contest, Test, contests};
use crate::report::format::{counted, percent, sentence};
use crate::report::found;
use crate::report::labels::Labels;
use crate::report::published::{self, Published};
use crate::report::results::{Measure, MeasureKind, Results, Section};
use crate::report::sheet::{Mark, SheetCell};
use crate::stats::Shown;
use crate::stats::power::POWER;
use crate::stats::proportion::FEW;

/// The results that tables are made from.
pub struct View<'a> {
    pub results: &'a Results,
    pub families: &'a [ComparisonFamily],
    /// What methods are called.
    pub labels: Labels,
    /// The methods that tables show, in this order; the dense model and all methods if it is not said.
    pub methods: Option<&'a [String]>,
    /// Where pruned models have results, with the best method there. Every mark of a table asks for it.
    contests: Vec<Contest<'a>>,
}

impl<'a> View<'a> {
    pub fn new(results: &'a Results, families: &'a [ComparisonFamily], methods: Option<&'a [String]>) -> View<'a> {
        View {
            results,
            families,
            labels: Labels::of(&results.plan.experiment),
            methods,
            contests: contests(results, families),
        }
    }
}

impl View<'_> {
    /// The methods that tables show, with their plans; the dense model has none.
    pub(super) fn methods(&self) -> Vec<(&str, Option<&MethodPlan>)> {
        let methods = &self.results.plan.experiment.methods;
        let all = methods.iter().map(|method| (method.name.as_str(), Some(method)));
        let all: Vec<(&str, Option<&MethodPlan>)> = std::iter::once((DENSE, None)).chain(all).collect();
        match self.methods {
            None => all,
            Some(wanted) => {
                let found = |name: &String| all.iter().find(|(other, _)| other == name).copied();
                wanted.iter().filter_map(found).collect()
            }
        }
    }

    /// Whether tables show a method.
    pub(super) fn shows(&self, method: &str) -> bool {
        self.methods
            .is_none_or(|wanted| wanted.iter().any(|name| name == method))
    }

    /// The cell that names a method.
    pub(super) fn named(&self, method: &str) -> SheetCell {
        SheetCell::plain(self.labels.label(method))
    }

    pub(super) fn confidence(&self) -> f64 {
        self.results.plan.experiment.confidence
    }

    pub(super) fn sections(&self, kind: MeasureKind) -> impl Iterator<Item = &Section> {
        let sections = self.results.sections.iter();
        sections.filter(move |section| section.measure.kind() == kind)
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
            Measure::Accuracy { .. } => entry
                .accuracy(self.confidence())
                .map(|accuracy| accuracy.interval.map(|share| 100.0 * share)),
            _ => summary.interval,
        };
        let digits = section.measure.digits(summary.mean);
        let mut text = match (spread, &section.measure) {
            (None, _) => format!("{:.digits$}", Shown(summary.mean)),
            // These intervals are not symmetric.
            (Some(interval), Measure::Accuracy { .. }) => {
                format!("{:.2} [{:.1}, {:.1}]", summary.mean, interval.low, interval.high)
            }
            (Some(interval), _) => format!(
                "{:.digits$} ± {:.digits$}",
                Shown(summary.mean),
                Shown(summary.mean - interval.low)
            ),
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

    /// Whether a method is the best of its column, or not told apart from the best. All methods of the experiment count,
    /// whether the table shows them or not.
    pub(super) fn mark(&self, section: &Section, method: &str, pattern: Pattern) -> Mark {
        let here = |it: &&Contest| std::ptr::eq(it.section, section) && it.pattern == pattern;
        let Some(Contest { standing, .. }) = self.contests.iter().find(here).filter(|_| method != DENSE) else {
            return Mark::None;
        };
        match (method == standing.best, standing.tied.is_empty()) {
            (true, true) if standing.beaten.is_empty() => Mark::None,
            (true, true) => Mark::Best,
            (true, false) => Mark::Tied,
            // What is worse than another method is none of the best, however little is known of the best one.
            (false, _) if standing.told.iter().any(|(_, worse)| *worse == method) => Mark::None,
            (false, _) if standing.tied.contains(&method) => Mark::Tied,
            (false, _) => Mark::None,
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

    /// Why cells failed, a line for each method and pattern.
    fn failures(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        /// Most failures that are explained; `runs.jsonl` has all.
        const MOST: usize = 10;
        let Some(section) = sections.first() else {
            return Vec::new();
        };
        let dense = (section.dense.failed > 0).then_some(&section.dense);
        let entries = section.entries.iter().filter(|entry| {
            let here = entry.pattern.is_some_and(|pattern| patterns.contains(&pattern));
            entry.failed > 0 && here && self.shows(&entry.method)
        });
        let said = dense.into_iter().chain(entries).filter_map(|entry| {
            let pattern = entry.pattern.map_or(String::new(), |pattern| format!(", {pattern}"));
            let why = entry.failure.as_ref()?;
            Some(format!("Failed: {}{pattern}: {why}.", self.labels.label(&entry.method)))
        });
        let mut said: Vec<String> = said.collect();
        if said.len() > MOST {
            let more = said.len() - MOST;
            said.truncate(MOST);
            said.push(format!(
                "{more} more methods and patterns failed; `runs.jsonl` says why."
            ));
        }
        said
    }

    /// What was found in checkpoints and masks of other programs where it is not what their rows say.
    fn found_otherwise(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let outside = |method: &str| {
            let mut methods = self.results.plan.experiment.methods.iter();
            methods.any(|plan| plan.name == method && plan.outside().is_some()) && self.shows(method)
        };
        let entries = sections.iter().flat_map(|section| &section.entries);
        let entries =
            entries.filter(|entry| entry.pattern.is_some_and(|it| patterns.contains(&it)) && outside(&entry.method));
        let mut found: Vec<String> = entries.filter_map(found::otherwise).collect();
        found.dedup();
        (!found.is_empty()).then(|| {
            format!(
                "Found in what other programs made: {}. What keeps more weights than its row says has no mark and is not called the best.",
                found.join("; ")
            )
        })
    }

    /// Notes that explain how to read a table of scores.
    pub(super) fn notes(&self, sections: &[&Section], patterns: &[Pattern]) -> Vec<String> {
        let experiment = &self.results.plan.experiment;
        let confidence = percent(self.confidence());
        let Some(measure) = sections.first().map(|section| &section.measure) else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        if self.methods.is_some() {
            notes.push("Not every method is shown; marks and comparisons are those of all.".to_string());
        }
        let mut sizes = sections.iter().filter_map(|it| Some((it.measure.label(), it.texts()?)));
        let seeds = match experiment.seeds.len() {
            0 => "no calibration seeds".to_string(),
            1 => "one calibration seed".to_string(),
            n => format!("{n} calibration seeds"),
        };
        match measure {
            Measure::Perplexity { .. } | Measure::Divergence { .. } | Measure::Agreement { .. } => {
                let windows = sizes.next().map_or(String::new(), |(_, n)| format!("{n} windows, "));
                let mut text = sentence(&format!("{windows}{seeds}. "));
                let alone = "value without ± has one run (dense, or a method that uses no calibration)";
                match experiment.seeds.len() > 1 {
                    true => text.push_str(&format!(
                        "Mean ± half of the {confidence} t-interval over calibration seeds; a {alone}. "
                    )),
                    false => text.push_str("Every value has one run, so there are no intervals."),
                }
                if experiment.seeds.len() > 1 {
                    text.push_str("Differences between evaluation texts are not in these intervals.");
                }
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
        notes.extend(self.failures(sections, patterns));
        notes.extend(self.found_otherwise(sections, patterns));
        notes.extend(self.marks(sections, patterns));
        let tests: Vec<&Test> = self.tests(sections, patterns).map(|(_, test)| test).collect();
        notes.extend(detection(&tests, measure));
        notes
    }

    /// The comparisons of a table, with their families.
    fn tests<'a>(
        &'a self,
        sections: &'a [&'a Section],
        patterns: &'a [Pattern],
    ) -> impl Iterator<Item = (&'a ComparisonFamily, &'a Test)> {
        let families = self.families.iter();
        let tests = families.flat_map(|family| family.tests.iter().map(move |test| (family, test)));
        tests.filter(|(_, test)| {
            let here = |section: &Section| section.model == test.model && section.measure == test.measure;
            sections.iter().any(|section| here(section)) && patterns.contains(&test.pattern)
        })
    }

    /// What the marks in a table of scores say; nothing without comparisons.
    pub(super) fn marks(&self, sections: &[&Section], patterns: &[Pattern]) -> Option<String> {
        let mut families: Vec<String> = Vec::new();
        let mut declared = false;
        for (family, _) in self.tests(sections, patterns) {
            declared |= family.declared;
            let text = format!(
                "“{}” ({})",
                family.name,
                counted(family.tests.len() + family.missing, "comparison")
            );
            if !families.contains(&text) {
                families.push(text);
            }
        }
        let unmarked = match declared {
            true => " No mark: worse than the best, or not compared with it.",
            false => "",
        };
        (!families.is_empty()).then(|| {
            format!(
                "Bold: better than every other method it is compared with, after Holm's correction over {}. ≈: the best, and every \
                 method compared with it that is not significantly worse than any method.{unmarked}",
                families.join(" and ")
            )
        })
    }
}

/// What could have been detected, over all comparisons of a table: the range, and how many comparisons could show nothing.
fn detection(tests: &[&Test], measure: &Measure) -> Option<String> {
    let mut known: Vec<(f64, &Test)> = tests.iter().filter_map(|it| Some((it.detectable?, *it))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (hopeless, told): (Vec<&Test>, Vec<&Test>) =
        known.iter().map(|(_, test)| *test).partition(|it| is_hopeless(it));
    let power = percent(POWER);
    let unit = match measure {
        Measure::Perplexity { .. } => "% of the perplexity",
        Measure::Divergence { .. } => "nats",
        Measure::Agreement { .. } | Measure::Accuracy { .. } => "percentage points",
    };
    let range = match (told.first(), told.last()) {
        (Some(least), Some(most)) => {
            let (least, most) = (detectable(least, 2)?, detectable(most, 2)?);
            Some(format!(
                "Minimum detectable difference at {power} power: {least} to {most} {unit}, depending on the pair."
            ))
        }
        _ => None,
    };
    let Some(seeds) = hopeless.iter().map(|test| test.seeds.len()).max() else {
        return range;
    };
    let remedy = match seeds {
        2..=4 => format!("{seeds} seeds tell too little about how much seeds differ; use five or more"),
        _ => "there are too few texts, or they differ too much".to_string(),
    };
    let few = format!(
        "{} of {} comparisons could hardly show anything: even a difference of {} would not be found with {power} probability, since {remedy}.",
        hopeless.len(),
        tests.len(),
        if measure.higher_is_better() {
            "100 points"
        } else {
            "100 %"
        },
    );
    Some(match range {
        Some(range) => format!("{range} {few}"),
        None => few,
    })
}

/// Whether not even a difference is found that is larger than differences can be, or than any that is of interest.
fn is_hopeless(test: &Test) -> bool {
    test.detectable.is_some_and(|it| test.shown(it) > 100.0)
}

/// The smallest difference that would be found, as text, if it is known. One over 100 % or 100 points is none that says
/// anything.
pub(super) fn detectable(test: &Test, digits: usize) -> Option<String> {
    let difference = test.shown(test.detectable?);
    Some(match is_hopeless(test) {
        true => "over 100".to_string(),
        false => format!("{:.digits$}", Shown(difference)),
    })
}
