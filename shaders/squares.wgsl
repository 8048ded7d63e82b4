// Sums of squares of the columns of `x`, by pieces of ROWS rows. Where columns are a multiple of 4, an invocation takes four neighbours: X
// and F are vectors then.

alias X = f32;
// What is computed with, in single precision.
alias F = f32;

// Columns that an invocation takes.
const TOGETHER: u32 = 1u;

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
// (pieces, width).
@group(0) @binding(2) var<storage, read_write> sums: array<F>;

var<workgroup> parts: array<array<F, 64>, 4>;

// One piece of rows, four at a time, in 64 columns or 64 times four.
@compute @workgroup_size(64, 4)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let columns = p.width / TOGETHER;
    let column = group.x * 64u + lane.x;
    let first = group.y * ROWS;
    var sum = F();
    if column < columns {
        for (var row = first + lane.y; row < min(first + ROWS, p.rows); row += 4u) {
            let v = F(x[row * columns + column]);
            sum += v * v;
        }
    }
    parts[lane.y][lane.x] = sum;
    workgroupBarrier();
    if lane.y == 0u && column < columns {
        sums[group.y * columns + column] =
            (parts[0][lane.x] + parts[1][lane.x]) + (parts[2][lane.x] + parts[3][lane.x]);
    }
}
