
// Rows and columns of a tile of the large products.
const TILE: u32 = 128u;

// The row and column of a tile on or below the diagonal; tiles are numbered row by row.
fn tile_of_triangle(number: u32) -> vec2<u32> {
    var row = u32((sqrt(8.0 * f32(number) + 1.0) - 1.0) * 0.5);
    // The root may be off by one.
    if (row + 1u) * (row + 2u) / 2u <= number {
        row += 1u;
    }
    if row * (row + 1u) / 2u > number {
        row -= 1u;
    }
    return vec2(row, number - row * (row + 1u) / 2u);
}

// The row and column of a tile; tiles are taken in bands of `most` rows, column by column, so that neighbours share operands in the
// cache.
fn tile_of_band(number: u32, rows: u32, columns: u32, most: u32) -> vec2<u32> {
    let band = number / (most * columns);
    let first = band * most;
    let height = min(most, rows - first);
    let inside = number - band * most * columns;
    return vec2(first + inside % height, inside / height);
}
