//! A solver of one's own, written on the vocabulary of the workbench: it runs on the CPU and on a GPU.

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::error::Result;
use zprune::linalg::Provider;
use zprune::prune::component::Name;
use zprune::prune::criterion::Wanda;
use zprune::prune::layer::run_steps;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::solver::{SOLVERS, Solver};
use zprune::prune::values::{Over, Values};
use zprune::prune::workbench::{Workbench, Workpiece};
use zprune::tensor::StorageType;

/// Steps down the gradient of `tr(E G E^T)`, `E = W - W0`, with the mask as it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Descent {
    /// Number of steps.
    pub steps: usize,
}

impl Default for Descent {
    fn default() -> Self {
        Descent { steps: 20 }
    }
}

impl Solver for Descent {
    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn updates(&self) -> bool {
        true
    }

    fn solve(&self, piece: &mut dyn Workpiece, _follow: Option<&Values>, _target: &Target) -> Result<Option<f64>> {
        let (dim, dense, kept, gram) = (piece.dim(), piece.weight()?, piece.kept()?, piece.gram()?);
        // No eigenvalue of G is above the largest of its rows' sums of magnitudes, so no step makes the error larger.
        let sums = piece.reduce(gram.dim(), Over::Row, &Values::over([&gram], |[g]| g.abs()))?;
        let step = 1.0 / f64::from(piece.read(&sums)?.fold(f32::MIN_POSITIVE, |a, b| a.max(*b)));
        let mut weight = piece.map(dim, &Values::over([&dense, &kept], |[w, kept]| w * kept))?;
        for _ in 0..self.steps {
            let change = piece.map(dim, &Values::over([&weight, &dense], |[w, dense]| w - dense))?;
            let gradient = piece.product(&change, &gram)?;
            let moved = Values::over([&weight, &gradient, &kept], |[w, g, kept]| (w - step * g) * kept);
            weight = piece.map(dim, &moved)?;
        }
        piece.set_weight(&weight)?;
        Ok(None)
    }
}

/// Makes the solver known as `descent`.
pub fn register() -> Result<()> {
    let name = Name {
        name: "descent",
        version: 1,
        summary: "steps of projected gradient on the layer's output; parameter steps",
    };
    SOLVERS.register(name, |it: Descent| Box::new(it))
}

/// The error `tr(E G E^T)` of a layer after some steps.
pub fn run<B: Workbench>(backend: &B, steps: usize) -> Result<f64> {
    let weight = Array2::from_shape_fn((32, 64), |(i, j)| ((i * 64 + j) as f32 * 12.9898).sin());
    let mut weight = backend.upload_weight(weight)?;
    let inputs = Array2::from_shape_fn((256, 64), |(t, j)| {
        ((t * 7 + j) as f32 * 0.3).sin() + 0.1 * (t as f32 * 1.7 + j as f32).cos()
    });
    let mut moments = backend.moments(64, Needs::GRAM)?;
    backend.accumulate(&mut moments, &backend.upload(inputs.view())?)?;
    let statistics = backend.statistics(&moments, 2, Provider::Faer)?;

    let mut piece = backend.workpiece(&mut weight, StorageType::F32, &statistics);
    let dense = piece.weight()?;
    let target = Target {
        pattern: Pattern::Unstructured { sparsity: 0.5 },
        group: Group::Row,
        selection: Selection::Exact,
    };
    run_steps(piece.as_mut(), Steps::new(&Wanda {}, &Descent { steps }), &target)?;
    let (dim, pruned) = (piece.dim(), piece.weight()?);
    let change = piece.map(dim, &Values::over([&pruned, &dense], |[w, dense]| w - dense))?;
    let gradient = piece.product(&change, &piece.gram()?)?;
    piece.total(dim, &Values::over([&change, &gradient], |[e, g]| e * g))
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    for steps in [0, 5, 20, 100] {
        println!("cpu, {steps} steps: tr(E G E^T) = {:.4}", run(&Cpu, steps)?);
    }
    #[cfg(feature = "gpu")]
    {
        use zprune::backend::Compute;
        use zprune::backend::gpu::{Gpu, adapter};
        if !adapter::list().is_empty() {
            let choice = adapter::Choice {
                software: true,
                ..Default::default()
            };
            let gpu = Gpu::open(&choice, Compute::F32)?;
            println!("gpu, 20 steps: tr(E G E^T) = {:.4}", run(&gpu, 20)?);
        }
    }
    Ok(())
}
