//! What units cost.

use crate::spec::{BlockSpec, Role};

/// Number of weights that a unit of a block has in its linear layers, without biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// A key-value head with its query heads: their rows of queries, keys and values, and their columns of the output.
    pub group: usize,
    /// A neuron of the MLP: its rows of the first layers, its column of the second.
    pub neuron: usize,
}

impl Cost {
    /// What units of a block cost.
    pub fn of(block: &BlockSpec) -> Self {
        let attention = &block.attention;
        let (mut group, mut neuron) = (0, 0);
        for linear in &block.linears {
            match linear.role {
                Role::Query => group += attention.heads_of_group() * attention.head_dim * linear.inputs,
                Role::Key | Role::Value => group += attention.head_dim * linear.inputs,
                Role::Output => group += attention.heads_of_group() * attention.head_dim * linear.outputs,
                Role::Fused(_) => group += 3 * attention.head_dim * linear.inputs,
                Role::Gate | Role::Up => neuron += linear.inputs,
                Role::Down => neuron += linear.outputs,
            }
        }
        Cost { group, neuron }
    }
}
