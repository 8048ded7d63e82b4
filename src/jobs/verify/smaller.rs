//! A model that lost whole units against its `structure.json`, and against the model it came from.

use super::counted::{Counted, Counting};
use super::files;
use super::original::{no_original, unlike};
use super::verdict::Verdict;
use crate::cell::size::{multiply_adds, parameters};
use crate::choices::name;
use crate::error::{Error, Located, Result};
use crate::files::input;
use crate::jobs::factors;
use crate::jobs::structure::{BlockLeft, Factored, Loaders, Size, Structure};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::edit::{BlockEdit, Edit, Edited, LowRank, Masked};
use crate::model::export::{CONFIG, STRUCTURE};
use crate::model::factored::FACTORS;
use crate::model::families::read_spec;
use crate::model::padded::Padded;
use crate::model::source::WeightSource;
use crate::spec::{ModelSpec, Role};
use ndarray::s;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

/// Checks the files and the sizes and, if the original is given, every tensor.
pub(super) fn check(folder: &Path, structure: &Structure, against: Option<&Path>, verdict: &mut Verdict) -> Result<()> {
    files::hold(folder, &structure.files, STRUCTURE, verdict)?;
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let factored = match structure.factored {
        Some(_) if !folder.join(FACTORS).is_file() => {
            let told = |fault: &String| fault.starts_with(FACTORS);
            if !verdict.faults.iter().any(told) {
                let fault = format!("{FACTORS}: is missing, but {STRUCTURE} counts what it has (`factored`)");
                verdict.faults.push(fault);
            }
            let what = format!("what is left, which is counted in {FACTORS}");
            verdict.unchecked.push(what);
            return Ok(());
        }
        Some(_) => Some(Checkpoint::open_factored(folder, checkpoint.spec().clone())?),
        None => None,
    };
    let original = match against {
        Some(path) => original(path, structure, verdict).at(path.display())?,
        None => {
            verdict.unchecked.push(format!(
                "which blocks, heads and neurons of the original are left, and its sizes (`before`): give --against ORIGINAL. What was \
                 removed is counted from the weights here and the sizes that {STRUCTURE} says"
            ));
            None
        }
    };
    recount(&checkpoint, factored.as_ref(), structure, original.as_ref(), verdict)?;
    let loaders = Loaders::in_folder(folder, checkpoint.spec())?;
    differs("loaders", name(&loaders), name(&structure.loaders), verdict);
    differs(
        "families",
        &family_in(folder, checkpoint.spec())?,
        &structure.families[0],
        verdict,
    );
    if let Some((said, factored)) = structure.factored.as_ref().zip(factored.as_ref()) {
        check_factors(&checkpoint, factored, said, structure.left.parameters, verdict)?;
    }
    match original {
        Some(original) if verdict.faults.is_empty() => compare(&original, &checkpoint, structure, verdict),
        Some(_) => {
            verdict
                .unchecked
                .push("the weights against the original's, since there are faults already".to_string());
            Ok(())
        }
        None => Ok(()),
    }
}

/// The original, if it is the one that the file is about; its sizes are counted again.
fn original(path: &Path, structure: &Structure, verdict: &mut Verdict) -> Result<Option<Checkpoint>> {
    let original = Checkpoint::open(path, read_spec(path)?)?;
    let others = unlike(path, &original, &structure.original)?;
    if let Some(fault) = no_original(path, STRUCTURE, &others) {
        verdict.faults.push(fault);
        return Ok(None);
    }
    sizes_differ("before, ", &original, &structure.before, verdict)?;
    differs(
        "families, the original's",
        original.spec().family,
        &structure.families[1],
        verdict,
    );
    Ok(Some(original))
}

/// The family that the folder's configuration names.
fn family_in(folder: &Path, spec: &ModelSpec) -> Result<String> {
    let path = folder.join(CONFIG);
    let text = input::read_text(&path, input::SMALL)?;
    let config: Value = serde_json::from_str(&text).map_err(|error| Error::input(error).at(path.display()))?;
    Ok(config["model_type"].as_str().unwrap_or(spec.family).to_string())
}

/// Counts the parameters of the factored form again, and compares what it gives with the dense equivalent.
fn check_factors(
    dense: &Checkpoint,
    factored: &Checkpoint,
    said: &Factored,
    left: u64,
    verdict: &mut Verdict,
) -> Result<()> {
    differs("factored, file", FACTORS, said.file.as_str(), verdict);
    let found = factored.factored_parameters().unwrap_or_default();
    differs("factored, parameters", found, said.parameters, verdict);
    differs("left, parameters", found, left, verdict);
    differs("factored, bytes", factored.stored_bytes()?, said.bytes, verdict);
    let different = factors::differences(dense, factored)?.into_iter();
    let faults = different.map(|name| format!("{name}: is not what {FACTORS} gives"));
    verdict.faults.extend(faults);
    Ok(())
}

