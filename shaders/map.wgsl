// A formula's value at every place of a matrix, and their sum.

alias W = f32;
// What results are stored as.
alias Y = f32;

struct Parameters {
    #formula()
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<W>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> into: array<Y>;
@group(0) @binding(5) var<storage, read> matrix0: array<f32>;
@group(0) @binding(6) var<storage, read> matrix1: array<f32>;
@group(0) @binding(7) var<storage, read> matrix2: array<f32>;

var<workgroup> parts: array<vec2<f32>, 256>;

// The formula: this line is replaced.
fn value(weight: f32, row: u32, column: u32) -> f32 { return 0.0; }
// The weight at a place; replaced where the formula reads it.
fn weight_at(place: u32) -> f32 { return 0.0; }

@compute @workgroup_size(LANES)
fn map(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        into[i] = Y(value(weight_at(i), i / p.columns, i % p.columns));
    }
}

// A sum and what rounding left out of it.
fn add(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let sum = rounded(a.x + b.x);
    let of_b = rounded(sum - a.x);
    let lost = (a.x - rounded(sum - of_b)) + (b.x - of_b);
    return vec2(sum, a.y + b.y + lost);
}

// Two values for each workgroup: a sum and what rounding left out of it.
@compute @workgroup_size(LANES)
fn total(
    #invocation()
) {
    let n = p.rows * p.columns;
    let stride = groups.x * groups.y * LANES;
    var sum = vec2(0.0);
    for (var i = index(group, groups, lane); i < n; i += stride) {
        sum = add(sum, vec2(value(weight_at(i), i / p.columns, i % p.columns), 0.0));
    }
    parts[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] = add(parts[lane], parts[lane + half]);
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let to = 2u * (group.y * groups.x + group.x);
        into[to] = Y(parts[0].x);
        into[to + 1u] = Y(parts[0].y);
    }
}
