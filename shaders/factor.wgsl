// The factor U of an inverse, H^-1 = U^T U, for a symmetric positive definite H: elimination from the last
// feature to the first, in blocks, in place.
//
// Counted from the last feature ("logical" indices below), H = L L^T, and U is L^-1 counted back. Beside the
// rows and columns not eliminated yet, the same triangle holds what is known of L^-1: eliminating block k needs
// the inverse of the pivot block's factor (`pivot`), then the panel of L below it, the rows of L^-1 in it and the
// block column of L^-1 that takes its place (`panel`), then one product for everything below (`update`).

// Sums are in double precision where the device has it.
alias F = f32;

// Rows and columns of a block.
const BLOCK: u32 = 32u;
// (BLOCK / 4)^2.
const THREADS: u32 = 64u;
// A row in workgroup memory; one more than there are, for the banks.
const ROW: u32 = BLOCK + 1u;
const QUARTER: u32 = BLOCK / 4u;
// Rows and columns of the products that `update` adds up at a time, in rows that are longer, for the banks.
const DEPTH: u32 = BLOCK / 8u;
const LONG: u32 = BLOCK + 4u;
// Invocations of `update`: each has 8 x 4 results.
const HALF: u32 = THREADS / 2u;

struct Parameters {
    inputs: u32,
    // The block to eliminate.
    block: u32,
    scale: f32,
    damping: f32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
// The Gram matrix, lower triangle.
@group(0) @binding(1) var<storage, read> gram: array<f32>;
// (inputs, inputs), upper triangle: H and then U.
@group(0) @binding(2) var<storage, read_write> work: array<F>;
// The inverse of the pivot block's factor, and its transpose.
@group(0) @binding(3) var<storage, read_write> inverse: array<F>;
// The block column of L: (inputs, BLOCK).
@group(0) @binding(4) var<storage, read_write> lines: array<F>;
// U, (inputs, inputs).
@group(0) @binding(5) var<storage, read_write> upper: array<f32>;
// The diagonal of U, then one more than the first pivot that was not positive, or 0.
@group(0) @binding(6) var<storage, read_write> pivots: array<f32>;

var<workgroup> square: array<F, BLOCK * ROW>;
var<workgroup> line: array<F, BLOCK>;

// Where logical row i and column j are kept.
fn at(i: u32, j: u32) -> u32 {
    return (p.inputs - 1u - i) * p.inputs + (p.inputs - 1u - j);
}

// One tile of H: the scaled Gram matrix, transposed, with 1 for features that were never active, and damped.
@compute @workgroup_size(THREADS)
fn load(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * BLOCK;
    let column = group.x * BLOCK;
    if column < row {
        return;
    }
    for (var e = lane; e < BLOCK * BLOCK; e += THREADS) {
        let r = e / BLOCK;
        let c = e % BLOCK;
        if column + r < p.inputs && row + c < p.inputs {
            square[r * ROW + c] = F(gram[(column + r) * p.inputs + row + c]);
        }
    }
    workgroupBarrier();
    for (var e = lane; e < BLOCK * BLOCK; e += THREADS) {
        let r = e / BLOCK;
        let c = e % BLOCK;
        if row + r <= column + c && column + c < p.inputs {
            var value = square[c * ROW + r] * F(p.scale);
            if row + r == column + c {
                value = select(value, F(1.0), value == F(0.0)) + F(p.damping);
            }
            work[(row + r) * p.inputs + column + c] = value;
        }
    }
}

// One workgroup: factors the pivot block and inverts the factor, column by column, in place.
@compute @workgroup_size(THREADS)
fn pivot(@builtin(local_invocation_index) lane: u32) {
    let first = p.block * BLOCK;
    let width = min(BLOCK, p.inputs - first);
    for (var e = lane; e < BLOCK * BLOCK; e += THREADS) {
        let i = e / BLOCK;
        let j = e % BLOCK;
        var value = F(0.0);
        if i < width && j <= i {
            value = work[at(first + i, first + j)];
        }
        square[i * ROW + j] = value;
    }
    for (var c = 0u; c < width; c++) {
        workgroupBarrier();
        let pivot = square[c * ROW + c];
        var root = F(0.0);
        // Not a number is not positive either.
        if pivot > F(0.0) {
            root = F(1.0) / sqrt(pivot);
        } else if lane == 0u && pivots[p.inputs] == 0.0 {
            pivots[p.inputs] = f32(p.inputs - first - c);
        }
        if lane < width {
            // Below the pivot: the column of L; left of it: the row of L^-1; in its place: L^-1's own.
            var value = root;
            if lane > c {
                value = square[lane * ROW + c] * root;
            } else if lane < c {
                value = square[c * ROW + lane] * root;
            }
            line[lane] = value;
        }
        workgroupBarrier();
        for (var e = c * BLOCK + lane; e < width * BLOCK; e += THREADS) {
            let i = e / BLOCK;
            let j = e % BLOCK;
            if i > c && j <= i {
                let before = select(square[i * ROW + j], F(0.0), j == c);
                square[i * ROW + j] = before - line[i] * line[j];
            } else if i == c && j <= c {
                square[i * ROW + j] = line[j];
            }
        }
    }
    workgroupBarrier();
    for (var e = lane; e < BLOCK * BLOCK; e += THREADS) {
        let i = e / BLOCK;
        let j = e % BLOCK;
        let value = square[i * ROW + j];
        inverse[i * BLOCK + j] = value;
        inverse[BLOCK * BLOCK + j * BLOCK + i] = value;
        if i < width && j <= i {
            work[at(first + i, first + j)] = value;
        }
    }
}

// Adds the products of what is in `a` and `b`.
#define multiply()
        for (var m = 0u; m < DEPTH; m++) {
            let four = vec4(
                b[m][column],
                b[m][column + QUARTER],
                b[m][column + 2u * QUARTER],
                b[m][column + 3u * QUARTER],
            );
#for r in 0..8
            t{r} = fma(vec4(a[m][row + {r}u]), four, t{r});
#end
        }
#end

// x: a block of rows below the pivot block, or of columns left of it.
@compute @workgroup_size(HALF)
fn panel(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = p.block * BLOCK;
    let start = group.x * BLOCK;
    if group.x == p.block {
        return;
    }
    let row = lane / QUARTER * 8u;
    let column = lane % QUARTER;
#for r in 0..8
    var t{r} = vec4(F(0.0));
#end
    if group.x < p.block {
        // Rows of L^-1: the inverse times what was there.
        for (var depth = 0u; depth < BLOCK; depth += DEPTH) {
#for s in 0..4
            {
                let e = lane + {s}u * HALF;
                a[e % DEPTH][e / DEPTH] = inverse[e / DEPTH * BLOCK + depth + e % DEPTH];
                b[e / BLOCK][e % BLOCK] = entry(first + depth + e / BLOCK, start + e % BLOCK);
            }
#end
            workgroupBarrier();
            #multiply()
            workgroupBarrier();
        }
#for r in 0..8
#for q in 0..4
        if first + row + {r}u < p.inputs {
            work[at(first + row + {r}u, start + column + {q}u * QUARTER)] = t{r}[{q}];
        }
#end
#end
        return;
    }
    // L = H L_k^-T.
    for (var depth = 0u; depth < BLOCK; depth += DEPTH) {
#for s in 0..4
        {
            let e = lane + {s}u * HALF;
            a[e % DEPTH][e / DEPTH] = entry(start + e / DEPTH, first + depth + e % DEPTH);
            b[e / BLOCK][e % BLOCK] = inverse[BLOCK * BLOCK + (depth + e / BLOCK) * BLOCK + e % BLOCK];
        }
#end
        workgroupBarrier();
        #multiply()
        workgroupBarrier();
    }
#for r in 0..8
#for q in 0..4
    if start + row + {r}u < p.inputs {
        lines[(start + row + {r}u) * BLOCK + column + {q}u * QUARTER] = t{r}[{q}];
    }
#end
    t{r} = vec4(F(0.0));
#end
    storageBarrier();
    workgroupBarrier();
    // The block column of L^-1: -L L_k^-1.
    for (var depth = 0u; depth < BLOCK; depth += DEPTH) {
#for s in 0..4
        {
            let e = lane + {s}u * HALF;
            let r = start + e / DEPTH;
            var left = F(0.0);
            if r < p.inputs {
                left = lines[r * BLOCK + depth + e % DEPTH];
            }
            a[e % DEPTH][e / DEPTH] = left;
            b[e / BLOCK][e % BLOCK] = inverse[(depth + e / BLOCK) * BLOCK + e % BLOCK];
        }
#end
        workgroupBarrier();
        #multiply()
        workgroupBarrier();
    }
#for r in 0..8
#for q in 0..4
    if start + row + {r}u < p.inputs {
        work[at(start + row + {r}u, first + column + {q}u * QUARTER)] = -t{r}[{q}];
    }
#end
#end
}

// What is kept of row i and column j; 0 past the last row.
fn entry(i: u32, j: u32) -> F {
    if i >= p.inputs {
        return F(0.0);
    }
    return work[at(i, j)];
}

var<workgroup> a: array<array<F, LONG>, DEPTH>;
var<workgroup> b: array<array<F, LONG>, DEPTH>;

// What an invocation brings of the next DEPTH rows and columns.
#define fetch(depth)
#for s in 0..4
    {
        let e = lane + {s}u * HALF;
        let r = e / DEPTH;
        let m = e % DEPTH;
        left{s} = F(0.0);
        right{s} = F(0.0);
        if first_row + r < p.inputs {
            left{s} = lines[(first_row + r) * BLOCK + {depth} + m];
        }
        if group.x < p.block {
            // What is known of L^-1 loses L times the block's rows of it.
            right{s} = work[at(first + {depth} + e / BLOCK, first_column + e % BLOCK)];
        } else if first_column + r < p.inputs {
            // What is left of H loses L L^T.
            right{s} = lines[(first_column + r) * BLOCK + {depth} + m];
        }
    }
#end
#end

// x: a block of columns, y: a block of rows, counted from the first below the pivot block. An invocation owns
// eight rows, and four columns a quarter of the tile apart, so that neighbours touch neighbours.
@compute @workgroup_size(HALF)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let below = p.block + 1u + group.y;
    if group.x > below || group.x == p.block {
        return;
    }
    let first = p.block * BLOCK;
    let first_row = below * BLOCK;
    let first_column = group.x * BLOCK;
    let row = lane / QUARTER * 8u;
    let column = lane % QUARTER;
    // Named: an array of results would live in memory.
#for r in 0..8
    var t{r} = vec4(F(0.0));
#end
#for s in 0..4
    var left{s}: F;
    var right{s}: F;
#end
    #fetch(0u)
    for (var depth = 0u; depth < BLOCK; depth += DEPTH) {
#for s in 0..4
        {
            let e = lane + {s}u * HALF;
            a[e % DEPTH][e / DEPTH] = left{s};
            if group.x < p.block {
                b[e / BLOCK][e % BLOCK] = right{s};
            } else {
                b[e % DEPTH][e / DEPTH] = right{s};
            }
        }
#end
        workgroupBarrier();
        // While these are multiplied.
        if depth + DEPTH < BLOCK {
            #fetch(depth + DEPTH)
        }
        #multiply()
        workgroupBarrier();
    }
    // All are read before the first is written: no read may pass a write, so that every one would be waited for.
#for r in 0..8
    let old{r} = there(first_row + row + {r}u, first_column + column);
#end
#for r in 0..8
    put(first_row + row + {r}u, first_column + column, old{r} - t{r});
#end
}

// Four columns of a row, up to the diagonal.
fn there(i: u32, j: u32) -> vec4<F> {
    var v = vec4(F(0.0));
    if i < p.inputs {
        let place = at(i, j);
#for c in 0..4
        if j + {c}u * QUARTER <= i {
            v[{c}] = work[place - {c}u * QUARTER];
        }
#end
    }
    return v;
}

fn put(i: u32, j: u32, v: vec4<F>) {
    if i < p.inputs {
        let place = at(i, j);
#for c in 0..4
        if j + {c}u * QUARTER <= i {
            work[place - {c}u * QUARTER] = v[{c}];
        }
#end
    }
}

// U in single precision, and its diagonal.
@compute @workgroup_size(THREADS)
fn unload(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = (group.y * groups.x + group.x) * THREADS + lane;
    if e >= p.inputs * p.inputs {
        return;
    }
    let row = e / p.inputs;
    let column = e % p.inputs;
    var value = 0.0;
    if row <= column {
        value = f32(work[e]);
    }
    upper[e] = value;
    if row == column {
        pivots[row] = value;
    }
}
