//! Tables of comparisons: one per family.

use super::view::{View, detectable};
use crate::report::comparison::{ComparisonFamily, MOST_PAIRS, Test, TestVerdict};
use crate::report::format::{counted, p_value, percent};
use crate::report::results::{Measure, MeasureKind};
use crate::report::sheet::{Column, Mark, Sheet, SheetCell};
use crate::stats::power::POWER;
use crate::stats::{Interval, Shown};

impl View<'_> {
    /// Tables with every comparison of every family.
    pub(super) fn comparisons(&self) -> Vec<Sheet> {
        let families = self.families.iter();
        let families = families.filter(|family| family.tests.iter().any(|test| self.has(test)) || family.refused > 0);
        families.map(|family| self.family(family)).collect()
    }

    /// Whether the tables show both methods of a comparison.
    fn has(&self, test: &Test) -> bool {
        self.shows(&test.ours) && self.shows(&test.other)
    }

    pub(super) fn family(&self, family: &ComparisonFamily) -> Sheet {
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
            Column::numbers(confidence),
            Column::numbers("seeds agree").aside(),
            Column::numbers("p"),
            Column::numbers("p (Holm)"),
            Column::numbers("detectable").aside(),
        ]);
        let tests = || family.tests.iter().filter(|test| self.has(test));
        let row = |test: &Test| {
            let unit = test.measure.sign();
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
                row.push(SheetCell::plain(&test.model));
            }
            row.extend([
                SheetCell::plain(test.measure.label()),
                SheetCell::plain(test.pattern.to_string()),
                SheetCell::plain(format!(
                    "{} against {}",
                    self.labels.label(&test.ours),
                    self.labels.label(&test.other)
                )),
                SheetCell {
                    text: format!("{:+.digits$}{unit}", Shown(test.shown(test.difference.mean))),
                    mark: if verdict == TestVerdict::NotTold {
                        Mark::None
                    } else {
                        Mark::Best
                    },
                },
                SheetCell::plain(ends(test.over_both)),
                SheetCell::plain(agreement(test)),
                SheetCell::plain(p_value(test.p)),
                SheetCell::plain(p_value(test.adjusted)),
                SheetCell::plain(detectable(test, digits).map_or(String::new(), |it| format!("{it}{unit}"))),
            ]);
            row
        };
        let distances = match tests().any(|test| test.measure.kind() == MeasureKind::ToDense) {
            true => ", in nats of KL divergence or in percentage points of agreement",
            false => "",
        };
        let mut notes = vec![
            format!(
                "Differences are paired on the same texts, the first method less the second, in percent of the \
                 second's perplexity or in percentage points of accuracy{distances}; differences of one seed with the same seed. \
                 The interval is the widest of the t-intervals over texts, over seeds and over both together, and the p-value belongs to it; \
                 for accuracies it is never smaller than that of the exact test on documents. Bold differences are significant \
                 after Holm's correction over the {} of this family.",
                counted(family.tests.len() + family.missing, "comparison")
            ),
            "Seeds agree: how many seeds have the difference's sign, with Wilcoxon's p-value.".to_string(),
            format!(
                "Detectable: the smallest true difference that would be found with {} probability in this family; over 100 says that with \
                 so few seeds or texts hardly any difference would be.",
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
            rows: tests().map(row).collect(),
            notes,
        }
    }
}

/// Digits after the point for a comparison, so that the detectable difference has two digits.
fn difference_digits(test: &Test) -> usize {
    match test.detectable.map(|it| test.shown(it)) {
        _ if matches!(test.measure, Measure::Divergence { .. }) => 4,
        Some(fine) if fine < 0.1 => 3,
        _ => 2,
    }
}

/// For how many seeds the difference has the same sign as the mean difference.
fn agreement(test: &Test) -> String {
    let Some(p) = test.wilcoxon else {
        return String::new();
    };
    let agree = test.seeds.iter().filter(|it| **it * test.difference.mean > 0.0).count();
    format!("{agree} of {} (p {})", test.seeds.len(), p_value(p))
}
