//! Could a published table's differences have been seen at all? Answered from the table itself: its values, the numbers of
//! documents and windows, and the exact tests; needs no records and no model.
//!
//! How often two pruned models disagree on a document is hardly ever published. So a difference is held against the whole
//! range: the best case for it (every document on which they disagree won by the same method) and the worst plausible one
//! (errors that have nothing to do with each other).

use super::format::{counted, p_value, percent};
use super::sheet::{Chapter, Column, Sheet, SheetCell};
use crate::experiment::plan::{DENSE, Experiment, Reference};
use crate::prune::pattern::Pattern;
use crate::stats::average::{Macro, macro_average};
use crate::stats::power::{POWER, independent_disagreement, minimum_detectable_accuracy, most_disagreement};
use crate::stats::proportion::is_possible;
use crate::stats::signs::mcnemar;
use crate::stats::{Shown, normal_quantile};

/// An assumed share of documents on which two similar models disagree, to show what pairing gains.
const SIMILAR: f64 = 0.1;

/// What can be said about the published values that an experiment cites; without tables if it cites none.
pub fn chapter(experiment: &Experiment) -> Chapter {
    let mut sheets = Vec::new();
    for (model, pattern) in places(experiment) {
        let here = |task: bool| -> Vec<&Reference> {
            let references = experiment.references.iter();
            let here = references.filter(|it| it.model == model && it.pattern == Some(pattern));
            here.filter(|it| it.task.is_some() == task).collect()
        };
        let place = Place {
            experiment,
            model,
            pattern,
            tasks: here(true),
            perplexities: here(false),
        };
        if !place.tasks.is_empty() {
            sheets.push(place.scores());
            sheets.extend([place.differences(), place.averages()].into_iter().flatten());
        }
        sheets.extend(place.perplexity());
    }
    Chapter {
        file: "power",
        title: "Could the published differences have been seen?",
        sheets,
    }
}

/// Every model and pattern for which the experiment cites values, in the experiment's order.
fn places(experiment: &Experiment) -> Vec<(&str, Pattern)> {
    let mut places = Vec::new();
    for reference in &experiment.references {
        let place = reference.pattern.map(|pattern| (reference.model.as_str(), pattern));
        if let Some(place) = place.filter(|place| !places.contains(place)) {
            places.push(place);
        }
    }
    places
}

/// The published values for one model under one pattern.
struct Place<'a> {
    experiment: &'a Experiment,
    model: &'a str,
    pattern: Pattern,
    tasks: Vec<&'a Reference>,
    perplexities: Vec<&'a Reference>,
}

