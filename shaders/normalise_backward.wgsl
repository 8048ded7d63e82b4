// The gradient with respect to the input of RMS and layer norms of runs of `width` features, one workgroup a run: with h = gain dy and
// the normalised run z, factor (h - mean(h) - z mean(h z)). RMS norms subtract no mean. As in normalise.wgsl, X, Z and F may be vectors.

alias X = f32;
alias Z = f32;
// What is computed with, in single precision.
alias F = f32;

// Features that an invocation takes at a time.
const TOGETHER: u32 = 1u;

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
@group(0) @binding(2) var<storage, read> gain: array<F>;
@group(0) @binding(3) var<storage, read> dy: array<Z>;
@group(0) @binding(4) var<storage, read_write> dx: array<F>;

// The sum of what an invocation takes at a time.
fn added(v: F) -> f32 { return f32(v); }

// A gradient of the run that begins at `first`, times the gain.
fn gained(first: u32, i: u32) -> F {
    let v = F(dy[first + i]);
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
    let count = p.width / TOGETHER;
    let first = run * count;
    let width = f32(p.width);
    var mean = F();
    var mean_h = F();
    if p.centred == 1u {
        var sum = 0.0;
        var sum_h = 0.0;
        for (var i = lane; i < count; i += THREADS) {
            sum += added(F(x[first + i]));
            sum_h += added(gained(first, i));
        }
        mean = F(total(lane, sum) / width);
        mean_h = F(total(lane, sum_h) / width);
    }
    var squares = 0.0;
    var products = 0.0;
    for (var i = lane; i < count; i += THREADS) {
        let v = F(x[first + i]) - mean;
        squares += added(v * v);
        products += added(v * gained(first, i));
    }
    let slope = 1.0 / sqrt(total(lane, squares) / width + p.epsilon);
    let factor = F(slope);
    let along = F(total(lane, products) * slope / width);
    for (var i = lane; i < count; i += THREADS) {
        let z = (F(x[first + i]) - mean) * factor;
        dx[first + i] = factor * (gained(first, i) - mean_h - z * along);
    }
}
