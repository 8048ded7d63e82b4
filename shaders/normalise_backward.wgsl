// The gradient with respect to the input of RMS and layer norms of runs of `width` features, one workgroup a run: with h = gain dy and
// the normalised run z, factor (h - mean(h) - z mean(h z)). RMS norms subtract no mean.

alias X = f32;
alias Z = f32;

struct Parameters {
    runs: u32,
    width: u32,
    // 0: RMS, 1: layer norm.
    centred: u32,
    epsilon: f32,
    // Whether the gain counts; an absent one is bound to something else. A bias never does.
    has_gain: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<Z>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

// A gradient of the run that begins at `first`, times the gain.
fn gained(first: u32, i: u32) -> f32 {
    let v = f32(dy[first + i]);
    if p.has_gain == 1u {
        return v * gain[i];
    }
    return v;
}

@compute @workgroup_size(THREADS)
fn normalise_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let run = group.y * groups.x + group.x;
    if run >= p.runs {
        return;
    }
    let first = run * p.width;
    let width = f32(p.width);
    var mean = 0.0;
    var mean_h = 0.0;
    if p.centred == 1u {
        var sum = 0.0;
        var sum_h = 0.0;
        for (var i = lane; i < p.width; i += THREADS) {
            sum += f32(x[first + i]);
            sum_h += gained(first, i);
        }
        mean = total(lane, sum) / width;
        mean_h = total(lane, sum_h) / width;
    }
    var squares = 0.0;
    var products = 0.0;
    for (var i = lane; i < p.width; i += THREADS) {
        let v = f32(x[first + i]) - mean;
        squares += v * v;
        products += v * gained(first, i);
    }
    let factor = 1.0 / sqrt(total(lane, squares) / width + p.epsilon);
    let along = total(lane, products) * factor / width;
    for (var i = lane; i < p.width; i += THREADS) {
        let z = (f32(x[first + i]) - mean) * factor;
        dx[first + i] = factor * (gained(first, i) - mean_h - z * along);
    }
}
