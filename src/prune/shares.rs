//! Shares: which fraction of its weights each layer loses, so that all layers together lose what was asked.
//!
//! An allocator says what it wants ([`Allocator`](crate::prune::allocator::Allocator)). [`levelled`] moves that into what is possible
//! with the right mean, and [`patterns`] rounds it to whole weights, again with the right mean.

use super::pattern::{COLUMN_BLOCK, Group, Pattern, removed, sparsity_of};
use crate::error::{Error, Result};

/// The largest share of a layer's weights that an allocator may remove, unless the whole model loses more.
pub const MOST: f64 = 0.99;

/// How shares are changed until their mean is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levelling {
    /// The same number is added to all.
    Shift,
    /// All are multiplied by the same number.
    Scale,
}

/// Shares between 0 and [`MOST`] whose mean, each counted as often as the layer has weights, is `mean`: all wanted shares are
/// shifted or scaled alike, and those that would leave the range stay at its end while the others make up for them.
///
/// # Errors
/// There is not one finite share for each layer, or shares that are all 0 are to be scaled.
pub fn levelled(wanted: &[f64], weights: &[usize], mean: f64, by: Levelling) -> Result<Vec<f64>> {
    if wanted.len() != weights.len() {
        let (got, want) = (wanted.len(), weights.len());
        return Err(Error::numeric(format!("{got} shares for {want} layers")));
    }
    if let Some(share) = wanted.iter().find(|share| !share.is_finite()) {
        return Err(Error::numeric(format!("the share of a layer is {share}")));
    }
    let most = MOST.max(mean);
    let all: f64 = weights.iter().map(|count| *count as f64).sum();
    let moved = |by_how_much: f64| {
        wanted.iter().map(move |share| match by {
            Levelling::Shift => (share + by_how_much).clamp(0.0, most),
            Levelling::Scale => (share.max(0.0) * by_how_much).clamp(0.0, most),
        })
    };
    let mean_of = |by_how_much: f64| {
        let parts = moved(by_how_much).zip(weights);
        parts.map(|(share, count)| share * *count as f64).sum::<f64>() / all
    };
    let (least, largest) = extent(wanted);
    // Between these, the mean grows from 0 to the most.
    let (mut low, mut high) = match by {
        Levelling::Shift => (-largest, most - least),
        Levelling::Scale => {
            let smallest = wanted
                .iter()
                .copied()
                .filter(|share| *share > 0.0)
                .fold(f64::INFINITY, f64::min);
            (0.0, most / smallest)
        }
    };
    if mean_of(high) < mean * (1.0 - 1e-12) {
        return Err(Error::numeric(format!(
            "the shares of the layers cannot be scaled to a mean of {mean}: too many are 0"
        )));
    }
    // Doubles have no more digits than this halves.
    for _ in 0..128 {
        let middle = 0.5 * (low + high);
        match mean_of(middle) < mean {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(moved(high).collect())
}

/// Shares that fall as a layer's importance grows: the most important layer loses `2 width` less than the least important one,
/// and those between in proportion. Only the differences mean something; [`levelled`] gives them their mean.
pub fn falling(importance: &[f64], width: f64) -> Vec<f64> {
    let (least, most) = extent(importance);
    let of = |value: &f64| match most > least {
        true => -2.0 * width * (value - least) / (most - least),
        false => 0.0,
    };
    importance.iter().map(of).collect()
}

/// The smallest and the largest of some values.
pub fn extent(values: &[f64]) -> (f64, f64) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    values
        .iter()
        .fold(none, |(low, high), value| (low.min(*value), high.max(*value)))
}

/// The pattern of each layer, given its outputs and inputs and its share: as close to the shares as whole weights allow, and
/// together as close to the whole's sparsity as they allow. Where all shares are equal, each layer has the pattern of the whole.
///
/// Under an N:M pattern, layers keep different numbers of every `M` weights.
///
/// # Panics
/// There is not one share for each layer.
pub fn patterns(dims: &[[usize; 2]], shares: &[f64], whole: Pattern, group: Group) -> Vec<Pattern> {
    assert_eq!(dims.len(), shares.len(), "one share for each layer");
    let (least, most) = extent(shares);
    if most - least <= 1e-12 {
        return vec![whole; dims.len()];
    }
    let mut layers: Vec<Counted> = dims
        .iter()
        .zip(shares)
        .map(|(dim, share)| Counted::new(*dim, *share, whole, group))
        .collect();
    let weights: f64 = dims.iter().map(|[rows, columns]| (rows * columns) as f64).sum();
    let count = |layers: &[Counted]| layers.iter().map(|layer| layer.removed(layer.level)).sum::<usize>() as f64;
    let mut missing = weights * whole.sparsity() - count(&layers);
    // All were rounded down; those that lost most by it are first to be rounded up.
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by(|a, b| layers[*b].lost().total_cmp(&layers[*a].lost()));
    for index in order {
        if let Some(step) = layers[index].step(1)
            && (missing - step).abs() < missing.abs()
        {
            layers[index].level += 1;
            missing -= step;
        }
    }
    while let Some(moves) = closest_moves(&layers, missing) {
        for (index, direction) in moves {
            missing -= layers[index].step(direction).unwrap_or(0.0);
            layers[index].level = layers[index].level.saturating_add_signed(direction);
        }
    }
    layers.iter().map(|layer| layer.pattern(layer.level)).collect()
}

/// A step of one level up or down of a layer.
#[derive(Clone, Copy)]
struct Move {
    layer: usize,
    direction: isize,
    /// How many weights more go.
    step: f64,
    /// How much farther from the wanted share it leads.
    cost: f64,
}

/// The most layers that take a step together.
const TOGETHER: usize = 4;

/// The most single steps whose combinations of more than two are tried.
const COMBINED: usize = 24;

/// Steps of one or two layers that together bring the count closest to what is wanted, and of those the ones that stay closest to
/// the shares. If none brings it closer, steps of more layers; empty moves are never returned.
fn closest_moves(layers: &[Counted], missing: f64) -> Option<Vec<(usize, isize)>> {
    let pairs = closest_of(&single_moves(layers, 1), 2, missing);
    pairs.or_else(|| {
        let moves = single_moves(layers, TOGETHER);
        (missing != 0.0 && moves.len() <= COMBINED).then(|| closest_of(&moves, TOGETHER, missing))?
    })
}

/// All steps that a layer can take. Of the layers whose steps are equally large, only the `alike` that lose least by it matter.
fn single_moves(layers: &[Counted], alike: usize) -> Vec<Move> {
    let mut found: Vec<Vec<Move>> = Vec::new();
    for (layer, counted) in layers.iter().enumerate() {
        for direction in [1, -1] {
            let Some(step) = counted.step(direction) else { continue };
            let cost = counted.cost(direction);
            let it = Move {
                layer,
                direction,
                step,
                cost,
            };
            match found.iter_mut().find(|known| known[0].step == step) {
                Some(known) => {
                    let place = known.partition_point(|other| other.cost <= cost);
                    known.insert(place, it);
                    known.truncate(alike);
                }
                None => found.push(vec![it]),
            }
        }
    }
    found.into_iter().flatten().collect()
}

/// Of up to `most` of the moves, each of another layer, those that bring the count closest to what is missing.
fn closest_of(moves: &[Move], most: usize, missing: f64) -> Option<Vec<(usize, isize)>> {
    let mut best = Combination {
        left: missing.abs(),
        cost: f64::INFINITY,
        moves: Vec::new(),
    };
    let mut chosen = Vec::with_capacity(most);
    try_combinations(moves, most, missing, 0.0, &mut chosen, &mut best);
    (best.left < missing.abs()).then(|| best.moves.iter().map(|it| (it.layer, it.direction)).collect())
}

/// The best moves found so far: how much is missing after them, and how much farther from the wanted shares they lead.
struct Combination {
    left: f64,
    cost: f64,
    moves: Vec<Move>,
}

fn try_combinations(
    moves: &[Move],
    most: usize,
    missing: f64,
    cost: f64,
    chosen: &mut Vec<Move>,
    best: &mut Combination,
) {
    if most == 0 {
        return;
    }
    for (place, it) in moves.iter().enumerate() {
        if chosen.iter().any(|other| other.layer == it.layer) {
            continue;
        }
        let (left, cost) = (missing - it.step, cost + it.cost);
        chosen.push(*it);
        if (left.abs(), cost) < (best.left, best.cost) {
            *best = Combination {
                left: left.abs(),
                cost,
                moves: chosen.clone(),
            };
        }
        try_combinations(&moves[place + 1..], most - 1, left, cost, chosen, best);
        chosen.pop();
    }
}

/// A layer whose share is a whole number of weights of every comparison group: of `size`, `level` go.
struct Counted {
    /// Sizes of the comparison groups, and how many there are of each; the first is the usual one.
    groups: Vec<(usize, usize)>,
    /// Whether the groups are those of an N:M pattern.
    structured: bool,
    wanted: f64,
    level: usize,
    most: usize,
}

impl Counted {
    fn new([rows, columns]: [usize; 2], share: f64, whole: Pattern, group: Group) -> Self {
        let (groups, structured) = match (whole, group) {
            (Pattern::NofM { of, .. }, _) => (vec![(of, rows * columns / of)], true),
            (_, Group::Row) => (vec![(columns, rows)], false),
            (_, Group::Matrix | Group::RowShare) => (vec![(rows * columns, 1)], false),
            (_, Group::ColumnBlock) => {
                let (full, rest) = (columns / COLUMN_BLOCK, columns % COLUMN_BLOCK);
                let blocks = [(rows * COLUMN_BLOCK, full), (rows * rest, usize::from(rest > 0))];
                (blocks.into_iter().filter(|(_, count)| *count > 0).collect(), false)
            }
        };
        let size = groups.first().map_or(0, |(size, _)| *size);
        let wanted = share * size as f64;
        let most = match structured {
            true => size.saturating_sub(1),
            false => removed(size, MOST.max(whole.sparsity())),
        };
        Counted {
            groups,
            structured,
            wanted,
            // A share that was a whole number is one again.
            level: ((wanted + 1e-6) as usize).min(most),
            most,
        }
    }

    fn size(&self) -> usize {
        self.groups.first().map_or(0, |(size, _)| *size)
    }

    /// The pattern that removes `level` of every usual group.
    fn pattern(&self, level: usize) -> Pattern {
        if self.structured && level > 0 {
            let of = self.size();
            return Pattern::NofM { keep: of - level, of };
        }
        Pattern::Unstructured {
            sparsity: sparsity_of(level, self.size()),
        }
    }

    /// Number of weights of the layer that go at a level.
    fn removed(&self, level: usize) -> usize {
        let sparsity = match self.pattern(level) {
            Pattern::Unstructured { sparsity } => sparsity,
            Pattern::NofM { .. } => return level * self.groups[0].1,
        };
        self.groups
            .iter()
            .map(|(size, count)| count * removed(*size, sparsity))
            .sum()
    }

    /// What rounding took from the share, in levels.
    fn lost(&self) -> f64 {
        self.wanted - self.level as f64
    }

    /// How many weights more go after a step up or down; `None` at the end of the range.
    fn step(&self, direction: isize) -> Option<f64> {
        let level = self
            .level
            .checked_add_signed(direction)
            .filter(|level| *level <= self.most)?;
        Some(self.removed(level) as f64 - self.removed(self.level) as f64)
    }

    /// How much farther from the wanted share a step leads, as a fraction of the layer.
    fn cost(&self, direction: isize) -> f64 {
        let after = self.lost() - direction as f64;
        (after.abs() - self.lost().abs()) / self.size().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(shares: &[f64], weights: &[usize]) -> f64 {
        let all: usize = weights.iter().sum();
        let parts = shares.iter().zip(weights);
        parts.map(|(share, count)| share * *count as f64).sum::<f64>() / all as f64
    }

    #[test]
    fn shares_are_moved_to_their_mean_and_stay_in_range() {
        let weights = [10, 20, 70];
        for by in [Levelling::Shift, Levelling::Scale] {
            for goal in [0.01, 0.3, 0.7, 0.95] {
                let found = levelled(&[0.2, 0.9, 0.5], &weights, goal, by).expect("possible");
                assert!(
                    (mean(&found, &weights) - goal).abs() < 1e-12,
                    "{by:?} {goal}: {found:?}"
                );
                assert!(found.iter().all(|share| (0.0..=MOST).contains(share)), "{found:?}");
                assert!(found[0] <= found[2] && found[2] <= found[1], "{found:?}");
            }
        }
        let shifted = levelled(&[-3.0, -3.1], &[1, 1], 0.5, Levelling::Shift).expect("possible");
        assert!((shifted[0] - 0.55).abs() < 1e-12 && (shifted[1] - 0.45).abs() < 1e-12);
        let scaled = levelled(&[1.0, 2.0, 3.0], &[1, 1, 1], 0.8, Levelling::Scale).expect("possible");
        // The largest stays at the end of the range, the others make up for it.
        let off = scaled
            .iter()
            .zip([0.47, 0.94, MOST])
            .map(|(got, want)| (got - want).abs());
        assert!(off.fold(0.0, f64::max) < 1e-12, "{scaled:?}");
        assert!(levelled(&[0.0, 0.0], &[1, 1], 0.5, Levelling::Scale).is_err());
        assert!(levelled(&[f64::NAN, 0.0], &[1, 1], 0.5, Levelling::Shift).is_err());
        assert!(levelled(&[0.5], &[1, 1], 0.5, Levelling::Shift).is_err());
    }

    const DIMS: [[usize; 2]; 7] = [
        [256, 256],
        [128, 256],
        [128, 256],
        [256, 256],
        [768, 256],
        [768, 256],
        [256, 768],
    ];

    fn counted(pattern: Pattern, dim: [usize; 2], group: Group) -> usize {
        let [rows, columns] = dim;
        match pattern {
            Pattern::NofM { keep, of } => rows * columns / of * (of - keep),
            Pattern::Unstructured { sparsity } => match group {
                Group::Row => rows * removed(columns, sparsity),
                Group::Matrix | Group::RowShare => removed(rows * columns, sparsity),
                Group::ColumnBlock => (0..columns)
                    .step_by(COLUMN_BLOCK)
                    .map(|first| removed(rows * COLUMN_BLOCK.min(columns - first), sparsity))
                    .sum(),
            },
        }
    }

    #[test]
    fn whole_weights_add_up_to_the_whole_and_a_second_time_to_the_same() {
        let dims: Vec<[usize; 2]> = (0..5).flat_map(|_| DIMS).collect();
        let weights: Vec<usize> = dims.iter().map(|[rows, columns]| rows * columns).collect();
        let all: usize = weights.iter().sum();
        let wanted: Vec<f64> = (0..dims.len())
            .map(|index| 0.3 * ((index * 7919 % 101) as f64 / 101.0))
            .collect();
        for goal in [0.5, 0.7, 0.123456] {
            let whole = Pattern::Unstructured { sparsity: goal };
            for (group, off) in [(Group::Row, 64.0), (Group::Matrix, 0.5), (Group::ColumnBlock, 3.0)] {
                let shares = levelled(&wanted, &weights, goal, Levelling::Shift).expect("possible");
                let found = patterns(&dims, &shares, whole, group);
                let count = |found: &[Pattern]| -> usize {
                    found
                        .iter()
                        .zip(&dims)
                        .map(|(pattern, dim)| counted(*pattern, *dim, group))
                        .sum()
                };
                let error = count(&found) as f64 - goal * all as f64;
                assert!(error.abs() <= off, "{group} {goal}: {error} weights");
                for (pattern, share) in found.iter().zip(&shares) {
                    assert!(
                        (pattern.sparsity() - share).abs() < 2.5 / 256.0,
                        "{pattern} for {share}"
                    );
                }
                let again: Vec<f64> = found.iter().map(Pattern::sparsity).collect();
                let again = levelled(&again, &weights, goal, Levelling::Shift).expect("possible");
                let again = patterns(&dims, &again, whole, group);
                assert_eq!(count(&again), count(&found));
                let same = again.iter().zip(&found).zip(&dims);
                let same = same.filter(|((a, b), dim)| counted(**a, **dim, group) == counted(**b, **dim, group));
                assert_eq!(same.count(), dims.len(), "{group} {goal}");
            }
        }
    }

    #[test]
    fn groups_of_m_weights_are_mixed_to_the_exact_mean() {
        let dims: Vec<[usize; 2]> = (0..5).flat_map(|_| DIMS).collect();
        let weights: Vec<usize> = dims.iter().map(|[rows, columns]| rows * columns).collect();
        let wanted: Vec<f64> = (0..dims.len()).map(|index| 0.1 * (index / 7) as f64).collect();
        let shares = levelled(&wanted, &weights, 0.5, Levelling::Shift).expect("possible");
        for of in [4, 8, 16] {
            let whole = Pattern::NofM { keep: of / 2, of };
            let found = patterns(&dims, &shares, whole, Group::Row);
            let count: usize = found
                .iter()
                .zip(&dims)
                .map(|(it, dim)| counted(*it, *dim, Group::Row))
                .sum();
            assert_eq!(2 * count, weights.iter().sum::<usize>(), "{of}");
            assert!(found.iter().any(|pattern| *pattern != whole), "{of}");
            assert!(
                found.iter().all(|pattern| matches!(pattern, Pattern::NofM { .. })),
                "{of}"
            );
        }
        // A layer that loses nothing has no groups.
        let found = patterns(
            &[[8, 8]; 3],
            &[0.0, 0.75, 0.75],
            Pattern::NofM { keep: 2, of: 4 },
            Group::Row,
        );
        let quarter = Pattern::NofM { keep: 1, of: 4 };
        assert_eq!(found, [Pattern::Unstructured { sparsity: 0.0 }, quarter, quarter]);
    }

    #[test]
    fn groups_add_up_whatever_the_shares() {
        // Wide layers have no steps small enough for what is missing; several narrow ones must move together.
        let dims = [
            [576, 576],
            [192, 576],
            [192, 576],
            [576, 576],
            [1536, 576],
            [1536, 576],
            [576, 1536],
        ];
        let weights: Vec<usize> = dims.iter().map(|[rows, columns]| rows * columns).collect();
        let all: usize = weights.iter().sum();
        for seed in 0..200 {
            let wanted: Vec<f64> = (0..dims.len())
                .map(|index| ((index * 37 + seed * 101) * 7919 % 997) as f64 / 997.0)
                .collect();
            for of in [4, 8] {
                let whole = Pattern::NofM { keep: of / 2, of };
                let shares = levelled(&wanted, &weights, 0.5, Levelling::Shift).expect("possible");
                let found = patterns(&dims, &shares, whole, Group::Row);
                let count: usize = found
                    .iter()
                    .zip(&dims)
                    .map(|(it, dim)| counted(*it, *dim, Group::Row))
                    .sum();
                assert_eq!(2 * count, all, "{wanted:?}, {of}: {found:?}");
            }
        }
    }

    #[test]
    fn equal_shares_are_the_whole_pattern() {
        let whole = Pattern::Unstructured { sparsity: 0.7 };
        assert_eq!(patterns(&DIMS, &[0.7; 7], whole, Group::Row), [whole; 7]);
    }
}
