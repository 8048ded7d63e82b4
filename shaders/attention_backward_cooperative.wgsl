// The gradients of causal attention in half precision on cooperative matrices, without a matrix of all scores. First `reach` finds
// for every query the sum of the products of its result with the gradient, and `marks` the logarithm of the sum of its exponentials.
// Then `for_queries` takes queries over all their keys, and `for_keys` takes keys over all queries that see them.
//
// There a pair of subgroups of 32 has 16 rows of its own, and the rows that they meet come in tiles of 32. The first of the pair
// multiplies queries with keys, the second multiplies gradients of results with values. From both products both compute
// probabilities and gradients with respect to scores, which are rounded to half, and then share the second products.
//
// Head sizes are multiples of 16 up to 128; guards on FRAGMENTS disappear when the kernel is compiled.

enable f16;
enable wgpu_cooperative_matrix;

const HEAD_DIM: u32 = 64u;
// Subgroups of a workgroup, an even number.
const SUBGROUPS: u32 = 8u;
const THREADS: u32 = SUBGROUPS * 32u;
// Rows that the pairs of a workgroup have for their own.
const OWN: u32 = SUBGROUPS * 8u;
const TILE: u32 = 32u;
const FRAGMENTS: u32 = HEAD_DIM / 16u;
// What one of a pair computes of the gradient of queries.
const SHARE: u32 = (FRAGMENTS + 1u) / 2u;
// Vectors of 8 in a head, and of 4 in a staged row: 8 elements of padding, for the banks.
const OCTETS: u32 = HEAD_DIM / 8u;
const ROW: u32 = HEAD_DIM / 4u + 2u;
// Vectors of 8 that an invocation fetches of a tile, at most 4.
const FETCHED: u32 = (TILE * OCTETS + THREADS - 1u) / THREADS;
const UNSEEN: f32 = -1.0e30;
const LOG2E: f32 = 1.4426950408889634;
// Probabilities are stored 2^15 times as large, so that small ones keep their digits; 1 is still below the largest half.
const ENLARGED: f32 = 15.0;
const REDUCED: f32 = 3.0517578125e-5;

struct Parameters {
    length: u32,
    heads: u32,
    kv_heads: u32,
    // Keys a query sees, itself included; 0 for all before it.
    window: u32,
    scale: f32,
    // Bound of the scores; 0 for none.
    softcap: f32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
// Eight elements at a time, which makes the loads 16 bytes wide.
@group(0) @binding(1) var<storage, read> queries: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> results: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> dys: array<vec4<u32>>;
// For every token and head: the binary logarithm of the sum of exponentials, less ENLARGED; and the sum of products. After them, for
// every sequence and head of keys: a power of two, and its inverse. Gradients with respect to scores, times this power and 2^15,
// are at most 2^15.
@group(0) @binding(6) var<storage, read_write> known: array<vec2<f32>>;
// The gradient of queries or of keys.
@group(0) @binding(7) var<storage, read_write> into: array<vec4<f32>>;
// The gradient of values.
@group(0) @binding(8) var<storage, read_write> for_values: array<vec4<f32>>;

// The rows that all subgroups meet: 32 of queries or keys, then 32 of gradients of results or values.
var<workgroup> tiles: array<vec4<f16>, 2u * TILE * ROW>;
// Of each subgroup: 16 x 32 products in rows of 36, and 16 x 32 weights in rows of 40.
var<workgroup> products: array<vec4<f32>, SUBGROUPS * 144u>;
var<workgroup> weights: array<vec4<f16>, SUBGROUPS * 160u>;
// What is known of the queries of a tile.
var<workgroup> shifts: array<vec4<f32>, 8>;
var<workgroup> sums: array<vec4<f32>, 8>;
// Of each subgroup: the largest square of a gradient and of a value.
var<workgroup> squares: array<vec4<f32>, SUBGROUPS>;

// Scores divided by their bound.
fn bounded(raw: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(raw * (p.scale / p.softcap), vec4(-15.0), vec4(15.0)));
}

