//! What changed between two versions of an experiment's records: which numbers, by how much, and which settings differ.

pub use super::earlier::Processes;
use super::earlier::before;
use super::format::{AS_FACTOR, counted, digits, factor, list};
use super::renamed;
use super::results::Measure;
use super::sheet::{Chapter, Column, Sheet, SheetCell, number};
use super::union::ResultsFolder;
use super::version::{Measurement, Version, planned};
use crate::error::{Error, Result};
use crate::prune::pattern::Pattern;
use crate::stats::{Shown, mean};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A change of less than this share of a value has no row of its own: another processor makes such changes.
const LEAST: f64 = 1e-6;

/// Characters of a hash that are shown: enough to tell two apart.
const HASH: usize = 12;

/// The results that a folder's are compared with.
pub enum Since<'a> {
    /// Those of another folder.
    Folder(&'a ResultsFolder),
    /// Those that the same folder held before its experiment was changed, by the processes that worked on it.
    Before(&'a Processes),
}

/// What changed from earlier results to what `now` holds.
///
/// # Errors
/// There are no earlier results.
pub fn chapter(since: Since, now: &ResultsFolder) -> Result<Chapter> {
    let after = planned(now);
    let ((mut before, logged), lacks) = match since {
        Since::Folder(folder) => (
            (planned(folder), true),
            "what `--since` names has no results yet: no cell of it is done",
        ),
        Since::Before(processes) => (
            before(now, planned(now), processes),
            "nothing was replaced or left out in this folder: its experiment still has every cell that was computed. To compare with other \
             results, write `--since` with an experiment file or a results folder",
        ),
    };
    if before.is_empty() {
        return Err(Error::config(lacks));
    }
    let renamed = renamed::pair(&mut before, &after);
    let pairs: Vec<(&Version, &Version)> = before
        .iter()
        .filter_map(|old| Some((old, after.iter().find(|new| new.place == old.place)?)))
        .collect();
    let (mut first, left_out) = numbers(&pairs);
    if first.rows.is_empty() && left_out > 0 {
        first.title = format!("No number changed by more than {} %", 100.0 * LEAST);
    } else if first.rows.is_empty() {
        first.title = unchanged(pairs.len(), after.len() - pairs.len(), before.len() - pairs.len());
    }
    first.notes.extend(renamed);
    let mut sheets = vec![first];
    sheets.extend(settings(&pairs));
    sheets.extend(alone("Cells that are there no more", &before, &after));
    let mut new = alone("Cells that were not there before", &after, &before);
    if let Some(new) = new.as_mut().filter(|_| !logged) {
        new.notes.push(
            "The folder's events.jsonl does not tell when they were computed. Here are all that have a record after the last one of those \
             that are there no more."
                .to_string(),
        );
    }
    sheets.extend(new);
    Ok(Chapter {
        file: "changes",
        title: "What changed",
        sheets,
    })
}

/// The title of the table of numbers if it has no row: `both` cells are in both versions, `new` only now, and `gone` only before.
fn unchanged(both: usize, new: usize, gone: usize) -> String {
    let cells = match both {
        0 => "No cell is in both".to_string(),
        1 => "No number changed in the one cell that is in both".to_string(),
        _ => format!("No number changed in the {both} cells that are in both"),
    };
    let is = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 is {what}")),
        _ => Some(format!("{count} are {what}")),
    };
    let alone: Vec<String> = [is(new, "new"), is(gone, "gone")].into_iter().flatten().collect();
    match alone.is_empty() {
        true => "No number changed".to_string(),
        false => format!("{cells}; {}", alone.join(", ")),
    }
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

impl Row {
    /// The largest change of a seed, as a share of its value.
    fn largest(&self) -> f64 {
        let both = self.before.iter().zip(&self.now);
        let shares = both.map(|(before, now)| (now - before).abs() / before.abs().max(f64::MIN_POSITIVE));
        shares.fold(0.0, f64::max)
    }
}

/// The table of numbers that changed, and how many rows it leaves out because their changes are tiny.
fn numbers(pairs: &[(&Version, &Version)]) -> (Sheet, usize) {
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
    let (seen, unseen): (Vec<_>, Vec<_>) = changed.partition(|(_, row)| row.other_texts > 0 || row.largest() >= LEAST);
    if !unseen.is_empty() {
        notes.push(format!(
            "{} left out, since no value of theirs changed by more than {} %.",
            match unseen.len() {
                1 => "1 row is".to_string(),
                count => format!("{count} rows are"),
            },
            100.0 * LEAST
        ));
    }
    let changed: Vec<Vec<SheetCell>> = seen.into_iter().map(|(key, row)| row_cells(key, row)).collect();
    let sheet = Sheet {
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
        rows: changed,
        notes,
    };
    (sheet, unseen.len())
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
        false => {
            let digits = apart(0.0, value, 3);
            SheetCell::plain(format!("{:+.digits$}{unit}", Shown(value)))
        }
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
        number(Some(before), apart(before, now, digits(before))),
        number(Some(now), apart(before, now, digits(now))),
        shown(change(before, now)),
        shown(largest),
    ]
}

/// So many digits after the point that two numbers do not print the same, if they differ; at least `usual` ones.
fn apart(one: f64, other: f64, usual: usize) -> usize {
    /// More digits tell nobody anything.
    const MOST: usize = 9;
    let same = |digits: &usize| format!("{one:.*}", *digits) == format!("{other:.*}", *digits);
    match one == other {
        true => usual,
        false => (usual..MOST).find(|digits| !same(digits)).unwrap_or(MOST),
    }
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
            Column::words("before").headed(),
            Column::words("now").headed(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_do_not_print_the_same() {
        for (one, other, digits) in [
            (25.0, 25.0, 2),
            (25.0, 25.01, 2),
            (25.0, 25.0001, 4),
            (0.0, 0.0004, 4),
            (0.0, -0.5, 3),
            (1.0, 1.0 + f64::EPSILON, 9),
        ] {
            let usual = if one == 0.0 { 3 } else { 2 };
            assert_eq!(apart(one, other, usual), digits, "{one} and {other}");
        }
    }

    #[test]
    fn the_largest_change_is_that_of_one_seed_and_not_of_the_mean() {
        let row = Row {
            before: vec![10.0, 20.0],
            now: vec![11.0, 19.0],
            ..Row::default()
        };
        assert!((row.largest() - 0.1).abs() < 1e-12);
    }
}
