// Sums of squares of the entries of a matrix, and of their differences from those of another of the same size, in parts: two numbers a
// workgroup.

alias X = f32;
alias Z = f32;

struct Parameters {
    count: u32,
    // Number of workgroups, which share the entries.
    parts: u32,
    // The place of the first part's results.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> z: array<Z>;
@group(0) @binding(3) var<storage, read_write> results: array<vec2<f32>>;

@compute @workgroup_size(THREADS)
fn distance(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var all = 0.0;
    var away = 0.0;
    for (var i = group.x * THREADS + lane; i < p.count; i += p.parts * THREADS) {
        let v = f32(x[i]);
        let d = v - f32(z[i]);
        all += v * v;
        away += d * d;
    }
    let sum = vec2<f32>(total(lane, all), total(lane, away));
    if lane == 0u {
        results[p.first + group.x] = sum;
    }
}
