//! Models from which whole units were removed: attention heads, key-value groups, neurons, whole attentions or MLPs, and blocks.
//!
//! An [`Edit`] says what is left. [`Edited`] is a source of weights that gives the smaller model, [`Masked`] one that gives a model
//! of the original's shape in which everything that was removed is 0, [`Padded`](super::padded::Padded) one whose blocks have equal
//! sizes, with zeros where one has less than another: the three compute the same. What is no whole unit ([`LowRank`]) is written into
//! matrices of usual shapes in all of them.

mod low_rank;

use crate::error::{Error, Result};
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::families::with_biases;
use crate::model::narrow::Branch;
pub use crate::model::narrow::Factors;
use crate::model::source::WeightSource;
use crate::spec::{AttentionSpec, BlockSpec, LinearSpec, ModelSpec, NormPlace, NormSpec, Role, Shapes, SubLayer};
use crate::tensor::StorageType;
pub use low_rank::LowRank;
use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is left of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The blocks that are left, in their order.
    pub blocks: Vec<BlockEdit>,
}

/// What is left of one block. All lists have the original's numbers, in ascending order. Without heads, or without neurons, the whole
/// attention or the whole MLP is removed, with its biases.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockEdit {
    /// The block's number in the original.
    pub block: usize,
    /// The query heads that are left.
    pub heads: Vec<usize>,
    /// The key-value heads that are left.
    pub kv_heads: Vec<usize>,
    /// The MLP's neurons that are left.
    pub neurons: Vec<usize>,
    /// New biases of layers that write to the stream, by role.
    pub biases: BTreeMap<Role, Array1<f32>>,
    /// What is left of matrices beside whole units.
    pub low_rank: LowRank,
}

impl BlockEdit {
    /// Everything of a block.
    pub fn whole(block: usize, spec: &BlockSpec) -> Self {
        BlockEdit {
            block,
            heads: (0..spec.attention.heads).collect(),
            kv_heads: (0..spec.attention.kv_heads).collect(),
            neurons: (0..spec.neurons()).collect(),
            biases: BTreeMap::new(),
            low_rank: LowRank::default(),
        }
    }

    /// Keeps these key-value heads, with all their query heads.
    pub fn keep_groups(&mut self, groups: &[usize], spec: &BlockSpec) {
        let each = spec.attention.heads_of_group();
        self.kv_heads = groups.to_vec();
        self.heads = groups
            .iter()
            .flat_map(|group| group * each..(group + 1) * each)
            .collect();
    }

    /// Removes the whole attention or the whole MLP.
    pub fn remove(&mut self, part: SubLayer) {
        match part {
            SubLayer::Attention => {
                self.heads.clear();
                self.kv_heads.clear();
            }
            SubLayer::Mlp => self.neurons.clear(),
        }
    }

    /// Whether anything of the attention or of the MLP is left.
    pub fn has(&self, part: SubLayer) -> bool {
        match part {
            SubLayer::Attention => !self.heads.is_empty(),
            SubLayer::Mlp => !self.neurons.is_empty(),
        }
    }

    /// Which rows or columns of a layer are left; `None` for all.
    fn kept(&self, role: Role, before: &AttentionSpec) -> Option<(Axis, Vec<usize>)> {
        let dim = before.head_dim;
        let features = |heads: &[usize]| -> Vec<usize> {
            let of = |head: &usize| head * dim..(head + 1) * dim;
            heads.iter().flat_map(of).collect()
        };
        match role {
            Role::Query => Some((Axis(0), features(&self.heads))),
            Role::Key | Role::Value => Some((Axis(0), features(&self.kv_heads))),
            Role::Output => Some((Axis(1), features(&self.heads))),
            Role::Gate | Role::Up => Some((Axis(0), self.neurons.clone())),
            Role::Down => Some((Axis(1), self.neurons.clone())),
            Role::Fused(fusion) => {
                let head = |row: &usize| fusion.feature_of(*row, before) / dim;
                let rows = 0..3 * before.heads * dim;
                let kept = rows.filter(|row| self.heads.binary_search(&head(row)).is_ok());
                Some((Axis(0), kept.collect()))
            }
        }
    }

