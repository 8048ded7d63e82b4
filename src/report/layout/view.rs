//! Results as the tables look at them: cells and titles that several of them have.

use crate::experiment::method::MethodPlan;
use crate::experiment::plan::DENSE;
use crate::prune::pattern::Pattern;
use crate::report::comparison::{ComparisonFamily, Contest, contests};
use crate::report::labels::Labels;
use crate::report::published::{self, Published};
use crate::report::results::{Measure, MeasureKind, MethodResult, Results, Section};
use crate::report::sheet::{Mark, SheetCell};
use crate::stats::Shown;

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
            // No share is farther than that from another.
            (Some(interval), Measure::Agreement { .. }) if summary.mean - interval.low > 100.0 => {
                format!("{:.digits$} ± over 100", Shown(summary.mean))
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
        } else if has_one_of_several(section, entry) {
            text.push_str(" (one seed)");
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
}

/// Whether a result is of one seed, though its method calibrates and others in the table have several.
fn has_one_of_several(section: &Section, entry: &MethodResult) -> bool {
    entry.seeded && entry.runs.len() == 1 && section.entries.iter().any(|other| other.runs.len() > 1)
}
