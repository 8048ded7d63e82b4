//! What the OBS solver may and may not do, and how the Hessian is damped.

use super::*;

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn sparsegpt_with_a_diagonal_hessian_selects_by_magnitude_times_its_root_and_updates_nothing(
        rows in 1usize..16, columns in 1usize..300, sparsity in any_sparsity(), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let diagonal = Array1::from_shape_simple_fn(columns, || random.random_range(0.25..4.0));
        let statistics = from_gram(&Array2::from_diag(&diagonal));
        let target = unstructured(sparsity, Group::ColumnBlock, Selection::Exact);
        let solution = solve("obs", criterion("obs").as_ref(), &weight, &statistics, &target);

        let by = |damping: f64| {
            let factors = diagonal.mapv(|h| (h + damping).sqrt());
            let scores = weight.mapv(|weight| f64::from(weight.abs())) * &factors;
            let mask = select(scores.mapv(|score| score as f32).view(), &target).expect("any width fits");
            (scores, mask)
        };
        let damping = 0.01 * diagonal.mean().expect("there are columns");
        let (scores, want) = by(damping);
        assert_same_up_to_ties("damped diagonal", &scores, &target, ROUNDING, &solution.mask, &want);
        // Damping shifts the factor of one column against another's by less than this.
        let shift = (1.0 + damping / 0.25).sqrt() - 1.0;
        let (scores, want) = by(0.0);
        assert_same_up_to_ties("diagonal as given", &scores, &target, shift + ROUNDING, &solution.mask, &want);

        let mut expected = weight.clone();
        solution.mask.apply(&mut expected);
        assert_eq!(solution.weight, expected, "kept weights are not updated");
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn sparsegpt_does_not_depend_on_the_scale_of_the_hessian(
        rows in 1usize..12, eighths in 1usize..24, target in any_target(), power in -4i32..5, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 200, 8 * eighths);
        let gram = x.t().dot(&x);
        let want = solve("obs", criterion("obs").as_ref(), &weight, &from_gram(&gram), &target);
        // Damping is relative, and a power of 16 rounds nothing on its way through the square roots.
        let scaled = from_gram(&(gram * 16f64.powi(power)));
        let got = solve("obs", criterion("obs").as_ref(), &weight, &scaled, &target);
        assert_eq!(got.mask, want.mask, "H times 16^{power}, {target:?}");
        assert_eq!(got.weight, want.weight, "H times 16^{power}, {target:?}");
    }

    #[test]
    fn sparsegpt_leaves_a_layer_it_has_pruned_as_it_is(
        rows in 1usize..12, eighths in 1usize..24, target in any_target(), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 200, 8 * eighths);
        let statistics = from_gram(&x.t().dot(&x));
        let once = solve("obs", criterion("obs").as_ref(), &weight, &statistics, &target);
        let twice = solve("obs", criterion("obs").as_ref(), &once.weight, &statistics, &target);
        assert_eq!(twice.weight, once.weight, "{target:?}");
    }

    #[test]
    fn the_obs_solver_does_not_touch_weights_left_of_the_first_removed_one(
        rows in 1usize..70, eighths in 1usize..40, name in one_of(&["wanda", "magnitude", "z-pruner", "obs"]),
        target in any_target(), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 200, 8 * eighths);
        let solution = solve("obs", criterion(name).as_ref(), &weight, &from_gram(&x.t().dot(&x)), &target);
        for (row, entries) in solution.mask.entries().rows().into_iter().enumerate() {
            // Without a removed weight the whole row stays.
            let first = entries.iter().position(|removed| *removed).unwrap_or(entries.len());
            let left = s![row, ..first];
            assert_eq!(solution.weight.slice(left), weight.slice(left), "{name}, {target:?}, row {row}");
        }
    }

    #[test]
    fn a_consecutive_run_of_removed_weights_is_made_up_for_by_least_squares(
        rows in 1usize..8, columns in 2usize..200, share in 0.01f64..0.6, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let x = activations(random, 400, columns);
        let gram = x.t().dot(&x);
        let target = unstructured(share, Group::Row, Selection::Exact);
        let run = quota(columns, target.pattern);
        let starts: Vec<usize> = (0..rows).map(|_| random.random_range(0..=columns - run)).collect();
        let scores = Array2::from_shape_fn(weight.dim(), |(row, column)| {
            if (starts[row]..starts[row] + run).contains(&column) { 0.0 } else { 1.0 }
        });
        let statistics = from_gram(&gram);
        let solution = solve("obs", &Given(scores), &weight, &statistics, &target);

        let hessian = gram * 2.0;
        let damping = 0.01 * hessian.diag().mean().expect("there are columns");
        let damped = &hessian + &(Array2::<f64>::eye(columns) * damping);
        for (row, start) in starts.into_iter().enumerate() {
            let end = start + run;
            let gone = weight.slice(s![row, start..end]).mapv(f64::from);
            let inverse = inverse_factor(Provider::Faer, damped.slice(s![end.., end..]).to_owned()).expect("positive definite");
            let pull = damped.slice(s![end.., start..end]).dot(&gone);
            let mut best = Array1::zeros(columns);
            best.slice_mut(s![start..end]).assign(&-&gone);
            best.slice_mut(s![end..]).assign(&inverse.t().dot(&inverse.dot(&pull)));

            let change = solution.weight.row(row).mapv(f64::from) - weight.row(row).mapv(f64::from);
            let worst = (&change - &best).iter().fold(0.0f64, |worst, error| worst.max(error.abs()));
            assert!(worst <= 1e-4 * f64::from(greatest(&weight)), "row {row}, {start}..{end}: off by {worst:e}");
            // Less damped error with larger changes is less error without damping, too.
            let mut removal = Array1::zeros(columns);
            removal.slice_mut(s![start..end]).assign(&-&gone);
            let (updated, removed) = (quadratic(&change, &hessian), quadratic(&removal, &hessian));
            assert!(updated <= removed * (1.0 + 1e-4), "row {row}, {start}..{end}: {updated:e} after {removed:e}");
        }
    }

    #[test]
    fn a_hessian_of_fewer_tokens_than_features_factors_with_the_first_damping(
        features in 2usize..200, share in 0.0f64..1.0, seed: u64,
    ) {
        let tokens = 1 + ((features - 1) as f64 * share) as usize;
        let x = activations(&mut seeded(seed), tokens, features);
        let statistics = from_gram(&x.t().dot(&x));
        let factor = statistics.inverse_factor().expect("damping makes it positive definite");
        assert_eq!(factor.damping, 0.01, "{tokens} tokens, {features} features");
        assert!(factor.upper.iter().all(|value| value.is_finite()), "{tokens} tokens, {features} features");
    }
}

