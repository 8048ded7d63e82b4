// The gradients of causal attention, without a matrix of all scores. First `marks` finds for every query the logarithm of the sum of
// its exponentials, and the sum of the products of its result with the gradient. Then `for_queries` takes TILE queries of a
// head over all their keys, and `for_keys` takes TILE keys over all queries that see them: each computes the probabilities of a tile
// of queries and keys, and the gradient with respect to its scores, anew.
//
// The 64 invocations form a grid of 8 x 8; one owns 4 x 4 entries of every tile.

const TILE: u32 = 32u;

alias X = f32;

const THREADS: u32 = 64u;
// Vectors of 4 in a row of a staged tile; one more than there are, for the banks.
const ROW: u32 = 9u;
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
@group(0) @binding(4) var<storage, read> results: array<X>;
@group(0) @binding(5) var<storage, read> dys: array<X>;
// For every token and head: the logarithm of the sum of exponentials, and the sum of products.
@group(0) @binding(6) var<storage, read_write> known: array<vec2<f32>>;
// The gradient of queries or of keys.
@group(0) @binding(7) var<storage, read_write> into: array<f32>;
// The gradient of values.
@group(0) @binding(8) var<storage, read_write> for_values: array<f32>;

var<workgroup> left: array<vec4<f32>, 288>;
var<workgroup> right: array<vec4<f32>, 288>;
var<workgroup> weights: array<vec4<f32>, 288>;

// Scores of a query with four keys: scaled, bounded, and UNSEEN where a key lies outside.
fn finished(raw: vec4<f32>, key: u32, query: u32) -> vec4<f32> {
    var s = raw * p.scale;
    if p.softcap > 0.0 {
        s = p.softcap * tanh(s / p.softcap);
    }
    let each = vec4(key, key + 1u, key + 2u, key + 3u);
    var seen = (each <= vec4(query)) & vec4(query < p.length);
    if p.window > 0u {
        seen = seen & (each + vec4(p.window) > vec4(query));
    }
    return select(vec4(UNSEEN), s, seen);
}

// Exponentials of scores; one that is UNSEEN must not count, whatever the shift.
fn exponentials(s: vec4<f32>, shift: f32) -> vec4<f32> {
    return select(exp(s - shift), vec4(0.0), s <= vec4(UNSEEN));
}

// The gradient with respect to raw products, given finished scores, their probabilities, and the gradient with respect to those
// less its mean.
fn slopes(s: vec4<f32>, weight: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    var v = weight * d * p.scale;
    if p.softcap > 0.0 {
        let part = select(s / p.softcap, vec4(0.0), s <= vec4(UNSEEN));
        v *= 1.0 - part * part;
    }
    return v;
}

// Stages TILE features of TILE rows with the features outside, beginning at {depth}; zeros past the last feature. Past the last
// row any will do: what is computed with it does not count.
#define stage_features(to, source, first, column, width, depth)
    for (var i = lane; i < TILE * TILE / 4u; i += THREADS) {
        let f = i % TILE;
        let line = {first} + i / TILE * 4u;
        var v = vec4(0.0);
        if {depth} + f < p.head_dim {
            let from_here = {column} + {depth} + f;
            let last = p.length - 1u;
            v = vec4(
                f32({source}[(sequence + min(line, last)) * {width} + from_here]),
                f32({source}[(sequence + min(line + 1u, last)) * {width} + from_here]),
                f32({source}[(sequence + min(line + 2u, last)) * {width} + from_here]),
                f32({source}[(sequence + min(line + 3u, last)) * {width} + from_here]),
            );
        }
        {to}[f * ROW + i / TILE] = v;
    }
#end

// Stages the same with the rows outside; zeros past the last row, too.
#define stage_rows(to, source, first, column, width, depth)
    for (var i = lane; i < TILE * TILE / 4u; i += THREADS) {
        let line = {first} + i / 8u;
        let feature = {depth} + i % 8u * 4u;
        var v = vec4(0.0);
        if line < p.length && feature < p.head_dim {
            let at = (sequence + line) * {width} + {column} + feature;
            v.x = f32({source}[at]);
            if feature + 1u < p.head_dim {
                v.y = f32({source}[at + 1u]);
            }
            if feature + 2u < p.head_dim {
                v.z = f32({source}[at + 2u]);
            }
            if feature + 3u < p.head_dim {
                v.w = f32({source}[at + 3u]);
            }
        }
        {to}[i / 8u * ROW + i % 8u] = v;
    }
