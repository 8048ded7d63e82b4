// Sums of formulas over the rows or the columns of a matrix.

alias W = f32;

// Rows that one workgroup adds up per column.
const ROWS: u32 = 256u;
// Formulas that are added up together; at most 4.
const COUNT: u32 = 1u;

struct Parameters {
    #formula()
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<W>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
@group(0) @binding(5) var<storage, read> matrix0: array<f32>;
@group(0) @binding(6) var<storage, read> matrix1: array<f32>;
@group(0) @binding(7) var<storage, read> matrix2: array<f32>;

var<workgroup> parts: array<vec4<f32>, 256>;

// The formulas: this line is replaced.
fn values(weight: f32, row: u32, column: u32) -> vec4<f32> { return vec4(weight, 0.0, 0.0, 0.0); }
// The weight at a place; replaced where a formula reads it.
fn weight_at(place: u32) -> f32 { return 0.0; }

// Of a row, one workgroup each: COUNT values a row.
@compute @workgroup_size(LANES)
fn row_sums(
    #invocation()
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var sum = vec4(0.0);
    for (var c = lane; c < p.columns; c += LANES) {
        sum += values(weight_at(row * p.columns + c), row, c);
    }
    parts[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    if lane < COUNT {
        sums[COUNT * row + lane] = parts[0][lane];
    }
}

// Of ROWS rows of 64 columns: (pieces, columns, COUNT).
@compute @workgroup_size(64, 4)
fn column_sums(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let column = group.x * 64u + lane.x;
    let first = group.y * ROWS;
    var sum = vec4(0.0);
    if column < p.columns {
        for (var row = first + lane.y; row < min(first + ROWS, p.rows); row += 4u) {
            sum += values(weight_at(row * p.columns + column), row, column);
        }
    }
    parts[lane.y * 64u + lane.x] = sum;
    workgroupBarrier();
    if lane.y < COUNT && column < p.columns {
        let all = (parts[lane.x] + parts[64u + lane.x]) + (parts[128u + lane.x] + parts[192u + lane.x]);
        sums[COUNT * (group.y * p.columns + column) + lane.y] = all[lane.y];
    }
}
