//! What `zprune plan` says of shared work, memory and time.

use crate::backend::{Compute, GPU_BATCH};
use crate::calibrate::Stage;
use crate::cell::Seen;
use crate::error::{Located, Result};
use crate::experiment::asked::{self, gradient_cells, uses_hessian};
use crate::experiment::forecast::Forecast;
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::{Foreseen, Machine, Processor};
use crate::experiment::on_device::{DeviceForecast, OnDevice};
use crate::experiment::plan::{Cell, Experiment};
use crate::experiment::work::{Measured, Work, operations, rate};
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
        .filter(|method| !method.seeded())
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

/// Says where calibration has few tokens for the inputs of the widest layer, and methods use their Hessian.
///
/// # Errors
/// As [`Experiment::method`].
pub fn few_tokens(experiment: &Experiment, inputs: &Inputs) -> Result<String> {
    let Some(plan) = &experiment.calibration else {
        return Ok(String::new());
    };
    let mut using = Vec::new();
    for (index, method) in experiment.methods.iter().enumerate() {
        if uses_hessian(experiment, index)? {
            using.push(method.name.as_str());
        }
    }
    if using.is_empty() {
        return Ok(String::new());
    }
    let mut text = String::new();
    for (model, folder) in experiment.models.iter().zip(&inputs.folders) {
        let Some(folder) = folder else { continue };
        let tokens = plan.sequences.saturating_mul(plan.length.of(&folder.spec));
        let kinds = folder.spec.kinds();
        let widest = kinds.flat_map(|(block, _)| block.linears.iter().map(|linear| linear.inputs));
        let widest = widest.max().unwrap_or(0);
        let few = asked::few_tokens(tokens, widest, &using.join(", "));
        text.extend(few.map(|few| format!("note: {}: {few}\n", model.name)));
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
            text.push_str(&format!("memory, {name}: this machine has too little: {why}\n"));
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
            .sum::<Result<Work>>()?;
        text.push_str(&format!(
            "time, {name}: about {}{} for products and factorisations, at {:.0} GFLOP/s as a product runs now\n",
            indicatif::HumanDuration(Duration::try_from_secs_f64(work.all() / rate).unwrap_or(Duration::MAX)),
            parts_of_time(&work, rate),
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

/// What the time is for, in brackets, with one unit for all parts; empty where it is short, or a single part is nearly all of it.
fn parts_of_time(work: &Work, rate: f64) -> String {
    /// The smallest share that is worth a word.
    const SHOWN: f64 = 0.03;
    /// Seconds that nobody asks the parts of.
    const SHORT: f64 = 15.0;
    let seconds = work.all() / rate;
    if seconds < SHORT {
        return String::new();
    }
    let (unit, name) = match seconds {
        seconds if seconds >= 7200.0 => (3600.0, "hours"),
        seconds if seconds >= 120.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    };
    let parts = work.parts().into_iter().map(|(what, work)| (what, work / rate));
    let shown = parts.filter(|(_, part)| *part >= SHOWN * seconds);
    let shown: Vec<String> = shown
        .map(|(what, part)| match part / unit {
            part if part < 10.0 => format!("{what} {part:.1}"),
            part => format!("{what} {part:.0}"),
        })
        .collect();
    match shown.len() {
        0 | 1 => String::new(),
        _ => format!(" ({} {name})", shown.join(", ")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_time_have_one_unit_and_small_ones_are_left_out() {
        let work = Work {
            calibration: 192.0,
            solving: 300.0,
            perplexity: 10.0,
            tasks: 1020.0,
        };
        assert_eq!(
            parts_of_time(&work, 1.0),
            " (calibration 3.2, solving 5.0, tasks 17 minutes)"
        );
        let quick = parts_of_time(&work, 20.0);
        assert_eq!(quick, " (calibration 9.6, solving 15, tasks 51 seconds)");
        let long = parts_of_time(&work, 0.1);
        assert_eq!(long, " (calibration 0.5, solving 0.8, tasks 2.8 hours)");
        let tasks = Work {
            tasks: 100.0,
            perplexity: 1.0,
            ..Work::default()
        };
        assert_eq!(parts_of_time(&tasks, 1.0), "");
        assert_eq!(parts_of_time(&work, 200.0), "", "it is short");
    }
}