// Which keys a query sees. Four of either may be asked for.
fn seen(key: vec4<u32>, query: vec4<u32>) -> vec4<bool> {
    var visible = (key <= query) & (query < vec4(p.length));
    if p.window > 0u {
        visible = visible & (key + vec4(p.window) > query);
    }
    return visible;
}

fn four(n: u32) -> vec4<u32> {
    return vec4(n, n + 1u, n + 2u, n + 3u);
}

fn all_four(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

#define arguments()
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#end

// A lane looks after a part of one of its subgroup's 16 rows. Of the tiles, a thread fetches up to four vectors of 8 of either.
#define places()
    let sequence = group.z * p.length;
    let last = p.length - 1u;
    let shared_by = p.heads / p.kv_heads;
    let row = lane % 16u;
    let side = lane / 16u;
    let my_products = subgroup * 144u;
    let my_weights = subgroup * 160u;
#for n in 0..4
    let line{n} = (thread + {n}u * THREADS) / OCTETS;
    let octet{n} = (thread + {n}u * THREADS) % OCTETS;
    var left{n} = vec4<u32>();
    var right{n} = vec4<u32>();
#end
    var zero = coop_mat16x16<f32, C>();
#for f in 0..8
    var own{f} = coop_mat16x16<f16, A>();
#end
#end

// Which of its pair a subgroup is; and what a lane turns into weights: 8 of the 32 products of a row.
#define pairs()
    let pair = subgroup / 2u;
    let role = subgroup % 2u;
    let part = 2u * (2u * role + side);
    let row_products = pair * 288u + row * 9u + part;
    // What the first products are with.
    let met_at = role * TILE * ROW;
#end

// Loads 32 features of a subgroup's own rows by way of the weights' memory: of `first` for the first of a pair, else of `second`.
#define load_two(m, n, first, second, role, at)
    if FRAGMENTS > {m}u {
        for (var i = 0u; i < 2u; i++) {
            let octet = {m}u * 2u + side * 2u + i;
            var v = vec4<u32>();
            if octet < OCTETS {
                if {role} == 0u {
                    v = {first}[{at} + octet];
                } else {
                    v = {second}[{at} + octet];
                }
            }
            let to = my_weights + row * 10u + side * 4u + 2u * i;
            weights[to] = low(v);
            weights[to + 1u] = high(v);
        }
    }
    workgroupBarrier();
    if FRAGMENTS > {m}u {
        own{m} = coopLoadT<coop_mat16x16<f16, A>>(&weights[my_weights], 10u);
    }
    if FRAGMENTS > {n}u {
        own{n} = coopLoadT<coop_mat16x16<f16, A>>(&weights[my_weights + 4u], 10u);
    }
    workgroupBarrier();
#end

#define load_own(first, second, role, at)
    #load_two(0, 1, {first}, {second}, {role}, {at})
    #load_two(2, 3, {first}, {second}, {role}, {at})
    #load_two(4, 5, {first}, {second}, {role}, {at})
    #load_two(6, 7, {first}, {second}, {role}, {at})
#end

// Fetches a tile of a matrix. Past the last row any will do: what is computed with it does not count.
#define fetch(into, source, tile, heads, head)
#for n in 0..4
    if FETCHED > {n}u {
        {into}{n} = {source}[((sequence + min({tile} + line{n}, last)) * {heads} + {head}) * OCTETS + octet{n}];
    }
#end
#end

#define put(fetched, at)
#for n in 0..4
    if FETCHED > {n}u && line{n} < TILE {
        let to = {at} + line{n} * ROW + 2u * octet{n};
        tiles[to] = low({fetched}{n});
        tiles[to + 1u] = high({fetched}{n});
    }
#end
#end

// Products of a subgroup's own rows with 32 rows of a tile, stored.
#define multiply(at)
    var s0 = zero;
    var s1 = zero;
#for f in 0..8
    if FRAGMENTS > {f}u {
        let b0 = coopLoad<coop_mat16x16<f16, B>>(&tiles[{at} + {f}u * 4u], ROW);
        let b1 = coopLoad<coop_mat16x16<f16, B>>(&tiles[{at} + 16u * ROW + {f}u * 4u], ROW);
        s0 = coopMultiplyAdd(own{f}, b0, s0);
        s1 = coopMultiplyAdd(own{f}, b1, s1);
    }
#end
    {
        let m0 = s0;
        let m1 = s1;
        let at0 = &products[my_products];
        let at1 = &products[my_products + 4u];
        workgroupBarrier();
        coopStoreT(m0, at0, 9u);
        workgroupBarrier();
        coopStoreT(m1, at1, 9u);
        workgroupBarrier();
    }
#end

// Eight probabilities, `w`, and gradients with respect to raw products, `g`: of `key{n}` and `query{n}`, whose logarithms and
// sums are `shift{n}` and `sum{n}`.
#define weigh()
#for n in 0..2
    let raw{n} = products[row_products + {n}u];
    var z{n} = raw{n} * (p.scale * LOG2E);
    var slope{n} = vec4(power);
    if p.softcap > 0.0 {
        let b = bounded(raw{n});
        z{n} = b * (p.softcap * LOG2E);
        slope{n} = power * (1.0 - b * b);
    }
    var w{n} = exp2(z{n} - shift{n});
    var g{n} = w{n} * (products[row_products + 144u + {n}u] - sum{n}) * slope{n};
    if masked {
        let visible = seen(key{n}, query{n});
        w{n} = select(vec4(0.0), w{n}, visible);
        g{n} = select(vec4(0.0), g{n}, visible);
    }
#end
#end

// Adds products of 32 weights with the rows of a tile to fragments `f` of the results, if `condition` holds for them.
#define add(limit, weights_at, at)
    {
        let weight0 = coopLoadT<coop_mat16x16<f16, A>>(&weights[{weights_at}], 10u);
        let weight1 = coopLoadT<coop_mat16x16<f16, A>>(&weights[{weights_at} + 4u], 10u);
#for f in 0..8
        if {limit} > {f}u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tiles[{at} + {f}u * 4u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&tiles[{at} + 16u * ROW + {f}u * 4u], ROW);
            y{f} = coopMultiplyAdd(weight0, b0, y{f});
            y{f} = coopMultiplyAdd(weight1, b1, y{f});
        }
#end
    }
