// RMS and layer norm of runs of `width` features, one workgroup a run. Where the width is a multiple of 4, an invocation takes four
// neighbours at a time: X, Y and F are vectors then.

alias X = f32;
alias Y = f32;
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
    // Whether gain and bias count; absent ones are bound to something else.
    has_gain: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> gain: array<F>;
@group(0) @binding(3) var<storage, read> bias: array<F>;
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
    let count = p.width / TOGETHER;
    let first = run * count;
    var mean = F();
    if p.centred == 1u {
        var sum = 0.0;
        for (var i = lane; i < count; i += THREADS) {
            sum += added(F(x[first + i]));
        }
        mean = F(total(lane, sum) / f32(p.width));
    }
    var squares = 0.0;
    for (var i = lane; i < count; i += THREADS) {
        let v = F(x[first + i]) - mean;
        squares += added(v * v);
    }
    let factor = F(1.0 / sqrt(total(lane, squares) / f32(p.width) + p.epsilon));
    for (var i = lane; i < count; i += THREADS) {
        var v = (F(x[first + i]) - mean) * factor;
        if p.has_gain == 1u {
            v *= gain[i];
        }
        if p.has_bias == 1u {
            v += bias[i];
        }
        y[first + i] = Y(v);
    }
}

// The sum of what an invocation takes at a time.
fn added(v: F) -> f32 { return f32(v); }
