//! Prunes one layer on the host: which weights go, and what that does to the layer's outputs.

use ndarray::Array2;
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::calibrate::statistics::LayerStatistics;
use zprune::error::Result;
use zprune::linalg::Provider;
use zprune::prune::criterion::{self, Criterion, Wanda};
use zprune::prune::layer::{Layer, solve};
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::solver::{self, OneShot, Solver};

/// The errors `||X (W - W')^T||^2 / ||X W^T||^2` of Wanda and of SparseGPT.
pub fn run() -> Result<[f64; 2]> {
    // A layer of 32 outputs and 64 inputs, and two sequences of 128 tokens.
    let weight = Array2::from_shape_fn((32, 64), |(i, j)| ((i * 64 + j) as f32 * 12.9898).sin());
    let inputs = Array2::from_shape_fn((256, 64), |(t, j)| {
        ((t * 7 + j) as f32 * 0.3).sin() + 0.1 * (t as f32 * 1.7 + j as f32).cos()
    });
    let mut moments = Cpu.moments(64, Needs::GRAM)?;
    Cpu.accumulate(&mut moments, &inputs)?;
    let statistics = LayerStatistics::new(&moments, 2, Provider::Faer);

    let layer = Layer {
        weight: weight.view(),
        statistics: &statistics,
    };
    let dense = inputs.dot(&weight.t());
    let error = |criterion: &dyn Criterion, solver: &dyn Solver| -> Result<f64> {
        let target = Target {
            pattern: Pattern::NofM { keep: 2, of: 4 },
            group: Group::Row,
            selection: Selection::Exact,
        };
        let pruned = solve(&layer, Steps::new(criterion, solver), &target)?;
        let change = &dense - &inputs.dot(&pruned.weight.t());
        let squared = |values: &Array2<f32>| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        Ok(squared(&change) / squared(&dense))
    };
    Ok([
        error(&Wanda {}, &OneShot {})?,
        error(&criterion::Obs {}, &solver::Obs::default())?,
    ])
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    let [wanda, sparsegpt] = run()?;
    println!("2:4, relative error of the outputs: wanda {wanda:.4}, sparsegpt {sparsegpt:.4}");
    Ok(())
}