#end

// x: 1; y: head of keys and values; z: sequence.
@compute @workgroup_size(THREADS)
fn reach(
    #arguments()
) {
    let sequence = group.z * p.length;
    let shared_by = p.heads / p.kv_heads;
    var largest = vec2(0.0);
    for (var i = thread; i < p.length * shared_by; i += THREADS) {
        let place = (sequence + i / shared_by) * p.heads + group.y * shared_by + i % shared_by;
        var product = vec4(0.0);
        var square = vec4(0.0);
        for (var octet = 0u; octet < OCTETS; octet++) {
            let result = results[place * OCTETS + octet];
            let dy = dys[place * OCTETS + octet];
#for half in low, high
            {
                let d = vec4<f32>({half}(dy));
                product += vec4<f32>({half}(result)) * d;
                square += d * d;
            }
#end
        }
        known[place].y = all_four(product);
        largest.x = max(largest.x, all_four(square));
    }
    for (var i = thread; i < p.length; i += THREADS) {
        let at = ((sequence + i) * p.kv_heads + group.y) * OCTETS;
        var square = vec4(0.0);
        for (var octet = 0u; octet < OCTETS; octet++) {
            let value = values[at + octet];
            let a = vec4<f32>(low(value));
            let b = vec4<f32>(high(value));
            square += a * a + b * b;
        }
        largest.y = max(largest.y, all_four(square));
    }
    largest = subgroupMax(largest);
    if lane == 0u {
        squares[subgroup] = vec4(largest, 0.0, 0.0);
    }
    workgroupBarrier();
    if thread == 0u {
        for (var i = 0u; i < SUBGROUPS; i++) {
            largest = max(largest, squares[i].xy);
        }
        // A product of a gradient with a value, less a mean of such products.
        let bound = 2.0 * sqrt(largest.x) * sqrt(largest.y);
        let power = exp2(-clamp(ceil(log2(max(bound, 1.0e-30))), -60.0, 60.0));
        known[groups.z * p.length * p.heads + group.z * p.kv_heads + group.y] = vec2(power, 1.0 / power);
    }
}

