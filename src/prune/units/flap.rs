//! FLAP, fluctuation-based pruning of heads and neurons (An et al., AAAI 2024, arXiv 2312.11983; reference: CASIA-IVA-Lab/FLAP).
//!
//! An input `j` of the attention's output or of the MLP's second layer, which stands for a feature of a head or for a neuron,
//! matters by how much it changes over calibration sequences (its `fluctuation`) and by the weights `W_:j` that read it. Its mean can
//! be made up for by a bias, so that only the change is lost.
//!
//! Deviations: a unit costs what it really has of weights (the released code has LLaMA-7B's numbers); with grouped queries the unit
//! is a key-value head with its query heads, since all loaders find the key-value head of a query head by division (the released code
//! does not handle them); in every block at least one head and one neuron are kept.

use super::cost::Cost;
use super::scores::{UnitScores, weight, without_lowest};
use super::step::{DenseModel, UnitMethod, Widths};
use super::survey::{BlockFeatures, Features};
use super::uniform::{MOST_UNITS, blocks_are_whole, equal_block, heads_are_sayable, uniform};
use crate::choices;
use crate::error::{Error, Located, Result};
use crate::model::edit::{BlockEdit, Edit};
use crate::model::families::with_biases;
use crate::model::source::WeightSource;
use crate::prune::range::within;
use crate::spec::{BlockSpec, LinearSpec, ModelSpec, Role};
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

/// FLAP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flap {
    /// How an input is scored: `wifv`.
    pub metric: Metric,
    /// How blocks and sub-layers share what is removed where blocks may differ; `al-am`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<Structure>,
    /// What the scores of a group's query heads become: `mean`.
    pub group: Grouping,
    /// Number of heads that are removed from the whole model with `ul-mm` and `al-mm`, where this is chosen by hand; 0.
    pub remove_heads: usize,
    /// Whether biases make up for the mean of what was removed: true.
    pub bias: bool,
}

/// The score of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The fluctuation times the sum of squares of the weights that read it.
    Wifv,
    /// The fluctuation.
    Ifv,
    /// The mean of Wanda's scores of these weights.
    Wifn,
}

/// How blocks and sub-layers share what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// Adaptive over blocks and over attention and MLP: standardised scores of all units are compared.
    AlAm,
    /// Every block loses the same fraction of its heads and of its neurons.
    UlUm,
    /// Every block loses the same; how many heads is chosen by hand.
    UlMm,
    /// Adaptive over blocks; how many heads the whole model loses is chosen by hand.
    AlMm,
}

/// What the scores of a group's query heads become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// Their mean, which keeps the scale of standardised scores.
    Mean,
    /// Their sum.
    Sum,
}

impl Default for Flap {
    fn default() -> Self {
        Flap {
            metric: Metric::Wifv,
            structure: None,
            group: Grouping::Mean,
            remove_heads: 0,
            bias: true,
        }
    }
}

