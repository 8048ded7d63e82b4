//! Claims about criteria with gradients: scores and masks of GBLM and Pruner-Zero equal those of an independent implementation in
//! float64 (`tests/golden/gradients/criteria.safetensors`), scores of Taylor's expansion are made of that implementation's gradients, on
//! the CPU and on the GPU; a pruned model of any family loses the weights that its gradients say, also where they were in scratch files;
//! gradients are computed once for all cells of a seed.

use super::{EVERYTHING, floats, gpu, models, tokens};
use ndarray::{Array2, ArrayView1, ArrayView2};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::{GradientNeeds, GradientSum};
use zprune::backend::moments::Needs;
use zprune::backend::timed::Timed;
use zprune::calibrate::gradients::ModelGradients;
use zprune::calibrate::passes::dense_moments;
use zprune::calibrate::statistics::Factoring;
use zprune::cell::{Prepared, Runner, Sharing, Treatment};
use zprune::data::windows::TokenWindows;
use zprune::error::Result;
use zprune::linalg::Provider;
use zprune::memory::Room;
use zprune::model::checkpoint::{Checkpoint, LinearWeights, NormWeights};
use zprune::model::families::read_spec;
use zprune::model::forward::{Block, Ends};
use zprune::model::source::WeightSource;
use zprune::progress::Silent;
use zprune::prune::criterion::{CRITERIA, Criterion, WithGradients};
use zprune::prune::mask::{Mask, select};
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Recipe;
use zprune::prune::score::resolve;
use zprune::prune::solver::OneShot;
use zprune::prune::workbench::Workbench;
use zprune::spec::{LinearSpec, ModelSpec, NormPlace, NormSpec};
use zprune::tensor::StorageType;

/// The reference's models, and where they are.
const MODELS: [(&str, &str); 2] = [("llama_gqa_tied", "gradients"), ("opt_pre", "units")];

/// Single precision may differ from the reference by this fraction of a layer's largest score.
const TOLERANCE: f64 = 1e-4;

/// Two scores of a row that differ by less than this fraction of the row's largest are equal for the reference.
const EQUAL: f32 = 1e-5;

/// Every how many scores of a layer the golden file has one.
const STEP: usize = 17;

/// The reference's patterns.
pub(super) const PATTERNS: [(&str, Pattern); 2] = [
    ("mask_50", Pattern::Unstructured { sparsity: 0.5 }),
    ("mask_2of4", Pattern::NofM { keep: 2, of: 4 }),
];

pub(super) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(super) fn opened(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder, read_spec(folder).expect("supported")).expect("a golden checkpoint")
}

pub(super) fn criterion(name: &str, parameters: toml::Table) -> Box<dyn Criterion> {
    CRITERIA.build(name, &parameters).expect("legal").component
}

