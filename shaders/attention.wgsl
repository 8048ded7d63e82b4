// Causal attention without a matrix of all scores: a workgroup takes QUERIES queries of one head and walks
// over their keys in tiles of KEYS, keeping for every query the largest score, the sum of exponentials and
// the weighted values so far (online softmax).
//
// An invocation owns 4 queries; for scores it owns 4 keys of the tile, for the output every LANES-th
// feature. QUERIES = KEYS = 64 with 256 invocations needs 25 KiB of workgroup memory, 32 with 64 needs
// 9 KiB.

override QUERIES: u32 = 64u;
override KEYS: u32 = 64u;
// KEYS / 4: invocations that share four queries.
override LANES: u32 = 16u;
// QUERIES / 4 * LANES.
override THREADS: u32 = 256u;
override STAGE: u32 = 1088u;
override SCORES: u32 = 4160u;

alias X = f32;

// Features of a head, rounded up to a multiple of 16.
const HEAD_DIM: u32 = 64u;
// HEAD_DIM / LANES: features of the output that an invocation owns.
const OWNED: u32 = 4u;
// Features of queries, keys or values staged at a time.
const DEPTH: u32 = 16u;

struct Parameters {
    length: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    // Keys a query sees, itself included; 0 for all before it.
    window: u32,
    scale: f32,
    // Bound of the scores; 0 for none.
    softcap: f32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> queries: array<X>;
@group(0) @binding(2) var<storage, read> keys: array<X>;
@group(0) @binding(3) var<storage, read> values: array<X>;
@group(0) @binding(4) var<storage, read_write> y: array<X>;

// DEPTH features of the queries (then of the values) and of the keys, features outside.
var<workgroup> left: array<f32, STAGE>;
var<workgroup> right: array<f32, STAGE>;
// Scores, then probabilities: (QUERIES, KEYS + 1).
var<workgroup> scores: array<f32, SCORES>;
// Per query: the largest score so far, the sum, and the factor of what was collected before this tile.
var<workgroup> largest: array<f32, QUERIES>;
var<workgroup> sums: array<f32, QUERIES>;
var<workgroup> rescale: array<f32, QUERIES>;

// x: tile of queries, y: head, z: sequence.
@compute @workgroup_size(THREADS)
fn attention(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * QUERIES;
    let sequence = group.z * p.length;
    let query_width = p.heads * p.head_dim;
    let kv_width = p.kv_heads * p.head_dim;
    let query_column = group.y * p.head_dim;
    let kv_column = group.y / (p.heads / p.kv_heads) * p.head_dim;
    let row = lane / LANES * 4u;
    let column = lane % LANES;

    var collected: array<vec4<f32>, OWNED>;
    for (var f = 0u; f < OWNED; f++) {
        collected[f] = vec4(0.0);
    }
    for (var i = lane; i < QUERIES; i += THREADS) {
        largest[i] = -3.0e38;
        sums[i] = 0.0;
    }
    var begin = 0u;
    if p.window > 0u && first + 1u > p.window {
        begin = (first + 1u - p.window) / KEYS * KEYS;
    }
    let end = min(first + QUERIES, p.length);
    for (var tile = begin; tile < end; tile += KEYS) {
        // Scores of 4 queries with the keys column, column + LANES, ...
        var s: array<vec4<f32>, 4>;
        for (var k = 0u; k < 4u; k++) {
            s[k] = vec4(0.0);
        }
        for (var depth = 0u; depth < HEAD_DIM; depth += DEPTH) {
            workgroupBarrier();
            for (var i = lane; i < QUERIES * DEPTH; i += THREADS) {
                let line = i / DEPTH;
                let f = i % DEPTH;
                var v = 0.0;
                if first + line < p.length && depth + f < p.head_dim {
                    v = f32(queries[(sequence + first + line) * query_width + query_column + depth + f]);
                }
                left[f * (QUERIES + 4u) + line] = v;
            }
            for (var i = lane; i < KEYS * DEPTH; i += THREADS) {
                let line = i / DEPTH;
                let f = i % DEPTH;
                var v = 0.0;
                if tile + line < p.length && depth + f < p.head_dim {
                    v = f32(keys[(sequence + tile + line) * kv_width + kv_column + depth + f]);
                }
                right[f * (KEYS + 4u) + line] = v;
            }
            workgroupBarrier();
            for (var f = 0u; f < DEPTH; f++) {
                let at = f * (QUERIES + 4u) + row;
                let q = vec4(left[at], left[at + 1u], left[at + 2u], left[at + 3u]);
                let near = f * (KEYS + 4u) + column;
                s[0] += q * right[near];
                s[1] += q * right[near + LANES];
                s[2] += q * right[near + 2u * LANES];
                s[3] += q * right[near + 3u * LANES];
            }
        }
        for (var k = 0u; k < 4u; k++) {
            let key = tile + column + k * LANES;
            for (var r = 0u; r < 4u; r++) {
                let query = first + row + r;
                var v = s[k][r] * p.scale;
                if p.softcap > 0.0 {
                    v = p.softcap * tanh(v / p.softcap);
                }
                let seen = key <= query && key < p.length && (p.window == 0u || key + p.window > query);
                scores[(row + r) * (KEYS + 1u) + column + k * LANES] = select(-3.0e38, v, seen);
            }
        }
        workgroupBarrier();
        // Softmax of this tile, LANES invocations to four queries; each takes one query after the other.
        for (var i = lane; i < QUERIES; i += THREADS) {
            let at = i * (KEYS + 1u);
            var top = largest[i];
            for (var k = 0u; k < KEYS; k++) {
                top = max(top, scores[at + k]);
            }
            var sum = 0.0;
            for (var k = 0u; k < KEYS; k++) {
                // A query that sees nothing here has a top of -3e38, and exp(0) must not count.
                let weight = select(exp(scores[at + k] - top), 0.0, scores[at + k] <= -3.0e38);
                scores[at + k] = weight;
                sum += weight;
            }
            let factor = exp(largest[i] - top);
            rescale[i] = factor;
            sums[i] = sums[i] * factor + sum;
            largest[i] = top;
        }
        workgroupBarrier();
        let factor = vec4(rescale[row], rescale[row + 1u], rescale[row + 2u], rescale[row + 3u]);
        for (var f = 0u; f < OWNED; f++) {
            collected[f] *= factor;
        }
        // Values in stages of DEPTH keys, so that they fit where queries and keys were staged.
        for (var depth = 0u; depth < KEYS; depth += DEPTH) {
            for (var f = 0u; f < OWNED; f++) {
                let feature = column + f * LANES;
                for (var k = 0u; k < DEPTH; k++) {
                    let key = tile + depth + k;
                    var v = 0.0;
                    if key < p.length && feature < p.head_dim {
                        v = f32(values[(sequence + key) * kv_width + kv_column + feature]);
                    }
                    let at = row * (KEYS + 1u) + depth + k;
                    collected[f] += v * vec4(
                        scores[at],
                        scores[at + KEYS + 1u],
                        scores[at + 2u * (KEYS + 1u)],
                        scores[at + 3u * (KEYS + 1u)],
                    );
                }
            }
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) {
        let query = first + row + r;
        if query < p.length {
            let scale = 1.0 / sums[row + r];
            for (var f = 0u; f < OWNED; f++) {
                let feature = column + f * LANES;
                if feature < p.head_dim {
                    y[(sequence + query) * query_width + query_column + feature] = X(collected[f][r] * scale);
                }
            }
        }
    }
}
