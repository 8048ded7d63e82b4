// log softmax(logits)[target], and by how much the target's logit exceeds the greatest (0 where it is the
// greatest, else negative), one workgroup a row.

alias X = f32;

struct Parameters {
    rows: u32,
    vocabulary: u32,
    // Bound of the logits; 0 for none.
    softcap: f32,
    // Where the rows' results start.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> logits: array<X>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> likelihoods: array<vec2<f32>>;

var<workgroup> parts: array<f32, 256>;

fn logit(row: u32, column: u32) -> f32 {
    let v = f32(logits[row * p.vocabulary + column]);
    if p.softcap > 0.0 {
        return p.softcap * tanh(v / p.softcap);
    }
    return v;
}

@compute @workgroup_size(256)
fn likelihood(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var largest = -3.0e38;
    for (var i = lane; i < p.vocabulary; i += 256u) {
        largest = max(largest, logit(row, i));
    }
    parts[lane] = largest;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] = max(parts[lane], parts[lane + half]);
        }
        workgroupBarrier();
    }
    largest = parts[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var i = lane; i < p.vocabulary; i += 256u) {
        sum += exp(logit(row, i) - largest);
    }
    parts[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let lead = logit(row, targets[p.first + row]) - largest;
        likelihoods[p.first + row] = vec2<f32>(lead - log(parts[0]), lead);
    }
}
