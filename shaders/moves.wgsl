// Matrices whose entries are those of another one in other places.

alias X = f32;
alias Y = f32;

struct Parameters {
    // Of the result.
    rows: u32,
    columns: u32,
    // Columns of the source.
    width: u32,
    // Rows of `places`: those of the source, or 1.
    place_rows: u32,
    factor: f32,
    // Number of entries of the source before the first one to move.
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> into: array<Y>;
@group(0) @binding(3) var<storage, read> places: array<f32>;
// All ones less the first entry of `places` that is wrong; 0: none is.
@group(0) @binding(4) var<storage, read_write> misplaced: atomic<u32>;

// 32 rows of 32 entries, in rows of 33 for the banks.
var<workgroup> square: array<X, 1056>;

// One workgroup for each 32 x 32 entries, so that neighbours read and write neighbours.
@compute @workgroup_size(LANES)
fn transpose(
    #invocation()
) {
    let number = group.y * groups.x + group.x;
    let across = (p.columns + 31u) / 32u;
    let row = number / across * 32u;
    let column = number % across * 32u;
    let inside = lane % 32u;
    for (var line = lane / 32u; line < 32u; line += LANES / 32u) {
        if column + line < p.columns && row + inside < p.rows {
            square[line * 33u + inside] = x[p.first + (column + line) * p.width + row + inside];
        }
    }
    workgroupBarrier();
    for (var line = lane / 32u; line < 32u; line += LANES / 32u) {
        if row + line < p.rows && column + inside < p.columns {
            into[(row + line) * p.columns + column + inside] = Y(square[inside * 33u + line]);
        }
    }
}

// A symmetric matrix of which the lower triangle is given, times a factor.
@compute @workgroup_size(LANES)
fn symmetric(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        let row = i / p.columns;
        let column = i % p.columns;
        into[i] = Y(p.factor * f32(x[max(row, column) * p.columns + min(row, column)]));
    }
}

// The column that an entry of `places` names, out of `columns`; `columns` if it is negative and names none. What is neither
// is reported, and names none. Whatever a conversion makes of it, no index is out of range.
fn named(entry: u32, columns: u32) -> u32 {
    let place = places[entry];
    let bits = bitcast<u32>(place);
    let column = u32(max(place, 0.0));
    if (bits & 0x7fffffffu) <= 0x7f800000u {
        if place < 0.0 && floor(place) == place {
            return columns;
        }
        if place >= 0.0 && column < columns && f32(column) == place {
            return column;
        }
    }
    atomicMax(&misplaced, 0xffffffffu - entry);
    return columns;
}

@compute @workgroup_size(LANES)
fn gather(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.columns {
        let row = i / p.columns;
        let column = named(min(row, p.place_rows - 1u) * p.columns + i % p.columns, p.width);
        if column < p.width {
            into[i] = Y(x[row * p.width + column]);
        } else {
            into[i] = Y(0.0);
        }
    }
}

// The result is cleared before; one invocation for each entry of the source.
@compute @workgroup_size(LANES)
fn scatter(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.rows * p.width {
        let row = i / p.width;
        let column = named(min(row, p.place_rows - 1u) * p.width + i % p.width, p.columns);
        if column < p.columns {
            into[row * p.columns + column] = Y(x[i]);
        }
    }
}
