//! Snakemake: a rule per model and method, an output file per cell that says that it is done, and a rule for the report.
//!
//! Snakemake's own executors put the rules on a cluster (`--executor slurm`); partition, time and memory are resources
//! under the names those executors use. A job that fails or is killed leaves no output file, so it is run again.

use super::sweep::{ScriptCell, Scripts, Sweep, quoted, text};
use crate::error::{Error, Result};
use crate::files::names;
use std::collections::BTreeMap;

pub(super) fn scripts(sweep: &Sweep) -> Result<Scripts> {
    sweep.check()?;
    if sweep.chunk.is_some_and(|chunk| chunk > 1) {
        let message = "--chunk is for slurm; Snakemake puts jobs together itself: `snakemake --group-components`";
        return Err(Error::config(message));
    }
    let resources = &sweep.resources;
    if resources.gpus > 1 {
        let message = "--gpus: a job of Snakemake runs one cell, which one GPU computes; Snakemake starts as many jobs as there are GPUs \
                       with `--resources gpu=N`";
        return Err(Error::config(message));
    }
    let folder = sweep.submit_folder();
    let folder = text(&folder)?;
    let mut amounts = Vec::new();
    amounts.extend(
        resources
            .partition
            .as_ref()
            .map(|it| format!("slurm_partition={}", python(it))),
    );
    amounts.extend(resources.time.map(|it| format!("runtime={it}")));
    amounts.extend(resources.memory.map(|it| format!("mem_mb={it}")));
    amounts.extend((resources.gpus > 0).then(|| "gpu=1".to_string()));
    amounts.extend(resources.lines.iter().cloned());
    let resources_line = match amounts.is_empty() {
        true => String::new(),
        false => format!("    resources: {}\n", amounts.join(", ")),
    };
    // In order, so that the file is the same for the same sweep.
    let mut kinds: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<&str, Vec<&ScriptCell>> = BTreeMap::new();
    for cell in &sweep.cells {
        if !cells.contains_key(cell.kind.as_str()) {
            kinds.push(&cell.kind);
        }
        cells.entry(&cell.kind).or_default().push(cell);
    }

    let mut file = format!("{}\nCELLS = {{\n", sweep.comment());
    for cell in &sweep.cells {
        file.push_str(&format!("    {}: {},\n", python(&cell.id), python(&cell.label)));
    }
    // With relative names for the files that say what is done, no path can be taken for a wildcard.
    file.push_str(&format!(
        "}}\n\nworkdir: {}\nlocalrules: all, report\n\n\
         rule all:\n    input: \"report.done\"\n\n\
         rule report:\n    input: expand(\"done/{{id}}.done\", id=CELLS)\n    output: touch(\"report.done\")\n    \
         shell: {}\n",
        python(folder),
        python(&braces(&format!("{} && {}", sweep.go()?, sweep.report()?)))
    ));
    let threads = resources.cores.unwrap_or(1);
    for (index, kind) in kinds.iter().enumerate() {
        let ids: Vec<&str> = cells[kind].iter().map(|cell| cell.id.as_str()).collect();
        let command = format!(
            "{} && RAYON_NUM_THREADS={{threads}} {} --cell {{wildcards.id}}",
            braces(&sweep.go()?),
            braces(&sweep.run()?)
        );
        file.push_str(&format!(
            "\n# {}\nrule cells_{index}:\n    output: touch(\"done/{{id}}.done\")\n    \
             wildcard_constraints: id={}\n    params: cell=lambda wildcards: CELLS[wildcards.id]\n    \
             message: \"{{params.cell}}\"\n    threads: {threads}\n{resources_line}    retries: 1\n    shell: {}\n",
            kind.replace(names::is_hidden, " "),
            python(&ids.join("|")),
            python(&command)
        ));
    }
    Ok(Scripts {
        files: vec![("Snakefile", file)],
        start: quoted(&[
            "snakemake",
            "--snakefile",
            &format!("{folder}/Snakefile"),
            "--cores",
            "all",
        ])?,
    })
}

/// The text as a Python string; a JSON string is a valid one.
fn python(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text with its braces doubled, so that Snakemake replaces nothing in it.
fn braces(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
