//! Claim: a model whose second block has fewer neurons is scored, pruned, written and read like any other.

use crate::gpu;
use ndarray::{Array1, Array2, Axis, s};
use std::path::{Path, PathBuf};
use zprune::backend::cpu::{Cpu, CpuBf16};
use zprune::backend::{Backend, Compute};
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::files::Staging;
use zprune::model::checkpoint::{Checkpoint, LinearWeights, NormWeights};
use zprune::model::export::ModelWriter;
use zprune::model::families::read_spec;
use zprune::model::folder::Links;
use zprune::model::forward::{Block, Ends, Hidden};
use zprune::model::source::WeightSource;
use zprune::prune::allocator::ALLOCATORS;
use zprune::prune::criterion::CRITERIA;
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::{Group, Pattern, Selection};
use zprune::prune::recipe::Recipe;
use zprune::prune::solver::SOLVERS;
use zprune::prune::workbench::Workbench;
use zprune::spec::{LinearSpec, ModelSpec, NormPlace, NormSpec, Positions, Role};

/// The block with fewer neurons.
const NARROW: usize = 1;

/// A checkpoint of equal blocks, read as one whose second block has some of its neurons only.
struct Narrowed {
    whole: Checkpoint,
    spec: ModelSpec,
    kept: Vec<usize>,
}

impl Narrowed {
    fn new() -> Self {
        let whole = Checkpoint::open(&folder(), read_spec(&folder()).expect("supported")).expect("a golden checkpoint");
        let mut spec = whole.spec().clone();
        let mut block = spec.block(NARROW).as_ref().clone();
        // Two of three, from the first on.
        let kept: Vec<usize> = (0..block.neurons()).filter(|neuron| neuron % 3 != 1).collect();
        for linear in &mut block.linears {
            match linear.role {
                Role::Gate | Role::Up => linear.outputs = kept.len(),
                Role::Down => linear.inputs = kept.len(),
                _ => {}
            }
        }
        spec.set_block(NARROW, block);
        assert_ne!(spec.block(NARROW).neurons(), spec.block(0).neurons());
        Narrowed { whole, spec, kept }
    }
}

impl WeightSource for Narrowed {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        self.whole.matrix(name)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.whole.norm(prefix, norm)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        let mut weights = self.whole.linear(index, linear)?;
        if index == NARROW {
            let axis = match linear.role {
                Role::Gate | Role::Up => Some(Axis(0)),
                Role::Down => Some(Axis(1)),
                _ => None,
            };
            if let Some(axis) = axis {
                weights.weight = weights
                    .weight
                    .select(axis, &self.kept)
                    .as_standard_layout()
                    .into_owned();
            }
        }
        Ok(weights)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        self.whole.norms(index)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/llama_gqa_tied")
}

fn windows() -> TokenWindows {
    TokenWindows::new((0..96).map(|t| t * 37 % 89).collect(), 24).expect("four windows")
}

fn logits<B: Backend>(backend: &B, source: &dyn WeightSource, windows: &TokenWindows) -> Result<Array2<f32>> {
    let ends = Ends::upload(backend, source)?;
    let mut hidden = Hidden::embed(backend, source.spec(), &ends, windows)?;
    for index in 0..source.spec().blocks {
        let block = Block::load(backend, source, index)?;
        hidden.advance(backend, source.spec(), &block, |_, _| Ok(()))?;
    }
    hidden.logits(backend, &ends)
}

