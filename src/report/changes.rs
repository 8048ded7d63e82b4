//! What changed between two versions of an experiment's records: which numbers, by how much, and which settings differ.

use super::format::{AS_FACTOR, counted, digits, factor, list};
use super::results::Measure;
use super::sheet::{Chapter, Column, Sheet, SheetCell, number};
use super::union::ResultsFolder;
use crate::error::{Error, Result};
use crate::prune::pattern::Pattern;
use crate::record::{Record, Status, standing};
use crate::stats::{Shown, mean};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Characters of a hash that are shown: enough to tell two apart.
const HASH: usize = 12;

/// A cell, by what its experiment calls it.
#[derive(Debug, Clone, PartialEq)]
struct Place<'a> {
    model: &'a str,
    method: &'a str,
    pattern: Option<Pattern>,
    seed: Option<u64>,
}

/// A good record, and what its evaluations are called.
struct Version<'a> {
    place: Place<'a>,
    record: &'a Record,
    evaluations: Vec<&'a str>,
}

/// A measure with its value as tables show it, and what the value was computed from: the hash of the texts, and one number for each of
/// them, bit by bit.
type Measurement<'a> = (Measure, f64, (&'a str, Vec<u64>));

impl Version<'_> {
    /// What was measured.
    fn values(&self) -> Vec<Measurement<'_>> {
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
fn planned(folder: &ResultsFolder) -> Vec<Version<'_>> {
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

/// The latest good record of each cell that is not one of the plan: what the folder's experiment computed before it was
/// changed.
fn replaced(folder: &ResultsFolder) -> Vec<Version<'_>> {
    let current: BTreeSet<&str> = folder.plan.cell.iter().map(|cell| cell.id.as_str()).collect();
    let standing = standing(&folder.records);
    let mut found: Vec<Version> = Vec::new();
    for record in &folder.records {
        let stands = standing
            .get(record.id.as_str())
            .is_some_and(|it| std::ptr::eq(*it, record));
        if !stands || record.status != Status::Ok || current.contains(record.id.as_str()) {
            continue;
        }
        let pruning = record.cell.pruning.as_ref();
        let place = Place {
            model: &record.label.model,
            method: &record.label.method,
            pattern: pruning.map(|pruning| pruning.pattern()),
            seed: pruning.and_then(|pruning| Some(pruning.calibration.as_ref()?.seed)),
        };
        let version = Version {
            evaluations: record.evaluations.iter().map(|it| it.name.as_str()).collect(),
            place,
            record,
        };
        match found.iter_mut().find(|it| it.place == version.place) {
            Some(earlier) => *earlier = version,
            None => found.push(version),
        }
    }
    // What the changed experiment still has was there before, if it was recorded before anything that was replaced.
    let place_of = |record: &Record| folder.records.iter().position(|it| std::ptr::eq(it, record));
    let last = found.iter().filter_map(|it| place_of(it.record)).max();
    let mut kept = planned(folder);
    kept.retain(|version| place_of(version.record) < last && !found.iter().any(|it| it.place == version.place));
    found.extend(kept);
    found
}

/// What changed from `before`, or from what the same folder held before, to what `now` holds.
///
/// # Errors
/// `before`, or the same folder before, has no results.
pub fn chapter(before: Option<&ResultsFolder>, now: &ResultsFolder) -> Result<Chapter> {
    let after = planned(now);
    let (before, lacks) = match before {
        Some(folder) => (
            planned(folder),
            "what `--since` names has no results yet: no cell of it is done",
        ),
        None => (
            replaced(now),
            "there are no earlier records to compare with: this folder's experiment was not changed after cells had run; write \
             `--since` with an experiment file or a results folder",
        ),
    };
    if before.is_empty() {
        return Err(Error::config(lacks));
    }
    let pairs: Vec<(&Version, &Version)> = before
        .iter()
        .filter_map(|old| Some((old, after.iter().find(|new| new.place == old.place)?)))
        .collect();
    let mut sheets = vec![numbers(&pairs)];
    sheets.extend(settings(&pairs));
    sheets.extend(alone("Cells that are there no more", &before, &after));
    sheets.extend(alone("Cells that were not there before", &after, &before));
    Ok(Chapter {
        file: "changes",
        title: "What changed",
        sheets,
    })
}

