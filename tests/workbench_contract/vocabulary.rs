//! Claim: every operation on matrices agrees with a plain `f64` loop as closely as `OPERATIONS` declares, on the CPU and
//! on every tier of the GPU, at sizes that are no multiple of any tile.

use super::{normal, on_every_tier};
use ndarray::{Array2, ArrayView2, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::backend::Agreement;
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::linalg::Provider;
use zprune::prune::formula::Formula;
use zprune::prune::mask::select;
use zprune::prune::matrix::Matrix;
use zprune::prune::pattern::{Group, Pattern, Selection, Target};
use zprune::prune::score::{Quantity, greatest, least, resolve};
use zprune::prune::values::{Operand, Over, Values};
use zprune::prune::workbench::{OPERATIONS, Workbench, Workpiece};
use zprune::tensor::StorageType;

const SIZES: [(usize, usize); 3] = [(37, 200), (300, 24), (21, 77)];

/// Holds a result against its reference.
pub fn agree(operation: &str, place: &str, got: ArrayView2<f32>, want: ArrayView2<f64>) {
    let (_, agreement) = OPERATIONS
        .iter()
        .find(|(name, _)| *name == operation)
        .expect("declared");
    assert_eq!(got.dim(), want.dim(), "{operation}, {place}");
    let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let within = match *agreement {
        Agreement::Exact => 0.0,
        Agreement::Close { abs, rel } => abs + rel * largest,
    };
    for ((entry, got), want) in got.indexed_iter().zip(want) {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= within, "{operation}, {place}, {entry:?}: {got}, not {want}");
    }
}

/// Runs a test with a layer on the CPU, and on the GPU in every tier.
pub fn on_every_workbench(
    (rows, columns): (usize, usize),
    storage: StorageType,
    test: impl Fn(&mut dyn Workpiece, &Array2<f32>, &Array2<f32>, &str),
) {
    let mut random = ChaCha8Rng::seed_from_u64(rows as u64);
    let weight = normal(&mut random, rows, columns);
    let inputs = normal(&mut random, 3 * columns, columns);
    fn with<B: Workbench>(
        backend: &B,
        (weight, inputs): (&Array2<f32>, &Array2<f32>),
        storage: StorageType,
        test: impl Fn(&mut dyn Workpiece),
    ) {
        let mut moments = backend.moments(inputs.ncols(), Needs::GRAM).expect("room");
        let x = backend.upload(inputs.view()).expect("room");
        backend.accumulate(&mut moments, &x).expect("computes");
        let statistics = backend.statistics(&moments, 4, Provider::Faer).expect("finite");
        let mut there = backend.upload_weight(weight.clone()).expect("room");
        test(backend.workpiece(&mut there, storage, &statistics).as_mut());
    }
    let size = format!("{rows} x {columns}");
    with(&Cpu, (&weight, &inputs), storage, |piece| {
        test(piece, &weight, &inputs, &format!("CPU, {size}"))
    });
    on_every_tier(|gpu, tier| {
        let place = format!("tier {tier}, {size}");
        with(gpu, (&weight, &inputs), storage, |piece| {
            test(piece, &weight, &inputs, &place)
        });
    });
}

fn wide(array: &Array2<f32>) -> Array2<f64> {
    array.mapv(f64::from)
}

pub fn read(piece: &dyn Workpiece, matrix: &Matrix) -> Array2<f32> {
    piece.read(matrix).expect("there")
}

pub fn put(piece: &dyn Workpiece, array: &Array2<f32>) -> Matrix {
    piece.matrix(array.view()).expect("room")
}

#[test]
fn matrices_come_back_as_they_went() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            agree(
                "matrix and read",
                place,
                read(piece, &put(piece, weight)).view(),
                wide(weight).view(),
            );
            let there = piece.weight().expect("room");
            agree("map", place, read(piece, &there).view(), wide(weight).view());
            let twice = piece.map(dim, &Values::over([&there], |[w]| w * 2.0)).expect("room");
            piece.set_weight(&twice).expect("fits");
            let weight = weight.mapv(|w| 2.0 * w);
            let again = piece.weight().expect("room");
            agree(
                "matrix and read",
                place,
                read(piece, &again).view(),
                wide(&weight).view(),
            );
        });
    }
}

