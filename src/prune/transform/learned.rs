//! Learning scales and shifts of a block's layers from its outputs.
//!
//! A step chooses the masks of all layers again, from the criterion's scores of `W S`, passes some windows through the dense and the masked
//! block, and goes back from half the squared distance `L` of their outputs. With the removed weights `R = W - M * W`, the gradients `g`
//! with respect to the outputs of a layer, summed over tokens, and `G = sum g x^T`:
//!
//! - `dL/dd = R^T g`, exactly;
//! - `s` decides nothing but the masks. A mask that let a removed weight back would change the loss by `w_ij (G_ij - d_j g_i)`, to first order,
//!   and a larger `s_j` lets weights of column `j` back, so that the sum of these over `j`'s removed weights stands for `dL/d log s_j`. A
//!   common factor of all scales changes no mask: the mean over the columns is subtracted.

use super::learning::{Learning, Refresh, Start};
use super::step::{Change, Transform};
use crate::backend::gradient::GradientNeeds;
use crate::backend::moments::Needs;
use crate::calibrate::passes;
use crate::calibrate::statistics::Factoring;
use crate::calibrate::variables::{InputChange, Shifts};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::model::backward::BlockGradients;
use crate::model::forward::{Block, Hidden, of_distance};
use crate::prune::criterion::{Criterion, Wanda};
use crate::prune::formula::Formula;
use crate::prune::matrix::Matrix;
use crate::prune::pattern::Target;
use crate::prune::score::{Score, resolve};
use crate::prune::values::{Operand, Over, Values};
use crate::prune::workbench::{LayerView, Workbench};
use crate::spec::{LinearId, ModelSpec, Tap};
use crate::tensor::StorageType;
use ndarray::{Array1, Array2};
use std::collections::BTreeMap;

/// A layer of the block, and how it is going to be pruned.
#[derive(Debug, Clone, Copy)]
pub struct Masked {
    /// The layer.
    pub id: LinearId,
    /// How the checkpoint stores its weights.
    pub storage: StorageType,
    /// How much is removed, and from what.
    pub target: Target,
    /// Whether its inputs get other variables. The others only lose their weights.
    pub learns: bool,
}

/// What was learned of a block.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The change of variables of each layer that has one.
    pub changes: BTreeMap<LinearId, Change>,
    /// Of each epoch, the squared distance of the masked block's outputs from the dense one's, over all windows.
    pub losses: Vec<f64>,
}

/// A transform whose change of variables is known for the layer at hand.
pub struct Known(pub Change);

impl Transform for Known {
    fn shifts(&self) -> bool {
        self.0.inputs.shifts.is_some()
    }

    fn needs(&self) -> Needs {
        match self.shifts() {
            true => Needs::MEANS,
            false => Needs::NOTHING,
        }
    }

    fn change(&self, _layer: &dyn LayerView) -> Result<Change> {
        Ok(self.0.clone())
    }
}

/// The change of variables by these scales and shifts.
pub(super) fn changed(scales: Vec<f32>, shifts: Option<Vec<f64>>, refresh: Refresh) -> Change {
    let shifts = shifts.map(|own| Shifts { goal: own.clone(), own });
    let Change { scales, inputs } = Change::scaled(scales);
    let factors = match refresh {
        Refresh::Published => vec![1.0; inputs.factors.len()],
        Refresh::Equivalent => inputs.factors,
    };
    Change {
        scales,
        inputs: InputChange { factors, shifts },
    }
}

