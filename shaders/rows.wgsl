// Row `rows[t]` of `x` for every `t`: token embedding, and tokens put into another order.

alias X = f32;
alias Y = f32;

struct Parameters {
    count: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(LANES)
fn rows(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i >= p.count * p.width {
        return;
    }
    y[i] = Y(x[chosen[i / p.width] * p.width + i % p.width]);
}
