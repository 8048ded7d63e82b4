//! What least squares and the solvers that choose their own mask may and may not do.

use super::*;
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::prune::compensation::Bias;

fn with(solver: &str, parameters: &str) -> Box<dyn Solver> {
    let table: toml::Table = parameters.parse().expect("a table");
    SOLVERS.build(solver, &table).expect("legal").component
}

fn solved(
    solver: &dyn Solver,
    criterion: &dyn Criterion,
    weight: &Array2<f32>,
    statistics: &LayerStatistics,
    target: &Target,
) -> Solution {
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    let solution = layer::solve(&layer, Steps::new(criterion, solver), target);
    let solution = solution.unwrap_or_else(|error| panic!("{target:?}: {error}"));
    solution
        .mask
        .check(target)
        .unwrap_or_else(|error| panic!("{target:?}: {error}"));
    for (removed, weight) in solution.mask.entries().iter().zip(&solution.weight) {
        assert!(!removed || *weight == 0.0, "{target:?}: a removed weight is {weight}");
        assert!(weight.is_finite(), "{target:?}: a weight is {weight}");
    }
    solution
}

fn damped(gram: &Array2<f64>, fraction: f64) -> Array2<f64> {
    let damping = fraction * gram.diag().mean().expect("there are columns");
    gram + &(Array2::<f64>::eye(gram.nrows()) * damping)
}

/// The error of the layer's output for the change from `before` to `after`.
fn output_error(before: &Array2<f32>, after: &Array2<f32>, gram: &Array2<f64>) -> f64 {
    let change = after.mapv(f64::from) - before.mapv(f64::from);
    (change.dot(gram) * &change).sum()
}

/// Inputs of three sequences whose features have means, as activations have, with their statistics.
pub(super) fn with_means(random: &mut ChaCha8Rng, tokens: usize, columns: usize) -> (Array2<f64>, LayerStatistics) {
    let offsets = normal(random, 1, columns).mapv(|offset| 3.0 * f64::from(offset.powi(3)));
    let x = (activations(random, 3 * tokens, columns) + offsets).mapv(|value| value as f32);
    let mut moments = Moments::new(columns, Needs::GRAM.and(Needs::MEANS));
    Cpu.accumulate(&mut moments, &x).expect("computes");
    Cpu.accumulate_sums(&mut moments, &x, &[tokens as f64; 3])
        .expect("computes");
    (x.mapv(f64::from), LayerStatistics::new(&moments, 3, Provider::Faer))
}

/// A layer pruned by Wanda's mask and a solver, with the bias that compensation adds.
fn biased(solver: &dyn Solver, weight: &Array2<f32>, statistics: &LayerStatistics, target: &Target) -> Solution {
    let (wanda, bias) = (criterion("wanda"), Bias::default());
    let steps = Steps {
        compensation: Some(&bias),
        ..Steps::new(wanda.as_ref(), solver)
    };
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    layer::solve(&layer, steps, target).unwrap_or_else(|error| panic!("{target:?}: {error}"))
}

/// The squared error of the layer's outputs, bias included.
fn with_bias(before: &Array2<f32>, after: &Solution, x: &Array2<f64>) -> f64 {
    let mut lost = x.dot(&(before - &after.weight).mapv(f64::from).t());
    lost -= &Array1::from_vec(after.bias.clone().expect("compensated"));
    lost.mapv(|value| value * value).sum()
}

