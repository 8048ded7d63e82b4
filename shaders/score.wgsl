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
    // Only of `compare`, where `width` is that of a comparison group: 1 if a group has these columns of all rows.
    over_rows: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<vec4<W>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
// (rows, width).
@group(0) @binding(3) var<storage, read_write> keys: array<vec4<u32>>;
// All ones less the first place in the matrix of a score that is NaN, infinite or negative; 0: none is. Of `compare`, bits: APART, NOT_ZERO.
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
        // No key has a sign: the selection would count it outside of its bins.
        return 0x7f800000u;
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

// Two scores of a comparison group differ.
const APART: u32 = 1u;
// A weight is not 0. Known only if no scores differ, since nothing more is looked at otherwise.
const NOT_ZERO: u32 = 2u;

// Scores that cannot be used are told by whoever selects by them.
fn differ(a: f32, b: f32) -> bool {
    let cannot = bitcast<u32>(a) >= 0x7f800000u && a != 0.0;
    return cannot || abs(a - b) > max(SAME * max(abs(a), abs(b)), NOTHING);
}

// How far two scores may be apart and count as the same: a fraction of the larger, and a difference.
const SAME: f32 = 1e-6;
const NOTHING: f32 = 1.1754944e-38;

fn weight_at(place: u32) -> f32 {
    return f32(weights[place >> 2u][place & 3u]);
}

// Whether two scores of any comparison group differ: each is compared with the first of its group. All invocations stop as soon as one
// has found two.
@compute @workgroup_size(LANES)
fn compare(
    #invocation()
) {
    var found = 0u;
    for (var i = index(group, groups, lane); i < p.rows * p.columns; i += groups.x * groups.y * LANES) {
        if (atomicLoad(&unusable) & APART) != 0u {
            break;
        }
        let row = i / p.columns;
        let column = i % p.columns;
        let first_row = row * (1u - p.over_rows);
        let first_column = column - column % p.width;
        let weight = weight_at(i);
        if weight != 0.0 {
            found |= NOT_ZERO;
        }
        let first = value(weight_at(first_row * p.columns + first_column), first_row, first_column);
        if differ(value(weight, row, column), first) {
            found |= APART;
            break;
        }
    }
    if found != 0u {
        atomicOr(&unusable, found);
    }
}
