//! How much the blocks of a cell count in the progress of a sweep: methods differ much in what a block costs.

use crate::experiment::identity::Identity;
use std::collections::BTreeMap;

/// Steps that a block counts as on average.
const USUAL: usize = 100;

/// Steps that a block counts as, by the id of its cell.
pub(crate) struct Weights(BTreeMap<String, usize>);

impl Weights {
    /// The weights of cells that have these operations in all their blocks, of which there are so many.
    pub(crate) fn of<'c>(cells: impl Iterator<Item = (&'c Identity, f64, usize)>) -> Weights {
        Weights::by_id(cells.map(|(identity, operations, blocks)| (identity.id(), operations, blocks)))
    }

    fn by_id(cells: impl Iterator<Item = (String, f64, usize)>) -> Weights {
        let each: Vec<(String, f64)> = cells
            .map(|(id, operations, blocks)| (id, operations / blocks.max(1) as f64))
            .collect();
        let mean = each.iter().map(|(_, operations)| operations).sum::<f64>() / each.len().max(1) as f64;
        let weight = |operations: f64| match mean > 0.0 && mean.is_finite() {
            true => ((USUAL as f64 * operations / mean).round() as usize).max(1),
            false => USUAL,
        };
        Weights(
            each.into_iter()
                .map(|(id, operations)| (id, weight(operations)))
                .collect(),
        )
    }

    /// Steps that a block of the cell with this id counts as.
    pub(crate) fn of_block(&self, id: &str) -> usize {
        self.0.get(id).copied().unwrap_or(USUAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(cells: &[(&str, f64, usize)]) -> Weights {
        Weights::by_id(
            cells
                .iter()
                .map(|(id, operations, blocks)| (id.to_string(), *operations, *blocks)),
        )
    }

    #[test]
    fn a_block_counts_by_its_operations() {
        let some = weights(&[("a", 20.0, 2), ("b", 60.0, 2), ("c", 20.0, 1)]);
        let of = ["a", "b", "c"].map(|id| some.of_block(id));
        assert_eq!(of, [50, 150, 100]);
        assert_eq!(some.of_block("unknown"), USUAL);
        assert_eq!(
            weights(&[("a", 1.0, 1), ("b", 1e9, 1)]).of_block("a"),
            1,
            "never nothing"
        );
    }

    #[test]
    fn without_operations_all_blocks_count_alike() {
        for operations in [0.0, f64::INFINITY] {
            let some = weights(&[("a", operations, 2), ("b", operations, 3)]);
            assert_eq!([some.of_block("a"), some.of_block("b")], [USUAL; 2]);
        }
        assert_eq!(weights(&[]).of_block("a"), USUAL);
    }
}