// x: tile of queries, the longest first; y: head; z: sequence.
@compute @workgroup_size(THREADS)
fn marks(
    #arguments()
) {
    #places()
    let first = (groups.x - 1u - group.x) * 2u * OWN;
    let head = group.y;
    let kv_head = head / shared_by;
    let query = first + subgroup * 16u + row;
    let own_at = ((sequence + min(query, last)) * p.heads + head) * OCTETS;
    #load_own(queries, queries, 0u, own_at)
    var tile = 0u;
    if p.window > 0u && first + 1u > p.window {
        tile = (first + 1u - p.window) / TILE * TILE;
    }
    let end = min(first + 2u * OWN, p.length);
    #fetch(left, keys, tile, p.kv_heads, kv_head)
    var largest = UNSEEN;
    var total = 0.0;
    for (; tile < end; tile += TILE) {
        workgroupBarrier();
        #put(left, 0u)
        #fetch(left, keys, (tile + TILE), p.kv_heads, kv_head)
        workgroupBarrier();
        #multiply(0u)
        let masked = tile + TILE > first || p.window > 0u;
#for n in 0..4
        var z{n} = products[my_products + row * 9u + side * 4u + {n}u];
        if p.softcap > 0.0 {
            z{n} = bounded(z{n}) * (p.softcap * LOG2E);
        } else {
            z{n} *= p.scale * LOG2E;
        }
        if masked {
            z{n} = select(vec4(UNSEEN), z{n}, seen(four(tile + side * 16u + {n}u * 4u), vec4(min(query, last))));
        }
#end
        let top = max(max(z0, z1), max(z2, z3));
        let highest = max(largest, max(max(top.x, top.y), max(top.z, top.w)));
        // Of a query that has seen nothing yet nothing counts.
        let taken = max(highest, 0.1 * UNSEEN);
        total *= exp2(largest - taken);
        total += all_four((exp2(z0 - taken) + exp2(z1 - taken)) + (exp2(z2 - taken) + exp2(z3 - taken)));
        largest = highest;
    }
    let highest = max(largest, subgroupShuffleXor(largest, 16u));
    total *= exp2(largest - highest);
    total += subgroupShuffleXor(total, 16u);
    if query < p.length && side == 0u {
        known[(sequence + query) * p.heads + head].x = highest + log2(total) - ENLARGED;
    }
}

// x: tile of queries, the longest first; y: head; z: sequence.
@compute @workgroup_size(THREADS)
fn for_queries(
    #arguments()
) {
    #places()
    #pairs()
    let first = (groups.x - 1u - group.x) * OWN;
    let head = group.y;
    let kv_head = head / shared_by;
    let query = first + pair * 16u + row;
    let own_at = (sequence + min(query, last)) * p.heads + head;
    #load_own(queries, dys, role, (own_at * OCTETS))
    let mark = known[own_at];
    let powers = known[groups.z * p.length * p.heads + group.z * p.kv_heads + kv_head];
    let power = powers.x;
    var tile = 0u;
    if p.window > 0u && first + 1u > p.window {
        tile = (first + 1u - p.window) / TILE * TILE;
    }
    let end = min(first + OWN, p.length);
    #fetch(left, keys, tile, p.kv_heads, kv_head)
    #fetch(right, values, tile, p.kv_heads, kv_head)
#for f in 0..8
    var y{f} = coop_mat16x16<f32, C>();
#end
    for (; tile < end; tile += TILE) {
        workgroupBarrier();
        #put(left, 0u)
        #put(right, TILE * ROW)
        #fetch(left, keys, (tile + TILE), p.kv_heads, kv_head)
        #fetch(right, values, (tile + TILE), p.kv_heads, kv_head)
        workgroupBarrier();
        #multiply(met_at)
        let masked = tile + TILE > first || p.window > 0u;
#for n in 0..2
        let shift{n} = vec4(mark.x);
        let sum{n} = vec4(mark.y);
        let key{n} = four(tile + 4u * (part + {n}u));
        let query{n} = vec4(query);
#end
        #weigh()
#for n in 0..2
        weights[pair * 320u + row * 10u + part + {n}u] = vec4<f16>(g{n});
#end
        workgroupBarrier();
        #add(SHARE, pair * 320u, role * SHARE * 4u)
    }
    let share = p.scale * REDUCED * powers.y;
#for f in 0..4
    if SHARE > {f}u {
        let m = y{f};
        let at = &products[my_products];
        workgroupBarrier();
        coopStoreT(m, at, 9u);
        workgroupBarrier();
        let fragment = role * SHARE + {f}u;
        if query < p.length && fragment < FRAGMENTS {
            let to = own_at * (HEAD_DIM / 4u) + fragment * 4u + side * 2u;
            let kept = my_products + row * 9u + side * 2u;
            into[to] = share * products[kept];
            into[to + 1u] = share * products[kept + 1u];
        }
    }
#end
}

