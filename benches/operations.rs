//! Each operation of a backend on its own, at shapes of SmolLM2-135M: `cargo bench`, or `cargo bench -- linear`.
//!
//! The GPU is the best adapter that is not a program; without one only the CPU is timed. Whole runs and larger
//! shapes: `zprune bench`.

use divan::Bencher;
use divan::counter::ItemsCount;
use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::OnceLock;
use zprune::backend::cpu::Cpu;
use zprune::backend::gpu::Gpu;
use zprune::backend::gpu::adapter::{Choice, real_gpu};
use zprune::backend::moments::Needs;
use zprune::backend::{Backend, Compute};
use zprune::linalg::{Provider, inverse_factor};
use zprune::prune::criterion::CRITERIA;
use zprune::prune::layer::run_steps;
use zprune::prune::mask::select;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::refiner::REFINERS;
use zprune::prune::solver::SOLVERS;
use zprune::prune::workbench::Workbench;
use zprune::spec::{Activation, AttentionSpec, NormKind};
use zprune::tensor::StorageType;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tokens in a batch; windows of this many are attended to.
const TOKENS: usize = 512;
const WIDTH: usize = 576;
const MLP: usize = 1536;

fn main() {
    divan::main();
}

fn random(rows: usize, columns: usize) -> Array2<f32> {
    let mut random = ChaCha8Rng::seed_from_u64((rows * columns) as u64);
    Array2::from_shape_fn((rows, columns), |_| random.random_range(-1.0..1.0))
}

fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || real_gpu().then(|| Gpu::open(&Choice::default(), Compute::F32).expect("it is there"));
    GPU.get_or_init(open).as_ref()
}

/// Times an operation on both backends; `flops` of one run make the rate (items are operations).
macro_rules! both {
    ($name:ident, $flops:expr, |$backend:ident| $prepare:expr, |$input:ident| $run:expr) => {
        mod $name {
            use super::*;

            fn on<B: Backend>($backend: &B, bencher: Bencher) {
                let $input = $prepare;
                bencher.counter(ItemsCount::new($flops)).bench_local(|| {
                    let result = $run;
                    $backend.wait().expect("the device is there");
                    result
                });
            }

            #[divan::bench]
            fn cpu(bencher: Bencher) {
                on(&Cpu, bencher);
            }

            #[divan::bench(ignore = super::gpu().is_none())]
            fn gpu(bencher: Bencher) {
                on(super::gpu().expect("not ignored"), bencher);
            }
        }
    };
}

fn there<B: Backend>(backend: &B, rows: usize, columns: usize) -> B::Tensor {
    backend.upload(random(rows, columns).view()).expect("room")
}

both!(
    linear,
    2 * TOKENS * WIDTH * MLP,
    |backend| (
        backend,
        there(backend, TOKENS, WIDTH),
        backend.upload_weight(random(MLP, WIDTH)).expect("room")
    ),
    |input| input.0.linear(&input.2, None, &input.1).expect("computes")
);

both!(
    attention,
    2 * TOKENS * TOKENS * WIDTH,
    |backend| (
        backend,
        there(backend, TOKENS, WIDTH),
        there(backend, TOKENS, WIDTH / 3),
        there(backend, TOKENS, WIDTH / 3),
        AttentionSpec {
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            scale: 0.125,
            softcap: None,
        },
    ),
    |input| input
        .0
        .attention(input.4, None, TOKENS, &input.1, &input.2, &input.3)
        .expect("computes")
);

both!(
    normalise,
    TOKENS * WIDTH,
    |backend| (backend, there(backend, TOKENS, WIDTH)),
    |input| input
        .0
        .normalise(NormKind::Rms, 1e-5, WIDTH, None, None, &input.1)
        .expect("computes")
);

