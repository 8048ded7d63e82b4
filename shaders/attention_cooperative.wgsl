// Causal attention in half precision on cooperative matrices, without a matrix of all scores: each subgroup of 32
// takes 16 queries of one head and walks over their keys in tiles of 32 with an online softmax. Scores, exponentials
// and sums are in single precision, probabilities are rounded to half for the second product.
//
// Head sizes are multiples of 16 up to 128; guards on FRAGMENTS disappear when the kernel is compiled.

enable f16;
enable wgpu_cooperative_matrix;

const HEAD_DIM: u32 = 64u;
// Subgroups of a workgroup: 4 for heads of up to 64, 8 for larger ones.
const SUBGROUPS: u32 = 4u;
const THREADS: u32 = SUBGROUPS * 32u;
const QUERIES: u32 = SUBGROUPS * 16u;
const KEYS: u32 = 32u;
const FRAGMENTS: u32 = HEAD_DIM / 16u;
// Vectors of 8 in a head, and of 4 in a staged row: 8 elements of padding, for the banks.
const OCTETS: u32 = HEAD_DIM / 8u;
const ROW: u32 = HEAD_DIM / 4u + 2u;
const UNSEEN: f32 = -1.0e30;

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
@group(0) @binding(1) var<storage, read> queries: array<vec4<f16>>;
// Eight elements at a time, which makes the loads 16 bytes wide.
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> results: array<vec4<f16>>;

var<workgroup> ks: array<vec4<f16>, KEYS * ROW>;
var<workgroup> vs: array<vec4<f16>, KEYS * ROW>;
// Of each subgroup: 16 x 32 scores in rows of 36, and 16 x 32 probabilities in rows of 40.
var<workgroup> scores: array<f32, SUBGROUPS * 576u>;
var<workgroup> weights: array<vec4<f16>, SUBGROUPS * 160u>;
// Whether a largest score was raised; a vector, because every array has to start at a multiple of 16 bytes.
var<workgroup> raised: vec4<u32>;

// Four scores in units of log2 e: scaled and bounded.
fn finished(at: u32) -> vec4<f32> {
    var s = vec4(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]) * p.scale;
    if p.softcap > 0.0 {
        s = p.softcap * tanh(clamp(s / p.softcap, vec4(-15.0), vec4(15.0)));
    }
    return s * 1.4426950408889634;
}

// UNSEEN for keys that lie outside.
fn seen(s: vec4<f32>, key: u32, query: u32) -> vec4<f32> {
    let each = vec4(key, key + 1u, key + 2u, key + 3u);
    var visible = each <= vec4(query);
    if p.window > 0u {
        visible = visible & (each + p.window > vec4(query));
    }
    return select(vec4(UNSEEN), s, visible);
}

fn rescale(at: u32, factor: f32) {
    for (var i = 0u; i < 8u; i++) {
        scores[at + i] *= factor;
    }
}

fn kept(at: u32, share: f32) -> vec4<f16> {
    return vec4<f16>(share * vec4(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]));
}

// Loads two fragments of queries by way of the probabilities' memory, 32 features.
#define stage_queries(n0, q0, n1, q1)
    if FRAGMENTS > {n0} {
        for (var i = 0u; i < 4u; i++) {
            let feature = {n0} * 4u + half * 4u + i;
            weights[my_w + i] = vec4<f16>();
            if feature < HEAD_DIM / 4u {
                weights[my_w + i] = queries[q_from + feature];
            }
        }
    }
    workgroupBarrier();
    if FRAGMENTS > {n0} {
        {q0} = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at], 10u);
    }
    if FRAGMENTS > {n1} {
        {q1} = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
    }
    workgroupBarrier();
#end

// x: tile of queries, the longest first; y: head; z: sequence.
@compute @workgroup_size(THREADS)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = (groups.x - 1u - group.x) * QUERIES;
    let sequence = group.z * p.length;
    let head = group.y;
    let kv_head = head / (p.heads / p.kv_heads);
    // A lane looks after half of the keys of one query.
    let row_in = lane / 2u;
    let half = lane % 2u;
    let query = first + subgroup * 16u + row_in;
    let s_at = subgroup * 576u;
    let w_at = subgroup * 160u;
    let my_s = s_at + row_in * 36u + half * 16u;
    let my_w = w_at + row_in * 10u + half * 4u;

    let q_from = ((sequence + min(query, p.length - 1u)) * p.heads + head) * (HEAD_DIM / 4u);
#for f in 0..8
    var q{f} = coop_mat16x16<f16, A>();
