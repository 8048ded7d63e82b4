//! `zprune verify`.

use super::display::Display;
use super::streams::{print_lines, width};
use crate::error::Result;
use crate::jobs::verify::{TensorFinding, Verdict, verify};
use crate::report::sheet::{Column, Sheet, SheetCell};
use crate::report::terminal;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `zprune verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Model directory to check
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The model it was made from
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
}

/// Carries out the command `zprune verify`.
pub fn run(arguments: &Verify) -> Result<()> {
    let verdict = verify(&arguments.folder, arguments.against.as_deref(), &Display::new())?;
    print_lines(&text(&verdict))?;
    verdict.check(&arguments.folder)
}

fn text(verdict: &Verdict) -> String {
    let row = |tensor: &TensorFinding| {
        let (outputs, inputs) = tensor.shape;
        let percent = 100.0 * tensor.zeros as f64 / (outputs * inputs) as f64;
        let cells = [
            tensor.tensor.clone(),
            tensor.zeros.to_string(),
            format!("{percent:.3}"),
            tensor.patterns.join(", "),
            format!("{outputs} x {inputs}"),
        ];
        cells.map(SheetCell::plain).to_vec()
    };
    let sheet = Sheet {
        title: String::new(),
        columns: vec![
            Column::words("tensor"),
            Column::numbers("zeros"),
            Column::numbers("%"),
            Column::words("N:M"),
            Column::numbers("shape").aside(),
        ],
        rows: verdict.tensors.iter().map(row).collect(),
        notes: Vec::new(),
    };
    let mut text = format!(
        "{}{:.3} % of the prunable weights are zero; all weights are finite\n",
        terminal::sheet(&sheet, width()),
        100.0 * verdict.sparsity()
    );
    match &verdict.claimed {
        Some(claim) if verdict.faults.is_empty() => text.push_str(&format!("as {claim}\n")),
        Some(claim) => text.push_str(&format!("{claim}\n")),
        None => text.push_str("there is no pruning.json to compare it with\n"),
    }
    if let Some(files) = verdict.files {
        text.push_str(&format!("{files} files are what zprune wrote, by their SHA-256\n"));
    }
    if let Some(kept) = verdict.kept {
        text.push_str(&format!(
            "{kept} pruned tensors: every kept weight is that of the original, bit for bit\n"
        ));
    }
    if let Some(identical) = verdict.identical {
        text.push_str(&format!(
            "{identical} other tensors are those of the original, bit for bit\n"
        ));
    }
    for unchecked in &verdict.unchecked {
        text.push_str(&format!("not checked: {unchecked}\n"));
    }
    text
}
