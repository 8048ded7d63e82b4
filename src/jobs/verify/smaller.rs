//! A model that lost whole units against its `structure.json`, and against the model it came from.

use super::files;
use super::original::{no_original, unlike};
use super::verdict::Verdict;
use crate::cell::size::{multiply_adds, parameters};
use crate::choices::name;
use crate::error::{Located, Result};
use crate::jobs::factors;
use crate::jobs::structure::{BlockLeft, Factored, Loaders, Size, Structure};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::edit::{BlockEdit, Edit, Edited, LowRank};
use crate::model::export::STRUCTURE;
use crate::model::families::read_spec;
use crate::model::padded::Padded;
use crate::model::source::WeightSource;
use crate::spec::Role;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// Checks the files and the sizes and, if the original is given, every tensor.
pub(super) fn check(folder: &Path, structure: &Structure, against: Option<&Path>, verdict: &mut Verdict) -> Result<()> {
    files::hold(folder, &structure.files, STRUCTURE, verdict)?;
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    recount(&checkpoint, structure, verdict)?;
    let loaders = Loaders::in_folder(folder, checkpoint.spec())?;
    differs("loaders", name(&loaders), name(&structure.loaders), verdict);
    if let Some(said) = &structure.factored {
        check_factors(folder, &checkpoint, said, structure.left.parameters, verdict)?;
    }
    match against {
        Some(path) if verdict.faults.is_empty() => compare(path, &checkpoint, structure, verdict).at(path.display()),
        Some(_) => {
            verdict
                .unchecked
                .push("the weights against the original's, since there are faults already".to_string());
            Ok(())
        }
        None => Ok(()),
    }
}

/// Counts the parameters of the factored form again, and compares what it gives with the dense equivalent.
fn check_factors(folder: &Path, dense: &Checkpoint, said: &Factored, left: u64, verdict: &mut Verdict) -> Result<()> {
    let factored = Checkpoint::open_factored(folder, dense.spec().clone())?;
    let found = factored.factored_parameters().unwrap_or_default();
    if found != said.parameters || found != left {
        verdict.faults.push(format!(
            "{}: has {found} parameters, but {STRUCTURE} says {} there and {left} under `left`",
            said.file, said.parameters
        ));
    }
    differs(
        &format!("{}, bytes", said.file),
        factored.stored_bytes()?,
        said.bytes,
        verdict,
    );
    let different = factors::differences(dense, &factored)?.into_iter();
    let faults = different.map(|name| format!("{name}: is not what {} gives", said.file));
    verdict.faults.extend(faults);
    Ok(())
}

/// Compares what was counted with what the file says.
fn differs<T: PartialEq + Display>(what: &str, found: T, said: T, verdict: &mut Verdict) {
    if found != said {
        let fault = format!("{what}: the model has {found}, but {STRUCTURE} says {said}");
        verdict.faults.push(fault);
    }
}

/// Compares a size that was counted again with what the file says.
fn sizes_differ(whose: &str, checkpoint: &Checkpoint, said: &Size, verdict: &mut Verdict) -> Result<()> {
    let spec = checkpoint.spec();
    for (what, found, said) in [
        ("parameters", parameters(spec), said.parameters),
        ("bytes", checkpoint.stored_bytes()?, said.bytes),
        ("multiply-adds", multiply_adds(spec), said.multiply_adds),
    ] {
        differs(&format!("{whose}{what}"), found, said, verdict);
    }
    Ok(())
}

/// Counts parameters, bytes, multiply-adds, blocks, heads and neurons again.
fn recount(checkpoint: &Checkpoint, structure: &Structure, verdict: &mut Verdict) -> Result<()> {
    sizes_differ("", checkpoint, &structure.after, verdict)?;
    let spec = checkpoint.spec();
    differs("blocks", spec.blocks as u64, structure.blocks.len() as u64, verdict);
    let mut less = false;
    for (index, left) in structure.blocks.iter().enumerate() {
        if index >= spec.blocks || left.branch.is_some() {
            continue;
        }
        let block = spec.block(index);
        for (what, found, said) in [
            ("heads", block.attention.heads, left.heads.len()),
            ("key-value heads", block.attention.kv_heads, left.kv_heads.len()),
            ("neurons", block.neurons(), left.neurons.len()),
        ] {
            // Zeros make up for what a block has less than another.
            match structure.padded && said < found {
                true => less = true,
                false => differs(&format!("block {index}, {what}"), found as u64, said as u64, verdict),
            }
        }
    }
    let narrow = structure
        .blocks
        .iter()
        .any(|left| left.branch.is_some() || !left.ranks.is_empty());
    if structure.padded && !less && !narrow {
        let fault =
            format!("padded: no block has less than the model, but {STRUCTURE} says that zeros make blocks equal");
        verdict.faults.push(fault);
    }
    let (weights, all) = (structure.left.weights, structure.after.parameters);
    if !(weights..=all).contains(&structure.left.parameters) {
        verdict.faults.push(format!(
            "left, parameters: {STRUCTURE} says {}, but {weights} of them are weights of linear layers, and the model has {all}",
            structure.left.parameters
        ));
    }
    Ok(())
}

