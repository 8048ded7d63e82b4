//! Claims that hold for every layer, held against random ones: counts and order of masks, invariances
//! of the criteria, what the OBS solver may and may not do, how the Hessian is damped.
//!
//! Universal claims draw new cases on every run (proptest prints and shrinks a failing one); the two
//! that are statistical, and say so, use fixed seeds. A mask comparison that rounding could disturb
//! allows exactly those places to differ whose scores agree to the stated tolerance.

use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use proptest::prelude::*;
use proptest::sample::select as one_of;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use zprune::backend::moments::{Moments, Needs};
use zprune::calibrate::statistics::LayerStatistics;
use zprune::error::Result;
use zprune::linalg::{Provider, inverse_factor};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::source::WeightSource;
use zprune::prune::Layer;
use zprune::prune::criterion::{CRITERIA, Criterion};
use zprune::prune::mask::{Mask, select};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::score::Score;
use zprune::prune::solver::{SOLVERS, Solution};
use zprune::prune::workbench::{self, LayerView};

/// Columns that SparseGPT compares and updates together.
const BLOCK: usize = 128;

/// Rounding of a score that is a product of three or four `f32` numbers.
const ROUNDING: f64 = 1e-6;

const SELECTIONS: [Selection; 2] = [Selection::Exact, Selection::Reference];
const GROUPS: [Group; 3] = [Group::Matrix, Group::Row, Group::ColumnBlock];
const STRUCTURED: [(usize, usize); 5] = [(1, 4), (2, 4), (4, 8), (3, 4), (1, 2)];

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        // The minimal case is printed; a file of seeds beside the sources would be one more thing to ship.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn gauss(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

fn normal(random: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || gauss(random) as f32)
}

/// Every value from 1 to `rows * columns` once, in random order.
fn distinct(random: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    let mut values: Vec<f32> = (1..=rows * columns).map(|value| value as f32).collect();
    values.shuffle(random);
    Array2::from_shape_vec((rows, columns), values).expect("one value per place")
}

/// How much the scores or weights of a case repeat.
#[derive(Debug, Clone, Copy)]
enum Ties {
    None,
    Many,
    MostlyZero,
}

const TIES: [Ties; 3] = [Ties::None, Ties::Many, Ties::MostlyZero];

fn tied(random: &mut ChaCha8Rng, ties: Ties, rows: usize, columns: usize) -> Array2<f32> {
    let values = normal(random, rows, columns);
    match ties {
        Ties::None => values,
        Ties::Many => values.mapv(|value| (2.0 * value).round() / 2.0),
        Ties::MostlyZero => values.mapv(|value| if value < 0.8 { 0.0 } else { value }),
    }
}

/// Calibration inputs `(tokens, features)`, correlated through four common factors and of unequal scale,
/// as activations are.
fn activations(random: &mut ChaCha8Rng, tokens: usize, features: usize) -> Array2<f64> {
    const FACTORS: usize = 4;
    let common = normal(random, tokens, FACTORS).mapv(f64::from);
    let loadings = normal(random, FACTORS, features).mapv(f64::from);
    let own = normal(random, tokens, features).mapv(f64::from);
    let scales = Array1::from_shape_simple_fn(features, || (0.5 * gauss(random)).exp());
    (common.dot(&loadings) + own) * &scales
}

/// Statistics of one sequence with this Gram matrix; as promised by [`Moments`], only its lower triangle
/// is passed on.
fn from_gram(gram: &Array2<f64>) -> LayerStatistics {
    let mut moments = Moments::new(gram.nrows(), Needs::GRAM);
    moments.squares = gram.diag().to_vec();
    let lower = |(i, j): (usize, usize)| if i >= j { gram[[i, j]] } else { 0.0 };
    moments.gram = Some(Array2::from_shape_fn(gram.dim(), lower).into_shared());
    LayerStatistics::new(&moments, 1, Provider::Faer)
}

