// Masks as matrices, and matrices as masks. A row of a mask begins with a new word.

struct Parameters {
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> bits: array<u32>;
// The matrix that a mask becomes (`unpack`), or that becomes a mask (`pack`).
@group(0) @binding(2) var<storage, read_write> into: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

// 1 where a mask keeps, 0 where it removes.
@compute @workgroup_size(LANES)
fn unpack(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        let column = i % p.columns;
        let word = bits[i / p.columns * p.words + column / 32u];
        into[i] = f32(1u - ((word >> (column % 32u)) & 1u));
    }
}

// A mask from a matrix: removed where it is 0. One invocation for each word.
@compute @workgroup_size(LANES)
fn pack(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i >= p.rows * p.words {
        return;
    }
    let row = i / p.words;
    let first = i % p.words * 32u;
    var word = 0u;
    for (var bit = 0u; bit < min(32u, p.columns - first); bit++) {
        if x[row * p.columns + first + bit] == 0.0 {
            word |= 1u << bit;
        }
    }
    bits[i] = word;
}
