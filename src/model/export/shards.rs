//! How the tensors of a checkpoint are shared out among weight files, and the index that says so.

use super::tensors::TensorFile;
use crate::error::Result;
use crate::files::{Access, Staging};
use crate::model::index::{INDEX, reindexed};
use crate::model::weights::SINGLE;
use crate::tensor::StorageType;
use serde_json::Map;
use std::collections::BTreeMap;

/// The tensors of a new checkpoint, all of one type, and the files they go to: one, or as many as keep within a size.
pub struct Shards {
    dtype: StorageType,
    files: Vec<Vec<(String, Vec<usize>)>>,
}

impl Shards {
    /// Shares out tensors in their order. A file that would have more than `limit` bytes ends before its next tensor.
    pub fn new(tensors: impl IntoIterator<Item = (String, Vec<usize>)>, dtype: StorageType, limit: u64) -> Self {
        let mut files: Vec<Vec<(String, Vec<usize>)>> = Vec::new();
        let mut bytes = 0;
        for (name, shape) in tensors {
            let more = elements(&shape) * dtype.bytes() as u64;
            match files.last_mut() {
                Some(file) if bytes + more <= limit => file.push((name, shape)),
                _ => {
                    bytes = 0;
                    files.push(vec![(name, shape)]);
                }
            }
            bytes += more;
        }
        Shards { dtype, files }
    }

    /// Number of files.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Number of elements of all tensors.
    pub fn parameters(&self) -> u64 {
        let tensors = self.files.iter().flatten();
        tensors.map(|(_, shape)| elements(shape)).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.parameters() * self.dtype.bytes() as u64
    }

    fn name(&self, file: usize) -> String {
        match self.files.len() {
            1 => SINGLE.to_string(),
            all => format!("model-{:05}-of-{all:05}.safetensors", file + 1),
        }
    }

    /// Writes the files, and their index where there are several. `bytes` gives a tensor's stored bytes, in the order of the
    /// tensors.
    ///
    /// # Errors
    /// `bytes` fails, or the disk refuses.
    pub fn write(
        &self,
        staging: &Staging,
        access: Access,
        mut bytes: impl FnMut(&str, &[usize]) -> Result<Vec<u8>>,
    ) -> Result<()> {
        if self.files.len() > 1 {
            let mut places = Map::new();
            for (index, file) in self.files.iter().enumerate() {
                places.extend(file.iter().map(|(tensor, _)| (tensor.clone(), self.name(index).into())));
            }
            staging.write(INDEX, reindexed("{}", places, self.bytes())?.as_bytes(), access)?;
        }
        for (index, tensors) in self.files.iter().enumerate() {
            let listed = tensors
                .iter()
                .map(|(tensor, shape)| (tensor.as_str(), self.dtype.dtype(), shape.as_slice()));
            let mut file: TensorFile = staging.tensors(&self.name(index), listed, &BTreeMap::new(), access)?;
            for (tensor, shape) in tensors {
                file.put(tensor, &bytes(tensor, shape)?)?;
            }
            file.finish()?;
        }
        Ok(())
    }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().product::<usize>() as u64
}
