//! Tables of comparisons: one per family.

use super::detection::{beyond, detectable};
use super::view::View;
use crate::report::comparison::{ComparisonFamily, Hopeless, MOST_PAIRS, Test, TestVerdict};
use crate::report::format::{AS_FACTOR, counted, factor, p_value, percent};
use crate::report::results::{Measure, MeasureKind};
use crate::report::sheet::{Column, Mark, Sheet, SheetCell};
use crate::stats::power::POWER;
use crate::stats::{Interval, Shown};

/// In place of an interval of shares with an end that no difference of shares can have.
const BEYOND: &str = "Beyond ±100";

/// In place of a corrected p-value that would allow for less than those of others.
const LONE: &str = "One seed";

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
                match (beyond(test), large(test)) {
                    (true, _) => BEYOND.to_string(),
                    (false, true) => format!("{} to {}", factor(interval.low), factor(interval.high)),
                    (false, false) => format!(
                        "{:+.digits$} to {:+.digits$}{unit}",
                        Shown(interval.low),
                        Shown(interval.high)
                    ),
                }
            };
            let verdict = test.verdict(self.confidence());
            let found = detectable(test, digits).filter(|_| !test.lone);
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
                    text: match large(test) {
                        true => factor(test.shown(test.difference.mean)),
                        false => format!("{:+.digits$}{unit}", Shown(test.shown(test.difference.mean))),
                    },
                    mark: if verdict == TestVerdict::NotTold {
                        Mark::None
                    } else {
                        Mark::Best
                    },
                },
                SheetCell::plain(ends(test.over_both)),
                SheetCell::plain(agreement(test)),
                SheetCell::plain(p_value(test.p)),
                SheetCell::plain(if test.lone {
                    LONE.to_string()
                } else {
                    p_value(test.adjusted)
                }),
                SheetCell::plain(found.map_or(String::new(), |it| format!("{it}{unit}"))),
            ]);
            row
        };
        let mut notes = vec![self.how_compared(family)];
        let has = |what: fn(&Test) -> bool| tests().any(what);
        if has(beyond) {
            notes.push(format!(
                "{BEYOND}: the interval is wider than any possible difference, since there are too few seeds or texts."
            ));
        }
        if has(|test| test.lone) {
            notes.push(format!(
                "{LONE}: a method of this comparison has one calibration seed, and others have several. Interval and p-value say only what \
                 other evaluation texts could change. So the difference is not tested with the others: it has no corrected p-value and is \
                 not called significant."
            ));
        }
        if has(|test| test.one_seed && !test.lone) {
            notes.push(
                "All methods that calibrate have one seed: intervals and p-values say what other evaluation texts could change, not what \
                 other calibration texts could."
                    .to_string(),
            );
        }
        if has(|test| test.wilcoxon.is_some()) {
            notes.push("Seeds agree: how many seeds have the difference's sign, with Wilcoxon's p-value.".to_string());
        }
        if has(|test| !test.lone && (test.detectable.is_some() || test.hopeless.is_some())) {
            let mut said = format!(
                "Detectable: the smallest true difference that would be found with {} probability in this family.",
                percent(POWER)
            );
            if has(|test| matches!(test.hopeless, Some(Hopeless::Documents | Hopeless::Spread)) && !test.lone) {
                said.push_str(" Over 100: with so few seeds or texts, even a difference of 100 would be missed.");
            }
            let alike = has(|test| test.detectable.is_none() && test.hopeless.is_none() && !test.lone);
            let alike = alike.then_some("the methods do not differ in any text");
            let seeds = has(|test| test.hopeless == Some(Hopeless::Seeds) && !test.lone);
            let seeds = seeds
                .then_some("two seeds, or seeds that all have the same difference, do not tell how much seeds differ");
            let empty: Vec<&str> = alike.into_iter().chain(seeds).collect();
            if !empty.is_empty() {
                said.push_str(&format!(
                    " Empty: nothing is known of it, since {}.",
                    empty.join(", or since ")
                ));
            }
            notes.push(said);
        }
        if !family.declared {
            notes.push(
                "The experiment declares no family ([[comparison]]), so every pair of methods is compared: nothing is \
                 chosen after the fact, and the correction is the strictest."
                    .to_string(),
            );
        }
        if family.refused > 0 {
            notes = vec![format!(
                "Nothing is compared: no family is declared, so every pair of methods would be compared. These are {} comparisons, and at \
                 most {MOST_PAIRS} are made. Declare those that you want ([[comparison]]).",
                family.refused
            )];
        }
        if tests().any(|test| test.repeated) {
            notes.push(
                "Some comparisons are of the same cells as others, under other names. Those count once for the correction.".to_string(),
            );
        }
        if family.same > 0 {
            let (are, their) = if family.same == 1 {
                ("is", "its")
            } else {
                ("are", "their")
            };
            notes.push(format!(
                "{} of the family {are} left out, since both of {their} names stand for the same cells.",
                counted(family.same, "comparison")
            ));
        }
        if family.missing > 0 {
            let have = if family.missing == 1 { "has" } else { "have" };
            notes.push(format!(
                "{} of the family {have} no results yet.",
                counted(family.missing, "comparison")
            ));
        }
        Sheet {
            title: format!("Family: {}", family.name),
            columns,
            rows: tests().map(row).collect(),
            notes,
        }
    }

    /// How differences, intervals and p-values of a family were computed.
    fn how_compared(&self, family: &ComparisonFamily) -> String {
        let tests = || family.tests.iter().filter(|test| self.has(test));
        let has = |kind: MeasureKind| tests().any(|test| test.measure.kind() == kind);
        let mut perplexities = "in percent of the second's perplexity".to_string();
        if tests().any(large) {
            perplexities.push_str(&format!(
                " (from {AS_FACTOR} % on, ×: how many times the second's the first is)"
            ));
        }
        let units = [
            (MeasureKind::Perplexity, perplexities.as_str()),
            (MeasureKind::Accuracy, "in percentage points of accuracy"),
            (
                MeasureKind::ToDense,
                "in nats of KL divergence or percentage points of agreement",
            ),
        ];
        let units: Vec<&str> = units
            .iter()
            .filter(|(kind, _)| has(*kind))
            .map(|(_, unit)| *unit)
            .collect();
        let interval = match tests().any(|test| test.seeds.len() > 1) {
            true => "the widest of three t-intervals: over texts, over seeds, and over both together",
            false => "a t-interval over texts",
        };
        let mut said = format!(
            "Differences are those of the first method less the second on the same texts and with the same seed, {}. The interval is \
             {interval}. ",
            units.join(" or ")
        );
        if units.len() > usize::from(has(MeasureKind::Accuracy)) {
            said.push_str("The p-value is that of the same t-test. ");
        }
        if has(MeasureKind::Accuracy) {
            said.push_str(
                "For accuracies, interval and p-value come from different tests and need not agree: p is that of an exact test that \
                 exchanges the two methods' answers document by document. With several seeds it is that of the t-test if that is larger. ",
            );
        }
        let confidence = self.confidence();
        let significant = tests().any(|test| test.verdict(confidence) != TestVerdict::NotTold);
        let correction = format!(
            "after Holm's correction over the {} of this family",
            counted(family.tested(), "comparison")
        );
        said + &match significant {
            true => format!("Bold differences are significant {correction}."),
            false => format!("No difference is significant {correction}."),
        }
    }
}

/// Whether the difference of two perplexities, or an end of its interval, is too large for a percentage.
fn large(test: &Test) -> bool {
    let values = [test.difference.mean, test.over_both.low, test.over_both.high];
    let perplexity = matches!(test.measure, Measure::Perplexity { .. });
    perplexity && values.iter().any(|value| test.shown(*value) >= AS_FACTOR)
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