#[test]
fn formulas_are_computed_as_written() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let (a, b) = (normal(&mut random, dim.0, dim.1), normal(&mut random, dim.0, dim.1));
            let (of_rows, of_columns) = (normal(&mut random, dim.0, 1), normal(&mut random, 1, dim.1));
            let scalar = normal(&mut random, 1, 1);
            let there = [&a, &b, &of_rows, &of_columns, &scalar].map(|array| put(piece, array));
            let [ma, mb, mr, mc, ms] = &there;
            let at = |array: &Array2<f32>, row: usize, column: usize| f64::from(array[[row, column]]);
            type Reference<'a> = Box<dyn Fn(usize, usize) -> f64 + 'a>;
            let soft = |x: f64, by: f64| x.signum() * (x.abs() - by).max(0.0);
            let cases: Vec<(Values, Reference)> = vec![
                // A copy, a scaled sum, a product, a soft threshold, scaled rows and columns, roots and quotients.
                (Values::over([ma], |[a]| a), Box::new(|i, j| at(&a, i, j))),
                (
                    Values::over([ma, mb], |[a, b]| a + 0.7 * b),
                    Box::new(|i, j| at(&a, i, j) + 0.7f32 as f64 * at(&b, i, j)),
                ),
                (
                    Values::over([ma, mb], |[a, b]| a * b),
                    Box::new(|i, j| at(&a, i, j) * at(&b, i, j)),
                ),
                (
                    Values::over([ma], |[a]| a.clone().sign() * (a.abs() - 0.25).maximum(0.0)),
                    Box::new(|i, j| soft(at(&a, i, j), 0.25)),
                ),
                (
                    Values::over([ma, mr, mc], |[a, r, c]| a * r * c),
                    Box::new(|i, j| at(&a, i, j) * at(&of_rows, i, 0) * at(&of_columns, 0, j)),
                ),
                (
                    Values::over([ma, mb, ms], |[a, b, s]| (a - s) / (b.square() + 1.0).root()),
                    Box::new(|i, j| (at(&a, i, j) - at(&scalar, 0, 0)) / (at(&b, i, j).powi(2) + 1.0).sqrt()),
                ),
                (
                    Values::over([ma, mb], |[a, b]| {
                        a.abs().power(1.5).minimum(b.cube().abs().inverse()) * -1.0
                    }),
                    Box::new(|i, j| -at(&a, i, j).abs().powf(1.5).min(1.0 / at(&b, i, j).powi(3).abs())),
                ),
                (
                    Values::over([ma], |[a]| a.below(0.1) * Formula::Leaf(Operand::Weight)),
                    Box::new(|i, j| if a[[i, j]] < 0.1 { at(weight, i, j) } else { 0.0 }),
                ),
                (
                    Values::over([ma], |[a]| a + 0.5 * Formula::Leaf(Operand::Identity)),
                    Box::new(|i, j| at(&a, i, j) + if i == j { 0.5 } else { 0.0 }),
                ),
            ];
            for (values, reference) in &cases {
                let place = format!("{place}, {:?}", values.formula);
                let want = Array2::from_shape_fn(dim, |(i, j)| reference(i, j));
                let got = piece.map(dim, values).expect("room");
                agree("map", &place, read(piece, &got).view(), want.view());
                for (over, axis, name) in [(Over::Row, 1, "reduce rows"), (Over::Column, 0, "reduce columns")] {
                    let sums = read(piece, &piece.reduce(dim, over, values).expect("room"));
                    // Relative to the sum of magnitudes, which bounds what rounding can do.
                    let want_sums = want.sum_axis(Axis(axis)).insert_axis(Axis(axis));
                    let size = want.mapv(f64::abs).sum_axis(Axis(axis)).insert_axis(Axis(axis));
                    agree(
                        name,
                        &place,
                        (&sums / &size.mapv(|s| s as f32)).view(),
                        (&want_sums / &size).view(),
                    );
                }
                let total = piece.total(dim, values).expect("room");
                // The values are rounded to single precision; their sum is not.
                let rounded: f64 = read(piece, &got).iter().map(|value| f64::from(*value)).sum();
                let size: f64 = want.mapv(f64::abs).sum();
                let Agreement::Close { rel, .. } = OPERATIONS
                    .iter()
                    .find(|(name, _)| *name == "total")
                    .expect("declared")
                    .1
                else {
                    panic!("a sum cannot be exact");
                };
                assert!(
                    (total - rounded).abs() <= rel * size,
                    "{place}: total {total}, not {rounded}"
                );
            }
        });
    }
}