/// `d H d^T`.
fn quadratic(change: &Array1<f64>, hessian: &Array2<f64>) -> f64 {
    change.dot(&hessian.dot(change))
}

/// Sum of `d H d^T` over the rows of a layer, for the change from `before` to `after`.
fn layer_error(before: &Array2<f32>, after: &Array2<f32>, hessian: &Array2<f64>) -> f64 {
    let wide = |row: ArrayView1<f32>| row.mapv(f64::from);
    let rows = before.rows().into_iter().zip(after.rows());
    rows.map(|(before, after)| quadratic(&(wide(after) - wide(before)), hessian))
        .sum()
}

/// Statistical: the solver is greedy, so this holds for layers, not for every row (next test).
#[test]
fn the_obs_update_lowers_the_error_of_the_masks_that_criteria_choose() {
    for seed in 0..8 {
        let random = &mut seeded(seed);
        let weight = normal(random, 48, 192);
        // The second kind has fewer tokens than features.
        let x = activations(random, if seed % 2 == 0 { 600 } else { 120 }, 192);
        let gram = x.t().dot(&x);
        let statistics = from_gram(&gram);
        for name in ["magnitude", "wanda", "ria", "z-pruner"] {
            let group = criterion(name).group();
            for target in [
                unstructured(0.5, group, Selection::Exact),
                unstructured(0.7, group, Selection::Exact),
                structured(2, 4),
            ] {
                let removed = solve("one-shot", criterion(name).as_ref(), &weight, &statistics, &target);
                let updated = solve("obs", criterion(name).as_ref(), &weight, &statistics, &target);
                assert_eq!(updated.mask, removed.mask, "seed {seed}, {name}, {}", target.pattern);
                let before = layer_error(&weight, &removed.weight, &gram);
                let after = layer_error(&weight, &updated.weight, &gram);
                println!("seed {seed}, {name}, {}: {:.3}", target.pattern, after / before);
                assert!(
                    after < before,
                    "seed {seed}, {name}, {}: {after:e} after {before:e}",
                    target.pattern
                );
            }
        }
    }
}

