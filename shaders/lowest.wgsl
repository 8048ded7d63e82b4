// The places of the lowest values of each row, in their order; one workgroup a row, and one pass over it for each place.

const NOWHERE: u32 = 0xffffffffu;

struct Parameters {
    rows: u32,
    columns: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> values: array<f32>;
// (rows, count).
@group(0) @binding(2) var<storage, read_write> places: array<f32>;

var<workgroup> low: array<f32, 256>;
var<workgroup> at: array<u32, 256>;

// Told by the bits, since a compiler may assume of comparisons that nothing is NaN.
fn nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// Whether one value comes before another in the order; NaN comes first, and a value without a place last.
fn before(value: f32, place: u32, other: f32, other_place: u32) -> bool {
    if place == NOWHERE || other_place == NOWHERE {
        return place != NOWHERE;
    }
    if nan(value) || nan(other) {
        return nan(value) && (!nan(other) || place < other_place);
    }
    return value < other || (value == other && place < other_place);
}

@compute @workgroup_size(256)
fn lowest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let start = row * p.columns;
    var last = 0.0;
    var last_place = NOWHERE;
    for (var i = 0u; i < p.count; i++) {
        var best = 0.0;
        var place = NOWHERE;
        for (var column = lane; column < p.columns; column += 256u) {
            let value = values[start + column];
            let left = last_place == NOWHERE || before(last, last_place, value, column);
            if left && before(value, column, best, place) {
                best = value;
                place = column;
            }
        }
        low[lane] = best;
        at[lane] = place;
        workgroupBarrier();
        for (var half = 128u; half > 0u; half /= 2u) {
            if lane < half && before(low[lane + half], at[lane + half], low[lane], at[lane]) {
                low[lane] = low[lane + half];
                at[lane] = at[lane + half];
            }
            workgroupBarrier();
        }
        last = low[0];
        last_place = at[0];
        if lane == 0u {
            places[row * p.count + i] = f32(last_place);
        }
        // Before the next round overwrites them.
        workgroupBarrier();
    }
}
