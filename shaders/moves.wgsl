// Matrices whose entries are those of another one in other places, and masks as matrices.

struct Parameters {
    // Of the result.
    rows: u32,
    columns: u32,
    // Columns of the source.
    width: u32,
    // Rows of `places`: those of the source, or 1.
    place_rows: u32,
    // Words per row of a mask.
    words: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<f32>;
@group(0) @binding(3) var<storage, read_write> into: array<f32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

@compute @workgroup_size(LANES)
fn transpose(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        into[i] = x[i % p.columns * p.width + i / p.columns];
    }
}

// A symmetric matrix of which the lower triangle is given, times a factor.
@compute @workgroup_size(LANES)
fn symmetric(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        let row = i / p.columns;
        let column = i % p.columns;
        into[i] = p.factor * x[max(row, column) * p.columns + min(row, column)];
    }
}

@compute @workgroup_size(LANES)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        let row = i / p.columns;
        let place = places[min(row, p.place_rows - 1u) * p.columns + i % p.columns];
        if place < 0.0 {
            into[i] = 0.0;
        } else {
            into[i] = x[row * p.width + u32(place)];
        }
    }
}

// The result is cleared before; one invocation for each entry of the source.
@compute @workgroup_size(LANES)
fn scatter(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.width {
        let row = i / p.width;
        let place = places[min(row, p.place_rows - 1u) * p.width + i % p.width];
        if place >= 0.0 {
            into[row * p.columns + u32(place)] = x[i];
        }
    }
}

// 1 where a mask keeps, 0 where it removes.
@compute @workgroup_size(LANES)
fn unpack(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
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