#[test]
fn totals_keep_what_single_precision_loses() {
    on_every_workbench((300, 24), StorageType::F32, |piece, _, _, place| {
        // A large value that cancels, among many small ones: single precision would keep none of them.
        let mut values = Array2::from_elem((300, 24), 1e-3f32);
        values[[3, 1]] = 1e7;
        values[[250, 20]] = -1e7;
        let want: f64 = f64::from(1e-3f32) * (300.0 * 24.0 - 2.0);
        let there = put(piece, &values);
        let total = piece.total((300, 24), &Values::over([&there], |[v]| v)).expect("room");
        assert!((total / want - 1.0).abs() < 1e-3, "{place}: {total}, not {want}");
    });
}

#[test]
fn products_and_quadratic_forms_agree() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, inputs, place| {
            let gram = piece.gram().expect("gathered");
            let x = wide(inputs);
            let want_gram = x.t().dot(&x) / 4.0;
            let got_gram = read(piece, &gram);
            agree("product", place, got_gram.view(), want_gram.view());
            assert_eq!(got_gram, got_gram.t(), "{place}: a Gram matrix is symmetric");
            let there = piece.weight().expect("room");
            let product = piece.product(&there, &gram).expect("fits");
            let want = wide(weight).dot(&want_gram);
            agree("product", place, read(piece, &product).view(), want.view());
            // tr(E G E^T).
            let form = piece
                .total(dim, &Values::over([&there, &product], |[e, eg]| e * eg))
                .expect("room");
            let want = (&wide(weight) * &want).sum();
            assert!((form / want - 1.0).abs() < 1e-5, "{place}: {form}, not {want}");
            let other = put(piece, &normal(&mut ChaCha8Rng::seed_from_u64(1), 13, dim.1));
            let want = wide(weight).dot(&wide(&read(piece, &other)).t());
            agree(
                "product",
                place,
                read(piece, &piece.product(&there, &other).expect("fits")).view(),
                want.view(),
            );
            let rough = piece.rough_product(&there, &other).expect("fits");
            agree("rough_product", place, read(piece, &rough).view(), want.view());
            let loud = put(piece, &read(piece, &other).mapv(|value| value * 3e7));
            let rough = piece.rough_product(&there, &loud).expect("fits");
            let want = want.mapv(|value| value * f64::from(3e7f32));
            agree("rough_product", place, read(piece, &rough).view(), want.view());
            for share in [1, 9, 1000] {
                let some = Array2::from_shape_fn(dim, |(row, column)| {
                    f32::from(u8::from((row * dim.1 + column) % share == 0)) * weight[[row, column]]
                });
                let product = piece.sparse_product(&put(piece, &some), &other).expect("fits");
                let want = wide(&some).dot(&wide(&read(piece, &other)).t());
                agree("sparse_product", place, read(piece, &product).view(), want.view());
            }
            let turned = piece.transpose(&other).expect("room");
            assert!(piece.sparse_product(&there, &turned).is_err(), "{place}");
            agree(
                "transpose",
                place,
                read(piece, &turned).view(),
                wide(&read(piece, &other)).t(),
            );
            assert!(
                piece.product(&there, &turned).is_err(),
                "{place}: 13 columns are not {}",
                dim.1
            );
        });
    }
}

