//! Claims about intervals and tests that only repetition can show: what is called 95 % holds in 94 to 96 of 100
//! simulated experiments where it should, and by how much it fails where it does not.
//!
//! `cargo test --release --test coverage -- --nocapture` prints the tables; `--include-ignored` adds the
//! bootstrap with all of its resamples.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use zprune::stats::Interval;
use zprune::stats::bootstrap::{Bootstrap, RESAMPLES, Units, block_length};
use zprune::stats::multiplicity::holm;
use zprune::stats::normal_quantile;
use zprune::stats::paired::{TextMean, Texts};
use zprune::stats::proportion::Accuracy;
use zprune::stats::signs::sign_flip;
use zprune::stats::variance::VarianceComponents;

/// Simulated experiments per case; a coverage of 95 % is then known to ± 0.4 points.
const EXPERIMENTS: u64 = 10_000;

/// Percent of simulated experiments in which something holds.
fn percent(holds: impl Fn(&mut Draw) -> bool + Sync) -> f64 {
    let count: usize = (0..EXPERIMENTS)
        .into_par_iter()
        .map(|experiment| {
            let mut random = ChaCha8Rng::seed_from_u64(77);
            random.set_stream(experiment);
            usize::from(holds(&mut Draw(random)))
        })
        .sum();
    100.0 * count as f64 / EXPERIMENTS as f64
}

/// Random numbers of one experiment.
struct Draw(ChaCha8Rng);

impl Draw {
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        normal_quantile(self.uniform().max(1e-16))
    }

    /// `n` values of mean 0 and variance 1, neighbours correlated by `correlation`.
    fn windows(&mut self, n: usize, correlation: f64) -> Vec<f64> {
        let fresh = (1.0 - correlation * correlation).sqrt();
        let mut value = self.normal();
        (0..n)
            .map(|_| {
                let next = correlation * value + fresh * self.normal();
                std::mem::replace(&mut value, next)
            })
            .collect()
    }

    /// `n` values of mean 0 with a long right tail.
    fn skewed(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| -self.uniform().max(1e-16).ln() - 1.0).collect()
    }
}

fn covers(interval: Option<Interval>, truth: f64) -> bool {
    interval.is_some_and(|interval| interval.contains(truth))
}

fn bootstrap(values: &[f64], resamples: usize) -> Option<Interval> {
    let bootstrap = Bootstrap::new(&Units::single(values), block_length(values.len()), resamples, 1)?;
    bootstrap.interval(0.95)
}

/// A simulated sample of windows.
struct Case {
    what: &'static str,
    draw: fn(&mut Draw) -> Vec<f64>,
    /// What blocks and the bootstrap must cover.
    expected: (f64, f64),
}

const RIGHT: (f64, f64) = (94.0, 96.0);

/// Windows as sweeps have them (40 in the quickstart, 148 of WikiText-2 for SmolLM2), and worse.
const WINDOWS: [Case; 8] = [
    Case {
        what: "148 independent windows",
        draw: |it| it.windows(148, 0.0),
        expected: RIGHT,
    },
    Case {
        what: "40 independent windows",
        draw: |it| it.windows(40, 0.0),
        expected: RIGHT,
    },
    Case {
        what: "148 windows, long right tail",
        draw: |it| it.skewed(148),
        expected: RIGHT,
    },
    Case {
        what: "40 windows, long right tail",
        draw: |it| it.skewed(40),
        expected: RIGHT,
    },
    Case {
        what: "148 windows, neighbours correlated by 0.2",
        draw: |it| it.windows(148, 0.2),
        expected: (92.6, 94.2),
    },
    Case {
        what: "40 windows, neighbours correlated by 0.2",
        draw: |it| it.windows(40, 0.2),
        expected: (91.9, 93.5),
    },
    Case {
        what: "148 windows, neighbours correlated by 0.5",
        draw: |it| it.windows(148, 0.5),
        expected: (89.7, 91.3),
    },
    Case {
        what: "12 independent windows",
        draw: |it| it.windows(12, 0.0),
        expected: RIGHT,
    },
];