both!(
    gate,
    TOKENS * MLP,
    |backend| (
        backend,
        there(backend, TOKENS, MLP),
        std::cell::RefCell::new(there(backend, TOKENS, MLP))
    ),
    |input| input
        .0
        .gate(Activation::Silu, &input.1, &mut input.2.borrow_mut())
        .expect("computes")
);

both!(
    squares,
    2 * TOKENS * MLP,
    |backend| (
        backend,
        there(backend, TOKENS, MLP),
        std::cell::RefCell::new(backend.moments(MLP, Needs::SQUARES).expect("room"))
    ),
    |input| input
        .0
        .accumulate(&mut input.2.borrow_mut(), &input.1)
        .expect("computes")
);

both!(
    gram,
    TOKENS * MLP * MLP,
    |backend| (
        backend,
        there(backend, TOKENS, MLP),
        std::cell::RefCell::new(backend.moments(MLP, Needs::GRAM).expect("room"))
    ),
    |input| input
        .0
        .accumulate(&mut input.2.borrow_mut(), &input.1)
        .expect("computes")
);

#[divan::bench(args = [Group::Matrix, Group::Row, Group::ColumnBlock])]
fn selection(bencher: Bencher, group: &Group) {
    let scores = random(MLP, WIDTH).mapv(f32::abs);
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: *group,
        selection: Selection::Exact,
    };
    bencher
        .counter(ItemsCount::new(scores.len()))
        .bench_local(|| select(scores.view(), &target).expect("fits"));
}

/// Scores, mask and zeros of one layer of LLaMA-2-7B (its down projection): what pruning costs beside the forward
/// passes. `tools/compare_selection.py` runs it beside PyTorch.
#[divan::bench(args = ["wanda", "z-pruner", "magnitude 2:4"], sample_count = 5, sample_size = 1)]
fn prune_layer(bencher: Bencher, method: &str) {
    let (outputs, inputs) = (4096, 11008);
    let (criterion, pattern) = match method.strip_suffix(" 2:4") {
        Some(criterion) => (criterion, Pattern::NofM { keep: 2, of: 4 }),
        None => (method, Pattern::Unstructured { sparsity: 0.5 }),
    };
    let nothing = toml::Table::new();
    let criterion = (CRITERIA.find(criterion).expect("registered").item)(&nothing)
        .expect("defaults are legal")
        .component;
    let solver = (SOLVERS.find("one-shot").expect("registered").item)(&nothing)
        .expect("no parameters")
        .component;
    let mut moments = Cpu.moments(inputs, Needs::SQUARES).expect("room");
    Cpu.accumulate(&mut moments, &random(64, inputs)).expect("computes");
    let statistics = Cpu.statistics(&moments, 1, Provider::Faer).expect("finite");
    let target = Target {
        pattern,
        group: criterion.group(),
        selection: Selection::Exact,
    };
    let weight = random(outputs, inputs);
    bencher
        .counter(ItemsCount::new(outputs * inputs))
        .with_inputs(|| weight.clone())
        .bench_local_refs(|weight| {
            let mut piece = Cpu.workpiece(weight, StorageType::F32, &statistics);
            let steps = Steps::new(criterion.as_ref(), solver.as_ref());
            run_steps(piece.as_mut(), steps, &target).expect("prunes");
        });
}

#[divan::bench(args = [WIDTH, MLP])]
fn factor(bencher: Bencher, inputs: usize) {
    let x = random(2 * inputs, inputs).mapv(f64::from);
    let hessian = x.t().dot(&x);
    bencher
        .counter(ItemsCount::new(2 * inputs * inputs * inputs / 3))
        .bench_local(|| inverse_factor(Provider::Faer, hessian.clone()).expect("positive definite"));
}

/// Inputs that share what they say, of unequal size: two tokens for each input.
fn correlated(inputs: usize) -> Array2<f32> {
    let mut x = random(2 * inputs, 32).dot(&random(32, inputs)) + random(2 * inputs, inputs);
    for (column, mut values) in x.columns_mut().into_iter().enumerate() {
        values *= 1.0 + (column % 97 == 0) as u8 as f32 * 9.0;
    }
    x
}

