//! Scores against their formulas, written out in `f64`; and masks of the group `row-share`.

use super::*;
use zprune::backend::cpu::Cpu;
use zprune::backend::gradient::GradientSum;
use zprune::backend::moments::SequenceSums;
use zprune::prune::score::resolve;
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

/// Statistics of inputs `(tokens, features)`, as sequences of `length` tokens.
fn gathered(x: &Array2<f64>, length: usize) -> LayerStatistics {
    let mut moments = Moments::new(x.ncols(), Needs::GRAM.and(Needs::MEANS));
    let gram = x.t().dot(x);
    moments.squares = gram.diag().to_vec();
    moments.gram = Some(gram.into_shared());
    let sequences = x.axis_chunks_iter(Axis(0), length);
    moments.sums = Some(SequenceSums {
        sums: sequences.map(|sequence| sequence.sum_axis(Axis(0)).to_vec()).collect(),
        weights: vec![length as f64; x.nrows() / length],
    });
    LayerStatistics::new(&moments, x.nrows() / length, Provider::Faer)
}

fn assert_near(name: &str, got: &Array2<f32>, want: &Array2<f64>) {
    let largest = want.iter().copied().fold(0.0, f64::max);
    for ((place, got), want) in got.indexed_iter().zip(want) {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= 1e-5 * want + 1e-9 * largest,
            "{name} at {place:?}: {got}, not {want}"
        );
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn scores_are_their_formulas(rows in 2usize..24, columns in 2usize..40, shift in -2.0f64..2.0, seed: u64) {
        const LENGTH: usize = 40;
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let x = activations(random, 3 * LENGTH, columns) + shift;
        let statistics = gathered(&x, LENGTH);
        let wide = weight.mapv(f64::from);
        let squares = |w: &Array2<f64>, axis: usize| w.mapv(|w| w * w).sum_axis(Axis(axis));
        let input = squares(&x, 0) / 3.0;

        let mean = x.mean_axis(Axis(0)).expect("tokens");
        let variance = squares(&(&x - &mean), 0) / (x.nrows() - 1) as f64;
        assert_near("stade", &score("stade", &weight, &statistics), &(wide.mapv(|w| w * w) * &variance));

        let normed = &wide / &squares(&wide, 0).mapv(f64::sqrt);
        let normed = &normed / &squares(&normed, 1).mapv(f64::sqrt).insert_axis(Axis(1));
        assert_near("nowag", &score("nowag", &weight, &statistics), &(normed.mapv(|w| w * w) * &input));

        let output = squares(&x.dot(&wide.t()), 0) / 3.0;
        let entry = CRITERIA.find("d2prune").expect("registered");
        let table = toml::toml! { base = "wanda" scale = 10.0 lambda1 = 2.0 lambda2 = 30.0 };
        let criterion = (entry.item)(&table).expect("legal").component;
        let layer = Layer { weight: weight.view(), statistics: &statistics };
        let got = layer::scores_of(&layer, &criterion.score()).expect("usable");
        let want = Array2::from_shape_fn(wide.dim(), |(i, j)| {
            let (w, x, y) = (wide[[i, j]].abs(), (input[j] / 100.0).sqrt(), (output[i] / 100.0).sqrt());
            (w * w * input[j] + 2.0 * w * y * x - 30.0 * w * w * x * x).max(0.0)
        });
        assert_near("d2prune", &got, &want);
    }

    #[test]
    fn scores_with_gradients_are_their_formulas_in_any_order_of_columns(
        rows in 2usize..24, columns in 2usize..40, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let statistics = from_squares(&squares(random, columns));
        let gradients = [Loss::Likelihood, Loss::Outputs].map(|loss| gradients(random, loss, rows, columns));
        let sum = |of: GradientSum| gradients[0].sum(of).expect("there").mapv(f64::from);
        let (g, h, m) = (sum(GradientSum::Plain), sum(GradientSum::Squares), sum(GradientSum::Magnitudes));
        let mut order: Vec<usize> = (0..columns).collect();
        order.shuffle(random);
        let input = statistics.squared_norms().expect("there").to_vec();
        let wide = weight.mapv(f64::from);
        let least = |of: &Array2<f64>| of.iter().copied().fold(f64::INFINITY, f64::min);
        let most = |of: &Array2<f64>| of.iter().copied().fold(0.0, f64::max);
        let scaled = |of: &Array2<f64>| of.mapv(|value| (value - least(of)) / (most(of) - least(of)));
        let root = h.mapv(f64::sqrt);
        let of_outputs = gradients[1].sum(GradientSum::Squares).expect("there").mapv(|sum| (f64::from(sum) / 5.0).sqrt());
        let at = |value: &dyn Fn(f64, (usize, usize)) -> f64| {
            Array2::from_shape_fn(wide.dim(), |place| value(wide[place], place))
        };
        for (name, table, want) in [
            ("taylor", toml::toml! { form = "first" }, at(&|w, place| (w * g[place] / 5.0).abs())),
            ("taylor", toml::toml! { form = "second" }, at(&|w, place| w * w * h[place] / 5.0)),
            ("taylor", toml::toml! { form = "mixed" }, at(&|w, place| (w * g[place] - w * w * h[place] / 2.0).abs() / 5.0)),
            ("gblm", toml::toml! { scale = 30 }, at(&|w, place| w.abs() * (input[place.1].sqrt() + 30.0 * root[place]))),
            ("gblm", toml::toml! { norm = "l1" }, at(&|w, place| w.abs() * (input[place.1].sqrt() + 100.0 * m[place]))),
            ("wanda-pp", toml::toml! { alpha = 7 }, at(&|w, place| w.abs() * (input[place.1].sqrt() + 7.0 * of_outputs[place]))),
            ("pruner-zero", toml::Table::new(), wide.mapv(|w| w * w) * scaled(&root)),
            ("pruner-zero", toml::toml! { norm = "l1" }, wide.mapv(|w| w * w) * scaled(&m)),
        ] {
            let criterion = CRITERIA.build(name, &table).expect("legal").component;
            let criterion = WithGradients::new(criterion.as_ref(), &gradients).expect("there");
            let layer = Layer { weight: weight.view(), statistics: &statistics };
            let got = layer::scores_of(&layer, &criterion.score()).expect("usable");
            let near = |got: &Array2<f32>, want: &dyn Fn((usize, usize)) -> f64| {
                let largest = most(&got.mapv(f64::from));
                for (place, got) in got.indexed_iter() {
                    let want = want(place);
                    let error = (f64::from(*got) - want).abs();
                    assert!(error <= 1e-5 * want + 1e-6 * largest, "{name}, {table} at {place:?}: {got}, not {want}");
                }
            };
            near(&got, &|place| want[place]);
            // Columns that were moved keep their gradients.
            let mut moved = weight.clone();
            let mut piece = Cpu.workpiece(&mut moved, StorageType::F32, &statistics);
            piece.reorder(&order).expect("an order");
            let values = resolve(&criterion.score(), piece.as_ref()).expect("usable");
            let got = piece.read(&piece.map(piece.dim(), &values).expect("room")).expect("there");
            near(&got, &|(row, column)| want[[row, order[column]]]);
        }
    }

    #[test]
    fn rows_give_up_the_same_share_of_their_scores(
        rows in 1usize..24, columns in 2usize..200, sparsity in any_sparsity(), ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, columns).mapv(f32::abs);
        let target = unstructured(sparsity, Group::RowShare, Selection::Exact);
        let mask = select(scores.view(), &target).expect("any width fits");
        mask.check(&target).expect("the mask is what was asked for");
        assert_eq!(mask.removed(), quota(scores.len(), target.pattern));
        // What each weight would take with it, and the most that one did take.
        let share = |row: usize, column: usize| {
            let row = scores.row(row);
            let below = row.iter().filter(|score| **score < row[column]).map(|score| f64::from(*score)).sum::<f64>();
            let all = row.iter().map(|score| f64::from(*score)).sum::<f64>();
            if all > 0.0 { (below + f64::from(row[column])) / all } else { 0.0 }
        };
        let shares = Array2::from_shape_fn(scores.dim(), |(row, column)| share(row, column));
        let entries = mask.entries();
        let of = |removed: bool| entries.indexed_iter().filter(move |(_, gone)| **gone == removed);
        let most = of(true).map(|(place, _)| shares[place]).fold(0.0, f64::max);
        let least = of(false).map(|(place, _)| shares[place]).fold(f64::INFINITY, f64::min);
        assert!(most <= least + 1e-6, "a weight stayed at {least} and one went at {most}");
    }
}