fn window_coverage(resamples: usize) {
    let mut wrong = Vec::new();
    println!("coverage of 95 % intervals, {EXPERIMENTS} experiments, {resamples} resamples");
    println!("{:<44} {:>7} {:>7} {:>7}", "", "t", "block t", "BCa");
    for case in &WINDOWS {
        let of = |interval: &(dyn Fn(&[f64]) -> Option<Interval> + Sync)| {
            percent(|draw| covers(interval(&(case.draw)(draw)), 0.0))
        };
        let t = of(&|values| TextMean::of(values, Texts::Stream)?.t_interval(0.95));
        let block = of(&|values| TextMean::of(values, Texts::Stream)?.robust_interval(0.95));
        let bca = of(&|values| bootstrap(values, resamples));
        println!("{:<44} {t:>7.1} {block:>7.1} {bca:>7.1}", case.what);
        let within = |value: f64| (case.expected.0..=case.expected.1).contains(&value);
        if !within(bca) {
            wrong.push(format!("{}: BCa covers {bca:.1} %, not {:?}", case.what, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bootstrap_intervals_cover_what_they_promise_where_windows_are_nearly_independent() {
    window_coverage(500);
}

#[test]
#[ignore = "10,000 experiments with 10,000 resamples each: minutes"]
fn all_resamples_cover_as_a_few_do() {
    window_coverage(RESAMPLES);
}

#[test]
fn intervals_of_seeds_and_windows_together_cover_what_they_promise() {
    // (seeds, windows, sd of seeds, of windows, of the rest, lowest and highest coverage)
    let cases = [
        (5, 148, 0.05, 1.0, 0.3, (94.0, 96.5)),
        (5, 40, 0.2, 1.0, 0.3, (94.0, 97.5)),
        (3, 148, 0.3, 1.0, 0.3, (94.0, 97.5)),
        (5, 148, 0.5, 1.0, 0.3, RIGHT),
        (1, 148, 0.0, 1.0, 0.3, RIGHT),
    ];
    let mut wrong = Vec::new();
    println!("coverage of 95 % intervals over seeds and windows, {EXPERIMENTS} experiments; of windows alone");
    for (seeds, windows, of_seed, of_window, of_rest, (low, high)) in cases {
        let rows = |draw: &mut Draw| -> Vec<Vec<f64>> {
            let columns: Vec<f64> = (0..windows).map(|_| of_window * draw.normal()).collect();
            (0..seeds)
                .map(|_| {
                    let seed = of_seed * draw.normal();
                    columns
                        .iter()
                        .map(|column| seed + column + of_rest * draw.normal())
                        .collect()
                })
                .collect()
        };
        let both = percent(|draw| {
            covers(
                VarianceComponents::of(&rows(draw), Texts::Stream).and_then(|it| it.interval(0.95)),
                0.0,
            )
        });
        let alone = percent(|draw| {
            covers(
                VarianceComponents::of(&rows(draw), Texts::Stream).and_then(|it| it.texts.robust_interval(0.95)),
                0.0,
            )
        });
        println!("{seeds} seeds (sd {of_seed}) x {windows} windows (sd {of_window}): {both:.1}; {alone:.1}");
        if !(low..=high).contains(&both) {
            wrong.push(format!(
                "{seeds} seeds, sd {of_seed}: covers {both:.1} %, not {low} to {high}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn intervals_of_accuracies_cover_what_they_promise() {
    // (documents, documents per source, accuracy, lowest and highest coverage); exact intervals cover more.
    let cases = [
        (3270, 1, 0.75, RIGHT),
        (1267, 1, 0.68, RIGHT),
        (71, 1, 0.42, (95.0, 98.5)),
        (71, 1, 0.9, (95.0, 99.0)),
        (2000, 4, 0.7, RIGHT),
    ];
    let mut wrong = Vec::new();
    println!("coverage of 95 % intervals of accuracies, {EXPERIMENTS} experiments");
    for (documents, per_source, accuracy, (low, high)) in cases {
        let sources: Vec<u32> = (0..documents as u32).map(|index| index / per_source).collect();
        let coverage = percent(|draw| {
            // Documents of one source share half of their luck.
            let mut source = false;
            let values: Vec<f64> = (0..documents)
                .map(|index| {
                    if index % per_source as usize == 0 {
                        source = draw.uniform() < accuracy;
                    }
                    let own = draw.uniform() < accuracy;
                    let shared = per_source > 1 && draw.uniform() < 0.5;
                    f64::from(u8::from(if shared { source } else { own }))
                })
                .collect();
            let sources = (per_source > 1).then_some(&sources[..]);
            covers(Accuracy::of(&values, sources, 0.95).map(|it| it.interval), accuracy)
        });
        println!("{documents} documents, {per_source} per source, accuracy {accuracy}: {coverage:.1}");
        if !(low..=high).contains(&coverage) {
            wrong.push(format!(
                "{documents} documents: covers {coverage:.1} %, not {low} to {high}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exact_tests_find_nothing_more_often_than_they_may() {
    // 71 documents, three seeds of each method, right with the same probability: nothing to find. An exact test of
    // few documents stays below its level, since only some p-values can occur.
    let found = percent(|draw| {
        let differences: Vec<i64> = (0..71)
            .map(|_| {
                let hard = draw.uniform();
                let mut right = || (0..3).map(|_| i64::from(draw.uniform() < hard)).sum::<i64>();
                right() - right()
            })
            .collect();
        sign_flip(&differences) <= 0.05
    });
    println!("sign flips at 5 % find a difference where there is none in {found:.1} % of {EXPERIMENTS} experiments");
    assert!((2.0..=5.4).contains(&found), "{found}");
}

#[test]
fn a_minimum_detectable_difference_is_detected_four_times_in_five() {
    use zprune::stats::power::{POWER, minimum_detectable};
    let (n, sd) = (60, 0.05);
    let difference =
        minimum_detectable(sd / f64::sqrt(f64::from(n)), f64::from(n) - 1.0, 0.05, POWER).expect("detectable");
    let found = percent(|draw| {
        let windows: Vec<f64> = draw
            .windows(n as usize, 0.0)
            .iter()
            .map(|it| difference + sd * it)
            .collect();
        TextMean::of(&windows, Texts::Stream)
            .and_then(|mean| mean.t_p())
            .is_some_and(|p| p <= 0.05)
    });
    assert!((79.0..=81.0).contains(&found), "{found}");
}

/// The differences of two methods in the study's records, taken apart: what windows add, what is left of each seed, and how much
/// seeds differ.
struct Taken {
    windows: Vec<f64>,
    rest: Vec<Vec<f64>>,
    /// Standard deviation of what a seed adds to all windows.
    seeds: f64,
}

impl Taken {
    /// From three seeds of question i of the study, in half precision.
    fn of(ours: &str, other: &str, sparsity: f64) -> Taken {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("results/study/arithmetic_f16");
        let records = zprune::record::read(&folder).expect("the study's records");
        let windows = |method: &str| -> Vec<Vec<f64>> {
            let own = records.iter().filter(|it| it.label.method == method);
            let own = own.filter(|it| {
                it.cell
                    .pruning
                    .as_ref()
                    .is_some_and(|it| it.pattern().sparsity() == sparsity)
            });
            let mut own: Vec<_> = own.collect();
            own.sort_by_key(|it| it.cell.pruning.as_ref()?.calibration.as_ref().map(|it| it.seed));
            own.iter().map(|it| it.evaluations[0].windows.clone()).collect()
        };
        let (ours, other) = (windows(ours), windows(other));
        assert_eq!((ours.len(), other.len()), (3, 3));
        let pairs = ours.iter().zip(&other);
        let rows = pairs.map(|(one, two)| one.iter().zip(two).map(|(one, two)| one - two).collect());
        let rows: Vec<Vec<f64>> = rows.collect();
        let found = VarianceComponents::of(&rows, Texts::Stream).expect("three seeds");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let of_seed: Vec<f64> = rows.iter().map(|row| mean(row)).collect();
        let windows: Vec<f64> = (0..rows[0].len())
            .map(|window| mean(&rows.iter().map(|row| row[window]).collect::<Vec<_>>()) - found.mean)
            .collect();
        let rest = rows.iter().zip(&of_seed).map(|(row, seed)| {
            let values = row.iter().zip(&windows);
            values.map(|(value, window)| value - seed - window).collect()
        });
        Taken {
            rest: rest.collect(),
            windows,
            seeds: found.seed_component.expect("three seeds").sqrt(),
        }
    }

    /// An experiment of three seeds in which methods do not differ: runs of windows from the records, which keep what neighbours have in
    /// common; seeds of the records' spread; and what is left of a seed of the records, in runs of its own.
    fn drawn(&self, draw: &mut Draw) -> Vec<Vec<f64>> {
        let windows = draw.runs(&self.windows);
        let rows = (0..3).map(|_| {
            let seed = self.seeds * draw.normal();
            let place = (draw.uniform() * self.rest.len() as f64) as usize;
            let rest = draw.runs(&self.rest[place]);
            windows
                .iter()
                .zip(rest)
                .map(|(window, rest)| seed + window + rest)
                .collect()
        });
        rows.collect()
    }
}

impl Draw {
    /// As many values, in runs of twelve neighbours that begin anywhere; the first follows the last.
    fn runs(&mut self, values: &[f64]) -> Vec<f64> {
        const RUN: usize = 12;
        let mut drawn = Vec::with_capacity(values.len() + RUN);
        while drawn.len() < values.len() {
            let start = (self.uniform() * values.len() as f64) as usize;
            drawn.extend((start..start + RUN).map(|place| values[place % values.len()]));
        }
        drawn.truncate(values.len());
        drawn
    }
}

/// Differences of the study: two methods and a sparsity.
const DIFFERENCES: [(&str, &str, f64); 7] = [
    ("wanda", "sparsegpt", 0.5),
    ("wanda", "wanda+least-squares", 0.5),
    ("ria", "wanda", 0.5),
    ("wanda", "wanda+least-squares", 0.6),
    ("ria", "wanda", 0.6),
    ("sparsegpt", "wanda+least-squares", 0.6),
    ("wanda", "sparsegpt", 0.7),
];

#[test]
fn intervals_under_the_studys_own_design_cover_what_they_promise() {
    // Three seeds, 148 windows of WikiText-2, as correlated and as skewed as the study's differences are.
    let mut wrong = Vec::new();
    println!("the study's design: coverage of 95 % intervals, and differences found at 5 % where there is none");
    for (ours, other, sparsity) in DIFFERENCES {
        let taken = Taken::of(ours, other, sparsity);
        let of = |draw: &mut Draw| VarianceComponents::of(&taken.drawn(draw), Texts::Stream);
        let covered = percent(|draw| covers(of(draw).and_then(|it| it.interval(0.95)), 0.0));
        let found = percent(|draw| of(draw).and_then(|it| it.p()).is_some_and(|p| p <= 0.05));
        println!("{ours} against {other} at {sparsity}: {covered:.1}; {found:.1}");
        if !(93.5..=96.5).contains(&covered) || found > 6.5 {
            wrong.push(format!(
                "{ours} against {other} at {sparsity}: covers {covered:.1} %, finds {found:.1} %"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn families_of_the_studys_size_find_something_where_there_is_nothing_no_more_often_than_they_may() {
    // Comparisons that have nothing in common, for which Holm's correction is the tightest: how small p-values are at the far end counts.
    let taken: Vec<Taken> = DIFFERENCES
        .iter()
        .map(|(ours, other, sparsity)| Taken::of(ours, other, *sparsity))
        .collect();
    for comparisons in [18, 180] {
        let found = percent(|draw| {
            let p = (0..comparisons).map(|place| {
                let found = VarianceComponents::of(&taken[place % taken.len()].drawn(draw), Texts::Stream);
                found.and_then(|it| it.p()).expect("a spread")
            });
            let p: Vec<f64> = p.collect();
            holm(&p).iter().any(|p| *p <= 0.05)
        });
        println!("{comparisons} comparisons without a difference: {found:.1} % of families find one");
        assert!((1.0..=5.4).contains(&found), "{found}");
    }
}
