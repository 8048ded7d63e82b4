//! Shares of layers, and Wanda's variant, against an independent PyTorch implementation.
//!
//! `tests/golden/recipes/allocators.json` (its origin: `tests/golden/README.md`): tiny-llama at 70 %, 16 x 256 tokens.

use super::Golden;
use super::criterion;
use serde_json::Value;
use std::path::Path;
use zprune::backend::cpu::Cpu;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::sampler::{CalibrationSource, Sampling};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::linalg::Provider;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::prune::allocation::survey;
use zprune::prune::allocator::{ALLOCATORS, PlacedLinear};
use zprune::prune::layer::{Layer, scores_of};
use zprune::prune::mask::select;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::shares::{Levelling, levelled};
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recipes/allocators.json");
    serde_json::from_slice(&std::fs::read(path).expect("in the repository")).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("a list").iter();
    values.map(|value| value.as_f64().expect("a number")).collect()
}

#[test]
fn masks_of_wandas_variant_equal_pytorch_bit_for_bit() {
    let (layers, golden) = (Golden::open(), golden());
    for (case, sequences) in [("real", 4), ("dead", 4), ("gauss", 2)] {
        let statistics = layers.statistics(case, sequences);
        let weight = layers.get(&format!("{case}.weight"));
        let layer = Layer {
            weight: weight.view(),
            statistics: &statistics,
        };
        let variant = criterion("wanda-variant");
        assert_eq!(variant.group(), Group::RowShare);
        let scores = scores_of(&layer, &variant.score()).expect("usable");
        for (name, sparsity) in [("50", 0.5), ("70", 0.7)] {
            let target = Target {
                pattern: Pattern::Unstructured { sparsity },
                group: Group::RowShare,
                selection: Selection::Reference,
            };
            let mask = select(scores.view(), &target).expect("fits");
            mask.check(&target).expect("close to what was asked");
            // Four places in a digit, row after row.
            let want = golden["wanda_variant"][case][name].as_str().expect("digits");
            let entries: Vec<bool> = mask.entries().iter().copied().collect();
            let got: String = entries
                .chunks(4)
                .map(|four| {
                    four.iter()
                        .enumerate()
                        .fold(0, |digit, (bit, gone)| digit | u32::from(*gone) << bit)
                })
                .map(|digit| char::from_digit(digit, 16).expect("below 16"))
                .collect();
            let differ = got.bytes().zip(want.bytes()).filter(|(got, want)| got != want).count();
            assert!(got == want, "{case}, {name}: {differ} of {} digits differ", want.len());
        }
    }
}

/// What an allocator measures of tiny-llama, and the shares of its blocks at 70 %.
fn found(name: &str, parameters: &toml::Table) -> (Vec<f64>, Vec<f64>) {
    let folder = Path::new("models/tiny-llama");
    let checkpoint = Checkpoint::open(folder, read_spec(folder).expect("a model")).expect("a model");
    let spec = checkpoint.spec();
    let tokenizer = Tokenizer::load(folder).expect("a tokenizer");
    let corpus = Corpus::read(Path::new("corpora/austen_calibration.txt"), Join::None).expect("a text");
    let source = CalibrationSource::new(
        corpus,
        Join::None,
        Sampling::Packed,
        Bos::Tokenizer,
        &tokenizer,
        spec.vocabulary,
    );
    let windows = source
        .and_then(|source| source.draw(&tokenizer, spec.vocabulary, 0, 16, 256))
        .expect("long enough");
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let allocator = ALLOCATORS.build(name, parameters).expect("legal").component;
    let survey = survey(
        &Cpu,
        &checkpoint,
        &ends,
        allocator.as_ref(),
        Provider::Faer,
        Some(&windows),
        None,
    );
    let survey = survey.expect("computes");
    let layers = PlacedLinear::all(spec);
    let mut trial = |_: &[f64]| panic!("nothing is tried");
    let shares = allocator.allocate(&layers, 0.7, &survey, &mut trial).expect("possible");
    let weights: Vec<usize> = layers.iter().map(PlacedLinear::weights).collect();
    let shares = levelled(&shares, &weights, 0.7, Levelling::Shift).expect("possible");
    for (layer, share) in layers.iter().zip(&shares) {
        let first = layers
            .iter()
            .position(|other| other.block == layer.block)
            .expect("itself");
        assert_eq!(*share, shares[first], "{name}: layers of a block have the same share");
    }
    let per_block = layers.len() / spec.blocks;
    (
        survey.values().to_vec(),
        shares.into_iter().step_by(per_block).collect(),
    )
}

