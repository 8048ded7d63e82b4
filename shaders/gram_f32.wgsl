// g += x^T x in single precision for widths that are multiples of 4: the 128 x 128 tiles on and below the
// diagonal. 128 invocations with 16 x 8 results each take 8 rows at a time through 16 KiB of workgroup memory; the
// next 8 are fetched into registers before the products. Rows may be stored in half precision.
//
// Every result is a variable of its own: a loop over an array of results costs a third of the speed.

alias X4 = vec4<f32>;

struct Parameters {
    rows: u32,
    columns: u32,
    // Tiles along one side.
    tiles: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X4>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;

// Two stages of (8 rows, 128 columns): the columns that are rows of the result, and those that are its columns.
var<workgroup> is: array<vec4<f32>, 512>;
var<workgroup> js: array<vec4<f32>, 512>;

// Four columns of two rows for either side; zeros past the last row or column.
#define fetch(step)
#for r in 0..2
#for u in i, j
    {u}_row{r} = vec4<f32>();
#end
    if {step} + fetch_row + {r}u * 4u < p.rows {
#for u in i, j
        if {u}_inside {
            {u}_row{r} = vec4<f32>(x[{u}_at + {r}u * columns]);
        }
#end
    }
#end
#for u in i, j
    {u}_at += 2u * columns;
#end
#end

// Writes what was fetched into a stage.
#define put(stage)
#for r in 0..2
#for u in i, j
    {u}s[{stage} * 256u + (fetch_row + {r}u * 4u) * 32u + member] = {u}_row{r};
#end
#end
#end

@compute @workgroup_size(128)
fn gram(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= p.tiles * (p.tiles + 1u) / 2u {
        return;
    }
    let tile = tile_of_triangle(number);
    let row0 = tile.x * TILE;
    let column0 = tile.y * TILE;

    let columns = p.columns;
    // 32 invocations compute 64 x 64 results: rows in fours, 32 further each time; columns in fours, 32 further.
    let quarter = lane / 32u;
    let member = lane % 32u;
    let my_row = ((quarter / 2u) * 4u + member / 8u) * 4u;
    let my_column = ((quarter % 2u) * 8u + member % 8u) * 4u;

    // What an invocation fetches: four columns of rows fetch_row and fetch_row + 4, for either side.
    let fetch_row = quarter;
    let fetch_column = member * 4u;
    let i_inside = row0 + fetch_column < columns;
    let j_inside = column0 + fetch_column < columns;
    var i_at = (fetch_row * columns + row0 + fetch_column) / 4u;
    var j_at = (fetch_row * columns + column0 + fetch_column) / 4u;
#for r in 0..2
    var i_row{r}: vec4<f32>;
    var j_row{r}: vec4<f32>;
#end

    // Result c{a}{i}_{b}: row my_row + 32 a + i, columns from my_column + 64 b.
#for a in 0..4
#for i in 0..4
#for b in 0..2
    var c{a}{i}_{b} = vec4<f32>();
#end
#end
#end
    #fetch(0u)
    #put(0u)
    workgroupBarrier();
    var stage = 0u;
    for (var k = 0u; k < p.rows; k += 8u) {
        #fetch(k + 8u)
#for k in 0..8
        {
#for a in 0..4
            let a{a} = is[(stage * 1024u + my_row + ({k}u * 128u + {a}u * 32u)) / 4u];
#end
#for b in 0..2
            let b{b} = js[(stage * 1024u + my_column + ({k}u * 128u + {b}u * 64u)) / 4u];
#end
#for a in 0..4
#for i in 0..4
#for b in 0..2
            c{a}{i}_{b} = fma(vec4<f32>(a{a}[{i}]), b{b}, c{a}{i}_{b});
#end
#end
#end
        }
#end
        stage = 1u - stage;
        #put(stage)
        workgroupBarrier();
    }

#for a in 0..4
#for i in 0..4
#for b in 0..2
    {
        let row = row0 + my_row + ({a}u * 32u + {i}u);
        let column = column0 + my_column + {b}u * 64u;
        if row < columns && column < columns {
            g[(row * columns + column) / 4u] += c{a}{i}_{b};
        }
    }
#end
#end
#end
}