/// The reference's selection may keep nothing of a small layer. Then the penalty fell until it was 0 in single precision.
#[test]
fn alps_ends_where_nothing_is_kept() {
    let random = &mut seeded(0);
    let weight = normal(random, 1, 8);
    let x = activations(random, 30, 8);
    let statistics = from_gram(&x.t().dot(&x));
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.999 },
        group: Group::ColumnBlock,
        selection: Selection::Reference,
    };
    let solution = solved(
        with("alps", "").as_ref(),
        criterion("wanda").as_ref(),
        &weight,
        &statistics,
        &target,
    );
    assert!(
        solution.mask.entries().iter().all(|removed| *removed),
        "all are removed"
    );
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn with_a_bias_centred_solvers_have_no_more_error_than_others(
        solver in one_of(&["least-squares", "row-scale"]), rows in 1usize..12, eighths in 1usize..16, target in any_target(),
        seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        let (x, statistics) = with_means(random, columns, columns);
        let parameters = if solver == "row-scale" { "" } else { "damping = 0.0\ntolerance = 1e-7\n" };
        let error = |more: &str| {
            let solver = with(solver, &format!("{parameters}{more}"));
            with_bias(&weight, &biased(solver.as_ref(), &weight, &statistics, &target), &x)
        };
        let (plain, centred) = (error(""), error("centred = true"));
        let whole = x.dot(&weight.mapv(f64::from).t()).mapv(|value| value * value).sum();
        prop_assert!(
            centred <= plain * (1.0 + 1e-3) + 1e-9 * whole,
            "{}, {:?}: {:e} centred, {:e} otherwise", solver, target, centred, plain
        );
        // And no weights with a bias are better than the best: those without any of the two are not.
        let masked = with_bias(&weight, &biased(with("one-shot", "").as_ref(), &weight, &statistics, &target), &x);
        prop_assert!(centred <= masked * (1.0 + 1e-3) + 1e-9 * whole, "{}: {:e}, masked {:e}", solver, centred, masked);
    }

    #[test]
    fn a_row_scale_is_the_best_there_is_and_never_raises_the_error(
        start in one_of(&["one-shot", "obs", "least-squares"]), rows in 1usize..12, eighths in 1usize..16,
        target in any_target(), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let (x, statistics) = with_means(random, 8 * eighths, 8 * eighths);
        let gram = x.t().dot(&x);
        let wanda = criterion("wanda");
        let scale = with("row-scale", &format!("start = \"{start}\""));
        let before = solved(with(start, "").as_ref(), wanda.as_ref(), &weight, &statistics, &target);
        let after = solved(scale.as_ref(), wanda.as_ref(), &weight, &statistics, &target);
        prop_assert_eq!(&before.mask, &after.mask);
        let wide = |array: &Array2<f32>| array.mapv(f64::from);
        for row in 0..rows {
            let (dense, left) = (wide(&weight).row(row).to_owned(), wide(&before.weight).row(row).to_owned());
            let pull = gram.dot(&left);
            let size = left.dot(&pull);
            if size <= 0.0 {
                continue;
            }
            let want = dense.dot(&pull) / size;
            for (got, left) in after.weight.row(row).iter().zip(&left) {
                prop_assert!((f64::from(*got) - want * left).abs() <= 1e-4 * left.abs(), "{}: {} for {}", start, got, left);
            }
            let error = |new: &Array1<f64>| (&dense - new).dot(&gram.dot(&(&dense - new)));
            let (before, now) = (error(&left), error(&wide(&after.weight).row(row).to_owned()));
            let whole = dense.dot(&gram.dot(&dense));
            prop_assert!(now <= before + 1e-9 * whole, "{}, row {}: {:e} after {:e}", start, row, now, before);
        }
    }

    #[test]
    fn least_squares_solves_every_row_directly(
        rows in 1usize..10, eighths in 1usize..16, target in any_target(), fraction in one_of(&[0.01, 0.1]), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 30 * eighths, 8 * eighths);
        let gram = x.t().dot(&x);
        let solver = with("least-squares", &format!("damping = {fraction}\nsteps = 400\ntolerance = 1e-7"));
        let solution = solved(solver.as_ref(), criterion("wanda").as_ref(), &weight, &from_gram(&gram), &target);
        let matrix = damped(&gram, fraction);
        let goal = weight.mapv(f64::from).dot(&matrix);
        for (row, removed) in solution.mask.entries().rows().into_iter().enumerate() {
            let kept: Vec<usize> = (0..removed.len()).filter(|column| !removed[*column]).collect();
            let part = Array2::from_shape_fn((kept.len(), kept.len()), |(i, j)| matrix[[kept[i], kept[j]]]);
            let right = Array1::from_shape_fn(kept.len(), |i| goal[[row, kept[i]]]);
            let factor = inverse_factor(Provider::Faer, part).expect("positive definite");
            let direct = factor.t().dot(&factor.dot(&right));
            for (place, want) in kept.iter().zip(direct) {
                let got = f64::from(solution.weight[[row, *place]]);
                let off = (got - want).abs();
                assert!(off <= 1e-4 * f64::from(greatest(&weight)), "{target:?}, row {row}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn least_squares_leaves_no_slope_on_the_kept_weights_and_less_error_than_any_other_weights(
        rows in 1usize..16, eighths in 1usize..24, target in any_target(), share in 0.3f64..3.0, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        // Fewer tokens than features, too.
        let x = activations(random, 1 + (columns as f64 * share) as usize, columns);
        let gram = x.t().dot(&x);
        let statistics = from_gram(&gram);
        let wanda = criterion("wanda");
        let best = solved(with("least-squares", "").as_ref(), wanda.as_ref(), &weight, &statistics, &target);
        let matrix = damped(&gram, 0.01);
        let slope = (best.weight.mapv(f64::from) - weight.mapv(f64::from)).dot(&matrix);
        let goal = weight.mapv(f64::from).dot(&matrix);
        let norm = |of: &Array2<f64>| of.mapv(|value| value * value).sum().sqrt();
        let kept = best.mask.entries().mapv(|removed| f64::from(u8::from(!removed)));
        let left = norm(&(&slope * &kept)) / norm(&goal);
        assert!(left <= 1e-4, "{target:?}: {left:e} of the slope is left");
        let error = output_error(&weight, &best.weight, &matrix);
        for solver in ["one-shot", "obs"] {
            let other = solved(with(solver, "").as_ref(), wanda.as_ref(), &weight, &statistics, &target);
            assert_eq!(other.mask, best.mask, "{solver}, {target:?}");
            let other = output_error(&weight, &other.weight, &matrix);
            assert!(error <= other * (1.0 + 1e-5), "{solver}, {target:?}: {error:e} is more than {other:e}");
        }
    }

    #[test]
    fn where_nothing_is_removed_or_nothing_is_shared_least_squares_changes_nothing(
        rows in 1usize..16, columns in 2usize..200, damping in one_of(&[0.0, 0.01]), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let x = activations(random, 50, columns);
        let solver = with("least-squares", &format!("damping = {damping}"));
        let none = unstructured(0.5 / columns as f64, Group::Row, Selection::Exact);
        let whole = solved(solver.as_ref(), criterion("wanda").as_ref(), &weight, &from_gram(&x.t().dot(&x)), &none);
        assert_eq!(whole.weight, weight, "nothing is removed");
        let diagonal = Array1::from_shape_simple_fn(columns, || random.random_range(0.25..4.0));
        let alone = from_gram(&Array2::from_diag(&diagonal));
        let half = unstructured(0.5, Group::Row, Selection::Exact);
        let pruned = solved(solver.as_ref(), criterion("wanda").as_ref(), &weight, &alone, &half);
        let mut want = weight.clone();
        pruned.mask.apply(&mut want);
        let off = greatest(&(&pruned.weight - &want));
        assert!(off <= 1e-6 * greatest(&weight), "inputs share nothing, yet a weight changed by {off:e}");
    }

    #[test]
    fn with_more_kept_weights_than_tokens_least_squares_leaves_no_error(
        rows in 1usize..12, tokens in 4usize..20, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 6 * tokens;
        let weight = normal(random, rows, columns);
        let mut x = activations(random, tokens, columns);
        x.column_mut(3).fill(0.0);
        let gram = x.t().dot(&x);
        let solver = with("least-squares", "damping = 0.0\nsteps = 500\ntolerance = 1e-6");
        let target = unstructured(0.5, Group::Row, Selection::Exact);
        let found = solved(solver.as_ref(), criterion("magnitude").as_ref(), &weight, &from_gram(&gram), &target);
        let whole = output_error(&Array2::zeros(weight.dim()), &weight, &gram);
        let left = output_error(&weight, &found.weight, &gram) / whole;
        assert!(left < 1e-7, "{left:e} of the output is wrong");
    }

    #[test]
    fn a_start_leaves_its_mask_and_the_old_weights_are_what_is_aimed_at(
        rows in 1usize..12, eighths in 1usize..16, target in any_target(), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 40 * eighths, 8 * eighths);
        let gram = x.t().dot(&x);
        let statistics = from_gram(&gram);
        let obs = criterion("obs");
        let sparsegpt = solved(with("obs", "").as_ref(), obs.as_ref(), &weight, &statistics, &target);
        let both = solved(with("least-squares", "start = \"obs\"").as_ref(), obs.as_ref(), &weight, &statistics, &target);
        assert_eq!(both.mask, sparsegpt.mask, "{target:?}");
        let matrix = damped(&gram, 0.01);
        let before = output_error(&weight, &sparsegpt.weight, &matrix);
        let after = output_error(&weight, &both.weight, &matrix);
        assert!(after <= before * (1.0 + 1e-5), "{target:?}: {after:e} after {before:e}");
    }

    #[test]
    fn solvers_that_choose_their_mask_keep_to_every_target(
        solver in one_of(&["admm", "alps", "fista"]), rows in 1usize..20, eighths in 1usize..20,
        target in any_target(), dead in 0usize..3, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let columns = 8 * eighths;
        let weight = normal(random, rows, columns);
        let mut x = activations(random, 30 * eighths, columns);
        for column in 0..dead {
            x.column_mut(5 * column % columns).fill(0.0);
        }
        let statistics = from_gram(&x.t().dot(&x));
        solved(with(solver, "").as_ref(), criterion("wanda").as_ref(), &weight, &statistics, &target);
    }

    #[test]
    fn fista_never_ends_with_more_error_than_its_start(
        rows in 1usize..16, eighths in 1usize..16, target in any_target(), start in one_of(&["one-shot", "obs"]),
        round in one_of(&["wanda", "magnitude"]), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 40 * eighths, 8 * eighths);
        let gram = x.t().dot(&x);
        let statistics = from_gram(&gram);
        let name = if start == "obs" { "obs" } else { "wanda" };
        let before = solved(with(start, "").as_ref(), criterion(name).as_ref(), &weight, &statistics, &target);
        let fista = with("fista", &format!("start = \"{start}\"\nround = \"{round}\""));
        let after = solved(fista.as_ref(), criterion(name).as_ref(), &weight, &statistics, &target);
        let before = output_error(&weight, &before.weight, &gram);
        let after = output_error(&weight, &after.weight, &gram);
        assert!(after <= before * (1.0 + 1e-5), "{start}, {round}, {target:?}: {after:e} after {before:e}");
    }
}