#[test]
fn factors_solve() {
    // Wider than the panels in which triangular matrices are multiplied.
    for dim in SIZES.into_iter().chain([(9, 520)]) {
        on_every_workbench(dim, StorageType::F32, |piece, _, _, place| {
            let gram = piece.gram().expect("gathered");
            let host = wide(&read(piece, &gram));
            let damping = 0.1 * host.diag().mean().expect("not empty");
            let factor = piece.inverse_factor(&gram, damping).expect("positive definite");
            let upper = wide(&read(piece, &factor));
            // (G + damping I) U^T U = I.
            let damped = &host + &(Array2::<f64>::eye(dim.1) * damping);
            let identity = damped.dot(&upper.t()).dot(&upper).mapv(|value| value as f32);
            agree("inverse_factor", place, identity.view(), Array2::eye(dim.1).view());
            // X (G + damping I) = B.
            let b = piece.weight().expect("room");
            let solution = wide(&read(piece, &piece.solve(&factor, &b).expect("fits")));
            let want = wide(&read(piece, &b)).dot(&upper.t()).dot(&upper);
            agree("solve", place, solution.mapv(|value| value as f32).view(), want.view());
            let other = put(piece, &Array2::zeros((3, dim.1 + 4)));
            assert!(piece.solve(&factor, &other).is_err(), "{place}: other columns");
            // Every row has some unknowns; the first has all, the second none.
            let mut random = ChaCha8Rng::seed_from_u64(83);
            let free = Array2::from_shape_fn(dim, |(row, _)| match row {
                0 => 1.0,
                1 => 0.0,
                _ => f32::from(random.random::<bool>()),
            });
            let definite =
                (&host / host.diag().mean().expect("not empty") + Array2::<f64>::eye(dim.1)).mapv(|value| value as f32);
            let there = piece
                .solve_free(&put(piece, &definite), &put(piece, &free), &b)
                .expect("fits");
            if let Some(there) = &there {
                let solved = wide(&read(piece, there));
                assert!(
                    free.iter()
                        .zip(&solved)
                        .all(|(free, value)| *free != 0.0 || *value == 0.0),
                    "{place}"
                );
                let got = (solved.dot(&wide(&definite)) * &wide(&free)).mapv(|value| value as f32);
                agree(
                    "solve_free",
                    place,
                    got.view(),
                    (wide(&read(piece, &b)) * wide(&free)).view(),
                );
                assert!(piece.solve_free(&other, &b, &b).is_err(), "{place}: not square");
            }
            assert!(
                there.is_some() || place.starts_with("tier"),
                "{place}: the CPU solves directly"
            );
            let error = piece
                .inverse_factor(&gram, -2.0 * host.diag().sum())
                .expect_err("negative");
            assert!(error.to_string().contains("positive definite"), "{place}: {error}");
        });
    }
}

#[test]
fn entries_are_taken_to_their_places() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            let mut random = ChaCha8Rng::seed_from_u64(8);
            let there = piece.weight().expect("room");
            // A permutation of the columns, the same in every row.
            let mut order: Vec<usize> = (0..dim.1).collect();
            for last in (1..dim.1).rev() {
                order.swap(last, random.random_range(0..=last));
            }
            let one_row = Array2::from_shape_fn((1, dim.1), |(_, j)| order[j] as f32);
            let one_row = put(piece, &one_row);
            let got = piece.gather(&there, &one_row).expect("fits");
            let want = Array2::from_shape_fn(dim, |(i, j)| f64::from(weight[[i, order[j]]]));
            agree("gather", place, read(piece, &got).view(), want.view());
            let back = piece.scatter(&got, &one_row, dim.1).expect("fits");
            agree("scatter", place, read(piece, &back).view(), wide(weight).view());
            // Every other entry of a row, from another start in each, and one place that is left out.
            let count = dim.1 / 2;
            let places = Array2::from_shape_fn((dim.0, count), |(i, j)| match j {
                0 => -1.0,
                _ => (2 * j + i % 2) as f32,
            });
            let some = piece.gather(&there, &put(piece, &places)).expect("fits");
            let want = places.indexed_iter().map(|((i, _), place)| match *place {
                place if place < 0.0 => 0.0,
                place => f64::from(weight[[i, place as usize]]),
            });
            let want = Array2::from_shape_vec((dim.0, count), want.collect()).expect("fits");
            agree("gather", place, read(piece, &some).view(), want.view());
            let back = piece.scatter(&some, &put(piece, &places), dim.1).expect("fits");
            let want = Array2::from_shape_fn(dim, |(i, j)| {
                let taken = j >= 2 && (j - i % 2) % 2 == 0 && (j - i % 2) / 2 < count && j >= 2 + i % 2;
                if taken { f64::from(weight[[i, j]]) } else { 0.0 }
            });
            agree("scatter", place, read(piece, &back).view(), want.view());
            let wrong = put(piece, &Array2::zeros((2, dim.1)));
            assert!(piece.gather(&there, &wrong).is_err(), "{place}: places of two rows");
        });
    }
}

