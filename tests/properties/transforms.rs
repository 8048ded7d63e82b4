//! Claims about layers that are pruned in other variables: what was not changed comes back bit for bit, scales cannot change what does
//! not depend on them, and shifts keep the means of outputs.

use super::updates::with_means;
use super::*;
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::prune::compensation::{Bias, Layers};
use zprune::prune::limits::Limits;
use zprune::prune::recipe::Recipe;
use zprune::prune::transform::{Centre, Scale, TRANSFORMS, Transform};

const SCALE: Scale = Scale { beta: 1.0 };
const CENTRE: Centre = Centre { layers: Layers::All };

/// A layer pruned with a criterion and a solver in the variables of a transform.
fn transformed(
    transform: Option<&dyn Transform>,
    (criterion, solver): (&dyn Criterion, &dyn Solver),
    weight: &Array2<f32>,
    statistics: &LayerStatistics,
    target: &Target,
) -> Solution {
    let steps = Steps {
        transform,
        ..Steps::new(criterion, solver)
    };
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    let solution = layer::solve(&layer, steps, target).unwrap_or_else(|error| panic!("{target:?}: {error}"));
    solution.mask.check(target).expect("as many as were asked for");
    solution
}

fn solver(name: &str, parameters: &str) -> Box<dyn Solver> {
    let table = toml::from_str(parameters).expect("a table");
    SOLVERS.build(name, &table).expect("legal").component
}

fn targets(columns: usize) -> Vec<Target> {
    let mut targets: Vec<Target> = GROUPS
        .into_iter()
        .map(|group| unstructured(0.5, group, Selection::Exact))
        .collect();
    targets.extend((columns.is_multiple_of(8)).then(|| structured(2, 4)));
    targets.extend((columns.is_multiple_of(8)).then(|| structured(5, 8)));
    targets
}

