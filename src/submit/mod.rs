//! Job scripts: a sweep's cells on the engines that clusters already have.
//!
//! Cells are independent and have ids, so an engine needs to know no more than `zprune run X.toml --cell ID`; what is done is
//! known by records, never by the engine. Several jobs write to one results folder, so its file system must lock files. An
//! engine is one file and one line in [`ENGINES`]. Nothing is submitted from here; scripts are text, and the caller writes them.

mod slurm;
mod snakemake;

use crate::error::{Error, Result};
use crate::files::names;
use crate::registry::{Entry, Registry};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The engines by name.
pub const ENGINES: Registry<fn(&Sweep) -> Result<Scripts>> = Registry {
    kind: "engine",
    entries: &[
        Entry {
            name: "slurm",
            summary: "a SLURM job array, one task per cell, and a job that makes the report after it",
            item: slurm::scripts,
        },
        Entry {
            name: "snakemake",
            summary: "a Snakemake workflow, one rule per method, and a rule that makes the report",
            item: snakemake::scripts,
        },
    ],
};

/// A sweep to submit. Paths are absolute.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The experiment's name.
    pub name: String,
    /// The program.
    pub zprune: PathBuf,
    /// The folder it is started in, to which paths in experiments are relative.
    pub directory: PathBuf,
    /// The experiment file.
    pub experiment: PathBuf,
    /// The folder that holds the experiment's results folder.
    pub results: PathBuf,
    /// Arguments that say who computes.
    pub machine: Vec<String>,
    /// The cells to run.
    pub cells: Vec<Cell>,
    /// Cells per task; `None` for as few as the engine's limit on tasks allows.
    pub chunk: Option<usize>,
    /// What a task may use.
    pub resources: Resources,
}

/// A cell to run.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its id.
    pub id: String,
    /// The cell in words.
    pub label: String,
    /// Model and method, which decide what it needs.
    pub kind: String,
}

/// What a task may use; whatever is absent is the engine's default.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Partition or queue of the cluster.
    pub partition: Option<String>,
    /// Minutes for a task.
    pub time: Option<u64>,
    /// Mebibytes of memory for a task.
    pub memory: Option<u64>,
    /// Cores for a task; 1 if absent.
    pub cores: Option<usize>,
    /// Further lines in the engine's own language.
    pub lines: Vec<String>,
}

/// Files for an engine, and how to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    /// Name and content.
    pub files: Vec<(&'static str, String)>,
    /// The command that starts the sweep, from anywhere.
    pub start: String,
}

/// How the comment of every script begins.
const MARK: &str = "# Written by `zprune submit`";

/// Whether a file is a script that was made here.
pub fn is_script(path: &Path) -> bool {
    let beginning = |file: File| {
        let mut bytes = Vec::new();
        file.take(200).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = File::open(path).and_then(beginning).unwrap_or_default();
    // A shell's script names the shell first.
    String::from_utf8_lossy(&bytes)
        .lines()
        .take(2)
        .any(|line| line.starts_with(MARK))
}

impl Sweep {
    /// Refuses what would end a line of a script and begin another.
    fn check(&self) -> Result<()> {
        let resources = &self.resources;
        let partition = resources.partition.iter().map(|it| ("--partition", it));
        let lines = resources.lines.iter().map(|it| ("--line", it));
        let machine = self.machine.iter().map(|it| ("an option of the machine", it));
        for (option, text) in partition.chain(lines).chain(machine) {
            if text.chars().any(names::is_hidden) {
                let message =
                    format!("{option}: {text:?} has line ends or other control characters, which no script can hold");
                return Err(Error::config(message));
            }
        }
        match &resources.partition {
            Some(name) if name.is_empty() || name.contains(char::is_whitespace) => Err(Error::config(format!(
                "--partition: {name:?} is no name of a partition"
            ))),
            _ => Ok(()),
        }
    }

    /// The sweep's own results folder.
    pub fn folder(&self) -> PathBuf {
        self.results.join(&self.name)
    }

    /// Where its scripts go.
    pub fn submit_folder(&self) -> PathBuf {
        self.folder().join("submit")
    }

    /// The command that goes where paths in the experiment are relative to.
    fn go(&self) -> Result<String> {
        quoted(&["cd", text(&self.directory)?])
    }

    /// The command that runs cells, up to and without their ids.
    fn run(&self) -> Result<String> {
        let mut words = vec![text(&self.zprune)?, "run", text(&self.experiment)?];
        words.extend(["--results", text(&self.results)?]);
        words.extend(self.machine.iter().map(String::as_str));
        quoted(&words)
    }

    /// The command that makes the report.
    fn report(&self) -> Result<String> {
        quoted(&[text(&self.zprune)?, "report", text(&self.folder())?])
    }

    /// The first lines of every script, as comments.
    fn comment(&self) -> String {
        format!(
            "{MARK}: {}, {} cells. An id changes with everything that changes its cell's numbers;\n\
             # after a change of the experiment or its files, make this anew.\n",
            self.name,
            self.cells.len()
        )
    }
}

/// Words for a shell.
fn quoted(words: &[&str]) -> Result<String> {
    shlex::try_join(words.iter().copied()).map_err(|error| Error::config(format!("a path or argument: {error}")))
}

/// A path as text without control characters, which no script can hold.
fn text(path: &Path) -> Result<&str> {
    let text = path.to_str().filter(|text| !text.chars().any(names::is_hidden));
    text.ok_or_else(|| {
        Error::config("a job script cannot name this path: it is not UTF-8 or has control characters")
            .at(path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        let words = ["plain", "two words", "it's", "$HOME `x` \"y\" \\z", ""];
        let line = quoted(&words).expect("no control characters");
        assert_eq!(shlex::split(&line).expect("a whole line"), words);
        assert!(text(Path::new("a\nb")).is_err());
    }
}
