//! What another program removed: found in its mask, which is held against the pattern that it stands for, or in its checkpoint.

use super::allocator::PlacedLinear;
use super::compared::{Compared, ranks_nothing};
use super::layer::LayerRecord;
use super::mask::Mask;
use super::pattern::{COLUMN_BLOCK, Group, Pattern, sparsity_of};
use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::model::layer_file::LayerFile;
use crate::model::source::WeightSource;
use ndarray::{ArrayView2, s};

/// How far the sparsity of all layers together may be from the pattern's: programs round the number of weights of a layer or of a
/// row in their own ways.
pub const TOLERANCE: f64 = 0.005;

/// The pattern of each linear layer of a model in a mask: of an N:M pattern the same for all, else as many weights as the mask
/// removes.
///
/// # Errors
/// The mask has another pattern, does not remove equally many of every comparison group, or a value of the file is neither 0 nor 1;
/// names the layer and counts.
pub fn patterns(file: &LayerFile, recipe: &Recipe, whole: Pattern) -> Result<Vec<Pattern>> {
    let layers = PlacedLinear::all(file.spec());
    let mut found = Vec::with_capacity(layers.len());
    let (mut gone, mut all) = (0, 0);
    let mut farthest: Option<(f64, String)> = None;
    for layer in &layers {
        let entries = file.layer(layer.block, &layer.spec)?.mapv(|kept| kept == 0.0);
        let mask = Mask::from_entries(entries);
        let (removed, weights) = (mask.removed(), layer.weights());
        let pattern = match whole {
            Pattern::NofM { .. } => whole,
            Pattern::Unstructured { .. } => first_group(&mask, recipe.group),
        };
        if let Err(error) = mask.check(&recipe.target(pattern)) {
            let why = match whole {
                Pattern::NofM { .. } => format!("the mask is not {whole}"),
                Pattern::Unstructured { .. } => {
                    format!(
                        "the mask does not remove the same number of weights from every group `{}`: leave `group` out",
                        recipe.group
                    )
                }
            };
            let message =
                format!("{why}: {error}; in all, {removed} of the {weights} weights of the layer are removed");
            return Err(Error::input(message).at(&layer.tensor).at(file.path().display()));
        }
        let off = (removed as f64 / weights as f64 - whole.sparsity()).abs();
        if farthest.as_ref().is_none_or(|(most, _)| off > *most) {
            farthest = Some((off, format!("{removed} of {weights} in {}", layer.tensor)));
        }
        (gone, all) = (gone + removed, all + weights);
        found.push(pattern);
    }
    let share = gone as f64 / all.max(1) as f64;
    if (share - whole.sparsity()).abs() > TOLERANCE {
        let farthest = farthest.map(|(_, layer)| format!("; farthest from it is {layer}"));
        return Err(Error::input(format!(
            "the mask removes {gone} of {all} weights, which is {:.2} %, but it is used for the pattern {whole}{}: give a mask of this \
             pattern, or, in an experiment, write the pattern of the mask as `pattern`",
            100.0 * share,
            farthest.unwrap_or_default()
        ))
        .at(file.path().display()));
    }
    Ok(found)
}

/// Looks through scores of another program: every value, and whether they rank the weights that are compared with each other.
///
/// # Errors
/// A value cannot be a score, or in some layer the scores of every comparison group are the same; names the layer.
pub fn check_scores(file: &LayerFile, recipe: &Recipe, pattern: Pattern) -> Result<()> {
    let target = recipe.target(pattern);
    for layer in PlacedLinear::all(file.spec()) {
        let scores = file.layer(layer.block, &layer.spec)?;
        let Some(compared) = Compared::of(&target, scores.dim()) else {
            continue;
        };
        let first_row = scores.rows().into_iter().next().map(|row| row.to_vec());
        let first_row = first_row.unwrap_or_default();
        let mut rows = scores.rows().into_iter();
        if !rows.any(|row| compared.apart_in(&row.to_vec(), &first_row)) {
            let error = Error::input(ranks_nothing(&target, "the file"));
            return Err(error.at(&layer.tensor).at(file.path().display()));
        }
    }
    Ok(())
}

/// What is found in each linear layer of a model that another program pruned: its zeros, and the N:M pattern that was asked for
/// where it holds.
///
/// # Errors
/// The weights cannot be read.
pub fn layers(source: &dyn WeightSource, asked: Pattern) -> Result<Vec<LayerRecord>> {
    let each = PlacedLinear::all(source.spec()).into_iter().map(|layer| {
        let weight = source.linear(layer.block, &layer.spec)?.weight;
        let zeros = weight.iter().filter(|weight| **weight == 0.0).count();
        let pattern = match asked {
            Pattern::NofM { keep, of } if outside_groups(weight.view(), keep, of).is_none() => asked,
            _ => Pattern::Unstructured {
                sparsity: sparsity_of(zeros, weight.len()),
            },
        };
        Ok(LayerRecord {
            shape: layer.dim(),
            tensor: layer.tensor,
            pattern: Some(pattern),
            permutation: None,
            folded: false,
            refined: None,
            removed: zeros,
            zeros,
            damping: None,
            compensated: None,
            output_error: None,
        })
    });
    each.collect()
}

/// The first row and column of a group of `of` inputs that has more than `keep` weights; `None` if the N:M pattern holds.
pub fn outside_groups(weight: ArrayView2<f32>, keep: usize, of: usize) -> Option<(usize, usize)> {
    if !weight.ncols().is_multiple_of(of) {
        return Some((0, 0));
    }
    weight.rows().into_iter().enumerate().find_map(|(row, weights)| {
        let mut groups = weights.exact_chunks(of).into_iter().enumerate();
        groups.find_map(|(index, group)| {
            let kept = group.iter().filter(|weight| **weight != 0.0).count();
            (kept > keep).then_some((row, index * of))
        })
    })
}

/// The fraction that the first comparison group of a mask loses.
fn first_group(mask: &Mask, group: Group) -> Pattern {
    let entries = mask.entries();
    let (rows, columns) = match group {
        Group::Row => (1, entries.ncols()),
        Group::ColumnBlock => (entries.nrows(), COLUMN_BLOCK),
        Group::Matrix | Group::RowShare => entries.dim(),
    };
    let part = entries.slice(s![..rows.min(entries.nrows()), ..columns.min(entries.ncols())]);
    let count = part.iter().filter(|removed| **removed).count();
    Pattern::Unstructured {
        sparsity: sparsity_of(count, part.len()),
    }
}
