//! Whether weights that another program left can have been made from those of a model. Names and shapes do not tell: two models of one
//! architecture have the same.

use crate::error::{Error, Result};
use crate::model::layer_file::LayerFile;
use crate::model::source::WeightSource;
use ndarray::{ArrayView2, Zip};
use std::collections::BTreeSet;

/// Pruned weights have at least this correlation with the model's in some layer, however they were updated. Of two models that were trained
/// apart, the layers of `models/tiny-llama` and `models/tiny-llama-books`, none had more than 0.07.
const LEAST_CORRELATION: f64 = 0.2;

/// How much larger removed weights are on average where a mask is likely to be turned round. Masks that have nothing to do with the
/// weights have about 1.
const TURNED_ROUND: f64 = 1.2;

/// Checks that a checkpoint was made from a model: that the weights it kept resemble the model's in some layer of its first, its middle or
/// its last block.
///
/// # Errors
/// They do in none; names the layer that comes nearest.
pub fn check_lineage(model: &dyn WeightSource, pruned: &dyn WeightSource) -> Result<()> {
    let mut nearest: Option<(f64, String)> = None;
    for index in looked_at(model) {
        let block = model.spec().block(index);
        let theirs = &pruned.spec().block(index).linears;
        for (own, their) in block.linears.iter().zip(theirs) {
            let (dense, kept) = (model.linear(index, own)?.weight, pruned.linear(index, their)?.weight);
            let Some(found) = correlation(dense.view(), kept.view()) else {
                continue;
            };
            if found >= LEAST_CORRELATION {
                return Ok(());
            }
            if nearest.as_ref().is_none_or(|(most, _)| found > *most) {
                nearest = Some((found, block.weight_of(index, own)));
            }
        }
    }
    let Some((found, tensor)) = nearest else {
        return Ok(());
    };
    Err(Error::input(format!(
        "tensor `{tensor}`: the weights that are kept have nothing in common with the model's (correlation {found:.2}, and no more in any \
         other layer of the first, the middle and the last block): the checkpoint seems to be made from another model. If it was made \
         from this one and then trained so long that its weights are quite different, write `retrained = true`"
    )))
}

/// How many times as large as the weights that it keeps those are that a mask removes, on average: in the layer where that is least, of all
/// layers of the first, the middle and the last block. `None` if it is not so much that 0 and 1 seem to be exchanged in the mask.
///
/// # Errors
/// Weights or mask cannot be read.
pub fn turned_round(model: &dyn WeightSource, mask: &LayerFile) -> Result<Option<f64>> {
    let mut smallest = f64::INFINITY;
    for index in looked_at(model) {
        for linear in &model.spec().block(index).linears {
            let (weight, mask) = (model.linear(index, linear)?.weight, mask.layer(index, linear)?);
            let ([mut kept, mut removed], [mut kept_count, mut removed_count]) = ([0.0; 2], [0u64; 2]);
            Zip::from(&weight).and(&mask).for_each(|weight, mask| {
                let size = f64::from(weight.abs());
                match *mask == 0.0 {
                    true => (removed, removed_count) = (removed + size, removed_count + 1),
                    false => (kept, kept_count) = (kept + size, kept_count + 1),
                }
            });
            if kept > 0.0 && removed_count > 0 {
                smallest = smallest.min((removed / removed_count as f64) / (kept / kept_count as f64));
            }
        }
    }
    Ok((smallest.is_finite() && smallest > TURNED_ROUND).then_some(smallest))
}

/// The blocks that are looked at: the first, the middle and the last one.
fn looked_at(model: &dyn WeightSource) -> BTreeSet<usize> {
    let blocks = model.spec().blocks;
    [0, blocks / 2, blocks.saturating_sub(1)]
        .into_iter()
        .filter(|index| *index < blocks)
        .collect()
}

/// The correlation of weights that are kept with the model's (the cosine of the angle between them); none if nothing is kept.
fn correlation(dense: ArrayView2<f32>, kept: ArrayView2<f32>) -> Option<f64> {
    let (mut product, mut ours, mut theirs) = (0.0, 0.0, 0.0);
    Zip::from(dense).and(kept).for_each(|dense, kept| {
        if *kept != 0.0 {
            let (dense, kept) = (f64::from(*dense), f64::from(*kept));
            product += dense * kept;
            ours += dense * dense;
            theirs += kept * kept;
        }
    });
    let scale = (ours * theirs).sqrt();
    (scale > 0.0).then(|| product / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::Checkpoint;
    use crate::model::families::read_spec;
    use std::path::Path;

    fn model(name: &str) -> Checkpoint {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
        let spec = read_spec(&folder).expect("a model of the repository");
        Checkpoint::open(&folder, spec).expect("a model of the repository")
    }

    #[test]
    fn two_models_that_were_trained_apart_are_told_apart() {
        let (model, other) = (model("tiny-llama"), model("tiny-llama-books"));
        check_lineage(&model, &model).expect("the same");
        let error = check_lineage(&model, &other).expect_err("another model").to_string();
        assert!(error.contains("correlation 0.0"), "{error}");
        assert!(error.contains("tensor `model.layers."), "{error}");
    }

    #[test]
    fn weights_that_were_updated_or_rounded_keep_their_correlation() {
        let dense = ndarray::arr2(&[[1.0f32, -2.0, 3.0, 0.5]]);
        assert_eq!(correlation(dense.view(), dense.view()), Some(1.0));
        let updated = ndarray::arr2(&[[0.0f32, -3.0, 3.5, 0.0]]);
        assert!(correlation(dense.view(), updated.view()) > Some(0.9));
        assert_eq!(correlation(dense.view(), ndarray::Array2::zeros((1, 4)).view()), None);
    }
}
