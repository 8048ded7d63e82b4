//! What `zprune plan` says of shared work, memory and time.

use crate::backend::{Compute, GPU_BATCH};
use crate::calibrate::Stage;
use crate::cell::Seen;
use crate::error::{Located, Result};
use crate::experiment::asked::gradient_cells;
use crate::experiment::forecast::Forecast;
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::{Foreseen, Machine, Processor};
use crate::experiment::on_device::{DeviceForecast, OnDevice};
use crate::experiment::plan::{Cell, Experiment};
use crate::experiment::work::{Measured, operations, rate};
use crate::spec::ModelSpec;
use bytesize::ByteSize;
use std::time::Duration;

/// Describes the work that cells share, one line each.
///
/// # Errors
/// As [`Experiment::method`].
pub fn shared(experiment: &Experiment) -> Result<String> {
    let mut text = String::new();
    let sharing = experiment.cells_per_seed();
    if let Some(plan) = experiment.calibration.as_ref().filter(|_| sharing > 1) {
        let what = match plan.stage {
            Stage::Dense => "the calibration pass of the dense model is computed once",
            Stage::Block => "the statistics of block 0, before which nothing is pruned, are computed once",
            Stage::Staged | Stage::Separate => "",
        };
        if !what.is_empty() {
            text.push_str(&format!(
                "shared: {what} for the {sharing} calibrated cells of each model and seed\n"
            ));
        }
    }
    let cells = gradient_cells(experiment)?;
    let computed = experiment.calibration.iter().any(|plan| plan.gradients.is_none());
    if computed && cells > 1 {
        text.push_str(&format!(
            "shared: the gradients of the dense model's loss are computed once for {cells} calibrated cells of each model and seed\n"
        ));
    }
    let fixed: Vec<&str> = experiment
        .methods
        .iter()
        .filter(|method| !method.calibrated)
        .map(|method| method.name.as_str())
        .collect();
    if !fixed.is_empty() && experiment.seeds.len() > 1 {
        let names = fixed.join(", ");
        text.push_str(&format!(
            "shared: {names}: one cell for all seeds, since nothing is calibrated\n"
        ));
    }
    Ok(text)
}

/// Says where calibration has fewer tokens than the widest layer has inputs, and a solver fits the kept weights to them.
///
/// # Errors
/// As [`Experiment::method`].
pub fn few_tokens(experiment: &Experiment, inputs: &Inputs) -> Result<String> {
    let Some(plan) = &experiment.calibration else {
        return Ok(String::new());
    };
    let mut fitted = Vec::new();
    for (index, method) in experiment.methods.iter().enumerate() {
        if experiment
            .recipe(index)?
            .is_some_and(|recipe| recipe.solver.updates() && recipe.solver.needs().gram)
        {
            fitted.push(method.name.as_str());
        }
    }
    let mut text = String::new();
    for (model, folder) in experiment.models.iter().zip(&inputs.folders) {
        let Some(folder) = folder else { continue };
        let tokens = plan.sequences.saturating_mul(plan.length.of(&folder.spec));
        let widest = (0..folder.spec.blocks)
            .flat_map(|block| {
                folder
                    .spec
                    .block(block)
                    .layers()
                    .map(|(_, layer)| layer.inputs)
                    .collect::<Vec<_>>()
            })
            .max()
            .unwrap_or(0);
        if !fitted.is_empty() && tokens < widest {
            text.push_str(&format!(
                "note: {}: {tokens} calibration tokens are fewer than the {widest} inputs of its widest layer, which is a disadvantage \
                 for methods that fit weights to them ({})\n",
                model.name,
                fitted.join(", ")
            ));
        }
    }
    Ok(text)
}

/// What is not on this machine, and a run does without or downloads: one line each.
pub fn not_here(inputs: &Inputs, foreseen: &Foreseen) -> String {
    let downloaded = inputs.missing.iter().filter(|missing| missing.downloaded);
    let downloaded = downloaded.map(|missing| missing.message.as_str());
    let all = downloaded.chain(foreseen.assumed.as_deref());
    all.map(|missing| format!("missing: {missing}\n")).collect()
}