/// The logits of a LLaMA with tied embeddings in plain loops of double precision, token by token, whatever the sizes of its blocks.
fn plain(source: &dyn WeightSource, windows: &TokenWindows) -> Array2<f64> {
    let spec = source.spec();
    let embedding = source.matrix(&spec.embedding.tensor).expect("there").mapv(f64::from);
    let Positions::Rotary { frequencies } = &spec.positions else {
        panic!("a LLaMA turns its heads")
    };
    let rms = |x: &Array2<f64>, norm: &NormSpec, gain: &NormWeights| {
        let gain = gain.gain.as_ref().expect("a LLaMA has gains").mapv(f64::from);
        let mut y = x.clone();
        for mut row in y.rows_mut() {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            row.mapv_inplace(|x| x / (mean + f64::from(norm.epsilon)).sqrt());
            row *= &gain;
        }
        y
    };
    let turned = |x: &mut Array2<f64>, dim: usize| {
        let pairs = frequencies[0].len();
        for (position, mut row) in x.rows_mut().into_iter().enumerate() {
            for head in 0..row.len() / dim {
                for (pair, frequency) in frequencies[0].iter().enumerate() {
                    let angle = position as f64 * f64::from(*frequency);
                    let (a, b) = (head * dim + pair, head * dim + pair + pairs);
                    let (first, second) = (row[a], row[b]);
                    row[a] = first * angle.cos() - second * angle.sin();
                    row[b] = second * angle.cos() + first * angle.sin();
                }
            }
        }
    };
    let mut all = Vec::new();
    for ids in windows.ids().chunks(windows.length()) {
        let ids: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
        let mut x = embedding.select(Axis(0), &ids);
        for index in 0..spec.blocks {
            let block = spec.block(index);
            let norms = source.norms(index).expect("there");
            let normed = |x: &Array2<f64>, wanted: NormPlace| {
                let (_, gain) = norms.iter().find(|(place, _)| *place == wanted).expect("there");
                rms(x, block.norm(wanted).expect("there"), gain)
            };
            let apply = |role: Role, x: &Array2<f64>| {
                let linear = block.linears.iter().find(|linear| linear.role == role).expect("there");
                x.dot(&source.linear(index, linear).expect("there").weight.mapv(f64::from).t())
            };
            let attention = block.attention;
            let dim = attention.head_dim;
            let input = normed(&x, NormPlace::Attention);
            let [mut q, mut k, v] = [Role::Query, Role::Key, Role::Value].map(|role| apply(role, &input));
            turned(&mut q, dim);
            turned(&mut k, dim);
            let mut mixed = Array2::<f64>::zeros(q.dim());
            for head in 0..attention.heads {
                let kv = head / (attention.heads / attention.kv_heads);
                let [own, other] = [head, kv].map(|head| s![.., head * dim..(head + 1) * dim]);
                let scores = q.slice(own).dot(&k.slice(other).t()) * f64::from(attention.scale);
                for t in 0..ids.len() {
                    let weights: Array1<f64> = scores.slice(s![t, ..=t]).mapv(f64::exp);
                    let mean = weights.dot(&v.slice(other).slice(s![..=t, ..])) / weights.sum();
                    mixed.slice_mut(own).row_mut(t).assign(&mean);
                }
            }
            x += &apply(Role::Output, &mixed);
            let input = normed(&x, NormPlace::Mlp);
            let silu = apply(Role::Gate, &input).mapv(|x| x / (1.0 + (-x).exp()));
            x += &apply(Role::Down, &(silu * apply(Role::Up, &input)));
        }
        let norm = spec.final_norm.as_ref().expect("a LLaMA has one");
        all.push(rms(&x, norm, &source.norm("", norm).expect("there")).dot(&embedding.t()));
    }
    let views: Vec<_> = all.iter().map(|part| part.view()).collect();
    ndarray::concatenate(Axis(0), &views).expect("equal windows")
}

/// The largest difference, as a part of the largest logit.
fn difference(got: &Array2<f32>, want: &Array2<f64>) -> f64 {
    assert_eq!(got.dim(), want.dim());
    let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let pairs = got.iter().zip(want);
    let worst = pairs.map(|(got, want)| (f64::from(*got) - want).abs());
    worst.fold(0.0, |worst: f64, error| {
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    }) / largest
}

#[test]
fn every_backend_scores_blocks_of_different_sizes() {
    let (narrowed, windows) = (Narrowed::new(), windows());
    let want = plain(&narrowed, &windows);
    let of_equal = plain(&narrowed.whole, &windows);
    let removed = difference(&of_equal.mapv(|x| x as f32), &want);
    assert!(removed > 1e-2, "the neurons that are gone matter: {removed:.1e}");
    let close = |name: &str, got: Result<Array2<f32>>, bound: f64| {
        let error = difference(&got.expect("computes"), &want);
        println!("{name}: {error:.1e}");
        assert!(error <= bound, "{name}: differs by {error:.1e} of the largest logit");
    };
    close("CPU", logits(&Cpu, &narrowed, &windows), 1e-5);
    close("CPU in bfloat16", logits(&CpuBf16::new(), &narrowed, &windows), 5e-2);
    if let Some(tier) = gpu::best_tier() {
        let gpu = gpu::open(tier, Compute::F32);
        close("GPU", logits(&gpu, &narrowed, &windows), 1e-5);
    }
}

