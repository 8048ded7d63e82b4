//! Copies of records without the parts that scores and comparisons do not need.

use super::fields::{Part, Record, SCHEMA};
use crate::experiment::identity::PruningIdentity;

impl Record {
    /// The same record without these parts, which says so; unchanged if it has none of them. The layers of a model that another
    /// program pruned stay, because tables say how many of them break the pattern.
    pub fn reduced(&self, parts: &[Part]) -> Record {
        let given = self.cell.pruning.as_ref().is_some_and(PruningIdentity::is_checkpoint);
        let mut record = self.clone();
        for part in parts {
            let has = match part {
                Part::Layers => !self.layers.is_empty() && !given,
                Part::Samples => !self.tasks.is_empty(),
            };
            if has && !record.without.contains(part) {
                record.without.push(*part);
                record.schema = SCHEMA;
            }
        }
        record.without.sort();
        if record.without.contains(&Part::Layers) && !record.layers.is_empty() {
            record.widest_inputs = record.widest();
            record.layers.clear();
        }
        record
    }

    /// The number of inputs of the widest of the layers that were pruned; `None` if the record does not tell.
    pub fn widest(&self) -> Option<usize> {
        let widest = self.layers.iter().map(|layer| layer.shape[1]).max();
        widest.or(self.widest_inputs)
    }
}
