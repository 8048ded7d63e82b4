
// What kernels element by element are told; each reads the fields that it needs.
struct Parameters {
    // Elements of `x`, or groups of four of them.
    count: u32,
    // Columns of `x`.
    width: u32,
    activation: u32,
    factor: f32,
    // Positions: the first row of the table, and tokens per sequence.
    offset: u32,
    length: u32,
    // Columns: see `Columns` on the host.
    first: u32,
    run: u32,
    stride: u32,
    source_width: u32,
}