/// Compares what was counted with what the file says.
fn differs<T: PartialEq<S> + Display, S: Display>(what: &str, found: T, said: S, verdict: &mut Verdict) {
    if found != said {
        let fault = format!("{what}: the model has {found}, but {STRUCTURE} says {said}");
        verdict.faults.push(fault);
    }
}

/// Compares a size that was counted again with what the file says.
fn sizes_differ(field: &str, checkpoint: &Checkpoint, said: &Size, verdict: &mut Verdict) -> Result<()> {
    let spec = checkpoint.spec();
    for (what, found, said) in [
        ("parameters", parameters(spec), said.parameters),
        ("bytes", checkpoint.stored_bytes()?, said.bytes),
        ("multiply-adds", multiply_adds(spec), said.multiply_adds),
    ] {
        differs(&format!("{field}{what}"), found, said, verdict);
    }
    Ok(())
}

/// Counts parameters, bytes, multiply-adds, blocks, heads, neurons and narrow matrices again, and from them what is left.
fn recount(
    checkpoint: &Checkpoint,
    factored: Option<&Checkpoint>,
    structure: &Structure,
    original: Option<&Checkpoint>,
    verdict: &mut Verdict,
) -> Result<()> {
    sizes_differ("after, ", checkpoint, &structure.after, verdict)?;
    let spec = checkpoint.spec();
    differs("blocks", spec.blocks, structure.blocks.len(), verdict);
    if !structure.blocks.is_sorted_by(|one, next| one.block < next.block) {
        let fault = format!("blocks: {STRUCTURE} does not name each block of the original once, in ascending order");
        verdict.faults.push(fault);
    }
    if structure.padded && factored.is_some() {
        let fault = format!("factored: with zeros that make blocks equal there is none, but {STRUCTURE} has one");
        verdict.faults.push(fault);
    }
    let counting = Counting {
        checkpoint,
        factored,
        padded: structure.padded,
        narrow: structure.blocks.iter().any(BlockLeft::is_narrow),
        original: original.is_some(),
    };
    let mut counted = Vec::new();
    for (index, said) in structure.blocks.iter().take(spec.blocks).enumerate() {
        let found = counting.block(index, said)?;
        found.compare(index, spec.block(index), said, structure.padded, verdict);
        counted.push(found);
    }
    let less = |(index, found): (usize, &Counted)| found.is_less(spec.block(index), spec.width);
    if structure.padded && !counted.iter().enumerate().any(less) {
        let fault =
            format!("padded: no block has less than the model, but {STRUCTURE} says that zeros make blocks equal");
        verdict.faults.push(fault);
    }
    if counted.len() == spec.blocks {
        check_left(checkpoint, &counted, factored.is_some(), structure, original, verdict)?;
    }
    let compared_without = structure.compared_without_blocks;
    let norms_after_sums = (0..spec.blocks).any(|index| !spec.block(index).norm_first);
    if compared_without && !norms_after_sums {
        let fault =
            "compared_without_blocks: the model has no norms after its sums, for which blocks would be left out";
        verdict.faults.push(fault.to_string());
    }
    Ok(())
}

/// Compares the numbers of weights and parameters that are left, and what was removed, with what was counted in the blocks.
fn check_left(
    checkpoint: &Checkpoint,
    counted: &[Counted],
    factored: bool,
    structure: &Structure,
    original: Option<&Checkpoint>,
    verdict: &mut Verdict,
) -> Result<()> {
    let spec = checkpoint.spec();
    let blocks = counted.iter().enumerate();
    let blocks = blocks.map(|(index, found)| found.left(index, spec.block(index), spec.width));
    let edit = Edit {
        blocks: blocks.collect(),
    };
    let found = match edit.counts(spec) {
        Ok(found) => found,
        // What the weights have is no model that could be left, which the faults of its blocks say.
        Err(_) if !verdict.faults.is_empty() => return Ok(()),
        Err(error) => {
            verdict.faults.push(format!("blocks: {error}"));
            return Ok(());
        }
    };
    differs("left, weights", found.weights, structure.left.weights, verdict);
    if !factored {
        // Biases that are 0 may be the original's or the method's, or only there because one key gives them to several layers.
        let unsure = unsure_biases(checkpoint, counted, &edit, original)?;
        let least = found.parameters - unsure.iter().sum::<u64>();
        let said = structure.left.parameters;
        let mut possible = BTreeSet::from([least]);
        for biases in unsure {
            let more: Vec<u64> = possible.iter().map(|parameters| parameters + biases).collect();
            possible.extend(more);
        }
        if !possible.contains(&said) {
            let possible: Vec<String> = possible.iter().map(u64::to_string).collect();
            differs("left, parameters", possible.join(" or "), said.to_string(), verdict);
        }
    }
    let Size {
        parameters,
        bytes,
        multiply_adds: all,
        ..
    } = structure.before;
    let each = checkpoint.storage(&spec.embedding.tensor)?.bytes() as u64;
    if parameters.checked_mul(each) != Some(bytes) {
        verdict.faults.push(format!(
            "before, bytes: {STRUCTURE} says {bytes}, but {parameters} parameters have {each} bytes each"
        ));
    }
    let outside = multiply_adds(spec) - spec.prunable() as u64;
    let weights = all.saturating_sub(outside);
    let removed = 1.0 - found.weights as f64 / weights as f64;
    // Ten digits: a number that was written as text may come back as the one beside it.
    if (removed - structure.removed).is_nan() || (removed - structure.removed).abs() > 1e-10 {
        verdict.faults.push(format!(
            "removed: {} of {weights} weights are left (`before`, multiply-adds without the head), so that {removed} of them were \
             removed, but {STRUCTURE} says {}",
            found.weights, structure.removed
        ));
    }
    Ok(())
}

