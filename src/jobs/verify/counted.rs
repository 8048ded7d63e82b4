//! What is left of the blocks of a smaller model, counted in the weights of its folder.
//!
//! Zeros that make blocks equal are told from units by being zeros, and narrow matrices that were multiplied out by their rank. Both are
//! as exact as the numbers are: a unit of the original that has only zeros looks like padding, and in F16 and BF16 a product of
//! narrow matrices has its rank only up to rounding.

use super::verdict::Verdict;
use crate::error::{Error, Result};
use crate::jobs::structure::BlockLeft;
use crate::linalg::squared_singular_values;
use crate::model::checkpoint::{Checkpoint, LinearWeights};
use crate::model::edit::{BlockEdit, Factors, LowRank};
use crate::model::export::STRUCTURE;
use crate::model::narrow::Branch;
use crate::spec::{AttentionSpec, BlockSpec, Role};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use std::collections::BTreeMap;
use std::fmt::Display;

/// What the weights of a block have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counted {
    heads: usize,
    kv_heads: usize,
    neurons: usize,
    /// The ranks of queries and keys that are products of narrow matrices.
    ranks: BTreeMap<Role, usize>,
    /// For each key-value head that is left, the features of its values that are left; empty if all are.
    values: Vec<Vec<usize>>,
    /// The rank of the branch beside the MLP.
    branch: Option<usize>,
}

/// How a folder's blocks are counted.
pub(super) struct Counting<'a> {
    /// The folder's model.
    pub(super) checkpoint: &'a Checkpoint,
    /// Its factored form, if there is one.
    pub(super) factored: Option<&'a Checkpoint>,
    /// Whether zeros make its blocks equal.
    pub(super) padded: bool,
    /// Whether any block has narrow matrices, by what the file says.
    pub(super) narrow: bool,
    /// Whether the original is there, which tells units that have only zeros from padding.
    pub(super) original: bool,
}

impl Counting<'_> {
    /// Counts what is left of block `index`, of which the file says this.
    ///
    /// # Errors
    /// A weight is unusable.
    pub(super) fn block(&self, index: usize, said: &BlockLeft) -> Result<Counted> {
        let block = self.checkpoint.spec().block(index);
        if self.padded {
            return self.padded(index, block, said);
        }
        let narrow = self.factored.map(|factored| factored.narrow_sizes(index));
        let (narrow, width) = (narrow.unwrap_or_default(), self.checkpoint.spec().width);
        let behind = narrow.branch.map_or(0, |rank| branch_neurons(rank, block, width));
        Ok(Counted {
            heads: block.attention.heads,
            kv_heads: block.attention.kv_heads,
            neurons: block.neurons().saturating_sub(behind),
            ranks: narrow.ranks,
            values: narrow.values,
            branch: narrow.branch,
        })
    }

    /// The same of a block that may have zeros to be as large as the others.
    fn padded(&self, index: usize, block: &BlockSpec, said: &BlockLeft) -> Result<Counted> {
        let layers = block.linears.iter();
        let layers = layers.map(|linear| self.checkpoint.linear(index, linear));
        let layers: Vec<LinearWeights> = layers.collect::<Result<_>>()?;
        let attention = &block.attention;
        let (mut heads, mut kv_heads) = (vec![false; attention.heads], vec![false; attention.kv_heads]);
        let mut neurons = vec![false; block.neurons()];
        let (dim, each) = (attention.head_dim, attention.heads_of_group().max(1));
        for layer in &layers {
            for (place, used) in used(layer).into_iter().enumerate().filter(|(_, used)| *used) {
                match layer.role {
                    Role::Query | Role::Output => heads[place / dim] = used,
                    Role::Key | Role::Value => kv_heads[place / dim] = used,
                    Role::Fused(fusion) => heads[fusion.feature_of(place, attention) / dim] = used,
                    Role::Gate | Role::Up | Role::Down => neurons[place] = used,
                }
            }
        }
        for (head, used) in heads.iter().enumerate() {
            kv_heads[head / each] |= used;
        }
        // Zeros stand behind what a block has: its last groups, the last heads of each, its last neurons.
        let in_group = heads.iter().enumerate().filter(|(_, used)| **used);
        let in_group = in_group.map(|(head, _)| head % each + 1).max().unwrap_or(0);
        let (groups, mut neurons) = (behind_last(&kv_heads), behind_last(&neurons));
        let mut groups = if in_group == 0 { 0 } else { groups };
        let mut heads = groups * in_group;
        let width = self.checkpoint.spec().width;
        let behind = |rank: Option<usize>| rank.map_or(0, |rank| branch_neurons(rank, block, width));
        if self.original {
            // What has only zeros in the original, too, is found to be the original's when weights are compared.
            if heads <= said.heads.len() && groups <= said.kv_heads.len() {
                let (most, whole) = (attention.heads, attention.kv_heads);
                (heads, groups) = (said.heads.len().min(most), said.kv_heads.len().min(whole));
            }
            neurons = neurons.max((said.neurons.len() + behind(said.branch)).min(block.neurons()));
        }
        let branch = match self.narrow {
            true => self.branch_rank(&layers, neurons, said.branch),
            false => None,
        };
        let (mut ranks, mut values) = (BTreeMap::new(), Vec::new());
        if self.narrow {
            for (linear, layer) in block.linears.iter().zip(&layers) {
                if matches!(layer.role, Role::Query | Role::Key) {
                    let rank = rank(layer, said.ranks.get(linear.tensor).copied())?;
                    ranks.extend(rank.map(|rank| (layer.role, rank)));
                }
            }
            values = features(&layers, attention, groups);
        }
        Ok(Counted {
            heads,
            kv_heads: groups,
            neurons: neurons.saturating_sub(behind(branch)),
            ranks,
            values,
            branch,
        })
    }

    /// The rank of the branch that the last of so many neurons are, if they are one.
    fn branch_rank(&self, layers: &[LinearWeights], neurons: usize, said: Option<usize>) -> Option<usize> {
        let of = |role| layers.iter().find(|layer| layer.role == role);
        if let Some(gate) = of(Role::Gate) {
            // Neurons that only a branch has: the gate reads nothing and is 1.
            let linear = |neuron: &usize| {
                let bias = gate.bias.as_ref().map(|bias| bias[*neuron]);
                bias == Some(1.0) && is_zero(gate.weight.row(*neuron))
            };
            let count = (0..neurons).rev().take_while(linear).count();
            return (count > 0).then_some(count);
        }
        let (up, down) = (of(Role::Up)?, of(Role::Down)?);
        let opposite = |a: ArrayView1<f32>, b: ArrayView1<f32>| a.iter().zip(b).all(|(a, b)| *a == -*b);
        let pairs = |rank: &usize| {
            let mut places = neurons - 2 * rank..neurons - rank;
            places.all(|place| {
                opposite(up.weight.row(place), up.weight.row(place + rank))
                    && opposite(down.weight.column(place), down.weight.column(place + rank))
            })
        };
        let likely = said.filter(|rank| 2 * rank <= neurons);
        likely.into_iter().chain(1..=neurons / 2).find(pairs)
    }
}

