//! A smaller model whose blocks have equal sizes: those of the widest, with zeros in the others.

use super::edit::Edited;
use crate::error::{Error, Result};
use crate::model::checkpoint::{LinearWeights, NormWeights};
use crate::model::families::FAMILIES;
use crate::model::source::WeightSource;
use crate::spec::{
    AttentionSpec, BlockSpec, Fusion, LinearSpec, ModelSpec, NormPlace, NormSpec, Role, Shapes, SubLayer,
};
use ndarray::{Array1, Array2};

/// The smaller model with zeros, so that all its blocks have as many heads and neurons as the one that has most, or as many more heads
/// as make a number that loaders of the family take. Whoever loads the original's family loads it. It computes what [`Edited`] does.
pub struct Padded<'a> {
    edited: &'a Edited<'a>,
    spec: ModelSpec,
}

impl<'a> Padded<'a> {
    /// Checks that zeros can be put in place of what a model loses.
    ///
    /// # Errors
    /// One of its blocks has no attention or no MLP itself.
    pub fn check(original: &ModelSpec) -> Result<()> {
        let whole = |(block, _): (&BlockSpec, usize)| SubLayer::ALL.into_iter().all(|part| block.has(part));
        match original.kinds().all(whole) {
            true => Ok(()),
            false => Err(Error::config(
                "a block of the original has no attention or no MLP, so that zeros cannot be put in its place; leave out --pad",
            )),
        }
    }

    /// The smaller model with equal blocks.
    ///
    /// # Errors
    /// A block of the original has no attention or no MLP itself, or the family is unknown.
    pub fn new(edited: &'a Edited<'a>) -> Result<Self> {
        let (before, small) = (edited.source().spec(), edited.spec());
        Self::check(before)?;
        // A layer that no block has left is as large as the original's.
        let template = before.block(0);
        let most = |of: fn(&BlockSpec) -> usize| {
            let most = small.kinds().map(|(block, _)| of(block)).max();
            most.filter(|most| *most > 0).unwrap_or_else(|| of(template))
        };
        let (groups, each) = (
            most(|block| block.attention.kv_heads),
            most(|block| block.attention.heads_of_group()),
        );
        let sizes = &FAMILIES.find(before.family)?.item.sizes;
        // As few as loaders take: in families that cannot say how large a head is, all of the original's.
        let whole = (
            groups.max(template.attention.kv_heads),
            each.max(template.attention.heads_of_group()),
        );
        let counts = (groups..=whole.0).flat_map(|groups| (each..=whole.1).map(move |each| (groups, each)));
        let taken = counts.filter(|(groups, each)| sizes.takes(groups * each, whole.0 * whole.1, before.width));
        let (groups, each) = taken.min_by_key(|(groups, each)| groups * each).unwrap_or(whole);
        let heads = groups * each;
        let neurons = most(BlockSpec::neurons);
        let dim = template.attention.head_dim;
        let mut block = template.as_ref().clone();
        (block.attention.heads, block.attention.kv_heads) = (heads, groups);
        for linear in &mut block.linears {
            match linear.role {
                Role::Query => linear.outputs = heads * dim,
                Role::Key | Role::Value => linear.outputs = groups * dim,
                Role::Output => linear.inputs = heads * dim,
                Role::Gate | Role::Up => linear.outputs = neurons,
                Role::Down => linear.inputs = neurons,
                Role::Fused(_) => linear.outputs = 3 * heads * dim,
            }
            let mut others = small.kinds().flat_map(|(block, _)| &block.linears);
            linear.bias |= others.any(|other| other.role == linear.role && other.bias);
        }
        let spec = ModelSpec {
            shapes: Shapes::from(block),
            ..small.clone()
        };
        Ok(Padded { edited, spec })
    }
}

impl WeightSource for Padded<'_> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.edited.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.edited.norm(prefix, norm)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let small = self.edited.spec().block(index);
        let wide = self.spec.block(index);
        let mut weight = Array2::zeros((linear.outputs, linear.inputs));
        let mut bias = linear.bias.then(|| Array1::zeros(linear.outputs));
        let found = small.linears.iter().find(|small| small.role == linear.role);
        let left = match found {
            Some(found) => {
                let left = self.edited.linear(index, found)?;
                let [rows, columns] = places(linear.role, &small.attention, &wide.attention, left.weight.dim());
                for (row, values) in rows.iter().zip(left.weight.rows()) {
                    for (column, value) in columns.iter().zip(values) {
                        weight[[*row, *column]] = *value;
                    }
                }
                if let (Some(wide), Some(small)) = (&mut bias, &left.bias) {
                    rows.iter().zip(small).for_each(|(row, value)| wide[*row] = *value);
                }
                left
            }
            None => self.edited.original(index, linear.role)?,
        };
        Ok(LinearWeights {
            name: wide.weight_of(index, linear),
            weight,
            bias,
            ..left
        })
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        self.edited.source().norms(self.edited.edit().blocks[index].block)
    }
}

/// Where the rows and the columns of a layer with this shape go in a block with the attention `wide`.
fn places(role: Role, small: &AttentionSpec, wide: &AttentionSpec, shape: (usize, usize)) -> [Vec<usize>; 2] {
    let dim = small.head_dim;
    let of_query = |feature: usize| {
        let (head, each) = (feature / dim, small.heads_of_group());
        (head / each * wide.heads_of_group() + head % each) * dim + feature % dim
    };
    let (rows, columns) = (0..shape.0, 0..shape.1);
    match role {
        Role::Query => [rows.map(of_query).collect(), columns.collect()],
        Role::Output => [rows.collect(), columns.map(of_query).collect()],
        Role::Fused(Fusion::Sections) => {
            let section = small.heads * dim;
            let of_wide = |row: usize| row / section * wide.heads * dim + row % section;
            [rows.map(of_wide).collect(), columns.collect()]
        }
        _ => [rows.collect(), columns.collect()],
    }
}