fn from_squares(squares: &[f64]) -> LayerStatistics {
    let mut moments = Moments::new(squares.len(), Needs::SQUARES);
    moments.squares = squares.to_vec();
    LayerStatistics::new(&moments, 1, Provider::Faer)
}

/// Sums of squares whose roots spread over about one order of magnitude.
fn squares(random: &mut ChaCha8Rng, features: usize) -> Vec<f64> {
    (0..features).map(|_| gauss(random).exp()).collect()
}

fn criterion(name: &str) -> Box<dyn Criterion> {
    let entry = CRITERIA.find(name).expect("registered");
    (entry.item)(&toml::Table::new()).expect("defaults are legal").component
}

/// A criterion whose scores are given, to put a mask where a test wants it.
struct Given(Array2<f32>);

impl Criterion for Given {
    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn group(&self) -> Group {
        Group::Row
    }

    fn score(&self, _layer: &dyn LayerView) -> Result<Score> {
        Ok(Score::Dense(self.0.clone()))
    }
}

fn score(name: &str, weight: &Array2<f32>, statistics: &LayerStatistics) -> Array2<f32> {
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    let score = criterion(name)
        .score(&layer)
        .and_then(|score| score.evaluate(weight.view()));
    score.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn solve(
    solver: &str,
    criterion: &dyn Criterion,
    weight: &Array2<f32>,
    statistics: &LayerStatistics,
    target: &Target,
) -> Solution {
    let layer = Layer {
        weight: weight.view(),
        statistics,
    };
    let entry = SOLVERS.find(solver).expect("registered");
    let component = (entry.item)(&toml::Table::new()).expect("defaults are legal").component;
    let solution = workbench::solve(&layer, component.as_ref(), criterion, target);
    let solution = solution.unwrap_or_else(|error| panic!("{solver}, {target:?}: {error}"));
    solution
        .mask
        .check(target)
        .unwrap_or_else(|error| panic!("{solver}, {target:?}: {error}"));
    solution
}

fn unstructured(sparsity: f64, group: Group, selection: Selection) -> Target {
    Target {
        pattern: Pattern::Unstructured { sparsity },
        group,
        selection,
    }
}

fn structured(keep: usize, of: usize) -> Target {
    Target {
        pattern: Pattern::Structured { keep, of },
        group: Group::Row,
        selection: Selection::Exact,
    }
}

/// The places of every comparison group, made without the code under test.
fn comparison_groups((rows, columns): (usize, usize), target: &Target) -> Vec<Vec<(usize, usize)>> {
    let (height, width) = match (target.pattern, target.group) {
        (Pattern::Structured { of, .. }, _) => (1, of),
        (_, Group::Matrix) => (rows, columns),
        (_, Group::Row) => (1, columns),
        (_, Group::ColumnBlock) => (rows, BLOCK),
    };
    let mut groups = Vec::new();
    for top in (0..rows).step_by(height) {
        for left in (0..columns).step_by(width) {
            let below = top + height;
            let right = (left + width).min(columns);
            groups.push(
                (top..below)
                    .flat_map(|row| (left..right).map(move |column| (row, column)))
                    .collect(),
            );
        }
    }
    groups
}

/// Weights that a group of `n` loses when nothing ties.
fn quota(n: usize, pattern: Pattern) -> usize {
    match pattern {
        Pattern::Unstructured { sparsity } => (n as f64 * sparsity).trunc() as usize,
        Pattern::Structured { keep, of } => of - keep,
    }
}

/// Fails unless the two masks differ at most within near ties: inside one group, places whose scores
/// agree within the factor `1 + tolerance`.
fn assert_same_up_to_ties(case: &str, scores: &Array2<f64>, target: &Target, tolerance: f64, got: &Mask, want: &Mask) {
    for group in comparison_groups(scores.dim(), target) {
        let differing = group
            .iter()
            .filter(|place| got.entries()[**place] != want.entries()[**place]);
        let differing: Vec<f64> = differing.map(|place| scores[*place]).collect();
        let lowest = differing.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = differing.iter().copied().fold(0.0, f64::max);
        assert!(
            differing.is_empty() || highest <= lowest * (1.0 + tolerance),
            "{case}: in the group from {:?} the masks differ at scores from {lowest:e} to {highest:e}",
            group[0]
        );
    }
}

fn any_sparsity() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.5), Just(0.7), 0.001..0.999]
}

