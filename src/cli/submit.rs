//! `zprune submit`: scripts for a cluster, shown or written.

use super::common::{Target, around};
use super::piped;
use super::streams::print;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::machine::{Machine, MachinePlan, Processor};
use crate::experiment::plan::Experiment;
use crate::experiment::resolve;
use crate::files::{Access, OutputFile, no_links};
use crate::record::read_if_any;
use crate::run::{self, State};
use crate::submit::{self, ENGINES, Resources, ScriptCell, Sweep};
use std::path::{Path, PathBuf};

/// Arguments of `zprune submit`.
#[derive(Debug, clap::Args)]
pub(super) struct Submit {
    #[command(flatten)]
    target: Target,
    /// The program that will run the cells: slurm or snakemake
    #[arg(long, value_name = "NAME")]
    engine: String,
    /// Write the scripts to <results>/<name>/submit instead of showing them
    #[arg(long)]
    write: bool,
    /// Replace files there even if they are not earlier scripts
    #[arg(long, requires = "write")]
    force: bool,
    /// Cells per task of a job array [default: one, or as many as keep the array within 1001 tasks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    #[command(flatten)]
    resources: Limits,
}

/// What a task may use; whatever is absent is the engine's default.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Partition or queue of the cluster
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Time for a task, such as 90m, 4h or 2d
    #[arg(long, value_name = "TIME", value_parser = minutes)]
    time: Option<u64>,
    /// Memory for a task, such as 900M or 16G
    // Not `--memory`, which is the run's own budget.
    #[arg(long = "mem", id = "mem", value_name = "SIZE", value_parser = mebibytes)]
    memory: Option<u64>,
    /// Cores for a task [default: 1]
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// GPUs for a task [default: 1 if a GPU computes and no --line asks for one, else none]
    #[arg(long, value_name = "N")]
    gpus: Option<usize>,
    /// A further line for the engine, such as --line '--constraint=h100'; may be repeated
    #[arg(long = "line", value_name = "LINE", allow_hyphen_values = true)]
    lines: Vec<String>,
}

impl Limits {
    /// What a task of this machine may use.
    fn resolved(&self, machine: Machine) -> Result<Resources> {
        let asked = |line: &String| line.contains("gres") || line.contains("gpu");
        let computes = machine.backend == Processor::Gpu;
        let gpus = self
            .gpus
            .unwrap_or(usize::from(computes && !self.lines.iter().any(asked)));
        if gpus > 0 && !computes {
            let message =
                format!("--gpus {gpus}: this experiment computes on the CPU; add `--backend gpu`, or leave --gpus out");
            return Err(Error::config(message));
        }
        Ok(Resources {
            partition: self.partition.clone(),
            time: self.time,
            memory: self.memory,
            cores: self.cores,
            gpus,
            lines: self.lines.clone(),
        })
    }
}

pub(super) fn run(arguments: &Submit) -> Result<()> {
    let engine = ENGINES.find(&arguments.engine)?.item;
    let Target {
        experiment: path,
        results,
        machine,
    } = &arguments.target;
    piped::refuse("an experiment that jobs read", Some(path))?;
    let experiment = resolve::read_for(path, &machine.request())?;
    let machine = experiment.machine_foreseen().at(path.display())?.machine;
    let inputs = Inputs::inspect(&experiment)?;
    inputs.require_all()?;
    let results = &around(results, &experiment.name);
    let here = std::env::current_dir().map_err(|error| Error::reading(Path::new("."), error))?;
    let resources = arguments.resources.resolved(machine)?;
    let sweep = Sweep {
        name: experiment.name.clone(),
        zprune: program()?,
        experiment: path.to_path_buf(),
        results: here.join(results),
        machine: machine_arguments(&experiment.machine, machine, &resources),
        cells: open_cells(&experiment, machine, &inputs, &results.join(&experiment.name))?,
        directory: here,
        chunk: arguments.chunk.map(|chunk| chunk as usize),
        resources,
    };
    if sweep.cells.is_empty() {
        return print(&format!("{}: all cells have results; nothing to submit", sweep.name));
    }
    let scripts = engine(&sweep)?;
    let folder = sweep.submit_folder();
    let files = scripts.files.iter().map(|(name, content)| (folder.join(name), content));
    let files: Vec<(PathBuf, &String)> = files.collect();
    let mut reads = inputs::local(&experiment);
    reads.push(path.to_path_buf());
    let output = |path| OutputFile {
        path,
        inputs: &reads,
        force: arguments.force,
        ours: submit::is_script,
        access: Access::OPEN,
    };
    let results = sweep.folder();
    let own = |path: &PathBuf| no_links(&results, path.strip_prefix(&results).unwrap_or(path));
    if arguments.write {
        let mut paths = files.iter().map(|(path, _)| path);
        paths.try_for_each(|path| own(path).and_then(|()| output(path).check()))?;
    }
    let mut text = String::new();
    for (path, content) in &files {
        if arguments.write {
            own(path)?;
            output(path).write(content.as_bytes())?;
            text.push_str(&format!("wrote {}\n", path.display()));
        } else {
            text.push_str(&format!("==> {} <==\n{content}\n", path.display()));
        }
    }
    let what = match arguments.write {
        true => "start it with",
        false => "nothing was written; with --write, start it with",
    };
    print(&format!("{text}{what}: {}", scripts.start))
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::reading(Path::new("the program's own path"), error))
}

