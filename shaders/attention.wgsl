// Causal attention without a matrix of all scores: a workgroup takes QUERIES queries of one head and walks
// over their keys in tiles of KEYS, keeping for every query the largest score, the sum of exponentials and
// the weighted values so far (online softmax).
//
// Invocations form a grid of LANES columns. One owns 8 queries, two vectors of 4; for scores it owns 4 keys
// of a tile, for the output every LANES-th vector of 4 features. Sums stay with their owner until the end;
// of a tile only the largest scores are exchanged.
//
// QUERIES x KEYS of 128 x 64 need 41 KiB of workgroup memory, 64 x 64 25 KiB, 32 x 32 13 KiB.

// Sizes of a tile, multiples of 4 and of 8.
const QUERIES: u32 = 64u;
const KEYS: u32 = 64u;
// KEYS / 4.
const LANES: u32 = 16u;
// QUERIES / 8 * LANES.
const THREADS: u32 = 128u;
// Features of queries and keys staged at a time, KEYS / 2: as much as the probabilities need later.
const DEPTH: u32 = 32u;
// Keys whose values are staged at a time.
const VALUES: u32 = 32u;
// Vectors of 4 features of the output that a workgroup computes; an invocation owns OWNED, 1 or 2, of them.
const VECTORS: u32 = 16u;
const OWNED: u32 = 1u;
// Workgroups that share the features of a head.
const PARTS: u32 = 1u;

alias X = f32;

// Vectors of 4 in a row of staged queries, keys or probabilities; one more than there are, for the banks.
const QUERY_ROW: u32 = QUERIES / 4u + 1u;
const KEY_ROW: u32 = LANES + 1u;
// Vectors of 4 for values or largest scores.
const EXCHANGE: u32 = 512u;
const UNSEEN: f32 = -3.0e38;

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
@group(0) @binding(4) var<storage, read_write> results: array<X>;

// DEPTH features of the queries and of the keys; then probabilities, (KEYS, QUERIES).
var<workgroup> stage: array<vec4<f32>, KEYS * QUERY_ROW>;
// Largest scores, (LANES, QUERIES); then values, (VALUES, features).
var<workgroup> exchange: array<vec4<f32>, EXCHANGE>;

// Scores of four queries with one key: scaled, bounded, and UNSEEN where the key lies outside.
fn finished(raw: vec4<f32>, key: u32, query: u32) -> vec4<f32> {
    var s = raw * p.scale;
    if p.softcap > 0.0 {
        s = p.softcap * tanh(s / p.softcap);
    }
    let each = vec4(query, query + 1u, query + 2u, query + 3u);
    var seen = vec4(key) <= each;
    if p.window > 0u {
        seen = seen & (vec4(key + p.window) > each);
    }
    return select(vec4(UNSEEN), s, seen);
}

// A query that sees nothing has UNSEEN for its largest score, and exp(0) must not count.
fn weights(s: vec4<f32>, largest: vec4<f32>) -> vec4<f32> {
    return select(exp(s - largest), vec4(0.0), s <= vec4(UNSEEN));
}

// Writes four features of a query. to: the sequence's first row, the query, the head's first column, the vector.
fn keep(v: vec4<f32>, to: vec4<u32>) {
    let feature = 4u * to.w;
    if feature >= p.head_dim || to.y >= p.length {
        return;
    }
    let at = (to.x + to.y) * (p.heads * p.head_dim) + to.z + feature;
    results[at] = X(v.x);
    if feature + 1u < p.head_dim {
        results[at + 1u] = X(v.y);
    }
    if feature + 2u < p.head_dim {
        results[at + 2u] = X(v.z);
    }
    if feature + 3u < p.head_dim {
        results[at + 3u] = X(v.w);
    }
}

// The first four results are of the queries in vector a, the last four of those in vector b.
#define fade(u)
#for i in 0..4
    {u}{i} *= factor_a[{i}];
#end
#for i in 4..8
    {u}{i} *= factor_b[{i}u - 4u];
#end
#end

