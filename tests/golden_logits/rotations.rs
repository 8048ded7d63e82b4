//! Claim: a model that was turned by orthogonal matrices computes what it computed before, in every family whose norms allow it; the
//! others are refused, and so is a matrix that is not orthogonal.

use super::{golden, logits};
use ndarray::{Array1, Array2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::Path;
use zprune::jobs::rotate::{Turned, rotate};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::folder::Links;
use zprune::model::rotated::{Rotated, Rotation};
use zprune::model::source::WeightSource;
use zprune::progress::Silent;
use zprune::spec::{ModelSpec, NormPlace, Role};
use zprune::tensor::StorageType;

/// Families whose norms have a mean, or stand behind attention and MLP.
const REFUSED: [&str; 5] = ["gpt2", "gpt_neox", "opt", "gemma2", "gemma3_text"];

/// A random orthogonal matrix: Gram and Schmidt's, twice, in double precision.
fn orthogonal(size: usize, random: &mut ChaCha8Rng) -> Array2<f64> {
    let mut matrix = Array2::from_shape_fn((size, size), |_| random.random_range(-1.0..1.0));
    for row in 0..size {
        for _ in 0..2 {
            for before in 0..row {
                let part = matrix.row(row).dot(&matrix.row(before));
                let other: Array1<f64> = matrix.row(before).mapv(|value| part * value);
                let mut own = matrix.row_mut(row);
                own -= &other;
            }
        }
        let norm = matrix.row(row).dot(&matrix.row(row)).sqrt();
        matrix.row_mut(row).mapv_inplace(|value| value / norm);
    }
    matrix
}

/// Tensors of a rotation file.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn f32s<'a>(values: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    values
        .into_iter()
        .flat_map(|value| (*value as f32).to_le_bytes())
        .collect()
}

fn f64s<'a>(values: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    values.into_iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A random rotation of a model: of the stream in single precision, of the values of all blocks in double precision.
fn tensors(spec: &ModelSpec, random: &mut ChaCha8Rng) -> Tensors {
    let residual = orthogonal(spec.width, random);
    let mut tensors = Tensors::from([(
        "residual".to_string(),
        (Dtype::F32, vec![spec.width; 2], f32s(&residual)),
    )]);
    for index in 0..spec.blocks {
        let attention = &spec.block(index).attention;
        let heads: Vec<Array2<f64>> = (0..attention.kv_heads)
            .map(|_| orthogonal(attention.head_dim, random))
            .collect();
        let shape = vec![heads.len(), attention.head_dim, attention.head_dim];
        let bytes = heads.iter().flat_map(f64s).collect();
        tensors.insert(format!("blocks.{index}.value"), (Dtype::F64, shape, bytes));
    }
    tensors
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("bytes fit the shape");
        (name.clone(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("a small file")).expect("writable");
}

fn apart(one: &Path, other: &Path, vocabulary: usize) -> f64 {
    let ids: Vec<u32> = (0..32).map(|token| token * 37 % vocabulary as u32).collect();
    let [one, other] = [one, other].map(|path| logits(path, ids.clone(), 16).expect("a model"));
    let largest = other.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let worst = one
        .iter()
        .zip(&other)
        .fold(0.0f32, |most, (one, other)| most.max((one - other).abs()));
    f64::from(worst / largest)
}

#[test]
fn turned_models_compute_what_they_did() {
    let mut turned = 0;
    for entry in std::fs::read_dir(golden("")).expect("golden files are in the repository") {
        let case = entry.expect("readable").path();
        if !case.is_dir() {
            continue;
        }
        let name = case.file_name().expect("a name").to_string_lossy().to_string();
        let spec = read_spec(&case).expect("supported");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, out) = (folder.path().join("q.safetensors"), folder.path().join("turned"));
        write(&file, &tensors(&spec, &mut ChaCha8Rng::seed_from_u64(7)));
        let done = rotate(&case, &file, &out, (Links::Inside, false), &Silent);
        if REFUSED.contains(&spec.family) {
            let error = done.expect_err("it cannot be turned").to_string();
            // Queries, keys and values in one matrix are told first, since the file turns values.
            assert!(
                error.contains("cannot be turned") || error.contains("no matrix of values alone"),
                "{name}: {error}"
            );
            assert!(!out.exists());
            continue;
        }
        let Turned {
            values,
            untied,
            storage,
            difference,
            stored_difference,
            zeros: _,
        } = done.unwrap_or_else(|error| panic!("{name}: {error}"));
        let measured = apart(&out, &case, spec.vocabulary);
        println!(
            "{name}, {}: {difference:.1e}, {stored_difference:.1e}, {measured:.1e}",
            storage.name()
        );
        assert_eq!((values, untied), (spec.blocks, spec.head.tensor.is_none()), "{name}");
        // Single precision: some roundings of each layer. Half precision: every weight is rounded again.
        let most = match storage {
            StorageType::F32 => 2e-5,
            StorageType::F16 => 1e-2,
            StorageType::BF16 => 5e-2,
        };
        assert!(difference < 2e-5, "{name}: {difference:.1e}");
        assert!(
            stored_difference < most && measured < most,
            "{name}: {stored_difference:.1e}, {measured:.1e}"
        );
        // The weights are others, and nothing is left in the norms.
        let [before, after] =
            [&case, &out].map(|path| Checkpoint::open(path, read_spec(path).expect("a model")).expect("a model"));
        for linear in &spec.block(0).linears {
            let [before, after] = [&before, &after].map(|model| model.linear(0, linear).expect("there").weight);
            let most = before.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let changed = before
                .iter()
                .zip(&after)
                .any(|(before, after)| (before - after).abs() > 0.1 * most);
            assert!(changed, "{name}: {}", linear.tensor);
        }
        let norms = after.norms(spec.blocks - 1).expect("there");
        for (place, norm) in norms {
            if matches!(place, NormPlace::Attention | NormPlace::Mlp) {
                assert!(norm.gain.expect("a gain").iter().all(|gain| *gain == 1.0), "{name}");
            }
        }
        turned += 1;
    }
    assert_eq!(turned, 18);
}

