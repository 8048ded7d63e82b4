//! RIA's channel permutation against an independent implementation in double precision that was run beside the released
//! code: orders of the allocation exactly, and what the assignment keeps of the scores to 1e-6.

use super::{CASES, Golden, criterion};
use ndarray::Array2;
use serde::Deserialize;
use std::collections::BTreeMap;
use zprune::backend::cpu::Cpu;
use zprune::prune::permutation::PERMUTATIONS;
use zprune::prune::score::resolve;
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

#[derive(Deserialize)]
struct Expected {
    /// The order of the allocation.
    order: Vec<usize>,
    /// The sum of the scores that the pattern keeps, by method.
    retained: BTreeMap<String, f64>,
}

/// The sum of the scores that a pattern keeps in the groups of an order.
fn retained(scores: &Array2<f32>, order: &[usize], keep: usize, of: usize) -> f64 {
    let mut sum = 0.0;
    for row in scores.rows() {
        for group in order.chunks(of) {
            let mut group: Vec<f32> = group.iter().map(|column| row[*column]).collect();
            group.sort_unstable_by(|a, b| b.total_cmp(a));
            sum += group[..keep].iter().map(|score| f64::from(*score)).sum::<f64>();
        }
    }
    sum
}

#[test]
fn channel_permutations_equal_the_reference() {
    let golden = Golden::open();
    let expected = include_str!("../golden/recipes/permutations.json");
    let expected: BTreeMap<String, Expected> = serde_json::from_str(expected).expect("as the script wrote it");
    let mut compared = 0;
    for (case, sequences) in CASES {
        let mut weight = golden.get(&format!("{case}.weight"));
        let statistics = golden.statistics(case, sequences);
        let piece = Cpu.workpiece(&mut weight, StorageType::F32, &statistics);
        let score = resolve(&criterion("ria").score(), piece.as_ref()).expect("gathered");
        let scores = piece.map(piece.dim(), &score).expect("room");
        let scores = piece.read(&scores).expect("there");
        for (pattern, keep, of) in [("keep2of4", 2, 4), ("keep4of8", 4, 8)] {
            let Some(expected) = expected.get(&format!("{case}.{pattern}")) else {
                continue;
            };
            let order = |assignment: bool| {
                let table = toml::toml! { assignment = assignment };
                let made = PERMUTATIONS.build("ria", &table).expect("legal").component;
                made.order(piece.as_ref(), &score, keep, of).expect("computes")
            };
            assert_eq!(order(false), expected.order, "{case}, {pattern}");
            let own: Vec<usize> = (0..scores.ncols()).collect();
            for (method, order) in [("ria", own), ("ria_cp", order(false)), ("ria_cp_lsa", order(true))] {
                let (got, want) = (retained(&scores, &order, keep, of), expected.retained[method]);
                assert!(
                    (got / want - 1.0).abs() < 1e-6,
                    "{case}, {pattern}, {method}: {got}, not {want}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 18);
}
