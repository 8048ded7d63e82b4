//! What is left of a block's matrices beside whole units: products of narrow matrices, fewer features of values, and a linear branch
//! beside the MLP.
//!
//! No loader knows these. [`LowRank::apply`] writes them into matrices of the usual shapes, which compute the same: products are
//! multiplied out, features of values that are gone are rows and columns of zeros, and the branch becomes neurons ([`Branch`]).
//! [`LowRank::saved`] counts what they have in themselves.

use crate::model::checkpoint::LinearWeights;
use crate::spec::{Activation, AttentionSpec, BlockSpec, Role};
use ndarray::{Array1, Array2, Axis, concatenate, s};
use std::collections::BTreeMap;

/// A matrix as a product of two narrow ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// The one that reads the input, `(rank, inputs)`.
    pub first: Array2<f32>,
    /// The one that writes the output, `(outputs, rank)`.
    pub second: Array2<f32>,
}

impl Factors {
    /// The matrix, `(outputs, inputs)`.
    pub fn product(&self) -> Array2<f32> {
        self.second.dot(&self.first)
    }

    /// Number of weights of both.
    pub fn weights(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn fits(&self, outputs: usize, inputs: usize) -> bool {
        let rank = self.first.nrows();
        rank > 0 && self.first.ncols() == inputs && self.second.dim() == (outputs, rank)
    }
}

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

/// A linear branch beside an MLP, as neurons of the MLP.
///
/// With a gate, a neuron whose gate reads nothing and has a bias of 1 is linear: `f(1) up(x)` for the activation `f`. Without one, two
/// neurons make a linear one: `f(z) - f(-z) = z` for the rectifier, SiLU and GELU.
pub struct Branch<'a> {
    factors: &'a Factors,
    activation: Activation,
    gated: bool,
}

impl<'a> Branch<'a> {
    /// The branch of a block.
    pub fn of(factors: &'a Factors, spec: &BlockSpec) -> Self {
        Branch {
            factors,
            activation: spec.activation,
            gated: spec.linears.iter().any(|linear| linear.role == Role::Gate),
        }
    }

    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.factors.first.nrows() * if self.gated { 1 } else { 2 }
    }

    /// Whether a layer needs a bias.
    pub fn biases(&self, role: Role) -> bool {
        self.gated && role == Role::Gate
    }

    /// Puts the neurons behind those that a layer has.
    pub fn append(&self, weights: &mut LinearWeights) {
        let Factors { first, second } = self.factors;
        let (count, round) = (self.neurons(), |value: f32| weights.storage.round(value));
        let more = match weights.role {
            Role::Gate => Array2::zeros((count, weights.weight.ncols())),
            Role::Up if self.gated => first.mapv(|value| round(value / at_one(self.activation))),
            Role::Up => joined(Axis(0), first, &first.mapv(|value| -value)).mapv(round),
            Role::Down if self.gated => second.mapv(round),
            Role::Down => joined(Axis(1), second, &second.mapv(|value| -value)).mapv(round),
            _ => return,
        };
        let axis = match weights.role {
            Role::Down => Axis(1),
            _ => Axis(0),
        };
        let before = weights.weight.nrows();
        weights.weight = joined(axis, &weights.weight, &more);
        if axis == Axis(0) && (weights.bias.is_some() || self.biases(weights.role)) {
            let value = if self.biases(weights.role) { 1.0 } else { 0.0 };
            let mut bias = Array1::from_elem(before + count, value);
            let own = weights.bias.take().unwrap_or_else(|| Array1::zeros(before));
            bias.slice_mut(s![..before]).assign(&own);
            weights.bias = Some(bias);
        }
    }
}

/// The value of an activation function at 1.
fn at_one(activation: Activation) -> f32 {
    /// `Phi(1)` of the normal distribution.
    const PHI: f64 = 0.841_344_746_068_542_9;
    let value = match activation {
        Activation::Relu => 1.0,
        Activation::Silu => 1.0 / (1.0 + (-1.0f64).exp()),
        Activation::Gelu => PHI,
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * 1.044_715;
            0.5 * (1.0 + inner.tanh())
        }
    };
    value as f32
}

/// Two matrices side by side or one below the other.
fn joined(axis: Axis, a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    concatenate(axis, &[a.view(), b.view()]).expect("matrices of equal width or height")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::cpu::Cpu;
    use crate::model::families::parse_spec;
    use crate::tensor::StorageType;

    fn layer(role: Role, weight: Array2<f32>) -> LinearWeights {
        LinearWeights {
            role,
            name: String::new(),
            weight,
            bias: None,
            storage: StorageType::F32,
            bias_storage: StorageType::F32,
            transposed: false,
        }
    }

    #[test]
    fn neurons_of_a_branch_are_linear() {
        let factors = Factors {
            first: Array2::from_shape_fn((2, 4), |(row, column)| (row + 2 * column) as f32 * 0.3 - 0.7),
            second: Array2::from_shape_fn((3, 2), |(row, column)| row as f32 * 0.5 - column as f32),
        };
        let x = Array2::from_shape_fn((5, 4), |(row, column)| (row * 4 + column) as f32 * 0.21 - 2.0);
        let want = x.dot(&factors.product().t());
        let gated = parse_spec(r#"{"model_type": "llama", "num_hidden_layers": 1}"#).expect("supported");
        let plain = parse_spec(r#"{"model_type": "opt", "num_hidden_layers": 1}"#).expect("supported");
        for spec in [gated.block(0), plain.block(0)] {
            for activation in [
                Activation::Relu,
                Activation::Silu,
                Activation::Gelu,
                Activation::GeluTanh,
            ] {
                let spec = BlockSpec {
                    activation,
                    ..spec.as_ref().clone()
                };
                let branch = Branch::of(&factors, &spec);
                let [mut gate, mut up] = [Role::Gate, Role::Up].map(|role| layer(role, Array2::zeros((1, 4))));
                let mut down = layer(Role::Down, Array2::zeros((3, 1)));
                for layer in [&mut gate, &mut up, &mut down] {
                    branch.append(layer);
                }
                let mut middle = x.dot(&up.weight.t());
                match branch.gated {
                    true => {
                        let gate = x.dot(&gate.weight.t()) + gate.bias.expect("the gate's");
                        Cpu.gate(activation, &gate, &mut middle).expect("computes");
                    }
                    false => Cpu.activate(activation, &mut middle).expect("computes"),
                }
                assert_eq!(middle.ncols(), 1 + branch.neurons());
                let apart = (middle.dot(&down.weight.t()) - &want).mapv(f32::abs);
                let apart = apart.into_iter().fold(0.0, f32::max);
                assert!(apart < 2e-5, "{activation:?}, gated: {}, {apart}", branch.gated);
            }
        }
    }
}
