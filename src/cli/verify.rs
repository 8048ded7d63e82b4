//! `zprune verify`.

use super::display::Display;
use super::streams::{print_lines, width};
use crate::error::Result;
use crate::jobs::verify::{TensorFinding, Verdict, verify};
use crate::report::sheet::{Column, Sheet, SheetCell};
use crate::report::terminal;
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `zprune verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Model folder to check
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The model it was made from
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
}

/// Carries out the command `zprune verify`; `all` shows every layer.
pub fn run(arguments: &Verify, all: bool) -> Result<()> {
    let verdict = verify(&arguments.folder, arguments.against.as_deref(), &Display::new())?;
    print_lines(&text(&verdict, &arguments.folder, all))?;
    verdict.check(&arguments.folder)
}

/// The verdict in a line, what was counted, and the layers: all of them, or those with a fault.
fn text(verdict: &Verdict, folder: &Path, all: bool) -> String {
    let folder = folder.display();
    let mut text = match (verdict.faults.len(), &verdict.claimed) {
        (0, Some(claim)) => format!("{folder}: as {claim}\n"),
        (0, None) => format!("{folder}: no fault; there is no pruning.json to compare it with\n"),
        (1, _) => format!("{folder}: 1 fault\n"),
        (faults, _) => format!("{folder}: {faults} faults\n"),
    };
    if let Some(claim) = verdict.claimed.as_ref().filter(|_| !verdict.faults.is_empty()) {
        text.push_str(&format!("{claim}\n"));
    }
    text.push_str(&format!(
        "{:.3} % of the prunable weights are zero; all weights are finite\n",
        100.0 * verdict.sparsity()
    ));
    if let Some(files) = verdict.files {
        text.push_str(&format!("{files} files are what zprune wrote, by their SHA-256\n"));
    }
    if let Some(kept) = verdict.kept.filter(|kept| *kept > 0) {
        text.push_str(&format!(
            "{kept} pruned tensors: every kept weight is that of the original, bit for bit\n"
        ));
    }
    if let Some(identical) = verdict.identical.filter(|identical| *identical > 0) {
        text.push_str(&format!(
            "{identical} other tensors are those of the original, bit for bit\n"
        ));
    }
    for unchecked in &verdict.unchecked {
        text.push_str(&format!("not checked: {unchecked}\n"));
    }
    let faulty = |it: &&TensorFinding| verdict.faults.iter().any(|fault| fault.starts_with(&it.tensor));
    let listed: Vec<&TensorFinding> = verdict.tensors.iter().filter(|it| all || faulty(it)).collect();
    text.push_str(&summary(&verdict.tensors, all));
    if !listed.is_empty() {
        text.push_str(&format!("\n{}", terminal::sheet(&layers(&listed), width())));
    }
    text
}

/// All layers in a line.
fn summary(tensors: &[TensorFinding], verbose: bool) -> String {
    let shares = tensors.iter().map(percent);
    let (least, most) = shares.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), share| {
        (least.min(share), most.max(share))
    });
    let mut text = match tensors.len() {
        0 => return String::new(),
        count if least == most => format!("{count} layers, each with {least:.3} % zeros"),
        count => format!("{count} layers with {least:.3} to {most:.3} % zeros"),
    };
    let Some(first) = tensors.first() else {
        return text;
    };
    let mut everywhere = first.patterns.clone();
    everywhere.retain(|pattern| tensors.iter().all(|it| it.patterns.contains(pattern)));
    let all = everywhere.clone();
    everywhere.retain(|pattern| !all.iter().any(|other| follows(pattern, other)));
    if !everywhere.is_empty() {
        text.push_str(&format!("; the pattern {} in every layer", everywhere.join(" and ")));
    }
    text.push_str(if verbose { "\n" } else { " (-v lists them)\n" });
    text
}

/// Whether every layer that has the N:M pattern `other` has `pattern`, too, because it is the same in larger groups: 4:8 follows from 2:4.
fn follows(pattern: &str, other: &str) -> bool {
    let numbers = |pattern: &str| -> Option<(usize, usize)> {
        let (keep, of) = pattern.split_once(':')?;
        Some((keep.parse().ok()?, of.parse().ok()?))
    };
    match (numbers(pattern), numbers(other)) {
        (Some((keep, of)), Some((less, fewer))) => {
            fewer > 0 && of > fewer && of % fewer == 0 && keep == less * (of / fewer)
        }
        _ => false,
    }
}

/// The share of a tensor's weights that are zero, in percent.
fn percent(tensor: &TensorFinding) -> f64 {
    let (outputs, inputs) = tensor.shape;
    100.0 * tensor.zeros as f64 / (outputs * inputs) as f64
}

fn layers(tensors: &[&TensorFinding]) -> Sheet {
    let row = |tensor: &&TensorFinding| {
        let (outputs, inputs) = tensor.shape;
        let cells = [
            tensor.tensor.clone(),
            tensor.zeros.to_string(),
            format!("{:.3}", percent(tensor)),
            tensor.patterns.join(", "),
            format!("{outputs} x {inputs}"),
        ];
        cells.map(SheetCell::plain).to_vec()
    };
    Sheet {
        title: String::new(),
        columns: vec![
            Column::words("tensor"),
            Column::numbers("zeros"),
            Column::numbers("%"),
            Column::words("N:M"),
            Column::numbers("shape").aside(),
        ],
        rows: tensors.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(tensor: &str, zeros: usize, patterns: &[&str]) -> TensorFinding {
        TensorFinding {
            tensor: tensor.to_string(),
            shape: (4, 4),
            zeros,
            patterns: patterns.iter().map(|it| it.to_string()).collect(),
        }
    }

    #[test]
    fn the_verdict_comes_first_and_only_layers_with_faults_are_listed() {
        let mut verdict = Verdict {
            tensors: vec![
                finding("a.weight", 8, &["2:4", "4:8"]),
                finding("b.weight", 8, &["2:4", "4:8"]),
            ],
            claimed: Some("pruning.json says: wanda, 2:4".to_string()),
            ..Verdict::default()
        };
        let said = text(&verdict, Path::new("out"), false);
        assert!(said.starts_with("out: as pruning.json says: wanda, 2:4\n"), "{said}");
        assert!(
            said.ends_with("2 layers, each with 50.000 % zeros; the pattern 2:4 in every layer (-v lists them)\n"),
            "{said}"
        );
        assert!(!said.contains("a.weight"), "{said}");
        let everything = text(&verdict, Path::new("out"), true);
        assert!(
            everything.contains("a.weight") && everything.contains("b.weight"),
            "{everything}"
        );
        verdict.tensors[1].zeros = 4;
        verdict.faults = vec!["b.weight: 4 of 8 weights are there".to_string()];
        let said = text(&verdict, Path::new("out"), false);
        assert!(said.starts_with("out: 1 fault\n"), "{said}");
        assert!(said.contains("b.weight") && !said.contains("a.weight"), "{said}");
        assert!(said.contains("2 layers with 25.000 to 50.000 % zeros"), "{said}");
    }
}
