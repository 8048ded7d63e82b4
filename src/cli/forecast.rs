//! What `zprune plan` says of shared work, memory and time.

use crate::calibrate::Stage;
use crate::error::Result;
use crate::experiment::forecast::{Forecast, gradient_cells, operations, rate};
use crate::experiment::inputs::Inputs;
use crate::experiment::machine::Machine;
use crate::experiment::plan::{Cell, Experiment};
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
        let (what, how) = match plan.stage {
            Stage::Dense => ("the calibration pass", "of the dense model"),
            Stage::Block => ("block 0's statistics", "since nothing is pruned before it"),
            Stage::Staged | Stage::Separate => ("", ""),
        };
        if !what.is_empty() {
            text.push_str(&format!(
                "shared: {what}, by the {sharing} calibrated cells of each model and seed, {how}\n"
            ));
        }
    }
    let cells = gradient_cells(experiment)?;
    let computed = experiment.calibration.iter().any(|plan| plan.gradients.is_none());
    if computed && cells > 1 {
        text.push_str(&format!(
            "shared: the gradients of the dense model's loss, by {cells} calibrated cells of each model and seed\n"
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
        text.push_str(&format!("shared: {names}, by all seeds, without calibration\n"));
    }
    Ok(text)
}

/// Expected memory and time for every model whose configuration can be read.
pub fn expected(experiment: &Experiment, machine: Machine, inputs: &Inputs, to_do: &[Cell]) -> Result<String> {
    let mut text = String::new();
    let rate = rate()?;
    for (index, folder) in inputs.folders.iter().enumerate() {
        let cells = || to_do.iter().filter(|cell| cell.model == index);
        let Some(folder) = folder.as_ref().filter(|_| cells().next().is_some()) else {
            continue;
        };
        let spec = &folder.spec;
        let evaluated = evaluated(experiment, inputs, spec);
        let forecast = Forecast::new(experiment, spec, evaluated)?;
        let name = &experiment.models[index].name;
        text.push_str(&format!(
            "memory, {name}: about {} ({forecast})\n",
            ByteSize(forecast.whole())
        ));
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
        let work = cells()
            .map(|cell| operations(experiment, spec, cell, evaluated))
            .sum::<Result<f64>>()?;
        text.push_str(&format!(
            "time, {name}: about {} for products and factorisations, at {:.0} GFLOP/s as a product runs now\n",
            indicatif::HumanDuration(Duration::try_from_secs_f64(work / rate).unwrap_or(Duration::MAX)),
            rate / 1e9
        ));
    }
    Ok(text)
}

/// Number of tokens of all evaluations; an evaluation of a whole text counts one token for every four bytes.
fn evaluated(experiment: &Experiment, inputs: &Inputs, spec: &ModelSpec) -> usize {
    let files = inputs.evaluations.as_deref().unwrap_or_default();
    let tokens = experiment
        .evaluations
        .iter()
        .enumerate()
        .map(|(index, plan)| match plan.windows {
            Some(windows) => windows.saturating_mul(plan.length.of(spec)),
            None => {
                let bytes = files.get(index).and_then(|file| std::fs::metadata(&file.path).ok());
                bytes.map_or(0, |file| file.len() as usize / 4)
            }
        });
    tokens.fold(0, usize::saturating_add)
}
