//! Where the tokens of sequences go that share their beginnings, such as a question with each of its answers.
//!
//! A token that several sequences of a group begin with is computed once, and there is no padding: linear
//! layers, norms and activations see every distinct token of a batch exactly once ([`Layout`]). Only
//! attention needs whole sequences of one length; queries, keys and values are copied into place for it
//! and its outputs are collected again. Attention is causal, so neither the padding behind a sequence nor
//! the continuation of another one changes what a token sees: the results are those of every sequence alone.

/// Where each token of a batch occurs, if sequences with the same beginning share tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Ids of the distinct tokens, group by group.
    pub(super) ids: Vec<u32>,
    /// The position of each distinct token in its sequences.
    pub(super) positions: Vec<u32>,
    /// For each sequence and each position below `length`, the index of the distinct token there; attention works on
    /// these sequences.
    spread: Vec<u32>,
    /// For each distinct token, one index in `spread` where it occurs.
    gather: Vec<u32>,
    /// Number of tokens of the longest sequence.
    length: usize,
}

impl Layout {
    /// Lays out groups of sequences; sequences share tokens with others of their group only. Also returns,
    /// per group and sequence, the distinct token at every position.
    ///
    /// # Panics
    /// A sequence is empty: a mistake of the caller.
    pub fn new(groups: &[Vec<&[u32]>]) -> (Layout, Vec<Vec<Vec<u32>>>) {
        let mut layout = Layout {
            length: groups
                .iter()
                .flatten()
                .map(|sequence| sequence.len())
                .max()
                .unwrap_or(0),
            ..Layout::default()
        };
        let mut paths = Vec::with_capacity(groups.len());
        for group in groups {
            // The longest first: whatever is the beginning of another sequence then needs nothing of its own.
            let mut order: Vec<usize> = (0..group.len()).collect();
            order.sort_by_key(|index| std::cmp::Reverse(group[*index].len()));
            let mut known: Vec<Vec<u32>> = vec![Vec::new(); group.len()];
            for (rank, index) in order.iter().enumerate() {
                let sequence = group[*index];
                assert!(!sequence.is_empty(), "a sequence has at least one token");
                let shared = order[..rank]
                    .iter()
                    .map(|earlier| (common(group[*earlier], sequence), *earlier))
                    .max_by_key(|(shared, _)| *shared);
                let mut path = match shared {
                    Some((shared, earlier)) => known[earlier][..shared].to_vec(),
                    None => Vec::new(),
                };
                if path.len() < sequence.len() {
                    layout.append(sequence, &mut path);
                }
                known[*index] = path;
            }
            paths.push(known);
        }
        (layout, paths)
    }

    /// Adds a sequence; its first tokens are there already, with the indices in `path`.
    fn append(&mut self, sequence: &[u32], path: &mut Vec<u32>) {
        let place = self.spread.len();
        for (position, id) in sequence.iter().enumerate().skip(path.len()) {
            path.push(self.ids.len() as u32);
            self.ids.push(*id);
            self.positions.push(position as u32);
            self.gather.push((place + position) as u32);
        }
        self.spread.extend(path.iter());
        // Behind the sequence stands its last token again; nobody reads what attention makes of it.
        let last = path[path.len() - 1];
        self.spread.resize(place + self.length, last);
    }

    /// Number of distinct tokens in the layout.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// For each place that attention sees, the index of the distinct token there.
    pub(super) fn spread(&self) -> &[u32] {
        &self.spread
    }

    /// For each distinct token, the index of one place that attention sees.
    pub(super) fn gather(&self) -> &[u32] {
        &self.gather
    }

    /// Number of tokens per sequence that attention sees.
    pub(super) fn length(&self) -> usize {
        self.length
    }
}

/// The number of tokens at the beginning that two sequences have in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_beginnings_are_computed_once() {
        let answers: Vec<&[u32]> = vec![&[5, 6, 7], &[5, 6], &[5, 6, 8, 9]];
        let (layout, paths) = Layout::new(&[answers, vec![&[5]]]);
        assert_eq!(layout.ids, [5, 6, 8, 9, 7, 5], "groups share nothing with each other");
        assert_eq!(layout.positions, [0, 1, 2, 3, 2, 0]);
        assert_eq!(
            paths,
            [vec![vec![0, 1, 4], vec![0, 1], vec![0, 1, 2, 3]], vec![vec![5]]]
        );
        assert_eq!(
            layout.spread,
            [0, 1, 2, 3, 0, 1, 4, 4, 5, 5, 5, 5],
            "[5, 6] needs no row of its own"
        );
        for (token, place) in layout.gather.iter().enumerate() {
            assert_eq!(layout.spread[*place as usize] as usize, token);
        }
    }
}
