//! Olica: orthogonal neuron decomposition and linear calibration (He and Lin, ICML 2025, arXiv 2506.08436; reference:
//! BetterTMrR/LLM-Olica).
//!
//! A first pass through the dense model turns the values of every key-value head, and the columns of the attention's output that read
//! them, by the left singular vectors of these columns: that changes nothing, and puts the features of values in an order. It also
//! finds the MLPs whose output a linear map of their input predicts best. A second pass goes block after block, on the inputs that the
//! pruned blocks before give: queries and keys become products of narrow matrices, values and MLP lose features, and in the MLPs that
//! were found a linear branch of low rank makes up for what the removed neurons gave.
//!
//! No loader knows such blocks; [`LowRank`] says what is written in their place.
//!
//! With `rule = "released"`, counts are those of the released code, which takes the share of all parameters and halves the ranks of
//! queries and keys even where that saves nothing. By default the share is that of the linear layers' weights, the MLPs lose what
//! attention did not, the branch counts, and a matrix whose factors would not be smaller stays.

use super::cost::Cost;
use super::regression::Regression;
use super::scores::{weight, without_lowest};
use super::step::{DenseModel, OfMlp, UnitMethod, Wanted, Widths};
use super::uniform::{blocks_are_whole, equal_block, multiple};
use crate::error::{Error, Located, Result};
use crate::linalg::left_singular;
use crate::model::edit::{BlockEdit, Edit, Edited, Factors, LowRank};
use crate::model::families::with_biases;
use crate::model::source::WeightSource;
use crate::prune::range::within;
use crate::spec::{BlockSpec, ModelSpec, Role, SubLayer, TapPlace};
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Olica.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Olica {
    /// How much goes where: `sound`.
    pub rule: Rule,
    /// How much more of queries and keys goes than of values and output; 3.
    pub k: f64,
    /// Number of MLPs with a branch; 6, or all that can have one in a model of fewer blocks. Never the last block's.
    pub calibrated: usize,
    /// The rank of a branch, as a fraction of the model's width; 0.03.
    pub ratio: f64,
    /// The ridge of least squares, as a fraction of the mean diagonal; 0.25.
    pub ridge: f64,
    /// The fraction of an MLP's neurons that stay because their scores are the lowest; 0. The released code has 0.01.
    pub guard: f64,
    /// The smallest weight of an output in a branch, by which the branch is divided; 0.05. The released code has 0.
    pub floor: f64,
}

/// How much goes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// As much of the linear layers' weights as is asked for.
    #[default]
    Sound,
    /// As the released code.
    Released,
}

/// What a block loses.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The ranks of queries and keys, where they become products.
    pub ranks: BTreeMap<Role, usize>,
    /// Number of features that the values of each key-value head lose.
    pub values: usize,
    /// Number of neurons that the MLP loses.
    pub neurons: usize,
    /// Number of neurons that stay because their scores are the lowest.
    pub guarded: usize,
}

/// Width of the sigmoid that makes weights of correlations.
const SIGMOID: f64 = 0.05;

impl Default for Olica {
    fn default() -> Self {
        Olica {
            rule: Rule::Sound,
            k: 3.0,
            calibrated: 6,
            ratio: 0.03,
            ridge: 0.25,
            guard: 0.0,
            floor: 0.05,
        }
    }
}

