//! Any criterion with any transform, permutation, refiner, solver and compensation: counts are exact after every step, removed weights are 0,
//! swaps never raise the error, least squares is at least as good as any other weights on the same mask, columns come back into
//! their places, means of outputs are what they were where a bias sees to them, and what the steps say they need is enough.

use super::*;
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::prune::allocator::Uniform;
use zprune::prune::compensation::COMPENSATIONS;
use zprune::prune::component::Components;
use zprune::prune::layer::run_steps;
use zprune::prune::limits::Limits;
use zprune::prune::permutation::PERMUTATIONS;
use zprune::prune::recipe::Recipe;
use zprune::prune::refiner::REFINERS;
use zprune::prune::transform::TRANSFORMS;
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

const ROWS: usize = 20;

/// Names of all components, and of none.
fn names<T: ?Sized>(components: &Components<T>) -> Vec<Option<&'static str>> {
    let all = components.entries().into_iter().map(|entry| Some(entry.name));
    std::iter::once(None).chain(all).collect()
}

fn made<T: ?Sized>(components: &Components<T>, name: &str) -> Box<T> {
    let mut parameters = toml::Table::new();
    // A formula has no default.
    if name == "expression" {
        parameters.insert(name.to_string(), "abs(w) * sqrt(x2) / row_mean(abs(w))".into());
    }
    if name == "scores" {
        parameters.insert("path".to_string(), "their.safetensors".into());
    }
    let built = components.build(name, &parameters);
    built.expect("defaults are legal").component
}

fn drawn<T: Copy>(random: &mut ChaCha8Rng, all: &[T]) -> T {
    all[random.random_range(0..all.len())]
}

/// `tr(E G E^T)` in double precision.
fn error(difference: &Array2<f64>, gram: &Array2<f64>) -> f64 {
    (difference.dot(gram) * difference).sum()
}

/// A recipe of random steps and a pattern that it can be used with.
fn recipe(random: &mut ChaCha8Rng) -> (Recipe, Pattern, String) {
    // How much a mask removes stands in its file.
    let criteria = CRITERIA.entries().into_iter().map(|entry| entry.name);
    let criteria: Vec<&str> = criteria.filter(|name| *name != "mask").collect();
    let solvers: Vec<&str> = SOLVERS.entries().into_iter().map(|entry| entry.name).collect();
    let (refiners, permutations) = (names(&REFINERS), names(&PERMUTATIONS));
    let (compensations, transforms) = (names(&COMPENSATIONS), names(&TRANSFORMS));
    loop {
        let pattern = match random.random_range(0..6) {
            3 => Pattern::NofM { keep: 2, of: 4 },
            4 => Pattern::NofM { keep: 1, of: 4 },
            5 => Pattern::NofM { keep: 5, of: 8 },
            third => Pattern::Unstructured {
                sparsity: [0.3, 0.5, 0.7][third],
            },
        };
        let (criterion, solver) = (drawn(random, &criteria), drawn(random, &solvers));
        let (refiner, permutation) = (drawn(random, &refiners), drawn(random, &permutations));
        let (compensation, transform) = (drawn(random, &compensations), drawn(random, &transforms));
        let permutation = permutation.filter(|_| matches!(pattern, Pattern::NofM { .. }));
        let group = drawn(random, &GROUPS);
        let recipe = Recipe {
            allocator: Box::new(Uniform {}),
            transform: transform.map(|name| made(&TRANSFORMS, name)),
            permutation: permutation.map(|name| made(&PERMUTATIONS, name)),
            refiner: refiner.map(|name| made(&REFINERS, name)),
            compensation: compensation.map(|name| made(&COMPENSATIONS, name)),
            group,
            ..Recipe::new(made(&CRITERIA, criterion), made(&SOLVERS, solver))
        };
        let what = format!(
            "{transform:?} {criterion} {permutation:?} {refiner:?} {solver} {compensation:?} {group:?} {pattern}"
        );
        match recipe.check(pattern, &Limits::NONE) {
            Ok(()) => return (recipe, pattern, what),
            Err(why) => assert!(why.to_string().len() > 40, "{what} is refused without a reason: {why}"),
        }
    }
}

