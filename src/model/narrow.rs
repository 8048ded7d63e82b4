//! Narrow matrices: a matrix as a product of two, and a linear branch beside an MLP as neurons of the MLP.

use crate::error::{Error, Result};
use crate::spec::{Activation, BlockSpec, Role};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2, Axis, concatenate, s};

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

    /// The same in a type in which it is stored.
    pub fn rounded(&self, storage: StorageType) -> Self {
        let round = |matrix: &Array2<f32>| matrix.mapv(|value| storage.round(value));
        Factors {
            first: round(&self.first),
            second: round(&self.second),
        }
    }

    /// Whether it stands for a matrix of this shape.
    pub fn fits(&self, outputs: usize, inputs: usize) -> bool {
        let rank = self.first.nrows();
        rank > 0 && self.first.ncols() == inputs && self.second.dim() == (outputs, rank)
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
    ///
    /// # Errors
    /// The layer does not read or write what the branch does, or its bias is not as long as it has rows.
    pub fn append(
        &self,
        role: Role,
        weight: &mut Array2<f32>,
        bias: &mut Option<Array1<f32>>,
        storage: StorageType,
    ) -> Result<()> {
        let Factors { first, second } = self.factors;
        let (count, round) = (self.neurons(), |value: f32| storage.round(value));
        let more = match role {
            Role::Gate => Array2::zeros((count, weight.ncols())),
            Role::Up if self.gated => first.mapv(|value| round(value / at_one(self.activation))),
            Role::Up => joined(Axis(0), first, &first.mapv(|value| -value))?.mapv(round),
            Role::Down if self.gated => second.mapv(round),
            Role::Down => joined(Axis(1), second, &second.mapv(|value| -value))?.mapv(round),
            _ => return Ok(()),
        };
        let axis = match role {
            Role::Down => Axis(1),
            _ => Axis(0),
        };
        let before = weight.nrows();
        if bias.as_ref().is_some_and(|bias| bias.len() != before) {
            return Err(Error::input(format!(
                "the bias does not have as many values as the weight has rows, {before}"
            )));
        }
        *weight = joined(axis, weight, &more)?;
        if axis == Axis(0) && (bias.is_some() || self.biases(role)) {
            let value = if self.biases(role) { 1.0 } else { 0.0 };
            let mut all = Array1::from_elem(before + count, value);
            let own = bias.take().unwrap_or_else(|| Array1::zeros(before));
            all.slice_mut(s![..before]).assign(&own);
            *bias = Some(all);
        }
        Ok(())
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
///
/// # Errors
/// They differ in height or in width.
fn joined(axis: Axis, a: &Array2<f32>, b: &Array2<f32>) -> Result<Array2<f32>> {
    concatenate(axis, &[a.view(), b.view()]).map_err(|error| {
        let (a, b) = (a.dim(), b.dim());
        Error::input(format!(
            "a matrix of {} x {} does not fit the branch's {} x {}",
            a.0, a.1, b.0, b.1
        ))
        .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::cpu::Cpu;
    use crate::model::families::parse_spec;

    #[test]
    fn what_does_not_fit_a_branch_is_refused() {
        let factors = Factors {
            first: Array2::zeros((2, 4)),
            second: Array2::zeros((3, 2)),
        };
        let spec = parse_spec(r#"{"model_type": "llama", "num_hidden_layers": 1}"#).expect("supported");
        let branch = Branch::of(&factors, spec.block(0));
        let refused = |role, shape, bias: Option<usize>| {
            let (mut weight, mut bias) = (Array2::zeros(shape), bias.map(Array1::zeros));
            let error = branch.append(role, &mut weight, &mut bias, StorageType::F32);
            error.expect_err("it does not fit").to_string()
        };
        assert!(refused(Role::Up, (1, 5), None).contains("1 x 5 does not fit the branch's 2 x 4"));
        assert!(refused(Role::Down, (4, 1), None).contains("4 x 1 does not fit the branch's 3 x 2"));
        assert!(refused(Role::Gate, (2, 4), Some(3)).contains("as the weight has rows, 2"));
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
                let layer = |role, shape| {
                    let (mut weight, mut bias) = (Array2::zeros(shape), None);
                    branch
                        .append(role, &mut weight, &mut bias, StorageType::F32)
                        .expect("sizes that fit");
                    (weight, bias)
                };
                let (gate, gate_bias) = layer(Role::Gate, (1, 4));
                let (up, _) = layer(Role::Up, (1, 4));
                let (down, _) = layer(Role::Down, (3, 1));
                let mut middle = x.dot(&up.t());
                match branch.gated {
                    true => {
                        let gate = x.dot(&gate.t()) + gate_bias.expect("the gate's");
                        Cpu.gate(activation, &gate, &mut middle).expect("computes");
                    }
                    false => Cpu.activate(activation, &mut middle).expect("computes"),
                }
                assert_eq!(middle.ncols(), 1 + branch.neurons());
                let apart = (middle.dot(&down.t()) - &want).mapv(f32::abs);
                let apart = apart.into_iter().fold(0.0, f32::max);
                assert!(apart < 2e-5, "{activation:?}, gated: {}, {apart}", branch.gated);
            }
        }
    }
}
