//! A criterion's formula: read, given its meaning, printed, and read again; and a small layer pruned by it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndarray::Array2;
use std::sync::LazyLock;
use zprune::backend::moments::{Moments, Needs, SequenceSums};
use zprune::calibrate::statistics::LayerStatistics;
use zprune::linalg::Provider;
use zprune::prune::criterion::{CRITERIA, Criterion, normal_form};
use zprune::prune::formula::written::read;
use zprune::prune::compared::Compared;
use zprune::prune::layer::{Layer, scores_of, solve};
use zprune::prune::pattern::{Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::solver::OneShot;

fuzz_target!(|text: &str| {
    let Ok(written) = read(text) else {
        return;
    };
    let normal = written.to_string();
    let again = read(&normal).expect("the normal form is a formula");
    assert_eq!(again.to_string(), normal);
    let table = |text: &str| toml::Table::from_iter([("expression".to_string(), toml::Value::from(text))]);
    let made = CRITERIA.build("expression", &table(text));
    let recorded = normal_form(text).expect("it is a formula");
    assert_eq!(normal_form(&recorded).as_ref(), Some(&recorded));
    let of_normal = CRITERIA.build("expression", &table(&recorded));
    match (made, of_normal) {
        (Ok(made), Ok(of_normal)) => {
            assert_eq!(made.component.score(), of_normal.component.score());
            prune(made.component.as_ref());
        }
        (Err(_), Err(_)) => {}
        _ => panic!("a formula and its normal form are not both a criterion"),
    }
});

/// Prunes a layer that has what goes wrong: weights that are zero, equal, tiny or huge, and an input that is never active. Scores that
/// cannot be compared, or rank nothing, are an error; otherwise half of the weights go, and the others stay as they are.
fn prune(criterion: &dyn Criterion) {
    static LAYER: LazyLock<(Array2<f32>, LayerStatistics)> = LazyLock::new(layer);
    let (weight, statistics) = &*LAYER;
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: criterion.group(),
        selection: Selection::Exact,
    };
    let Ok(pruned) = solve(&layer, Steps::new(criterion, &OneShot {}), &target) else {
        return;
    };
    assert_eq!(pruned.mask.removed(), weight.len() / 2);
    let scores = scores_of(&layer, &criterion.score()).expect("the layer was pruned by them");
    let compared = Compared::of(&target, weight.dim()).expect("half of each group is removed");
    let rows: Vec<Vec<f32>> = scores.rows().into_iter().map(|row| row.to_vec()).collect();
    assert!(rows.iter().any(|row| compared.apart_in(row, &rows[0])), "scores that rank nothing: {scores}");
    for ((place, new), old) in pruned.weight.indexed_iter().zip(weight) {
        assert!(*new == 0.0 || new == old, "{place:?}: {new}, not {old}");
    }
}

fn layer() -> (Array2<f32>, LayerStatistics) {
    const TOKENS: usize = 12;
    // Any numbers that are not all alike.
    let number = |row: usize, column: usize| (row * 7 + column * 5) % 11;
    let mut weight = Array2::from_shape_fn((4, 8), |(row, column)| number(row, column) as f32 / 4.0 - 1.0);
    weight[[0, 0]] = 3.0e38;
    weight[[1, 1]] = 1.0e-40;
    weight.row_mut(3).fill(0.0);
    let inputs = Array2::from_shape_fn((TOKENS, 8), |(token, column)| {
        if column == 2 { 0.0 } else { number(column, token) as f64 - 4.0 }
    });
    let mut moments = Moments::new(8, Needs::GRAM.and(Needs::MEANS));
    let gram = inputs.t().dot(&inputs);
    moments.squares = gram.diag().to_vec();
    moments.gram = Some(gram.into_shared());
    moments.sums = Some(SequenceSums {
        sums: inputs.rows().into_iter().map(|row| row.to_vec()).collect(),
        weights: vec![1.0; TOKENS],
    });
    (weight, LayerStatistics::new(&moments, TOKENS, Provider::Faer))
}
