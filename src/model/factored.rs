//! The factored form of a model: a file in which some matrices are narrow.
//!
//! Queries and keys are products of two matrices, values and what reads them lack features, and beside an MLP there may be a linear
//! branch. Only this program reads it. A configuration says the shapes of the dense equivalent: products are multiplied, features that
//! are gone are zeros, and branches are neurons.

use crate::error::{Error, Result};
use crate::spec::{AttentionSpec, Role};
use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file. It is not that of a usual weight file, so that no other program takes it for one and makes up what is not there.
pub const FACTORS: &str = "factors.safetensors";

/// The entry of the file's metadata that says what tensors alone do not.
const NARROW: &str = "zprune.narrow";

/// What the metadata of a factored form say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    /// For blocks whose values lack features: those that are left of each key-value head, in ascending order.
    pub values: BTreeMap<usize, Vec<Vec<usize>>>,
}

impl Narrow {
    /// What a file's metadata say; `None` if it is no factored form.
    ///
    /// # Errors
    /// The entry is not what this program writes.
    pub fn of(metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let read = |text: &String| {
            serde_json::from_str(text)
                .map_err(|error| Error::input(format!("metadata `{NARROW}`: {error}")).caused_by(error))
        };
        metadata.get(NARROW).map(read).transpose()
    }

    /// The metadata of a file.
    ///
    /// # Errors
    /// Never: numbers become text.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let text = serde_json::to_string(self).map_err(Error::input)?;
        Ok(BTreeMap::from([(NARROW.to_string(), text)]))
    }
}

/// The names of the two matrices whose product a weight is: the one that reads the input, and the one that writes the output.
pub fn factors_of(weight: &str) -> [String; 2] {
    let stem = weight.strip_suffix(".weight").unwrap_or(weight);
    [format!("{stem}.first"), format!("{stem}.second")]
}

/// The names of the two matrices of the branch beside the MLP of a block, by the prefix of the block's tensors.
pub fn branch_of(prefix: &str) -> [String; 2] {
    factors_of(&format!("{prefix}mlp.branch"))
}

/// Which rows of values, or columns of the attention's output, the features are that are left; `None` for another layer.
pub fn places(values: &[Vec<usize>], attention: &AttentionSpec, role: Role) -> Option<(Axis, Vec<usize>)> {
    let dim = attention.head_dim;
    let of = |head: usize, group: usize| values.get(group).into_iter().flatten().map(move |it| head * dim + it);
    match role {
        Role::Value => {
            let heads = 0..attention.kv_heads;
            Some((Axis(0), heads.flat_map(|head| of(head, head)).collect()))
        }
        Role::Output => {
            let each = attention.heads_of_group();
            let heads = 0..attention.heads;
            Some((Axis(1), heads.flat_map(|head| of(head, head / each)).collect()))
        }
        _ => None,
    }
}

/// Whether these are features of a block's key-value heads.
pub fn are_features(values: &[Vec<usize>], attention: &AttentionSpec) -> bool {
    let ascending = |left: &Vec<usize>| {
        left.windows(2).all(|pair| pair[0] < pair[1]) && left.last().is_none_or(|last| *last < attention.head_dim)
    };
    values.len() == attention.kv_heads && values.iter().all(ascending)
}

/// A matrix of the shape `(rows, columns)` with these rows or columns, and zeros in all others. `None` if they do not fit.
pub fn spread(narrow: &Array2<f32>, axis: Axis, places: &[usize], shape: (usize, usize)) -> Option<Array2<f32>> {
    let mut whole = Array2::zeros(shape);
    let across = Axis(1 - axis.index());
    if narrow.len_of(axis) != places.len()
        || narrow.len_of(across) != whole.len_of(across)
        || places.iter().any(|place| *place >= whole.len_of(axis))
    {
        return None;
    }
    for (place, part) in places.iter().zip(narrow.axis_iter(axis)) {
        whole.index_axis_mut(axis, *place).assign(&part);
    }
    Some(whole)
}

/// The same for a vector.
pub fn spread_vector(narrow: &Array1<f32>, places: &[usize], length: usize) -> Option<Array1<f32>> {
    let column = narrow.view().insert_axis(Axis(1)).to_owned();
    let whole = spread(&column, Axis(0), places, (length, 1))?;
    Some(whole.remove_axis(Axis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_are_gone_are_zeros() {
        let attention = crate::model::families::parse_spec(
            r#"{"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2}"#,
        );
        let attention = attention.expect("supported").block(0).attention;
        let values = [vec![1], vec![0, 1]];
        let (axis, rows) = places(&values, &attention, Role::Value).expect("values");
        assert_eq!((axis, rows.as_slice()), (Axis(0), &[1, 2, 3][..]));
        let (_, columns) = places(&values, &attention, Role::Output).expect("output");
        assert_eq!(columns, [1, 3, 4, 5, 6, 7]);
        assert!(are_features(&values, &attention));
        assert!(!are_features(&values[..1], &attention));
        assert!(!are_features(&[vec![2], vec![0]], &attention));
        let narrow = Array2::from_shape_fn((3, 2), |(row, column)| (row * 2 + column) as f32 + 1.0);
        let whole = spread(&narrow, axis, &rows, (4, 2)).expect("fits");
        assert_eq!(whole.row(0).sum(), 0.0);
        assert_eq!(whole.select(axis, &rows), narrow);
        assert!(spread(&narrow, axis, &rows[1..], (4, 2)).is_none());
        assert!(spread(&narrow, axis, &rows, (3, 2)).is_none());
        let bias = spread_vector(&Array1::from(vec![1.0, 2.0, 3.0]), &rows, 4).expect("fits");
        assert_eq!(bias.to_vec(), [0.0, 1.0, 2.0, 3.0]);
        let narrow = Narrow {
            values: BTreeMap::from([(1, values.to_vec())]),
        };
        assert_eq!(
            Narrow::of(&narrow.metadata().expect("text")).expect("ours"),
            Some(narrow)
        );
        assert_eq!(Narrow::of(&BTreeMap::new()).expect("nothing"), None);
        let broken = BTreeMap::from([(NARROW.to_string(), "{\"values\": 3}".to_string())]);
        assert!(Narrow::of(&broken).is_err());
    }
}
