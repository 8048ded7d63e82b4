//! Writing the factored form of a smaller model, beside its dense equivalent.

use super::directory::Others;
use crate::error::Result;
use crate::files::{Access, Staging};
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::edit::{BlockEdit, Edited, LowRank};
use crate::model::export::bias_of;
use crate::model::factored::{FACTORS, Narrow, branch_of, factors_of, places};
use crate::model::source::WeightSource;
use crate::spec::{LinearSpec, Role, SubLayer};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2, Axis};

/// A tensor of a factored form.
struct Piece {
    name: String,
    shape: Vec<usize>,
    what: What,
}

/// What a tensor is.
enum What {
    /// A tensor outside of the blocks, or of a norm, with the number of its block.
    Other(Option<usize>),
    /// One of the two matrices in place of a layer's weight: the first, or the second.
    Factor(usize, Role, bool),
    /// One of the two matrices of a branch.
    Branch(usize, bool),
    /// What is left of a layer's weight.
    Weight(usize, LinearSpec),
    /// What is left of a layer's bias.
    Bias(usize, LinearSpec),
}

/// Whether a model has anything that only a factored form can say.
pub(super) fn is_narrow(edit: &BlockEdit) -> bool {
    let LowRank {
        values,
        factors,
        branch,
        ..
    } = &edit.low_rank;
    !values.is_empty() || !factors.is_empty() || branch.is_some()
}

/// Writes the factored form of a model.
///
/// # Errors
/// A tensor cannot be read, or the disk refuses.
pub(super) fn write(
    edited: &Edited,
    others: Others,
    storage: StorageType,
    staging: &Staging,
    access: Access,
) -> Result<()> {
    let pieces = pieces(edited);
    let mut narrow = Narrow::default();
    for (index, edit) in edited.edit().blocks.iter().enumerate() {
        let values = left_values(edit);
        if !values.is_empty() {
            narrow.values.insert(index, values);
        }
    }
    let listed = pieces
        .iter()
        .map(|piece| (piece.name.as_str(), storage.dtype(), piece.shape.as_slice()));
    let mut file = staging.tensors(FACTORS, listed, &narrow.metadata()?, access)?;
    for piece in &pieces {
        let values = values(edited, piece, others)?;
        file.put(&piece.name, &storage.encode(values.into_iter()))?;
    }
    file.finish()
}

/// Checks that the dense equivalent in the files of `dense` is what the factored form beside it gives; returns the layers that differ.
/// Products are rounded in another way on another processor, so their last digits may differ.
///
/// # Errors
/// A tensor is unusable.
pub(super) fn differences(dense: &Checkpoint, factored: &Checkpoint) -> Result<Vec<String>> {
    let spec = dense.spec();
    let mut different = Vec::new();
    for index in 0..spec.blocks {
        for linear in &spec.block(index).linears {
            let [dense, factored] = [dense.linear(index, linear)?, factored.linear(index, linear)?];
            if !is_close(&dense, &factored) {
                different.push(dense.name);
            }
        }
        for (name, _) in spec.norm_tensors(index) {
            if dense.elements(&name)? != factored.elements(&name)? {
                different.push(name);
            }
        }
    }
    for (name, _) in spec.outer_tensors().into_iter().flatten() {
        if dense.elements(&name)? != factored.elements(&name)? {
            different.push(name);
        }
    }
    Ok(different)
}

fn is_close(dense: &LinearWeights, factored: &LinearWeights) -> bool {
    let most = dense.weight.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let apart = dense.weight.iter().zip(&factored.weight);
    let apart = apart.fold(0.0f32, |apart, (dense, factored)| apart.max((dense - factored).abs()));
    let rounding = match dense.storage {
        StorageType::F32 => 1e-5,
        StorageType::F16 => 1e-3,
        StorageType::BF16 => 8e-3,
    };
    apart <= rounding * most && dense.bias == factored.bias
}

/// For each key-value head that is left, the features of its values that are left; none if all are.
fn left_values(edit: &BlockEdit) -> Vec<Vec<usize>> {
    let of = |head: &usize| edit.low_rank.values.get(*head).cloned();
    edit.kv_heads.iter().filter_map(of).collect()
}

