//! The linear assignment problem: which candidate does each group get, so that the profits are largest in sum?

use ndarray::ArrayView2;

/// The candidate of each group, for a square matrix of finite profits with a row per group and a column per candidate.
/// Exact, by shortest augmenting paths (Jonker and Volgenant, 1987): at most the cube of the number of groups in steps.
pub fn best(profits: ArrayView2<f64>) -> Vec<usize> {
    let count = profits.nrows();
    // What a group and a candidate pay together is at most their cost, and exactly that if the one has the other.
    let mut of_group = vec![0.0; count];
    let mut of_candidate: Vec<f64> = vec![0.0; count];
    let mut taken_by: Vec<Option<usize>> = vec![None; count];
    for newcomer in 0..count {
        // The shortest paths from the new group to all candidates; a candidate that is taken leads on to its group.
        let mut distance = vec![f64::INFINITY; count];
        let mut before: Vec<Option<usize>> = vec![None; count];
        let mut done: Vec<usize> = Vec::with_capacity(count);
        let mut open: Vec<usize> = (0..count).collect();
        let (mut group, mut walked, mut from) = (newcomer, 0.0, None);
        let free = loop {
            let costs = profits.row(group);
            let mut nearest = 0;
            for (place, candidate) in open.iter().enumerate() {
                let reached = walked - costs[*candidate] - of_group[group] - of_candidate[*candidate];
                if reached < distance[*candidate] {
                    distance[*candidate] = reached;
                    before[*candidate] = from;
                }
                if distance[*candidate] < distance[open[nearest]] {
                    nearest = place;
                }
            }
            let candidate = open.swap_remove(nearest);
            walked = distance[candidate];
            done.push(candidate);
            match taken_by[candidate] {
                Some(taker) => (group, from) = (taker, Some(candidate)),
                None => break candidate,
            }
        };
        of_group[newcomer] += walked;
        for candidate in &done {
            if let Some(taker) = taken_by[*candidate] {
                of_group[taker] += walked - distance[*candidate];
            }
            of_candidate[*candidate] -= walked - distance[*candidate];
        }
        // Everybody on the path moves on by one candidate.
        let mut candidate = free;
        while let Some(previous) = before[candidate] {
            taken_by[candidate] = taken_by[previous];
            candidate = previous;
        }
        taken_by[candidate] = Some(newcomer);
    }
    let mut given = vec![0; count];
    for (candidate, taker) in taken_by.into_iter().enumerate() {
        given[taker.expect("as many candidates as groups")] = candidate;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The largest sum of profits, by trying everything.
    fn largest(profits: &Array2<f64>, group: usize, taken: &mut Vec<usize>) -> f64 {
        let count = profits.nrows();
        if group == count {
            return 0.0;
        }
        let mut found = f64::NEG_INFINITY;
        for candidate in 0..count {
            if !taken.contains(&candidate) {
                taken.push(candidate);
                found = found.max(profits[[group, candidate]] + largest(profits, group + 1, taken));
                taken.pop();
            }
        }
        found
    }

    #[test]
    fn no_other_assignment_has_a_larger_sum() {
        let mut random = ChaCha8Rng::seed_from_u64(8);
        for case in 0..200 {
            let count = 1 + case % 7;
            // Every other case has many ties.
            let profits = Array2::from_shape_fn((count, count), |_| match case % 2 {
                0 => random.random::<f64>() * 10.0 - 5.0,
                _ => f64::from(random.random_range(0..3)),
            });
            let given = best(profits.view());
            let mut sorted = given.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..count), "{given:?}");
            let sum: f64 = given
                .iter()
                .enumerate()
                .map(|(group, candidate)| profits[[group, *candidate]])
                .sum();
            let want = largest(&profits, 0, &mut Vec::new());
            assert!((sum - want).abs() < 1e-9, "case {case}: {sum}, not {want}");
        }
    }

    #[test]
    fn a_large_case_is_sorted_alike() {
        // With profits a_i b_j the best assignment sorts both alike.
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut values = || -> Vec<f64> { (0..300).map(|_| random.random()).collect() };
        let (a, b) = (values(), values());
        let profits = Array2::from_shape_fn((300, 300), |(i, j)| a[i] * b[j]);
        let given = best(profits.view());
        let sum: f64 = given.iter().enumerate().map(|(i, j)| profits[[i, *j]]).sum();
        let sorted = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let want: f64 = sorted(a).iter().zip(sorted(b)).map(|(a, b)| a * b).sum();
        assert!((sum - want).abs() < 1e-9, "{sum}, not {want}");
    }
}
