//! Claims about whose outputs a block's calibration statistics come from.

use std::path::Path;
use zprune::backend::cpu::Cpu;
use zprune::data::windows::TokenWindows;
use zprune::model::checkpoint::{Checkpoint, LinearWeights};
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::prune::criterion::CRITERIA;
use zprune::prune::pattern::{Group, Pattern, Selection};
use zprune::prune::solver::SOLVERS;
use zprune::prune::{Calibration, Method, dense_moments, prune_model};

const HALF: Pattern = Pattern::Unstructured { sparsity: 0.5 };

fn checkpoint() -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits/llama_gqa_tied");
    Checkpoint::open(&folder, read_spec(&folder).expect("supported")).expect("a golden checkpoint")
}

fn windows() -> TokenWindows {
    TokenWindows::new((0..96).map(|t| t * 37 % 89).collect(), 24).expect("four windows")
}

fn method(criterion: &str, solver: &str) -> Method {
    let none = toml::Table::new();
    let criterion = (CRITERIA.find(criterion).expect("registered").item)(&none)
        .expect("defaults")
        .component;
    Method {
        group: Group::Row,
        solver: (SOLVERS.find(solver).expect("registered").item)(&none)
            .expect("defaults")
            .component,
        allocator: (zprune::prune::allocator::ALLOCATORS
            .find("uniform")
            .expect("registered")
            .item)(&none)
        .expect("defaults")
        .component,
        criterion,
        selection: Selection::Exact,
        provider: Default::default(),
    }
}

fn pruned(checkpoint: &Checkpoint, method: &Method, calibration: &Calibration<Cpu>) -> Vec<Vec<LinearWeights>> {
    let ends = Ends::upload(&Cpu, checkpoint).expect("room");
    let mut blocks = Vec::new();
    prune_model(&Cpu, checkpoint, &ends, method, HALF, calibration, |pruned| {
        blocks.push(pruned.weights().collect::<Result<_, _>>()?);
        Ok(())
    })
    .expect("prunable");
    blocks
}

fn equal(a: &[LinearWeights], b: &[LinearWeights]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.weight == b.weight)
}

#[test]
fn dense_and_block_propagation_agree_on_the_first_block_and_differ_later() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    for (criterion, solver) in [("wanda", "one-shot"), ("obs", "obs")] {
        let method = method(criterion, solver);
        let moments = dense_moments(&Cpu, &checkpoint, &ends, &windows, method.needs()).expect("finite");
        let shared = Calibration::Dense {
            moments: &moments,
            sequences: windows.count(),
        };
        let dense = pruned(&checkpoint, &method, &shared);
        let block = pruned(&checkpoint, &method, &Calibration::Windows(&windows));
        assert!(dense.len() > 1, "the claim needs a second block");
        assert!(
            equal(&dense[0], &block[0]),
            "{criterion}: block 0 sees the same inputs either way"
        );
        assert!(
            !equal(&dense[1], &block[1]),
            "{criterion}: block 1 sees pruned inputs only in one of them"
        );
    }
}

#[test]
fn one_dense_pass_serves_methods_that_need_less_than_it_holds() {
    let (checkpoint, windows) = (checkpoint(), windows());
    let ends = Ends::upload(&Cpu, &checkpoint).expect("room");
    let wanda = method("wanda", "one-shot");
    let result = |needs| {
        let moments = dense_moments(&Cpu, &checkpoint, &ends, &windows, needs).expect("finite");
        let shared = Calibration::Dense {
            moments: &moments,
            sequences: windows.count(),
        };
        pruned(&checkpoint, &wanda, &shared)
    };
    let alone = result(wanda.needs());
    let beside_sparsegpt = result(wanda.needs().and(method("obs", "obs").needs()));
    assert!(alone.iter().zip(&beside_sparsegpt).all(|(a, b)| equal(a, b)));
}