    /// The neurons that the branch beside the MLP becomes.
    fn branch(&self, spec: &BlockSpec) -> Option<Branch<'_>> {
        let branch = self.low_rank.branch.as_ref();
        branch.map(|branch| Branch::of(branch, spec))
    }

    fn check(&self, spec: &BlockSpec) -> Result<()> {
        let wrong = |why: String| Err(Error::config(format!("block {}: {why}", self.block)));
        let attention = &spec.attention;
        for (what, kept, count) in [
            ("heads", &self.heads, attention.heads),
            ("key-value heads", &self.kv_heads, attention.kv_heads),
            ("neurons", &self.neurons, spec.neurons()),
        ] {
            let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || kept.last().is_some_and(|last| *last >= count) {
                return wrong(format!(
                    "the {what} that are left must be some of {count}, in ascending order"
                ));
            }
        }
        if !SubLayer::ALL.into_iter().any(|part| self.has(part)) {
            return wrong("no head and no neuron is left; leave the block out".to_string());
        }
        // Whoever loads the model finds the key-value head of a query head by division.
        let (left, groups) = (self.heads.len(), self.kv_heads.len());
        let before = attention.heads_of_group();
        let read = |(place, head): (usize, &usize)| self.kv_heads[place / (left / groups)] == head / before;
        let shared_out = match groups {
            0 => left == 0,
            _ => left >= groups && left.is_multiple_of(groups) && self.heads.iter().enumerate().all(read),
        };
        if !shared_out {
            return wrong(format!(
                "{left} query heads do not share out among {groups} key-value heads as before"
            ));
        }
        if let Err(why) = self.low_rank.check(spec) {
            return wrong(why);
        }
        if self.low_rank.branch.is_some() && !self.has(SubLayer::Mlp) {
            return wrong("there is no MLP for a branch to be beside".to_string());
        }
        for (role, bias) in &self.biases {
            match spec.linears.iter().find(|linear| linear.role == *role) {
                Some(linear)
                    if matches!(role, Role::Output | Role::Down)
                        && linear.outputs == bias.len()
                        && self.has(role.sub_layer()) => {}
                _ => return wrong(format!("a bias of {} values does not fit role {role:?}", bias.len())),
            }
        }
        Ok(())
    }

    /// What is left of the block's specification.
    fn applied(&self, spec: &BlockSpec) -> BlockSpec {
        let mut block = spec.clone();
        (block.attention.heads, block.attention.kv_heads) = (self.heads.len(), self.kv_heads.len());
        for linear in &mut block.linears {
            match self.kept(linear.role, &spec.attention) {
                Some((Axis(0), kept)) => linear.outputs = kept.len(),
                Some((_, kept)) => linear.inputs = kept.len(),
                None => {}
            }
            linear.bias |= self.biases.contains_key(&linear.role);
        }
        if let Some(branch) = self.branch(spec) {
            for linear in &mut block.linears {
                match linear.role {
                    Role::Gate | Role::Up => linear.outputs += branch.neurons(),
                    Role::Down => linear.inputs += branch.neurons(),
                    _ => {}
                }
                linear.bias |= branch.biases(linear.role);
            }
        }
        let gone = SubLayer::ALL.into_iter().filter(|part| !self.has(*part));
        gone.fold(block, |block, part| block.without(part))
    }
}

impl Edit {
    /// Everything of a model.
    pub fn whole(spec: &ModelSpec) -> Self {
        let blocks = (0..spec.blocks).map(|index| BlockEdit::whole(index, spec.block(index)));
        Edit {
            blocks: blocks.collect(),
        }
    }

    /// The same with narrow matrices in a type in which they are stored.
    pub fn rounded(mut self, storage: StorageType) -> Self {
        for edit in &mut self.blocks {
            edit.low_rank = edit.low_rank.rounded(storage);
        }
        self
    }

    /// What the model becomes.
    ///
    /// # Errors
    /// Blocks or units are not in ascending order or not the model's, nothing is left of a block, or query heads do not share out
    /// among key-value heads.
    pub fn applied(&self, spec: &ModelSpec) -> Result<ModelSpec> {
        let ascending = self.blocks.windows(2).all(|pair| pair[0].block < pair[1].block);
        let Some(first) = self.blocks.first().filter(|_| ascending) else {
            return Err(Error::config(
                "the blocks that are left must be at least one, in ascending order",
            ));
        };
        if let Some(last) = self.blocks.last().filter(|last| last.block >= spec.blocks) {
            return Err(Error::config(format!(
                "block {} is not one of {}",
                last.block, spec.blocks
            )));
        }
        self.blocks
            .iter()
            .try_for_each(|edit| edit.check(spec.block(edit.block)))?;
        let shape = |edit: &BlockEdit| edit.applied(spec.block(edit.block));
        let mut applied = ModelSpec {
            blocks: self.blocks.len(),
            shapes: Shapes::from(shape(first)),
            ..spec.clone()
        };
        for (index, edit) in self.blocks.iter().enumerate().skip(1) {
            applied.set_block(index, shape(edit));
        }
        if self.blocks.len() < spec.blocks && spec.reaches.len() > 1 {
            applied.reaches = self.blocks.iter().map(|edit| spec.reach(edit.block)).collect();
        }
        Ok(applied)
    }

