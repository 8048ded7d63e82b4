// Moments of the rows of `x`: sums per column, what collects sums of squares, and the lower triangle of x^T x.

alias X = f32;

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> parts: array<array<f32, 64>, 4>;

// Sums of one piece of a sequence in 64 columns, four rows at a time. `sums` is (sequences, pieces, width).
@compute @workgroup_size(64, 4)
fn sequence_sums(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let column = group.x * 64u + lane.x;
    let piece = group.y % p.pieces;
    let first = group.y / p.pieces * p.length;
    let end = first + min((piece + 1u) * ROWS, p.length);
    var sum = 0.0;
    if column < p.width {
        for (var row = first + piece * ROWS + lane.y; row < end; row += 4u) {
            sum += f32(x[row * p.width + column]);
        }
    }
    parts[lane.y][lane.x] = sum;
    workgroupBarrier();
    if lane.y == 0u && column < p.width {
        sums[group.y * p.width + column] =
            (parts[0][lane.x] + parts[1][lane.x]) + (parts[2][lane.x] + parts[3][lane.x]);
    }
}

// The pieces' sums: `x` is (pieces, width) in single precision, and `sums` collects them as (width) pairs
// of a value and what rounding left of it, so that batches add up without loss.
@compute @workgroup_size(256)
fn collect(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    if column >= p.width {
        return;
    }
    var high = sums[2u * column];
    var low = sums[2u * column + 1u];
    for (var piece = 0u; piece < p.pieces; piece += 8u) {
        // Eight are on their way at a time; a sum that takes 0 stays as it is.
#for u in 0..8
        var v{u} = 0.0;
        if piece + {u}u < p.pieces {
            v{u} = f32(x[(piece + {u}u) * p.width + column]);
        }
#end
#for u in 0..8
        {
            let sum = high + v{u};
            let rest = sum - high;
            low += (high - (sum - rest)) + (v{u} - rest);
            high = sum;
        }
#end
    }
    sums[2u * column] = high;
    sums[2u * column + 1u] = low;
}

var<workgroup> a: array<array<f32, 68>, 16>;
var<workgroup> b: array<array<f32, 68>, 16>;

// One 64 x 64 tile on or below the diagonal of x^T x, added to `sums` (width, width).
@compute @workgroup_size(256)
fn gram(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    if first_column > first_row {
        return;
    }
    let row = lane / 16u * 4u;
    let column = lane % 16u * 4u;
    var tile: array<vec4<f32>, 4>;
    for (var depth = 0u; depth < p.rows; depth += DEPTH) {
        for (var i = lane; i < TILE * DEPTH; i += 256u) {
            let k = i / TILE;
            let line = i % TILE;
            var left = 0.0;
            var right = 0.0;
            if depth + k < p.rows {
                if first_row + line < p.width {
                    left = f32(x[(depth + k) * p.width + first_row + line]);
                }
                if first_column + line < p.width {
                    right = f32(x[(depth + k) * p.width + first_column + line]);
                }
            }
            a[k][line] = left;
            b[k][line] = right;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let right = vec4(b[k][column], b[k][column + 1u], b[k][column + 2u], b[k][column + 3u]);
            for (var r = 0u; r < 4u; r++) {
                tile[r] += a[k][row + r] * right;
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            let to = vec2(first_row + row + r, first_column + column + c);
            if to.x < p.width && to.y <= to.x {
                sums[to.x * p.width + to.y] += tile[r][c];
            }
        }
    }
}
