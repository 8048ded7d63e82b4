//! A file with a matrix for every linear layer of a model, under the name and in the shape of its weight: gradients, scores or a
//! mask that another program computed.
//!
//! The file is one of safetensors. Opening it reads the header only; values are read layer by layer.

use crate::error::{Error, Located, Result};
use crate::model::weights::{Location, WeightFiles};
use crate::spec::{LinearSpec, ModelSpec};
use crate::tensor::StorageType;
use ndarray::Array2;
use rayon::prelude::*;
use safetensors::Dtype;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The entry of a file's metadata that says for which weights it was made.
pub const MODEL_WEIGHTS: &str = "model_weights_sha256";

/// What the matrices of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Gradients of the model's loss: finite numbers. The file may have other tensors, too.
    Gradients,
    /// The importance of each weight: finite numbers that are not negative.
    Scores,
    /// Which weights are kept: 1 for those that are, 0 for those that are removed.
    Mask,
}

/// A file whose matrices have the names and the shapes of a model's linear layers.
pub struct LayerFile {
    path: PathBuf,
    spec: ModelSpec,
    content: Content,
    file: WeightFiles,
}

impl Content {
    /// What the matrix of a layer is called in messages.
    fn name(self) -> &'static str {
        match self {
            Content::Gradients => "gradients",
            Content::Scores => "scores",
            Content::Mask => "a mask",
        }
    }

    /// Refuses an element type in which the matrix cannot be read.
    fn check_type(self, dtype: Dtype) -> Result<()> {
        match (self, StorageType::of(dtype), dtype) {
            (Content::Mask, _, Dtype::BOOL | Dtype::U8) => Ok(()),
            (Content::Mask, ..) => Err(Error::input(format!(
                "has type {dtype:?}, and a mask is BOOL or U8: write it as `mask.to(torch.bool)`, or with numpy as \
                 `mask.astype(bool)`"
            ))),
            (_, Some(_), _) => Ok(()),
            _ => Err(Error::input(format!(
                "has type {dtype:?}, and {} are F32, F16 or BF16: write them as `x.float()`, or with numpy as `x.astype(\"float32\")`",
                self.name()
            ))),
        }
    }

    /// The elements of a matrix, from bytes of a type that [`Content::check_type`] allows.
    fn decode(self, dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        match StorageType::of(dtype) {
            // Of scores, -0 is 0.
            Some(storage) => storage.decode(bytes).into_iter().map(|value| value + 0.0).collect(),
            None => bytes.iter().map(|byte| f32::from(*byte)).collect(),
        }
    }

    /// Why a value cannot stand in a matrix, if it cannot.
    fn fault(self, value: f32) -> Option<&'static str> {
        match self {
            _ if !value.is_finite() => Some("and values must be finite"),
            Content::Scores if value < 0.0 => Some(
                "and scores must not be negative, since 0 is what is removed first: take absolute values, or subtract the least",
            ),
            Content::Mask if value != 0.0 && value != 1.0 => {
                Some("and a mask has 1 for what is kept and 0 for what is removed")
            }
            _ => None,
        }
    }
}

impl LayerFile {
    /// Opens a file, and checks that it has a matrix for every linear layer, of its shape and of a type that can be read. Looks at
    /// no values.
    ///
    /// # Errors
    /// The file is missing, truncated or malformed; it lacks a layer, has a tensor that is none, or one of another shape or type.
    pub fn open(path: &Path, spec: &ModelSpec, content: Content) -> Result<Self> {
        let opened = LayerFile {
            path: path.to_path_buf(),
            spec: spec.clone(),
            content,
            file: WeightFiles::one(path)?,
        };
        opened.check_header().at(path.display())?;
        Ok(opened)
    }

    /// As [`LayerFile::open`], and looks through all values.
    ///
    /// # Errors
    /// Also a value that cannot stand in the file, and scores that are all the same; names the tensor.
    pub fn open_whole(path: &Path, spec: &ModelSpec, content: Content) -> Result<Self> {
        let opened = LayerFile::open(path, spec, content)?;
        for (index, linear) in opened.layers() {
            opened.layer(index, &linear)?;
        }
        Ok(opened)
    }

    /// The architecture that the file was opened with.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of the weights of the model that the file says it was made for: the statistics of `zprune export-statistics` have it, and a
    /// program can pass it on.
    pub fn made_for(&self) -> Option<&str> {
        let mut files = self.file.each();
        files
            .find_map(|file| file.metadata.get(MODEL_WEIGHTS))
            .map(String::as_str)
    }