// x: tile of keys, the longest first; y: head of keys and values; z: sequence.
@compute @workgroup_size(THREADS)
fn for_keys(
    #arguments()
) {
    #places()
    #pairs()
    let first = group.x * OWN;
    let kv_head = group.y;
    let key = first + pair * 16u + row;
    let own_at = (sequence + min(key, last)) * p.kv_heads + kv_head;
    #load_own(keys, values, role, (own_at * OCTETS))
    let powers = known[groups.z * p.length * p.heads + group.z * p.kv_heads + kv_head];
    let power = powers.x;
    let begin = first / TILE * TILE;
    var end = p.length;
    if p.window > 0u {
        end = min(end, first + OWN - 1u + p.window);
    }
    var tile = begin;
    var head = kv_head * shared_by;
    let heads_end = head + shared_by;
    #fetch(left, queries, tile, p.heads, head)
    #fetch(right, dys, tile, p.heads, head)
    var mark = known[(sequence + min(tile + thread % TILE, last)) * p.heads + head];
#for f in 0..8
    var y{f} = coop_mat16x16<f32, C>();
#end
    while head < heads_end {
        workgroupBarrier();
        #put(left, 0u)
        #put(right, TILE * ROW)
        if thread < TILE {
            shifts[thread / 4u][thread % 4u] = mark.x;
            sums[thread / 4u][thread % 4u] = mark.y;
        }
        let here = tile;
        tile += TILE;
        if tile >= end {
            tile = begin;
            head += 1u;
        }
        let next = min(head, heads_end - 1u);
        #fetch(left, queries, tile, p.heads, next)
        #fetch(right, dys, tile, p.heads, next)
        mark = known[(sequence + min(tile + thread % TILE, last)) * p.heads + next];
        workgroupBarrier();
        #multiply(met_at)
        let masked = here < first + OWN || here + TILE > p.length || p.window > 0u;
#for n in 0..2
        let shift{n} = shifts[part + {n}u];
        let sum{n} = sums[part + {n}u];
        let key{n} = vec4(key);
        let query{n} = four(here + 4u * (part + {n}u));
#end
        #weigh()
#for n in 0..2
        weights[pair * 320u + row * 10u + part + {n}u] = vec4<f16>(w{n});
        weights[pair * 320u + 160u + row * 10u + part + {n}u] = vec4<f16>(g{n});
#end
        workgroupBarrier();
        #add(FRAGMENTS, my_weights, (1u - role) * TILE * ROW)
    }
    let share = select(p.scale * REDUCED * powers.y, REDUCED, role == 0u);
#for f in 0..8
    if FRAGMENTS > {f}u {
        let m = y{f};
        let at = &products[my_products];
        workgroupBarrier();
        coopStoreT(m, at, 9u);
        workgroupBarrier();
        if key < p.length {
            let to = own_at * (HEAD_DIM / 4u) + {f}u * 4u + side * 2u;
            let kept = my_products + row * 9u + side * 2u;
            if role == 0u {
                for_values[to] = share * products[kept];
                for_values[to + 1u] = share * products[kept + 1u];
            } else {
                into[to] = share * products[kept];
                into[to + 1u] = share * products[kept + 1u];
            }
        }
    }
#end
}