/// The reference's names of criteria, and ours.
fn cases() -> [(&'static str, Box<dyn Criterion>); 5] {
    [
        ("gblm_l2", criterion("gblm", toml::Table::new())),
        ("gblm_l1", criterion("gblm", toml::toml! { norm = "l1" })),
        ("gradient_l2", criterion("gblm", toml::toml! { activations = false })),
        ("pruner_zero_l2", criterion("pruner-zero", toml::Table::new())),
        ("pruner_zero_l1", criterion("pruner-zero", toml::toml! { norm = "l1" })),
    ]
}

pub(super) fn by_row(pattern: Pattern) -> Target {
    Target {
        pattern,
        group: Group::Row,
        selection: Selection::Exact,
    }
}

/// How many weights with scores above 0 a mask removes that another does not. The two must have scores that the reference calls equal.
pub(super) fn swapped(what: &str, scores: &Array2<f32>, got: &Mask, want: &Mask) -> usize {
    let mut swaps = 0;
    for (row, scores) in scores.rows().into_iter().enumerate() {
        let only = |a: &ArrayView2<bool>, b: &ArrayView2<bool>| -> Vec<f32> {
            let places = (0..scores.len()).filter(|column| a[[row, *column]] && !b[[row, *column]]);
            let mut found: Vec<f32> = places.map(|column| scores[column]).collect();
            found.sort_by(f32::total_cmp);
            found
        };
        let largest = |scores: ArrayView1<f32>| scores.iter().copied().fold(0.0, f32::max);
        let (got, want) = (got.entries(), want.entries());
        let (here, there) = (only(&got, &want), only(&want, &got));
        assert_eq!(
            here.len(),
            there.len(),
            "{what}: row {row} removes another number of weights"
        );
        for (here, there) in here.iter().zip(&there) {
            assert!(
                (here - there).abs() <= EQUAL * largest(scores),
                "{what}: row {row} removes the score {here} where the reference removes {there}"
            );
        }
        // Scores of 0 are equal in whatever order.
        swaps += here.iter().filter(|score| **score > 0.0).count();
    }
    swaps
}

fn compare<B: Workbench>(backend: &B, place: &str) {
    let bytes = std::fs::read(golden("gradients/criteria.safetensors")).expect("committed");
    let file = SafeTensors::deserialize(&bytes).expect("golden files are valid");
    for (model, folder) in MODELS {
        let checkpoint = opened(&golden(folder).join(model));
        let ids = file.tensor(&format!("{model}/ids")).expect("there");
        let all = ids.data().as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as u32);
        let windows = TokenWindows::new(all.collect(), ids.shape()[1]).expect("whole windows");
        let ends = Ends::upload(backend, &checkpoint).expect("room");
        let gradients = ModelGradients::gather(backend, &checkpoint, &ends, &windows, EVERYTHING).expect("computes");
        let moments = dense_moments(backend, &checkpoint, &ends, &windows, Needs::SQUARES).expect("computes");
        let (mut worst, mut swaps, mut masks) = (0.0f64, 0, 0);
        for (index, moments) in moments.iter().enumerate() {
            let mut block = Block::load(backend, &checkpoint, index).expect("there");
            for (id, name, _) in block.layers() {
                let layer = name.strip_suffix(".weight").expect("weights");
                let tap = block.spec().linear(id).tap();
                let (_, moments) = moments.taps().find(|(known, _)| *known == tap).expect("observed");
                let factoring = Factoring::from(Provider::Faer);
                let statistics = backend.statistics(moments, windows.count(), factoring).expect("finite");
                let gradients = [gradients.layer(index, id, EVERYTHING).expect("gathered")];
                for (case, criterion) in cases() {
                    let what = format!("{place}, {model}, {case} of {layer}");
                    let named = |part: &str| format!("{model}/{case}/{part}/{layer}");
                    let criterion = WithGradients::new(criterion.as_ref(), &gradients).expect("gathered");
                    let weight = block.weight_mut(id);
                    let piece = backend.workpiece(weight, StorageType::F32, &statistics);
                    let values = resolve(&criterion.score(), piece.as_ref()).expect("computes");
                    let scores = piece
                        .read(&piece.map(piece.dim(), &values).expect("room"))
                        .expect("there");
                    drop(piece);
                    let largest = f64::from(floats(&file, &named("largest"))[0]);
                    let want = floats(&file, &named("score"));
                    let got: Vec<f32> = scores.iter().copied().step_by(STEP).collect();
                    assert_eq!(got.len(), want.len(), "{what}");
                    for (got, want) in got.iter().zip(&want) {
                        let error = (f64::from(*got) - f64::from(*want)).abs() / largest;
                        assert!(error <= TOLERANCE, "{what}: {got}, not {want}");
                        worst = worst.max(error);
                    }
                    for (part, pattern) in PATTERNS {
                        let mut piece = backend.workpiece(weight, StorageType::F32, &statistics);
                        piece.select(&values, &by_row(pattern)).expect("fits");
                        let got = piece.finish().expect("computes").mask.unpacked();
                        let bits = file.tensor(&named(part)).expect("there");
                        let (bits, row) = (bits.data(), bits.shape()[1]);
                        let removed = |(i, j): (usize, usize)| bits[i * row + j / 8] >> (j % 8) & 1 == 1;
                        let want = Mask::from_entries(Array2::from_shape_fn(scores.dim(), removed));
                        swaps += swapped(&format!("{what}, {part}"), &scores, &got, &want);
                        masks += 1;
                    }
                }
            }
        }
        println!(
            "{place}, {model}: scores to {worst:.1e} of the largest; {masks} masks, {swaps} weights in the place of equal ones"
        );
        assert!(
            masks >= 100 && swaps < 20,
            "{place}, {model}: {masks} masks, {swaps} swaps"
        );
    }
}

#[test]
fn scores_and_masks_equal_the_reference_on_the_cpu() {
    compare(&Cpu, "CPU");
}

#[test]
fn scores_and_masks_equal_the_reference_on_the_gpu() {
    let Some(tier) = gpu::best_tier() else { return };
    compare(&gpu::open(tier, Compute::F32), "GPU");
}