    /// What the model has that is left.
    ///
    /// # Errors
    /// As [`Edit::applied`].
    pub fn counts(&self, spec: &ModelSpec) -> Result<Counts> {
        let left = self.applied(spec)?;
        let parameters: usize = left.tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let [mut saved, mut biases] = [0, 0];
        for (index, edit) in self.blocks.iter().enumerate() {
            let [more, bias] = edit.low_rank.saved(left.block(index), &edit.kv_heads);
            (saved, biases) = (saved + more, biases + bias);
            // A bias that only the branch's neurons need is none that the model has in itself.
            let own = spec.block(edit.block).linears.iter();
            let added = own.filter(|linear| {
                !linear.bias && edit.branch(left.block(index)).is_some_and(|it| it.biases(linear.role))
            });
            biases += (added.count() * edit.neurons.len()) as i64;
        }
        Ok(Counts {
            parameters: (parameters as i64 - saved - biases) as u64,
            weights: (left.prunable() as i64 - saved) as u64,
        })
    }
}

/// What a model has in itself: whole units, and narrow matrices as they are and not multiplied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of parameters of the model.
    pub parameters: u64,
    /// Number of weights of the blocks' linear layers.
    pub weights: u64,
}

/// The smaller model, made from the original when its weights are asked for.
pub struct Edited<'a> {
    source: &'a dyn WeightSource,
    edit: &'a Edit,
    spec: ModelSpec,
}

impl<'a> Edited<'a> {
    /// The model that an edit leaves.
    ///
    /// # Errors
    /// As [`Edit::applied`].
    pub fn new(source: &'a dyn WeightSource, edit: &'a Edit) -> Result<Self> {
        let spec = edit.applied(source.spec())?;
        Ok(Edited { source, edit, spec })
    }

    /// The original.
    pub fn source(&self) -> &dyn WeightSource {
        self.source
    }

    /// What is left of it.
    pub fn edit(&self) -> &Edit {
        self.edit
    }

    /// The layer of a role that the original has in place of block `index`.
    ///
    /// # Errors
    /// As [`WeightSource::linear`].
    ///
    /// # Panics
    /// The original's block has no such layer.
    pub fn original(&self, index: usize, role: Role) -> Result<LinearWeights> {
        original(self.source, &self.edit.blocks[index], role)
    }

    /// The same model with the biases that a configuration has to give it together: those that the edit does not know are 0.
    ///
    /// # Errors
    /// No configuration of the family gives a layer the bias that the edit has for it.
    pub fn sayable(self) -> Result<Self> {
        let before = self.source.spec();
        let mut roles: BTreeSet<Role> = BTreeSet::new();
        // A key that gives one layer a bias gives others theirs: all of them from the model without the edit's.
        let mut plain = self.spec.clone();
        for (index, edit) in self.edit.blocks.iter().enumerate() {
            let mut block = plain.block(index).as_ref().clone();
            for linear in &mut block.linears {
                let mut own = before
                    .block(edit.block)
                    .linears
                    .iter()
                    .filter(|own| own.role == linear.role);
                if linear.bias && !own.any(|own| own.bias) {
                    roles.insert(linear.role);
                    linear.bias = false;
                }
            }
            plain.set_block(index, block);
        }
        let spec = with_biases(&plain, |linear| roles.contains(&linear.role))?;
        Ok(Edited { spec, ..self })
    }
}

impl WeightSource for Edited<'_> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.source.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.source.norm(prefix, norm)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let edit = &self.edit.blocks[index];
        let mut weights = original(self.source, edit, linear.role)?;
        let before = self.source.spec().block(edit.block);
        if let Some((axis, kept)) = edit.kept(linear.role, &before.attention) {
            weights.weight = weights.weight.select(axis, &kept);
            if axis == Axis(0) {
                weights.bias = weights.bias.map(|bias| bias.select(axis, &kept));
            }
        }
        if let Some(branch) = edit.branch(before) {
            append(&branch, &mut weights)?;
        }
        replace_bias(&mut weights, edit);
        if linear.bias && weights.bias.is_none() {
            weights.bias = Some(Array1::zeros(linear.outputs));
        }
        weights.name = self.spec.block(index).weight_of(index, linear);
        Ok(weights)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let mut norms = self.source.norms(self.edit.blocks[index].block)?;
        norms.retain(|(place, _)| self.spec.block(index).norm(*place).is_some());
        Ok(norms)
    }
}