#[test]
fn steps_of_random_recipes_keep_their_promises() {
    let mut random = seeded(71);
    let (mut compared, mut biased) = (0, 0);
    for case in 0..60 {
        let (recipe, pattern, what) = recipe(&mut random);
        let place = format!("case {case}: {what}");
        let columns = drawn(&mut random, &[64, 160]);
        let dense = normal(&mut random, ROWS, columns);
        // Inputs with means, some of them large.
        let offsets = normal(&mut random, 1, columns).mapv(|offset| f64::from(offset.powi(3)));
        let x = (activations(&mut random, 5 * columns, columns) + offsets).mapv(|value| value as f32);
        let target = Target {
            pattern,
            group: recipe.group,
            selection: recipe.selection,
        };
        // No more is gathered than the steps ask for.
        let mut moments = Cpu.moments(columns, recipe.needs()).expect("room");
        Cpu.accumulate(&mut moments, &x).expect("computes");
        Cpu.accumulate_sums(&mut moments, &x, &[columns as f64; 5])
            .expect("computes");
        let statistics = Cpu.statistics(&moments, 5, recipe.factoring()).expect("finite");
        let wide = x.mapv(f64::from);
        let gram = wide.t().dot(&wide) / 5.0;
        // Those of criteria that use some.
        let losses = [Loss::Likelihood, Loss::Outputs];
        let gradients = losses.map(|loss| gradients(&mut random, loss, ROWS, columns));
        let criterion = WithGradients::new(recipe.criterion.as_ref(), &gradients).expect("all there are");
        let theirs = normal(&mut random, ROWS, columns).mapv(f32::abs).into_shared();
        let criterion = criterion.with_file(theirs.into()).expect("one for each weight");
        let steps = Steps {
            criterion: &criterion,
            ..recipe.steps()
        };

        // What refinement does to the mask, where there is a mask to refine.
        let mut weight = dense.clone();
        let mut piece = Cpu.workpiece(&mut weight, StorageType::F32, &statistics);
        let mut moved = None;
        if let Some(refiner) = steps.refiner {
            let score = zprune::prune::score::resolve(&steps.criterion.score(), piece.as_ref()).expect("gathered");
            piece
                .select(&score, &target)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let removed = |piece: &dyn Workpiece| {
                let kept = piece.read(&piece.kept().expect("room")).expect("there");
                let kept = kept.mapv(f64::from);
                (&dense.mapv(f64::from) * &(1.0 - &kept), kept)
            };
            let (before, start) = removed(piece.as_ref());
            refiner
                .refine(piece.as_mut(), &target)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let (after, refined) = removed(piece.as_ref());
            let mask = Mask::from_entries(refined.mapv(|kept| kept == 0.0));
            mask.check(&target)
                .unwrap_or_else(|error| panic!("{place}, refined: {error}"));
            assert_eq!(start.sum(), refined.sum(), "{place}");
            moved = Some(
                start
                    .iter()
                    .zip(&refined)
                    .filter(|(before, after)| before > after)
                    .count(),
            );
            if what.contains("sparse-swaps") {
                let (before, after) = (error(&before, &gram), error(&after, &gram));
                assert!(
                    after <= before * (1.0 + 1e-6),
                    "{place}: {after} after swaps, {before} before"
                );
            }
        }
        drop(piece);

        let mut weight = dense.clone();
        let mut piece = Cpu.workpiece(&mut weight, StorageType::F32, &statistics);
        let wanted = steps
            .compensation
            .map(|it| it.wanted(piece.as_ref()).expect("gathered"));
        let taken = run_steps(piece.as_mut(), steps, &target).unwrap_or_else(|error| panic!("{place}: {error}"));
        // In another order of columns, or in other variables, it is another mask.
        if steps.permutation.is_none() && steps.transform.is_none() {
            assert_eq!(taken.refined, moved, "{place}");
        }
        let finished = piece.finish().expect("computes");
        drop(piece);
        assert!(finished.fault.is_none(), "{place}: {:?}", finished.fault);
        let order = finished.order.clone().unwrap_or_else(|| (0..columns).collect());
        finished
            .mask
            .reordered(&order)
            .check(&target)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let kept = Array2::from_shape_fn(dense.dim(), |(row, column)| {
            f32::from(!finished.mask.removes(row, column))
        });
        for ((place_of, kept), weight) in kept.indexed_iter().zip(&weight) {
            assert!(
                *kept == 1.0 || *weight == 0.0,
                "{place}: {weight} at {place_of:?} is removed"
            );
            // Weights that nobody updates are those of the dense layer, each in its own place.
            if *kept == 1.0 && !steps.solver.updates() {
                assert_eq!(*weight, dense[place_of], "{place}");
            }
        }

        // With what is added to the bias, the means of outputs are those of the dense layer, and no error is larger.
        if let Some((compensation, wanted)) = steps.compensation.zip(wanted) {
            let after = &mut weight.clone();
            let piece = Cpu.workpiece(after, StorageType::F32, &statistics);
            let given = compensation.given(piece.as_ref()).expect("gathered");
            let lost = (&dense - &weight).mapv(f64::from);
            let means = wide.mean_axis(Axis(0)).expect("there are tokens");
            let within = 1e-5 * greatest(&dense) as f64 * means.mapv(f64::abs).sum();
            let outputs = wide.dot(&lost.t());
            for (row, outputs) in outputs.columns().into_iter().enumerate() {
                let (added, mean) = (wanted[row] - given[row], outputs.mean().expect("there are tokens"));
                assert!(
                    (added - mean).abs() < within,
                    "{place}: {added} is added to output {row}, not {mean}"
                );
                let squares = |offset: f64| outputs.iter().map(|y| (y - offset).powi(2)).sum::<f64>();
                assert!(squares(added) <= squares(0.0) * (1.0 + 1e-6), "{place}: output {row}");
            }
            biased += 1;
        }

        // The best weights on this mask are not worse.
        let least = SOLVERS
            .build("least-squares", &toml::toml! { damping = 1e-6 })
            .expect("legal")
            .component;
        let mut moments = Cpu.moments(columns, Needs::GRAM).expect("room");
        Cpu.accumulate(&mut moments, &x).expect("computes");
        let statistics = Cpu.statistics(&moments, 5, Provider::Faer).expect("finite");
        let mut best = dense.clone();
        let mut piece = Cpu.workpiece(&mut best, StorageType::F32, &statistics);
        piece.keep(&piece.matrix(kept.view()).expect("room")).expect("fits");
        least
            .solve(piece.as_mut(), None, &target)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        drop(piece);
        let apart = |weight: &Array2<f32>| error(&(weight - &dense).mapv(f64::from), &gram);
        let (got, least) = (apart(&weight), apart(&best));
        assert!(
            least <= got * 1.001,
            "{place}: {least} by least squares, {got} by the recipe"
        );
        compared += usize::from(got > 1.05 * least);
    }
    assert!(
        compared > 20,
        "only {compared} recipes were worse than least squares: the comparison says nothing"
    );
    assert!(biased > 15, "only {biased} recipes had a compensation");
}