fn expansions<B: Workbench>(backend: &B, place: &str) {
    for folder in models() {
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let file = SafeTensors::deserialize(&bytes).expect("golden files are valid");
        let (windows, _) = tokens(&file);
        let checkpoint = opened(&folder);
        let ends = Ends::upload(backend, &checkpoint).expect("room");
        let gradients = ModelGradients::gather(backend, &checkpoint, &ends, &windows, EVERYTHING).expect("computes");
        let none = backend.no_statistics();
        for index in 0..checkpoint.spec().blocks {
            let mut block = Block::load(backend, &checkpoint, index).expect("there");
            for (id, name, _) in block.layers() {
                let linear = block.spec().linear(id).clone();
                // The golden values are in the order of the checkpoint's tensor.
                let stored = |scores: Array2<f32>| match linear.transposed {
                    true => scores.reversed_axes().as_standard_layout().into_owned(),
                    false => scores,
                };
                let weight = stored(checkpoint.linear(index, &linear).expect("there").weight);
                let weight: Vec<f64> = weight.iter().step_by(STEP).map(|w| f64::from(*w)).collect();
                let (g, h) = (
                    floats(&file, &format!("grad/{name}")),
                    floats(&file, &format!("gradsq/{name}")),
                );
                let gradients = [gradients.layer(index, id, EVERYTHING).expect("gathered")];
                for form in ["first", "second", "mixed"] {
                    let what = format!("{place}, {}, {form} order of {name}", folder.display());
                    let criterion = criterion("taylor", toml::toml! { form = form });
                    let criterion = WithGradients::new(criterion.as_ref(), &gradients).expect("gathered");
                    let piece = backend.workpiece(block.weight_mut(id), StorageType::F32, &none);
                    let values = resolve(&criterion.score(), piece.as_ref()).expect("computes");
                    let scores = piece
                        .read(&piece.map(piece.dim(), &values).expect("room"))
                        .expect("there");
                    let scores = stored(scores);
                    let largest = scores.iter().copied().fold(0.0f32, f32::max);
                    let got: Vec<f32> = scores.iter().copied().step_by(STEP).collect();
                    assert_eq!(got.len(), g.len(), "{what}");
                    for (((got, w), g), h) in got.iter().zip(&weight).zip(&g).zip(&h) {
                        let (first, second) = (w * f64::from(*g), w * w * f64::from(*h) / 4.0);
                        let want = match form {
                            "first" => first.abs(),
                            "second" => second,
                            _ => (first - second / 2.0).abs(),
                        };
                        let error = (f64::from(*got) - want).abs() / f64::from(largest);
                        assert!(error <= 2.0 * TOLERANCE, "{what}: {got}, not {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn expansions_of_the_loss_are_made_of_the_references_gradients_on_the_cpu() {
    expansions(&Cpu, "CPU");
}

#[test]
fn expansions_of_the_loss_are_made_of_the_references_gradients_on_the_gpu() {
    let Some(tier) = gpu::best_tier() else { return };
    expansions(&gpu::open(tier, Compute::F32), "GPU");
}

/// Weights times the roots of the sums of squares of gradients, which is GBLM without norms of inputs.
fn by_gradients() -> Recipe {
    let parameters = toml::toml! { activations = false };
    Recipe::new(criterion("gblm", parameters), Box::new(OneShot {}))
}

#[test]
fn models_of_every_family_lose_what_their_gradients_say() {
    let scratch = tempfile::tempdir().expect("room");
    for folder in models() {
        let name = folder.display();
        let bytes = std::fs::read(folder.join("golden.safetensors")).expect("every model has golden values");
        let (windows, _) = tokens(&SafeTensors::deserialize(&bytes).expect("golden files are valid"));
        let checkpoint = opened(&folder);
        let whole = Ends::upload(&Cpu, &checkpoint).expect("room");
        let needs = GradientNeeds::only(GradientSum::Squares);
        let all = ModelGradients::gather(&Cpu, &checkpoint, &whole, &windows, needs).expect("computes");
        // A room that holds the gradients of some layers, and not those of others.
        let room = Room::new(200_000, scratch.path());
        let ends = Ends::upload(&Cpu, &checkpoint).expect("room").within(room.clone());
        let mut masks = 0;
        for (_, pattern) in PATTERNS {
            let calibration = Calibration::Windows(&windows);
            let recipe = by_gradients();
            let target = by_row(pattern);
            prune_model(&Cpu, &checkpoint, &ends, &recipe, pattern, &calibration, |pruned| {
                let dense = Block::load(&Cpu, &checkpoint, pruned.index)?;
                for ((id, tensor, _), linear) in dense.layers().into_iter().zip(pruned.weights()) {
                    let squares = all.layer(pruned.index, id, needs)?.sum(GradientSum::Squares)?;
                    let mut scores = dense.weight(id).mapv(f32::abs);
                    scores.zip_mut_with(&squares, |score, square| *score *= square.sqrt() * 100.0);
                    let want = select(scores.view(), &target)?;
                    for ((place, weight), removed) in linear?.weight.indexed_iter().zip(want.entries()) {
                        assert_eq!(*weight == 0.0, *removed, "{name}, {tensor} at {place:?}");
                    }
                    masks += 1;
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(masks >= 16, "{name}: only {masks} masks");
        assert!(room.spilled() > 0, "{name}: everything was in memory");
        let tokens = windows.ids().len() / 2;
        let weighted = windows
            .clone()
            .weighted([vec![1.0; tokens], vec![0.5; tokens]].concat())
            .expect("legal");
        let half = Pattern::Unstructured { sparsity: 0.5 };
        let calibration = Calibration::Windows(&weighted);
        let pruned = prune_model(
            &Cpu,
            &checkpoint,
            &ends,
            &by_gradients(),
            half,
            &calibration,
            |_| Ok(()),
        );
        pruned.expect("tokens may have weights");
    }
}

#[test]
fn gradients_are_computed_once_for_all_cells_of_a_seed() {
    let checkpoint = opened(&golden("gradients/llama_gqa_tied"));
    let vocabulary = checkpoint.spec().vocabulary as u32;
    let drawn = |seed: u32| {
        let ids = (0..8 * 16).map(|place| (place * 37 + seed * 11) % vocabulary).collect();
        TokenWindows::new(ids, 16).expect("whole windows")
    };
    let mut model = Prepared::new(&checkpoint);
    model.calibration = (0..2).map(|seed| (u64::from(seed), drawn(seed))).collect();
    let backend = Timed::new(&Cpu);
    let recipes = [
        Recipe::new(criterion("gblm", toml::Table::new()), Box::new(OneShot {})),
        Recipe::new(criterion("taylor", toml::Table::new()), Box::new(OneShot {})),
        Recipe::new(criterion("wanda", toml::Table::new()), Box::new(OneShot {})),
    ];
    let gradients = recipes
        .iter()
        .fold(GradientNeeds::NOTHING, |needs, recipe| needs.and(recipe.gradients()));
    let sharing = Sharing {
        gradients,
        ..Sharing::NONE
    };
    let times = || {
        backend
            .tallies()
            .get("log_likelihoods_backward")
            .map_or(0, |tally| tally.calls)
    };
    let mut runner = Runner::new(&backend, &model, sharing).expect("room");
    let mut zeros = Vec::new();
    for seed in 0..2 {
        for recipe in &recipes {
            for (_, pattern) in PATTERNS {
                let treatment = Treatment {
                    recipe,
                    pattern,
                    seed: Some(seed),
                    file: None,
                };
                let findings = runner.run(Some(treatment), &Silent, |_| Ok(())).expect("computes");
                zeros.push(findings.sparsity.expect("pruned"));
            }
        }
        assert_eq!(times(), seed + 1, "after seed {seed}");
    }
    assert!(zeros.iter().all(|share| (share - 0.5).abs() < 1e-6), "{zeros:?}");
}

#[test]
fn gradients_that_are_no_numbers_are_named() {
    let checkpoint = opened(&golden("gradients/llama_gqa_tied"));
    let windows = TokenWindows::new((0..32).collect(), 16).expect("whole windows");
    let loud = Loud(&checkpoint);
    let ends = Ends::upload(&Cpu, &loud).expect("room");
    let Err(error) = ModelGradients::gather(&Cpu, &loud, &ends, &windows, EVERYTHING) else {
        panic!("they are too large")
    };
    let error = error.to_string();
    // The last block is the first on the way back.
    assert!(
        error.contains("model.layers.2.") && error.contains("a sum of gradients is"),
        "{error}"
    );
}

/// A model whose embedding is so large that squares of gradients are no numbers any more.
struct Loud<'a>(&'a Checkpoint);

impl WeightSource for Loud<'_> {
    fn spec(&self) -> &ModelSpec {
        self.0.spec()
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        Ok(self.0.matrix(name)? * 1e24)
    }

    fn norm(&self, prefix: &str, norm: &NormSpec) -> Result<NormWeights> {
        self.0.norm(prefix, norm)
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> Result<LinearWeights> {
        self.0.linear(index, linear)
    }

    fn norms(&self, index: usize) -> Result<Vec<(NormPlace, NormWeights)>> {
        self.0.norms(index)
    }
}
