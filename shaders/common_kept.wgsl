// For formulas that read the mask; `words` of it make up a row.

// 0 where the mask removes a weight, else 1.
fn kept(row: u32, column: u32) -> f32 {
    return f32(1u - ((mask[row * p.words + column / 32u] >> (column % 32u)) & 1u));
}