/// For each role whose biases are all 0 and which the original is not known to have, the number of their values.
fn unsure_biases(
    checkpoint: &Checkpoint,
    counted: &[Counted],
    edit: &Edit,
    original: Option<&Checkpoint>,
) -> Result<Vec<u64>> {
    let plain = edit.blocks.iter().map(|edit| BlockEdit {
        low_rank: LowRank::default(),
        ..edit.clone()
    });
    let plain = Edit {
        blocks: plain.collect(),
    };
    let left = Edited::new(checkpoint, &plain)?;
    let mut zeros: BTreeMap<Role, u64> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (index, counted) in counted.iter().enumerate() {
        let block = left.spec().block(index);
        for linear in block.linears.iter().filter(|linear| linear.bias) {
            let bias = left.linear(index, linear)?.bias;
            if bias.is_some_and(|bias| bias.iter().any(|value| *value != 0.0)) {
                used.insert(linear.role);
            }
            *zeros.entry(linear.role).or_default() += counted.bias_values(linear.role, linear.outputs) as u64;
        }
    }
    if let Some(original) = original {
        let kinds = original.spec().kinds();
        let own = kinds.flat_map(|(block, _)| block.linears.iter().filter(|linear| linear.bias));
        used.extend(own.map(|linear| linear.role));
    }
    zeros.retain(|role, _| !used.contains(role));
    Ok(zeros.into_values().collect())
}

/// Compares every tensor with the part of the original's that is left.
fn compare(original: &Checkpoint, checkpoint: &Checkpoint, structure: &Structure, verdict: &mut Verdict) -> Result<()> {
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
    let edited = match Edited::new(original, &edit) {
        Ok(edited) => edited,
        Err(error) => {
            verdict
                .faults
                .push(format!("{STRUCTURE}: the original has no such units: {error}"));
            return Ok(());
        }
    };
    let without = Masked::new(original, &edit)?.leaves_out();
    differs(
        "compared_without_blocks",
        without,
        structure.compared_without_blocks,
        verdict,
    );
    // Narrow matrices and what stands beside neurons were counted; the neurons themselves are the original's.
    let narrow = structure.blocks.iter().any(BlockLeft::is_narrow);
    let padded = (structure.padded && !narrow)
        .then(|| Padded::new(&edited))
        .transpose()?;
    let wanted: &dyn WeightSource = match &padded {
        Some(padded) => padded,
        None => &edited,
    };
    let (mut kept, mut identical, mut biases, mut changed) = (0, 0, 0, 0);
    for (index, left) in structure.blocks.iter().enumerate() {
        let (now, before) = (checkpoint.spec().block(index), wanted.spec().block(index));
        for linear in &now.linears {
            let turned = matches!(linear.role, Role::Value | Role::Output);
            if narrow && (turned || left.ranks.contains_key(linear.tensor)) {
                changed += 1;
                continue;
            }
            let mut found = checkpoint.linear(index, linear)?;
            let same_role = before.linears.iter().find(|other| other.role == linear.role);
            let Some(expected) = same_role.map(|other| wanted.linear(index, other)).transpose()? else {
                verdict
                    .faults
                    .push(format!("{}: the original has no such layer", found.name));
                continue;
            };
            if narrow {
                first_of(&mut found, expected.weight.dim());
            }
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
    if changed > 0 {
        let what = format!(
            "weights of {changed} layers of attention against the original's: `{}` changes them on purpose",
            structure.method
        );
        verdict.unchecked.push(what);
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

/// Keeps so many of a layer's first rows and columns.
fn first_of(weights: &mut LinearWeights, (rows, columns): (usize, usize)) {
    let rows = rows.min(weights.weight.nrows());
    let columns = columns.min(weights.weight.ncols());
    weights.weight = weights.weight.slice(s![..rows, ..columns]).to_owned();
    weights.bias = weights.bias.take().map(|bias| bias.slice(s![..rows]).to_owned());
}

/// A bias that is not there is one of zeros.
fn same_bias(found: &LinearWeights, expected: &LinearWeights) -> bool {
    match (&found.bias, &expected.bias) {
        (Some(found), Some(expected)) => found == expected,
        (Some(only), None) | (None, Some(only)) => only.iter().all(|value| *value == 0.0),
        (None, None) => true,
    }
}
