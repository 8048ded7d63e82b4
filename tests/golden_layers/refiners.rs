//! Refined masks against an independent implementation in float64 (`tests/golden/recipes/refiners.safetensors`).

use super::{Golden, criterion};
use ndarray::{Array1, Array2, Axis};
use safetensors::SafeTensors;
use zprune::backend::moments::{Moments, Needs, SequenceSums};
use zprune::calibrate::statistics::LayerStatistics;
use zprune::linalg::Provider;
use zprune::prune::layer::{Layer, solve};
use zprune::prune::mask::Mask;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::refiner::REFINERS;
use zprune::prune::solver::OneShot;

struct Recipes {
    bytes: Vec<u8>,
    layers: Golden,
}

/// A layer of the file, with the statistics that the reference implementation was given.
struct Case {
    weight: Array2<f32>,
    /// The sum of `x x^T` over all tokens.
    gram: Array2<f64>,
    statistics: LayerStatistics,
}

impl Recipes {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recipes/refiners.safetensors");
        Recipes {
            bytes: std::fs::read(path).expect("golden recipes are in the repository"),
            layers: Golden::open(),
        }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("golden file is valid")
    }

    fn cases(&self) -> Vec<String> {
        let file = self.file();
        let names = file.names().into_iter().filter_map(|name| name.strip_suffix(".n_seq"));
        let mut names: Vec<String> = names.map(str::to_string).collect();
        names.sort();
        names
    }

    fn doubles(&self, name: &str) -> Vec<f64> {
        let file = self.file();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("the file lacks {name}"));
        let bytes = tensor.data();
        match tensor.dtype() {
            safetensors::Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            safetensors::Dtype::F32 => {
                let values = bytes.as_chunks().0.iter();
                values.map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            safetensors::Dtype::I32 => {
                let values = bytes.as_chunks().0.iter();
                values.map(|b| f64::from(i32::from_le_bytes(*b))).collect()
            }
            other => panic!("{name} is of type {other:?}"),
        }
    }

    /// A matrix of this file, or of the one that has the layers.
    fn matrix(&self, name: &str) -> Array2<f64> {
        match self.file().tensor(name) {
            Ok(tensor) => {
                let shape = match tensor.shape() {
                    [columns] => (1, *columns),
                    [rows, columns] => (*rows, *columns),
                    other => panic!("{name} has shape {other:?}"),
                };
                Array2::from_shape_vec(shape, self.doubles(name)).expect("shape and data agree")
            }
            Err(_) => self.layers.get(name).mapv(f64::from),
        }
    }

    fn case(&self, case: &str) -> Case {
        let sequences = self.doubles(&format!("{case}.n_seq"))[0];
        let tokens = self.doubles(&format!("{case}.tokens"))[0];
        let gram = self.matrix(&format!("{case}.hessian")) * (sequences / 2.0);
        let squares = self
            .matrix(&format!("{case}.sq_norm"))
            .row(0)
            .mapv(|norm| norm * sequences);
        let sums = Array1::from(self.doubles(&format!("{case}.sum_mean")));
        let variance = Array1::from(self.doubles(&format!("{case}.var")));
        let length = tokens / sequences;
        let mut moments = Moments::new(gram.nrows(), Needs::GRAM.and(Needs::MEANS));
        moments.tokens = tokens as usize;
        // The variances within sequences say what the squares of the sequences' sums add up to; two sequences that differ
        // from the others by as much make it so.
        let between = (&squares - &(&variance * tokens)) * length - &sums * &sums * sequences;
        let apart = between.mapv(|between| (between / 2.0).max(0.0).sqrt());
        let sum = |sequence: usize| match sequence {
            0 => (&sums + &apart).to_vec(),
            1 => (&sums - &apart).to_vec(),
            _ => sums.to_vec(),
        };
        moments.sums = Some(SequenceSums {
            sums: (0..sequences as usize).map(sum).collect(),
            weights: vec![length; sequences as usize],
        });
        moments.squares = squares.to_vec();
        moments.gram = Some(gram.clone().into_shared());
        Case {
            weight: self.matrix(&format!("{case}.weight")).mapv(|weight| weight as f32),
            gram,
            statistics: LayerStatistics::new(&moments, sequences as usize, Provider::Faer),
        }
    }

    fn mask(&self, key: &str, dim: (usize, usize)) -> Mask {
        let file = self.file();
        let name = format!("{key}.pruned");
        let tensor = file.tensor(&name).unwrap_or_else(|_| panic!("the file lacks {name}"));
        let bytes = tensor.data();
        let width = dim.1.div_ceil(8);
        Mask::from_entries(Array2::from_shape_fn(dim, |(row, column)| {
            bytes[row * width + column / 8] >> (column % 8) & 1 == 1
        }))
    }
}

