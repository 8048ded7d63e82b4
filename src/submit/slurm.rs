//! SLURM: a job array with a task per cell, or per few cells, and a job for the report that starts when all tasks
//! have ended, however they ended.
//!
//! `--requeue` puts a task back when its node fails or it is preempted; what it had recorded stays. `#SBATCH` lines cannot hold
//! every path, so paths are arguments in `submit.sh`.

use super::sweep::{Scripts, Sweep, quoted, text};
use crate::error::Result;
use crate::files::names;

/// SLURM's default limit on the tasks of an array (`MaxArraySize` is 1001, indices start at 0).
const MOST_TASKS: usize = 1001;

pub(super) fn scripts(sweep: &Sweep) -> Result<Scripts> {
    sweep.check()?;
    // Fewer cells than GPUs would leave some idle.
    let least = sweep.cells.len().div_ceil(MOST_TASKS).max(sweep.resources.gpus);
    let chunk = sweep.chunk.unwrap_or(least).max(1);
    let tasks: Vec<String> = sweep
        .cells
        .chunks(chunk)
        .map(|cells| {
            let labels: Vec<&str> = cells.iter().map(|cell| cell.label.as_str()).collect();
            let arguments: Vec<String> = cells.iter().map(|cell| format!("--cell {}", cell.id)).collect();
            // A label is the user's; in a comment it must stay on its line.
            let labels = labels.join("; ").replace(names::is_hidden, " ");
            format!("    '{}' # {labels}\n", arguments.join(" "))
        })
        .collect();
    let resources = &sweep.resources;
    let mut options = vec![format!("--job-name={}", plain(&sweep.name))];
    options.extend(resources.partition.as_ref().map(|it| format!("--partition={it}")));
    let mut array = options.clone();
    array.push(format!("--array=0-{}", tasks.len().saturating_sub(1)));
    array.push("--requeue".to_string());
    // A task that was put back writes on in its log.
    array.push("--open-mode=append".to_string());
    array.push(format!("--cpus-per-task={}", resources.cores.unwrap_or(1)));
    array.extend((resources.gpus > 0).then(|| format!("--gres=gpu:{}", resources.gpus)));
    array.extend(resources.time.map(|it| format!("--time={it}")));
    array.extend(resources.memory.map(|it| format!("--mem={it}M")));
    array.extend(resources.lines.iter().cloned());
    let lines = |options: &[String]| options.iter().map(|it| format!("#SBATCH {it}\n")).collect::<String>();

    let cells = format!(
        "#!/bin/bash\n{}{}\nset -euo pipefail\n{}\ntasks=(\n{})\n\
         # One thread per core of the task.\n\
         export RAYON_NUM_THREADS=\"${{RAYON_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}\"\n\
         # Each word of a task is an argument; they have no spaces. `exec`, so that SLURM's signals reach zprune.\n\
         exec {} ${{tasks[$SLURM_ARRAY_TASK_ID]}}\n",
        sweep.comment(),
        lines(&array),
        sweep.go()?,
        tasks.concat(),
        sweep.run()?
    );
    let report = format!(
        "#!/bin/bash\n{}{}\nset -euo pipefail\n{}\nexec {}\n",
        sweep.comment(),
        lines(&options),
        sweep.go()?,
        sweep.report()?
    );
    let folder = sweep.submit_folder();
    let folder = text(&folder)?;
    // `%` begins a field in the name of a log.
    let logs = format!("{}/logs", folder.replace('%', "%%"));
    let job = |log: &str, script: &str| quoted(&[&format!("--output={logs}/{log}"), &format!("{folder}/{script}")]);
    let submit = format!(
        "#!/bin/bash\n{comment}set -euo pipefail\n{logs_folder}\narray=$(sbatch --parsable {array})\n\
         # The name of the cluster may follow, after a semicolon.\n\
         report=$(sbatch --parsable --dependency=afterany:\"${{array%%;*}}\" {report})\n\
         echo \"array job $array, then report job $report; logs in\" {shown}\n",
        comment = sweep.comment(),
        logs_folder = quoted(&["mkdir", "-p", &format!("{folder}/logs")])?,
        array = job("%A_%a.log", "cells.sbatch")?,
        report = job("report_%j.log", "report.sbatch")?,
        shown = quoted(&[&format!("{folder}/logs")])?,
    );
    Ok(Scripts {
        files: vec![
            ("cells.sbatch", cells),
            ("report.sbatch", report),
            ("submit.sh", submit),
        ],
        start: quoted(&["bash", &format!("{folder}/submit.sh")])?,
    })
}

/// A name without characters that have a meaning in an `#SBATCH` line.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    format!("zprune-{}", name.chars().map(plain).collect::<String>())
}
