//! A mask refinement of one's own: in every row, or group of a row, it swaps one kept weight for one that was removed, where
//! that makes the error of the layer's output smaller.

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::calibrate::statistics::LayerStatistics;
use zprune::error::Result;
use zprune::linalg::Provider;
use zprune::prune::component::Name;
use zprune::prune::criterion::Wanda;
use zprune::prune::layer::{Layer, solve};
use zprune::prune::pattern::{COLUMN_BLOCK, Group, Pattern, Selection, Target};
use zprune::prune::recipe::Steps;
use zprune::prune::refiner::{REFINERS, Refiner};
use zprune::prune::solver::OneShot;
use zprune::prune::values::Values;
use zprune::prune::workbench::Workpiece;

/// The refinement; no parameters.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneSwap {}

impl Refiner for OneSwap {
    fn needs(&self) -> Needs {
        Needs::GRAM
    }

    fn refine(&self, piece: &mut dyn Workpiece, target: &Target) -> Result<()> {
        let (dim, weight, kept, gram) = (piece.dim(), piece.weight()?, piece.kept()?, piece.gram()?);
        // With E the removed weights, the error is tr(E G E^T), and E G is half its gradient.
        let removed = piece.map(dim, &Values::over([&weight, &kept], |[w, kept]| w * (1.0 - kept)))?;
        let pull = piece.read(&piece.product(&removed, &gram)?)?;
        let (weight, mut kept, gram) = (piece.read(&weight)?, piece.read(&kept)?, piece.read(&gram)?);
        // A swap stays within the weights that compete with each other.
        let width = match (target.pattern, target.group) {
            (Pattern::NofM { of, .. }, _) => of,
            (_, Group::ColumnBlock) => COLUMN_BLOCK,
            (_, Group::Row | Group::Matrix | Group::RowShare) => dim.1,
        };
        for row in 0..dim.0 {
            let (w, r) = (weight.row(row), pull.row(row));
            for start in (0..dim.1).step_by(width) {
                let group = start..dim.1.min(start + width);
                let mut best = (0.0, None);
                for back in group.clone().filter(|column| kept[[row, *column]] == 0.0) {
                    for out in group.clone().filter(|column| kept[[row, *column]] == 1.0) {
                        let alone = |j: usize| w[j] * w[j] * gram[[j, j]];
                        let change = alone(back) + alone(out) - 2.0 * w[back] * r[back] + 2.0 * w[out] * r[out]
                            - 2.0 * w[back] * w[out] * gram[[back, out]];
                        if change < best.0 {
                            best = (change, Some((back, out)));
                        }
                    }
                }
                if let (_, Some((back, out))) = best {
                    kept[[row, back]] = 1.0;
                    kept[[row, out]] = 0.0;
                }
            }
        }
        let kept = piece.matrix(kept.view())?;
        piece.keep(&kept)
    }
}

/// Makes the refinement known as `one-swap`.
pub fn register() -> Result<()> {
    let name = Name {
        name: "one-swap",
        version: 1,
        summary: "the best swap of two weights in every row or group",
    };
    REFINERS.register(name, |it: OneSwap| Box::new(it))
}

/// The errors `tr(E G E^T)` of Wanda's mask and of the refined one.
pub fn run(pattern: Pattern) -> Result<[f64; 2]> {
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
    let target = Target {
        pattern,
        group: Group::Row,
        selection: Selection::Exact,
    };
    let gram = statistics.full_gram()?;
    let error = |refiner: Option<&dyn Refiner>| -> Result<f64> {
        let steps = Steps {
            refiner,
            ..Steps::new(&Wanda {}, &OneShot {})
        };
        let pruned = solve(&layer, steps, &target)?;
        let change = (&weight - &pruned.weight).mapv(f64::from);
        let product = change.dot(&gram.mapv(f64::from));
        Ok((&change * &product).sum())
    };
    Ok([error(None)?, error(Some(&OneSwap {}))?])
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    for pattern in [
        Pattern::Unstructured { sparsity: 0.5 },
        Pattern::NofM { keep: 2, of: 4 },
    ] {
        let [wanda, refined] = run(pattern)?;
        println!("{pattern}: tr(E G E^T) of wanda's mask {wanda:.3}, after one swap a group {refined:.3}");
    }
    Ok(())
}
