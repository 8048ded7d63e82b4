//! Claims about statistics, held against scipy and statsmodels (`tools/make_golden_statistics.py`).

use serde_json::Value;
use std::path::Path;
use zprune::experiment::plan::CONFIDENCE;
use zprune::stats::bootstrap::{Bootstrap, RESAMPLES, Units, bca};
use zprune::stats::multiplicity::holm;
use zprune::stats::paired::{TextMean, Texts};
use zprune::stats::power::{minimum_detectable, t_power};
use zprune::stats::proportion::{clopper_pearson, clustered_standard_error, wilson};
use zprune::stats::rank::{kendall, wilcoxon};
use zprune::stats::signs::{mcnemar, sign_flip};
use zprune::stats::variance::VarianceComponents;

fn golden(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/statistics.json");
    let text = std::fs::read_to_string(path).expect("golden values are in the repository");
    let golden: Value = serde_json::from_str(&text).expect("golden values are JSON");
    let cases = golden[name].as_array().expect("a list of cases").clone();
    assert!(cases.len() > 1, "{name} has {} cases", cases.len());
    cases
}

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} is a number"))
}

fn count(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} is a count")) as usize
}

fn list(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("a list");
    values.iter().map(|it| it.as_f64().expect("a number")).collect()
}

/// Holds two numbers together to a relative tolerance.
#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64, what: &str) {
    let off = (ours - theirs).abs();
    assert!(
        off <= tolerance * theirs.abs().max(1e-300),
        "{what}: {ours} is not {theirs}"
    );
}

#[test]
fn the_paired_t_test_equals_scipys() {
    for case in golden("paired") {
        let pairs = list(&case["first"]).into_iter().zip(list(&case["second"]));
        let differences: Vec<f64> = pairs.map(|(first, second)| first - second).collect();
        let mean = TextMean::of(&differences, Texts::Stream).expect("a sample");
        close(mean.mean, number(&case, "mean"), 1e-11, "mean");
        close(
            mean.standard_error,
            number(&case, "standard_error"),
            1e-12,
            "standard error",
        );
        close(mean.t_p().expect("a sample"), number(&case, "p"), 1e-7, "p");
        let interval = mean.t_interval(0.95).expect("a sample");
        close(interval.low, number(&case, "low"), 1e-7, "low");
        close(interval.high, number(&case, "high"), 1e-7, "high");
    }
}

#[test]
fn the_bca_formula_equals_scipys_on_its_own_resamples() {
    for case in golden("bca") {
        let values = list(&case["values"]);
        let mut resampled = list(&case["resampled"]);
        resampled.sort_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        // The jackknife of a mean by hand: leaving out x moves it by (mean - x) / (n - 1).
        let cubes: f64 = values.iter().map(|x| (x - mean).powi(3)).sum();
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let acceleration = cubes / (6.0 * squares.powf(1.5));
        let tail = 0.5 - number(&case, "confidence") / 2.0;
        let interval = bca(&resampled, mean, acceleration, tail).expect("enough resamples");
        close(interval.low, number(&case, "low"), 1e-9, "low");
        close(interval.high, number(&case, "high"), 1e-9, "high");
    }
}

#[test]
fn resampled_intervals_are_scipys_but_for_the_two_corrections() {
    for case in golden("bca") {
        let values = list(&case["values"]);
        let n = values.len() as f64;
        let bootstrap = Bootstrap::new(&Units::single(&values), 1, 20 * RESAMPLES, 1).expect("a sample");
        let ours = bootstrap
            .interval(number(&case, "many_confidence"))
            .expect("enough resamples");
        // Ratio of the widths that the corrections cause where the distribution is normal.
        let wider = (n / (n - 1.0)).sqrt() * student(n - 1.0) / 1.959_964;
        let (low, high) = (number(&case, "many_low"), number(&case, "many_high"));
        let (above, below) = (ours.high - bootstrap.estimate, bootstrap.estimate - ours.low);
        // Skewed samples stretch their long side more; 6 % allows for that and for the draws.
        close(above, wider * (high - bootstrap.estimate), 0.06, "upper half");
        close(below, wider * (bootstrap.estimate - low), 0.06, "lower half");
    }
}

fn student(freedom: f64) -> f64 {
    zprune::stats::student_quantile(0.975, freedom).expect("degrees of freedom")
}

#[test]
fn intervals_of_accuracies_equal_statsmodels() {
    for case in golden("proportions") {
        let (right, n) = (number(&case, "right"), number(&case, "n"));
        for (name, ours) in [
            ("wilson", wilson(right, n, 0.95)),
            ("exact", clopper_pearson(right, n, 0.95)),
        ] {
            let theirs = list(&case[name]);
            assert!(
                (ours.low - theirs[0]).abs() < 1e-9,
                "{name} {right}/{n}: {ours:?} {theirs:?}"
            );
            assert!(
                (ours.high - theirs[1]).abs() < 1e-9,
                "{name} {right}/{n}: {ours:?} {theirs:?}"
            );
        }
    }
}

