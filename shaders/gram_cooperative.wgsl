// g += x^T x for half precision rows, sums in single precision, on cooperative matrices: the 128 x 128 tiles
// on and below the diagonal. Columns are a multiple of 8. Four subgroups of 32 have 64 x 64 results each; 32 rows at
// a time, the next 32 fetched into registers before the products.

enable f16;
enable wgpu_cooperative_matrix;

struct Parameters {
    rows: u32,
    columns: u32,
    // Tiles along one side.
    tiles: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
// Eight elements at a time, which makes the loads 16 bytes wide.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;

// (32 rows, 128 columns), in rows of 136 for the banks: the columns that are rows of the result, and those that are its
// columns.
var<workgroup> is: array<vec4<f16>, 1088>;
var<workgroup> js: array<vec4<f16>, 1088>;
// 16 x 16 results of each subgroup, in rows of 20.
var<workgroup> results: array<f32, 1280>;

// Eight columns of four rows for either side; zeros past the last row or column.
#define fetch(step)
    if {step} + 32u <= p.rows && i_inside && j_inside {
#for u in i, j
#for r in 0..4
        {u}_row{r} = x[{u}_at + {r}u * eight_rows];
#end
#end
    } else {
#for u in i, j
#for r in 0..4
        {u}_row{r} = vec4<u32>();
        if {u}_inside && {step} + fetch_row + {r}u * 8u < p.rows {
            {u}_row{r} = x[{u}_at + {r}u * eight_rows];
        }
#end
#end
    }
    i_at += 4u * eight_rows;
    j_at += 4u * eight_rows;
#end

@compute @workgroup_size(128)
fn gram(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= p.tiles * (p.tiles + 1u) / 2u {
        return;
    }
    let tile = tile_of_triangle(number);
    let row0 = tile.x * TILE;
    let column0 = tile.y * TILE;
    let columns = p.columns;

    // What a thread fetches: eight columns of every eighth row from fetch_row on, for either side.
    let fetch_column = (thread % 16u) * 8u;
    let fetch_row = thread / 16u;
    let i_inside = row0 + fetch_column < columns;
    let j_inside = column0 + fetch_column < columns;
    let put_at = fetch_row * 136u + fetch_column;
    var i_at = (fetch_row * columns + row0 + fetch_column) / 8u;
    var j_at = (fetch_row * columns + column0 + fetch_column) / 8u;
    let eight_rows = 8u * columns / 8u;
#for u in i, j
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
#for u in i, j
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
        let a{d}_{i} = coopLoad<coop_mat16x16<f16, A>>(&is[(a_at + ({d}u * 2176u + {i}u * 16u)) / 4u], 34u);
#end
#for j in 0..4
        let b{d}_{j} = coopLoadT<coop_mat16x16<f16, B>>(&js[(b_at + ({d}u * 2176u + {j}u * 16u)) / 4u], 34u);
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
        if row < columns && column < columns {
            let g_at = row * columns + column;
#for h in 0..2
            g[g_at / 4u + {h}u] += four_results(s + {h}u * 4u);
#end
        }
    }
#end
#end
}

fn four_results(at: u32) -> vec4<f32> {
    return vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
}
