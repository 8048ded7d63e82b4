// y = x W^T + bias in single precision, for widths that are multiples of 4: 128 x 128 tiles, 128 invocations
// with 16 x 8 results each, 8 inputs at a time through 16 KiB of workgroup memory, the next 8 fetched
// into registers before the products. Operands may be stored in half precision.
//
// Every result is a variable of its own: a loop over an array of results costs a third of the speed.

alias X4 = vec4<f32>;
alias W4 = vec4<f32>;
alias Y4 = vec4<f32>;

struct Parameters {
    rows: u32,
    columns: u32,
    inner: u32,
    has_bias: u32,
    row_tiles: u32,
    column_tiles: u32,
    // Columns of y in memory.
    stride: u32,
    // Which part of w is not zero: 0 all of it, 1 from the diagonal to the right, 2 up to the diagonal.
    filled: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X4>;
@group(0) @binding(2) var<storage, read> w: array<W4>;
@group(0) @binding(3) var<storage, read_write> y: array<Y4>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

// Two stages of (8 inputs, 128 rows of x), and of w.
var<workgroup> xs: array<vec4<f32>, 512>;
var<workgroup> ws: array<vec4<f32>, 512>;

// Four inputs of two rows of x and of two rows of w; zeros past the last one.
#define fetch(step)
    if {step} + fetch_input < end {
#for u in x, w
#for r in 0..2
        {u}_row{r} = vec4<f32>({u}[{u}_at{r}]);
#end
#end
    } else {
#for u in x, w
#for r in 0..2
        {u}_row{r} = vec4<f32>();
#end
#end
    }
#for u in x, w
#for r in 0..2
    {u}_at{r} += 2u;
#end
#end
#end

// Writes what was fetched into a stage, inputs first.
#define put(stage)
#for u in x, w
#for r in 0..2
    {
        let to = {stage} * 1024u + fetch_input * 128u + fetch_row + {r}u * 64u;
#for i in 0..4
        {u}s[(to + {i}u * 128u) / 4u][(to + {i}u * 128u) % 4u] = {u}_row{r}[{i}];
#end
    }
#end
#end
#end

@compute @workgroup_size(128)
fn matmul(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    if number >= p.row_tiles * p.column_tiles {
        return;
    }
    let tile = tile_of_band(number, p.row_tiles, p.column_tiles, 8u);
    let row0 = tile.x * TILE;
    let column0 = tile.y * TILE;

    let inner = p.inner;
    // The inputs that rows of this tile of w have values for.
    let begin = select(0u, column0, p.filled == 1u);
    let end = select(inner, min(inner, column0 + TILE), p.filled == 2u);
    // 32 invocations compute 64 x 64 results: rows in fours, 32 further each time; columns in fours, 32 further.
    let quarter = lane / 32u;
    let member = lane % 32u;
    let my_row = ((quarter / 2u) * 4u + member / 8u) * 4u;
    let my_column = ((quarter % 2u) * 8u + member % 8u) * 4u;

    // What an invocation fetches: four inputs of rows fetch_row and fetch_row + 64.
    let fetch_input = (lane % 2u) * 4u;
    let fetch_row = lane / 2u;
#for r in 0..2
    var x_at{r} = (min(row0 + fetch_row + {r}u * 64u, p.rows - 1u) * inner + begin + fetch_input) / 4u;
    var w_at{r} = (min(column0 + fetch_row + {r}u * 64u, p.columns - 1u) * inner + begin + fetch_input) / 4u;
    var x_row{r}: vec4<f32>;
    var w_row{r}: vec4<f32>;
#end

    // Result c{a}{i}_{b}: row my_row + 32 a + i, columns from my_column + 64 b.
#for a in 0..4
#for i in 0..4
#for b in 0..2
    var c{a}{i}_{b} = vec4<f32>();
#end
#end
#end
    #fetch(begin)
    #put(0u)
    workgroupBarrier();
    var stage = 0u;
    for (var k = begin; k < end; k += 8u) {
        #fetch(k + 8u)
#for k in 0..8
        {
#for a in 0..4
            let a{a} = xs[(stage * 1024u + my_row + ({k}u * 128u + {a}u * 32u)) / 4u];
#end
#for b in 0..2
            let b{b} = ws[(stage * 1024u + my_column + ({k}u * 128u + {b}u * 64u)) / 4u];
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

    let stride4 = p.stride / 4u;
#for a in 0..4
#for i in 0..4
    {
        let row = row0 + my_row + ({a}u * 32u + {i}u);
        if row < p.rows {
#for b in 0..2
            {
                let column = column0 + my_column + {b}u * 64u;
                if column < p.columns {
                    var v = c{a}{i}_{b};
                    if p.has_bias != 0u {
                        v += vec4<f32>(bias[column], bias[column + 1u], bias[column + 2u], bias[column + 3u]);
                    }
                    y[row * stride4 + column / 4u] = Y4(v);
                }
            }
#end
        }
    }
#end
#end
}