#[test]
fn places_that_are_no_columns_are_refused() {
    let dim = (37, 200);
    let with = |wrong: f32| {
        let mut places = Array2::from_shape_fn(dim, |(_, j)| j as f32);
        places[[5, 7]] = wrong;
        places
    };
    // On a GPU the call that copies results to the host says so.
    let says = ["at row 5, column 7 is neither", "entry 1007 of the places"];
    let right = |error: String| says.iter().any(|part| error.contains(part));
    for wrong in [200.0, 1e9, 3e38, f32::INFINITY, f32::NAN, 3.5, 199.5, -0.5] {
        on_every_workbench(dim, StorageType::F32, |piece, _, _, place| {
            let (there, places) = (piece.weight().expect("room"), put(piece, &with(wrong)));
            let got = piece.gather(&there, &places).and_then(|got| piece.read(&got));
            let error = got.expect_err(place).to_string();
            assert!(right(error.clone()), "{place}, {wrong}: {error}");
        });
        on_every_workbench(dim, StorageType::F32, |piece, _, _, place| {
            let (there, places) = (piece.weight().expect("room"), put(piece, &with(wrong)));
            let got = piece.scatter(&there, &places, dim.1).map(drop);
            // Nobody looks at the result, and the layer cannot be finished all the same.
            let error = got
                .and_then(|()| piece.finish().map(drop))
                .expect_err(place)
                .to_string();
            assert!(right(error.clone()), "{place}, {wrong}: {error}");
        });
    }
    on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
        let (there, places) = (piece.weight().expect("room"), put(piece, &with(f32::NEG_INFINITY)));
        let got = read(piece, &piece.gather(&there, &places).expect("fits"));
        assert_eq!((got[[5, 7]], got[[5, 8]]), (0.0, weight[[5, 8]]), "{place}");
        // As many columns as there are is not enough where the result has fewer.
        let got = piece.scatter(&there, &places, 199).and_then(|got| piece.read(&got));
        let error = got.expect_err(place).to_string();
        let says = ["place 199 at row 0, column 199", "entry 199 of the places"];
        assert!(says.iter().any(|part| error.contains(part)), "{place}: {error}");
    });
}

#[test]
fn masks_are_chosen_and_kept() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            let mut random = ChaCha8Rng::seed_from_u64(11);
            let scores = normal(&mut random, dim.0, dim.1).mapv(f32::abs);
            let there = put(piece, &scores);
            for group in [Group::Matrix, Group::Row, Group::ColumnBlock, Group::RowShare] {
                let target = Target {
                    pattern: Pattern::Unstructured { sparsity: 0.4 },
                    group,
                    selection: Selection::Exact,
                };
                let want = select(scores.view(), &target).expect("fits");
                let want = want.entries().mapv(|removed| if removed { 0.0 } else { 1.0 });
                let chosen = piece.choose(&Values::over([&there], |[s]| s), &target).expect("usable");
                agree("choose", place, read(piece, &chosen).view(), want.view());
                // The layer's own mask is not touched until it is told.
                let before = read(piece, &piece.kept().expect("room"));
                piece.keep(&chosen).expect("fits");
                let kept = piece.kept().expect("room");
                agree("choose", place, read(piece, &kept).view(), want.view());
                assert!(
                    group != Group::Matrix || before.iter().all(|kept| *kept == 1.0),
                    "{place}"
                );
                // A formula may read weight and mask.
                let both = Values::from(Formula::Leaf(Operand::Kept) * Formula::Leaf(Operand::Weight));
                let sparse = read(piece, &piece.map(dim, &both).expect("room"));
                agree("map", place, sparse.view(), (&want * &wide(weight)).view());
            }
            piece.remove().expect("computes");
            let finished = piece.finish().expect("computes");
            assert!(finished.fault.is_none(), "{place}");
            assert_eq!(finished.zeros, finished.mask.removed(), "{place}");
        });
    }
}

