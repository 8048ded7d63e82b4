//! The good records of a results folder by what their experiment calls them, with what was measured.

use super::results::Measure;
use super::union::ResultsFolder;
use crate::prune::pattern::Pattern;
use crate::record::{Record, Status, standing};

/// A cell, by what its experiment calls it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place<'a> {
    pub(super) model: &'a str,
    pub(super) method: &'a str,
    pub(super) pattern: Option<Pattern>,
    pub(super) seed: Option<u64>,
}

/// A good record, and what its evaluations are called.
pub(super) struct Version<'a> {
    pub(super) place: Place<'a>,
    pub(super) record: &'a Record,
    evaluations: Vec<&'a str>,
}

/// A measure with its value as tables show it, and what the value was computed from: the hash of the texts, and one number for each of
/// them, bit by bit.
pub(super) type Measurement<'a> = (Measure, f64, (&'a str, Vec<u64>));

impl<'a> Version<'a> {
    /// A record by the names that it has itself, for want of a plan.
    pub(super) fn of_record(record: &'a Record) -> Version<'a> {
        let pruning = record.cell.pruning.as_ref();
        let place = Place {
            model: &record.label.model,
            method: &record.label.method,
            pattern: pruning.map(|pruning| pruning.pattern()),
            seed: pruning.and_then(|pruning| Some(pruning.calibration.as_ref()?.seed)),
        };
        Version {
            evaluations: record.evaluations.iter().map(|it| it.name.as_str()).collect(),
            place,
            record,
        }
    }

    /// What was measured.
    pub(super) fn values(&self) -> Vec<Measurement<'_>> {
        let mut values = Vec::new();
        for (name, found) in self.evaluations.iter().zip(&self.record.evaluations) {
            let measure = Measure::Perplexity {
                evaluation: (*name).to_string(),
            };
            let bits = found.windows.iter().map(|value| value.to_bits()).collect();
            let digest = found.token_digest.as_str();
            values.push((measure, found.perplexity, (digest, bits)));
            let Some(to_dense) = &found.to_dense else {
                continue;
            };
            let evaluation = || (*name).to_string();
            let distances = [
                (
                    Measure::Divergence {
                        evaluation: evaluation(),
                    },
                    to_dense.kl,
                    &to_dense.kl_windows,
                ),
                (
                    Measure::Agreement {
                        evaluation: evaluation(),
                    },
                    to_dense.agreement,
                    &to_dense.agreement_windows,
                ),
            ];
            for (measure, mean, windows) in distances {
                let bits = windows.iter().map(|value| value.to_bits()).collect();
                let shown = measure.shown(mean);
                values.push((measure, shown, (digest, bits)));
            }
        }
        for task in &self.record.tasks {
            let marks = [("acc", Some(&task.correct)), ("acc_norm", task.correct_norm.as_ref())];
            for (metric, marks) in marks.into_iter().filter_map(|(metric, marks)| Some((metric, marks?))) {
                let measure = Measure::Accuracy {
                    task: task.name.clone(),
                    metric,
                };
                let bits: Vec<u64> = marks.bytes().map(u64::from).collect();
                let right = marks.bytes().filter(|mark| *mark == b'1').count();
                let share = 100.0 * right as f64 / marks.len().max(1) as f64;
                values.push((measure, share, (task.data_digest.as_str(), bits)));
            }
        }
        values
    }
}

/// The cells of a folder's plan that have good records.
pub(super) fn planned(folder: &ResultsFolder) -> Vec<Version<'_>> {
    let standing = standing(&folder.records);
    let names = || folder.plan.experiment.evaluations.iter();
    let cells = folder.plan.cell.iter();
    let found = cells.filter_map(|cell| {
        let record = standing.get(cell.id.as_str()).copied()?;
        let place = Place {
            model: &cell.model,
            method: &cell.method,
            pattern: cell.pattern,
            seed: cell.seed,
        };
        (record.status == Status::Ok).then(|| Version {
            place,
            record,
            evaluations: names().map(|it| it.name.as_str()).collect(),
        })
    });
    found.collect()
}