/// Half of every layer is removed, by a criterion and a solver that look at the inputs of every tap.
fn pruned<B: Workbench>(backend: &B, narrowed: &Narrowed) -> Vec<LinearWeights> {
    let none = toml::Table::new();
    let criterion = (CRITERIA.find("obs").expect("registered").item)(&none).expect("defaults");
    let solver = (SOLVERS.find("obs").expect("registered").item)(&none).expect("defaults");
    let allocator = (ALLOCATORS.find("uniform").expect("registered").item)(&none).expect("defaults");
    let recipe = Recipe {
        criterion: criterion.component,
        solver: solver.component,
        allocator: allocator.component,
        transform: None,
        permutation: None,
        refiner: None,
        compensation: None,
        group: Group::Row,
        selection: Selection::Exact,
        provider: Default::default(),
        stage: Default::default(),
        goal: Default::default(),
    };
    let ends = Ends::upload(backend, narrowed).expect("room");
    let (windows, half) = (windows(), Pattern::Unstructured { sparsity: 0.5 });
    let calibration = Calibration::Windows(&windows);
    let mut weights = Vec::new();
    prune_model(backend, narrowed, &ends, &recipe, half, &calibration, |pruned| {
        weights.extend(pruned.weights().collect::<Result<Vec<_>>>()?);
        Ok(())
    })
    .expect("prunable");
    weights
}

#[test]
fn every_backend_prunes_blocks_of_different_sizes() {
    let narrowed = Narrowed::new();
    let check = |place: &str, layers: &[LinearWeights]| {
        let spec = narrowed.spec();
        let shapes = (0..spec.blocks).flat_map(|index| &spec.block(index).linears);
        let shapes: Vec<(usize, usize)> = shapes.map(|linear| (linear.outputs, linear.inputs)).collect();
        let found: Vec<_> = layers.iter().map(|layer| layer.weight.dim()).collect();
        assert_eq!(found, shapes, "{place}");
        for layer in layers {
            let zeros = layer.weight.iter().filter(|weight| **weight == 0.0).count();
            let (rows, columns) = layer.weight.dim();
            assert_eq!(zeros, rows * (columns / 2), "{place}: {}", layer.name);
        }
    };
    check("CPU", &pruned(&Cpu, &narrowed));
    if let Some(tier) = gpu::best_tier() {
        check("GPU", &pruned(&gpu::open(tier, Compute::F32), &narrowed));
    }
}

#[test]
fn blocks_of_different_sizes_are_written_and_read_again() {
    let (narrowed, windows) = (Narrowed::new(), windows());
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = home.path().join("narrow");
    let staging = Staging::new(&out).expect("writable");
    let mut writer =
        ModelWriter::begin(&narrowed.whole, narrowed.spec(), &folder(), &staging, Links::Inside).expect("writable");
    for index in 0..narrowed.spec().blocks {
        for linear in &narrowed.spec().block(index).linears {
            writer
                .put(&narrowed.linear(index, linear).expect("there"))
                .expect("writable");
        }
    }
    let copied = writer.finish().expect("complete");
    assert!(
        copied.iter().all(|found| found.name != Path::new("config.json")),
        "it is made anew"
    );
    staging.commit().expect("the name is free");

    let config = std::fs::read_to_string(out.join("config.json")).expect("written");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let own = serde_json::json!({"1": {"intermediate_size": narrowed.kept.len()}});
    assert_eq!(config["per_layer_config"], own);
    let spec = read_spec(&out).expect("read as it was written");
    assert_eq!(&spec, narrowed.spec());
    let read = Checkpoint::open(&out, spec).expect("all tensors have their shapes");
    let (got, want) = (logits(&Cpu, &read, &windows), logits(&Cpu, &narrowed, &windows));
    assert_eq!(got.expect("computes"), want.expect("computes"), "every digit");

    // Whoever takes it for a model of equal blocks is told which tensor says otherwise.
    let error = Checkpoint::open(&out, narrowed.whole.spec().clone())
        .err()
        .expect("other shapes")
        .to_string();
    assert!(error.contains("model.layers.1.mlp."), "{error}");
}

#[test]
fn blocks_of_the_same_sizes_keep_the_configuration_byte_for_byte() {
    let narrowed = Narrowed::new();
    let home = tempfile::tempdir().expect("a temporary folder");
    let out = home.path().join("same");
    let staging = Staging::new(&out).expect("writable");
    let whole = &narrowed.whole;
    let mut writer = ModelWriter::begin(whole, whole.spec(), &folder(), &staging, Links::Inside).expect("writable");
    for index in 0..whole.spec().blocks {
        for linear in &whole.spec().block(index).linears {
            writer
                .put(&whole.linear(index, linear).expect("there"))
                .expect("writable");
        }
    }
    writer.finish().expect("complete");
    staging.commit().expect("the name is free");
    let [before, after] = [folder(), out.clone()].map(|place| std::fs::read(place.join("config.json")).expect("there"));
    assert!(before == after);
    let read = Checkpoint::open(&out, read_spec(&out).expect("supported")).expect("whole");
    let (got, want) = (logits(&Cpu, &read, &windows()), logits(&Cpu, whole, &windows()));
    assert_eq!(got.expect("computes"), want.expect("computes"));
}
