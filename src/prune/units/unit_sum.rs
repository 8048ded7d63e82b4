//! Magnitudes or Wanda's scores, added up over all weights of a unit: the baselines that papers call mag-sp and Wanda-sp.
//!
//! A neuron's score is the sum over its rows of the MLP's first layers and its column of the second, a head's the sum over its rows
//! of queries, keys and values and its columns of the attention's output. A key-value head is scored with all its query heads.

use super::scores::{UnitScores, weight};
use super::step::{DenseModel, UnitMethod, Widths};
use super::survey::BlockFeatures;
use super::uniform::{MOST_UNITS, blocks_are_whole, equal_block, uniform};
use crate::error::{Error, Result};
use crate::model::edit::Edit;
use crate::model::source::WeightSource;
use crate::prune::range::within;
use crate::spec::{ModelSpec, Role};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

/// Sums of scores of single weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitSum {
    /// What is added up: `wanda`.
    pub score: Summed,
}

/// What is added up over the weights of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Summed {
    /// Their sizes.
    Magnitude,
    /// Their sizes times the norms of their inputs.
    #[default]
    Wanda,
}

impl UnitMethod for UnitSum {
    fn calibrates(&self) -> bool {
        self.score == Summed::Wanda
    }

    fn check(&self, widths: Widths) -> Result<()> {
        match widths {
            Widths::Uniform => Ok(()),
            Widths::PerBlock => Err(Error::config(
                "sums of scores say nothing about how much a block should lose compared with another; use --widths uniform",
            )),
        }
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, _: Widths) -> Result<()> {
        within("units", share, 0.0..=MOST_UNITS)?;
        blocks_are_whole(spec)?;
        equal_block(spec).map(drop)
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit> {
        self.check(widths)?;
        let source = model.source();
        self.check_model(source.spec(), share, widths)?;
        let features = match self.calibrates() {
            true => Some(model.features()?),
            false => None,
        };
        let blocks = 0..source.spec().blocks;
        let scores = blocks.map(|index| self.scores(source, index, features.as_ref().map(|all| &all[index])));
        uniform(source.spec(), &scores.collect::<Result<Vec<_>>>()?, share)
    }
}

impl UnitSum {
    fn scores(&self, source: &dyn WeightSource, index: usize, features: Option<&BlockFeatures>) -> Result<UnitScores> {
        let block = source.spec().block(index).clone();
        let attention = &block.attention;
        let mut scores = UnitScores {
            heads: vec![0.0; attention.heads],
            groups: vec![0.0; attention.kv_heads],
            neurons: vec![0.0; block.neurons()],
        };
        let each = attention.heads_of_group();
        for linear in &block.linears {
            let weight = weight(source, index, linear.role)?;
            let norms: Vec<f64> = match features {
                None => vec![1.0; linear.inputs],
                Some(features) => features
                    .squares(linear.role.place())
                    .iter()
                    .map(|square| square.sqrt())
                    .collect(),
            };
            let mut add =
                |unit: &mut dyn FnMut(usize) -> Option<usize>, into: fn(&mut UnitScores) -> &mut Vec<f64>, axis| {
                    for (line, sum) in sums(&weight, &norms, axis).into_iter().enumerate() {
                        if let Some(unit) = unit(line) {
                            into(&mut scores)[unit] += sum;
                        }
                    }
                };
            let dim = attention.head_dim;
            match linear.role {
                Role::Query => add(&mut |row| Some(row / dim), |it| &mut it.heads, Axis(0)),
                Role::Key | Role::Value => add(&mut |row| Some(row / dim), |it| &mut it.groups, Axis(0)),
                Role::Output => add(&mut |column| Some(column / dim), |it| &mut it.heads, Axis(1)),
                Role::Gate | Role::Up => add(&mut Some, |it| &mut it.neurons, Axis(0)),
                Role::Down => add(&mut Some, |it| &mut it.neurons, Axis(1)),
                // No configuration of such a model says how large a head is, so with equal widths all heads stay.
                Role::Fused(_) => {}
            }
        }
        for (group, heads) in scores.groups.iter_mut().zip(scores.heads.chunks(each)) {
            *group += heads.iter().sum::<f64>();
        }
        Ok(scores)
    }
}

/// The sums of `|w| norm` over each row (axis 0) or column (axis 1).
fn sums(weight: &Array2<f32>, norms: &[f64], axis: Axis) -> Vec<f64> {
    let mut sums = vec![0.0; weight.len_of(axis)];
    for ((row, column), weight) in weight.indexed_iter() {
        let line = if axis == Axis(0) { row } else { column };
        sums[line] += f64::from(weight.abs()) * norms[column];
    }
    sums
}
