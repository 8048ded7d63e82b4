// Changes of every weight, and what checks ask of the matrix as a whole.

alias W = f32;
alias S = f32;

struct Parameters {
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
    // Type the checkpoint stores: 0 f32, 1 f16, 2 bf16.
    storage: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> weights: array<W>;
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> wide: array<S>;

var<workgroup> tally: atomic<u32>;

fn removed(i: u32) -> bool {
    let row = i / p.columns;
    let column = i % p.columns;
    return ((mask[row * p.words + column / 32u] >> (column % 32u)) & 1u) == 1u;
}

// Sets what the mask removes to 0.
@compute @workgroup_size(LANES)
fn remove(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns && removed(i) {
        weights[i] = W(0.0);
    }
}

// A working copy in single precision.
@compute @workgroup_size(LANES)
fn widen(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        wide[i] = S(weights[i]);
    }
}

// The nearest value of 11 significant bits above 2^-14, and of steps of 2^-24 below; ties to even.
fn to_f16(v: f32) -> f32 {
    let magnitude = abs(v);
    if !(magnitude < 65520.0) {
        // Overflows to infinity; NaN stays NaN.
        return v * 3.0e38 * 10.0;
    }
    if magnitude < 6.103515625e-5 {
        return sign(v) * (round(magnitude * 16777216.0) / 16777216.0);
    }
    let bits = bitcast<u32>(v);
    return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}

fn to_bf16(v: f32) -> f32 {
    let bits = bitcast<u32>(v);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return v;
    }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

fn stored(v: f32) -> f32 {
    switch p.storage {
        case 1u: {
            return to_f16(v);
        }
        case 2u: {
            return to_bf16(v);
        }
        default: {
            return v;
        }
    }
}

// The working copy back, rounded to the checkpoint's type.
@compute @workgroup_size(LANES)
fn narrow(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        weights[i] = W(stored(f32(wide[i])));
    }
}

// Rounds to the checkpoint's type in place; counts[0] adds zeros, counts[1] the weights that are not finite
// or were removed and are not 0.
@compute @workgroup_size(LANES)
fn finish(
    #invocation()
) {
    if lane == 0u {
        atomicStore(&tally, 0u);
    }
    workgroupBarrier();
    var zeros = 0u;
    let n = p.rows * p.columns;
    let stride = groups.x * groups.y * LANES;
    for (var i = index(group, groups, lane); i < n; i += stride) {
        let v = stored(f32(weights[i]));
        weights[i] = W(v);
        zeros += u32(v == 0.0);
        // Bits, since a compiler may assume that nothing is NaN.
        let finite = (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
        if !finite || (v != 0.0 && removed(i)) {
            atomicAdd(&counts[1], 1u);
        }
    }
    atomicAdd(&tally, zeros);
    workgroupBarrier();
    if lane == 0u {
        atomicAdd(&counts[0], atomicLoad(&tally));
    }
}
