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

fn low(v: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)));
}

fn high(v: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)));
}

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

    // Queries become fragments by way of the probabilities' memory, 32 features at a time.
    let q_from = ((sequence + min(query, p.length - 1u)) * p.heads + head) * (HEAD_DIM / 4u);
    var q0 = coop_mat16x16<f16, A>();
    var q1 = coop_mat16x16<f16, A>();
    var q2 = coop_mat16x16<f16, A>();
    var q3 = coop_mat16x16<f16, A>();
    var q4 = coop_mat16x16<f16, A>();
    var q5 = coop_mat16x16<f16, A>();
    var q6 = coop_mat16x16<f16, A>();
    var q7 = coop_mat16x16<f16, A>();
    {
        for (var i = 0u; i < 4u; i++) {
            let feature = 0u + half * 4u + i;
            weights[my_w + i] = vec4<f16>();
            if feature < HEAD_DIM / 4u {
                weights[my_w + i] = queries[q_from + feature];
            }
        }
    }
    workgroupBarrier();
    if FRAGMENTS > 0u {
        q0 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 0u], 10u);
    }
    if FRAGMENTS > 1u {
        q1 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
    }
    workgroupBarrier();
    if FRAGMENTS > 2u {
        for (var i = 0u; i < 4u; i++) {
            let feature = 8u + half * 4u + i;
            weights[my_w + i] = vec4<f16>();
            if feature < HEAD_DIM / 4u {
                weights[my_w + i] = queries[q_from + feature];
            }
        }
    }
    workgroupBarrier();
    if FRAGMENTS > 2u {
        q2 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 0u], 10u);
    }
    if FRAGMENTS > 3u {
        q3 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
    }
    workgroupBarrier();
    if FRAGMENTS > 4u {
        for (var i = 0u; i < 4u; i++) {
            let feature = 16u + half * 4u + i;
            weights[my_w + i] = vec4<f16>();
            if feature < HEAD_DIM / 4u {
                weights[my_w + i] = queries[q_from + feature];
            }
        }
    }
    workgroupBarrier();
    if FRAGMENTS > 4u {
        q4 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 0u], 10u);
    }
    if FRAGMENTS > 5u {
        q5 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
    }
    workgroupBarrier();
    if FRAGMENTS > 6u {
        for (var i = 0u; i < 4u; i++) {
            let feature = 24u + half * 4u + i;
            weights[my_w + i] = vec4<f16>();
            if feature < HEAD_DIM / 4u {
                weights[my_w + i] = queries[q_from + feature];
            }
        }
    }
    workgroupBarrier();
    if FRAGMENTS > 6u {
        q6 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 0u], 10u);
    }
    if FRAGMENTS > 7u {
        q7 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
    }
    workgroupBarrier();

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
    var y0 = coop_mat16x16<f32, C>();
    var y1 = coop_mat16x16<f32, C>();
    var y2 = coop_mat16x16<f32, C>();
    var y3 = coop_mat16x16<f32, C>();
    var y4 = coop_mat16x16<f32, C>();
    var y5 = coop_mat16x16<f32, C>();
    var y6 = coop_mat16x16<f32, C>();
    var y7 = coop_mat16x16<f32, C>();
    var largest = UNSEEN;
    var total = 0.0;
    if thread == 0u {
        raised = vec4(0u);
    }
    for (; tile < end; tile += KEYS) {
        workgroupBarrier();
        if line0 < KEYS {
            ks[line0 * ROW + 2u * octet0] = low(k0);
            ks[line0 * ROW + 2u * octet0 + 1u] = high(k0);
            vs[line0 * ROW + 2u * octet0] = low(v0);
            vs[line0 * ROW + 2u * octet0 + 1u] = high(v0);
        }
        if line1 < KEYS {
            ks[line1 * ROW + 2u * octet1] = low(k1);
            ks[line1 * ROW + 2u * octet1 + 1u] = high(k1);
            vs[line1 * ROW + 2u * octet1] = low(v1);
            vs[line1 * ROW + 2u * octet1 + 1u] = high(v1);
        }
        k0 = keys[kv_from + min(tile + KEYS + line0, last) * kv_row + octet0];
        k1 = keys[kv_from + min(tile + KEYS + line1, last) * kv_row + octet1];
        v0 = values[kv_from + min(tile + KEYS + line0, last) * kv_row + octet0];
        v1 = values[kv_from + min(tile + KEYS + line1, last) * kv_row + octet1];
        workgroupBarrier();
        var s0 = zero;
        var s1 = zero;
        {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 0u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 0u], ROW);
            s0 = coopMultiplyAdd(q0, b0, s0);
            s1 = coopMultiplyAdd(q0, b1, s1);
        }
        if FRAGMENTS > 1u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 4u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 4u], ROW);
            s0 = coopMultiplyAdd(q1, b0, s0);
            s1 = coopMultiplyAdd(q1, b1, s1);
        }
        if FRAGMENTS > 2u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 8u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 8u], ROW);
            s0 = coopMultiplyAdd(q2, b0, s0);
            s1 = coopMultiplyAdd(q2, b1, s1);
        }
        if FRAGMENTS > 3u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 12u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 12u], ROW);
            s0 = coopMultiplyAdd(q3, b0, s0);
            s1 = coopMultiplyAdd(q3, b1, s1);
        }
        if FRAGMENTS > 4u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 16u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 16u], ROW);
            s0 = coopMultiplyAdd(q4, b0, s0);
            s1 = coopMultiplyAdd(q4, b1, s1);
        }
        if FRAGMENTS > 5u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 20u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 20u], ROW);
            s0 = coopMultiplyAdd(q5, b0, s0);
            s1 = coopMultiplyAdd(q5, b1, s1);
        }
        if FRAGMENTS > 6u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 24u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 24u], ROW);
            s0 = coopMultiplyAdd(q6, b0, s0);
            s1 = coopMultiplyAdd(q6, b1, s1);
        }
        if FRAGMENTS > 7u {
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&ks[0u * ROW + 28u], ROW);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&ks[16u * ROW + 28u], ROW);
            s0 = coopMultiplyAdd(q7, b0, s0);
            s1 = coopMultiplyAdd(q7, b1, s1);
        }
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
        var z0 = finished(my_s);
        var z1 = finished(my_s + 4u);
        var z2 = finished(my_s + 8u);
        var z3 = finished(my_s + 12u);
        if tile + KEYS - 1u > first + subgroup * 16u || p.window > 0u {
            let key = tile + half * 16u;
            z0 = seen(z0, key, query);
            z1 = seen(z1, key + 4u, query);
            z2 = seen(z2, key + 8u, query);
            z3 = seen(z3, key + 12u, query);
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
        z0 = exp2(z0 - taken);
        z1 = exp2(z1 - taken);
        z2 = exp2(z2 - taken);
        z3 = exp2(z3 - taken);
        let sums = (z0 + z1) + (z2 + z3);
        total += (sums.x + sums.y) + (sums.z + sums.w);
        weights[my_w] = vec4<f16>(z0);
        weights[my_w + 1u] = vec4<f16>(z1);
        weights[my_w + 2u] = vec4<f16>(z2);
        weights[my_w + 3u] = vec4<f16>(z3);
        if workgroupUniformLoad(&raised).x != 0u {
            // The results take the way through the scores' memory, where every lane rescales half a query's.
            {
                let m = y0;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y0 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 1u {
                let m = y1;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y1 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 2u {
                let m = y2;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y2 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 3u {
                let m = y3;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y3 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 4u {
                let m = y4;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y4 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 5u {
                let m = y5;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y5 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 6u {
                let m = y6;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y6 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            if FRAGMENTS > 7u {
                let m = y7;
                let at = &scores[s_at];
                workgroupBarrier();
                coopStoreT(m, at, 36u);
                workgroupBarrier();
                rescale(s_at + row_in * 36u + half * 8u, fade);
                workgroupBarrier();
                y7 = coopLoadT<coop_mat16x16<f32, C>>(&scores[s_at], 36u);
            }
            workgroupBarrier();
            if thread == 0u {
                raised = vec4(0u);
            }
        }
        let w0 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at], 10u);
        let w1 = coopLoadT<coop_mat16x16<f16, A>>(&weights[w_at + 4u], 10u);
        {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 0u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 0u], ROW);
            y0 = coopMultiplyAdd(w0, b0, y0);
            y0 = coopMultiplyAdd(w1, b1, y0);
        }
        if FRAGMENTS > 1u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 4u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 4u], ROW);
            y1 = coopMultiplyAdd(w0, b0, y1);
            y1 = coopMultiplyAdd(w1, b1, y1);
        }
        if FRAGMENTS > 2u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 8u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 8u], ROW);
            y2 = coopMultiplyAdd(w0, b0, y2);
            y2 = coopMultiplyAdd(w1, b1, y2);
        }
        if FRAGMENTS > 3u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 12u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 12u], ROW);
            y3 = coopMultiplyAdd(w0, b0, y3);
            y3 = coopMultiplyAdd(w1, b1, y3);
        }
        if FRAGMENTS > 4u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 16u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 16u], ROW);
            y4 = coopMultiplyAdd(w0, b0, y4);
            y4 = coopMultiplyAdd(w1, b1, y4);
        }
        if FRAGMENTS > 5u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 20u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 20u], ROW);
            y5 = coopMultiplyAdd(w0, b0, y5);
            y5 = coopMultiplyAdd(w1, b1, y5);
        }
        if FRAGMENTS > 6u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 24u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 24u], ROW);
            y6 = coopMultiplyAdd(w0, b0, y6);
            y6 = coopMultiplyAdd(w1, b1, y6);
        }
        if FRAGMENTS > 7u {
            let b0 = coopLoadT<coop_mat16x16<f16, B>>(&vs[0u * ROW + 28u], ROW);
            let b1 = coopLoadT<coop_mat16x16<f16, B>>(&vs[16u * ROW + 28u], ROW);
            y7 = coopMultiplyAdd(w0, b0, y7);
            y7 = coopMultiplyAdd(w1, b1, y7);
        }
    }
    total += subgroupShuffleXor(total, 1u);
    let share = 1.0 / total;
    let to = ((sequence + query) * p.heads + head) * (HEAD_DIM / 4u) + half * 2u;
    let my_y = s_at + row_in * 36u + half * 8u;
    {
        let m = y0;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 0u] = kept(my_y, share);
            results[to + 1u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 1u {
        let m = y1;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 4u] = kept(my_y, share);
            results[to + 5u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 2u {
        let m = y2;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 8u] = kept(my_y, share);
            results[to + 9u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 3u {
        let m = y3;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 12u] = kept(my_y, share);
            results[to + 13u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 4u {
        let m = y4;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 16u] = kept(my_y, share);
            results[to + 17u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 5u {
        let m = y5;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 20u] = kept(my_y, share);
            results[to + 21u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 6u {
        let m = y6;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 24u] = kept(my_y, share);
            results[to + 25u] = kept(my_y + 4u, share);
        }
    }
    if FRAGMENTS > 7u {
        let m = y7;
        let at = &scores[s_at];
        workgroupBarrier();
        coopStoreT(m, at, 36u);
        workgroupBarrier();
        if query < p.length {
            results[to + 28u] = kept(my_y, share);
            results[to + 29u] = kept(my_y + 4u, share);
        }
    }
}