/// Statistical: on correlated inputs, every one of them has less error than Wanda's mask in the same group, and
/// least squares on their masks gains little more.
#[test]
fn solvers_that_choose_their_mask_beat_wanda_on_correlated_inputs() {
    for seed in 0..4 {
        let random = &mut seeded(seed);
        let weight = normal(random, 48, 128);
        let x = activations(random, 600, 128);
        let gram = x.t().dot(&x);
        let statistics = from_gram(&gram);
        for target in [
            unstructured(0.5, Group::Matrix, Selection::Exact),
            unstructured(0.7, Group::Row, Selection::Exact),
            structured(2, 4),
        ] {
            let wanda = criterion("wanda");
            let error = |solver: &str| {
                let found = solved(with(solver, "").as_ref(), wanda.as_ref(), &weight, &statistics, &target);
                output_error(&weight, &found.weight, &gram)
            };
            let (masked, refitted) = (error("one-shot"), error("least-squares"));
            for (solver, at_most) in [("admm", refitted), ("alps", refitted), ("fista", masked)] {
                let got = error(solver);
                println!("seed {seed}, {solver}, {}: {:.3}", target.pattern, got / masked);
                assert!(
                    got < at_most,
                    "seed {seed}, {solver}, {}: {got:e}, not below {at_most:e}",
                    target.pattern
                );
            }
        }
    }
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    for (solver, parameters, named) in [
        ("least-squares", "damping = -0.1", "damping"),
        ("least-squares", "steps = 0", "steps"),
        ("least-squares", "tolerance = 2.0", "tolerance"),
        ("least-squares", "centred = 1", "centred"),
        ("row-scale", "damping = 0.1", "unknown key `damping`"),
        ("admm", "penalty = 0.0", "penalty"),
        ("admm", "iterations = 0", "iterations"),
        ("admm", "schedule = \"linear\"", "cubic"),
        ("alps", "damping = 3.0", "damping"),
        ("alps", "rho = 1.0", "unknown key `rho`"),
        ("fista", "share = 1.5", "share"),
        ("fista", "round = \"l2\"", "magnitude"),
        ("fista", "start = \"obsolete\"", "unknown solver `obsolete`"),
    ] {
        let table: toml::Table = parameters.parse().expect("a table");
        let error = SOLVERS.build(solver, &table).err().expect("refused").to_string();
        assert!(error.contains(named), "{solver}, {parameters}: {error}");
    }
}