/// A target of any kind for a layer of `8 * eighths` columns.
fn any_target() -> impl Strategy<Value = Target> {
    let pattern = prop_oneof![
        any_sparsity().prop_map(|sparsity| Pattern::Unstructured { sparsity }),
        one_of(&STRUCTURED).prop_map(|(keep, of)| Pattern::Structured { keep, of }),
    ];
    (pattern, one_of(&GROUPS), one_of(&SELECTIONS)).prop_map(|(pattern, group, selection)| Target {
        pattern,
        group,
        selection,
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn every_group_loses_exactly_its_quota_and_the_reference_rule_one_more_and_the_ties(
        rows in 1usize..24, columns in 1usize..300, sparsity in any_sparsity(), group in one_of(&GROUPS),
        ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, columns).mapv(f32::abs);
        for selection in SELECTIONS {
            let target = unstructured(sparsity, group, selection);
            let mask = select(scores.view(), &target).expect("any width fits");
            mask.check(&target).expect("the mask is what was asked for");
            for places in comparison_groups(scores.dim(), &target) {
                let removed = places.iter().filter(|place| mask.entries()[**place]).count();
                let quota = quota(places.len(), target.pattern);
                if selection == Selection::Exact || group == Group::Row {
                    assert_eq!(removed, quota, "{selection:?}, {group} from {:?}", places[0]);
                } else {
                    let mut sorted: Vec<f32> = places.iter().map(|place| scores[*place]).collect();
                    sorted.sort_by(f32::total_cmp);
                    let threshold = sorted[quota];
                    let ties = sorted.iter().filter(|score| **score == threshold).count();
                    assert!(
                        (quota + 1..=quota + ties).contains(&removed),
                        "reference, {group} from {:?}: {removed} removed, quota {quota}, {ties} ties",
                        places[0]
                    );
                    let above = sorted.iter().filter(|score| **score > threshold).count();
                    assert_eq!(removed, places.len() - above, "reference, {group}: all ties go");
                }
            }
        }
    }

    #[test]
    fn every_n_to_m_group_keeps_exactly_n_whatever_the_ties(
        rows in 1usize..12, eighths in 1usize..40, group in one_of(&GROUPS), ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        for (keep, of) in STRUCTURED {
            for selection in SELECTIONS {
                let target = Target { group, selection, ..structured(keep, of) };
                let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
                mask.check(&target).expect("the mask is what was asked for");
                for places in comparison_groups(scores.dim(), &target) {
                    let kept = places.iter().filter(|place| !mask.entries()[**place]).count();
                    assert_eq!(kept, keep, "{keep}:{of}, {group}, {selection:?}, group from {:?}", places[0]);
                }
            }
        }
        let narrow = scores.slice(s![.., 1..]);
        assert!(select(narrow, &structured(2, 4)).is_err(), "2:4 of {} columns", narrow.ncols());
    }

    #[test]
    fn no_kept_score_is_lower_than_a_removed_one_of_its_group(
        rows in 1usize..16, eighths in 1usize..40, target in any_target(), ties in one_of(&TIES), seed: u64,
    ) {
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        for places in comparison_groups(scores.dim(), &target) {
            let entries = mask.entries();
            let of = |gone: bool| {
                let places = places.iter().filter(move |place| entries[**place] == gone);
                places.map(|place| scores[*place])
            };
            let removed = of(true).fold(0.0f32, f32::max);
            let kept = of(false).fold(f32::INFINITY, f32::min);
            assert!(removed <= kept, "{target:?}: {removed} goes and {kept} stays in the group from {:?}", places[0]);
        }
    }

    #[test]
    fn among_equal_scores_the_lower_column_goes_first_and_then_the_lower_row(
        rows in 1usize..16, eighths in 1usize..40, target in any_target(), ties in one_of(&TIES), seed: u64,
    ) {
        let target = Target { selection: Selection::Exact, ..target };
        let scores = tied(&mut seeded(seed), ties, rows, 8 * eighths).mapv(f32::abs);
        let mut want = Array2::from_elem(scores.dim(), false);
        for mut places in comparison_groups(scores.dim(), &target) {
            places.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.1.cmp(&b.1)).then(a.0.cmp(&b.0)));
            for place in &places[..quota(places.len(), target.pattern)] {
                want[*place] = true;
            }
        }
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        assert_eq!(mask.entries(), want, "{target:?}");
    }

    #[test]
    fn with_distinct_scores_a_lower_sparsity_removes_a_subset(
        rows in 1usize..16, eighths in 1usize..40, first in any_sparsity(), second in any_sparsity(),
        group in one_of(&GROUPS), selection in one_of(&SELECTIONS), seed: u64,
    ) {
        let scores = distinct(&mut seeded(seed), rows, 8 * eighths);
        let chosen = |target: Target| select(scores.view(), &target).expect("a multiple of 8 fits");
        let subset = |few: &Mask, many: &Mask| few.entries().iter().zip(many.entries()).all(|(few, many)| !few || *many);
        let (low, high) = (first.min(second), first.max(second));
        let few = chosen(unstructured(low, group, selection));
        let many = chosen(unstructured(high, group, selection));
        assert!(subset(&few, &many), "{low} and {high}, {group}, {selection:?}");
        let [most, half, least] = [1, 2, 3].map(|keep| chosen(structured(keep, 4)));
        assert!(subset(&least, &half) && subset(&half, &most), "3:4, 2:4, 1:4");
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_mask_of_exact_counts_is_refused_after_any_single_flip(
        rows in 1usize..6, eighths in 1usize..20, target in any_target(), seed: u64,
    ) {
        // Under the reference rule counts of these groups are bounded from below only: `check` has no
        // scores, so it cannot tell a tie from a surplus.
        let bounded = matches!(target.pattern, Pattern::Unstructured { .. }) && target.group != Group::Row;
        let lower_bound = bounded && target.selection == Selection::Reference;
        let scores = distinct(&mut seeded(seed), rows, 8 * eighths);
        let mask = select(scores.view(), &target).expect("a multiple of 8 fits");
        for (place, removed) in mask.entries().indexed_iter() {
            let mut flipped = mask.clone();
            flipped.entries_mut()[place] = !removed;
            let accepted = flipped.check(&target).is_ok();
            assert_eq!(accepted, lower_bound && !removed, "{target:?}: flipped {place:?}, which was {removed}");
        }
    }

    #[test]
    fn pruning_a_pruned_layer_again_changes_nothing(
        rows in 1usize..12, eighths in 1usize..40, target in any_target(), ties in one_of(&TIES), dead in 0usize..6,
        seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = tied(random, ties, rows, 8 * eighths);
        let mut squares = squares(random, 8 * eighths);
        for _ in 0..dead {
            squares[random.random_range(0..8 * eighths)] = 0.0;
        }
        let statistics = from_squares(&squares);
        for name in ["magnitude", "wanda", "ria"] {
            let once = solve("one-shot", criterion(name).as_ref(), &weight, &statistics, &target);
            let twice = solve("one-shot", criterion(name).as_ref(), &once.weight, &statistics, &target);
            assert_eq!(twice.mask, once.mask, "{name}, {target:?}");
            assert_eq!(twice.weight, once.weight, "{name}, {target:?}");
        }
    }

    #[test]
    fn masks_of_wanda_ria_and_z_pruner_do_not_depend_on_the_scale_of_the_statistics(
        rows in 2usize..24, columns in 2usize..150, sparsity in any_sparsity(), constant in 1e-3f64..1e3,
        power in -4i32..5, seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let squares = squares(random, columns);
        for name in ["wanda", "ria", "z-pruner"] {
            let target = unstructured(sparsity, criterion(name).group(), Selection::Exact);
            let chosen = |factor: f64| {
                let scaled: Vec<f64> = squares.iter().map(|sum| factor * sum).collect();
                select(score(name, &weight, &from_squares(&scaled)).view(), &target).expect("any width fits")
            };
            let want = chosen(1.0);
            let case = format!("{name}, statistics times {constant}");
            let scores = score(name, &weight, &from_squares(&squares)).mapv(f64::from);
            assert_same_up_to_ties(&case, &scores, &target, ROUNDING, &chosen(constant), &want);
            // Fourth roots of powers of 16 are powers of 2, so that nothing is rounded differently.
            assert_eq!(chosen(16f64.powi(power)), want, "{name}, statistics times 16^{power}");
        }
    }

    #[test]
    fn scaling_an_output_leaves_wandas_row_masks_unchanged(
        rows in 1usize..12, eighths in 1usize..20, row in any::<proptest::sample::Index>(), factor in 1e-3f32..1e3,
        sparsity in any_sparsity(), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let statistics = from_squares(&squares(random, 8 * eighths));
        let row = row.index(rows);
        let scaled = |factor: f32| {
            let mut scaled = weight.clone();
            scaled.row_mut(row).mapv_inplace(|weight| factor * weight);
            score("wanda", &scaled, &statistics)
        };
        let scores = scaled(1.0);
        for target in [unstructured(sparsity, Group::Row, Selection::Exact), structured(2, 4)] {
            let chosen = |scores: Array2<f32>| select(scores.view(), &target).expect("a multiple of 8 fits");
            let want = chosen(scores.clone());
            let case = format!("row {row} times {factor}, {}", target.pattern);
            let wide = scores.mapv(f64::from);
            assert_same_up_to_ties(&case, &wide, &target, ROUNDING, &chosen(scaled(factor)), &want);
            assert_eq!(chosen(scaled(1024.0)), want, "row {row} times 1024, which rounds nothing");
        }
    }

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

    #[test]
    fn z_pruner_scores_stay_usable_when_a_row_or_a_column_is_all_zero(
        rows in 24usize..48, columns in 24usize..64, zero_row: bool, place in any::<proptest::sample::Index>(), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let mut weight = normal(random, rows, columns);
        let squares: Vec<f64> = (0..columns).map(|_| random.random_range(0.5..2.0)).collect();
        let axis = Axis(if zero_row { 0 } else { 1 });
        let index = place.index(weight.len_of(axis));
        weight.index_axis_mut(axis, index).fill(0.0);
        let case = format!("axis {}, index {index}", axis.0);

        // Scoring refuses a score that is not finite. Zero weights keep the z-score of 0, which is small
        // but not 0, so "first" means: before every weight of a common size.
        let scores = score("z-pruner", &weight, &from_squares(&squares));
        let target = unstructured(0.5, Group::Matrix, Selection::Exact);
        let mask = select(scores.view(), &target).expect("any width fits");
        assert!(mask.entries().index_axis(axis, index).iter().all(|removed| *removed), "{case}: zero weights stay");
        let elsewhere = mask.removed() - mask.entries().index_axis(axis, index).len();
        assert_eq!(mask.removed(), rows * columns / 2, "{case}");
        assert!(elsewhere > 0, "{case}: no other weight is pruned");
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
    fn permuting_the_outputs_permutes_the_result_of_row_groups(
        rows in 2usize..90, eighths in 1usize..24, sparsity in any_sparsity(), seed: u64,
    ) {
        let random = &mut seeded(seed);
        let weight = normal(random, rows, 8 * eighths);
        let x = activations(random, 200, 8 * eighths);
        let statistics = from_gram(&x.t().dot(&x));
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(random);
        let row = unstructured(sparsity, Group::Row, Selection::Exact);
        for (solver, name, target) in [
            ("one-shot", "magnitude", row),
            ("one-shot", "wanda", row),
            ("one-shot", "wanda", structured(2, 4)),
            ("obs", "wanda", row),
            ("obs", "magnitude", structured(4, 8)),
        ] {
            let want = solve(solver, criterion(name).as_ref(), &weight, &statistics, &target);
            let permuted = weight.select(Axis(0), &order);
            let got = solve(solver, criterion(name).as_ref(), &permuted, &statistics, &target);
            let case = format!("{name}, {solver}, {}", target.pattern);
            assert_eq!(got.mask.entries(), want.mask.entries().select(Axis(0), &order), "{case}");
            // A matrix product may sum a row in another order when the row is elsewhere.
            let error = (got.weight - want.weight.select(Axis(0), &order)).mapv(f32::abs);
            let (worst, largest) = (greatest(&error), greatest(&want.weight));
            assert!(worst <= 1e-5 * largest, "{case}: {worst:e} of {largest}");
        }
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
    fn weights_of_dead_inputs_go_first_in_every_calibrated_criterion_and_are_zero_after_the_obs_solver(
        rows in 1usize..12, eighths in 2usize..24, share in 0.0f64..0.4, seed: u64,
    ) {
        let columns = 8 * eighths;
        let random = &mut seeded(seed);
        let weight = normal(random, rows, columns);
        let mut x = activations(random, 200, columns);
        let mut features: Vec<usize> = (0..columns).collect();
        features.shuffle(random);
        let dead = &features[..1 + quota(columns - 1, Pattern::Unstructured { sparsity: share })];
        for feature in dead {
            x.column_mut(*feature).fill(0.0);
        }
        let statistics = from_gram(&x.t().dot(&x));

        // As few as the dead weights themselves, and as many as half of the row.
        for sparsity in [(dead.len() as f64 + 0.5) / columns as f64, 0.5] {
            let target = unstructured(sparsity, Group::Row, Selection::Exact);
            for name in ["wanda", "ria", "z-pruner", "obs"] {
                let mask = solve("one-shot", criterion(name).as_ref(), &weight, &statistics, &target).mask;
                for feature in dead {
                    let removed = mask.entries().column(*feature).iter().all(|removed| *removed);
                    assert!(removed, "{name}, sparsity {sparsity}: a weight of dead feature {feature} stays");
                }
            }
        }
        for (name, target) in [
            ("magnitude", unstructured(0.1, Group::Matrix, Selection::Exact)),
            ("wanda", unstructured(0.5, Group::Row, Selection::Exact)),
            ("wanda", structured(2, 4)),
            ("obs", unstructured(0.1, Group::ColumnBlock, Selection::Reference)),
            ("obs", structured(4, 8)),
        ] {
            let solution = solve("obs", criterion(name).as_ref(), &weight, &statistics, &target);
            for feature in dead {
                let zero = solution.weight.column(*feature).iter().all(|weight| *weight == 0.0);
                assert!(zero, "{name}, {}: a weight of dead feature {feature} is not 0", target.pattern);
            }
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

fn greatest(values: &Array2<f32>) -> f32 {
    values.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()))
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

/// Statistical: the closed form takes the mean of the normalised weights for 0. A mean of `d` standard
/// deviations moves the borders `-t` and `t` of a mask by `d`, hence about `2 phi(t) d < d` of all weights
/// across them; the gate projections of this model have means of up to 0.023.
#[test]
fn z_pruners_closed_form_ranks_real_weights_as_the_literal_form_does_up_to_their_mean() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-llama");
    let spec = read_spec(&folder).expect("the model is in the repository");
    let checkpoint = Checkpoint::open(&folder, spec).expect("the model is in the repository");
    let random = &mut seeded(1);
    let mut compared = 0;
    for block in 0..checkpoint.spec().blocks {
        for linear in checkpoint.block(block).expect("the model is whole").linears {
            if !["q_proj", "gate_proj", "down_proj"]
                .iter()
                .any(|name| linear.name.contains(name))
            {
                continue;
            }
            let squares = squares(random, linear.weight.ncols());
            let literal = score("z-pruner", &linear.weight, &from_squares(&squares));
            let closed = closed_form(&linear.weight, &squares);
            let mean = [0, 1].map(|axis| normalised_mean(&linear.weight, Axis(axis)).abs());
            let mean = mean[0].max(mean[1]);
            for sparsity in [0.3, 0.5, 0.7] {
                let target = unstructured(sparsity, Group::Matrix, Selection::Exact);
                let [a, b] = [&literal, &closed].map(|scores| select(scores.view(), &target).expect("any width fits"));
                let differing = a.entries().iter().zip(b.entries()).filter(|(a, b)| a != b).count();
                let share = differing as f64 / literal.len() as f64;
                println!("{}, {sparsity}: {share:.5} differ, mean {mean:.5}", linear.name);
                let case = format!("{}, sparsity {sparsity}, mean {mean:.5}", linear.name);
                assert!(share < mean, "{case}: {share} of the places differ");
                assert!(
                    share < 0.005 || linear.name.contains("gate_proj"),
                    "{case}: {share} of the places differ"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 5 * 3 * 3);
}

/// Mean, in standard deviations, of the weights after division by their norms along `axis`.
fn normalised_mean(weight: &Array2<f32>, axis: Axis) -> f64 {
    let weight = weight.mapv(f64::from);
    let norms = weight.mapv(|weight| weight * weight).sum_axis(axis).mapv(f64::sqrt);
    let normalised = &weight / &norms.insert_axis(axis);
    normalised.mean().expect("not empty") / normalised.std(1.0)
}

/// `(alpha r^3 + (1 - alpha) c^3)^(1/3) a^0.5` with magnitudes `r` and `c` relative to the root mean
/// square of their row and column, and input norms `a`.
fn closed_form(weight: &Array2<f32>, squares: &[f64]) -> Array2<f32> {
    let magnitude = weight.mapv(|weight| f64::from(weight.abs()));
    let power = magnitude.mapv(|magnitude| magnitude * magnitude);
    let mean = |axis| power.mean_axis(Axis(axis)).expect("not empty").mapv(f64::sqrt);
    let (columns, rows) = (mean(0), mean(1));
    let bound = 0.1 * magnitude.mean().expect("not empty");
    let small = magnitude.iter().filter(|magnitude| **magnitude < bound).count() as f64 / magnitude.len() as f64;
    let alpha = 0.7 * (1.0 - 0.3 * small);
    Array2::from_shape_fn(weight.dim(), |(row, column)| {
        let (r, c) = (
            magnitude[[row, column]] / rows[row],
            magnitude[[row, column]] / columns[column],
        );
        let relative = (alpha * r.powi(3) + (1.0 - alpha) * c.powi(3)).cbrt();
        (relative * squares[column].powf(0.25)) as f32
    })
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
        let error = workbench::solve(&layer, solver.as_ref(), criterion(name).as_ref(), &structured(2, 4))
            .expect_err("indefinite");
        // Pivots are visited from the last feature to the first, and 2 is the second of the coupled pair.
        let want = "the Hessian is not positive definite (pivot 2), even with damping 1";
        assert_eq!(error.to_string(), want, "{name}");
    }
}