#[test]
fn the_identity_changes_nothing_but_where_gains_are() {
    let case = golden("llama_gqa_tied");
    let spec = read_spec(&case).expect("supported");
    let model = Checkpoint::open(&case, spec.clone()).expect("a model");
    let rotation = Rotation::new(Array2::eye(spec.width), BTreeMap::new(), &spec).expect("orthogonal");
    let turned = Rotated::new(&model, &rotation).expect("turnable");
    assert_eq!(
        turned.matrix(&spec.embedding.tensor).expect("there"),
        model.matrix(&spec.embedding.tensor).expect("there")
    );
    for index in 0..spec.blocks {
        let norms = model.norms(index).expect("there");
        let gain = |place: NormPlace| {
            let found = norms.iter().find(|(at, _)| *at == place);
            found.and_then(|(_, norm)| norm.gain.clone()).expect("a gain")
        };
        for linear in &spec.block(index).linears {
            let mut wanted = model.linear(index, linear).expect("there").weight;
            match linear.role {
                Role::Query | Role::Key | Role::Value => wanted *= &gain(NormPlace::Attention),
                Role::Gate | Role::Up => wanted *= &gain(NormPlace::Mlp),
                _ => {}
            }
            let got = turned.linear(index, linear).expect("there").weight;
            assert_eq!(got, wanted, "block {index}, {}", linear.tensor);
        }
    }
    let head = turned.spec().head.tensor.clone().expect("a head of its own");
    let norm = spec.final_norm.as_ref().expect("a norm");
    let gain = model.norm("", norm).expect("there").gain.expect("a gain");
    assert_eq!(
        turned.matrix(&head).expect("there"),
        model.matrix(&spec.embedding.tensor).expect("there") * &gain
    );
}

#[test]
fn what_is_no_rotation_is_refused() {
    let case = golden("llama_gqa_tied");
    let spec = read_spec(&case).expect("supported");
    let good = tensors(&spec, &mut ChaCha8Rng::seed_from_u64(1));
    let (width, dim) = (spec.width, spec.block(0).attention.head_dim);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("q.safetensors");
    let with = |name: &str, tensor: Option<(Dtype, Vec<usize>, Vec<u8>)>| {
        let mut tensors = good.clone();
        match tensor {
            Some(tensor) => tensors.insert(name.to_string(), tensor),
            None => tensors.remove(name),
        };
        write(&file, &tensors);
        Rotation::read(&file, &spec)
    };
    with("residual", good.get("residual").cloned()).expect("it is one");
    let nearly = |off: f64| {
        let mut matrix = orthogonal(width, &mut ChaCha8Rng::seed_from_u64(3));
        matrix.row_mut(0).mapv_inplace(|value| value * (1.0 + off));
        Some((Dtype::F64, vec![width; 2], f64s(&matrix)))
    };
    with("residual", nearly(1e-5)).expect("but for rounding");
    let heads =
        |count: usize, size: usize| Some((Dtype::F32, vec![count, size, size], vec![0; 4 * count * size * size]));
    let infinite = {
        let mut matrix = orthogonal(width, &mut ChaCha8Rng::seed_from_u64(3));
        matrix[[1, 2]] = f64::INFINITY;
        Some((Dtype::F64, vec![width; 2], f64s(&matrix)))
    };
    for (name, tensor, wanted) in [
        ("residual", None, "tensor `residual` is missing"),
        (
            "residual",
            nearly(1e-2),
            "tensor `residual`: is not orthogonal: entry (",
        ),
        ("residual", infinite, "is not orthogonal"),
        (
            "residual",
            Some((Dtype::F32, vec![4, 4], vec![0; 64])),
            "has shape [4, 4], and for this model",
        ),
        (
            "residual",
            Some((Dtype::F32, vec![4], vec![0; 16])),
            "has shape [4], and",
        ),
        (
            "residual",
            Some((Dtype::F16, vec![width; 2], vec![0; 2 * width * width])),
            "has type F16; a rotation is F32 or F64",
        ),
        (
            "blocks.00.value",
            heads(1, dim),
            "tensor `blocks.00.value`: does not belong in a rotation",
        ),
        (
            "blocks.99.value",
            heads(1, dim),
            "tensor `blocks.99.value`: the blocks of the model are 0 to",
        ),
        (
            "blocks.0.value",
            heads(2, dim),
            "tensor `blocks.0.value`: head 0: is not orthogonal",
        ),
        ("blocks.0.value", heads(1, dim), "for this model it would have [2, "),
    ] {
        let error = with(name, tensor).expect_err(wanted).to_string();
        assert!(
            error.contains("q.safetensors") && error.contains(wanted),
            "{wanted}: {error}"
        );
    }
}