impl UnitMethod for Olica {
    fn validate(&self) -> Result<()> {
        within("k", self.k, 0.1..=100.0)?;
        within("ratio", self.ratio, 0.0..=1.0)?;
        within("ridge", self.ridge, 1e-6..=1e6)?;
        within("guard", self.guard, 0.0..=0.5)?;
        within("floor", self.floor, 0.0..=0.5)
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<()> {
        self.budget(spec, share, widths).map(drop)
    }

    fn check_writing(&self, spec: &ModelSpec, share: f64, widths: Widths, _: bool) -> Result<()> {
        if share == 0.0 || self.branches(spec) == 0 || self.budget(spec, share, widths)?.neurons == 0 {
            return Ok(());
        }
        // A branch becomes neurons whose gates have biases.
        let possible = with_biases(spec, |linear| linear.role == Role::Gate).map(drop);
        possible.map_err(|error| {
            Error::config(format!(
                "{error}; without branches beside MLPs (--set calibrated=0) it can be written"
            ))
        })
    }

    fn room(&self, spec: &ModelSpec) -> u64 {
        let width = spec.width as u64;
        let (mut kept, mut layer) = (0, 0);
        for (block, count) in spec.kinds() {
            for linear in &block.linears {
                let weights = (linear.outputs * linear.inputs) as u64;
                layer = layer.max(weights);
                // Products of narrow matrices are smaller than what they stand for.
                if matches!(linear.role, Role::Query | Role::Key) {
                    kept += 4 * weights * count as u64;
                }
            }
            let attention = &block.attention;
            kept += 8 * (attention.kv_heads * attention.head_dim.pow(2) * count) as u64;
        }
        // A matrix in double precision, scaled, turned, and its vectors; the sums of a regression and what they are solved with.
        kept + 4 * 8 * layer.max(width * width)
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit> {
        let source = model.source();
        let spec = source.spec();
        let budget = self.budget(spec, share, widths)?;
        if share == 0.0 {
            return Ok(Edit::whole(spec));
        }
        let (turned, correlations) = self.first_pass(model)?;
        let chosen = self.calibrated(&correlations);
        let dense = Edited::new(source, &turned)?;
        model.in_turn(&turned, &mut |block| {
            let (index, edit) = (block.index(), &turned.blocks[block.index()]);
            let squares = block.observe(Wanted::default())?.squares;
            let mut edit = self
                .thinned(&dense, index, edit, &squares, &budget)
                .at(format_args!("block {index}"))?;
            let count = spec.block(index).neurons();
            let gone: Vec<usize> = (0..count).filter(|neuron| !edit.neurons.contains(neuron)).collect();
            if chosen.contains(&index) && !gone.is_empty() {
                let mlp = Some(OfMlp::These(&gone));
                let seen = block.observe(Wanted {
                    mlp,
                    ..Wanted::default()
                })?;
                let branch = seen.mlp.map(|seen| self.branch(&seen)).transpose();
                edit.low_rank.branch = branch.at(format_args!("block {index}"))?;
            }
            Ok(edit)
        })
    }
}

impl Olica {
    /// What every block loses.
    ///
    /// # Errors
    /// The share is out of range or more than ranks and neurons can give, blocks are not equal, or they have no matrices of queries,
    /// keys and values of their own.
    pub fn budget(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<Budget> {
        within("units", share, 0.0..=0.95)?;
        blocks_are_whole(spec)?;
        // The default is meant for large models, and is as many as there can be in a small one.
        let most = spec.blocks.saturating_sub(1);
        if self.calibrated > most && self.calibrated != Olica::default().calibrated {
            return Err(Error::config(format!(
                "parameter `calibrated` = {}: the model has {} blocks, and the MLP of the last one gets no branch; give at most {most}",
                self.calibrated, spec.blocks
            )));
        }
        let block = equal_block(spec)?;
        let of = |role| block.linears.iter().find(|linear| linear.role == role);
        let (Some(query), Some(key), Some(value), Some(output), Some(_)) = (
            of(Role::Query),
            of(Role::Key),
            of(Role::Value),
            of(Role::Output),
            of(Role::Down),
        ) else {
            return Err(Error::config(
                "its blocks have no matrices of queries, keys and values of their own, or no MLP beside them",
            ));
        };
        let from_values = 2.0 * share / (1.0 + self.k);
        let from_queries = match share {
            ..=0.4 => 2.0 * share,
            _ => self.k * from_values,
        };
        let attention = &block.attention;
        let values = (from_values * attention.head_dim as f64) as usize;
        let neurons = block.neurons();
        let released = self.rule == Rule::Released;
        let mut ranks = BTreeMap::new();
        let mut saved = values * attention.kv_heads * (value.inputs + attention.heads_of_group() * output.outputs);
        for linear in [query, key] {
            let (all, both) = (linear.outputs * linear.inputs, linear.outputs + linear.inputs);
            let most = (1.0 - from_queries) * all as f64 / both as f64;
            let rank = match released {
                true => most.ceil(),
                false => most.floor(),
            };
            if rank < 1.0 || values >= attention.head_dim {
                return Err(Error::config(format!(
                    "parameter `units` = {share}: nothing would be left of queries and keys, or of values; with k = {} at most {:.2} can be removed",
                    self.k,
                    0.95 * (1.0 + self.k) / (2.0 * self.k.max(1.0))
                )));
            }
            let rank = rank as usize;
            if released || rank * both < all {
                ranks.insert(linear.role, rank);
                saved += all.saturating_sub(rank * both);
            }
        }
        let lost = match self.rule {
            Rule::Released => {
                let parameters = |part| -> usize {
                    let of_part = block.linears.iter().filter(|linear| linear.role.sub_layer() == part);
                    of_part
                        .map(|linear| linear.outputs * (linear.inputs + usize::from(linear.bias)))
                        .sum()
                };
                let [attention, mlp] = SubLayer::ALL.map(|part| parameters(part) as f64);
                let all: usize = spec.tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum();
                let each = share * all as f64 / spec.blocks as f64;
                let rest = match share {
                    ..=0.4 => each - attention / 2.0 * from_values - attention * share,
                    _ => each - attention * share,
                };
                (rest / mlp * neurons as f64) as i64
            }
            Rule::Sound => {
                let branches = self.branches(spec) * 2 * self.rank(spec) * spec.width;
                let rest = share * block.prunable() as f64 - saved as f64 + branches as f64 / spec.blocks as f64;
                let kept = neurons as f64 - rest / Cost::of(block).neuron as f64;
                let step = match widths {
                    Widths::Uniform => multiple(neurons),
                    Widths::PerBlock => 1,
                };
                neurons as i64 - (kept / step as f64).round() as i64 * step as i64
            }
        };
        let guarded = (self.guard * neurons as f64) as usize;
        if lost + guarded as i64 >= neurons as i64 {
            return Err(Error::config(format!(
                "parameter `units` = {share}: every MLP would lose {lost} of its {neurons} neurons"
            )));
        }
        Ok(Budget {
            ranks,
            values,
            neurons: lost.max(0) as usize,
            guarded,
        })
    }

    /// Number of MLPs with a branch.
    fn branches(&self, spec: &ModelSpec) -> usize {
        self.calibrated.min(spec.blocks - 1)
    }

    /// The rank of a branch.
    fn rank(&self, spec: &ModelSpec) -> usize {
        ((self.ratio * spec.width as f64) as usize).max(1)
    }

    /// The dense model with turned values; and for every MLP the mean correlation of its outputs with what least squares predict of
    /// them from its input, if any MLP is to get a branch.
    ///
    /// # Errors
    /// Weights are unusable, or the backend fails.
    pub fn first_pass(&self, model: &dyn DenseModel) -> Result<(Edit, Vec<f64>)> {
        let source = model.source();
        let spec = source.spec();
        let dense = Edit::whole(spec);
        let mut turned = dense.clone();
        let mut correlations = Vec::new();
        model.in_turn(&dense, &mut |block| {
            let index = block.index();
            let seen = block.observe(Wanted {
                output: true,
                mlp: (self.branches(spec) > 0).then_some(OfMlp::All),
            })?;
            let output = weight(source, index, Role::Output)?;
            let basis = basis(output.view(), &seen.output, spec.block(index)).at(format_args!("block {index}"))?;
            turned.blocks[index].low_rank.basis = basis;
            if let Some(mlp) = seen.mlp {
                correlations.push(mlp.fit(self.ridge).at(format_args!("block {index}"))?.mean());
            }
            Ok(dense.blocks[index].clone())
        })?;
        Ok((turned, correlations))
    }

    /// The blocks whose MLPs get a branch: those with the largest correlations, but never the last.
    pub fn calibrated(&self, correlations: &[f64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..correlations.len().saturating_sub(1)).collect();
        order.sort_by(|a, b| correlations[*b].total_cmp(&correlations[*a]));
        order.truncate(self.calibrated);
        order
    }

    /// What is left of a block without its branch, by the sums of squares of its layers' inputs.
    fn thinned(
        &self,
        dense: &dyn WeightSource,
        index: usize,
        edit: &BlockEdit,
        squares: &BTreeMap<TapPlace, Vec<f64>>,
        budget: &Budget,
    ) -> Result<BlockEdit> {
        let block = dense.spec().block(index).clone();
        let norms = |role: Role| -> Vec<f64> {
            let squares = squares.get(&role.place()).map_or(&[][..], Vec::as_slice);
            squares.iter().map(|square| square.sqrt()).collect()
        };
        let mut factors = BTreeMap::new();
        for (role, rank) in &budget.ranks {
            factors.insert(
                *role,
                narrowed(weight(dense, index, *role)?.view(), &norms(*role), *rank)?,
            );
        }
        let [values, neurons] = scores(dense, index, &block, norms)?;
        let values = values.chunks(block.attention.head_dim);
        let mut order: Vec<usize> = (0..neurons.len()).collect();
        order.sort_by(|a, b| neurons[*a].total_cmp(&neurons[*b]));
        order.drain(budget.guarded..budget.guarded + budget.neurons);
        order.sort_unstable();
        Ok(BlockEdit {
            neurons: order,
            low_rank: LowRank {
                values: match budget.values {
                    0 => Vec::new(),
                    gone => values.map(|scores| without_lowest(scores, gone)).collect(),
                },
                factors,
                ..edit.low_rank.clone()
            },
            ..edit.clone()
        })
    }

    /// The branch that makes up for what removed neurons gave.
    ///
    /// # Errors
    /// The regression has no solution.
    pub fn branch(&self, lost: &Regression) -> Result<Factors> {
        let fitted = lost.fit(self.ridge)?;
        let mean = fitted.mean();
        let weights = fitted.correlations.iter().map(|correlation| {
            let weight = 1.0 / (1.0 + (-(correlation - mean) / SIGMOID).exp());
            weight.max(self.floor)
        });
        let weights: Vec<f64> = weights.collect();
        let mut scaled = fitted.solution.t().to_owned();
        for (mut row, weight) in scaled.rows_mut().into_iter().zip(&weights) {
            row *= *weight;
        }
        let rank = ((self.ratio * scaled.ncols() as f64) as usize).max(1);
        let (_, vectors) = left_singular(scaled.view()).map_err(|failure| Error::numeric(failure.to_string()))?;
        let vectors = vectors.slice(s![.., ..rank]);
        let mut second = vectors.to_owned();
        for (mut row, weight) in second.rows_mut().into_iter().zip(&weights) {
            // Where a weight is 0 to rounding, so is the output's row of the solution.
            row /= weight.max(f64::MIN_POSITIVE);
        }
        Ok(Factors {
            first: vectors.t().dot(&scaled).mapv(|value| value as f32),
            second: second.mapv(|value| value as f32),
        })
    }
}

/// For each key-value head, the left singular vectors of the columns of the attention's output that read its values, each row times
/// the norm of its output.
fn basis(output: ArrayView2<f32>, squares: &[f64], block: &BlockSpec) -> Result<Vec<Array2<f64>>> {
    let (dim, each) = (block.attention.head_dim, block.attention.heads_of_group());
    let scaled = Array2::from_shape_fn(output.dim(), |(row, column)| {
        f64::from(output[[row, column]]) * squares[row].sqrt()
    });
    (0..block.attention.kv_heads)
        .map(|group| {
            let mut features = Array2::zeros((dim, each * scaled.nrows()));
            for (place, mut part) in features.axis_chunks_iter_mut(Axis(1), scaled.nrows()).enumerate() {
                let first = (group * each + place) * dim;
                part.assign(&scaled.slice(s![.., first..first + dim]).t());
            }
            let (_, vectors) = left_singular(features.view()).map_err(|failure| Error::numeric(failure.to_string()))?;
            Ok(vectors)
        })
        .collect()
}

/// A matrix cut to a rank, so that its outputs lose least on inputs with these norms, feature by feature: with the left singular
/// vectors `U` of the scaled matrix it is `U U^T W`, which divides by no norm.
fn narrowed(weight: ArrayView2<f32>, norms: &[f64], rank: usize) -> Result<Factors> {
    let wide = weight.mapv(f64::from);
    let scaled = Array2::from_shape_fn(wide.dim(), |(row, column)| wide[[row, column]] * norms[column]);
    let (_, vectors) = left_singular(scaled.view()).map_err(|failure| Error::numeric(failure.to_string()))?;
    let vectors = vectors.slice(s![.., ..rank]);
    Ok(Factors {
        first: vectors.t().dot(&wide).mapv(|value| value as f32),
        second: vectors.mapv(|value| value as f32),
    })
}

/// The scores of the features of values of every key-value head, and those of neurons: the norms of Wanda's scores of the row and of
/// the columns that belong to one, added up.
///
/// # Errors
/// A tensor is unusable.
pub fn scores(
    dense: &dyn WeightSource,
    index: usize,
    block: &BlockSpec,
    norms: impl Fn(Role) -> Vec<f64>,
) -> Result<[Vec<f64>; 2]> {
    let (dim, each) = (block.attention.head_dim, block.attention.heads_of_group());
    let mut values = vec![0.0; block.attention.kv_heads * dim];
    let mut neurons = vec![0.0; block.neurons()];
    for linear in &block.linears {
        let into = match linear.role {
            Role::Value | Role::Output => &mut values,
            Role::Gate | Role::Up | Role::Down => &mut neurons,
            _ => continue,
        };
        let columns = matches!(linear.role, Role::Output | Role::Down);
        let norms = norms(linear.role);
        let mut squares = vec![0.0; into.len()];
        for ((row, column), weight) in weight(dense, index, linear.role)?.indexed_iter() {
            let place = match linear.role {
                Role::Output => column / (each * dim) * dim + column % dim,
                _ if columns => column,
                _ => row,
            };
            squares[place] += (f64::from(*weight) * norms[column]).powi(2);
        }
        into.iter_mut()
            .zip(squares)
            .for_each(|(score, square)| *score += square.sqrt());
    }
    Ok([values, neurons])
}