#[test]
fn weights_given_back_are_rounded_once() {
    for storage in [StorageType::F16, StorageType::BF16] {
        on_every_workbench((21, 77), storage, |piece, weight, _, place| {
            let there = put(piece, weight);
            let third = piece
                .map((21, 77), &Values::over([&there], |[w]| w / 3.0))
                .expect("room");
            piece.set_weight(&third).expect("fits");
            piece.finish().expect("computes");
            let got = read(piece, &piece.weight().expect("room"));
            for ((entry, got), weight) in got.indexed_iter().zip(weight) {
                let want = storage.round(weight / 3.0);
                assert!(
                    (got - want).abs() <= 1e-7 * want.abs(),
                    "{place}, {entry:?}: {got}, not {want}"
                );
            }
        });
    }
}

#[test]
fn what_is_not_a_number_comes_through_every_function() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            let positive = weight.mapv(|w| w.abs() + 0.1);
            let other = put(piece, &positive);
            for sign in [1.0, -1.0] {
                // NaN of either sign, given and as what a function makes of a negative number.
                let mut holes = positive.clone();
                let at = (dim.0 / 2, dim.1 - 3);
                holes[at] = f32::NAN.copysign(sign);
                holes[[0, 1]] = f32::NAN;
                let given = put(piece, &holes);
                let (mut below, mut zeros) = (positive.clone(), positive.clone());
                for hole in [at, (0, 1)] {
                    below[hole] = -0.5;
                    zeros[hole] = 0.0;
                }
                let (below, zero, other_zero) = (put(piece, &below), put(piece, &zeros), put(piece, &zeros));
                for (kind, values) in [
                    ("NaN", Values::over([&given, &other], |[a, _]| a)),
                    ("root", Values::over([&below, &other], |[a, _]| a.root())),
                    ("log", Values::over([&below, &other], |[a, _]| a.log().square())),
                    ("0 / 0", Values::over([&zero, &other, &other_zero], |[a, _, c]| a / c)),
                ] {
                    let x = || values.formula.clone();
                    let b = || Formula::Leaf(Operand::Matrix(1));
                    let cases = [
                        ("negate", -x()),
                        ("abs", x().abs()),
                        ("square", x().square()),
                        ("cube", x().cube()),
                        ("root", x().root()),
                        ("inverse", x().inverse()),
                        ("sign", x().sign()),
                        ("exp", x().exp()),
                        ("log", x().abs().log()),
                        ("add", b() + x()),
                        ("multiply", x() * b()),
                        ("divide", b() / x()),
                        ("minimum", x().minimum(b())),
                        ("minimum, second", b().minimum(x())),
                        ("minimum of a constant", x().minimum(0.5)),
                        ("maximum", x().maximum(b())),
                        ("maximum, second", b().maximum(x())),
                        ("maximum of a constant", x().maximum(0.0)),
                        ("power", x().power(b())),
                        ("power, second", b().power(x())),
                        ("power of 0", x().power(b() * 0.0)),
                        ("1 to the power", (b() * 0.0 + 1.0).power(x())),
                        ("below", x().below(b())),
                        ("below, second", b().below(x())),
                        ("below a constant", x().below(1.0)),
                        ("less itself", x() - x() + b()),
                        ("over itself", x() / x()),
                    ];
                    for (name, formula) in cases {
                        let values = Values {
                            formula,
                            ..values.clone()
                        };
                        let got = read(piece, &piece.map(dim, &values).expect("room"));
                        for (entry, got) in got.indexed_iter() {
                            let hole = entry == at || entry == (0, 1);
                            assert_eq!(got.is_nan(), hole, "{name} of {kind}, {place}, {entry:?}: {got}");
                        }
                    }
                }
                // The extremes of a row have it first, wherever it stands.
                let values = Values::over([&given], |[a]| a);
                let lowest = read(piece, &piece.lowest(dim, &values, 2).expect("room"));
                let [first, last] = piece.extremes(dim, &values, 2).expect("room");
                for (name, got) in [
                    ("lowest", lowest),
                    ("first", read(piece, &first)),
                    ("last", read(piece, &last)),
                ] {
                    assert_eq!(got[[at.0, 0]], at.1 as f32, "{name}, {place}");
                    assert_eq!(got[[0, 0]], 1.0, "{name}, {place}");
                }
                let scores = || Formula::Leaf(Quantity::Given(holes.to_shared().into()));
                for score in [least(scores()), greatest(scores()), greatest(-scores())] {
                    let text = score.to_string();
                    let resolved = resolve(&score, piece).expect("room");
                    let got = read(piece, &piece.map(dim, &resolved).expect("room"));
                    assert!(got.iter().all(|got| got.is_nan()), "{text}, {place}: {}", got[[0, 0]]);
                }
            }
        });
    }
}

