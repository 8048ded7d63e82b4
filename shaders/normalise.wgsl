// RMS and layer norm of runs of `width` features, one workgroup a run.

alias X = f32;
alias Y = f32;

struct Parameters {
    runs: u32,
    width: u32,
    // 0: RMS, 1: layer norm.
    centred: u32,
    epsilon: f32,
    // Whether gain and bias count; absent ones are bound to something else.
    has_gain: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(THREADS)
fn normalise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let run = group.y * groups.x + group.x;
    if run >= p.runs {
        return;
    }
    let first = run * p.width;
    var mean = 0.0;
    if p.centred == 1u {
        var sum = 0.0;
        for (var i = lane; i < p.width; i += THREADS) {
            sum += f32(x[first + i]);
        }
        mean = total(lane, sum) / f32(p.width);
    }
    var squares = 0.0;
    for (var i = lane; i < p.width; i += THREADS) {
        let v = f32(x[first + i]) - mean;
        squares += v * v;
    }
    let factor = 1.0 / sqrt(total(lane, squares) / f32(p.width) + p.epsilon);
    for (var i = lane; i < p.width; i += THREADS) {
        var v = (f32(x[first + i]) - mean) * factor;
        if p.has_gain == 1u {
            v *= gain[i];
        }
        if p.has_bias == 1u {
            v += bias[i];
        }
        y[first + i] = Y(v);
    }
}
