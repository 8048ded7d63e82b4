// y = x W^T + bias in half precision with sums in single precision, on cooperative matrices; inputs are a
// multiple of 8, the results' stride of 4. 128 x 128 tiles, four subgroups of 32 with 64 x 64 results each,
// 32 inputs at a time, the next 32 fetched into registers before the products.

enable f16;
enable wgpu_cooperative_matrix;

alias Y4 = vec4<f16>;

struct Parameters {
    rows: u32,
    columns: u32,
    inner: u32,
    has_bias: u32,
    row_tiles: u32,
    column_tiles: u32,
    // Columns of y in memory.
    stride: u32,
    // 0: all of w is used.
    filled: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
// Eight elements at a time, which makes the loads 16 bytes wide.
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<Y4>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

// (128 rows, 32 inputs), in rows of 40 for the banks.
var<workgroup> xs: array<vec4<f16>, 1280>;
var<workgroup> ws: array<vec4<f16>, 1280>;
// 16 x 16 results of each subgroup.
var<workgroup> results: array<f32, 1024>;

// Eight inputs of four rows of x and of w; zeros past the last input. The guard differs between invocations, which
// keeps the compiler from moving the loads behind the products.
#define fetch(step)
    if {step} + fetch_input < inner {
#for u in x, w
#for r in 0..4
        {u}_row{r} = {u}[{u}_at{r}];
#end
#end
    } else {
#for u in x, w
#for r in 0..4
        {u}_row{r} = vec4<u32>();
#end
#end
    }
#for u in x, w
#for r in 0..4
    {u}_at{r} += 4u;
#end
#end
#end

@compute @workgroup_size(128)
fn matmul(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= p.row_tiles * p.column_tiles {
        return;
    }
    let tile = tile_of_band(number, p.row_tiles, p.column_tiles, 16u);
    let row0 = tile.x * TILE;
    let column0 = tile.y * TILE;

    // What a thread fetches: eight inputs of every 32nd row from fetch_row on. The order of rows avoids bank conflicts.
    let fetch_input = (thread % 4u) * 8u;
    let fetch_row = (thread / 32u) * 8u + ((thread / 4u) % 2u) * 4u + (thread / 8u) % 4u;
    let inner = p.inner;
#for r in 0..4
    var x_at{r} = (min(row0 + fetch_row + {r}u * 32u, p.rows - 1u) * inner + fetch_input) / 8u;
#end
#for r in 0..4
    var w_at{r} = (min(column0 + fetch_row + {r}u * 32u, p.columns - 1u) * inner + fetch_input) / 8u;
#end
    let put_at = fetch_row * 40u + fetch_input;
#for u in x, w
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
    let a_at = (subgroup / 2u) * 2560u;
    let b_at = (subgroup % 2u) * 2560u;
    #fetch(0u)
    for (var k = 0u; k < inner; k += 32u) {
        workgroupBarrier();
#for u in x, w
#for r in 0..4
        {
            let first_half = low({u}_row{r});
            let second_half = high({u}_row{r});
            let to = (put_at + {r}u * 1280u) / 4u;
            {u}s[to] = first_half;
            {u}s[to + 1u] = second_half;
        }
#end
#end
        workgroupBarrier();
        #fetch(k + 32u)
#for d in 0..2
#for i in 0..4
        let a{d}_{i} = coopLoadT<coop_mat16x16<f16, A>>(&xs[(a_at + ({d}u * 16u + {i}u * 640u)) / 4u], 10u);
#end
#for j in 0..4
        let b{d}_{j} = coopLoad<coop_mat16x16<f16, B>>(&ws[(b_at + ({d}u * 16u + {j}u * 640u)) / 4u], 10u);
#end
#for j in 0..4
#for i in 0..4
        c{i}_{j} = coopMultiplyAdd(a{d}_{i}, b{d}_{j}, c{i}_{j});
#end
#end
#end
    }

    // A lane writes eight columns of one row of every 16 x 16 results.
    let results_at = subgroup * 256u;
    let my_row = lane / 2u;
    let my_column = (lane % 2u) * 8u;
    let stride4 = p.stride / 4u;
    let y_row = row0 + (subgroup / 2u) * 64u + my_row;
    let y_column = column0 + (subgroup % 2u) * 64u + my_column;
#for i in 0..4
#for j in 0..4
    {
        let m = c{i}_{j};
        let to = &results[results_at];
        workgroupBarrier();
        coopStoreT(m, to, 16u);
        workgroupBarrier();
        let row = y_row + {i}u * 16u;
        let column = y_column + {j}u * 16u;
        let s = results_at + my_row * 16u + my_column;
        if row < p.rows {
            let y_at = row * stride4 + column / 4u;
#for h in 0..2
            if column + {h}u * 4u < p.columns {
                var v = four_results(s + {h}u * 4u);
                if p.has_bias != 0u {
                    let b = column + {h}u * 4u;
                    v += vec4<f32>(bias[b], bias[b + 1u], bias[b + 2u], bias[b + 3u]);
                }
                y[y_at + {h}u] = Y4(v);
            }
#end
        }
    }
#end
#end
}

fn four_results(at: u32) -> vec4<f32> {
    return vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
}