impl UnitMethod for Flap {
    fn validate(&self) -> Result<()> {
        match self.remove_heads > 0 && !self.is_by_hand() {
            true => Err(Error::config(
                "`remove_heads` has an effect only with structure = \"ul-mm\" and \"al-mm\"",
            )),
            false => Ok(()),
        }
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn check(&self, widths: Widths) -> Result<()> {
        match (widths, self.structure) {
            (Widths::Uniform, Some(structure)) => Err(Error::config(format!(
                "with uniform widths, zprune itself chooses the numbers of heads and neurons; leave structure = \"{}\" out, or use \
                 --widths per-block",
                choices::name(&structure)
            ))),
            _ => Ok(()),
        }
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<()> {
        within("units", share, 0.0..=MOST_UNITS)?;
        blocks_are_whole(spec)?;
        match widths {
            Widths::Uniform => equal_block(spec).map(drop),
            Widths::PerBlock => Ok(()),
        }
    }

    fn check_writing(&self, spec: &ModelSpec, share: f64, widths: Widths, pad: bool) -> Result<()> {
        if share == 0.0 {
            return Ok(());
        }
        if widths == Widths::PerBlock && (!self.is_by_hand() || self.remove_heads > 0) {
            heads_are_sayable(spec, pad)?;
        }
        if !self.bias {
            return Ok(());
        }
        let compensated = |linear: &LinearSpec| matches!(linear.role, Role::Output | Role::Down);
        let possible = with_biases(spec, compensated).map(drop);
        possible.map_err(|error| Error::config(format!("{error}; without biases (--set bias=false) it can be written")))
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit> {
        self.check(widths)?;
        let source = model.source();
        self.check_model(source.spec(), share, widths)?;
        let features = model.features()?;
        let mut edit = match widths {
            Widths::PerBlock => self.per_block(source, &features, share)?,
            Widths::Uniform => {
                let scores = self.all_scores(source, &features, Structure::UlUm)?;
                uniform(source.spec(), &scores, share)?
            }
        };
        if self.bias && edit != Edit::whole(source.spec()) {
            for (edit, features) in edit.blocks.iter_mut().zip(&features) {
                compensate(source, edit, features)?;
            }
        }
        Ok(edit)
    }
}

impl Flap {
    /// Whether the number of heads is chosen by hand.
    fn is_by_hand(&self) -> bool {
        matches!(self.structure, Some(Structure::UlMm | Structure::AlMm))
    }

    /// What is left where blocks may differ, without biases.
    fn per_block(&self, source: &dyn WeightSource, features: &[BlockFeatures], share: f64) -> Result<Edit> {
        within("units", share, 0.0..=MOST_UNITS)?;
        let spec = source.spec();
        let structure = self.structure.unwrap_or(Structure::AlAm);
        let scores = self.all_scores(source, features, structure)?;
        let blocks: Vec<&BlockSpec> = (0..spec.blocks).map(|index| spec.block(index).as_ref()).collect();
        let kept = match structure {
            Structure::AlAm => adaptive(&blocks, &scores, share),
            Structure::UlUm | Structure::UlMm => self.equal_parts(structure, &blocks, &scores, share),
            Structure::AlMm => self.by_hand(&blocks, &scores, share),
        };
        let mut edit = Edit::whole(spec);
        for ((edit, block), (groups, neurons)) in edit.blocks.iter_mut().zip(&blocks).zip(kept) {
            edit.keep_groups(&groups, block);
            edit.neurons = neurons;
        }
        Ok(edit)
    }

    /// The scores of all units of all blocks.
    fn all_scores(
        &self,
        source: &dyn WeightSource,
        features: &[BlockFeatures],
        structure: Structure,
    ) -> Result<Vec<UnitScores>> {
        let each = features.iter().enumerate();
        each.map(|(index, features)| {
            let heads = self.metric(weight(source, index, Role::Output)?.view(), &features.heads);
            let neurons = self.metric(weight(source, index, Role::Down)?.view(), &features.neurons);
            Ok(self.scores(source.spec().block(index), structure, &[heads, neurons]))
        })
        .collect()
    }

    /// The score of each input of a layer with this weight.
    pub fn metric(&self, weight: ArrayView2<f32>, features: &Features) -> Vec<f64> {
        let column = |of: fn(f64) -> f64| -> Vec<f64> {
            let columns = weight.columns().into_iter();
            columns
                .map(|column| column.iter().map(|weight| of(f64::from(*weight))).sum())
                .collect()
        };
        let times = |by: Vec<f64>, values: Vec<f64>| by.iter().zip(values).map(|(a, b)| a * b).collect();
        match self.metric {
            Metric::Ifv => features.fluctuation.clone(),
            Metric::Wifv => times(features.fluctuation.clone(), column(|weight| weight * weight)),
            Metric::Wifn => {
                let outputs = weight.nrows() as f64;
                let norms = features.squares.iter().map(|square| square.sqrt() / outputs);
                times(norms.collect(), column(f64::abs))
            }
        }
    }

    /// The scores of a block's units, from those of the inputs of its attention's output and of its MLP's second layer.
    fn scores(&self, block: &BlockSpec, structure: Structure, [heads, neurons]: &[Vec<f64>; 2]) -> UnitScores {
        let dim = block.attention.head_dim;
        let squared = heads.iter().map(|score| score * score);
        let standard = matches!(structure, Structure::AlAm | Structure::AlMm);
        // Where blocks are not compared, heads are ranked by their sum.
        let (heads, neurons): (Vec<f64>, Vec<f64>) = match standard {
            true => {
                let heads = standardised(&squared.collect::<Vec<f64>>());
                let means = heads.chunks(dim).map(|head| head.iter().sum::<f64>() / dim as f64);
                (means.collect(), standardised(neurons))
            }
            false => {
                let squared: Vec<f64> = squared.collect();
                (
                    squared.chunks(dim).map(|head| head.iter().sum()).collect(),
                    neurons.clone(),
                )
            }
        };
        let each = block.attention.heads_of_group();
        let divisor = match self.group {
            Grouping::Mean => each as f64,
            Grouping::Sum => 1.0,
        };
        let groups = heads.chunks(each).map(|group| group.iter().sum::<f64>() / divisor);
        UnitScores {
            groups: groups.collect(),
            heads,
            neurons,
        }
    }

    /// Groups and neurons that are left where every block loses the same fraction.
    fn equal_parts(
        &self,
        structure: Structure,
        blocks: &[&BlockSpec],
        scores: &[UnitScores],
        share: f64,
    ) -> Vec<(Vec<usize>, Vec<usize>)> {
        let by_block = blocks.iter().zip(scores);
        by_block
            .map(|(block, scores)| {
                let (groups, neurons) = (scores.groups.len(), scores.neurons.len());
                let (heads, neurons) = match structure {
                    Structure::UlMm => {
                        let cost = Cost::of(block);
                        let each = block.attention.heads_of_group();
                        let heads = self.remove_heads / blocks.len() / each;
                        let all = (groups * cost.group + neurons * cost.neuron) as f64;
                        let left = (share * all - (heads * cost.group) as f64).max(0.0);
                        (heads, (left / cost.neuron as f64) as usize)
                    }
                    _ => ((share * groups as f64) as usize, (share * neurons as f64) as usize),
                };
                let few = |count: usize, of: usize| count.min(of - 1);
                (
                    without_lowest(&scores.groups, few(heads, groups)),
                    without_lowest(&scores.neurons, few(neurons, scores.neurons.len())),
                )
            })
            .collect()
    }

    /// Groups and neurons that are left where the number of heads is chosen by hand, whatever block they are in.
    fn by_hand(&self, blocks: &[&BlockSpec], scores: &[UnitScores], share: f64) -> Vec<(Vec<usize>, Vec<usize>)> {
        let each = blocks.first().map_or(1, |block| block.attention.heads_of_group());
        let groups = lowest_anywhere(scores.iter().map(|scores| &scores.groups), self.remove_heads / each);
        let (mut all, mut lost, mut neuron) = (0, 0, 1);
        for ((block, scores), kept) in blocks.iter().zip(scores).zip(&groups) {
            let cost = Cost::of(block);
            all += scores.groups.len() * cost.group + scores.neurons.len() * cost.neuron;
            lost += (scores.groups.len() - kept.len()) * cost.group;
            neuron = cost.neuron;
        }
        let left = (share * all as f64 - lost as f64).max(0.0);
        let neurons = lowest_anywhere(
            scores.iter().map(|scores| &scores.neurons),
            (left / neuron as f64) as usize,
        );
        groups.into_iter().zip(neurons).collect()
    }
}

/// `(x - mean) / deviation`, with `n - 1` in the deviation's denominator.
fn standardised(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
    let standard = |value: &f64| match deviation > 0.0 {
        true => (value - mean) / deviation,
        false => 0.0,
    };
    values.iter().map(standard).collect()
}

/// Groups and neurons that are left where the scores of all units are compared: those above the score at which what is kept costs
/// most nearly as much as it should.
fn adaptive(blocks: &[&BlockSpec], scores: &[UnitScores], share: f64) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut units: Vec<(f64, usize)> = Vec::new();
    for kind in 0..2 {
        for (block, scores) in blocks.iter().zip(scores) {
            let cost = Cost::of(block);
            let (scores, cost) = match kind {
                0 => (&scores.groups, cost.group),
                _ => (&scores.neurons, cost.neuron),
            };
            units.extend(scores.iter().map(|score| (*score, cost)));
        }
    }
    units.sort_by(|a, b| b.0.total_cmp(&a.0));
    let all: usize = units.iter().map(|(_, cost)| cost).sum();
    let wanted = (1.0 - share) * all as f64;
    let mut sum = 0;
    let distances = units.iter().map(|(score, cost)| {
        sum += cost;
        ((sum as f64 - wanted).abs(), *score)
    });
    let nearest = distances.reduce(|best, next| if next.0 < best.0 { next } else { best });
    // What all units cost together is wanted: even the last is kept.
    let threshold = match nearest {
        Some((_, score)) if share > 0.0 => score,
        _ => f64::NEG_INFINITY,
    };
    let above = |scores: &Vec<f64>| -> Vec<usize> {
        let kept: Vec<usize> = (0..scores.len()).filter(|index| scores[*index] > threshold).collect();
        match kept.is_empty() {
            true => without_lowest(scores, scores.len() - 1),
            false => kept,
        }
    };
    scores
        .iter()
        .map(|scores| (above(&scores.groups), above(&scores.neurons)))
        .collect()
}

/// What is left of several lists of scores without the `count` lowest of all. The last one of a list is always kept.
fn lowest_anywhere<'a>(lists: impl Iterator<Item = &'a Vec<f64>>, count: usize) -> Vec<Vec<usize>> {
    let lists: Vec<&Vec<f64>> = lists.collect();
    let places = lists.iter().enumerate();
    let mut order: Vec<(usize, usize)> = places
        .flat_map(|(list, scores)| (0..scores.len()).map(move |index| (list, index)))
        .collect();
    order.sort_by(|a, b| lists[a.0][a.1].total_cmp(&lists[b.0][b.1]));
    let mut kept: Vec<Vec<bool>> = lists.iter().map(|scores| vec![true; scores.len()]).collect();
    let mut left: Vec<usize> = lists.iter().map(|scores| scores.len()).collect();
    let mut removed = 0;
    for (list, index) in order {
        if removed < count && left[list] > 1 {
            kept[list][index] = false;
            left[list] -= 1;
            removed += 1;
        }
    }
    let indices = |kept: Vec<bool>| {
        kept.iter()
            .enumerate()
            .filter(|(_, kept)| **kept)
            .map(|(index, _)| index)
            .collect()
    };
    kept.into_iter().map(indices).collect()
}

/// Adds to the biases of the layers that write to the stream what the removed inputs gave on average. A layer that lost nothing has a
/// bias afterwards, too, as in the released code.
fn compensate(source: &dyn WeightSource, edit: &mut BlockEdit, features: &BlockFeatures) -> Result<()> {
    let block = source.spec().block(edit.block).clone();
    let dim = block.attention.head_dim;
    let heads: Vec<usize> = edit
        .heads
        .iter()
        .flat_map(|head| head * dim..(head + 1) * dim)
        .collect();
    let parts = [
        (Role::Output, heads, &features.heads.mean),
        (Role::Down, edit.neurons.clone(), &features.neurons.mean),
    ];
    for (role, kept, mean) in parts {
        let Some(linear) = block.linears.iter().find(|linear| linear.role == role) else {
            continue;
        };
        if kept.len() == mean.len() {
            if !linear.bias {
                edit.biases.insert(role, Array1::zeros(linear.outputs));
            }
            continue;
        }
        let weights = source
            .linear(edit.block, linear)
            .at(format_args!("block {}", edit.block))?;
        let mut lost: Vec<f64> = mean.clone();
        kept.iter().for_each(|column| lost[*column] = 0.0);
        let before = weights.bias.unwrap_or_else(|| Array1::zeros(linear.outputs));
        let rows = weights.weight.rows().into_iter().zip(&before);
        let bias = rows.map(|(row, before)| {
            let lost = row.iter().zip(&lost).map(|(weight, mean)| f64::from(*weight) * mean);
            (f64::from(*before) + lost.sum::<f64>()) as f32
        });
        edit.biases.insert(role, bias.collect());
    }
    Ok(())
}