/// Model, measure, method and pattern of a row of the table of numbers.
type RowKey<'a> = (&'a str, Measure, &'a str, Option<Pattern>);

/// Model, method and pattern of cells that are counted.
type Kind<'a> = (&'a str, &'a str, Option<Pattern>);

/// One row of the table of numbers: the cells of a method under a pattern, over seeds.
#[derive(Default)]
struct Row {
    before: Vec<f64>,
    now: Vec<f64>,
    equal: usize,
    other_texts: usize,
}

fn numbers(pairs: &[(&Version, &Version)]) -> Sheet {
    let mut rows: Vec<(RowKey, Row)> = Vec::new();
    let (mut equal_cells, mut both) = (0, 0);
    // What is measured in one version only says nothing of whether a number changed.
    let (mut only_before, mut only_now): (Vec<String>, Vec<String>) = Default::default();
    for (old, new) in pairs {
        let (before, now) = (old.values(), new.values());
        alone_in(&before, &now, &mut only_before);
        alone_in(&now, &before, &mut only_now);
        let (mut equal, mut shared) = (true, false);
        for (measure, value, (digest, bits)) in &now {
            let Some((_, earlier, (digest_before, bits_before))) = before.iter().find(|it| it.0 == *measure) else {
                continue;
            };
            shared = true;
            let key = (new.place.model, measure.clone(), new.place.method, new.place.pattern);
            let at = rows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                rows.push((key, Row::default()));
                rows.len() - 1
            });
            let row = &mut rows[at].1;
            row.before.push(*earlier);
            row.now.push(*value);
            let same = digest == digest_before && bits == bits_before;
            row.equal += usize::from(same);
            row.other_texts += usize::from(digest != digest_before);
            equal &= same;
        }
        equal_cells += usize::from(equal && shared);
        both += usize::from(shared);
    }
    let others = rows.iter().map(|(_, row)| row.other_texts).sum::<usize>();
    let mut notes = vec![match (equal_cells, both) {
        (_, 0) if pairs.is_empty() => "No cell is in both.".to_string(),
        (_, 0) => "No cell has a number in both.".to_string(),
        (0, 1) => "The one cell in both has other numbers.".to_string(),
        (0, _) => format!("None of the {both} cells in both has the same numbers."),
        (all, both) if all == both => format!(
            "The numbers of {} in both are the same to the last bit.",
            counted(both, "cell")
        ),
        (some, _) => format!("The numbers of {some} of {both} cells in both are the same to the last bit."),
    }];
    if equal_cells < both {
        notes.push(
            "The table has the rows in which a number changed. Before, now, change: means over seeds. Largest: the largest change of one seed."
                .to_string(),
        );
    }
    for (when, measures) in [("before, and not now", only_before), ("now, and not before", only_now)] {
        if !measures.is_empty() {
            notes.push(format!("Measured {when}: {}.", list(&measures)));
        }
    }
    if others > 0 {
        notes.push(format!(
            "{} measured on other texts than before, so the method alone does not explain the change.",
            match others {
                1 => "1 value was".to_string(),
                some => format!("{some} values were"),
            }
        ));
    }
    let changed = rows.iter().filter(|(_, row)| row.equal < row.now.len());
    Sheet {
        title: "Numbers that changed".to_string(),
        columns: vec![
            Column::words("model"),
            Column::words("measure"),
            Column::words("method"),
            Column::words("pattern"),
            Column::numbers("seeds"),
            Column::numbers("before"),
            Column::numbers("now"),
            Column::numbers("change"),
            Column::numbers("largest").aside(),
        ],
        rows: changed.map(|(key, row)| row_cells(key, row)).collect(),
        notes,
    }
}

/// Adds the names of measures that `these` have and `others` have not.
fn alone_in(these: &[Measurement], others: &[Measurement], into: &mut Vec<String>) {
    let alone = these
        .iter()
        .filter(|(measure, ..)| !others.iter().any(|(other, ..)| other == measure));
    for label in alone.map(|(measure, ..)| measure.label()) {
        if !into.contains(&label) {
            into.push(label);
        }
    }
}

