//! A sweep as job scripts see it: its cells, what a task may use, and the commands in every script.

use crate::error::{Error, Result};
use crate::files::names;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A sweep whose cells a cluster runs. All paths but that of the experiment are absolute.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Name of the experiment.
    pub name: String,
    /// Path of the zprune program.
    pub zprune: PathBuf,
    /// The folder in which zprune is started.
    pub directory: PathBuf,
    /// Path of the experiment file as it was typed in that folder: the plan shows paths as they follow from it, so that jobs write
    /// the plan that `zprune run` writes.
    pub experiment: PathBuf,
    /// The folder that holds the experiment's results folder.
    pub results: PathBuf,
    /// Command line arguments that say which backend and device to use.
    pub machine: Vec<String>,
    /// The cells that have no good record yet.
    pub cells: Vec<ScriptCell>,
    /// Number of cells per task; `None` for the smallest number that the engine's limit on tasks allows.
    pub chunk: Option<usize>,
    /// What each task may use of the cluster.
    pub resources: Resources,
}

/// A cell that a task is to run.
#[derive(Debug, Clone)]
pub struct ScriptCell {
    /// Id of the cell, passed to `zprune run --cell`.
    pub id: String,
    /// Model, method, pattern and seed in words, for comments in the scripts.
    pub label: String,
    /// Model and method, which decide how much time and memory the cell needs.
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
    /// GPUs for a task; with several, each works on a cell of its own.
    pub gpus: usize,
    /// Further lines in the engine's own language.
    pub lines: Vec<String>,
}

/// The script files for an engine, and how to start them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    /// Name and content of each file.
    pub files: Vec<(&'static str, String)>,
    /// The command that starts the sweep, from any folder.
    pub start: String,
}

/// The text that the comment of every script begins with.
const MARK: &str = "# Written by `zprune submit`";

/// Whether a file is a script that `zprune submit` made.
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
    /// Refuses text that would end a line of a script and begin another one.
    pub(super) fn check(&self) -> Result<()> {
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

    /// The results folder of this sweep.
    pub fn folder(&self) -> PathBuf {
        self.results.join(&self.name)
    }

    /// The folder that the scripts are written to.
    pub fn submit_folder(&self) -> PathBuf {
        self.folder().join("submit")
    }

    /// The command that changes to the folder in which zprune is started.
    pub(super) fn go(&self) -> Result<String> {
        quoted(&["cd", text(&self.directory)?])
    }

    /// The command that runs cells; their ids must be appended.
    pub(super) fn run(&self) -> Result<String> {
        let mut words = vec![text(&self.zprune)?, "run", text(&self.experiment)?];
        words.extend(["--results", text(&self.results)?]);
        words.extend(self.machine.iter().map(String::as_str));
        if self.resources.gpus > 1 {
            words.extend(["--gpus", "all"]);
        }
        quoted(&words)
    }

    /// The command that makes the report after all cells.
    pub(super) fn report(&self) -> Result<String> {
        quoted(&[text(&self.zprune)?, "report", text(&self.folder())?])
    }

    /// The comment at the beginning of every script.
    pub(super) fn comment(&self) -> String {
        format!(
            "{MARK}: {}, {} cells. An id changes with everything that changes its cell's numbers;\n\
             # after a change of the experiment or its files, make this anew.\n",
            self.name,
            self.cells.len()
        )
    }
}

/// Joins words to a command, quoted for a shell.
pub(super) fn quoted(words: &[&str]) -> Result<String> {
    shlex::try_join(words.iter().copied()).map_err(|error| Error::config(format!("a path or argument: {error}")))
}

/// A path as text; paths with control characters are refused, since no script can hold them.
pub(super) fn text(path: &Path) -> Result<&str> {
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
