//! Claims about scales and shifts of the inputs of layers, as Sparsity Induction (arXiv 2602.21652) folds them into the norms and layers
//! before: without a mask they change nothing, and a layer that zprune prunes in other variables and puts back computes what the layer
//! of the folded model does after it is pruned as it is. Queries and keys can be scaled against each other only where the rotary
//! embedding and the heads that share a key allow it.

use super::{golden, logits_of};
use ndarray::{Array1, Array2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::model::checkpoint::{Checkpoint, LinearWeights, NormWeights};
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::model::source::WeightSource;
use zprune::prune::criterion::{Criterion, Magnitude, Wanda};
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::{Group, Pattern};
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::OneShot;
use zprune::prune::transform::{Centre, Change, Scale, Transform};
use zprune::prune::workbench::LayerView;
use zprune::spec::{LinearSpec, ModelSpec, NormPlace, NormSpec, Role, TapPlace};

/// Scales and shifts of what layers read: the input `x` becomes `(x - d) / s`.
#[derive(Clone, Default)]
struct Variables {
    scales: BTreeMap<(usize, TapPlace), Array1<f32>>,
    shifts: BTreeMap<(usize, TapPlace), Array1<f32>>,
    /// What the rows of queries are multiplied by, and of keys.
    queries: BTreeMap<usize, [Array1<f32>; 2]>,
}

/// A model with these variables: norms, values and the first layers of MLPs give the new inputs, and the layers that read them have
/// other weights.
struct Folded<'a> {
    model: &'a dyn WeightSource,
    variables: Variables,
}

impl Folded<'_> {
    fn scale(&self, index: usize, place: TapPlace) -> Option<&Array1<f32>> {
        self.variables.scales.get(&(index, place))
    }

    fn shift(&self, index: usize, place: TapPlace) -> Option<&Array1<f32>> {
        self.variables.shifts.get(&(index, place))
    }
}

fn multiply_rows(weights: &mut LinearWeights, by: &Array1<f32>) {
    for (mut row, by) in weights.weight.rows_mut().into_iter().zip(by) {
        row *= *by;
    }
    if let Some(bias) = &mut weights.bias {
        *bias *= by;
    }
}

impl WeightSource for Folded<'_> {
    fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.model.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.model.norm(prefix, norm)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        let mut norms = self.model.norms(index)?;
        for (place, norm) in &mut norms {
            let place = match place {
                NormPlace::Attention => TapPlace::AttentionIn,
                NormPlace::Mlp => TapPlace::MlpIn,
                _ => continue,
            };
            if let (Some(bias), Some(shift)) = (&mut norm.bias, self.shift(index, place)) {
                *bias -= shift;
            }
            if let Some(scale) = self.scale(index, place) {
                for values in [&mut norm.gain, &mut norm.bias].into_iter().flatten() {
                    *values /= scale;
                }
            }
        }
        Ok(norms)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let mut weights = self.model.linear(index, linear)?;
        let place = linear.role.place();
        if let (Some(bias), Some(shift)) = (&mut weights.bias, self.shift(index, place)) {
            *bias += &weights.weight.dot(shift);
        }
        if let Some(scale) = self.scale(index, place) {
            weights.weight *= scale;
        }
        let read = match linear.role {
            Role::Value => TapPlace::AttentionOut,
            Role::Up => TapPlace::MlpMiddle,
            role @ (Role::Query | Role::Key) => {
                if let Some(by) = self.variables.queries.get(&index) {
                    multiply_rows(&mut weights, &by[usize::from(role == Role::Key)]);
                }
                return Ok(weights);
            }
            _ => return Ok(weights),
        };
        if let (Some(bias), Some(shift)) = (&mut weights.bias, self.shift(index, read)) {
            *bias -= shift;
        }
        if let Some(scale) = self.scale(index, read) {
            multiply_rows(&mut weights, &scale.mapv(|scale| 1.0 / scale));
        }
        Ok(weights)
    }
}

/// A model with other linear layers.
struct Pruned<'a> {
    model: &'a dyn WeightSource,
    linears: BTreeMap<(usize, Role), LinearWeights>,
}

impl WeightSource for Pruned<'_> {
    fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.model.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.model.norm(prefix, norm)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        self.model.norms(index)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        Ok(self.linears[&(index, linear.role)].clone())
    }
}

