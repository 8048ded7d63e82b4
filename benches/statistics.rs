//! What a report computes: `cargo bench --bench statistics`.

use divan::Bencher;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::stats::bootstrap::{Bootstrap, RESAMPLES, SEED, Units, block_length};
use zprune::stats::signs::sign_flip;

fn main() {
    divan::main();
}

fn values(n: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5)
        .collect()
}

/// 20 comparisons x 10,000 resamples x 150 windows: all the intervals of a table.
#[divan::bench(args = [1, 5])]
fn twenty_bootstraps_of_150_windows(bencher: Bencher, block: usize) {
    let comparisons: Vec<Units> = (0..20).map(|seed| Units::single(&values(150, seed))).collect();
    assert_eq!(block_length(150), 5);
    bencher.bench(|| {
        comparisons
            .iter()
            .map(|units| {
                let bootstrap = Bootstrap::new(units, block, RESAMPLES, SEED).expect("windows");
                bootstrap.interval(0.95)
            })
            .collect::<Vec<_>>()
    });
}

/// A task of HellaSwag's size, every document on its own.
#[divan::bench]
fn bootstrap_of_10042_documents(bencher: Bencher) {
    let units = Units::single(&values(10_042, 1));
    bencher.bench(|| Bootstrap::new(&units, 1, RESAMPLES, SEED));
}

/// The exact test of the same with five seeds, methods disagreeing on a fifth of the documents.
#[divan::bench]
fn sign_flips_of_10042_documents(bencher: Bencher) {
    let differences: Vec<i64> = values(10_042, 2)
        .into_iter()
        .map(|it| if it.abs() < 0.1 { (50.0 * it) as i64 } else { 0 })
        .collect();
    bencher.bench(|| sign_flip(&differences));
}
