// SparseGPT's pass over one block of up to 128 columns, and the product that carries its errors to the
// columns after it.

// Rows that a workgroup takes through the block together.
const TOGETHER: u32 = 8u;

struct Parameters {
    #formula()
    rows: u32,
    columns: u32,
    first: u32,
    width: u32,
    words: u32,
    // N:M groups chosen on the way; `group_size` 0: the mask is there already.
    keep: u32,
    group_size: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> weights: array<f32>;
// U with H^-1 = U^T U, (columns, columns).
@group(0) @binding(2) var<storage, read> upper: array<f32>;
@group(0) @binding(3) var<storage, read_write> mask: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> errors: array<f32>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;
// As in score.wgsl.
@group(0) @binding(6) var<storage, read_write> unusable: atomic<u32>;

// The formula of the score that is followed: this line is replaced.
fn value(weight: f32, row: u32, column: u32) -> f32 { return abs(weight); }

var<workgroup> error: array<f32, TOGETHER>;
var<workgroup> scores: array<array<f32, 128>, TOGETHER>;

// Lane j holds column `first + j` of the rows.
@compute @workgroup_size(128)
fn block(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.x * TOGETHER;
    let column = p.first + lane;
    let inside = lane < p.width;
    var weight: array<f32, TOGETHER>;
    var gone: array<bool, TOGETHER>;
    for (var r = 0u; r < TOGETHER; r++) {
        let row = first_row + r;
        weight[r] = 0.0;
        gone[r] = false;
        if inside && row < p.rows {
            weight[r] = weights[row * p.columns + column];
            if p.group_size == 0u {
                let word = atomicLoad(&mask[row * p.words + column / 32u]);
                gone[r] = ((word >> (column % 32u)) & 1u) == 1u;
            }
        }
    }
    for (var j = 0u; j < p.width; j++) {
        if p.group_size > 0u && j % p.group_size == 0u {
            for (var r = 0u; r < TOGETHER; r++) {
                let row = first_row + r;
                if inside && lane >= j && lane < j + p.group_size && row < p.rows {
                    let score = value(weight[r], row, column);
                    if (bitcast<u32>(score) & 0x7fffffffu) >= 0x7f800000u || score < 0.0 {
                        atomicMax(&unusable, 0xffffffffu - (row * p.columns + column));
                    }
                    scores[r][lane] = score;
                }
            }
            workgroupBarrier();
            if inside && lane >= j && lane < j + p.group_size {
                for (var r = 0u; r < TOGETHER; r++) {
                    var before = 0u;
                    for (var other = j; other < j + p.group_size; other++) {
                        let rival = scores[r][other];
                        before += u32(rival < scores[r][lane] || (rival == scores[r][lane] && other < lane));
                    }
                    gone[r] = before < p.group_size - p.keep;
                }
            }
        }
        if lane == j {
            let pivot = upper[column * p.columns + column];
            for (var r = 0u; r < TOGETHER; r++) {
                error[r] = select(0.0, weight[r] / pivot, gone[r]);
            }
        }
        workgroupBarrier();
        if inside && lane > j {
            let pull = upper[(p.first + j) * p.columns + column];
            for (var r = 0u; r < TOGETHER; r++) {
                weight[r] -= error[r] * pull;
            }
        }
        if lane == j {
            for (var r = 0u; r < TOGETHER; r++) {
                let row = first_row + r;
                if row < p.rows {
                    errors[row * 128u + j] = error[r];
                }
                weight[r] = select(weight[r], 0.0, gone[r]);
            }
        }
        // Before the next column overwrites the errors.
        workgroupBarrier();
    }
    for (var r = 0u; r < TOGETHER; r++) {
        let row = first_row + r;
        if inside && row < p.rows {
            weights[row * p.columns + column] = weight[r];
            if p.group_size > 0u && gone[r] {
                atomicOr(&mask[row * p.words + column / 32u], 1u << (column % 32u));
            }
        }
    }
}

// 16 errors of 64 rows, as vectors of 4 rows, and 16 rows of 64 columns of U.
var<workgroup> a: array<vec4<f32>, 256>;
var<workgroup> b: array<array<f32, 64>, 16>;

// weights[:, later] -= errors U[block, later], in tiles of 64 x 64; `later` starts at first + width. An invocation
// owns eight rows, and four columns a quarter of the tile apart, so that neighbours touch neighbours.
@compute @workgroup_size(128)
fn propagate(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.y * 64u;
    let first_column = p.first + p.width + group.x * 64u;
    let row = lane / 16u;
    let column = lane % 16u;
    // Named: an array of results would live in memory.
    var t0 = vec4(0.0);
    var t1 = vec4(0.0);
    var t2 = vec4(0.0);
    var t3 = vec4(0.0);
    var t4 = vec4(0.0);
    var t5 = vec4(0.0);
    var t6 = vec4(0.0);
    var t7 = vec4(0.0);
    for (var depth = 0u; depth < p.width; depth += 16u) {
        for (var i = lane; i < 1024u; i += 128u) {
            let r = i / 16u;
            let k = i % 16u;
            var left = 0.0;
            if first_row + r < p.rows && depth + k < p.width {
                left = errors[(first_row + r) * 128u + depth + k];
            }
            a[k * 16u + r / 4u][r % 4u] = left;
            let line = i / 64u;
            let c = i % 64u;
            var right = 0.0;
            if depth + line < p.width && first_column + c < p.columns {
                right = upper[(p.first + depth + line) * p.columns + first_column + c];
            }
            b[line][c] = right;
        }
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let near = a[k * 16u + 2u * row];
            let far = a[k * 16u + 2u * row + 1u];
            let right = vec4(b[k][column], b[k][column + 16u], b[k][column + 32u], b[k][column + 48u]);
            t0 += near.x * right;
            t1 += near.y * right;
            t2 += near.z * right;
            t3 += near.w * right;
            t4 += far.x * right;
            t5 += far.y * right;
            t6 += far.z * right;
            t7 += far.w * right;
        }
        workgroupBarrier();
    }
    let to = vec2(first_row + 8u * row, first_column + column);
    take(to + vec2(0u, 0u), t0);
    take(to + vec2(1u, 0u), t1);
    take(to + vec2(2u, 0u), t2);
    take(to + vec2(3u, 0u), t3);
    take(to + vec2(4u, 0u), t4);
    take(to + vec2(5u, 0u), t5);
    take(to + vec2(6u, 0u), t6);
    take(to + vec2(7u, 0u), t7);
}

// Subtracts from four weights of a row.
fn take(to: vec2<u32>, v: vec4<f32>) {
    if to.x >= p.rows {
        return;
    }
    for (var c = 0u; c < 4u; c++) {
        if to.y + 16u * c < p.columns {
            weights[to.x * p.columns + to.y + 16u * c] -= v[c];
        }
    }
}

// Columns of features that were never active become 0; `factors` holds 1 where a feature is dead.
@compute @workgroup_size(LANES)
fn clear_dead(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns && factors[i % p.columns] == 1.0 {
        weights[i] = 0.0;
    }
}