impl Case {
    fn refined(&self, start: &str, (refiner, parameters): (&str, &toml::Table), pattern: Pattern) -> Mask {
        let target = Target {
            pattern,
            group: Group::Row,
            selection: Selection::Exact,
        };
        let refiner = REFINERS.build(refiner, parameters).expect("legal").component;
        let criterion = criterion(start);
        let steps = Steps {
            refiner: Some(refiner.as_ref()),
            ..Steps::new(criterion.as_ref(), &OneShot {})
        };
        let layer = Layer {
            weight: self.weight.view(),
            statistics: &self.statistics,
        };
        let solution = solve(&layer, steps, &target).expect("refines");
        solution.mask.check(&target).expect("the mask is what was asked for");
        solution.mask
    }

    /// `||X (W - V)^T||^2 / ||X W^T||^2` of a mask without an update.
    fn objective(&self, mask: &Mask) -> f64 {
        let weight = self.weight.mapv(f64::from);
        let mut removed = weight.clone();
        removed.zip_mut_with(&mask.entries(), |weight, gone| *weight *= f64::from(u8::from(*gone)));
        let form = |matrix: &Array2<f64>| (matrix * &matrix.dot(&self.gram)).sum();
        form(&removed) / form(&weight)
    }
}

fn differing(a: &Mask, b: &Mask) -> usize {
    a.entries().iter().zip(b.entries()).filter(|(a, b)| a != b).count()
}

const PATTERNS: [(&str, Pattern); 3] = [
    ("50", Pattern::Unstructured { sparsity: 0.5 }),
    ("70", Pattern::Unstructured { sparsity: 0.7 }),
    ("keep2of4", Pattern::NofM { keep: 2, of: 4 }),
];

#[test]
fn sparse_swaps_ends_at_the_masks_of_an_independent_implementation() {
    let recipes = Recipes::open();
    let cases = recipes.cases();
    assert!(cases.len() >= 4, "{cases:?}");
    for case in &cases {
        let layer = recipes.case(case);
        for (suffix, pattern) in PATTERNS {
            for (method, start) in [("sparseswaps", "wanda"), ("magnitude_sparseswaps", "magnitude")] {
                let key = format!("{case}.{method}.{suffix}");
                let want = recipes.mask(&key, layer.weight.dim());
                let got = layer.refined(start, ("sparse-swaps", &toml::Table::new()), pattern);
                let (objective, wanted) = (layer.objective(&got), recipes.doubles(&format!("{key}.objective"))[0]);
                println!(
                    "{key}: {} places differ, {objective:.9} for {wanted:.9}",
                    differing(&got, &want)
                );
                assert_eq!(got, want, "{key}: {objective} instead of {wanted}");
                assert!(
                    (objective / wanted - 1.0).abs() < 1e-6,
                    "{key}: {objective} instead of {wanted}"
                );
            }
        }
    }
}

#[test]
fn dsnot_makes_the_swaps_of_an_independent_implementation() {
    let recipes = Recipes::open();
    let all = toml::toml! { layers = "all" };
    for case in recipes.cases() {
        let layer = recipes.case(&case);
        for (suffix, pattern) in PATTERNS {
            let key = format!("{case}.dsnot.{suffix}");
            let start = recipes.mask(&format!("{case}.wanda.{suffix}"), layer.weight.dim());
            let got = layer.refined("wanda", ("dsnot", &all), pattern);
            let want = recipes.mask(&key, layer.weight.dim());
            println!("{key}: {} places differ", differing(&got, &want));
            assert_eq!(got, want, "{key}");
            // No weight is swapped twice, so that the changes of the mask count the swaps.
            let changed = start.entries().to_owned() ^ got.entries();
            let swaps = changed.map_axis(Axis(1), |row| {
                row.iter().filter(|changed| **changed).count() as f64 / 2.0
            });
            assert_eq!(swaps.to_vec(), recipes.doubles(&format!("{key}.swaps")), "{key}");
        }
    }
}

#[test]
fn sparse_fw_comes_close_to_an_independent_implementation() {
    let recipes = Recipes::open();
    for case in recipes.cases() {
        let layer = recipes.case(&case);
        for (suffix, pattern) in PATTERNS {
            let key = format!("{case}.sparsefw.{suffix}");
            let want = recipes.mask(&key, layer.weight.dim());
            let got = layer.refined("wanda", ("sparse-fw", &toml::Table::new()), pattern);
            let (objective, wanted) = (layer.objective(&got), recipes.doubles(&format!("{key}.objective"))[0]);
            let share = differing(&got, &want) as f64 / layer.weight.len() as f64;
            println!("{key}: {share:.4} differ, {objective:.6} for {wanted:.6}");
            assert!(share < 0.02, "{key}: {share} of the places differ");
            assert!(
                (objective / wanted - 1.0).abs() < 0.005,
                "{key}: {objective} instead of {wanted}"
            );
        }
    }
}
