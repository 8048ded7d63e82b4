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
// Of a block's columns, one after the other.
@group(0) @binding(4) var<storage, read_write> errors: array<f32>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;
// As in score.wgsl.
@group(0) @binding(6) var<storage, read_write> unusable: atomic<u32>;

// The formula of the score that is followed: this line is replaced.
fn value(weight: f32, row: u32, column: u32) -> f32 { return abs(weight); }

// Errors of a column, of eight rows in two vectors; those of the next column are written while these are read.
var<workgroup> error: array<vec4<f32>, 4>;
var<workgroup> scores: array<array<f32, 128>, TOGETHER>;

// Lane j holds column `first + j` of the rows.
@compute @workgroup_size(128)
fn block(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = group.x * TOGETHER;
    let column = p.first + lane;
    let inside = lane < p.width;
    // Vectors of four rows: an array of rows would live in memory.
#for q in 0..2
    var weight{q} = vec4<f32>();
    var gone{q} = vec4<bool>();
#for c in 0..4
    {
        let row = first_row + {q}u * 4u + {c}u;
        if inside && row < p.rows {
            weight{q}[{c}] = weights[row * p.columns + column];
            if p.group_size == 0u {
                let word = atomicLoad(&mask[row * p.words + column / 32u]);
                gone{q}[{c}] = ((word >> (column % 32u)) & 1u) == 1u;
            }
        }
    }
#end
#end
    // Loaded before they are needed: a load in every step would be what the step waits for.
    var pivot = 1.0;
    if inside {
        pivot = upper[column * p.columns + column];
    }
    var pull = pull_of(0u, lane);
    for (var j = 0u; j < p.width; j++) {
        let next_pull = pull_of(j + 1u, lane);
        if p.group_size > 0u && j % p.group_size == 0u {
            if inside && lane >= j && lane < j + p.group_size {
#for q in 0..2
#for c in 0..4
                {
                    let row = first_row + {q}u * 4u + {c}u;
                    if row < p.rows {
                        let score = value(weight{q}[{c}], row, column);
                        if (bitcast<u32>(score) & 0x7fffffffu) >= 0x7f800000u || score < 0.0 {
                            atomicMax(&unusable, 0xffffffffu - (row * p.columns + column));
                        }
                        scores[{q}u * 4u + {c}u][lane] = score;
                    }
                }
#end
#end
            }
            workgroupBarrier();
            if inside && lane >= j && lane < j + p.group_size {
#for q in 0..2
#for c in 0..4
                gone{q}[{c}] = before({q}u * 4u + {c}u, j, lane) < p.group_size - p.keep;
#end
#end
            }
        }
        let turn = j % 2u * 2u;
        if lane == j {
#for q in 0..2
            error[turn + {q}u] = select(vec4<f32>(), weight{q} / pivot, gone{q});
#end
        }
        // One a step: who writes the errors of the column after next has seen that all have read these.
        workgroupBarrier();
        if inside && lane > j {
#for q in 0..2
            weight{q} -= error[turn + {q}u] * pull;
#end
        }
        if lane == j {
#for q in 0..2
#for c in 0..4
            if first_row + {q}u * 4u + {c}u < p.rows {
                errors[j * p.rows + first_row + {q}u * 4u + {c}u] = error[turn + {q}u][{c}];
            }
#end
            weight{q} = select(weight{q}, vec4<f32>(), gone{q});
#end
        }
        pull = next_pull;
    }
#for q in 0..2
#for c in 0..4
    {
        let row = first_row + {q}u * 4u + {c}u;
        if inside && row < p.rows {
            weights[row * p.columns + column] = weight{q}[{c}];
            if p.group_size > 0u && gone{q}[{c}] {
                atomicOr(&mask[row * p.words + column / 32u], 1u << (column % 32u));
            }
        }
    }
#end
#end
}

// How much of the error of the block's column `j` a lane's column takes; nothing if it comes before it.
fn pull_of(j: u32, lane: u32) -> f32 {
    if lane <= j || lane >= p.width {
        return 0.0;
    }
    return upper[(p.first + j) * p.columns + p.first + lane];
}

// How many of a row's scores in the N:M group that begins at `first` are removed before that of a column.
fn before(row: u32, first: u32, column: u32) -> u32 {
    let own = scores[row][column];
    var count = 0u;
    for (var other = first; other < first + p.group_size; other++) {
        let rival = scores[row][other];
        count += u32(rival < own || (rival == own && other < column));
    }
    return count;
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
            // Neighbours take neighbouring rows: they read neighbouring errors, and write to different banks.
            let k = i / 64u;
            let r = i % 64u;
            var left = 0.0;
            if first_row + r < p.rows && depth + k < p.width {
                left = errors[(depth + k) * p.rows + first_row + r];
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
            t0 = fma(vec4(near.x), right, t0);
            t1 = fma(vec4(near.y), right, t1);
            t2 = fma(vec4(near.z), right, t2);
            t3 = fma(vec4(near.w), right, t3);
            t4 = fma(vec4(far.x), right, t4);
            t5 = fma(vec4(far.y), right, t5);
            t6 = fma(vec4(far.z), right, t6);
            t7 = fma(vec4(far.w), right, t7);
        }
        workgroupBarrier();
    }
    let to = vec2(first_row + 8u * row, first_column + column);
    // All are read before the first is written: no read may pass a write, so that every one would be waited for.
#for r in 0..8
    let old{r} = there(to + vec2({r}u, 0u));
#end
#for r in 0..8
    put(to + vec2({r}u, 0u), old{r} - t{r});
#end
}

// Four weights of a row.
fn there(place: vec2<u32>) -> vec4<f32> {
    var v = vec4<f32>();
    if place.x < p.rows {
#for c in 0..4
        if place.y + 16u * {c}u < p.columns {
            v[{c}] = weights[place.x * p.columns + place.y + 16u * {c}u];
        }
#end
    }
    return v;
}

fn put(place: vec2<u32>, v: vec4<f32>) {
    if place.x < p.rows {
#for c in 0..4
        if place.y + 16u * {c}u < p.columns {
            weights[place.x * p.columns + place.y + 16u * {c}u] = v[{c}];
        }
#end
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
