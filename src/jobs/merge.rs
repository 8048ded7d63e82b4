//! Joins results folders of one experiment that were made on different machines.

use crate::error::{Error, Result};
use crate::experiment::plan_file::PlanFile;
use crate::files::{create_folders, remove_unfinished};
use crate::record::{self, Part, RecordFile, Status};
use crate::run::copy_samples;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Number of records that were added.
    pub added: usize,
    /// Number of cells that both had, with the same numbers.
    pub known: usize,
    /// Ids of cells that both had with different numbers, with the folder whose record was left out.
    pub different: Vec<(String, PathBuf)>,
    /// Folders whose last record is unfinished and was left out.
    pub unfinished: Vec<PathBuf>,
    /// Number of cells of the plan that have no good record yet.
    pub missing: usize,
}

/// Adds the records of folders to those of the folder `into`, which is made if it is not there. A cell keeps the good record that
/// it has: a merge that was interrupted can be made again. What is added is without the parts `without`, and each record says so. The
/// folders that are read stay as they are.
///
/// # Errors
/// A folder is of another experiment, `into` is one of the folders, a file is damaged, or the disk refuses.
pub fn merge(folders: &[PathBuf], into: &Path, without: &[Part]) -> Result<Merged> {
    let plans = folders.iter().map(|folder| PlanFile::read(folder));
    let plans = plans.collect::<Result<Vec<PlanFile>>>()?;
    let there = match into.join("runs.jsonl").exists() || into.join("plan.toml").exists() {
        true => Some(PlanFile::read(into)?),
        false => None,
    };
    let Some(plan) = there.as_ref().or(plans.first()) else {
        return Err(Error::config("a merge needs at least one results folder to read"));
    };
    for (folder, other) in folders.iter().zip(&plans) {
        same_cells(plan, other, folder)?;
        let whole = |path: &Path| path.canonicalize().ok();
        if there.is_some() && whole(folder) == whole(into) {
            let message = "it is the folder that records are added to; leave it out";
            return Err(Error::config(message).at(folder.display()));
        }
    }
    // All are read before the first line is written: a damaged one leaves everything as it was.
    let read = folders.iter().map(|folder| record::read(folder));
    let read = read.collect::<Result<Vec<_>>>()?;
    let mut merged = Merged::default();
    for folder in folders {
        if record::unfinished(folder)? {
            merged.unfinished.push(folder.clone());
        }
    }
    create_folders(into)?;
    // What an earlier merge that was interrupted left.
    remove_unfinished(into);
    if there.is_none() {
        plan.write(into)?;
    }
    let mut file = RecordFile::open(into)?;
    let standing: Vec<_> = read.iter().map(|records| record::standing(records)).collect();
    for (from, folder) in folders.iter().enumerate() {
        let planned = plan.cell.iter().filter_map(|cell| standing[from].get(cell.id.as_str()));
        for record in planned {
            if record.status != Status::Ok {
                continue;
            }
            match file.good(&record.id) {
                Some(good) if good.agrees(record) => merged.known += 1,
                Some(_) => merged.different.push((record.id.clone(), folder.clone())),
                None => {
                    // Of folders with the same numbers, the one whose record lacks least.
                    let same = folders
                        .iter()
                        .zip(&standing)
                        .skip(from)
                        .filter_map(|(folder, standing)| {
                            let other = standing.get(record.id.as_str())?;
                            (other.status == Status::Ok && other.agrees(record)).then_some((folder, other))
                        });
                    let fullest = same.min_by_key(|(_, record)| record.without.len());
                    let (folder, record) = fullest.unwrap_or((folder, record));
                    let record = record.reduced(without);
                    if !record.without.contains(&Part::Samples) {
                        copy_samples(folder, into, &record.id, &record.tasks)?;
                    }
                    merged.added += usize::from(file.append(record)?);
                }
            }
        }
    }
    merged.missing = plan.cell.iter().filter(|cell| !file.has(&cell.id)).count();
    Ok(merged)
}

/// Checks that two plans have the same cells.
fn same_cells(plan: &PlanFile, other: &PlanFile, folder: &Path) -> Result<()> {
    let ids = |plan: &PlanFile| -> BTreeSet<String> { plan.cell.iter().map(|cell| cell.id.clone()).collect() };
    let (here, there) = (ids(plan), ids(other));
    if here == there {
        return Ok(());
    }
    let differ = here.symmetric_difference(&there).count();
    Err(Error::input(format!(
        "its experiment is another one: {differ} cells are in only one of the two plans (`zprune report A --since B` says which settings \
         differ; `zprune report A B` puts different experiments into one report)"
    ))
    .at(folder.display()))
}
