// y = x W^T + bias for any shape: 64 x 64 tiles, 4 x 4 of them to an invocation.

alias X = f32;
alias W = f32;
alias Y = f32;

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

struct Parameters {
    rows: u32,
    inputs: u32,
    outputs: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> w: array<W>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<Y>;

// Stored with the depth outside, so that an invocation reads its four rows side by side.
var<workgroup> a: array<array<f32, 68>, 16>;
var<workgroup> b: array<array<f32, 68>, 16>;

@compute @workgroup_size(256)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TILE;
    let first_output = group.x * TILE;
    let row = lane / 16u * 4u;
    let column = lane % 16u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var depth = 0u; depth < p.inputs; depth += DEPTH) {
        for (var i = lane; i < TILE * DEPTH; i += 256u) {
            let k = i % DEPTH;
            let line = i / DEPTH;
            var left = 0.0;
            var right = 0.0;
            if depth + k < p.inputs {
                if first_row + line < p.rows {
                    left = f32(x[(first_row + line) * p.inputs + depth + k]);
                }
                if first_output + line < p.outputs {
                    right = f32(w[(first_output + line) * p.inputs + depth + k]);
                }
            }
            a[k][line] = left;
            b[k][line] = right;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let right = vec4(b[k][column], b[k][column + 1u], b[k][column + 2u], b[k][column + 3u]);
            for (var r = 0u; r < 4u; r++) {
                sums[r] += a[k][row + r] * right;
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            let to = vec2(first_row + row + r, first_output + column + c);
            if to.x < p.rows && to.y < p.outputs {
                var v = sums[r][c];
                if p.has_bias == 1u {
                    v += bias[to.y];
                }
                y[to.x * p.outputs + to.y] = Y(v);
            }
        }
    }
}
