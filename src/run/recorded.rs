//! What a cell found, as a record; and whether records still stand when a run ends.

use crate::cell::{Findings, Runner, TaskFindings, Treatment};
use crate::error::{Error, ErrorKind, Result};
use crate::experiment::identity::Identity;
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::{Cell, Experiment, Method};
use crate::memory;
use crate::processor;
use crate::progress::Progress;
use crate::prune::workbench::Workbench;
use crate::record::{Label, Record, RecordFile, RunInfo, SCHEMA, Status};
use std::collections::BTreeSet;
use std::time::Instant;

/// Runs a cell; a failure becomes part of the record. What its tasks found comes with it.
///
/// # Errors
/// The run was asked to stop, or its GPU is gone, which says nothing about the cell. With `elsewhere`, the GPU failed at a cell that
/// another one may have room for. The cell has no record then.
pub(crate) fn record<B: Workbench>(
    runner: &mut Runner<B>,
    experiment: &Experiment,
    inputs: &Inputs,
    (cell, identity): (&Cell, &Identity),
    elsewhere: bool,
    progress: &dyn Progress,
) -> Result<(Record, Vec<TaskFindings>)> {
    let started = Instant::now();
    memory::forget_peak();
    let spilled = runner.spilled();
    let result = match &cell.pruning {
        Some(pruning) => experiment.method(pruning.method).and_then(|method| match &method {
            Method::Recipe(recipe) => {
                let file = experiment.file(cell).map(|(path, _)| path);
                let treatment = Treatment {
                    recipe,
                    pattern: pruning.pattern,
                    seed: pruning.seed,
                    file: file.as_deref(),
                };
                runner.run(Some(treatment), progress, |_| Ok(()))
            }
            Method::Units(removal) => runner.run_smaller(removal, pruning.pattern.sparsity(), pruning.seed, progress),
            Method::Checkpoint => {
                let path = experiment.checkpoint(cell)?.map(|(path, _)| path);
                let given = path.and_then(|path| inputs.checkpoints.get(&path));
                let given = given.ok_or_else(|| inputs.lacks())?;
                runner.run_given(&given.checkpoint, pruning.pattern, progress)
            }
        }),
        None => runner.run(None, progress, |_| Ok(())),
    };
    let (found, error) = match result {
        Ok(found) => (found, None),
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        Err(error) if elsewhere && error.kind() == ErrorKind::Device => return Err(error),
        Err(error) if error.kind() == ErrorKind::DeviceLost => {
            let message = format!("{error}; finished cells are recorded, and the same command goes on with the others");
            return Err(Error::new(ErrorKind::DeviceLost, message));
        }
        Err(error) => (Findings::default(), Some(error.to_string())),
    };
    let record = Record {
        schema: SCHEMA,
        id: identity.id(),
        status: if error.is_none() { Status::Ok } else { Status::Failed },
        error,
        label: Label {
            model: experiment.models[cell.model].name.clone(),
            method: experiment.method_name(cell).to_string(),
            protocol: experiment.protocol.clone(),
        },
        cell: identity.clone(),
        sparsity: found.sparsity,
        calibration_tokens: found.calibration_tokens,
        run: RunInfo {
            version: env!("CARGO_PKG_VERSION").to_string(),
            machine: format!(
                "{} {}, {}{} cores",
                std::env::consts::OS,
                std::env::consts::ARCH,
                processor::name().map_or(String::new(), |name| format!("{name}, ")),
                rayon::current_num_threads()
            ),
            device: runner.device(),
            finished: jiff::Timestamp::now()
                .round(jiff::Unit::Second)
                .map_or(String::new(), |t| t.to_string()),
            calibrate_seconds: found.time.passes().as_secs_f64(),
            prune_seconds: found.time.prune.as_secs_f64(),
            total_seconds: started.elapsed().as_secs_f64(),
            peak_resident_bytes: memory::peak_resident(),
            spilled_bytes: Some(runner.spilled() - spilled).filter(|bytes| *bytes > 0),
            seconds_per_token: found.seconds_per_token,
        },
        evaluations: found.evaluations,
        tasks: found.tasks.iter().map(|task| task.record.clone()).collect(),
        layers: found.layers,
        structure: found.structure,
        turned_round: found.turned_round,
        pruned_before: runner.pruned_before().cloned(),
        widest_inputs: None,
        without: Vec::new(),
        check: None,
    };
    Ok((record, found.tasks))
}

/// Hashes the inputs of what was recorded, models and ids, once more, since two writes within one step of a file system's clock leave no
/// trace. Records whose input is another one by now are withdrawn: nobody can tell which of them saw what.
pub(crate) fn vouch(
    experiment: &Experiment,
    inputs: &Inputs,
    recorded: &[(usize, String)],
    file: &mut RecordFile,
    progress: &dyn Progress,
) -> Result<()> {
    let models: BTreeSet<usize> = recorded.iter().map(|(model, _)| *model).collect();
    let mut doubts = Ok(());
    for model in models {
        if let Err(error) = inputs.unchanged(model) {
            // Every record was written before that, so it is as good as its hash.
            tracing::warn!("{error}, after the last of its cells was recorded");
            continue;
        }
        let name = &experiment.models[model].name;
        progress.stage(&format!("hashing the inputs of {name} again"));
        let Err(error) = inputs.rehash(model) else {
            continue;
        };
        let own = recorded.iter().filter(|(of, _)| *of == model);
        let own: Vec<Record> = own.filter_map(|(_, id)| file.good(id).cloned()).collect();
        let count = own.len();
        for record in own {
            file.append(Record {
                status: Status::Withdrawn,
                error: Some(error.to_string()),
                sparsity: None,
                calibration_tokens: None,
                evaluations: Vec::new(),
                tasks: Vec::new(),
                layers: Vec::new(),
                structure: None,
                turned_round: None,
                pruned_before: None,
                widest_inputs: None,
                without: Vec::new(),
                ..record
            })?;
        }
        let message = format!(
            "{error}; the {count} records of this run that come from it are withdrawn. When no program writes to it any more, run again"
        );
        doubts = doubts.and(Err(Error::new(error.kind(), message)));
    }
    doubts
}