/// A transform that remembers what it chose, layer by layer.
struct Remembered<T> {
    of: T,
    /// The second layer of an MLP stays as it is: no shift can go through a rectifier.
    but_down: bool,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl<T: Transform> Transform for Remembered<T> {
    fn transforms(&self, linear: &LinearSpec) -> bool {
        self.of.transforms(linear) && !(self.but_down && linear.role == Role::Down)
    }

    fn shifts(&self) -> bool {
        self.of.shifts()
    }

    fn needs(&self) -> Needs {
        self.of.needs()
    }

    fn change(&self, layer: &dyn LayerView) -> Result<Change> {
        let change = self.of.change(layer)?;
        self.changes.lock().expect("no thread failed").push(change.clone());
        Ok(change)
    }
}

fn opened(name: &str) -> Checkpoint {
    let case = golden(name);
    Checkpoint::open(&case, read_spec(&case).expect("supported")).expect("a golden checkpoint")
}

fn windows(spec: &ModelSpec) -> TokenWindows {
    let ids = (0..192).map(|token| token * 37 % spec.vocabulary as u32).collect();
    TokenWindows::new(ids, 24).expect("eight windows")
}

/// The largest difference of logits as a part of the largest logit.
fn apart(one: &dyn WeightSource, other: &dyn WeightSource) -> f32 {
    let windows = windows(one.spec());
    let [one, other] = [one, other].map(|model| logits_of(model, &windows).expect("it computes"));
    let largest = one.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let differences = one.iter().zip(&other).map(|(one, other)| (one - other).abs());
    differences.fold(0.0f32, f32::max) / largest
}

/// Random variables of all layers: of a model with biases shifts, too, where nothing between forbids them.
fn random(spec: &ModelSpec, shifted: bool, power_of_two: bool) -> Variables {
    let random = &mut ChaCha8Rng::seed_from_u64(11);
    let mut variables = Variables::default();
    for index in 0..spec.blocks {
        for tap in spec.block(index).taps() {
            let scale = |random: &mut ChaCha8Rng| match power_of_two {
                true => f32::powi(2.0, random.random_range(-3..4)),
                false => random.random_range(-1.5f32..1.5).exp(),
            };
            let scales = (0..tap.width).map(|_| scale(random)).collect();
            variables.scales.insert((index, tap.place), scales);
            if shifted && tap.place != TapPlace::MlpMiddle {
                let shifts = (0..tap.width).map(|_| random.random_range(-0.5f32..0.5)).collect();
                variables.shifts.insert((index, tap.place), shifts);
            }
        }
    }
    variables
}

#[test]
fn without_a_mask_scales_and_shifts_change_nothing() {
    for (name, shifted) in [("llama_mha_untied", false), ("opt_base", true)] {
        let model = opened(name);
        let variables = random(model.spec(), shifted, false);
        let folded = Folded {
            model: &model,
            variables,
        };
        let found = apart(&model, &folded);
        println!("{name}: {found:.1e}");
        assert!(found < 1e-5, "{name}: {found:.1e}");
        let linear = &model.spec().block(0).linears[0];
        let [before, after] = [&model as &dyn WeightSource, &folded].map(|it| it.linear(0, linear).expect("there"));
        assert_ne!(before.weight, after.weight, "{name}");
    }
}

#[test]
fn what_is_folded_can_be_unfolded() {
    for name in ["llama_mha_untied", "opt_base"] {
        let model = opened(name);
        // Powers of two are not rounded.
        let variables = random(model.spec(), false, true);
        let mut back = variables.clone();
        for scales in back.scales.values_mut() {
            scales.mapv_inplace(|scale| 1.0 / scale);
        }
        let folded = Folded {
            model: &model,
            variables,
        };
        let unfolded = Folded {
            model: &folded,
            variables: back,
        };
        for index in 0..model.spec().blocks {
            for linear in &model.spec().block(index).linears {
                let [before, after] =
                    [&model as &dyn WeightSource, &unfolded].map(|it| it.linear(index, linear).expect("there"));
                assert_eq!(before.weight, after.weight, "{name}: {}", linear.tensor);
                assert_eq!(before.bias, after.bias, "{name}: {}", linear.tensor);
            }
            let norms = |of: &dyn WeightSource| of.norms(index).expect("there");
            for ((_, before), (_, after)) in norms(&model).iter().zip(&norms(&unfolded)) {
                assert_eq!((&before.gain, &before.bias), (&after.gain, &after.bias), "{name}");
            }
        }
    }
}

/// Prunes a model to one half, row by row.
fn pruned<'a>(
    model: &'a dyn WeightSource,
    criterion: Box<dyn Criterion>,
    transform: Option<Box<dyn Transform>>,
) -> Pruned<'a> {
    let recipe = Recipe {
        transform,
        group: Group::Row,
        ..Recipe::new(criterion, Box::new(OneShot {}))
    };
    let (ends, windows) = (Ends::upload(&Cpu, model).expect("room"), windows(model.spec()));
    let calibration = Calibration::Windows(&windows);
    let mut linears = BTreeMap::new();
    let half = Pattern::Unstructured { sparsity: 0.5 };
    prune_model(&Cpu, model, &ends, &recipe, half, &calibration, |block| {
        for weights in block.weights() {
            let weights = weights?;
            linears.insert((block.index, weights.role), weights);
        }
        Ok(())
    })
    .expect("prunable");
    Pruned { model, linears }
}