/// What is kept is what it was, bit for bit.
fn same_bits(solution: &Solution, weight: &Array2<f32>) {
    let removed = solution.mask.entries();
    for ((place, got), want) in solution.weight.indexed_iter().zip(weight) {
        let want = if removed[place] { 0.0 } else { *want };
        assert_eq!(got.to_bits(), want.to_bits(), "{place:?}: {got}, not {want}");
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn magnitude_with_the_scales_of_norms_removes_exactly_what_wanda_removes(
        rows in 1usize..20, eighths in 1usize..24, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        let statistics = from_squares(&squares(random, columns));
        let (magnitude, wanda, none) = (criterion("magnitude"), criterion("wanda"), solver("one-shot", ""));
        for target in targets(columns) {
            let want = transformed(None, (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
            let got = transformed(Some(&SCALE), (magnitude.as_ref(), none.as_ref()), &weight, &statistics, &target);
            prop_assert!(got.mask == want.mask, "{target:?}");
            same_bits(&got, &weight);
            prop_assert!(got.bias.is_none());
        }
    }

    #[test]
    fn scales_that_are_powers_of_two_leave_the_masks_of_wanda(
        rows in 1usize..20, eighths in 1usize..24, halves in 0usize..5, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        // Norms are powers of four, so that their roots are powers of two.
        let squares: Vec<f64> = (0..columns).map(|_| 16f64.powi(random.random_range(-3..4))).collect();
        let statistics = from_squares(&squares);
        let transform = Scale { beta: halves as f64 / 2.0 };
        let (wanda, none) = (criterion("wanda"), solver("one-shot", ""));
        for target in targets(columns) {
            let want = transformed(None, (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
            let got = transformed(Some(&transform), (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
            prop_assert!(got.mask == want.mask, "beta {}, {target:?}", transform.beta);
            same_bits(&got, &weight);
        }
    }

    #[test]
    fn any_scales_leave_the_masks_of_wanda_up_to_near_ties(
        rows in 1usize..12, eighths in 1usize..16, beta in 0.0f64..2.0, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        let statistics = from_squares(&squares(random, columns));
        let (wanda, none) = (criterion("wanda"), solver("one-shot", ""));
        let scores = score("wanda", &weight, &statistics);
        let target = unstructured(0.5, Group::Row, Selection::Exact);
        let want = transformed(None, (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
        let got = transformed(Some(&Scale { beta }), (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
        for (row, (got, want)) in got.mask.entries().rows().into_iter().zip(want.mask.entries().rows()).enumerate() {
            let differ: Vec<f32> = (0..columns).filter(|at| got[*at] != want[*at]).map(|at| scores[[row, at]]).collect();
            let least = differ.iter().copied().fold(f32::INFINITY, f32::min);
            let most = differ.iter().copied().fold(0.0, f32::max);
            prop_assert!(differ.is_empty() || most <= least * 1.000_01, "row {row}: {differ:?}");
        }
    }

    #[test]
    fn a_power_of_zero_changes_no_bit_of_any_step(eighths in 1usize..12, target in any_target(), seed: u64) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, 7, columns);
        let (_, statistics) = with_means(random, 2 * columns, columns);
        let same = Scale { beta: 0.0 };
        for (name, solver) in [("ria", solver("one-shot", "")), ("obs", solver("obs", "")), ("wanda", solver("least-squares", ""))] {
            let criterion = criterion(name);
            let steps = (criterion.as_ref(), solver.as_ref());
            let want = transformed(None, steps, &weight, &statistics, &target);
            let got = transformed(Some(&same), steps, &weight, &statistics, &target);
            prop_assert!(got.mask == want.mask, "{name}");
            for (got, want) in got.weight.iter().zip(&want.weight) {
                prop_assert_eq!(got.to_bits(), want.to_bits(), "{}: {}, not {}", name, got, want);
            }
        }
    }

    #[test]
    fn the_best_weights_do_not_depend_on_scales(eighths in 1usize..8, beta in 0.0f64..1.0, seed: u64) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, 5, columns);
        let (x, statistics) = with_means(random, 4 * columns, columns);
        let target = unstructured(0.5, Group::Row, Selection::Exact);
        // The mask is given, so that near ties do not matter.
        let given = Given(normal(random, 5, columns).mapv(f32::abs));
        let best = solver("least-squares", "damping = 0.0\ntolerance = 1e-7");
        let error = |solution: &Solution| {
            x.dot(&(&weight - &solution.weight).mapv(f64::from).t()).mapv(|value| value * value).sum()
        };
        let want = transformed(None, (&given, best.as_ref()), &weight, &statistics, &target);
        let got = transformed(Some(&Scale { beta }), (&given, best.as_ref()), &weight, &statistics, &target);
        prop_assert!(got.mask == want.mask);
        let (got, want) = (error(&got), error(&want));
        // Conjugate gradients in single precision, on inputs of very different sizes.
        prop_assert!(got <= want * 1.01 && want <= got * 1.01, "{got} with scales, {want} without");
    }

    #[test]
    fn shifts_keep_the_means_of_outputs_and_centring_is_what_a_bias_and_a_centred_solver_do(
        eighths in 1usize..8, sparsity in 0.3f64..0.99, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, 6, columns);
        let (x, statistics) = with_means(random, 4 * columns, columns);
        let means = x.mean_axis(Axis(0)).expect("there are tokens");
        let within = 1e-5 * f64::from(weight.iter().fold(0.0f32, |most, w| most.max(w.abs()))) * means.mapv(f64::abs).sum();
        for group in GROUPS {
            let target = unstructured(sparsity, group, Selection::Exact);
            for (name, solver) in [("magnitude", solver("one-shot", "")), ("obs", solver("obs", "")), ("wanda", solver("row-scale", ""))] {
                let criterion = criterion(name);
                let got = transformed(Some(&CENTRE), (criterion.as_ref(), solver.as_ref()), &weight, &statistics, &target);
                let bias = got.bias.expect("inputs were shifted");
                // Also of rows that lost all their weights.
                let lost = (&weight - &got.weight).mapv(f64::from).dot(&means);
                for (row, (added, lost)) in bias.iter().zip(&lost).enumerate() {
                    prop_assert!((added - lost).abs() <= within, "{name}, output {row}: {added}, not {lost}");
                }
            }
        }
        // The same numbers by another way: centred sums of squares, a solver that centres, and a compensation.
        let target = unstructured(0.5, Group::Row, Selection::Exact);
        let given = Given(normal(random, 6, columns).mapv(f32::abs));
        let (plain, centred) = ("damping = 0.0\ntolerance = 1e-7", "damping = 0.0\ntolerance = 1e-7\ncentred = true");
        let got = transformed(Some(&CENTRE), (&given, solver("least-squares", plain).as_ref()), &weight, &statistics, &target);
        let (by_solver, bias) = (solver("least-squares", centred), Bias::default());
        let steps = Steps { compensation: Some(&bias), ..Steps::new(&given, by_solver.as_ref()) };
        let layer = Layer { weight: weight.view(), statistics: &statistics };
        let want = layer::solve(&layer, steps, &target).expect("solves");
        let error = |solution: &Solution| {
            let mut lost = x.dot(&(&weight - &solution.weight).mapv(f64::from).t());
            lost -= &Array1::from_vec(solution.bias.clone().expect("there is one"));
            lost.mapv(|value| value * value).sum()
        };
        let (got, want) = (error(&got), error(&want));
        prop_assert!(got <= want * 1.001 && want <= got * 1.001, "{got} centred before, {want} in the solver");
    }

    #[test]
    fn centred_scores_are_those_of_centred_inputs(eighths in 1usize..8, seed: u64) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, 6, columns);
        let (x, statistics) = with_means(random, 4 * columns, columns);
        let centred = &x - &x.mean_axis(Axis(0)).expect("there are tokens");
        let centred = from_squares(&centred.mapv(|value| value * value).sum_axis(Axis(0)).to_vec());
        let scores = score("wanda", &weight, &centred);
        let (wanda, none) = (criterion("wanda"), solver("one-shot", ""));
        let target = unstructured(0.5, Group::Row, Selection::Exact);
        let got = transformed(Some(&CENTRE), (wanda.as_ref(), none.as_ref()), &weight, &statistics, &target);
        for (row, removed) in got.mask.entries().rows().into_iter().enumerate() {
            let of = |wanted: bool| (0..columns).filter(move |at| removed[*at] == wanted).map(|at| scores[[row, at]]);
            let (most, least) = (of(true).fold(0.0, f32::max), of(false).fold(f32::INFINITY, f32::min));
            prop_assert!(most <= least * 1.000_1, "row {row}: {most} was removed and {least} kept");
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused_with_the_reason() {
    let half = Pattern::Unstructured { sparsity: 0.5 };
    let made = |criterion: &str, solver: &str| {
        let table = match solver {
            "least-squares" => toml::toml! { centred = true },
            _ => toml::Table::new(),
        };
        let solver = SOLVERS.build(solver, &table).expect("legal").component;
        Recipe::new(super::criterion(criterion), solver)
    };
    let transform = |name: &str| Some(TRANSFORMS.build(name, &toml::Table::new()).expect("legal").component);
    for (criterion, solver, name, compensated, reason) in [
        (
            "taylor",
            "one-shot",
            "scale",
            false,
            "gradients of the original weights",
        ),
        (
            "wanda-pp",
            "one-shot",
            "centre",
            false,
            "gradients of the original weights",
        ),
        (
            "wanda",
            "one-shot",
            "centre",
            true,
            "and `compensate` changes them, too",
        ),
        ("wanda", "least-squares", "centre", false, "leave `centred` out"),
    ] {
        let recipe = Recipe {
            transform: transform(name),
            compensation: compensated.then(|| Box::new(Bias::default()) as _),
            ..made(criterion, solver)
        };
        let error = recipe.check(half, &Limits::NONE).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let recipe = Recipe {
        transform: transform("scale"),
        compensation: Some(Box::new(Bias::default())),
        ..made("wanda", "one-shot")
    };
    recipe.check(half, &Limits::NONE).expect("scales leave biases alone");
    assert!(TRANSFORMS.build("scale", &toml::toml! { beta = -1.0 }).is_err());
}

#[test]
fn inputs_that_are_always_zero_do_no_harm() {
    let random = &mut seeded(5);
    let weight = normal(random, 8, 16);
    let mut x = normal(random, 64, 16);
    x.column_mut(3).fill(0.0);
    let mut moments = Moments::new(16, Needs::GRAM.and(Needs::MEANS));
    Cpu.accumulate(&mut moments, &x).expect("computes");
    Cpu.accumulate_sums(&mut moments, &x, &[64.0]).expect("computes");
    let statistics = LayerStatistics::new(&moments, 1, Provider::Faer);
    let target = unstructured(0.5, Group::Row, Selection::Exact);
    for name in ["one-shot", "obs", "least-squares"] {
        for transform in [&SCALE as &dyn Transform, &CENTRE] {
            let (magnitude, solver) = (criterion("magnitude"), solver(name, ""));
            let steps = (magnitude.as_ref(), solver.as_ref());
            let got = transformed(Some(transform), steps, &weight, &statistics, &target);
            assert!(got.weight.iter().all(|weight| weight.is_finite()), "{name}");
        }
    }
    let nothing = from_squares(&[0.0; 16]);
    let (magnitude, none) = (criterion("magnitude"), solver("one-shot", ""));
    let steps = (magnitude.as_ref(), none.as_ref());
    same_bits(&transformed(Some(&SCALE), steps, &weight, &nothing, &target), &weight);
}
