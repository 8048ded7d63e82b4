//! The order of an MLP's neurons, which changes nothing of what the MLP computes: the rows of its first layers are moved, and with
//! them the columns of its second layer. So a permutation of the second layer's columns can be part of the weights.

use super::checkpoint::LinearWeights;
use crate::spec::Role;
use ndarray::Axis;

/// How a linear layer changes when the neurons of its block's MLP are put into another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Its rows and the values of its bias are moved.
    Rows,
    /// Its columns are moved.
    Columns,
}

impl Moved {
    /// What happens to the layers of a role; `None` if they stay as they are.
    pub fn of(role: Role) -> Option<Self> {
        match role {
            Role::Gate | Role::Up => Some(Moved::Rows),
            Role::Down => Some(Moved::Columns),
            Role::Fused(_) | Role::Query | Role::Key | Role::Value | Role::Output => None,
        }
    }
}

/// Puts the neurons of an MLP into another order, in one of its block's linear layers: the `j`-th was neuron `order[j]`.
///
/// # Panics
/// The order names a neuron that the layer does not have.
pub fn reorder(linear: &mut LinearWeights, order: &[usize]) {
    match Moved::of(linear.role) {
        Some(Moved::Rows) => {
            linear.weight = linear.weight.select(Axis(0), order);
            linear.bias = linear.bias.as_ref().map(|bias| bias.select(Axis(0), order));
        }
        Some(Moved::Columns) => linear.weight = linear.weight.select(Axis(1), order),
        None => {}
    }
}

/// Whether an order names each of `count` neurons, or columns, once.
pub fn is_order(order: &[usize], count: usize) -> bool {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..count)
}
