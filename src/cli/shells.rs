//! `zprune completions` and `zprune man`: what shells and manuals know of the command line.

use super::streams::{print, printed};
use crate::error::{Error, Result};
use crate::files::{Access, OutputFile, create_folders};
use clap::Command;
use clap_complete::Shell;
use std::io::Write;
use std::path::Path;

/// Prints what makes a shell complete the arguments of the program.
pub(super) fn completions(shell: Shell, mut program: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "zprune", &mut script);
    printed(std::io::stdout().lock().write_all(&script))
}

/// Writes the manual pages of the program and its commands to a folder, and prints their paths.
pub(super) fn manual(folder: &Path, program: Command) -> Result<()> {
    create_folders(folder)?;
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut wrote = vec![page(folder, &program, "zprune")?];
    for command in program.get_subcommands() {
        wrote.push(page(folder, command, &format!("zprune-{}", command.get_name()))?);
    }
    print(&wrote.join("\n"))
}

/// Writes one page; a page of an earlier version is replaced, any other file is not.
fn page(folder: &Path, command: &Command, name: &str) -> Result<String> {
    let path = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    let command = command.clone().version(env!("CARGO_PKG_VERSION"));
    let rendered = clap_mangen::Man::new(command).title(name).render(&mut text);
    rendered.map_err(|error| Error::writing(&path, error))?;
    let file = OutputFile {
        path: &path,
        inputs: &[],
        force: false,
        ours: is_page,
        access: Access::OPEN,
    };
    file.write(&text)?;
    Ok(path.display().to_string())
}

/// Whether a file is a manual page of zprune.
fn is_page(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(".TH zprune")))
}
