// What a formula written into a kernel calls (src/prune/formula/wgsl.rs).

// The parameters of the kernel begin with these.
#define formula()
    // Constants of the formulas, as bits.
    numbers: array<vec4<u32>, 4>,
    // Where each vector begins in `factors`.
    starts: array<vec4<u32>, 2>,
    // 0, which a compiler does not know.
    zero: u32,
#end

fn number(i: u32) -> f32 {
    return bitcast<f32>(p.numbers[i / 4u][i % 4u]);
}

fn vector(i: u32, place: u32) -> f32 {
    return factors[p.starts[i / 4u][i % 4u] + place];
}

// The same value. A compiler may take a b + a c for a (b + c), or (a + b) - a for b, as Mesa's does; it cannot look
// through this, so that results are rounded as they are written.
fn rounded(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) | p.zero);
}

fn square(x: f32) -> f32 {
    return x * x;
}

fn cube(x: f32) -> f32 {
    return x * x * x;
}

// Whether a value is NaN, told by its bits: a compiler may assume of comparisons that nothing is. What is not a number stays so in
// every function below, where WGSL's own may drop it or give anything.
fn nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn not_a_number() -> f32 {
    return bitcast<f32>(0x7fc00000u | p.zero);
}

fn infinity() -> f32 {
    return bitcast<f32>(0x7f800000u | p.zero);
}

fn root(x: f32) -> f32 {
    if nan(x) || x < 0.0 {
        return not_a_number();
    }
    return sqrt(x);
}

fn exp_of(x: f32) -> f32 {
    if nan(x) {
        return x;
    }
    return exp(x);
}

fn log_of(x: f32) -> f32 {
    if nan(x) || x < 0.0 {
        return not_a_number();
    }
    return log(x);
}

fn sign_of(x: f32) -> f32 {
    if nan(x) {
        return x;
    }
    return sign(x);
}

fn inverse(x: f32) -> f32 {
    if nan(x) {
        return x;
    }
    if x > 0.0 {
        return 1.0 / x;
    }
    return 0.0;
}

// As C's `powf`: WGSL's own is exp2(exponent log2(x)), which knows no negative x, and not 0 or 1 to every power.
fn power(x: f32, exponent: f32) -> f32 {
    if nan(x) || nan(exponent) {
        return not_a_number();
    }
    if exponent == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x == 0.0 {
        return select(0.0, infinity(), exponent < 0.0);
    }
    if x > 0.0 {
        return pow(x, exponent);
    }
    let size = pow(-x, exponent);
    if floor(exponent) != exponent {
        return select(not_a_number(), size, bitcast<u32>(-x) == 0x7f800000u);
    }
    let half = exponent * 0.5;
    return select(size, -size, floor(half) != half);
}

fn minimum(x: f32, y: f32) -> f32 {
    if nan(x) || nan(y) {
        return not_a_number();
    }
    return min(x, y);
}

fn maximum(x: f32, y: f32) -> f32 {
    if nan(x) || nan(y) {
        return not_a_number();
    }
    return max(x, y);
}

fn below(x: f32, bound: f32) -> f32 {
    if nan(x) || nan(bound) {
        return not_a_number();
    }
    return select(0.0, 1.0, x < bound);
}