#end

// Adds the products of two staged tiles.
#define multiply(u, a, b)
    for (var k = 0u; k < TILE; k++) {
        let a = {a}[k * ROW + row];
        let b = {b}[k * ROW + column];
#for i in 0..4
        {u}{i} += a[{i}] * b;
#end
    }
#end

// Raw products of TILE queries with TILE keys, s, and of the gradients of the results with the values, d.
#define scores(first, tile)
#for u in s, d
#for i in 0..4
    var {u}{i} = vec4(0.0);
#end
#end
    for (var depth = 0u; depth < p.head_dim; depth += TILE) {
        workgroupBarrier();
        #stage_features(left, queries, {first}, query_column, query_width, depth)
        #stage_features(right, keys, {tile}, kv_column, kv_width, depth)
        workgroupBarrier();
        #multiply(s, left, right)
        workgroupBarrier();
        #stage_features(left, dys, {first}, query_column, query_width, depth)
        #stage_features(right, values, {tile}, kv_column, kv_width, depth)
        workgroupBarrier();
        #multiply(d, left, right)
    }
#for i in 0..4
    s{i} = finished(s{i}, {tile} + 4u * column, {first} + 4u * row + {i}u);
    let w{i} = exponentials(s{i}, shift[{i}]);
    let g{i} = slopes(s{i}, w{i}, d{i} - sums[{i}]);
#end
#end

// What is known of the four queries of an invocation.
#define recall(first)
#for i in 0..4
    {
        let query = {first} + 4u * row + {i}u;
        if query < p.length {
            let both = known[(sequence + query) * p.heads + head];
            shift[{i}] = both.x;
            sums[{i}] = both.y;
        }
    }
#end
#end

// Adds four rows of a product to what is there, or writes them if they are the first.
#define keep(to, first, at_column, width, depth, fresh)
#for i in 0..4
    {
        let line = {first} + 4u * row + {i}u;
        let feature = {depth} + 4u * column;
        if line < p.length {
            let at = (sequence + line) * {width} + {at_column} + feature;
#for j in 0..4
            if feature + {j}u < p.head_dim {
                var v = o{i}[{j}];
                if !{fresh} {
                    v += {to}[at + {j}u];
                }
                {to}[at + {j}u] = v;
            }
#end
        }
    }
#end
#end

#define places()
    let sequence = group.z * p.length;
    let query_width = p.heads * p.head_dim;
    let kv_width = p.kv_heads * p.head_dim;
    let row = lane / 8u;
    let column = lane % 8u;
#end

#define arguments()
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#end

// x: tile of queries; y: head; z: sequence.
@compute @workgroup_size(THREADS)
fn marks(
    #arguments()
) {
    #places()
    let head = group.y;
    let first = group.x * TILE;
    let query_column = head * p.head_dim;
    let kv_column = head / (p.heads / p.kv_heads) * p.head_dim;
    var largest = vec4(UNSEEN);
    var sums = vec4(0.0);
    var begin = 0u;
    if p.window > 0u && first + 1u > p.window {
        begin = (first + 1u - p.window) / TILE * TILE;
    }
    let end = min(first + TILE, p.length);
    for (var tile = begin; tile < end; tile += TILE) {
#for i in 0..4
        var s{i} = vec4(0.0);
#end
        for (var depth = 0u; depth < p.head_dim; depth += TILE) {
            workgroupBarrier();
            #stage_features(left, queries, first, query_column, query_width, depth)
            #stage_features(right, keys, tile, kv_column, kv_width, depth)
            workgroupBarrier();
            #multiply(s, left, right)
        }
#for i in 0..4
        {
            let s = finished(s{i}, tile + 4u * column, first + 4u * row + {i}u);
            let top = max(largest[{i}], max(max(s.x, s.y), max(s.z, s.w)));
            let e = exponentials(s, top);
            sums[{i}] = sums[{i}] * exp(largest[{i}] - top) + ((e.x + e.y) + (e.z + e.w));
            largest[{i}] = top;
        }
#end
    }
    var products = vec4(0.0);
    for (var feature = column; feature < p.head_dim; feature += 8u) {
#for i in 0..4
        {
            let at = (sequence + min(first + 4u * row + {i}u, p.length - 1u)) * query_width + query_column + feature;
            products[{i}] += f32(results[at]) * f32(dys[at]);
        }
#end
    }
    workgroupBarrier();
    left[lane] = largest;
    right[lane] = sums;
    weights[lane] = products;
    workgroupBarrier();
    if column == 0u {
        for (var c = 1u; c < 8u; c++) {
            largest = max(largest, left[lane + c]);
            products += weights[lane + c];
        }
        var all = vec4(0.0);
        for (var c = 0u; c < 8u; c++) {
            all += right[lane + c] * exp(left[lane + c] - largest);
        }
        let shift = largest + log(all);
#for i in 0..4
        {
            let query = first + 4u * row + {i}u;
            if query < p.length {
                known[(sequence + query) * p.heads + head] = vec2(shift[{i}], products[{i}]);
            }
        }
#end
    }
}