impl Place<'_> {
    fn alpha(&self) -> f64 {
        1.0 - self.experiment.confidence
    }

    fn title(&self, what: &str) -> String {
        format!("{} at {}: {what}", self.model, self.pattern)
    }

    /// The pairs of methods that the declared families compare, or all pairs if no family is declared.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let declared = self.experiment.comparisons.iter().flat_map(|it| {
            let others = it.against.iter().filter(|other| *other != DENSE);
            others.map(|other| (it.ours.as_str(), other.as_str()))
        });
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in declared {
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        if pairs.is_empty() {
            let names: Vec<&str> = self.experiment.methods.iter().map(|it| it.name.as_str()).collect();
            for (index, first) in names.iter().enumerate() {
                pairs.extend(names[index + 1..].iter().map(|second| (*first, *second)));
            }
        }
        pairs
    }

    /// A table of how uncertain the published scores themselves are.
    fn scores(&self) -> Sheet {
        let power = percent(POWER);
        let mut columns = vec![Column::words("task")];
        columns.extend([
            Column::numbers("documents"),
            Column::numbers("one document, points"),
            Column::numbers("standard error of a score, points"),
            Column::numbers(format!("detectable at {power}, independent errors")),
            Column::numbers(format!(
                "detectable at {power}, disagreeing on {} of documents",
                percent(SIMILAR)
            )),
            Column::numbers("range of the scores"),
        ]);
        let mut notes = vec![format!(
            "Detectable: the smallest true difference of two methods, in points, that McNemar's test at {} finds with {power} \
             probability. A dash: not even a difference on all of these documents would be found.",
            percent(self.alpha())
        )];
        let mut rows = Vec::new();
        for reference in &self.tasks {
            let Some((task, documents)) = reference.task.as_ref().zip(reference.documents) else {
                continue;
            };
            let n = documents as f64;
            let shares: Vec<f64> = reference.values.values().map(|value| value / 100.0).collect();
            let error = |share: f64| 100.0 * (share * (1.0 - share) / n).sqrt();
            let largest = shares.iter().copied().map(error).fold(0.0, f64::max);
            let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let high = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let middle = 0.5 * (low + high);
            let detectable = |disagreement: f64| {
                let found = minimum_detectable_accuracy(disagreement, n, self.alpha(), POWER);
                SheetCell::plain(found.map_or("–".to_string(), |it| format!("{:.2}", 100.0 * it)))
            };
            rows.push(vec![
                SheetCell::plain(task),
                SheetCell::plain(documents.to_string()),
                SheetCell::plain(format!("{:.2}", 100.0 / n)),
                SheetCell::plain(format!("{largest:.2}")),
                detectable(independent_disagreement(middle, middle)),
                detectable(SIMILAR),
                SheetCell::plain(format!("{:.2}", 100.0 * (high - low))),
            ]);
            let digits = reference
                .values
                .values()
                .map(|value| decimals(*value))
                .max()
                .unwrap_or(0);
            for (method, value) in &reference.values {
                if !is_possible(*value, digits as i32, documents) {
                    let below = (value / 100.0 * n).floor();
                    notes.push(format!(
                        "{method}'s {value} on {task} is the share of no whole number of {documents} documents: {below} would be \
                         {:.2}, {} would be {:.2}.",
                        100.0 * below / n,
                        below + 1.0,
                        100.0 * (below + 1.0) / n
                    ));
                }
            }
        }
        Sheet {
            title: self.title("what its tasks can tell apart"),
            columns,
            rows,
            notes,
        }
    }

    /// A table of whether each difference could be significant; `None` if no pair of methods has values for both.
    fn differences(&self) -> Option<Sheet> {
        let mut columns = vec![Column::words("comparison"), Column::words("task")];
        columns.extend([
            Column::numbers("difference, points"),
            Column::numbers("right answers"),
            Column::numbers("best p"),
            Column::numbers("most disagreement"),
        ]);
        columns.push(Column::words("could it have been seen?"));
        let mut rows = Vec::new();
        let (mut never, mut always) = (0, 0);
        for (ours, other) in self.pairs() {
            for reference in &self.tasks {
                let values = reference.values.get(ours).zip(reference.values.get(other));
                let (Some((first, second)), Some(documents)) = (values, reference.documents) else {
                    continue;
                };
                let n = documents as f64;
                let right = |percent: f64| (percent / 100.0 * n).round();
                let lead = right(*first) - right(*second);
                let count = lead.abs() as usize;
                let most = most_disagreement(count, documents, self.alpha());
                let independent = independent_disagreement(first / 100.0, second / 100.0);
                let answer = match most {
                    None => {
                        never += 1;
                        "in no case".to_string()
                    }
                    Some(most) if most as f64 >= independent * n => {
                        always += 1;
                        "even if their errors are independent".to_string()
                    }
                    Some(most) => format!(
                        "if they disagree on at most {:.1} % of documents (independent: {:.0} %)",
                        100.0 * most as f64 / n,
                        100.0 * independent
                    ),
                };
                rows.push(vec![
                    SheetCell::plain(format!("{ours} against {other}")),
                    SheetCell::plain(reference.task.as_deref().unwrap_or_default()),
                    SheetCell::plain(format!("{:+.2}", first - second)),
                    SheetCell::plain(format!("{} to {} ({lead:+})", right(*first), right(*second))),
                    SheetCell::plain(p_value(mcnemar(count, 0))),
                    SheetCell::plain(most.map_or(String::new(), |most| most.to_string())),
                    SheetCell::plain(answer),
                ]);
            }
        }
        if rows.is_empty() {
            return None;
        }
        let notes = vec![
            format!(
                "Best p: McNemar's exact p-value if every document they disagree on were won by the same method. Most \
                 disagreement: the largest number of documents on which they may disagree for the difference to be significant at \
                 {}, before any correction for {}.",
                percent(self.alpha()),
                counted(rows.len(), "comparison")
            ),
            format!(
                "Of {}, {never} can never be significant, and {always} always are; the others depend on how often the methods disagree, \
                 which is not published.",
                counted(rows.len(), "difference")
            ),
        ];
        Some(Sheet {
            title: self.title("differences in accuracy"),
            columns,
            rows,
            notes,
        })
    }

    fn average(&self, method: &str, without: Option<&str>) -> Option<Macro> {
        let tasks = self
            .tasks
            .iter()
            .filter(|it| without.is_none() || it.task.as_deref() != without);
        let parts: Option<Vec<(f64, f64)>> = tasks
            .map(|it| {
                let value = *it.values.get(method)?;
                let share = value / 100.0;
                Some((value, 100.0 * (share * (1.0 - share) / it.documents? as f64).sqrt()))
            })
            .collect();
        macro_average(&parts?)
    }

    /// A table of averages over tasks, and what each task contributes; `None` for a single task.
    fn averages(&self) -> Option<Sheet> {
        let tasks: Vec<&str> = self.tasks.iter().filter_map(|it| it.task.as_deref()).collect();
        if tasks.len() < 2 {
            return None;
        }
        let mut columns = vec![Column::words("method")];
        columns.extend([Column::numbers("average"), Column::numbers("standard error")]);
        columns.extend(tasks.iter().map(|task| Column::numbers(format!("without {task}"))));
        let names = self.experiment.methods.iter().map(|it| it.name.as_str());
        let methods: Vec<&str> = [DENSE]
            .into_iter()
            .chain(names)
            .filter(|method| self.average(method, None).is_some())
            .collect();
        let rows = methods.iter().filter_map(|method| {
            let all = self.average(method, None)?;
            let mut row = vec![
                SheetCell::plain(*method),
                SheetCell::plain(format!("{:.2}", all.value)),
                SheetCell::plain(format!("{:.2}", all.standard_error)),
            ];
            row.extend(tasks.iter().map(|task| {
                let without = self.average(method, Some(task));
                SheetCell::plain(without.map_or(String::new(), |it| format!("{:.2}", it.value)))
            }));
            Some(row)
        });
        let leader = |without: Option<&str>| {
            let scores = methods.iter().filter(|method| **method != DENSE);
            let scores = scores.filter_map(|method| Some((*method, self.average(method, without)?.value)));
            scores.max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let mut notes = Vec::new();
        if let Some((first, score)) = leader(None) {
            notes.push(format!(
                "Macro averages: every task counts the same. The standard error is that of one method's average over \
                 documents. {first} leads with {score:.2}."
            ));
            for task in &tasks {
                if let Some((other, without)) = leader(Some(task)).filter(|(other, _)| *other != first)
                    && let Some(ours) = self.average(first, Some(task))
                {
                    notes.push(format!(
                        "Without {task} {other} leads {first} by {without:.2} to {:.2}.",
                        ours.value
                    ));
                }
            }
        }
        Some(Sheet {
            title: self.title("averages"),
            columns,
            rows: rows.collect(),
            notes,
        })
    }

    /// A table of differences in perplexity compared with the noise from calibration seeds.
    fn perplexity(&self) -> Option<Sheet> {
        let power = percent(POWER);
        let quantiles = normal_quantile(1.0 - self.alpha() / 2.0) + normal_quantile(POWER);
        let mut rows = Vec::new();
        for reference in &self.perplexities {
            let evaluation = reference.evaluation.as_deref().unwrap_or_default();
            // Noise may have been measured by somebody else on the same model, pattern and evaluation.
            let same = self
                .perplexities
                .iter()
                .filter(|it| it.evaluation == reference.evaluation);
            let noise = |method: &str| {
                same.clone()
                    .filter_map(|it| it.deviations.get(method))
                    .copied()
                    .reduce(f64::max)
            };
            for (ours, other) in self.pairs() {
                let values = reference.values.get(ours).zip(reference.values.get(other));
                let Some((first, second)) = values else { continue };
                let difference = first - second;
                let deviation = noise(ours).into_iter().chain(noise(other)).reduce(f64::max);
                let detectable = deviation.map(|sd| quantiles * sd * 2f64.sqrt());
                let seeds = deviation
                    .filter(|_| difference != 0.0)
                    .map(|sd| (2.0 * (quantiles * sd / difference).powi(2)).ceil().max(2.0));
                rows.push(vec![
                    SheetCell::plain(format!("{ours} against {other}")),
                    SheetCell::plain(evaluation),
                    SheetCell::plain(format!("{:+.2}", Shown(difference))),
                    SheetCell::plain(format!("{:+.2} %", Shown(100.0 * (first / second - 1.0)))),
                    super::sheet::number(deviation, 3),
                    super::sheet::number(detectable, 3),
                    super::sheet::number(seeds, 0),
                    SheetCell::plain(&reference.source),
                ]);
            }
        }
        if rows.is_empty() {
            return None;
        }
        let mut columns = vec![Column::words("comparison"), Column::words("evaluation")];
        columns.extend([
            Column::numbers("difference"),
            Column::numbers("of the perplexity"),
            Column::numbers("sd over seeds"),
            Column::numbers(format!("detectable at {power}, one seed each")),
            Column::numbers(format!("seeds needed for {power}")),
        ]);
        columns.push(Column::words("source"));
        Some(Sheet {
            title: self.title("differences in perplexity"),
            columns,
            rows,
            notes: vec![
                "Sd over seeds: the larger published one of either method, from any source cited for this model, pattern and \
                 evaluation; empty where there is none, and then nothing can be said. One run of each method cannot show its own \
                 noise. Seeds needed: of each method, if the difference is real and seeds are all that varies; what texts add \
                 comes on top."
                    .to_string(),
            ],
        })
    }
}

/// Number of digits after the point that a value is written with.
fn decimals(value: f64) -> usize {
    value.to_string().split_once('.').map_or(0, |(_, digits)| digits.len())
}