/// Compares every tensor with the part of the original's that is left, if this is the original.
fn compare(path: &Path, checkpoint: &Checkpoint, structure: &Structure, verdict: &mut Verdict) -> Result<()> {
    let original = Checkpoint::open(path, read_spec(path)?)?;
    let others = unlike(path, &original, &structure.original)?;
    if let Some(fault) = no_original(path, STRUCTURE, &others) {
        verdict.faults.push(fault);
        return Ok(());
    }
    sizes_differ("the original's ", &original, &structure.before, verdict)?;
    let narrow = |left: &BlockLeft| !left.ranks.is_empty() || !left.values.is_empty() || left.branch.is_some();
    if structure.blocks.iter().any(narrow) {
        verdict.unchecked.push(format!(
            "weights against the original's: `{}` changes them on purpose",
            structure.method
        ));
        return Ok(());
    }
    let blocks = structure.blocks.iter().map(|left| BlockEdit {
        block: left.block,
        heads: left.heads.clone(),
        kv_heads: left.kv_heads.clone(),
        neurons: left.neurons.clone(),
        biases: BTreeMap::new(),
        low_rank: LowRank::default(),
    });
    let edit = Edit {
        blocks: blocks.collect(),
    };
    let edited = Edited::new(&original, &edit).at(STRUCTURE)?;
    let weights = edit.counts(original.spec())?.weights;
    differs("weights that are left", weights, structure.left.weights, verdict);
    let removed = 1.0 - weights as f64 / original.spec().prunable() as f64;
    // Ten digits: a number that was written as text may come back as the one beside it.
    if (removed - structure.removed).abs() > 1e-10 {
        let said = structure.removed;
        verdict.faults.push(format!(
            "removed: {removed} of the weights are, but {STRUCTURE} says {said}"
        ));
    }
    let padded = structure.padded.then(|| Padded::new(&edited)).transpose()?;
    let wanted: &dyn WeightSource = match &padded {
        Some(padded) => padded,
        None => &edited,
    };
    let (mut kept, mut identical, mut biases) = (0, 0, 0);
    for index in 0..checkpoint.spec().blocks {
        let (now, before) = (checkpoint.spec().block(index), wanted.spec().block(index));
        for linear in &now.linears {
            let found = checkpoint.linear(index, linear)?;
            let same_role = before.linears.iter().find(|other| other.role == linear.role);
            let Some(expected) = same_role.map(|other| wanted.linear(index, other)).transpose()? else {
                verdict
                    .faults
                    .push(format!("{}: the original has no such layer", found.name));
                continue;
            };
            match found.weight == expected.weight {
                true => kept += 1,
                false => verdict
                    .faults
                    .push(format!("{}: has other weights than the original", found.name)),
            }
            if !same_bias(&found, &expected) {
                // Compensation changes the biases of what writes to the stream.
                match matches!(linear.role, Role::Output | Role::Down) {
                    true => biases += 1,
                    false => verdict
                        .faults
                        .push(format!("{}: has another bias than the original", found.name)),
                }
            }
        }
        let (now, before) = (checkpoint.norms(index)?, wanted.norms(index)?);
        for ((place, now), (_, before)) in now.iter().zip(&before) {
            match now.gain == before.gain && now.bias == before.bias {
                true => identical += 1,
                false => verdict
                    .faults
                    .push(format!("block {index}: norm {place:?} is another than the original's")),
            }
        }
    }
    for (name, _) in checkpoint.spec().outer_tensors().into_iter().flatten() {
        match checkpoint.elements(&name)? == original.elements(&name)? {
            true => identical += 1,
            false => verdict.faults.push(format!("{name}: differs from the original's")),
        }
    }
    if biases > 0 {
        let what = format!(
            "{biases} biases against the original's: `{}` changes them on purpose",
            structure.method
        );
        verdict.unchecked.push(what);
    }
    (verdict.kept, verdict.identical) = (Some(kept), Some(identical));
    Ok(())
}

/// A bias that is not there is one of zeros.
fn same_bias(found: &LinearWeights, expected: &LinearWeights) -> bool {
    match (&found.bias, &expected.bias) {
        (Some(found), Some(expected)) => found == expected,
        (Some(only), None) | (None, Some(only)) => only.iter().all(|value| *value == 0.0),
        (None, None) => true,
    }
}
