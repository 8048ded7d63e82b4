// log softmax(logits)[target] times a factor, backwards: the gradient with respect to the logits, and the log-likelihood itself, one
// workgroup a row.

alias X = f32;
alias Y = f32;

struct Parameters {
    rows: u32,
    vocabulary: u32,
    // Bound of the logits; 0 for none.
    softcap: f32,
    // Where the rows' targets, factors and results start.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> logits: array<X>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read_write> likelihoods: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradients: array<Y>;

fn logit(row: u32, column: u32) -> f32 {
    let v = f32(logits[row * p.vocabulary + column]);
    if p.softcap > 0.0 {
        return p.softcap * tanh(v / p.softcap);
    }
    return v;
}

@compute @workgroup_size(THREADS)
fn likelihood_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var largest = -3.0e38;
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        largest = max(largest, logit(row, i));
    }
    parts[lane] = largest;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] = max(parts[lane], parts[lane + half]);
        }
        workgroupBarrier();
    }
    largest = parts[0];
    var sum = 0.0;
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        sum += exp(logit(row, i) - largest);
    }
    sum = total(lane, sum);
    let target_column = targets[p.first + row];
    let factor = factors[p.first + row];
    if lane == 0u {
        likelihoods[p.first + row] = logit(row, target_column) - largest - log(sum);
    }
    for (var i = lane; i < p.vocabulary; i += THREADS) {
        let v = logit(row, i);
        var slope = select(0.0, 1.0, i == target_column) - exp(v - largest) / sum;
        if p.softcap > 0.0 {
            let part = v / p.softcap;
            slope *= 1.0 - part * part;
        }
        gradients[row * p.vocabulary + i] = Y(factor * slope);
    }
}