/// The arguments for backend and device as the plan was understood, written out. Ids depend on them, and a node of
/// the cluster may choose another device for `auto`.
fn machine_arguments(plan: &MachinePlan, machine: Machine, resources: &Resources) -> Vec<String> {
    let compute = machine.compute.name();
    let mut arguments: Vec<String> = ["--backend", &machine.backend.to_string(), "--compute", compute]
        .map(String::from)
        .to_vec();
    let plan = plan.settled(machine);
    // With several GPUs, all that a task gets are used.
    if let Some(adapter) = plan.adapter.as_ref().filter(|_| resources.gpus < 2) {
        arguments.extend(["--adapter".to_string(), adapter.clone()]);
    }
    if let Some(memory) = plan.memory {
        // In bytes: the rounded amount that is displayed may be more than was asked for.
        arguments.extend(["--memory".to_string(), format!("{}B", memory.0)]);
    }
    if let Some(scratch) = &plan.scratch {
        arguments.extend(["--scratch".to_string(), scratch.display().to_string()]);
    }
    arguments
}

/// The cells without a good record, each id only once.
fn open_cells(experiment: &Experiment, machine: Machine, inputs: &Inputs, folder: &Path) -> Result<Vec<ScriptCell>> {
    let mut cells: Vec<ScriptCell> = Vec::new();
    for prospect in run::prospects(experiment, machine, inputs, &read_if_any(folder)?, folder) {
        let Some(id) = prospect.id.filter(|_| prospect.state != State::Done) else {
            continue;
        };
        if cells.iter().all(|cell| cell.id != id) {
            let cell = &prospect.cell;
            let method = experiment.method_name(cell);
            cells.push(ScriptCell {
                id,
                label: experiment.describe(cell),
                kind: format!("{}, {method}", experiment.models[cell.model].name),
            });
        }
    }
    Ok(cells)
}

/// Reads a time such as `90m`, `4h` or `2d`; the result is in minutes.
fn minutes(typed: &str) -> std::result::Result<u64, String> {
    scaled(typed, &[('m', 1), ('h', 60), ('d', 24 * 60)], "90m, 4h or 2d")
}

/// Reads a size such as `900M`, `16G` or `1T`; the result is in MiB.
fn mebibytes(typed: &str) -> std::result::Result<u64, String> {
    scaled(typed, &[('M', 1), ('G', 1 << 10), ('T', 1 << 20)], "900M, 16G or 1T")
}

fn scaled(typed: &str, units: &[(char, u64)], examples: &str) -> std::result::Result<u64, String> {
    let value = units.iter().find_map(|(unit, factor)| {
        let count: u64 = typed.strip_suffix(*unit)?.parse().ok()?;
        count.checked_mul(*factor).filter(|value| *value > 0)
    });
    value.ok_or_else(|| format!("write it as {examples}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(
            (minutes("90m"), minutes("4h"), minutes("2d")),
            (Ok(90), Ok(240), Ok(2880))
        );
        assert_eq!((mebibytes("900M"), mebibytes("16G")), (Ok(900), Ok(16384)));
        for wrong in [
            "4",
            "h",
            "0h",
            "-1h",
            "1.5h",
            "4 h",
            "99999999999999999999h",
            "18446744073709551615d",
        ] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }
}