fn row_cells((model, measure, method, pattern): &RowKey, row: &Row) -> Vec<SheetCell> {
    let change = |before: f64, now: f64| match measure {
        Measure::Perplexity { .. } => 100.0 * (now / before - 1.0),
        _ => now - before,
    };
    let unit = match measure {
        Measure::Perplexity { .. } => " %",
        Measure::Divergence { .. } => " nats",
        Measure::Agreement { .. } | Measure::Accuracy { .. } => " points",
    };
    let large = |value: f64| matches!(measure, Measure::Perplexity { .. }) && value >= AS_FACTOR;
    let shown = |value: f64| match large(value) {
        true => SheetCell::plain(factor(value)),
        false => SheetCell::plain(format!("{:+.3}{unit}", Shown(value))),
    };
    let (before, now) = (mean(&row.before), mean(&row.now));
    let largest = row
        .before
        .iter()
        .zip(&row.now)
        .map(|(before, now)| change(*before, *now));
    let largest = largest.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    vec![
        SheetCell::plain(*model),
        SheetCell::plain(measure.label()),
        SheetCell::plain(*method),
        SheetCell::plain(pattern.map(|it| it.to_string()).unwrap_or_default()),
        SheetCell::plain(row.now.len().to_string()),
        number(Some(before), digits(before)),
        number(Some(now), digits(now)),
        shown(change(before, now)),
        shown(largest),
    ]
}

/// The settings and inputs that differ, with the number of cells in which they do.
fn settings(pairs: &[(&Version, &Version)]) -> Option<Sheet> {
    let mut found: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for (old, new) in pairs.iter().filter(|(old, new)| old.record.id != new.record.id) {
        let values = |version: &Version| {
            let mut flat = BTreeMap::new();
            if let Ok(value) = serde_json::to_value(&version.record.cell) {
                flatten(&value, String::new(), &mut flat);
            }
            flat
        };
        let (before, now) = (values(old), values(new));
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for key in keys.into_iter().filter(|key| before.get(*key) != now.get(*key)) {
            let value = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or_else(|| "absent".to_string());
            *found.entry((key.clone(), value(&before), value(&now))).or_default() += 1;
        }
    }
    (!found.is_empty()).then(|| Sheet {
        title: "Settings and inputs that differ".to_string(),
        columns: vec![
            Column::words("setting"),
            Column::words("before"),
            Column::words("now"),
            Column::numbers("cells"),
        ],
        rows: found
            .iter()
            .map(|((key, before, now), cells)| {
                let words = [key, before, now].map(|text| SheetCell::plain(text.as_str()));
                words.into_iter().chain([SheetCell::plain(cells.to_string())]).collect()
            })
            .collect(),
        notes: vec![
            "From the records: everything that decides a cell's numbers. Hashes are those of files, shortened."
                .to_string(),
        ],
    })
}

/// The values of a JSON document by their paths.
fn flatten(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    let below = |key: &str| match path.is_empty() {
        true => key.to_string(),
        false => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(value, below(key), into)),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate();
            parts.for_each(|(place, value)| flatten(value, below(&place.to_string()), into));
        }
        Value::String(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            into.insert(path, text[..HASH].to_string());
        }
        Value::String(text) => {
            into.insert(path, text.clone());
        }
        other => {
            into.insert(path, other.to_string());
        }
    }
}

/// The cells that only one of the two has.
fn alone(title: &str, there: &[Version], others: &[Version]) -> Option<Sheet> {
    let mut counts: Vec<(Kind, usize)> = Vec::new();
    for version in there
        .iter()
        .filter(|it| !others.iter().any(|other| other.place == it.place))
    {
        let key = (version.place.model, version.place.method, version.place.pattern);
        match counts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => counts.push((key, 1)),
        }
    }
    (!counts.is_empty()).then(|| Sheet {
        title: title.to_string(),
        columns: vec![
            Column::words("model"),
            Column::words("method"),
            Column::words("pattern"),
            Column::numbers("cells"),
        ],
        rows: counts
            .iter()
            .map(|((model, method, pattern), count)| {
                let pattern = pattern.map(|it| it.to_string()).unwrap_or_default();
                let cells = [(*model).to_string(), (*method).to_string(), pattern, count.to_string()];
                cells.into_iter().map(SheetCell::plain).collect()
            })
            .collect(),
        notes: Vec::new(),
    })
}