#[test]
fn exact_mcnemar_equals_statsmodels() {
    for case in golden("mcnemar") {
        let ours = mcnemar(count(&case, "first"), count(&case, "second"));
        close(ours, number(&case, "p"), 1e-10, "p");
    }
}

#[test]
fn flipping_signs_equals_scipys_permutation_test() {
    for case in golden("flips") {
        let differences: Vec<i64> = list(&case["differences"]).into_iter().map(|it| it as i64).collect();
        close(sign_flip(&differences), number(&case, "p"), 1e-12, "p");
    }
}

#[test]
fn wilcoxons_test_equals_scipys_exact_one() {
    for case in golden("wilcoxon") {
        let ours = wilcoxon(&list(&case["differences"])).expect("differences");
        close(ours, number(&case, "p"), 1e-12, "p");
    }
}

#[test]
fn kendalls_tau_equals_scipys() {
    for case in golden("kendall") {
        let tau = kendall(&list(&case["first"]), &list(&case["second"])).expect("an order");
        close(tau, number(&case, "tau"), 1e-12, "tau");
    }
}

#[test]
fn holms_correction_equals_statsmodels() {
    for case in golden("holm") {
        for (ours, theirs) in holm(&list(&case["raw"])).iter().zip(list(&case["adjusted"])) {
            close(*ours, theirs, 1e-12, "adjusted p");
        }
    }
}

#[test]
fn clustered_standard_errors_equal_statsmodels() {
    for case in golden("clustered") {
        let sources: Vec<u32> = list(&case["sources"]).into_iter().map(|it| it as u32).collect();
        let ours = clustered_standard_error(&list(&case["values"]), &sources);
        close(ours, number(&case, "standard_error"), 1e-10, "standard error");
    }
}

#[test]
fn power_and_detectable_differences_equal_statsmodels() {
    for case in golden("power") {
        let n = number(&case, "n");
        let alpha = number(&case, "alpha");
        let ours = t_power(number(&case, "effect") * n.sqrt(), n - 1.0, alpha);
        close(ours, number(&case, "power"), 1e-5, "power");
        let detectable = minimum_detectable(1.0 / n.sqrt(), n - 1.0, alpha, 0.8).expect("detectable");
        close(detectable, number(&case, "detectable"), 1e-4, "detectable difference");
    }
}

#[test]
fn variance_components_follow_from_statsmodels_mean_squares() {
    for case in golden("components") {
        let rows: Vec<Vec<f64>> = case["rows"].as_array().expect("rows").iter().map(list).collect();
        let (seeds, windows) = (rows.len() as f64, rows[0].len() as f64);
        let components = VarianceComponents::of(&rows, Texts::Stream).expect("a grid");
        let rest = number(&case, "rest_square");
        close(components.rest_component.expect("seeds"), rest, 1e-9, "rest");
        let seed = (number(&case, "seed_square") - rest) / windows;
        close(components.seed_component.expect("seeds"), seed.max(0.0), 1e-9, "seeds");
        let window = (number(&case, "window_square") - rest) / seeds;
        close(components.text_component, window.max(0.0), 1e-9, "windows");
    }
}

#[test]
fn the_widest_intervals_still_rest_on_several_resampled_means() {
    let beyond = RESAMPLES as f64 * (1.0 - CONFIDENCE.end()) / 2.0;
    assert!(beyond > 4.9, "only {beyond} of {RESAMPLES} means are beyond an end");
}

#[test]
fn a_handful_of_windows_has_a_whole_resampled_interval_or_none() {
    let blocks = |n: usize| Texts::Stream.block(n);
    let resampled = |values: &[f64]| {
        let bootstrap = Bootstrap::new(&Units::single(values), blocks(values.len()), RESAMPLES, 3);
        bootstrap.expect("two blocks").interval(0.95)
    };
    let mut whole = 0;
    for n in 2..=12 {
        for shape in 0..3 {
            let value = |index: usize| match shape {
                0 => index as f64,
                // One window unlike all others, to either side.
                1 => f64::from(u8::from(index == 1)) + 1e-3 * index as f64,
                _ => -f64::from(u8::from(index == 1)) - 1e-3 * index as f64,
            };
            let values: Vec<f64> = (0..n).map(value).collect();
            let mean = values.iter().sum::<f64>() / n as f64;
            let Some(found) = resampled(&values) else { continue };
            whole += 1;
            assert!(
                found.low < mean && mean < found.high,
                "{n} {shape}: {found:?} around {mean}"
            );
            // Two or three blocks are drawn in so few ways that the end would be the most extreme of them.
            assert!(n as f64 / blocks(n) as f64 > 3.0, "{n} {shape}: too few blocks");
        }
    }
    assert!(whole > 5, "only {whole}");
    // Four windows are two blocks. Their upper end was the median: the tail of one degree of freedom was lost to rounding.
    for values in [
        &[1.0, 2.0][..],
        &[1.0, 2.0, 4.0],
        &[0.1, 0.2, 0.9, 0.3],
        &[1.0, 0.0, 2.0, 1.5, 1.2, 0.4],
    ] {
        assert_eq!(resampled(values), None, "{values:?}");
    }
}
