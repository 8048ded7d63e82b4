//! `zprune submit`: scripts for a cluster, shown or written.

use super::streams::print;
use super::sweep::Target;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::{self, Inputs};
use crate::experiment::machine::{Machine, MachinePlan};
use crate::experiment::plan::Experiment;
use crate::experiment::resolve;
use crate::files::{Access, OutputFile, no_links};
use crate::record::read_if_any;
use crate::run::{self, State};
use crate::submit::{self, Cell, ENGINES, Resources, Sweep};
use std::path::{Path, PathBuf};

/// Arguments of `zprune submit`.
#[derive(Debug, clap::Args)]
pub(super) struct Submit {
    #[command(flatten)]
    target: Target,
    /// What will run the cells: slurm or snakemake
    #[arg(long, value_name = "NAME")]
    engine: String,
    /// Write the scripts to <results>/<name>/submit instead of showing them
    #[arg(long)]
    write: bool,
    /// Replace files there that are no earlier scripts
    #[arg(long, requires = "write")]
    force: bool,
    /// Cells per task of a job array [default: one, or as many as keep the array within 1001 tasks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunk: Option<u32>,
    #[command(flatten)]
    resources: Resources,
}

pub(super) fn run(arguments: &Submit) -> Result<()> {
    let engine = ENGINES.find(&arguments.engine)?.item;
    let Target {
        experiment: path,
        results,
        machine,
    } = &arguments.target;
    let experiment = resolve::read_for(path, machine)?;
    let machine = experiment.machine_foreseen().at(path.display())?.machine;
    let inputs = Inputs::inspect(&experiment)?;
    inputs.require_all()?;
    let here = std::env::current_dir().map_err(|error| Error::reading(Path::new("."), error))?;
    let sweep = Sweep {
        name: experiment.name.clone(),
        zprune: program()?,
        experiment: here.join(path),
        results: here.join(results),
        machine: machine_arguments(&experiment.machine, machine),
        cells: open_cells(&experiment, machine, &inputs, &results.join(&experiment.name))?,
        directory: here,
        chunk: arguments.chunk.map(|chunk| chunk as usize),
        resources: arguments.resources.clone(),
    };
    if sweep.cells.is_empty() {
        return print(&format!("{}: all cells have results; nothing to submit", sweep.name));
    }
    let scripts = engine(&sweep)?;
    let folder = sweep.submit_folder();
    let files = scripts.files.iter().map(|(name, content)| (folder.join(name), content));
    let files: Vec<(PathBuf, &String)> = files.collect();
    let mut reads = inputs::local(&experiment);
    reads.push(sweep.experiment.clone());
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

/// What the plan was understood to ask for, written out: ids depend on it, and a node may answer `auto` otherwise.
fn machine_arguments(plan: &MachinePlan, machine: Machine) -> Vec<String> {
    let compute = machine.compute.name();
    let mut arguments: Vec<String> = ["--backend", &machine.backend.to_string(), "--compute", compute]
        .map(String::from)
        .to_vec();
    let plan = plan.settled(machine);
    if let Some(adapter) = &plan.adapter {
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

/// The cells without a good record, each id once.
fn open_cells(experiment: &Experiment, machine: Machine, inputs: &Inputs, folder: &Path) -> Result<Vec<Cell>> {
    let mut cells: Vec<Cell> = Vec::new();
    for prospect in run::prospects(experiment, machine, inputs, &read_if_any(folder)?, folder) {
        let Some(id) = prospect.id.filter(|_| prospect.state != State::Done) else {
            continue;
        };
        if cells.iter().all(|cell| cell.id != id) {
            let cell = &prospect.cell;
            let method = experiment.method_name(cell);
            cells.push(Cell {
                id,
                label: experiment.describe(cell),
                kind: format!("{}, {method}", experiment.models[cell.model].name),
            });
        }
    }
    Ok(cells)
}