/// Learns the changes of variables of a block's layers. `hidden` is the stream before the block, and the block is dense. Masks follow the
/// criterion; one that needs Gram matrices is Wanda's in its place, the paper's equation (11).
///
/// # Errors
/// Tokens have weights, arithmetic breaks down, or the backend has no room.
#[expect(clippy::too_many_arguments, reason = "each is another thing that decides the result")]
pub fn learn<B: Workbench>(
    backend: &B,
    spec: &ModelSpec,
    (hidden, windows): (&Hidden<B>, &TokenWindows),
    block: &mut Block<B>,
    layers: &[Masked],
    criterion: &dyn Criterion,
    learning: &Learning,
    factoring: Factoring,
) -> Result<Learned> {
    if windows.weights().is_some() {
        return Err(Error::config(
            "scales and shifts are learned for a loss in which all tokens count alike; leave out the weights of calibration tokens, or \
             use another transform",
        ));
    }
    let taps = block.spec().taps();
    let moments = passes::observe(backend, spec, (hidden, &*block), None, &taps, Needs::MEANS, windows)?;
    let of = |(tap, moments): (Tap, &B::Moments)| Ok((tap, backend.statistics(moments, windows.count(), factoring)?));
    let statistics: BTreeMap<Tap, B::Statistics> = moments.taps().map(of).collect::<Result<_>>()?;
    let score = match criterion.needs().gram {
        true => Wanda {}.score(),
        false => criterion.score(),
    };
    let mut masked = block.copy(backend)?;
    let mut students = Vec::with_capacity(layers.len());
    for layer in layers {
        let tap = block.spec().linear(layer.id).tap();
        let statistics = &statistics[&tap];
        let mut student = Student::new(backend, block, statistics, *layer, learning)?;
        student.mask(backend, &mut masked, statistics, &score)?;
        students.push((statistics, student));
    }
    let count = windows.count();
    let mut losses = Vec::with_capacity(learning.epochs);
    for _ in 0..learning.epochs {
        let mut loss = 0.0;
        for first in (0..count).step_by(learning.batch) {
            let batch = first..(first + learning.batch).min(count);
            let mut sums = BlockGradients::new(backend, block.spec(), GradientNeeds::SUM)?;
            let mut outputs: BTreeMap<LinearId, Vec<f64>> = BTreeMap::new();
            for window in batch {
                loss += of_distance(
                    backend,
                    spec,
                    hidden,
                    (&*block, &masked),
                    window,
                    |id, x, dy, factor| {
                        sums.add(backend, id, (x, dy), 1, factor)?;
                        let width = backend.extent(dy).columns;
                        let mut moments = backend.moments(width, SUMS)?;
                        backend.accumulate_sums(&mut moments, dy, &[1.0])?;
                        let found = backend.read_moments(&moments)?.sums.unwrap_or_default();
                        let into = outputs.entry(id).or_insert_with(|| vec![0.0; width]);
                        for sums in found.sums {
                            into.iter_mut()
                                .zip(sums)
                                .for_each(|(into, sum)| *into += sum * f64::from(factor));
                        }
                        Ok(())
                    },
                )?;
            }
            let mut sums: BTreeMap<LinearId, B::Tensor> = sums
                .into_layers()
                .into_iter()
                .filter_map(|(id, gradient)| Some((id, gradient.sum?)))
                .collect();
            for (statistics, student) in students.iter_mut().filter(|(_, student)| student.layer.learns) {
                let id = student.layer.id;
                if let Some((products, outputs)) = sums.remove(&id).zip(outputs.remove(&id)) {
                    let products = backend.download(&products)?;
                    let stepped = student.step(backend, &mut masked, statistics, (&products, &outputs));
                    stepped.at(block.spec().linear(id).tensor)?;
                }
                student.mask(backend, &mut masked, statistics, &score)?;
            }
        }
        losses.push(loss);
    }
    let changes = students.into_iter().filter(|(_, student)| student.layer.learns);
    Ok(Learned {
        changes: changes
            .map(|(_, student)| (student.layer.id, student.change()))
            .collect(),
        losses,
    })
}

/// Only the sums of features.
const SUMS: Needs = Needs {
    means: true,
    ..Needs::NOTHING
};

/// A layer whose variables are learned.
struct Student {
    layer: Masked,
    learning: Learning,
    /// The dense weights and the bias.
    weight: Matrix,
    bias: Option<Array1<f32>>,
    /// The removed weights, with 0 in place of those that are kept.
    removed: Matrix,
    /// The shifts at the start.
    start: Vec<f64>,
    /// The standard deviations of the inputs, which shifts are measured in.
    spreads: Vec<f64>,
    /// The logarithms of the scales.
    scales: Adam,
    /// What was added to the shifts, in standard deviations.
    shifts: Adam,
}

impl Student {
    fn new<B: Workbench>(
        backend: &B,
        block: &mut Block<B>,
        statistics: &B::Statistics,
        layer: Masked,
        learning: &Learning,
    ) -> Result<Self> {
        let bias = block.bias(layer.id).cloned();
        let piece = backend.workpiece(block.weight_mut(layer.id), layer.storage, statistics);
        let (means, weight) = (piece.means()?, piece.weight()?);
        let count = means.mean.len();
        Ok(Student {
            layer,
            learning: *learning,
            bias,
            removed: weight.clone(),
            weight,
            start: match learning.start {
                Start::Means => means.mean.clone(),
                Start::Zero => vec![0.0; count],
            },
            spreads: means.variance.iter().map(|variance| variance.sqrt()).collect(),
            scales: Adam::new(count),
            shifts: Adam::new(count),
        })
    }

    fn shifts(&self) -> Option<Vec<f64>> {
        let moved = self.shifts.values.iter().zip(&self.spreads);
        let all = self.start.iter().zip(moved);
        let all = all.map(|(start, (moved, spread))| start + moved * spread);
        self.learning.shifts.then(|| all.collect())
    }

    fn change(&self) -> Change {
        let scales = self.scales.values.iter().map(|log| log.exp() as f32).collect();
        changed(scales, self.shifts(), self.learning.refresh)
    }

