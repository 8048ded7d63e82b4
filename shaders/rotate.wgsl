// Rotary positions, in place: one invocation turns one pair of features of one token in every head.

alias X = f32;

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
    if i >= p.tokens * p.pairs {
        return;
    }
    let pair = i % p.pairs;
    let token = i / p.pairs;
    let turn = table[token % p.length * p.pairs + pair];
    var first = token * p.heads * p.head_dim + pair;
    for (var head = 0u; head < p.heads; head++) {
        let a = f32(x[first]);
        let b = f32(x[first + p.pairs]);
        x[first] = X(a * turn.x - b * turn.y);
        x[first + p.pairs] = X(b * turn.x + a * turn.y);
        first += p.head_dim;
    }
}