#[test]
fn errors_at_half_sparsity_equal_least_squares_in_double_precision() {
    let (layers, golden) = (Golden::open(), golden());
    let error = ALLOCATORS
        .build("error", &toml::Table::new())
        .expect("defaults")
        .component;
    for (case, sequences) in [("real", 4), ("gauss", 2)] {
        let statistics = layers.statistics(case, sequences);
        let mut weight = layers.get(&format!("{case}.weight"));
        let mut block = [Cpu.workpiece(&mut weight, StorageType::F32, &statistics)];
        let got = error.measure(&mut block).expect("computes")[0];
        let want = golden["half_least_squares"][case].as_f64().expect("a number");
        assert!((got / want - 1.0).abs() <= 1e-3, "{case}: {got}, not {want}");
    }
}

fn assert_shares(case: &str, got: &[f64], want: &Value, tolerance: f64) {
    let want = numbers(&want["s"]);
    assert_eq!(got.len(), want.len(), "{case}");
    for (got_share, want_share) in got.iter().zip(&want) {
        assert!(
            (got_share - want_share).abs() <= tolerance,
            "{case}: {got:?}, not {want:?}"
        );
    }
}

#[test]
fn outliers_equal_pytorch() {
    let golden = golden();
    for (case, m) in [("owl_m3", 3.0), ("owl_m5", 5.0)] {
        let mut table = toml::Table::new();
        table.insert("m".to_string(), m.into());
        let (values, shares) = found("owl", &table);
        let want = &golden["allocators_70"][case];
        for (value, count) in values.iter().step_by(7).zip(numbers(&want["outlier_count"])) {
            let got = value * 786_432.0;
            assert!((got - count).abs() <= 2.0, "{case}: {got} outliers, not {count}");
        }
        assert_shares(case, &shares, want, 1e-3);
    }
}

#[test]
fn means_and_medians_equal_pytorch() {
    let golden = golden();
    for (case, statistic) in [("dlp_mean", "mean"), ("dlp_median", "median")] {
        let mut table = toml::Table::new();
        table.insert("statistic".to_string(), statistic.into());
        let (values, shares) = found("dlp", &table);
        let want = &golden["allocators_70"][case];
        for (value, want) in values.iter().step_by(7).zip(numbers(&want["statistic"])) {
            assert!((value / want - 1.0).abs() <= 1e-5, "{case}: {value}, not {want}");
        }
        assert_shares(case, &shares, want, 1e-5);
    }
}

#[test]
fn progressions_equal_pytorch() {
    let golden = golden();
    for (case, beta) in [("atp_0.04", 0.04), ("atp_0.1", 0.1)] {
        let mut table = toml::Table::new();
        table.insert("beta".to_string(), beta.into());
        let (_, shares) = found("atp", &table);
        assert_shares(case, &shares, &golden["allocators_70"][case], 1e-5);
    }
}

#[test]
fn exponents_of_spectra_equal_pytorch() {
    let golden = golden();
    for (bound, case) in [
        ("released", "alphapruning_released_clamped"),
        ("corrected", "alphapruning_corrected_clamped"),
    ] {
        let mut table = toml::Table::new();
        table.insert("lower_bound".to_string(), bound.into());
        let (values, shares) = found("alpha-pruning", &table);
        let want = numbers(&golden["alphas"][bound]);
        assert_eq!(values.len(), want.len());
        for (layer, (value, want)) in values.iter().zip(&want).enumerate() {
            assert!(
                (value - want).abs() <= 1e-3,
                "{bound}, layer {layer}: {value}, not {want}"
            );
        }
        assert_shares(case, &shares, &golden["allocators_70"][case], 1e-3);
    }
}
