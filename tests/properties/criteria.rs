//! Scores against their formulas, written out in `f64`; and masks of the group `row-share`.

use super::*;
use zprune::backend::moments::SequenceSums;

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
