// Rotary positions, in place: one invocation turns one pair of features of some heads of one token, or, where there are multiples of 4 of
// them, four neighbouring pairs: X and F are vectors then. Sine and cosine are the same for all heads, so that they are read once.

alias X = f32;
// What is computed with, in single precision.
alias F = f32;

// Pairs that an invocation turns in a head.
const TOGETHER: u32 = 1u;
// Heads of which an invocation turns them.
const HEADS: u32 = 8u;

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
    let parts = (p.heads + HEADS - 1u) / HEADS;
    if i >= p.tokens * parts * turns {
        return;
    }
    let place = i % turns;
    let rest = i / turns;
    let head = rest % parts * HEADS;
    let token = rest / parts;
    let at = token % p.length * p.pairs + place * TOGETHER;
    let cosine = cosines(at);
    let sine = sines(at);
    let width = p.head_dim / TOGETHER;
    var first = (token * p.heads + head) * width + place;
    for (var h = head; h < min(head + HEADS, p.heads); h++) {
        let a = F(x[first]);
        let b = F(x[first + turns]);
        x[first] = X(a * cosine - b * sine);
        x[first + turns] = X(b * cosine + a * sine);
        first += width;
    }
}

fn cosines(at: u32) -> F { return F(table[at].x); }

fn sines(at: u32) -> F { return F(table[at].y); }