// x: tile of queries; y: head; z: sequence.
@compute @workgroup_size(THREADS)
fn for_queries(
    #arguments()
) {
    #places()
    let head = group.y;
    let first = group.x * TILE;
    let query_column = head * p.head_dim;
    let kv_column = head / (p.heads / p.kv_heads) * p.head_dim;
    var shift = vec4(0.0);
    var sums = vec4(0.0);
    #recall(first)
    var begin = 0u;
    if p.window > 0u && first + 1u > p.window {
        begin = (first + 1u - p.window) / TILE * TILE;
    }
    let end = min(first + TILE, p.length);
    for (var tile = begin; tile < end; tile += TILE) {
        #scores(first, tile)
#for j in 0..4
        weights[(4u * column + {j}u) * ROW + row] = vec4(g0[{j}], g1[{j}], g2[{j}], g3[{j}]);
#end
        for (var depth = 0u; depth < p.head_dim; depth += TILE) {
            workgroupBarrier();
            #stage_rows(right, keys, tile, kv_column, kv_width, depth)
            workgroupBarrier();
#for i in 0..4
            var o{i} = vec4(0.0);
#end
            #multiply(o, weights, right)
            #keep(into, first, query_column, query_width, depth, (tile == begin))
        }
    }
}

// x: tile of keys; y: head of keys and values; z: sequence.
@compute @workgroup_size(THREADS)
fn for_keys(
    #arguments()
) {
    #places()
    let tile = group.x * TILE;
    let kv_column = group.y * p.head_dim;
    let shared_by = p.heads / p.kv_heads;
    var end = p.length;
    if p.window > 0u {
        end = min(end, tile + TILE - 1u + p.window);
    }
    for (var member = 0u; member < shared_by; member++) {
        let head = group.y * shared_by + member;
        let query_column = head * p.head_dim;
        for (var first = tile; first < end; first += TILE) {
            let fresh = member == 0u && first == tile;
            var shift = vec4(0.0);
            var sums = vec4(0.0);
            #recall(first)
            #scores(first, tile)
#for i in 0..4
            weights[(4u * row + {i}u) * ROW + column] = w{i};
#end
            for (var depth = 0u; depth < p.head_dim; depth += TILE) {
                workgroupBarrier();
                #stage_rows(right, dys, first, query_column, query_width, depth)
                workgroupBarrier();
#for i in 0..4
                var o{i} = vec4(0.0);
#end
                #multiply(o, weights, right)
                #keep(for_values, tile, kv_column, kv_width, depth, fresh)
            }
            workgroupBarrier();
#for i in 0..4
            weights[(4u * row + {i}u) * ROW + column] = g{i};
#end
            for (var depth = 0u; depth < p.head_dim; depth += TILE) {
                workgroupBarrier();
                #stage_rows(right, queries, first, query_column, query_width, depth)
                workgroupBarrier();
#for i in 0..4
                var o{i} = vec4(0.0);
#end
                #multiply(o, weights, right)
                #keep(into, tile, kv_column, kv_width, depth, fresh)
            }
        }
    }
}