#[test]
fn gradients_that_are_all_alike_give_scores_of_0() {
    let weight = normal(&mut seeded(5), 3, 8);
    let alike = LayerGradients::new(
        Loss::Likelihood,
        [None, Some(Array2::from_elem((3, 8), 2.0).into_shared()), None],
        4,
    );
    let criterion = criterion("pruner-zero");
    let criterion = WithGradients::new(criterion.as_ref(), &[alike]).expect("there");
    let statistics = from_squares(&[1.0; 8]);
    let layer = Layer {
        weight: weight.view(),
        statistics: &statistics,
    };
    let scores = layer::scores_of(&layer, &criterion.score()).expect("usable");
    assert!(scores.iter().all(|score| *score == 0.0), "{scores}");
}

#[test]
fn scores_without_the_gradients_that_they_use_are_refused() {
    let weight = normal(&mut seeded(6), 3, 8);
    let statistics = from_squares(&[1.0; 8]);
    let layer = Layer {
        weight: weight.view(),
        statistics: &statistics,
    };
    for name in ["taylor", "gblm", "pruner-zero", "wanda-pp"] {
        let error = layer::scores_of(&layer, &criterion(name).score())
            .expect_err("no gradients")
            .to_string();
        assert!(error.contains("gradients of the model's loss"), "{name}: {error}");
    }
    let squares = LayerGradients::new(
        Loss::Likelihood,
        [None, Some(Array2::ones((3, 8)).into_shared()), None],
        4,
    );
    assert!(WithGradients::new(criterion("taylor").as_ref(), &[squares]).is_err());
    let other = LayerGradients::new(
        Loss::Likelihood,
        [None, Some(Array2::ones((3, 9)).into_shared()), None],
        4,
    );
    let gblm = criterion("gblm");
    let gblm = WithGradients::new(gblm.as_ref(), &[other]).expect("there");
    let error = layer::scores_of(&layer, &gblm.score())
        .expect_err("another shape")
        .to_string();
    assert!(error.contains("(3, 9)"), "{error}");
}
