// Activation functions and their slopes; the parameters of the kernel say which.

// Activations, as numbered by the host.
const RELU: u32 = 0u;
const SILU: u32 = 1u;
const GELU: u32 = 2u;
const GELU_TANH: u32 = 3u;

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

fn slope_one(v: f32) -> f32 {
    switch p.activation {
        case RELU: {
            return select(0.0, 1.0, v > 0.0);
        }
        case SILU: {
            let sigmoid = 1.0 / (1.0 + exp(-v));
            return sigmoid * (1.0 + v * (1.0 - sigmoid));
        }
        case GELU: {
            let u = v * 0.7071067811865476;
            let density = 0.3989422804 * exp(-0.5 * v * v);
            if u < -1.0 {
                return 0.5 * erfc_tail(-u) + v * density;
            }
            return 0.5 * (1.0 + erf(u)) + v * density;
        }
        default: {
            let sigmoid = 1.0 / (1.0 + exp(-1.5957691216 * (v + 0.044715 * v * v * v)));
            let slope = 1.5957691216 * (1.0 + 0.134145 * v * v);
            return sigmoid * (1.0 + v * (1.0 - sigmoid) * slope);
        }
    }
}