impl Counted {
    /// Compares with what the file says of the block at place `index`, whose model may be padded.
    pub(super) fn compare(
        &self,
        index: usize,
        block: &BlockSpec,
        said: &BlockLeft,
        padded: bool,
        verdict: &mut Verdict,
    ) {
        let (found, spec) = (self, block);
        let mut differs = |what: &str, found: &dyn Display, said: &dyn Display| {
            let (found, said) = (found.to_string(), said.to_string());
            if found != said {
                verdict.faults.push(format!(
                    "block {index}, {what}: the model has {found}, but {STRUCTURE} says {said}"
                ));
            }
        };
        for (what, found, said) in [
            ("heads", found.heads, said.heads.len()),
            ("key-value heads", found.kv_heads, said.kv_heads.len()),
            ("neurons", found.neurons, said.neurons.len()),
        ] {
            let hint =
                "; the last ones have only zeros, as padding has: if the original has them, give --against ORIGINAL";
            let hint = if padded && found < said { hint } else { "" };
            differs(what, &found, &format!("{said}{hint}"));
        }
        let none = |count: Option<usize>| count.map_or("none".to_string(), |count| count.to_string());
        differs("branch", &none(found.branch), &none(said.branch));
        for linear in &spec.linears {
            let (found, said) = (found.ranks.get(&linear.role), said.ranks.get(linear.tensor));
            let what = format!("ranks, {}", linear.tensor);
            differs(&what, &none(found.copied()), &none(said.copied()));
        }
        let known = |name: &&String| spec.linears.iter().any(|linear| linear.tensor == **name);
        for (name, rank) in said.ranks.iter().filter(|(name, _)| !known(name)) {
            differs(&format!("ranks, {name}"), &"no such layer", rank);
        }
        let all: Vec<usize> = (0..spec.attention.head_dim).collect();
        for (place, head) in said.kv_heads.iter().enumerate().take(found.kv_heads) {
            let left = match said.values.is_empty() {
                true => Some(&all),
                false => said.values.get(*head),
            };
            let found = found.values.get(place).unwrap_or(&all);
            differs(
                &format!("values of key-value head {head}"),
                &format!("{found:?}"),
                &left.map_or("none".to_string(), |left| format!("{left:?}")),
            );
        }
        for (what, kept) in [
            ("heads", &said.heads),
            ("key-value heads", &said.kv_heads),
            ("neurons", &said.neurons),
        ] {
            if !kept.is_sorted_by(|one, next| one < next) {
                let fault = format!("block {index}, {what}: {STRUCTURE} does not name each once, in ascending order");
                verdict.faults.push(fault);
            }
        }
    }