/// The solvers that iterate, on 1024 x 4096 weights and as many steps as `tools/compare_solvers.py` takes beside it in PyTorch.
#[divan::bench(
    args = [
        ("least-squares", "steps = 30\ntolerance = 0.0"),
        ("admm", ""),
        ("alps", "iterations = 30"),
        ("fista", "rounds = 3\npatience = 3"),
        ("obs", "order = \"rescore\""),
    ],
    sample_count = 1,
    sample_size = 1
)]
fn solve_layer(bencher: Bencher, (solver, parameters): &(&str, &str)) {
    let (outputs, inputs) = (1024, 4096);
    let table: toml::Table = parameters.parse().expect("a table");
    let solver = SOLVERS.build(solver, &table).expect("legal").component;
    let wanda = CRITERIA.build("wanda", &toml::Table::new()).expect("legal").component;
    let x = correlated(inputs);
    let mut moments = Cpu.moments(inputs, Needs::GRAM).expect("room");
    Cpu.accumulate(&mut moments, &x).expect("computes");
    let statistics = Cpu.statistics(&moments, 1, Provider::Faer).expect("finite");
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: solver.group().unwrap_or(wanda.group()),
        selection: Selection::Exact,
    };
    let weight = random(outputs, inputs);
    bencher.with_inputs(|| weight.clone()).bench_local_refs(|weight| {
        let mut piece = Cpu.workpiece(weight, StorageType::F32, &statistics);
        let steps = Steps::new(wanda.as_ref(), solver.as_ref());
        run_steps(piece.as_mut(), steps, &target).expect("prunes");
    });
}

/// Mask refinements of 1024 x 4096 weights from Wanda's mask, as `tools/compare_refiners.py` does them beside it in PyTorch.
#[divan::bench(
    args = ["sparse-swaps", "sparse-swaps 2:4", "dsnot", "dsnot 2:4", "sparse-fw", "sparse-fw 2:4"],
    sample_count = 3,
    sample_size = 1
)]
fn refine_layer(bencher: Bencher, method: &str) {
    let (outputs, inputs, sequences) = (1024, 4096, 4);
    let (name, pattern) = match method.strip_suffix(" 2:4") {
        Some(name) => (name, Pattern::NofM { keep: 2, of: 4 }),
        None => (method, Pattern::Unstructured { sparsity: 0.5 }),
    };
    let table = match name {
        "sparse-fw" => toml::toml! { iterations = 100 },
        _ => toml::Table::new(),
    };
    let nothing = toml::Table::new();
    let refiner = REFINERS.build(name, &table).expect("legal").component;
    let wanda = CRITERIA.build("wanda", &nothing).expect("legal").component;
    let solver = SOLVERS.build("one-shot", &nothing).expect("legal").component;
    let x = correlated(inputs);
    let mut moments = Cpu.moments(inputs, Needs::GRAM.and(Needs::MEANS)).expect("room");
    Cpu.accumulate(&mut moments, &x).expect("computes");
    let lengths = vec![(x.nrows() / sequences) as f64; sequences];
    Cpu.accumulate_sums(&mut moments, &x, &lengths).expect("computes");
    let statistics = Cpu.statistics(&moments, sequences, Provider::Faer).expect("finite");
    let target = Target {
        pattern,
        group: Group::Row,
        selection: Selection::Exact,
    };
    let weight = random(outputs, inputs);
    bencher.with_inputs(|| weight.clone()).bench_local_refs(|weight| {
        let mut piece = Cpu.workpiece(weight, StorageType::F32, &statistics);
        let steps = Steps {
            refiner: Some(refiner.as_ref()),
            ..Steps::new(wanda.as_ref(), solver.as_ref())
        };
        run_steps(piece.as_mut(), steps, &target).expect("prunes");
    });
}