#define add_values(u, v)
#for i in 0..4
    {u}{i} += a[{i}] * {v};
#end
#for i in 4..8
    {u}{i} += b[{i}u - 4u] * {v};
#end
#end

#define keep_all(u, vector)
#for i in 0..4
    keep({u}{i} * inverse_a[{i}], to + vec4(0u, {i}u, 0u, {vector}));
#end
#for i in 4..8
    keep({u}{i} * inverse_b[{i}u - 4u], to + vec4(0u, {i}u, 0u, {vector}));
#end
#end

// x: tile of queries, the longest first; y: head and part of its features; z: sequence.
@compute @workgroup_size(THREADS)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (groups.x - 1u - group.x) * QUERIES;
    let sequence = group.z * p.length;
    let query_width = p.heads * p.head_dim;
    let kv_width = p.kv_heads * p.head_dim;
    let head = group.y / PARTS;
    let vector = group.y % PARTS * VECTORS;
    let query_column = head * p.head_dim;
    let kv_column = head / (p.heads / p.kv_heads) * p.head_dim;
    let row = lane / LANES;
    let column = lane % LANES;
    let query = first + 8u * row;
    let keys_at = DEPTH * QUERY_ROW;

    // Every result is a variable of its own: an array of them would live in memory.
#for u in y, z
#for i in 0..8
    var {u}{i} = vec4(0.0);
