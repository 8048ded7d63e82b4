//! What is left of a block's matrices beside whole units: products of narrow matrices, fewer features of values, and a linear branch
//! beside the MLP.
//!
//! No loader knows these. [`LowRank::apply`] writes them into matrices of the usual shapes, which compute the same: products are
//! multiplied out, features of values that are gone are rows and columns of zeros, and the branch becomes neurons ([`Branch`]).
//! [`LowRank::saved`] counts what they have in themselves.

use crate::model::checkpoint::LinearWeights;
use crate::model::narrow::{Branch, Factors};
use crate::spec::{AttentionSpec, BlockSpec, Role};
use crate::tensor::StorageType;
use ndarray::{Array2, Axis};
use std::collections::BTreeMap;

/// What is left of a block's matrices beside whole units; everything by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LowRank {
    /// For each key-value head, an orthogonal matrix `U` with a row and a column per feature: its values become `U^T v`, and the
    /// columns of the output that read them `O U`, which changes nothing. Empty if values stay.
    pub basis: Vec<Array2<f64>>,
    /// For each key-value head, the features of its values that are left, after this turn and in ascending order. Empty for all.
    pub values: Vec<Vec<usize>>,
    /// Queries and keys that are products.
    pub factors: BTreeMap<Role, Factors>,
    /// What is added to the MLP's output: a product, applied to the MLP's input.
    pub branch: Option<Factors>,
}

impl LowRank {
    /// Checks that it fits a block.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self, spec: &BlockSpec) -> Result<(), String> {
        let AttentionSpec { kv_heads, head_dim, .. } = spec.attention;
        if *self == LowRank::default() {
            return Ok(());
        }
        let of = |role| spec.linears.iter().find(|linear| linear.role == role);
        if !(self.basis.is_empty() && self.values.is_empty()) && of(Role::Value).is_none() {
            return Err("it has no matrix of values alone, whose features could be turned or left out".to_string());
        }
        if !self.basis.is_empty()
            && (self.basis.len() != kv_heads || self.basis.iter().any(|basis| basis.dim() != (head_dim, head_dim)))
        {
            return Err(format!(
                "values are turned by {kv_heads} matrices of {head_dim} rows and columns"
            ));
        }
        let ascending = |left: &Vec<usize>| {
            left.windows(2).all(|pair| pair[0] < pair[1]) && left.last().is_some_and(|last| *last < head_dim)
        };
        if !self.values.is_empty() && (self.values.len() != kv_heads || !self.values.iter().all(ascending)) {
            return Err(format!(
                "the features of values that are left must be some of {head_dim} for each of {kv_heads} heads, in ascending order"
            ));
        }
        for (role, factors) in &self.factors {
            let fits = |linear: &crate::spec::LinearSpec| factors.fits(linear.outputs, linear.inputs);
            if !matches!(role, Role::Query | Role::Key) || !of(*role).is_some_and(fits) {
                return Err(format!("factors of role {role:?} do not fit"));
            }
        }
        match (&self.branch, of(Role::Up), of(Role::Down)) {
            (None, ..) => Ok(()),
            (Some(branch), Some(up), Some(down)) if branch.fits(down.outputs, up.inputs) => Ok(()),
            _ => Err("the branch beside the MLP does not fit".to_string()),
        }
    }

    /// Changes a layer of the original; it keeps its shape.
    pub fn apply(&self, weights: &mut LinearWeights, attention: &AttentionSpec) {
        let storage = weights.storage;
        if let Some(factors) = self.factors.get(&weights.role) {
            weights.weight = factors.product().mapv(|value| storage.round(value));
        }
        let dim = attention.head_dim;
        let (axis, heads_of_group) = match weights.role {
            Role::Value => (Axis(0), 1),
            Role::Output => (Axis(1), attention.heads_of_group()),
            _ => return,
        };
        for (place, mut head) in weights.weight.axis_chunks_iter_mut(axis, dim).enumerate() {
            if let Some(basis) = self.basis.get(place / heads_of_group) {
                let wide = head.mapv(f64::from);
                let turned = match axis {
                    Axis(0) => basis.t().dot(&wide),
                    _ => wide.dot(basis),
                };
                head.assign(&turned.mapv(|value| storage.round(value as f32)));
            }
            if let Some(left) = self.values.get(place / heads_of_group) {
                for gone in (0..dim).filter(|feature| !left.contains(feature)) {
                    head.index_axis_mut(axis, gone).fill(0.0);
                }
            }
        }
        let (bias_storage, bias) = (weights.bias_storage, weights.bias.as_mut().filter(|_| axis == Axis(0)));
        for (place, mut head) in bias
            .into_iter()
            .flat_map(|bias| bias.axis_chunks_iter_mut(Axis(0), dim))
            .enumerate()
        {
            if let Some(basis) = self.basis.get(place) {
                let turned = basis.t().dot(&head.mapv(f64::from));
                head.assign(&turned.mapv(|value| bias_storage.round(value as f32)));
            }
            if let Some(left) = self.values.get(place) {
                let gone = (0..dim).filter(|feature| !left.contains(feature));
                gone.for_each(|feature| head[feature] = 0.0);
            }
        }
    }

    /// The same with narrow matrices in a type in which they are stored.
    pub fn rounded(&self, storage: StorageType) -> Self {
        let factors = self.factors.iter();
        LowRank {
            factors: factors
                .map(|(role, factors)| (*role, factors.rounded(storage)))
                .collect(),
            branch: self.branch.as_ref().map(|branch| branch.rounded(storage)),
            ..self.clone()
        }
    }

    /// How many weights fewer this has in itself than the matrices of [`LowRank::apply`], and how many values of biases, in a block
    /// of which these key-value heads are left. Negative if it has more.
    pub fn saved(&self, left: &BlockSpec, kv_heads: &[usize]) -> [i64; 2] {
        let (mut weights, mut biases) = (0, 0);
        let gone = |head: &usize| {
            self.values
                .get(*head)
                .map_or(0, |values| left.attention.head_dim - values.len())
        };
        let gone: usize = kv_heads.iter().map(gone).sum();
        for linear in &left.linears {
            let (outputs, inputs) = (linear.outputs as i64, linear.inputs as i64);
            if let Some(factors) = self.factors.get(&linear.role) {
                weights += (outputs - factors.first.nrows() as i64) * inputs - outputs * factors.first.nrows() as i64;
            }
            match linear.role {
                Role::Value => {
                    weights += gone as i64 * inputs;
                    biases += if linear.bias { gone as i64 } else { 0 };
                }
                Role::Output => weights += (gone * left.attention.heads_of_group()) as i64 * outputs,
                _ => {}
            }
        }
        if let Some(branch) = &self.branch {
            let neurons = Branch::of(branch, left).neurons();
            let mlp = left.linears.iter().map(|linear| match linear.role {
                Role::Gate | Role::Up => [linear.inputs * neurons, if linear.bias { neurons } else { 0 }],
                Role::Down => [linear.outputs * neurons, 0],
                _ => [0, 0],
            });
            for [more, bias] in mlp {
                weights += more as i64;
                biases += bias as i64;
            }
            weights -= branch.weights() as i64;
        }
        [weights, biases]
    }
}
