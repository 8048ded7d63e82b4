//! Criteria and the formulas of them that a user writes, in turns: `cargo bench --bench formulas`, or `-- --gpu` for the GPU too (the best
//! adapter, programs included).
//!
//! Each line has the median times of scoring, selecting and removing half of a layer, the median of how much slower the formula was than the
//! criterion of the same round, with the quartiles, and the same of the criterion against itself, which is the noise.

use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;
use zprune::backend::Compute;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::Gpu;
use zprune::backend::gpu::adapter::Choice;
use zprune::backend::moments::Needs;
use zprune::linalg::Provider;
use zprune::prune::criterion::{CRITERIA, Criterion};
use zprune::prune::layer::run_steps;
use zprune::prune::pattern::{Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::solver::OneShot;
use zprune::prune::workbench::Workbench;
use zprune::tensor::StorageType;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Criteria, and how their papers write them; nothing stands for the formula that `zprune list` prints, which is the same tree.
const FORMULAS: [(&str, &str); 7] = [
    ("magnitude", "abs(w)"),
    ("wanda", "abs(w) * sqrt(x2)"),
    ("stade", "w ^ 2 * variance"),
    ("ria", ""),
    // Another formula: it divides where the criterion multiplies by an inverse, once for each row and column.
    (
        "ria",
        "(abs(w) / col_sum(abs(w)) + abs(w) / row_sum(abs(w))) * x2 ^ 0.25",
    ),
    ("nowag", ""),
    ("z-pruner", ""),
];

/// Rows and columns: a layer of SmolLM2-135M, and one of LLaMA-2-7B.
const SIZES: [(usize, usize); 2] = [(1536, 576), (4096, 4096)];

fn main() {
    let gpu = std::env::args().any(|it| it == "--gpu");
    let gpu = gpu.then(|| Gpu::open(&Choice::default(), Compute::F32).expect("there is an adapter"));
    println!(
        "{:<8} {:<13} {:>11}  {:>9} {:>9}  {:>8} {:>17}  {:>17}",
        "backend", "criterion", "layer", "criterion", "formula", "slower", "quartiles", "against itself"
    );
    for (name, formula) in FORMULAS {
        for dim in SIZES {
            compare("cpu", &Cpu, name, formula, dim);
            if let Some(gpu) = &gpu {
                compare("gpu", gpu, name, formula, dim);
            }
        }
    }
}

fn compare<B: Workbench>(place: &str, backend: &B, name: &str, formula: &str, (rows, columns): (usize, usize)) {
    let criterion = CRITERIA
        .build(name, &toml::Table::new())
        .expect("defaults are legal")
        .component;
    let text = match formula {
        "" => criterion.score().to_string(),
        formula => formula.to_string(),
    };
    let table = toml::Table::from_iter([("expression".to_string(), text.into())]);
    let formula = CRITERIA.build("expression", &table).expect("a formula").component;
    let name = match formula.score() == criterion.score() {
        true => name.to_string(),
        false => format!("{name}, other"),
    };
    let mut random = ChaCha8Rng::seed_from_u64((rows * columns) as u64);
    let mut numbers = |rows: usize| Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0f32..1.0));
    let (weight, x) = (numbers(rows), numbers(64));
    let mut moments = backend
        .moments(columns, Needs::SQUARES.and(Needs::MEANS))
        .expect("room");
    let x = backend.upload(x.view()).expect("room");
    backend.accumulate(&mut moments, &x).expect("computes");
    backend.accumulate_sums(&mut moments, &x, &[64.0]).expect("computes");
    let statistics = backend.statistics(&moments, 1, Provider::Faer).expect("finite");
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: criterion.group(),
        selection: Selection::Exact,
    };
    let time = |criterion: &dyn Criterion| {
        let mut weight = backend.upload_weight(weight.clone()).expect("room");
        backend.wait().expect("the device is there");
        let started = Instant::now();
        let mut piece = backend.workpiece(&mut weight, StorageType::F32, &statistics);
        run_steps(piece.as_mut(), Steps::new(criterion, &OneShot {}), &target).expect("prunes");
        let concluding = piece.conclude(&target).expect("finite");
        drop(piece);
        let found = backend.concluded(vec![(concluding, &weight)]).expect("finite");
        assert!(found.iter().all(Result::is_ok));
        started.elapsed().as_secs_f64()
    };
    // What is compiled once is not counted.
    for it in [criterion.as_ref(), formula.as_ref()] {
        time(it);
    }
    let (mut own, mut theirs, mut ratios, mut noise) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let began = Instant::now();
    let mut round = 0;
    while round < 21 || (began.elapsed().as_secs_f64() < 5.0 && round < 401) {
        // Each of the three is the first as often as the last.
        let mut times = [0.0; 3];
        for turn in 0..3 {
            let which = (turn + round) % 3;
            times[which] = time(if which == 1 {
                formula.as_ref()
            } else {
                criterion.as_ref()
            });
        }
        own.push(times[0]);
        theirs.push(times[1]);
        ratios.push(times[1] / times[0]);
        noise.push(times[2] / times[0]);
        round += 1;
    }
    let quartile = |values: &mut Vec<f64>, share: f64| {
        values.sort_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * share) as usize]
    };
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let both = |values: &mut Vec<f64>| [0.25, 0.75].map(|share| percent(quartile(values, share)));
    let ([low, high], [least, most]) = (both(&mut ratios), both(&mut noise));
    println!(
        "{place:<8} {name:<13} {:>11}  {:>6.3} ms {:>6.3} ms  {:>6.1} % {low:>6.1} to {high:>5.1} %  {least:>6.1} to {most:>5.1} %",
        format!("{rows} x {columns}"),
        1e3 * quartile(&mut own, 0.5),
        1e3 * quartile(&mut theirs, 0.5),
        percent(quartile(&mut ratios, 0.5)),
    );
}
