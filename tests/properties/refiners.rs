//! What refiners may and may not do to a mask, whatever chose it.

use super::*;
use zprune::backend::moments::SequenceSums;
use zprune::prune::refiner::{Dsnot, REFINERS, Refiner, SparseFw};

fn refiner(name: &str, parameters: &toml::Table) -> Box<dyn Refiner> {
    let built = REFINERS.build(name, parameters);
    built.unwrap_or_else(|error| panic!("{name}: {error}")).component
}

/// Prunes a layer with and without a refinement.
fn before_and_after(
    refiner: &dyn Refiner,
    criterion: &dyn Criterion,
    weight: &Array2<f32>,
    statistics: &LayerStatistics,
    target: &Target,
) -> [Solution; 2] {
    let entry = SOLVERS.find("one-shot").expect("registered");
    let solver = (entry.item)(&toml::Table::new()).expect("defaults are legal").component;
    [None, Some(refiner)].map(|refiner| {
        let steps = Steps {
            refiner,
            ..Steps::new(criterion, solver.as_ref())
        };
        let layer = Layer {
            weight: weight.view(),
            statistics,
        };
        let solution = layer::solve(&layer, steps, target).unwrap_or_else(|error| panic!("{target:?}: {error}"));
        let check = solution.mask.check(target);
        check.unwrap_or_else(|error| panic!("{target:?}: {error}"));
        let mut masked = weight.clone();
        solution.mask.apply(&mut masked);
        assert_eq!(
            solution.weight, masked,
            "{target:?}: weights that are kept stay as they are"
        );
        solution
    })
}

/// `r G r^T` of the weights removed from each row.
fn errors(weight: &Array2<f32>, mask: &Mask, gram: &Array2<f64>) -> Vec<f64> {
    let mut removed = weight.mapv(f64::from);
    removed.zip_mut_with(&mask.entries(), |weight, removed| {
        *weight *= f64::from(u8::from(*removed))
    });
    (&removed * &removed.dot(gram)).sum_axis(Axis(1)).to_vec()
}