/// The tensors of the factored form, in the order of the dense equivalent's.
fn pieces(edited: &Edited) -> Vec<Piece> {
    let spec = edited.spec();
    let other = |index: Option<usize>| {
        move |(name, shape): (String, Vec<usize>)| Piece {
            name,
            shape,
            what: What::Other(index),
        }
    };
    let [before, after] = spec.outer_tensors();
    let mut pieces: Vec<Piece> = before.into_iter().map(other(None)).collect();
    for index in 0..spec.blocks {
        let (block, edit) = (spec.block(index), &edited.edit().blocks[index]);
        pieces.extend(spec.norm_tensors(index).into_iter().map(other(Some(index))));
        for linear in &block.linears {
            let name = block.weight_of(index, linear);
            if let Some(factors) = edit.low_rank.factors.get(&linear.role) {
                let rank = factors.first.nrows();
                let shapes = [[rank, linear.inputs], [linear.outputs, rank]];
                for ((name, shape), second) in factors_of(&name).into_iter().zip(shapes).zip([false, true]) {
                    pieces.push(Piece {
                        name,
                        shape: shape.to_vec(),
                        what: What::Factor(index, linear.role, second),
                    });
                }
            } else {
                let (rows, columns) = size_left(edited, index, linear);
                pieces.push(Piece {
                    name,
                    shape: vec![rows, columns],
                    what: What::Weight(index, linear.clone()),
                });
            }
            if has_bias(edited, index, linear) {
                let (rows, _) = size_left(edited, index, linear);
                pieces.push(Piece {
                    name: bias_of(&block.weight_of(index, linear)),
                    shape: vec![rows],
                    what: What::Bias(index, linear.clone()),
                });
            }
        }
        if let Some(branch) = &edit.low_rank.branch {
            let shapes = [branch.first.dim(), branch.second.dim()];
            let names = branch_of(&block.prefix_of(index)).into_iter();
            for ((name, (rows, columns)), second) in names.zip(shapes).zip([false, true]) {
                pieces.push(Piece {
                    name,
                    shape: vec![rows, columns],
                    what: What::Branch(index, second),
                });
            }
        }
    }
    pieces.extend(after.into_iter().map(other(None)));
    pieces
}

/// Whether a layer has a bias in itself: the original's, or one that the method gives it.
fn has_bias(edited: &Edited, index: usize, linear: &LinearSpec) -> bool {
    let edit = &edited.edit().blocks[index];
    let before = edited.source().spec().block(edit.block);
    let mut own = before.linears.iter().filter(|own| own.role == linear.role);
    own.any(|own| own.bias) || edit.biases.contains_key(&linear.role)
}

/// Which rows or columns of the dense equivalent's layer the factored form has; `None` for all.
fn left(edited: &Edited, index: usize, role: Role) -> Option<(Axis, Vec<usize>)> {
    let edit = &edited.edit().blocks[index];
    let values = left_values(edit);
    let of_values = places(&values, &edited.spec().block(index).attention, role).filter(|_| !values.is_empty());
    let neurons = || (0..edit.neurons.len()).collect();
    match role {
        Role::Gate | Role::Up if edit.low_rank.branch.is_some() => Some((Axis(0), neurons())),
        Role::Down if edit.low_rank.branch.is_some() => Some((Axis(1), neurons())),
        _ if role.sub_layer() == SubLayer::Attention => of_values,
        _ => None,
    }
}

fn size_left(edited: &Edited, index: usize, linear: &LinearSpec) -> (usize, usize) {
    match left(edited, index, linear.role) {
        Some((Axis(0), places)) => (places.len(), linear.inputs),
        Some((_, places)) => (linear.outputs, places.len()),
        None => (linear.outputs, linear.inputs),
    }
}

/// The elements of a tensor of the factored form.
fn values(edited: &Edited, piece: &Piece, others: Others) -> Result<Vec<f32>> {
    let of = |matrix: &Array2<f32>| matrix.iter().copied().collect();
    Ok(match &piece.what {
        What::Other(index) => others(*index, &piece.name)?,
        What::Factor(index, role, second) => {
            let edit = &edited.edit().blocks[*index];
            let factors = &edit.low_rank.factors[role];
            match second {
                false => of(&factors.first),
                true => {
                    // Rows of heads that are gone are gone.
                    let heads = match role {
                        Role::Query => &edit.heads,
                        _ => &edit.kv_heads,
                    };
                    let dim = edited.spec().block(*index).attention.head_dim;
                    let rows: Vec<usize> = heads.iter().flat_map(|head| head * dim..(head + 1) * dim).collect();
                    of(&factors.second.select(Axis(0), &rows))
                }
            }
        }
        What::Branch(index, second) => {
            let branch = edited.edit().blocks[*index].low_rank.branch.as_ref();
            branch.map_or(Vec::new(), |branch| {
                of(if *second { &branch.second } else { &branch.first })
            })
        }
        What::Weight(index, linear) => {
            let whole = edited.linear(*index, linear)?.weight;
            match left(edited, *index, linear.role) {
                Some((axis, places)) => of(&whole.select(axis, &places)),
                None => of(&whole),
            }
        }
        What::Bias(index, linear) => {
            let whole = edited.linear(*index, linear)?.bias;
            let whole = whole.unwrap_or_else(|| Array1::zeros(linear.outputs));
            match left(edited, *index, linear.role) {
                Some((Axis(0), places)) => whole.select(Axis(0), &places).to_vec(),
                _ => whole.to_vec(),
            }
        }
    })
}