#[test]
fn powers_have_the_signs_of_the_hosts() {
    let bases = [f32::NEG_INFINITY, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, f32::INFINITY];
    let exponents = [-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 7.0f32];
    let dim = (bases.len(), exponents.len());
    on_every_workbench(dim, StorageType::F32, |piece, _, _, place| {
        let base = put(piece, &Array2::from_shape_fn(dim, |(row, _)| bases[row]));
        let exponent = put(piece, &Array2::from_shape_fn(dim, |(_, column)| exponents[column]));
        let values = Values::over([&base, &exponent], |[base, exponent]| base.power(exponent));
        let got = read(piece, &piece.map(dim, &values).expect("room"));
        for ((row, column), got) in got.indexed_iter() {
            let want = bases[row].powf(exponents[column]);
            let same = got.is_nan() && want.is_nan() || *got == want || (got - want).abs() <= 1e-5 * want.abs();
            assert!(
                same,
                "{place}: {} ^ {} is {got}, not {want}",
                bases[row], exponents[column]
            );
        }
    });
}

#[test]
fn the_lowest_values_of_a_row_are_found_in_order() {
    for dim in SIZES {
        on_every_workbench(dim, StorageType::F32, |piece, weight, _, place| {
            // Values that tie, too, and values that only a formula has.
            let tied = weight.mapv(|w| (4.0 * w).round() / 4.0);
            let there = put(piece, &tied);
            let values = Values::over([&there], |[w]| w);
            // As many as there are columns take long in software; once is enough.
            for count in [1, 7, if dim.1 < 100 { dim.1 + 3 } else { 20 }] {
                let lowest = piece.lowest(dim, &values, count).expect("room");
                let [first, last] = piece.extremes(dim, &values, count).expect("room");
                for (name, got, sign) in [
                    ("lowest", lowest, 1.0),
                    ("extremes", first, 1.0),
                    ("extremes", last, -1.0),
                ] {
                    let mut want = Array2::zeros((dim.0, count.min(dim.1)));
                    for (row, mut want) in want.rows_mut().into_iter().enumerate() {
                        let mut order: Vec<usize> = (0..dim.1).collect();
                        let value = |column: usize| sign * f64::from(tied[[row, column]]);
                        order.sort_by(|a, b| value(*a).partial_cmp(&value(*b)).expect("numbers").then(a.cmp(b)));
                        want.iter_mut()
                            .zip(order)
                            .for_each(|(want, column)| *want = column as f64);
                    }
                    agree(
                        name,
                        &format!("{place}, {count} of {sign} w"),
                        read(piece, &got).view(),
                        want.view(),
                    );
                }
            }
        });
    }
}