/// Why the claim above is not made for every row: removing feature 0 lays weight on features 1 and 2,
/// and then feature 2 goes as well. Here, changing nothing was best for feature 1.
#[test]
fn the_obs_update_is_greedy_and_can_cost_a_single_row_more_than_no_update() {
    let hessian = ndarray::array![[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]];
    let weight = ndarray::array![[1.0f32, 2.0, -1.0]];
    let scores = ndarray::array![[0.0f32, 1.0, 0.0]];
    let target = unstructured(0.7, Group::Row, Selection::Exact);
    let updated = solve("obs", &Given(scores), &weight, &from_gram(&hessian), &target);
    let error = layer_error(&weight, &updated.weight, &hessian);
    // One-shot: 1 + 1. Greedy, without damping: the change of feature 1 is 2/3, its square comes on top.
    assert!((error - (2.0 + 4.0 / 9.0)).abs() < 0.02, "{error}");
}

/// Eight features of unit square, of which 2 and 5 have the product `coupling`: above 1, no activations
/// can have that, and the smallest eigenvalue is `1 - coupling`.
fn coupled(coupling: f64) -> LayerStatistics {
    let mut gram = Array2::eye(8);
    gram[[2, 5]] = coupling;
    gram[[5, 2]] = coupling;
    from_gram(&gram)
}

#[test]
fn an_indefinite_hessian_escalates_the_damping_and_the_solution_records_it() {
    let weight = normal(&mut seeded(3), 4, 8);
    for (coupling, damping) in [(1.005, 0.01), (1.05, 0.1), (1.5, 1.0)] {
        let statistics = coupled(coupling);
        let factor = statistics.inverse_factor().expect("the last damping suffices");
        assert_eq!(factor.damping, damping, "coupling {coupling}");
        // The damping recorded is the damping used: U^T U inverts H with it on the diagonal.
        let mut damped = statistics.hessian().expect("a Gram matrix is there");
        damped[[2, 5]] = damped[[5, 2]];
        damped.diag_mut().mapv_inplace(|value| value * (1.0 + damping));
        let product = factor.upper.t().dot(&factor.upper).dot(&damped);
        let error = (product - Array2::<f64>::eye(8))
            .iter()
            .fold(0.0f64, |worst, error| worst.max(error.abs()));
        assert!(error < 1e-9, "coupling {coupling}: U^T U H differs from I by {error:e}");
        for name in ["wanda", "obs"] {
            let solution = solve("obs", criterion(name).as_ref(), &weight, &statistics, &structured(2, 4));
            assert_eq!(solution.damping, Some(damping), "coupling {coupling}, {name}");
        }
    }
}

#[test]
fn a_hessian_beyond_all_damping_fails_and_names_the_pivot() {
    let weight = normal(&mut seeded(4), 4, 8);
    let statistics = coupled(3.0);
    let layer = Layer {
        weight: weight.view(),
        statistics: &statistics,
    };
    let solver = (SOLVERS.find("obs").expect("registered").item)(&toml::Table::new())
        .expect("no parameters")
        .component;
    for name in ["wanda", "obs"] {
        let criterion = criterion(name);
        let steps = Steps::new(criterion.as_ref(), solver.as_ref());
        let error = layer::solve(&layer, steps, &structured(2, 4)).expect_err("indefinite");
        // Pivots are visited from the last feature to the first, and 2 is the second of the coupled pair.
        let want = "the Hessian is not positive definite (pivot 2), even with damping 1";
        assert_eq!(error.to_string(), want, "{name}");
    }
}
