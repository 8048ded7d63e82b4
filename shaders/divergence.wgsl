// How far softmax(others) is from softmax(dense), one workgroup a row: the divergence in nats, and 1 where both have their greatest
// logit at the same place, the first of equals, else 0.
//
// With p and q the probabilities of a token, the divergence is the sum of p ln(p / q) - p + q. No term is negative, so rounding does
// not make the sum of many small differences a wrong one.

alias X = f32;

struct Parameters {
    rows: u32,
    vocabulary: u32,
    // Bounds of the logits; 0 for none.
    dense_softcap: f32,
    softcap: f32,
    // Where the rows' results start.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> dense: array<X>;
@group(0) @binding(2) var<storage, read> others: array<X>;
@group(0) @binding(3) var<storage, read_write> divergences: array<vec2<f32>>;

var<workgroup> places: array<u32, THREADS>;

fn bounded(v: f32, softcap: f32) -> f32 {
    if softcap > 0.0 {
        return softcap * tanh(v / softcap);
    }
    return v;
}

fn dense_logit(row: u32, column: u32) -> f32 {
    return bounded(f32(dense[row * p.vocabulary + column]), p.dense_softcap);
}

fn logit(row: u32, column: u32) -> f32 {
    return bounded(f32(others[row * p.vocabulary + column]), p.softcap);
}

// The greatest value over all lanes and its place, the lowest of equals; both are left at index 0.
fn lead(lane: u32, value: f32, place: u32) {
    workgroupBarrier();
    parts[lane] = value;
    places[lane] = place;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let further = parts[lane + half];
            let before = further == parts[lane] && places[lane + half] < places[lane];
            if further > parts[lane] || before {
                parts[lane] = further;
                places[lane] = places[lane + half];
            }
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(THREADS)
fn divergence(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var largest = -3.4e38;
    var place = p.vocabulary;
    var dense_largest = -3.4e38;
    var dense_place = p.vocabulary;
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        let a = dense_logit(row, i);
        if a > dense_largest {
            dense_largest = a;
            dense_place = i;
        }
        let b = logit(row, i);
        if b > largest {
            largest = b;
            place = i;
        }
    }
    lead(lane, dense_largest, dense_place);
    dense_largest = parts[0];
    dense_place = places[0];
    lead(lane, largest, place);
    largest = parts[0];
    place = places[0];
    var dense_sum = 0.0;
    var sum = 0.0;
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        dense_sum += exp(dense_logit(row, i) - dense_largest);
        sum += exp(logit(row, i) - largest);
    }
    dense_sum = log(total(lane, dense_sum));
    sum = log(total(lane, sum));
    var apart = 0.0;
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        let a = dense_logit(row, i) - dense_largest - dense_sum;
        let b = logit(row, i) - largest - sum;
        let likely = exp(a);
        apart += likely * (a - b) - likely + exp(b);
    }
    apart = total(lane, apart);
    if lane == 0u {
        divergences[p.first + row] = vec2<f32>(apart, select(0.0, 1.0, place == dense_place));
    }
}
