// g += x^T y for half precision rows, or what `added` makes of the product, with sums in single precision, on cooperative matrices,
// in 128 x 128 tiles. Columns are a multiple of 8. Four subgroups of 32 have 64 x 64 results each; 32 rows at a time, the next 32
// fetched into registers before the products.

enable f16;
enable wgpu_cooperative_matrix;

// 1: only the tiles on and below the diagonal are computed, for a Gram matrix.
const TRIANGLE: u32 = 0u;

struct Parameters {
    rows: u32,
    // The first of the rows.
    first: u32,
    // Columns of x, which are rows of g.
    x_columns: u32,
    y_columns: u32,
    row_tiles: u32,
    column_tiles: u32,
    // For `added`.
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
// Eight elements at a time, which makes the loads 16 bytes wide.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> y: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> g: array<vec4<f32>>;

// (32 rows, 128 columns), in rows of 136 for the banks.
var<workgroup> xs: array<vec4<f16>, 1088>;
var<workgroup> ys: array<vec4<f16>, 1088>;
// 16 x 16 results of each subgroup, in rows of 20.
var<workgroup> results: array<f32, 1280>;

// What is added to g.
fn added(v: vec4<f32>) -> vec4<f32> { return v; }

// Eight columns of four rows of x and of y; zeros past the last row or column.
#define fetch(step)
    if {step} + 32u <= p.rows && x_inside && y_inside {
#for u in x, y
#for r in 0..4
        {u}_row{r} = {u}[{u}_at + {r}u * {u}_columns];
#end
#end
    } else {
#for u in x, y
#for r in 0..4
        {u}_row{r} = vec4<u32>();
        if {u}_inside && {step} + fetch_row + {r}u * 8u < p.rows {
            {u}_row{r} = {u}[{u}_at + {r}u * {u}_columns];
        }
#end
#end
    }
    x_at += 4u * x_columns;
    y_at += 4u * y_columns;
#end

@compute @workgroup_size(128)
fn outer(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= select(p.row_tiles * p.column_tiles, p.row_tiles * (p.row_tiles + 1u) / 2u, TRIANGLE == 1u) {
        return;
    }
    var tile: vec2<u32>;
    if TRIANGLE == 1u {
        tile = tile_of_triangle(number);
    } else {
        tile = tile_of_band(number, p.row_tiles, p.column_tiles, 16u);
    }
    let row0 = tile.x * TILE;
    let column0 = tile.y * TILE;
    // As many vectors of eight are in eight rows.
    let x_columns = p.x_columns;
    let y_columns = p.y_columns;

    // What a thread fetches: eight columns of every eighth row from fetch_row on, for either side.
    let fetch_column = (thread % 16u) * 8u;
    let fetch_row = thread / 16u;
    let x_inside = row0 + fetch_column < x_columns;
    let y_inside = column0 + fetch_column < y_columns;
    let put_at = fetch_row * 136u + fetch_column;
    var x_at = (p.first + fetch_row) * (x_columns / 8u) + (row0 + fetch_column) / 8u;
    var y_at = (p.first + fetch_row) * (y_columns / 8u) + (column0 + fetch_column) / 8u;
#for u in x, y
#for r in 0..4
    var {u}_row{r}: vec4<u32>;
#end
#end

    // Result c{i}_{j}: rows from 16 i on, columns from 16 j on, of the subgroup's 64 x 64.
#for i in 0..4
#for j in 0..4
    var c{i}_{j} = coop_mat16x16<f32, C>();
#end
#end
    let a_at = (subgroup / 2u) * 64u;
    let b_at = (subgroup % 2u) * 64u;
    #fetch(0u)
    for (var k = 0u; k < p.rows; k += 32u) {
        workgroupBarrier();
#for u in x, y
#for r in 0..4
        {
            let first_half = low({u}_row{r});
            let second_half = high({u}_row{r});
            let to = (put_at + {r}u * 1088u) / 4u;
            {u}s[to] = first_half;
            {u}s[to + 1u] = second_half;
        }
#end
#end
        workgroupBarrier();
        #fetch(k + 32u)
#for d in 0..2
#for i in 0..4
        let a{d}_{i} = coopLoad<coop_mat16x16<f16, A>>(&xs[(a_at + ({d}u * 2176u + {i}u * 16u)) / 4u], 34u);
#end
#for j in 0..4
        let b{d}_{j} = coopLoadT<coop_mat16x16<f16, B>>(&ys[(b_at + ({d}u * 2176u + {j}u * 16u)) / 4u], 34u);
#for i in 0..4
        c{i}_{j} = coopMultiplyAdd(a{d}_{i}, b{d}_{j}, c{i}_{j});
#end
#end
#end
    }

    // A lane adds eight columns of one row of every 16 x 16 results.
    let results_at = subgroup * 320u;
    let my_row = lane / 2u;
    let my_column = (lane % 2u) * 8u;
    let g_row = row0 + a_at + my_row;
    let g_column = column0 + b_at + my_column;
#for i in 0..4
#for j in 0..4
    {
        let m = c{i}_{j};
        let to = &results[results_at];
        workgroupBarrier();
        coopStoreT(m, to, 20u);
        workgroupBarrier();
        let row = g_row + {i}u * 16u;
        let column = g_column + {j}u * 16u;
        let s = results_at + my_row * 20u + my_column;
        if row < x_columns && column < y_columns {
            let g_at = row * y_columns + column;
#for h in 0..2
            g[g_at / 4u + {h}u] += added(four_results(s + {h}u * 4u));
#end
        }
    }
#end
#end
}

fn four_results(at: u32) -> vec4<f32> {
    return vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
}
