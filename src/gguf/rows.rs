//! The order in which llama.cpp keeps the rows of a LLaMA's queries and keys: the rotary pairs of a head are side by side there, while
//! Hugging Face has their first halves before their second.

/// Where llama.cpp keeps row `row` of a query or key projection whose heads are `head` rows long: rows `i`
/// and `i + head / 2` of a head are rows `2 i` and `2 i + 1` there.
pub(super) fn paired_row(row: usize, head: usize) -> usize {
    let (start, inside) = (row / head * head, row % head);
    let half = head / 2;
    start + 2 * (inside % half) + inside / half
}

/// The row that llama.cpp keeps as its row `row`: the inverse of [`paired_row`].
pub(super) fn parted_row(row: usize, head: usize) -> usize {
    let (start, inside) = (row / head * head, row % head);
    start + inside / 2 + head / 2 * (inside % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_put_apart_and_together_again() {
        let rows: Vec<usize> = (0..8).map(|row| paired_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        for row in 0..24 {
            assert_eq!(parted_row(paired_row(row, 6), 6), row);
        }
    }
}
