//! What a results folder held before its experiment was changed.
//!
//! The plan of that time is gone. What it had shows in the records of cells that the experiment has no more, and in the log of events: a
//! process reads the plan once and computes cells of it until it ends. So whatever a process computed that began before the last of these
//! records was made is of that plan, or of an older one. Where the log is gone, only the order of the records is left to go by.

use super::union::ResultsFolder;
use super::version::Version;
use crate::files::input;
use crate::record::{Record, Status, standing};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A line of the log: what it says of its process and of a cell.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    host: String,
    pid: u32,
    event: String,
    id: Option<String>,
}

/// A process of the log: the line at which it began, and the cells that it computed with the lines that say so.
#[derive(Default)]
struct Process {
    began: usize,
    cells: Vec<(usize, String)>,
}

/// The processes that worked on a results folder, as its log of events has them. Lines that cannot be read are left out: the log is for
/// people, and they may have shortened it.
#[derive(Default)]
pub struct Processes(Vec<Process>);

impl Processes {
    /// Reads the log of a results folder; there are none if it cannot be read.
    pub fn read(folder: &Path) -> Processes {
        let text = input::read_text(&folder.join("events.jsonl"), input::SMALL).unwrap_or_default();
        Processes::of(&text)
    }

    fn of(log: &str) -> Processes {
        let mut found: Vec<Process> = Vec::new();
        let mut current: BTreeMap<(String, u32), usize> = BTreeMap::new();
        for (place, line) in log.lines().enumerate() {
            let Ok(Line { host, pid, event, id }) = serde_json::from_str(line) else {
                continue;
            };
            match (event.as_str(), id, current.get(&(host.clone(), pid))) {
                // A number of a process is given to others later.
                ("started", ..) => {
                    current.insert((host, pid), found.len());
                    found.push(Process {
                        began: place,
                        cells: Vec::new(),
                    });
                }
                ("done", Some(id), Some(process)) => found[*process].cells.push((place, id)),
                _ => {}
            }
        }
        Processes(found)
    }

    /// The cells of all processes that began before the last of these was computed; none if no process computed any of these.
    fn with(&self, gone: &BTreeSet<&str>) -> BTreeSet<&str> {
        let done = || self.0.iter().flat_map(|process| &process.cells);
        let last = done()
            .filter(|(_, id)| gone.contains(id.as_str()))
            .map(|(place, _)| *place)
            .max();
        let before = self.0.iter().filter(|process| Some(process.began) < last);
        let cells = before.flat_map(|process| &process.cells);
        cells.map(|(_, id)| id.as_str()).collect()
    }
}

/// The latest good record of each cell that the folder's experiment does not have any more, and of those that it still has, which are
/// `planned`, the ones that were there before; nothing, if the experiment has everything that was ever computed. And whether the log
/// told which ones were.
pub(super) fn before<'a>(
    folder: &'a ResultsFolder,
    planned: Vec<Version<'a>>,
    processes: &Processes,
) -> (Vec<Version<'a>>, bool) {
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
        let version = Version::of_record(record);
        match found.iter_mut().find(|it| it.place == version.place) {
            Some(earlier) => *earlier = version,
            None => found.push(version),
        }
    }
    let gone = found.iter().map(|it| it.record.id.as_str()).collect();
    let logged = processes.with(&gone);
    let place_of = |record: &Record| folder.records.iter().position(|it| std::ptr::eq(it, record));
    let last = found.iter().filter_map(|it| place_of(it.record)).max();
    let kept = planned.into_iter().filter(|version| {
        let there = logged.contains(version.record.id.as_str()) || place_of(version.record) < last;
        there && !found.iter().any(|it| it.place == version.place)
    });
    let kept: Vec<Version> = kept.collect();
    found.extend(kept);
    (found, !logged.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(u32, &str, &str)]) -> String {
        let line = |(pid, event, id): &(u32, &str, &str)| {
            let id = if id.is_empty() {
                String::new()
            } else {
                format!(",\"id\":\"{id}\"")
            };
            format!("{{\"at\":\"x\",\"host\":\"h\",\"pid\":{pid},\"event\":\"{event}\"{id}}}\n")
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_process_that_computed_what_is_gone_computed_all_of_its_cells_before() {
        let text = log(&[
            (1, "started", ""),
            (1, "done", "gone"),
            (2, "started", ""),
            (2, "done", "also gone"),
            (1, "done", "kept"),
            (2, "done", "kept, too"),
            (2, "finished", ""),
            // The same number, another process.
            (1, "started", ""),
            (1, "claimed", "new"),
            (1, "done", "new"),
        ]);
        let processes = Processes::of(&format!("not a line of the log\n{text}{{\"at\":\"unfin"));
        let cells = processes.with(&BTreeSet::from(["gone", "also gone"]));
        assert_eq!(cells, BTreeSet::from(["gone", "also gone", "kept", "kept, too"]));
        assert!(processes.with(&BTreeSet::from(["never computed"])).is_empty());
        assert!(Processes::default().with(&BTreeSet::from(["gone"])).is_empty());
    }
}