    /// What is left, as an edit of the folder's block `index`.
    pub(super) fn left(&self, index: usize, block: &BlockSpec, width: usize) -> BlockEdit {
        let each = block.attention.heads_of_group();
        let in_group = self.heads / self.kv_heads.max(1);
        let of_group = |group: usize| group * each..group * each + in_group;
        let factors = |(role, rank): (&Role, &usize)| {
            let linear = block.linears.iter().find(|linear| linear.role == *role)?;
            Some((*role, zeros(*rank, linear.inputs, linear.outputs)))
        };
        let all: Vec<usize> = (0..block.attention.head_dim).collect();
        let mut values = self.values.clone();
        if !values.is_empty() {
            values.resize(block.attention.kv_heads, all);
        }
        BlockEdit {
            block: index,
            heads: (0..self.kv_heads).flat_map(of_group).collect(),
            kv_heads: (0..self.kv_heads).collect(),
            neurons: (0..self.neurons).collect(),
            biases: BTreeMap::new(),
            low_rank: LowRank {
                basis: Vec::new(),
                values,
                factors: self.ranks.iter().filter_map(factors).collect(),
                branch: self.branch.map(|rank| zeros(rank, width, width)),
            },
        }
    }

    /// Whether the folder's block has more than this, which zeros must make up for.
    pub(super) fn is_less(&self, block: &BlockSpec, width: usize) -> bool {
        let behind = self.branch.map_or(0, |rank| branch_neurons(rank, block, width));
        self.heads < block.attention.heads || self.neurons + behind < block.neurons()
    }

    /// How many values of its bias a layer with so many has, if features of values that are gone do not count.
    pub(super) fn bias_values(&self, role: Role, rows: usize) -> usize {
        match role {
            Role::Value if !self.values.is_empty() => self.values.iter().map(Vec::len).sum(),
            _ => rows,
        }
    }
}

/// Number of neurons that a branch of this rank is.
fn branch_neurons(rank: usize, block: &BlockSpec, width: usize) -> usize {
    Branch::of(&zeros(rank, width, width), block).neurons()
}

/// Narrow matrices of these sizes, of which only the sizes matter.
fn zeros(rank: usize, inputs: usize, outputs: usize) -> Factors {
    Factors {
        first: Array2::zeros((rank, inputs)),
        second: Array2::zeros((outputs, rank)),
    }
}

fn is_zero(values: ArrayView1<f32>) -> bool {
    values.iter().all(|value| *value == 0.0)
}

/// For each feature of the units that a layer belongs to, whether the layer has anything there: in its rows and their biases, or in the
/// columns of what reads them.
fn used(layer: &LinearWeights) -> Vec<bool> {
    let axis = match layer.role {
        Role::Output | Role::Down => Axis(1),
        _ => Axis(0),
    };
    let bias = layer.bias.as_ref().filter(|_| axis == Axis(0));
    let parts = layer.weight.axis_iter(axis).enumerate();
    let parts = parts.map(|(place, part)| !is_zero(part) || bias.is_some_and(|bias: &Array1<f32>| bias[place] != 0.0));
    parts.collect()
}

/// The place behind the last that is used.
fn behind_last(used: &[bool]) -> usize {
    used.iter().rposition(|used| *used).map_or(0, |last| last + 1)
}

/// For each of the first `groups` key-value heads the features of its values that have weights; empty if all have.
fn features(layers: &[LinearWeights], attention: &AttentionSpec, groups: usize) -> Vec<Vec<usize>> {
    let (dim, each) = (attention.head_dim, attention.heads_of_group());
    let mut there = vec![vec![false; dim]; groups];
    let mut has_values = false;
    for layer in layers {
        let heads_of_group = match layer.role {
            Role::Value => 1,
            Role::Output => each,
            _ => continue,
        };
        has_values |= layer.role == Role::Value;
        for (place, used) in used(layer).into_iter().enumerate() {
            if let Some(features) = there.get_mut(place / dim / heads_of_group) {
                features[place % dim] |= used;
            }
        }
    }
    let of = |features: &Vec<bool>| (0..dim).filter(|feature| features[*feature]).collect();
    let left: Vec<Vec<usize>> = there.iter().map(of).collect();
    match has_values && left.iter().any(|features| features.len() < dim) {
        true => left,
        false => Vec::new(),
    }
}

/// The rank of a layer that is a product of narrow matrices, if it is one. A rank that the file says counts where rounding hides what is
/// above the rank that was found.
fn rank(layer: &LinearWeights, said: Option<usize>) -> Result<Option<usize>> {
    // Twice what rounding to the type changes at most; sums of single precision change more than rounding to it.
    let rounding = match layer.storage {
        StorageType::F32 => 1e-5,
        StorageType::F16 => 1e-3,
        StorageType::BF16 => 4e-3f64,
    };
    let squares = squared_singular_values(layer.weight.view());
    let squares = squares.map_err(|failure| Error::numeric(format!("{}: {failure}", layer.name)))?;
    let least = rounding * rounding * squares.iter().sum::<f64>();
    let mut rest = 0.0;
    // In ascending order: those that are together no more than rounding.
    let noise = squares.iter().take_while(|square| {
        rest += square.max(0.0);
        rest <= least
    });
    let found = squares.len() - noise.count();
    let (outputs, inputs) = layer.weight.dim();
    Ok(match said {
        Some(said) if found < said && layer.storage != StorageType::F32 && said <= squares.len() => Some(said),
        Some(_) => Some(found),
        None if layer.storage == StorageType::F32 && found * (outputs + inputs) < outputs * inputs => Some(found),
        None => None,
    })
}
