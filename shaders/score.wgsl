// Scores of some consecutive columns of a weight matrix, as keys that order like the scores.

alias W = f32;

struct Parameters {
    #formula()
    rows: u32,
    // Columns of the matrix, the first one scored, and how many.
    columns: u32,
    first: u32,
    width: u32,
    // Words per row of the mask.
    words: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<vec4<W>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
// (rows, width).
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<u32>>;
// All ones less the first place in the matrix of a score that is NaN, infinite or negative; 0: none is.
@group(0) @binding(4) var<storage, read_write> unusable: atomic<u32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read> matrix0: array<f32>;
@group(0) @binding(7) var<storage, read> matrix1: array<f32>;
@group(0) @binding(8) var<storage, read> matrix2: array<f32>;

// The score's formula: this line is replaced.
fn value(weight: f32, row: u32, column: u32) -> f32 { return abs(weight); }

fn key(weight: f32, row: u32, column: u32) -> u32 {
    let bits = bitcast<u32>(value(weight, row, column));
    // Non-negative floats order like their bits; -0 counts as 0.
    if bits == 0x80000000u {
        return 0u;
    }
    if bits >= 0x7f800000u {
        atomicMax(&unusable, 0xffffffffu - (row * p.columns + column));
    }
    return bits;
}

// Four columns of a row an invocation.
@compute @workgroup_size(LANES)
fn score(
    #invocation()
) {
    let i = index(group, groups, lane);
    let quads = (p.width + 3u) / 4u;
    if i >= p.rows * quads {
        return;
    }
    let row = i / quads;
    let inside = i % quads * 4u;
    let source = row * p.columns + p.first + inside;
    let into = row * p.width + inside;
    let column = p.first + inside;
    if ((source | into | p.width) & 3u) == 0u {
        let four = vec4<f32>(weights[source >> 2u]);
        keys[into >> 2u] = vec4<u32>(
            key(four.x, row, column),
            key(four.y, row, column + 1u),
            key(four.z, row, column + 2u),
            key(four.w, row, column + 3u),
        );
        return;
    }
    for (var c = 0u; c < min(4u, p.width - inside); c++) {
        let weight = f32(weights[(source + c) >> 2u][(source + c) & 3u]);
        keys[(into + c) >> 2u][(into + c) & 3u] = key(weight, row, column + c);
    }
}