/// Expected memory for every model whose configuration can be read; and the time, if nothing better tells it.
pub fn expected(
    experiment: &Experiment,
    machine: Machine,
    inputs: &Inputs,
    seen: &[Seen],
    to_do: &[Cell],
    timed: bool,
) -> Result<String> {
    let mut text = String::new();
    let rate = rate()?;
    let mut tasks_left_out = false;
    for (index, (folder, seen)) in inputs.folders.iter().zip(seen).enumerate() {
        let cells = || to_do.iter().filter(|cell| cell.model == index);
        let Some(folder) = folder.as_ref().filter(|_| cells().next().is_some()) else {
            continue;
        };
        let spec = &folder.spec;
        let measured = measured(experiment, inputs, seen, spec);
        tasks_left_out |= seen.task_tokens.is_none() && !experiment.tasks.is_empty();
        let forecast = Forecast::new(experiment, spec, measured.tokens())?;
        let name = &experiment.models[index].name;
        text.push_str(&format!(
            "memory, {name}: about {} ({forecast})\n",
            ByteSize(forecast.whole())
        ));
        if machine.backend == Processor::Gpu {
            let on_device = on_device(experiment, machine, spec, measured.tokens())?;
            text.push_str(&format!(
                "memory of the GPU, {name}: about {} ({on_device})\n",
                ByteSize(on_device.whole())
            ));
        }
        if let Some(why) = forecast.too_much(experiment, machine) {
            text.push_str(&format!("memory, {name}: too much for this machine: {why}\n"));
        }
        if let Some(budget) = experiment.machine.memory {
            let spilled = forecast
                .fixed()
                .saturating_add(forecast.streams)
                .saturating_sub(budget.0);
            let what = match (forecast.fixed() > budget.0, spilled) {
                (true, _) => format!("too little: {} cannot go to disk", ByteSize(forecast.fixed())),
                (false, 0) => "enough".to_string(),
                (false, spilled) => format!("{} of activations go to scratch files", ByteSize(spilled)),
            };
            text.push_str(&format!("  of {budget}: {what}\n"));
        }
        if !timed {
            continue;
        }
        let work = cells()
            .map(|cell| operations(experiment, spec, cell, &measured))
            .sum::<Result<f64>>()?;
        text.push_str(&format!(
            "time, {name}: about {} for products and factorisations, at {:.0} GFLOP/s as a product runs now\n",
            indicatif::HumanDuration(Duration::try_from_secs_f64(work / rate).unwrap_or(Duration::MAX)),
            rate / 1e9
        ));
    }
    let mut left_out = Vec::new();
    if tasks_left_out {
        left_out.push("the zero-shot tasks, whose data are not here");
    }
    if !experiment.generations.is_empty() {
        left_out.push("the answers to prompts");
    }
    if !text.is_empty() && !left_out.is_empty() {
        text.push_str(&format!(
            "{} without {}, which may take more than all the rest\n",
            if timed { "memory and time are" } else { "memory is" },
            left_out.join(" and ")
        ));
    }
    Ok(text)
}

/// Checks that the memory that the experiment allows is enough for each of its models.
///
/// # Errors
/// As a run has it.
pub fn check_budget(experiment: &Experiment, machine: Machine, inputs: &Inputs, seen: &[Seen]) -> Result<()> {
    if experiment.machine.memory.is_none() {
        return Ok(());
    }
    for ((plan, folder), seen) in experiment.models.iter().zip(&inputs.folders).zip(seen) {
        if let Some(folder) = folder {
            let measured = measured(experiment, inputs, seen, &folder.spec);
            let forecast = Forecast::new(experiment, &folder.spec, measured.tokens())?;
            forecast.room(experiment, machine).at(&plan.name)?;
        }
    }
    Ok(())
}

/// The memory of a GPU that the experiment's cells of a model take.
fn on_device(experiment: &Experiment, machine: Machine, spec: &ModelSpec, evaluated: usize) -> Result<DeviceForecast> {
    let recipes = experiment.recipes()?;
    let compared = experiment.evaluations.iter().any(|plan| plan.compare_to_dense);
    let calibration = experiment.calibration.iter();
    Ok(DeviceForecast::new(
        spec,
        &OnDevice {
            recipes: &recipes.iter().collect::<Vec<_>>(),
            calibrated: calibration.map(|plan| plan.sequences * plan.length.of(spec)).sum(),
            evaluated: if compared { 2 * evaluated } else { evaluated },
            stored: if machine.compute == Compute::F32 { 4 } else { 2 },
            batch: GPU_BATCH,
        },
    ))
}

/// Tokens that cells of a model are measured on. Where a text cannot be counted, it has one token for every four bytes, and a task has none.
fn measured(experiment: &Experiment, inputs: &Inputs, seen: &Seen, spec: &ModelSpec) -> Measured {
    let plans = experiment
        .evaluations
        .iter()
        .zip(&inputs.evaluations)
        .zip(&seen.windows);
    let tokens = plans.map(|((plan, file), windows)| {
        let length = plan.length.of(spec);
        match windows.map(|windows| windows.used).or(plan.windows) {
            Some(windows) => windows.saturating_mul(length),
            None => {
                let bytes = file.as_ref().and_then(|file| std::fs::metadata(&file.path).ok());
                bytes.map_or(0, |file| file.len() as usize / 4)
            }
        }
    });
    Measured {
        evaluations: tokens.collect(),
        tasks: seen.task_tokens.unwrap_or(0),
    }
}