#[test]
fn a_centred_solver_without_a_bias_is_refused_with_the_reason() {
    let solver = SOLVERS
        .build("least-squares", &toml::toml! { centred = true })
        .expect("legal");
    let half = Pattern::Unstructured { sparsity: 0.5 };
    let mut recipe = Recipe::new(made(&CRITERIA, "wanda"), solver.component);
    let error = recipe.check(half, &Limits::NONE).expect_err("no bias").to_string();
    assert!(error.contains("add compensate = \"bias\""), "{error}");
    recipe.compensation = Some(made(&COMPENSATIONS, "bias"));
    recipe.check(half, &Limits::NONE).expect("there is one");
    let spec = read_spec(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-llama")).expect("supported");
    recipe.biased(&spec).expect("all layers get a bias");
    let some = COMPENSATIONS
        .build("bias", &toml::toml! { layers = "outputs" })
        .expect("legal");
    recipe.compensation = Some(some.component);
    let error = recipe.biased(&spec).expect_err("queries get none").to_string();
    assert!(error.contains("self_attn.q_proj does not get one"), "{error}");
}

#[test]
fn a_refinement_that_would_change_nothing_is_refused() {
    let half = Pattern::Unstructured { sparsity: 0.5 };
    let solvers = [
        ("admm", toml::Table::new(), true),
        ("alps", toml::Table::new(), true),
        ("obs", toml::toml! { order = "rescore" }, true),
        ("least-squares", toml::toml! { start = "alps" }, true),
        ("row-scale", toml::toml! { start = "admm" }, true),
        (
            "fista",
            toml::toml! { start = { name = "least-squares", start = "admm" } },
            true,
        ),
        ("fista", toml::Table::new(), false),
        ("obs", toml::Table::new(), false),
        ("least-squares", toml::toml! { start = "obs" }, false),
    ];
    for (name, parameters, refused) in solvers {
        let solver = SOLVERS.build(name, &parameters).expect("legal").component;
        let mut recipe = Recipe::new(made(&CRITERIA, "wanda"), solver);
        recipe.check(half, &Limits::NONE).expect("no refinement");
        recipe.refiner = Some(made(&REFINERS, "sparse-swaps"));
        match recipe.check(half, &Limits::NONE) {
            Ok(()) => assert!(!refused, "{name} {parameters} ignores the refined mask"),
            Err(error) => assert!(
                refused && error.to_string().contains("leave `refine` out"),
                "{name}: {error}"
            ),
        }
    }
}
