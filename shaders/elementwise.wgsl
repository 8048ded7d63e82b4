// Element by element, one invocation each. `x` changes in place; what is read beside it is `z`.

alias X = f32;
alias Z = f32;

// Activations, as numbered by the host.
const RELU: u32 = 0u;
const SILU: u32 = 1u;
const GELU: u32 = 2u;
const GELU_TANH: u32 = 3u;

struct Parameters {
    // Elements of `x`.
    count: u32,
    // Columns of `x`.
    width: u32,
    activation: u32,
    factor: f32,
    // Positions: the first row of the table, and tokens per sequence.
    offset: u32,
    length: u32,
    // Columns: see `Columns` on the host.
    first: u32,
    run: u32,
    stride: u32,
    source_width: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> x: array<X>;
@group(0) @binding(2) var<storage, read> z: array<Z>;

// The error function to 1 in 10^7: Abramowitz and Stegun's rational forms would give 1.5e-7 only in exact
// arithmetic, so the series is summed near 0 and the continued fraction's fit used elsewhere.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    if a < 1.0 {
        // x * P(x^2): Taylor series of erf, terms to x^21, error below 1e-9 here.
        let s = x * x;
        var sum = 1.0 / 76204800.0;
        sum = sum * s - 1.0 / 6894720.0;
        sum = sum * s + 1.0 / 685440.0;
        sum = sum * s - 1.0 / 75600.0;
        sum = sum * s + 1.0 / 9360.0;
        sum = sum * s - 1.0 / 1320.0;
        sum = sum * s + 1.0 / 216.0;
        sum = sum * s - 1.0 / 42.0;
        sum = sum * s + 1.0 / 10.0;
        sum = sum * s - 1.0 / 3.0;
        sum = sum * s + 1.0;
        return 1.1283791671 * x * sum;
    }
    return sign(x) * (1.0 - erfc_tail(a));
}

// erfc for x >= 1: exp(-x^2) times the continued fraction 1 / (x + (1/2) / (x + 1 / (x + (3/2) / ...))) / sqrt(pi),
// cut after 24 levels, which at x = 1 leaves a relative error below 1e-6 of a value of 0.157.
fn erfc_tail(x: f32) -> f32 {
    if x > 10.0 {
        return 0.0;
    }
    var fraction = x;
    for (var level = 24u; level >= 1u; level--) {
        fraction = x + 0.5 * f32(level) / fraction;
    }
    return exp(-x * x) * 0.5641895835 / fraction;
}

fn activate_one(v: f32) -> f32 {
    switch p.activation {
        case RELU: {
            return max(v, 0.0);
        }
        case SILU: {
            return v / (1.0 + exp(-v));
        }
        case GELU: {
            // Phi(v) through erfc on the left, where 1 + erf would cancel.
            let u = v * 0.7071067811865476;
            if u < -1.0 {
                return 0.5 * v * erfc_tail(-u);
            }
            return 0.5 * v * (1.0 + erf(u));
        }
        default: {
            return v / (1.0 + exp(-1.5957691216 * (v + 0.044715 * v * v * v)));
        }
    }
}

@compute @workgroup_size(LANES)
fn add(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) + f32(z[i]));
    }
}

// Row `r` of `x` times `z[r]`.
@compute @workgroup_size(LANES)
fn scale_rows(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * f32(z[i / p.width]));
    }
}

@compute @workgroup_size(LANES)
fn scale(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * p.factor);
    }
}

@compute @workgroup_size(LANES)
fn activate(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(activate_one(f32(x[i])));
    }
}

// `x` is the up projection, `z` the gate.
@compute @workgroup_size(LANES)
fn gate(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * activate_one(f32(z[i])));
    }
}

@compute @workgroup_size(LANES)
fn add_positions(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let row = p.offset + (i / p.width) % p.length;
        x[i] = X(f32(x[i]) + f32(z[row * p.width + i % p.width]));
    }
}

// `x` takes the chosen columns of `z`.
@compute @workgroup_size(LANES)
fn columns(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let row = i / p.width;
        let column = i % p.width;
        let source = p.first + column / p.run * p.stride + column % p.run;
        x[i] = X(z[row * p.source_width + source]);
    }
}