    /// All linear layers, with the blocks that they belong to.
    fn layers(&self) -> impl Iterator<Item = (usize, LinearSpec)> + '_ {
        let blocks = (0..self.spec.blocks).map(|index| (index, self.spec.block(index)));
        blocks.flat_map(|(index, block)| block.linears.iter().map(move |linear| (index, linear.clone())))
    }

    /// The name and the place of a layer's matrix; programs leave the prefix of a model's base out if they have nothing but the base.
    fn find(&self, name: &str) -> Option<(&str, &Location)> {
        let short = name.strip_prefix(self.spec.base_prefix);
        self.file.get(name).or_else(|| self.file.get(short?))
    }

    fn check_header(&self) -> Result<()> {
        let (mut missing, mut used) = (Vec::new(), BTreeSet::new());
        for (index, linear) in self.layers() {
            let name = self.spec.block(index).weight_of(index, &linear);
            let Some((stored, location)) = self.find(&name) else {
                missing.push(name);
                continue;
            };
            used.insert(stored.to_string());
            let shape = linear.stored_shape();
            if location.shape != shape {
                let message = format!("has shape {:?}, and the weight has {shape:?}", location.shape);
                return Err(Error::input(message).at(format_args!("tensor `{name}`")));
            }
            let checked = self.content.check_type(location.dtype);
            checked.at(format_args!("tensor `{name}`"))?;
        }
        if let [first, others @ ..] = &missing[..] {
            return Err(Error::input(format!(
                "tensor `{first}` is missing{}: the file needs {} for every linear layer of the blocks, under the name of its weight",
                and_others(others.len()),
                self.content.name()
            )));
        }
        if self.content == Content::Gradients {
            return Ok(());
        }
        let stored: Vec<&str> = self
            .file
            .each()
            .flat_map(|file| file.tensors)
            .map(|it| it.name)
            .collect();
        let surplus: Vec<&str> = stored.into_iter().filter(|name| !used.contains(*name)).collect();
        match &surplus[..] {
            [] => Ok(()),
            [first, others @ ..] => Err(Error::input(format!(
                "tensor `{first}`{} {} to no linear layer that is pruned: leave out everything that is not the weight of such a layer",
                and_others(others.len()),
                if others.is_empty() { "belongs" } else { "belong" }
            ))),
        }
    }

    /// The matrix of a layer of block `index`, with one row per output and one column per input.
    ///
    /// # Errors
    /// The file cannot be read any more, a value cannot stand in it, or scores are all the same; names the tensor.
    pub fn layer(&self, index: usize, linear: &LinearSpec) -> Result<Array2<f32>> {
        let name = self.spec.block(index).weight_of(index, linear);
        let named = || format!("tensor `{name}`");
        let missing = || Error::input("is missing").at(named()).at(self.path.display());
        let (_, location) = self.find(&name).ok_or_else(missing)?;
        let bytes = self.file.read(location)?;
        let values = self.content.decode(location.dtype, &bytes);
        let wrong = values
            .par_iter()
            .enumerate()
            .find_map_first(|(place, value)| Some((place, *value, self.content.fault(*value)?)));
        let columns = location.shape.last().copied().unwrap_or(1).max(1);
        if let Some((place, value, why)) = wrong {
            let (row, column) = (place / columns, place % columns);
            let message = format!("element [{row}, {column}] is {value}, {why}");
            return Err(Error::input(message).at(named()).at(self.path.display()));
        }
        if let (Content::Scores, [first, others @ ..]) = (self.content, &values[..])
            && !others.is_empty()
            && others.iter().all(|score| score == first)
        {
            let message = format!(
                "all {} scores are {first}, so they cannot rank the weights; check the program that computed them (are the values too \
                 small for their type?)",
                values.len()
            );
            return Err(Error::input(message).at(named()).at(self.path.display()));
        }
        let [rows, columns] = linear.stored_shape();
        let stored = Array2::from_shape_vec((rows, columns), values);
        let stored = stored.map_err(|error| Error::input(error.to_string()).at(named()).at(self.path.display()))?;
        Ok(match linear.transposed {
            true => stored.t().as_standard_layout().into_owned(),
            false => stored,
        })
    }
}

/// What a message says of further tensors.
fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and one more".to_string(),
        count => format!(" and {count} more"),
    }
}
