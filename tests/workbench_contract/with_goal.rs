//! A layer on a workbench whose inputs have means, and whose steps know what outputs are to be reproduced.

use ndarray::Array2;
use zprune::backend::moments::Needs;
use zprune::linalg::Provider;
use zprune::prune::workbench::{Workbench, Workpiece};
use zprune::tensor::StorageType;

/// Number of sequences that the rows of the inputs are.
pub const SEQUENCES: usize = 4;

/// Calls `test` with the layer, of whose inputs `x` and of the inputs `goal` of the outputs to be reproduced `needs` are gathered. Returns
/// what it returns, and the weights that the layer has then.
pub fn on_layer<B: Workbench, R>(
    backend: &B,
    needs: Needs,
    weight: &Array2<f32>,
    (x, goal): (&Array2<f32>, &Array2<f32>),
    storage: StorageType,
    test: impl FnOnce(&mut dyn Workpiece) -> R,
) -> (R, Array2<f32>) {
    let lengths = [(x.nrows() / SEQUENCES) as f64; SEQUENCES];
    let mut moments = backend.moments(x.ncols(), needs).expect("room");
    let there = [x, goal].map(|values| backend.upload(values.view()).expect("room"));
    backend.accumulate(&mut moments, &there[0]).expect("computes");
    backend
        .accumulate_cross(&mut moments, &there[0], &there[1])
        .expect("computes");
    backend
        .accumulate_sums(&mut moments, &there[0], &lengths)
        .expect("computes");
    let mut sums = backend.moments(x.ncols(), Needs::MEANS).expect("room");
    backend
        .accumulate_sums(&mut sums, &there[1], &lengths)
        .expect("computes");
    let statistics = backend.statistics(&moments, SEQUENCES, Provider::Faer).expect("finite");
    let statistics = backend.with_goal(statistics, &sums).expect("gathered");
    let mut there = backend.upload_weight(weight.clone()).expect("room");
    let returned = test(backend.workpiece(&mut there, storage, &statistics).as_mut());
    (returned, backend.download_weight(&there).expect("there"))
}
