// Scores of some consecutive columns of a weight matrix, as keys that order like the scores.

alias W = f32;

struct Parameters {
    terms: array<vec4<u32>, 8>,
    term_count: u32,
    rows: u32,
    // Columns of the matrix, the first one scored, and how many.
    columns: u32,
    first: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<W>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
// (rows, width).
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
// All ones less the first place in the matrix of a score that is NaN, infinite or negative; 0: none is.
@group(0) @binding(4) var<storage, read_write> unusable: atomic<u32>;

@compute @workgroup_size(256)
fn score(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= p.rows * p.width {
        return;
    }
    let row = i / p.width;
    let column = p.first + i % p.width;
    let key = bitcast<u32>(score_of(f32(weights[row * p.columns + column]), row, column));
    // Non-negative floats order like their bits; -0 counts as 0.
    if key == 0x80000000u {
        keys[i] = 0u;
    } else {
        keys[i] = key;
        if key >= 0x7f800000u {
            atomicMax(&unusable, 0xffffffffu - (row * p.columns + column));
        }
    }
}