#end
    #stage_queries(0u, q0, 1u, q1)
    #stage_queries(2u, q2, 3u, q3)
    #stage_queries(4u, q4, 5u, q5)
    #stage_queries(6u, q6, 7u, q7)

    // Of a tile's vectors of 8 a thread fetches one or two, a tile ahead.
    let kv_row = p.kv_heads * OCTETS;
    let kv_from = (sequence * p.kv_heads + kv_head) * OCTETS;
    let line0 = thread / OCTETS;
    let line1 = (thread + THREADS) / OCTETS;
    let octet0 = thread % OCTETS;
    let octet1 = (thread + THREADS) % OCTETS;
    let last = p.length - 1u;
    var tile = 0u;
    if p.window > 0u && first + 1u > p.window {
        tile = (first + 1u - p.window) / KEYS * KEYS;
    }
    let end = min(first + QUERIES, p.length);
    var k0 = keys[kv_from + min(tile + line0, last) * kv_row + octet0];
    var k1 = keys[kv_from + min(tile + line1, last) * kv_row + octet1];
    var v0 = values[kv_from + min(tile + line0, last) * kv_row + octet0];
    var v1 = values[kv_from + min(tile + line1, last) * kv_row + octet1];
    var zero = coop_mat16x16<f32, C>();
#for f in 0..8
    var y{f} = coop_mat16x16<f32, C>();
#end
    var largest = UNSEEN;
    var total = 0.0;
    if thread == 0u {
        raised = vec4(0u);
    }
    for (; tile < end; tile += KEYS) {
        workgroupBarrier();
#for n in 0..2
        if line{n} < KEYS {
#for u in k, v
            {u}s[line{n} * ROW + 2u * octet{n}] = low({u}{n});
            {u}s[line{n} * ROW + 2u * octet{n} + 1u] = high({u}{n});
#end
        }
#end
        k0 = keys[kv_from + min(tile + KEYS + line0, last) * kv_row + octet0];
        k1 = keys[kv_from + min(tile + KEYS + line1, last) * kv_row + octet1];
        v0 = values[kv_from + min(tile + KEYS + line0, last) * kv_row + octet0];
        v1 = values[kv_from + min(tile + KEYS + line1, last) * kv_row + octet1];
        workgroupBarrier();
        var s0 = zero;
        var s1 = zero;
#for f in 0..8
        if FRAGMENTS > {f}u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + {f}u * 4u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + {f}u * 4u], ROW);
            s0 = coopMultiplyAdd(q{f}, b0, s0);
            s1 = coopMultiplyAdd(q{f}, b1, s1);
        }
#end
        {
            let m0 = s0;
            let m1 = s1;
            let at0 = &scores[s_at];
            let at1 = &scores[s_at + 16u];
            workgroupBarrier();
            coopStoreT(m0, at0, 36u);
            workgroupBarrier();
            coopStoreT(m1, at1, 36u);
            workgroupBarrier();
        }
#for n in 0..4
        var z{n} = finished(my_s + {n}u * 4u);
#end
        if tile + KEYS - 1u > first + subgroup * 16u || p.window > 0u {
            let key = tile + half * 16u;
#for n in 0..4
            z{n} = seen(z{n}, key + {n}u * 4u, query);
#end
        }
        let four = max(max(z0, z1), max(z2, z3));
        var top = max(max(four.x, four.y), max(four.z, four.w));
        top = max(top, subgroupShuffleXor(top, 1u));
        // What is subtracted follows the largest score only when that has passed it by a factor of 2^10: the
        // probabilities stay far below the largest half, and results are hardly ever rescaled.
        var fade = 1.0;
        if top > largest + 10.0 {
            fade = select(exp2(largest - top), 0.0, largest == UNSEEN);
            largest = top;
            total *= fade;
            raised.x = 1u;
        }
        // Of a query that has seen nothing yet nothing counts.
        let taken = max(largest, 0.1 * UNSEEN);
#for n in 0..4
        z{n} = exp2(z{n} - taken);
#end
        let sums = (z0 + z1) + (z2 + z3);
        total += (sums.x + sums.y) + (sums.z + sums.w);
#for n in 0..4
        weights[my_w + {n}u] = vec4<f16>(z{n});
#end
        if workgroupUniformLoad(&raised).x != 0u {
            // The results take the way through the scores' memory, where every lane rescales half a query's.
#for f in 0..8
            if FRAGMENTS > {f}u {
                let m = y{f};
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y{f} = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
#end
            workgroupBarrier();
            if thread == 0u {
                raised = vec4(0u);
            }
        }
        let w0 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at], 10u);
        let w1 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
#for f in 0..8
        if FRAGMENTS > {f}u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + {f}u * 4u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + {f}u * 4u], ROW);
            y{f} = coopMultiplyAdd(w0, b0, y{f});
            y{f} = coopMultiplyAdd(w1, b1, y{f});
        }
#end
    }
    total += subgroupShuffleXor(total, 1u);
    let share = 1.0 / total;
    let to = ((sequence + query) * p.heads + head) * (HEAD_DIM / 4u) + half * 2u;
    let my_y = s_at + row_in * 36u + half * 8u;
#for f in 0..8
    if FRAGMENTS > {f}u {
        let m = y{f};
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + {f}u * 4u] = kept(my_y, share);
            results[to + {f}u * 4u + 1u] = kept(my_y + 4u, share);
        }
    }
#end
}
