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

fn inverse(x: f32) -> f32 {
    if x > 0.0 {
        return 1.0 / x;
    }
    return 0.0;
}

fn below(x: f32, bound: f32) -> f32 {
    return select(0.0, 1.0, x < bound);
}
