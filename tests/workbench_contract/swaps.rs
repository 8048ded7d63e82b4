//! Claim: `swap` finds the masks that a search of all pairs in `f64` finds, on the CPU exactly, on the GPU up to pairs that
//! single precision cannot tell apart.

use super::normal;
use super::vocabulary::{agree, on_every_workbench, put, read};
use ndarray::{Array2, Axis, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::prune::workbench::Swapping;
use zprune::tensor::StorageType;

/// `r G r^T` of the removed entries of each row.
fn forms(weight: &Array2<f32>, kept: &Array2<f32>, gram: &Array2<f32>) -> Array2<f64> {
    let removed = (weight * &kept.mapv(|kept| 1.0 - kept)).mapv(f64::from);
    let pulls = removed.dot(&gram.mapv(f64::from));
    (&removed * &pulls).sum_axis(Axis(1)).insert_axis(Axis(1))
}

/// The best swap of a row: what it changes, and the two columns.
fn best(weight: &[f32], kept: &[f32], gram: &Array2<f64>, width: usize) -> (f64, usize, usize) {
    let removed: Vec<f64> = weight
        .iter()
        .zip(kept)
        .map(|(w, kept)| f64::from(w * (1.0 - kept)))
        .collect();
    let pull = ndarray::ArrayView1::from(&removed).dot(gram);
    let w = |j: usize| f64::from(weight[j]);
    let mut best = (0.0, 0, 0);
    for out in (0..weight.len()).filter(|j| kept[*j] == 1.0) {
        let first = out / width * width;
        for back in (first..weight.len().min(first + width)).filter(|j| kept[*j] == 0.0) {
            let change = 2.0 * w(out) * pull[out] + w(out).powi(2) * gram[[out, out]] - 2.0 * w(back) * pull[back]
                + w(back).powi(2) * gram[[back, back]]
                - 2.0 * w(out) * w(back) * gram[[out, back]];
            if change < best.0 {
                best = (change, out, back);
            }
        }
    }
    best
}

/// Masks and numbers of swaps by a search of all pairs.
fn searched(weight: &Array2<f32>, kept: &Array2<f32>, gram: &Array2<f32>, within: Swapping) -> (Array2<f32>, Vec<u32>) {
    let (mut kept, gram) = (kept.clone(), gram.mapv(f64::from));
    let mut swaps = vec![0; weight.nrows()];
    for (row, swaps) in swaps.iter_mut().enumerate() {
        let weight = weight.row(row).to_vec();
        let size: f64 = weight
            .iter()
            .zip(gram.diag())
            .map(|(w, g)| f64::from(*w).powi(2) * g)
            .sum();
        while (*swaps as usize) < within.most {
            let (change, out, back) = best(&weight, &kept.row(row).to_vec(), &gram, within.width);
            if change >= -1e-12 * size {
                break;
            }
            (kept[[row, out]], kept[[row, back]]) = (0.0, 1.0);
            *swaps += 1;
        }
    }
    (kept, swaps)
}

/// Inputs that have much in common, one that is loud and one that is never active.
fn gram(random: &mut ChaCha8Rng, columns: usize, common: f32) -> Array2<f32> {
    let tokens = 2 * columns;
    let mut x = normal(random, tokens, columns);
    let shared = normal(random, tokens, 1);
    for mut column in x.columns_mut() {
        column.scaled_add(common * random.random_range(0.5..1.5), &shared.column(0));
    }
    x.column_mut(columns / 3).mapv_inplace(|x| 9.0 * x);
    x.column_mut(columns / 2).fill(0.0);
    let x = x.mapv(f64::from);
    (x.t().dot(&x) / 4.0).mapv(|g| g as f32)
}

fn check((rows, columns): (usize, usize), common: f32, widths: &[usize], most: &[usize]) {
    on_every_workbench((rows, columns), StorageType::F32, |piece, weight, _, place| {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let gram = gram(&mut random, columns, common);
        let there = piece.weight().expect("room");
        for width in widths {
            // Half of every group, and in every row another one.
            let start = Array2::from_shape_fn((rows, columns), |(i, j)| f32::from(u8::from((i + j) % 2 == 0)));
            for most in most {
                let within = Swapping {
                    width: *width,
                    most: *most,
                };
                let place = format!("{place}, {within:?}, {common} in common");
                let (want, want_swaps) = searched(weight, &start, &gram, within);
                assert!(want_swaps.iter().sum::<u32>() > 0, "{place}: nothing to swap");
                let swapped = piece.swap(&there, &put(piece, &start), &put(piece, &gram), within);
                let swapped = swapped.expect("room");
                let got = read(piece, &swapped.kept);
                let forms = |kept| forms(weight, kept, &gram);
                agree(
                    "swap",
                    &place,
                    forms(&got).mapv(|form| form as f32).view(),
                    forms(&want).view(),
                );
                for (after, before) in forms(&got).iter().zip(&forms(&start)) {
                    assert!(*after <= before * (1.0 + 1e-6), "{place}: {after}, before {before}");
                }
                for first in (0..columns).step_by(*width) {
                    let group = s![.., first..columns.min(first + width)];
                    let count = |kept: &Array2<f32>| kept.slice(group).sum_axis(Axis(1));
                    assert_eq!(count(&got), count(&start), "{place}: the group from column {first}");
                }
                if place.starts_with("CPU") {
                    assert_eq!(got, want, "{place}");
                    assert_eq!(swapped.swaps, want_swaps, "{place}");
                }
                let differ = got.iter().zip(&want).filter(|(got, want)| got != want).count();
                assert!(
                    differ * 200 <= got.len(),
                    "{place}: {differ} of {} places differ",
                    got.len()
                );
                for (row, swaps) in swapped.swaps.iter().enumerate() {
                    assert!(*swaps as usize <= *most, "{place}");
                    if (*swaps as usize) < *most {
                        let wide = gram.mapv(f64::from);
                        let (left, ..) = best(&weight.row(row).to_vec(), &got.row(row).to_vec(), &wide, *width);
                        let form = forms(&got)[[row, 0]];
                        assert!(
                            left >= -2e-5 * form,
                            "{place}, row {row}: a swap changes {form} by {left}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn swaps_are_the_best_of_all_pairs() {
    check((7, 200), 0.3, &[200, 128, 4, 5], &[usize::MAX, 3]);
    check((30, 24), 0.5, &[24, 3], &[usize::MAX]);
    check((9, 77), 0.0, &[77, 70], &[usize::MAX]);
}

#[test]
fn swaps_are_found_where_bounds_say_little() {
    // Every input is nearly the same, so that most pairs have to be looked at.
    check((2, 1100), 3.0, &[1100], &[12]);
    check((2, 700), 3.0, &[300], &[6]);
}

#[test]
fn matrices_that_do_not_fit_are_not_swapped() {
    on_every_workbench((21, 77), StorageType::F32, |piece, weight, _, place| {
        let there = put(piece, weight);
        let within = Swapping { width: 77, most: 1 };
        for (kept, gram) in [((21, 76), (77, 77)), ((21, 77), (77, 76)), ((21, 77), (76, 76))] {
            let [kept, gram] = [kept, gram].map(|dim| put(piece, &Array2::zeros(dim)));
            assert!(piece.swap(&there, &kept, &gram, within).is_err(), "{place}");
        }
    });
}