/// A Gram matrix in the single precision that refiners get it in.
fn single(gram: &Array2<f64>) -> Array2<f64> {
    gram.mapv(|value| f64::from(value as f32))
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn sparse_swaps_ends_where_no_swap_within_a_group_lowers_the_error(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), name in one_of(&["magnitude", "wanda", "ria"]),
        seed: u64,
    ) {
        let columns = 8 * eighths;
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let x = activations(random, 100, columns);
        let gram = single(&x.t().dot(&x));
        let refiner = refiner("sparse-swaps", &toml::Table::new());
        let statistics = from_gram(&gram);
        let criterion = criterion(name);
        let [before, after] = before_and_after(refiner.as_ref(), criterion.as_ref(), &weight, &statistics, &target);
        let width = match (target.pattern, target.group) {
            (Pattern::NofM { of, .. }, _) => of,
            (_, Group::ColumnBlock) => BLOCK,
            _ => columns,
        };
        let error = |mask: &Mask| errors(&weight, mask, &gram);
        for (row, (after_error, before_error)) in error(&after.mask).iter().zip(error(&before.mask)).enumerate() {
            prop_assert!(*after_error <= before_error * (1.0 + 1e-12), "row {row}: {before_error} became {after_error}");
            for out in 0..columns {
                let group = out / width * width;
                for back in group..columns.min(group + width) {
                    let entries = after.mask.entries();
                    if entries[[row, out]] || !entries[[row, back]] {
                        continue;
                    }
                    let mut swapped = entries.slice(s![row..=row, ..]).to_owned();
                    (swapped[[0, out]], swapped[[0, back]]) = (true, false);
                    let alone = weight.slice(s![row..=row, ..]).to_owned();
                    let other = errors(&alone, &Mask::from_entries(swapped), &gram)[0];
                    prop_assert!(
                        other >= after_error * (1.0 - 1e-9),
                        "row {row}: swapping {out} for {back} makes {after_error} {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_diagonal_gram_matrix_leaves_swaps_nothing_to_gain_on_wandas_mask(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), seed: u64,
    ) {
        let target = Target { group: Group::Row, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let statistics = from_gram(&Array2::from_diag(&Array1::from(squares(random, 8 * eighths))));
        let refiner = refiner("sparse-swaps", &toml::Table::new());
        let wanda = criterion("wanda");
        let [before, after] = before_and_after(refiner.as_ref(), wanda.as_ref(), &weight, &statistics, &target);
        let scores = score("wanda", &weight, &statistics).mapv(f64::from);
        assert_same_up_to_ties("diagonal", &scores, &target, ROUNDING, &after.mask, &before.mask);
    }
}

#[test]
fn a_swap_finds_weights_that_cancel_each_other() {
    // Features 1 and 2 nearly cancel, so removing both costs less than keeping either.
    let weight = ndarray::array![[1.0f32, 1.0, 0.9]];
    let gram = ndarray::array![[1.0, -0.9, 0.0], [-0.9, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let target = unstructured(0.67, Group::Row, Selection::Exact);
    let swaps = refiner("sparse-swaps", &toml::Table::new());
    let [before, after] = before_and_after(
        swaps.as_ref(),
        criterion("wanda").as_ref(),
        &weight,
        &from_gram(&gram),
        &target,
    );
    let error = |mask: &Mask| errors(&weight, mask, &gram)[0];
    assert!((error(&before.mask) - 1.81).abs() < 1e-6, "{}", error(&before.mask));
    assert!((error(&after.mask) - 0.2).abs() < 1e-6, "{}", error(&after.mask));
    assert_eq!(after.mask.entries(), ndarray::array![[true, true, false]]);
}

#[test]
fn the_number_of_swaps_in_a_row_has_a_limit() {
    let random = &mut seeded(4);
    let weight = normal(random, 8, 64);
    let x = activations(random, 100, 64);
    let statistics = from_gram(&x.t().dot(&x));
    let target = unstructured(0.5, Group::Row, Selection::Exact);
    for most in [1, 3] {
        let table = toml::Table::from_iter([("max_swaps".to_string(), toml::Value::Integer(most))]);
        let swaps = refiner("sparse-swaps", &table);
        let magnitude = criterion("magnitude");
        let [before, after] = before_and_after(swaps.as_ref(), magnitude.as_ref(), &weight, &statistics, &target);
        for (before, after) in before
            .mask
            .entries()
            .rows()
            .into_iter()
            .zip(after.mask.entries().rows())
        {
            let changed = before
                .iter()
                .zip(after)
                .filter(|(before, after)| before != after)
                .count();
            assert!(
                (1..=2 * most as usize).contains(&changed),
                "{changed} entries changed by {most} swaps"
            );
        }
    }
}

/// Statistics of one sequence of inputs, with everything that a refiner may ask for.
fn of_inputs(x: &Array2<f64>) -> LayerStatistics {
    let mut moments = Moments::new(x.ncols(), Needs::GRAM.and(Needs::MEANS));
    let gram = x.t().dot(x);
    moments.tokens = x.nrows();
    moments.squares = gram.diag().to_vec();
    moments.gram = Some(gram.into_shared());
    moments.sums = Some(SequenceSums {
        sums: vec![x.sum_axis(Axis(0)).to_vec()],
        weights: vec![x.nrows() as f64],
    });
    LayerStatistics::new(&moments, 1, Provider::Faer)
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn dsnot_with_its_guard_never_moves_the_mean_output_farther_away(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), name in one_of(&["magnitude", "wanda", "ria"]),
        dead in 0usize..3, seed: u64,
    ) {
        let columns = 8 * eighths;
        let target = match target.group {
            Group::ColumnBlock => Target { group: Group::Matrix, ..target },
            _ => target,
        };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let mut x = activations(random, 60, columns);
        for mut column in x.columns_mut() {
            let mean = gauss(random);
            column.mapv_inplace(|x| x + mean);
        }
        for _ in 0..dead {
            x.column_mut(random.random_range(0..columns)).fill(0.0);
        }
        let statistics = of_inputs(&x);
        let table = toml::toml! { layers = "all"
            sign_guard = true };
        let refiner = refiner("dsnot", &table);
        refiner.check(&target).expect("rows keep their counts");
        let [before, after] = before_and_after(refiner.as_ref(), criterion(name).as_ref(), &weight, &statistics, &target);
        let sums = x.sum_axis(Axis(0));
        let error = |mask: &Mask, row: usize| -> f64 {
            let entries = mask.entries();
            let gone = (0..columns).filter(|column| entries[[row, *column]]);
            gone.map(|column| f64::from(weight[[row, column]]) * sums[column]).sum()
        };
        for row in 0..rows {
            let (before, after) = (error(&before.mask, row), error(&after.mask, row));
            // With N:M patterns the weight that goes may have any sign, but the guard holds all the same.
            prop_assert!(before == after || before.signum() == after.signum(), "row {row}: {before} became {after}");
            if matches!(target.pattern, Pattern::Unstructured { .. }) {
                prop_assert!(after.abs() <= before.abs() * (1.0 + 1e-9), "row {row}: {before} became {after}");
            }
        }
    }

    #[test]
    fn sparse_fw_never_ends_above_its_start(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), name in one_of(&["magnitude", "wanda", "ria"]),
        fixed in one_of(&[0.0, 0.5, 0.9]), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 100, 8 * eighths);
        let gram = single(&x.t().dot(&x));
        let table = toml::Table::from_iter([
            ("iterations".to_string(), toml::Value::Integer(30)),
            ("fixed_share".to_string(), toml::Value::Float(fixed)),
        ]);
        let refiner = refiner("sparse-fw", &table);
        let statistics = from_gram(&gram);
        let [before, after] = before_and_after(refiner.as_ref(), criterion(name).as_ref(), &weight, &statistics, &target);
        let error = |mask: &Mask| errors(&weight, mask, &gram).iter().sum::<f64>();
        let (before, after) = (error(&before.mask), error(&after.mask));
        prop_assert!(after <= before * (1.0 + 1e-5), "{target:?}: {before} became {after}");
    }
}

#[test]
fn groups_that_a_refinement_cannot_keep_are_refused_with_the_reason() {
    let (dsnot, fw) = (Dsnot::default(), SparseFw::default());
    let blocks = unstructured(0.5, Group::ColumnBlock, Selection::Exact);
    let error = dsnot
        .check(&blocks)
        .expect_err("rows are swapped as a whole")
        .to_string();
    assert!(
        error.contains("changes how many weights a block of columns keeps"),
        "{error}"
    );
    let ties = unstructured(0.5, Group::Matrix, Selection::Reference);
    let error = fw.check(&ties).expect_err("sizes depend on ties").to_string();
    assert!(error.contains("use selection = \"exact\""), "{error}");
    for group in GROUPS {
        for selection in SELECTIONS {
            for target in [
                unstructured(0.5, group, selection),
                Target {
                    group,
                    selection,
                    ..structured(2, 4)
                },
            ] {
                refiner("sparse-swaps", &toml::Table::new())
                    .check(&target)
                    .expect("swaps keep every group");
            }
        }
    }
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    for (name, table, want) in [
        (
            "sparse-swaps",
            toml::toml! { max_swaps = 0 },
            "`max_swaps` = 0 must be at least 1",
        ),
        (
            "dsnot",
            toml::toml! { max_cycles = 0 },
            "`max_cycles` = 0 must be at least 1",
        ),
        (
            "dsnot",
            toml::toml! { threshold = -1.0 },
            "`threshold` = -1 must be at least 0",
        ),
        ("dsnot", toml::toml! { layers = "mlp" }, "unknown value `mlp`"),
        (
            "sparse-fw",
            toml::toml! { iterations = 0 },
            "`iterations` = 0 must be at least 1",
        ),
        (
            "sparse-fw",
            toml::toml! { fixed_share = 1.0 },
            "`fixed_share` = 1 must be at least 0 and less than 1",
        ),
    ] {
        let error = REFINERS.build(name, &table).err().expect("out of range").to_string();
        assert!(error.contains(want), "{error}");
    }
}