/// The model with the original's blocks, heads and neurons, where everything that an edit removes is 0. It has new biases too.
///
/// A block that is removed is one of zeros, which adds nothing. Only where blocks normalise the sum after a sub-layer, zeros would
/// change the stream: such blocks are left out here, too ([`Masked::leaves_out`]).
pub struct Masked<'a> {
    source: &'a dyn WeightSource,
    /// The blocks, by their numbers in the original, with what an edit does to those that it leaves.
    blocks: Vec<(usize, Option<&'a BlockEdit>)>,
    spec: ModelSpec,
}

impl<'a> Masked<'a> {
    /// The model in which what an edit removes is 0.
    ///
    /// # Errors
    /// As [`Edit::applied`].
    pub fn new(source: &'a dyn WeightSource, edit: &'a Edit) -> Result<Self> {
        let before = source.spec();
        edit.applied(before)?;
        let left: BTreeMap<usize, &BlockEdit> = edit.blocks.iter().map(|edit| (edit.block, edit)).collect();
        let all = (0..before.blocks).map(|block| (block, left.get(&block).copied()));
        let blocks: Vec<_> = all
            .filter(|(block, edit)| edit.is_some() || before.block(*block).norm_first)
            .collect();
        let whole = blocks.iter().map(|(block, edit)| {
            let whole = BlockEdit::whole(*block, before.block(*block));
            match edit {
                Some(edit) => BlockEdit {
                    biases: edit.biases.clone(),
                    low_rank: edit.low_rank.clone(),
                    ..whole
                },
                None => whole,
            }
        });
        let spec = Edit {
            blocks: whole.collect(),
        }
        .applied(before)?;
        Ok(Masked { source, blocks, spec })
    }

    /// Whether blocks that an edit removes are left out here, too, since zeros in their place would change the stream.
    pub fn leaves_out(&self) -> bool {
        self.spec.blocks < self.source.spec().blocks
    }
}

impl WeightSource for Masked<'_> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.source.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.source.norm(prefix, norm)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let (block, edit) = self.blocks[index];
        let before = self.source.spec().block(block);
        let Some(edit) = edit else {
            let mut weights = original(self.source, &BlockEdit::whole(block, before), linear.role)?;
            clear(&mut weights);
            return Ok(weights);
        };
        let mut weights = original(self.source, edit, linear.role)?;
        if !edit.has(linear.role.sub_layer()) {
            clear(&mut weights);
        } else if let Some((axis, kept)) = edit.kept(linear.role, &before.attention) {
            let mut left = vec![false; weights.weight.len_of(axis)];
            kept.iter().for_each(|place| left[*place] = true);
            for (mut part, _) in weights
                .weight
                .axis_iter_mut(axis)
                .zip(&left)
                .filter(|(_, left)| !**left)
            {
                part.fill(0.0);
            }
            if let Some(bias) = weights.bias.as_mut().filter(|_| axis == Axis(0)) {
                bias.iter_mut()
                    .zip(&left)
                    .filter(|(_, left)| !**left)
                    .for_each(|(bias, _)| *bias = 0.0);
            }
        }
        if let Some(branch) = edit.branch(before) {
            append(&branch, &mut weights)?;
        }
        replace_bias(&mut weights, edit);
        weights.name = self.spec.block(index).weight_of(index, linear);
        Ok(weights)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        self.source.norms(self.blocks[index].0)
    }
}

/// Makes a layer add nothing to anything.
fn clear(weights: &mut LinearWeights) {
    weights.weight.fill(0.0);
    if let Some(bias) = &mut weights.bias {
        bias.fill(0.0);
    }
}

/// The layer of a role in the original's block, with what an edit does to it beside removing whole units.
fn original(source: &dyn WeightSource, edit: &BlockEdit, role: Role) -> Result<LinearWeights> {
    let block = source.spec().block(edit.block).clone();
    let linear = block.linears.iter().find(|linear| linear.role == role);
    let mut weights = source.linear(edit.block, linear.expect("an edit takes layers away from nobody"))?;
    edit.low_rank.apply(&mut weights, &block.attention);
    Ok(weights)
}

fn append(branch: &Branch, weights: &mut LinearWeights) -> Result<()> {
    branch.append(weights.role, &mut weights.weight, &mut weights.bias, weights.storage)
}

fn replace_bias(weights: &mut LinearWeights, edit: &BlockEdit) {
    if let Some(bias) = edit.biases.get(&weights.role) {
        weights.bias = Some(bias.mapv(|value| weights.bias_storage.round(value)));
    }
}