#end
#end
    var largest_a = vec4(UNSEEN);
    var largest_b = vec4(UNSEEN);
    var sums_a = vec4(0.0);
    var sums_b = vec4(0.0);

    var begin = 0u;
    if p.window > 0u && first + 1u > p.window {
        begin = (first + 1u - p.window) / KEYS * KEYS;
    }
    let end = min(first + QUERIES, p.length);
    for (var tile = begin; tile < end; tile += KEYS) {
        // Scores with the keys column, column + LANES, ...
#for u in a, b
#for n in 0..4
        var {u}{n} = vec4(0.0);
#end
#end
        for (var depth = 0u; depth < p.head_dim; depth += DEPTH) {
            workgroupBarrier();
            for (var i = lane; i < QUERIES / 4u * DEPTH; i += THREADS) {
                let f = i % DEPTH;
                let line = first + i / DEPTH * 4u;
                var v = vec4(0.0);
                if depth + f < p.head_dim {
                    let from_here = query_column + depth + f;
                    // Past the end any query will do: its result is not written.
                    let last = p.length - 1u;
                    v = vec4(
                        f32(queries[(sequence + min(line, last)) * query_width + from_here]),
                        f32(queries[(sequence + min(line + 1u, last)) * query_width + from_here]),
                        f32(queries[(sequence + min(line + 2u, last)) * query_width + from_here]),
                        f32(queries[(sequence + min(line + 3u, last)) * query_width + from_here]),
                    );
                }
                stage[f * QUERY_ROW + i / DEPTH] = v;
            }
            for (var i = lane; i < LANES * DEPTH; i += THREADS) {
                let f = i % DEPTH;
                let line = tile + i / DEPTH;
                var v = vec4(0.0);
                if depth + f < p.head_dim {
                    let from_here = kv_column + depth + f;
                    // Past the end any key will do: it lies after every query that counts.
                    let last = p.length - 1u;
                    v = vec4(
                        f32(keys[(sequence + min(line, last)) * kv_width + from_here]),
                        f32(keys[(sequence + min(line + LANES, last)) * kv_width + from_here]),
                        f32(keys[(sequence + min(line + 2u * LANES, last)) * kv_width + from_here]),
                        f32(keys[(sequence + min(line + 3u * LANES, last)) * kv_width + from_here]),
                    );
                }
                stage[keys_at + f * KEY_ROW + i / DEPTH] = v;
            }
            workgroupBarrier();
            for (var f = 0u; f < DEPTH; f++) {
                let qa = stage[f * QUERY_ROW + 2u * row];
                let qb = stage[f * QUERY_ROW + 2u * row + 1u];
                let k = stage[keys_at + f * KEY_ROW + column];
#for u in a, b
#for n in 0..4
                {u}{n} += q{u} * k[{n}];
#end
#end
            }
        }
        let key = tile + column;
#for n in 0..4
        a{n} = finished(a{n}, key + {n}u * LANES, query);
        b{n} = finished(b{n}, key + {n}u * LANES, query + 4u);
#end
        // Values of the tile before are no longer read: barriers lie between.
        exchange[column * (QUERIES / 4u) + 2u * row] = max(max(a0, a1), max(a2, a3));
        exchange[column * (QUERIES / 4u) + 2u * row + 1u] = max(max(b0, b1), max(b2, b3));
        workgroupBarrier();
        var top_a = largest_a;
        var top_b = largest_b;
        for (var c = 0u; c < LANES; c++) {
            top_a = max(top_a, exchange[c * (QUERIES / 4u) + 2u * row]);
            top_b = max(top_b, exchange[c * (QUERIES / 4u) + 2u * row + 1u]);
        }
        let factor_a = exp(largest_a - top_a);
        let factor_b = exp(largest_b - top_b);
        largest_a = top_a;
        largest_b = top_b;
#for u in a, b
#for n in 0..4
        {u}{n} = weights({u}{n}, top_{u});
#end
#end
        sums_a = sums_a * factor_a + ((a0 + a1) + (a2 + a3));
        sums_b = sums_b * factor_b + ((b0 + b1) + (b2 + b3));
        let to = column * QUERY_ROW + 2u * row;
#for n in 0..4
        stage[to + {n}u * LANES * QUERY_ROW] = a{n};
        stage[to + {n}u * LANES * QUERY_ROW + 1u] = b{n};
#end
        #fade(y)
        if OWNED > 1u {
            #fade(z)
        }
        for (var part = 0u; part < KEYS; part += VALUES) {
            workgroupBarrier();
            for (var i = lane; i < VALUES * VECTORS; i += THREADS) {
                let line = tile + part + i / VECTORS;
                let feature = (vector + i % VECTORS) * 4u;
                var v = vec4(0.0);
                if line < p.length && feature < p.head_dim {
                    let at = (sequence + line) * kv_width + kv_column + feature;
                    // The last vector of a head may be short.
                    v.x = f32(values[at]);
                    if feature + 1u < p.head_dim {
                        v.y = f32(values[at + 1u]);
                    }
                    if feature + 2u < p.head_dim {
                        v.z = f32(values[at + 2u]);
                    }
                    if feature + 3u < p.head_dim {
                        v.w = f32(values[at + 3u]);
                    }
                }
                exchange[i] = v;
            }
            workgroupBarrier();
            for (var k = 0u; k < VALUES; k++) {
                let a = stage[(part + k) * QUERY_ROW + 2u * row];
                let b = stage[(part + k) * QUERY_ROW + 2u * row + 1u];
                // Lanes beyond the last vector compute what nobody reads.
                let v = exchange[k * VECTORS + min(column, VECTORS - 1u)];
                #add_values(y, v)
                if OWNED > 1u {
                    let w = exchange[k * VECTORS + min(column + LANES, VECTORS - 1u)];
                    #add_values(z, w)
                }
            }
        }
    }
    workgroupBarrier();
    exchange[column * (QUERIES / 4u) + 2u * row] = sums_a;
    exchange[column * (QUERIES / 4u) + 2u * row + 1u] = sums_b;
    workgroupBarrier();
    var all_a = vec4(0.0);
    var all_b = vec4(0.0);
    for (var c = 0u; c < LANES; c++) {
        all_a += exchange[c * (QUERIES / 4u) + 2u * row];
        all_b += exchange[c * (QUERIES / 4u) + 2u * row + 1u];
    }
    let inverse_a = 1.0 / all_a;
    let inverse_b = 1.0 / all_b;
    let to = vec4(sequence, query, query_column, vector + column);
    if column < VECTORS {
        #keep_all(y, 0u)
    }
    if column + LANES < VECTORS {
        #keep_all(z, LANES)
    }
}
