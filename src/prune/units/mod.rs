//! Whole units: which heads, neurons and blocks of a model are left, so that it becomes smaller and not only sparser.
//!
//! A method looks at the dense model once ([`survey`]), and answers with an [`Edit`](crate::model::edit::Edit).

pub mod drop;
pub mod flap;
pub mod survey;

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
                Role::Query => group += attention.heads / attention.kv_heads * attention.head_dim * linear.inputs,
                Role::Key | Role::Value => group += attention.head_dim * linear.inputs,
                Role::Output => group += attention.heads / attention.kv_heads * attention.head_dim * linear.outputs,
                Role::Fused(_) => group += 3 * attention.head_dim * linear.inputs,
                Role::Gate | Role::Up => neuron += linear.inputs,
                Role::Down => neuron += linear.outputs,
            }
        }
        Cost { group, neuron }
    }
}

/// Indices of all but the `count` lowest scores, in ascending order. Of equal scores the one with the lower index is removed first.
fn without_lowest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut kept = order.split_off(count.min(scores.len()));
    kept.sort_unstable();
    kept
}
