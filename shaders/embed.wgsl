// Token embedding: row `ids[t]` of the table for every token `t`.

alias Table = f32;
alias Y = f32;

struct Parameters {
    tokens: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> table: array<Table>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(256)
fn embed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if i >= p.tokens * p.width {
        return;
    }
    y[i] = Y(table[ids[i / p.width] * p.width + i % p.width]);
}
