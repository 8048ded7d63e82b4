// Rotary positions, in place: one invocation turns one pair of features of one head of one token, or, where there are multiples of 4 of
// them, four neighbouring pairs: X and F are vectors then.

alias X = f32;
// What is computed with, in single precision.
alias F = f32;

// Pairs that an invocation turns.
const TOGETHER: u32 = 1u;

struct Parameters {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    pairs: u32,
    length: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> x: array<X>;
// Cosine and sine of every (position, pair).
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;

@compute @workgroup_size(LANES)
fn rotate(
    #invocation()
) {
    let i = index(group, groups, lane);
    let turns = p.pairs / TOGETHER;
    if i >= p.tokens * p.heads * turns {
        return;
    }
    let place = i % turns;
    let row = i / turns;
    let at = row / p.heads % p.length * p.pairs + place * TOGETHER;
    let cosine = cosines(at);
    let sine = sines(at);
    let first = row * (p.head_dim / TOGETHER) + place;
    let a = F(x[first]);
    let b = F(x[first + turns]);
    x[first] = X(a * cosine - b * sine);
    x[first + turns] = X(b * cosine + a * sine);
}

fn cosines(at: u32) -> F { return F(table[at].x); }

fn sines(at: u32) -> F { return F(table[at].y); }
