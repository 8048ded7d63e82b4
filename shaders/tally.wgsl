// What a mask removes: in all, in groups of neighbouring columns of each row, and in the same columns of all rows.

struct Parameters {
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
    // Columns of a group; the last one may have fewer.
    width: u32,
    // How many weights a group of a row should lose.
    wanted: u32,
    // 1: groups are counted over all rows.
    over_rows: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
// Weights that are removed; groups of a row that lose another number than `wanted`; then, if asked for, the weights that are removed
// in each group of columns.
@group(0) @binding(2) var<storage, read_write> counts: array<atomic<u32>>;

var<workgroup> gone: atomic<u32>;
var<workgroup> wrong: atomic<u32>;

// An invocation counts one group of one row.
@compute @workgroup_size(LANES)
fn tally(
    #invocation()
) {
    if lane == 0u {
        atomicStore(&gone, 0u);
        atomicStore(&wrong, 0u);
    }
    workgroupBarrier();
    let i = index(group, groups, lane);
    let parts = (p.columns + p.width - 1u) / p.width;
    if i < p.rows * parts {
        let row = i / parts;
        let part = i % parts;
        let first = part * p.width;
        let count = removed(row * p.words, first, min(first + p.width, p.columns));
        atomicAdd(&gone, count);
        atomicAdd(&wrong, u32(count != p.wanted));
        if p.over_rows == 1u && count > 0u {
            atomicAdd(&counts[2u + part], count);
        }
    }
    workgroupBarrier();
    if lane == 0u {
        atomicAdd(&counts[0], atomicLoad(&gone));
        atomicAdd(&counts[1], atomicLoad(&wrong));
    }
}

// The weights that are removed in some columns of the row whose mask begins at the word `start`.
fn removed(start: u32, first: u32, end: u32) -> u32 {
    var count = 0u;
    var column = first;
    while column < end {
        let next = min(end, (column / 32u + 1u) * 32u);
        let bits = mask[start + column / 32u] >> (column % 32u);
        count += countOneBits(bits & (ALL >> (32u - (next - column))));
        column = next;
    }
    return count;
}

const ALL: u32 = 0xffffffffu;