/// A criterion prunes a model in the variables of a transform, and as it is after these variables were folded into it.
fn folded_agrees(
    name: &str,
    criterion: &dyn Fn() -> Box<dyn Criterion>,
    transform: impl Transform + 'static,
    but_down: bool,
) {
    let model = opened(name);
    let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
    let remembered = Remembered {
        of: transform,
        but_down,
        changes: changes.clone(),
    };
    let ours = pruned(&model, criterion(), Some(Box::new(remembered)));
    let mut variables = Variables::default();
    let mut found = std::mem::take(&mut *changes.lock().expect("no thread failed")).into_iter();
    for index in 0..model.spec().blocks {
        for linear in &model.spec().block(index).linears {
            if but_down && linear.role == Role::Down {
                continue;
            }
            let change = found.next().expect("a change of each layer");
            let place = (index, linear.role.place());
            if let Some(scales) = change.scales {
                variables.scales.insert(place, Array1::from_vec(scales));
            }
            if let Some(shifts) = change.inputs.shifts {
                let shifts = shifts.own.iter().map(|shift| *shift as f32).collect();
                variables.shifts.insert(place, shifts);
            }
        }
    }
    assert!(found.next().is_none());
    let folded = Folded {
        model: &model,
        variables,
    };
    let theirs = pruned(&folded, criterion(), None);
    let plain = pruned(&model, criterion(), None);
    let differ = |one: &Pruned, other: &Pruned| -> usize {
        let each = one.linears.iter().map(|(place, weights)| {
            let pairs = weights.weight.iter().zip(&other.linears[place].weight);
            pairs.filter(|(one, other)| (**one == 0.0) != (**other == 0.0)).count()
        });
        each.sum()
    };
    let (same, others) = (differ(&ours, &theirs), differ(&ours, &plain));
    let far = apart(&theirs, &ours);
    println!("{name}: {same} weights apart, {far:.1e}; {others} apart from those without a transform");
    assert_eq!(same, 0, "{name}");
    assert!(far < 2e-5, "{name}: {far:.1e}");
    assert!(others > 100, "{name}: the transform does nothing");
}

#[test]
fn a_layer_in_other_variables_is_the_layer_of_the_folded_model() {
    for name in ["llama_mha_untied", "opt_base"] {
        folded_agrees(name, &|| Box::new(Magnitude {}), Scale { beta: 0.7 }, false);
    }
    folded_agrees("opt_base", &|| Box::new(Wanda {}), Centre::default(), true);
}

#[test]
fn queries_and_keys_share_the_scales_of_a_rotated_pair_and_of_a_group() {
    for name in ["llama_mha_untied", "llama_gqa_tied"] {
        let model = opened(name);
        let attention = model.spec().block(0).attention;
        let half = attention.head_dim / 2;
        let random = &mut ChaCha8Rng::seed_from_u64(5);
        let mut scale = || random.random_range(-1.0f32..1.0).exp();
        let own: Vec<f32> = (0..attention.heads * attention.head_dim).map(|_| scale()).collect();
        // For each feature of a query head, the one whose scale it has.
        let features = |of: &dyn Fn(usize, usize) -> usize| -> Array1<f32> {
            let each = (0..own.len()).map(|at| of(at / attention.head_dim, at % attention.head_dim));
            each.map(|at| own[at]).collect()
        };
        let group = attention.heads_of_group();
        let shared = features(&|head, feature| head / group * attention.head_dim + feature % half);
        let unpaired = features(&|head, feature| head / group * attention.head_dim + feature);
        let ungrouped = features(&|head, feature| head * attention.head_dim + feature % half);
        let found = [shared, unpaired, ungrouped].map(|queries| {
            // A key has the scale of the first query head of its group.
            let keys = (0..attention.kv_heads * attention.head_dim).map(|at| {
                let (head, feature) = (at / attention.head_dim * group, at % attention.head_dim);
                1.0 / queries[head * attention.head_dim + feature]
            });
            let by = [queries.clone(), keys.collect()];
            let queries = (0..model.spec().blocks).map(|index| (index, by.clone())).collect();
            let variables = Variables {
                queries,
                ..Variables::default()
            };
            apart(
                &model,
                &Folded {
                    model: &model,
                    variables,
                },
            )
        });
        println!("{name}: {found:?}");
        let [shared, unpaired, ungrouped] = found;
        assert!(shared < 1e-5, "{name}: {shared:.1e}");
        assert!(unpaired > 1e-3, "{name}: {unpaired:.1e}");
        assert_eq!(ungrouped > 1e-3, group > 1, "{name}: {ungrouped:.1e}");
    }
}
