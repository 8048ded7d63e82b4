//! LLM-Pruner: heads and neurons by first-order Taylor expansions of the loss (Ma et al., NeurIPS 2023, arXiv 2305.11627; reference:
//! horseee/LLM-Pruner).
//!
//! Each weight of a unit has the salience `w g`, with the gradient `g` of the loss on calibration text, or a form of it
//! ([`Taylor`]). A row of queries, keys, values or of the MLP's first layers, and a column of the attention's output or of the MLP's
//! second layer, has the sum of its weights' sizes of salience; a unit has the sum of its rows and columns. Biases do not count.
//!
//! With grouped queries the released code adds up the scores of other query heads than those that it removes with a key-value head.
//! `gqa = "llm-pruner"` repeats that; by default a key-value head is scored with the query heads that read it.

use super::scores::{UnitScores, weight, without_lowest};
use super::step::{DenseModel, RoleGradient, UnitMethod, Widths};
use super::uniform::{MOST_UNITS, equal_block, heads_are_sayable, uniform};
use crate::backend::gradient::GradientNeeds;
use crate::error::{Error, Located, Result};
use crate::model::edit::Edit;
use crate::model::source::WeightSource;
use crate::prune::range::within;
use crate::spec::{AttentionSpec, ModelSpec, Role};
use ndarray::{Array2, Axis, Zip};
use serde::{Deserialize, Serialize};

/// LLM-Pruner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlmPruner {
    /// What the loss of a weight is approximated by: `param-first`.
    pub taylor: Taylor,
    /// How query heads go together with key-value heads: `group`.
    pub gqa: Gqa,
    /// The first block that loses units, where blocks may differ: 0. The published commands have 4.
    pub first: usize,
    /// The first block after it that keeps all, where blocks may differ; the number of blocks. The published commands have 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<usize>,
}

/// What the loss of a weight is approximated by. `g` is the gradient of the mean loss, `h` the mean over sequences of the square of
/// each one's gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taylor {
    /// `|sum w g|` over each row or column.
    Vectorize,
    /// `sum |w g|`.
    #[default]
    ParamFirst,
    /// `sum |w^2 h|`.
    ParamSecond,
    /// `sum |w g - w^2 h / 2|`.
    ParamMix,
}

/// How query heads go together with key-value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gqa {
    /// A key-value head goes with the query heads that read it, and is scored with them.
    #[default]
    Group,
    /// Key-value heads stay; every one loses the same number of its query heads. Only where blocks may differ.
    EqualQ,
    /// As the released code: a key-value head goes with the query heads that read it, and is scored with others.
    LlmPruner,
}

impl UnitMethod for LlmPruner {
    fn calibrates(&self) -> bool {
        true
    }

    fn weighs_tokens(&self) -> bool {
        true
    }

    fn check(&self, widths: Widths) -> Result<()> {
        let some = self.first > 0 || self.end.is_some();
        match widths {
            Widths::Uniform if some || self.gqa == Gqa::EqualQ => Err(Error::config(
                "`first`, `end` and gqa = \"equal-q\" leave blocks or groups of different sizes than the others have; use --widths \
                 per-block",
            )),
            _ => Ok(()),
        }
    }

    fn check_model(&self, spec: &ModelSpec, share: f64, widths: Widths) -> Result<()> {
        within("units", share, 0.0..=MOST_UNITS)?;
        match widths {
            Widths::Uniform => equal_block(spec).map(drop),
            Widths::PerBlock => self.end(spec).map(drop),
        }
    }

    fn check_writing(&self, spec: &ModelSpec, share: f64, widths: Widths, pad: bool) -> Result<()> {
        match widths == Widths::PerBlock && self.loses_heads(spec, share) {
            true => heads_are_sayable(spec, pad),
            false => Ok(()),
        }
    }

    fn gradients(&self) -> GradientNeeds {
        GradientNeeds {
            sum: self.taylor != Taylor::ParamSecond,
            squares: matches!(self.taylor, Taylor::ParamSecond | Taylor::ParamMix),
            magnitudes: false,
        }
    }