    /// Chooses the mask for the present scales and shifts, and puts the masked layer into the block.
    fn mask<B: Workbench>(
        &mut self,
        backend: &B,
        block: &mut Block<B>,
        statistics: &B::Statistics,
        score: &Score,
    ) -> Result<()> {
        let Masked {
            id,
            storage,
            target,
            learns,
        } = self.layer;
        let mut piece = backend.workpiece(block.weight_mut(id), storage, statistics);
        piece.set_weight(&self.weight)?;
        if learns {
            self.change().apply(piece.as_mut())?;
        }
        let score = resolve(score, piece.as_ref())?;
        piece.select(&score, &target)?;
        piece.set_weight(&self.weight)?;
        let removed = (1.0 - Formula::Leaf(Operand::Kept)) * Formula::Leaf(Operand::Weight);
        self.removed = piece.map(piece.dim(), &removed.into())?;
        let mut bias = None;
        if let Some(shifts) = self.shifts().filter(|_| learns) {
            let mut added = Values::over([&self.removed], |[removed]| removed * Formula::Leaf(Operand::Column(0)));
            added.vectors = vec![single(&shifts)];
            let added = piece.sums(&[(Over::Row, added)])?.into_iter().flatten();
            let added: Array1<f32> = added.map(|value| value as f32).collect();
            bias = Some(match &self.bias {
                Some(bias) => bias + &added,
                None => added,
            });
        }
        piece.remove()?;
        piece.finish()?;
        drop(piece);
        bias.map_or(Ok(()), |bias| block.replace_bias(backend, id, bias))
    }

    /// One step, given the sums of products of gradients with inputs, and those of gradients alone.
    fn step<B: Workbench>(
        &mut self,
        backend: &B,
        block: &mut Block<B>,
        statistics: &B::Statistics,
        (products, outputs): (&Array2<f32>, &[f64]),
    ) -> Result<()> {
        let piece = backend.workpiece(block.weight_mut(self.layer.id), self.layer.storage, statistics);
        let shifts = self.shifts();
        let sums = |values: Values| -> Result<Vec<f64>> {
            let sums = piece.read(&piece.reduce(piece.dim(), Over::Column, &values)?)?;
            let sums: Vec<f64> = sums.iter().map(|sum| f64::from(*sum)).collect();
            match sums.iter().find(|sum| !sum.is_finite()) {
                None => Ok(sums),
                Some(sum) => Err(Error::numeric(format!(
                    "a gradient of a scale or shift is {sum}; use a smaller `learning_rate`, or compute = \"f32\" if the backend computes \
                     in half precision"
                ))),
            }
        };
        let output = || Formula::Leaf(Operand::Row(0));
        let mut scaled = None;
        if self.learning.scales {
            let products = piece.matrix(products.view())?;
            let mut values = Values::over([&self.removed, &products], |[removed, products]| match &shifts {
                Some(_) => removed * (products - output() * Formula::Leaf(Operand::Column(1))),
                None => removed * products,
            });
            values.vectors = vec![single(outputs), single(shifts.as_deref().unwrap_or_default())];
            let mut gradient = sums(values)?;
            let mean = gradient.iter().sum::<f64>() / gradient.len() as f64;
            gradient.iter_mut().for_each(|value| *value -= mean);
            scaled = Some(gradient);
        }
        let mut moved = None;
        if self.learning.shifts {
            let mut values = Values::over([&self.removed], |[removed]| removed * output());
            values.vectors = vec![single(outputs)];
            let gradient = sums(values)?.into_iter().zip(&self.spreads);
            moved = Some(gradient.map(|(value, spread)| value * spread).collect::<Vec<f64>>());
        }
        for (adam, gradient) in [(&mut self.scales, scaled), (&mut self.shifts, moved)] {
            if let Some(gradient) = gradient {
                adam.step(&gradient, &self.learning);
            }
        }
        Ok(())
    }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// Parameters under AdamW (arXiv 1711.05101), which start at 0.
struct Adam {
    values: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    /// How slowly the moving means of gradients and of their squares forget.
    const BETAS: [f64; 2] = [0.9, 0.999];
    /// Keeps the quotient of the two finite.
    const EPSILON: f64 = 1e-8;

    fn new(count: usize) -> Self {
        Adam {
            values: vec![0.0; count],
            first: vec![0.0; count],
            second: vec![0.0; count],
            steps: 0,
        }
    }

    fn step(&mut self, gradient: &[f64], learning: &Learning) {
        self.steps += 1;
        let [one, two] = Adam::BETAS;
        let [first_part, second_part] = Adam::BETAS.map(|beta| 1.0 - beta.powi(self.steps));
        let rate = learning.learning_rate;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, (first, second)), gradient) in self.values.iter_mut().zip(moments).zip(gradient) {
            *first = one * *first + (1.0 - one) * gradient;
            *second = two * *second + (1.0 - two) * gradient * gradient;
            *value -= rate * learning.weight_decay * *value;
            *value -= rate * (*first / first_part) / ((*second / second_part).sqrt() + Adam::EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of PyTorch's AdamW (2.15.0, betas 0.9 and 0.999, eps 1e-8) for these gradients.
    #[test]
    fn adam_is_pytorchs() {
        let learning = Learning {
            epochs: 1,
            batch: 1,
            learning_rate: 0.1,
            weight_decay: 0.01,
            scales: true,
            shifts: true,
            start: Start::Zero,
            refresh: Refresh::Published,
        };
        let mut adam = Adam::new(2);
        adam.values = vec![1.0, -2.0];
        for gradient in [[0.5, -1.0], [0.25, 3.0], [-2.0, 0.0]] {
            adam.step(&gradient, &learning);
        }
        let want = [0.8462243624463675, -1.981776480259877];
        for (got, want) in adam.values.iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{got}, not {want}");
        }
    }
}