    fn room(&self, spec: &ModelSpec) -> u64 {
        // The gradients of a block as they were read, and the salience of a layer in double precision.
        let blocks = spec.kinds().map(|(block, _)| {
            let layers = block.linears.iter().map(|linear| linear.outputs * linear.inputs);
            4 * self.gradients().count() * block.prunable() + 12 * layers.max().unwrap_or(0)
        });
        blocks.max().unwrap_or(0) as u64
    }

    fn edit(&self, model: &dyn DenseModel, share: f64, widths: Widths) -> Result<Edit> {
        self.check(widths)?;
        let spec = model.source().spec();
        self.check_model(spec, share, widths)?;
        let scores = self.scores(model)?;
        match widths {
            Widths::Uniform => uniform(spec, &scores, share),
            Widths::PerBlock => self.per_block(spec, &scores, share),
        }
    }
}

impl LlmPruner {
    /// The scores of the units of every block.
    ///
    /// # Errors
    /// Weights are unusable, the model has no gradients, or the backend fails.
    pub fn scores(&self, model: &dyn DenseModel) -> Result<Vec<UnitScores>> {
        let source = model.source();
        let mut found: Vec<(usize, UnitScores)> = Vec::new();
        model.gradients(self.gradients(), &mut |index, gradients| {
            found.push((index, self.of_block(source, index, gradients)?));
            Ok(())
        })?;
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, scores)| scores).collect())
    }

    fn of_block(&self, source: &dyn WeightSource, index: usize, gradients: &[RoleGradient]) -> Result<UnitScores> {
        let block = source.spec().block(index).clone();
        let attention = &block.attention;
        let dim = attention.head_dim;
        let mut queries = vec![0.0; attention.heads * dim];
        let mut keys = vec![0.0; attention.kv_heads * dim];
        let mut neurons = vec![0.0; block.neurons()];
        for gradient in gradients {
            let weight = weight(source, index, gradient.role)?;
            let salience = self.salience(&weight, gradient).at(format_args!("block {index}"))?;
            let (sums, axis) = match gradient.role {
                Role::Query | Role::Fused(_) => (&mut queries, Axis(0)),
                Role::Key | Role::Value => (&mut keys, Axis(0)),
                Role::Output => (&mut queries, Axis(1)),
                Role::Gate | Role::Up => (&mut neurons, Axis(0)),
                Role::Down => (&mut neurons, Axis(1)),
            };
            for (place, line) in salience.axis_iter(axis).enumerate() {
                let place = match gradient.role {
                    Role::Fused(fusion) => fusion.feature_of(place, attention),
                    _ => place,
                };
                sums[place] += match self.taylor {
                    Taylor::Vectorize => line.sum().abs(),
                    _ => line.iter().map(|salience| salience.abs()).sum(),
                };
            }
        }
        let in_heads = |features: &[f64]| features.chunks(dim).map(|head| head.iter().sum()).collect::<Vec<f64>>();
        let heads = in_heads(&queries);
        let mut groups = in_heads(&keys);
        for (group, score) in groups.iter_mut().enumerate() {
            *score += scored_with(self.gqa, attention, group)
                .map(|head| heads[head])
                .sum::<f64>();
        }
        Ok(UnitScores { heads, groups, neurons })
    }

    /// The salience of every weight.
    fn salience(&self, weight: &Array2<f32>, gradient: &RoleGradient) -> Result<Array2<f64>> {
        let missing = || Error::numeric("a gradient was not gathered");
        let mut salience = Array2::zeros(weight.dim());
        if self.taylor != Taylor::ParamSecond {
            let first = gradient.mean.as_ref().ok_or_else(missing)?;
            Zip::from(&mut salience)
                .and(weight)
                .and(first)
                .for_each(|salience, weight, first| *salience = f64::from(*weight) * f64::from(*first));
        }
        if matches!(self.taylor, Taylor::ParamSecond | Taylor::ParamMix) {
            let second = gradient.squares.as_ref().ok_or_else(missing)?;
            let factor = match self.taylor {
                Taylor::ParamSecond => 1.0,
                _ => -0.5,
            };
            Zip::from(&mut salience)
                .and(weight)
                .and(second)
                .for_each(|salience, weight, second| {
                    *salience += factor * f64::from(*weight).powi(2) * f64::from(*second)
                });
        }
        Ok(salience)
    }

    /// The first block that keeps all, where blocks may differ.
    ///
    /// # Errors
    /// There are no such blocks.
    fn end(&self, spec: &ModelSpec) -> Result<usize> {
        let end = self.end.unwrap_or(spec.blocks);
        match self.first < end && end <= spec.blocks {
            true => Ok(end),
            false => Err(Error::config(format!(
                "blocks {} to {end} of {} lose units: `first` must be below `end`, and `end` at most the number of blocks",
                self.first, spec.blocks
            ))),
        }
    }

    /// Whether any block loses heads, where blocks may differ.
    fn loses_heads(&self, spec: &ModelSpec, share: f64) -> bool {
        let mut kinds = spec.kinds();
        kinds.any(|(block, _)| match self.gqa {
            Gqa::EqualQ => fewer_queries(&block.attention, share) > 0,
            Gqa::Group | Gqa::LlmPruner => fewer_groups(&block.attention, share) > 0,
        })
    }

    /// What is left where blocks may differ, by these scores: in those from `first` to `end`, the released counts.
    ///
    /// # Errors
    /// There are no such blocks.
    pub fn per_block(&self, spec: &ModelSpec, scores: &[UnitScores], share: f64) -> Result<Edit> {
        let end = self.end(spec)?;
        let mut edit = Edit::whole(spec);
        for (edit, scores) in edit.blocks.iter_mut().zip(scores).take(end).skip(self.first) {
            let block = spec.block(edit.block);
            let neurons = lost(scores.neurons.len(), share);
            edit.neurons = without_lowest(&scores.neurons, neurons.min(scores.neurons.len().saturating_sub(1)));
            if self.gqa == Gqa::EqualQ {
                // A block without attention has no groups.
                let each = block.attention.heads_of_group().max(1);
                let fewer = fewer_queries(&block.attention, share);
                let groups = scores.heads.chunks(each).enumerate();
                let kept = groups.flat_map(|(group, scores)| {
                    let kept = without_lowest(scores, fewer).into_iter();
                    kept.map(move |head| group * each + head)
                });
                edit.heads = kept.collect();
            } else {
                edit.keep_groups(
                    &without_lowest(&scores.groups, fewer_groups(&block.attention, share)),
                    block,
                );
            }
        }
        Ok(edit)
    }
}

/// How many of `count` go, as the released code rounds.
fn lost(count: usize, share: f64) -> usize {
    count - (count as f64 * (1.0 - share)) as usize
}

/// How many query heads every key-value head loses, if these stay.
fn fewer_queries(attention: &AttentionSpec, share: f64) -> usize {
    let each = attention.heads_of_group();
    lost(each, share).min(each.saturating_sub(1))
}

/// How many key-value heads go, with their query heads.
fn fewer_groups(attention: &AttentionSpec, share: f64) -> usize {
    let AttentionSpec { kv_heads, head_dim, .. } = *attention;
    (lost(kv_heads * head_dim, share) / head_dim).min(kv_heads.saturating_sub(1))
}

/// The query heads whose scores count for a key-value head.
fn scored_with(gqa: Gqa, attention: &AttentionSpec, group: usize) -> impl Iterator<Item = usize> {
    let each = attention.heads_of_group();
    let (first, step) = match gqa {
        Gqa::Group | Gqa::EqualQ => (group * each, 1),
        // The released code lays the rows of queries over those of keys, as often as there are more of them.
        Gqa::LlmPruner => (group, attention.kv_heads),
    };
    (0..each).map(move |place| first + place * step)
}
