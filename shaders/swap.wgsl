// Swaps of a kept entry for a removed one, row by row, as long as a swap lowers r G r^T of the row's removed entries r.
// With c = r G, swapping the kept entry p for the removed entry u changes it by d_p + d_u - 2 w_p w_u G_pu, where
// d_p = s_p^2 + 2 w_p c_p, d_u = s_u^2 - 2 w_u c_u and s_j = |w_j| sqrt(G_jj). As |w_p w_u G_pu| is at most s_p s_u times a bound
// of correlations, few entries and few of their pairs can be better than the best pair found so far, and only for these G is
// read. See src/prune/workbench/cpu/swap.rs.

// Columns whose correlations with another column have one bound.
const BLOCK: u32 = 64u;
// Candidates that a list has room for: two rounds of a workgroup.
const LIST: u32 = 512u;
const NOWHERE: u32 = 0xffffffffu;
const FINISHED: u32 = 0x80000000u;
const FAR: f32 = 3e38;
// A swap must gain more than this part of its terms, so that rounding cannot make swaps go round in a circle.
const ROUNDING: f32 = 4e-6;

struct Parameters {
    rows: u32,
    columns: u32,
    // Words per row of the mask.
    words: u32,
    // Columns of a group.
    width: u32,
    // Most swaps of a row, in all and in this run.
    most: u32,
    steps: u32,
    // Bounds per column.
    blocks: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> gram: array<f32>;
// For each column j sqrt(G_jj); then a bound of its correlations with all others; then with each block of columns.
@group(0) @binding(3) var<storage, read_write> bounds: array<f32>;
// c, (rows, columns).
@group(0) @binding(4) var<storage, read_write> pulls: array<f32>;
@group(0) @binding(5) var<storage, read_write> mask: array<u32>;
// Swaps in each row, with FINISHED where nothing is left to swap.
@group(0) @binding(6) var<storage, read_write> swaps: array<u32>;
// Rows that are not finished.
@group(0) @binding(7) var<storage, read_write> unfinished: atomic<u32>;

var<workgroup> parts: array<vec4<f32>, 256>;
var<workgroup> coarse: array<vec4<f32>, 16>;
// Candidates: kept entries in the first half, removed ones in the second.
var<workgroup> places: array<u32, 1024>;
var<workgroup> changes: array<f32, 1024>;
var<workgroup> listed: array<atomic<u32>, 2>;
// The bits of the largest gain so far, which order like the gains; 0: nothing found.
var<workgroup> gain: atomic<u32>;
var<workgroup> first: array<atomic<u32>, 2>;
var<workgroup> state: u32;

// Bounds of the correlations of a column, one workgroup each.
@compute @workgroup_size(256)
fn correlations(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = group.y * groups.x + group.x;
    if column >= p.columns {
        return;
    }
    let root = sqrt(max(gram[column * p.columns + column], 0.0));
    let start = 2u * p.columns + column * p.blocks;
    var highest = 0.0;
    for (var block = lane; block < p.blocks; block += 256u) {
        var found = 0.0;
        for (var k = block * BLOCK; k < min((block + 1u) * BLOCK, p.columns); k++) {
            let other = gram[k * p.columns + k];
            if k != column && other > 0.0 && root > 0.0 {
                found = max(found, abs(gram[column * p.columns + k]) / (root * sqrt(other)));
            }
        }
        // A little more, for what rounding may have taken away.
        found *= 1.00001;
        bounds[start + block] = found;
        highest = max(highest, found);
    }
    let all = -lowest(vec4(-highest, 0.0, 0.0, 0.0), lane).x;
    if lane == 0u {
        bounds[column] = root;
        bounds[p.columns + column] = all;
    }
}

// The least of each component over the workgroup.
fn lowest(values: vec4<f32>, lane: u32) -> vec4<f32> {
    parts[lane] = values;
    workgroupBarrier();
    if lane < 16u {
        var least = parts[lane];
        for (var i = 1u; i < 16u; i++) {
            least = min(least, parts[lane + 16u * i]);
        }
        coarse[lane] = least;
    }
    workgroupBarrier();
    var least = coarse[0];
    for (var i = 1u; i < 16u; i++) {
        least = min(least, coarse[i]);
    }
    // Before the next call overwrites them.
    workgroupBarrier();
    return least;
}

fn gone(row: u32, column: u32) -> bool {
    return ((mask[row * p.words + column / 32u] >> (column % 32u)) & 1u) == 1u;
}

fn root_at(column: u32) -> f32 {
    return bounds[column];
}

fn correlation_at(column: u32) -> f32 {
    return bounds[p.columns + column];
}

fn strength_at(row: u32, column: u32) -> f32 {
    return abs(weights[row * p.columns + column]) * root_at(column);
}

// What swapping an entry out, or back in, changes alone, and a little more for rounding.
fn change_at(row: u32, column: u32, strength: f32, removed: bool) -> f32 {
    let i = row * p.columns + column;
    let pull = 2.0 * weights[i] * pulls[i];
    let own = strength * strength;
    return own + select(pull, -pull, removed) + ROUNDING * (own + abs(pull));
}

// The change of a pair whose changes alone add up to `sum`.
fn together(row: u32, sum: f32, a: u32, b: u32) -> f32 {
    let start = row * p.columns;
    return sum - 2.0 * weights[start + a] * weights[start + b] * gram[a * p.columns + b];
}

// The best swap that an invocation knows.
struct Best {
    change: f32,
    kept: u32,
    removed: u32,
}

fn better(best: Best, change: f32, kept: u32, removed: u32) -> Best {
    let tied = change == best.change && change < 0.0;
    if change < best.change || (tied && (kept < best.kept || (kept == best.kept && removed < best.removed))) {
        atomicMax(&gain, bitcast<u32>(-change));
        return Best(change, kept, removed);
    }
    return best;
}

// The change of the best swap that anybody in the workgroup knows.
fn beaten() -> f32 {
    return -bitcast<f32>(atomicLoad(&gain));
}

// The best swap that anybody in the workgroup knows, for all of them; without columns if there is none.
fn agreed(best: Best, lane: u32) -> Best {
    if lane == 0u {
        atomicStore(&first[0], NOWHERE);
        atomicStore(&first[1], NOWHERE);
    }
    workgroupBarrier();
    let found = atomicLoad(&gain);
    let mine = found != 0u && bitcast<u32>(-best.change) == found;
    // Of equal swaps the one with the lowest columns.
    if mine {
        atomicMin(&first[0], best.kept);
    }
    workgroupBarrier();
    let out = atomicLoad(&first[0]);
    if mine && best.kept == out {
        atomicMin(&first[1], best.removed);
    }
    workgroupBarrier();
    let back = atomicLoad(&first[1]);
    // Before the next call overwrites them.
    workgroupBarrier();
    return Best(-bitcast<f32>(found), out, back);
}

// Looks at all pairs of an entry.
fn pairs(row: u32, known: Best, place: u32, removed: bool, lane: u32) -> Best {
    var best = known;
    let change = change_at(row, place, strength_at(row, place), removed);
    let begins = place / p.width * p.width;
    for (var column = begins + lane; column < min(begins + p.width, p.columns); column += 256u) {
        if gone(row, column) != removed {
            let sum = change + change_at(row, column, strength_at(row, column), !removed);
            // The row of G is that of the entry, so that neighbours read neighbours.
            let both = together(row, sum, place, column);
            best = better(best, both, select(place, column, removed), select(column, place, removed));
        }
    }
    return best;
}

// Carries out the best swap of the workgroup; false if there is none.
fn swapped(row: u32, known: Best, lane: u32) -> bool {
    let best = agreed(known, lane);
    let found = best.change < 0.0;
    let out = best.kept;
    let back = best.removed;
    if found {
        let start = row * p.columns;
        let plus = weights[start + out];
        let minus = weights[start + back];
        for (var column = lane; column < p.columns; column += 256u) {
            let shift = plus * gram[out * p.columns + column] - minus * gram[back * p.columns + column];
            pulls[start + column] += shift;
        }
        if lane == 0u {
            mask[row * p.words + out / 32u] |= 1u << (out % 32u);
            mask[row * p.words + back / 32u] &= ~(1u << (back % 32u));
        }
    }
    storageBarrier();
    workgroupBarrier();
    return found;
}

fn clear(lane: u32) {
    if lane == 0u {
        atomicStore(&gain, 0u);
        atomicStore(&first[0], NOWHERE);
        atomicStore(&first[1], NOWHERE);
    }
    workgroupBarrier();
}

// How many swaps the row has had, for all invocations alike.
fn begin(row: u32, lane: u32) -> u32 {
    if lane == 0u {
        state = swaps[row];
    }
    return workgroupUniformLoad(&state);
}

fn finish(row: u32, count: u32, ended: bool, lane: u32) {
    if lane == 0u {
        let all = ended || count >= p.most;
        swaps[row] = select(count, count | FINISHED, all);
        if !all {
            atomicAdd(&unfinished, 1u);
        }
    }
}

// Groups so small that every pair is looked at: an invocation takes kept entries, and goes over the removed ones of their groups.
@compute @workgroup_size(256)
fn small_groups(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var count = begin(row, lane);
    if count >= FINISHED {
        return;
    }
    let last = min(p.most, count + p.steps);
    var ended = false;
    while count < last && !ended {
        clear(lane);
        var best = Best(0.0, NOWHERE, NOWHERE);
        for (var column = lane; column < p.columns; column += 256u) {
            if !gone(row, column) {
                let change = change_at(row, column, strength_at(row, column), false);
                let begins = column / p.width * p.width;
                for (var other = begins; other < min(begins + p.width, p.columns); other++) {
                    if gone(row, other) {
                        let sum = change + change_at(row, other, strength_at(row, other), true);
                        // Neighbours read neighbours: G is symmetric.
                        best = better(best, together(row, sum, other, column), column, other);
                    }
                }
            }
        }
        ended = !swapped(row, best, lane);
        count += u32(!ended);
    }
    finish(row, count, ended, lane);
}

// Lower bounds of the least of d_j - 2 y s_j over the kept or the removed entries j, for any y: the values between knots
// are above the chords, since a minimum of lines is concave.
struct Chords {
    offsets: vec3<f32>,
    slopes: vec3<f32>,
}

const KNOTS = vec4<f32>(0.0, 0.0625, 0.25, 1.0);

fn chords(values: vec4<f32>, farthest: f32) -> Chords {
    let at = KNOTS * farthest;
    let slopes = (values.yzw - values.xyz) / (at.yzw - at.xyz);
    return Chords(values.xyz - slopes * at.xyz, slopes);
}

fn least_at(lines: Chords, reach: f32) -> f32 {
    let values = lines.offsets + lines.slopes * reach;
    return min(values.x, min(values.y, values.z));
}

// Lists the kept entries (`which` 0) or the removed ones (1) from a column on that may be part of the best swap, until
// there are no more or the list could overflow. Returns the column to go on with.
fn list(row: u32, which: u32, from_column: u32, partners: Chords, lane: u32) -> u32 {
    if lane == 0u {
        atomicStore(&listed[which], 0u);
    }
    workgroupBarrier();
    var begins = from_column;
    var room = true;
    while begins < p.columns && room {
        let column = begins + lane;
        if column < p.columns && gone(row, column) == (which == 1u) {
            let strength = strength_at(row, column);
            let change = change_at(row, column, strength, which == 1u);
            if change + least_at(partners, strength * correlation_at(column)) <= beaten() {
                let place = which * LIST + atomicAdd(&listed[which], 1u);
                places[place] = column;
                changes[place] = change;
            }
        }
        begins += 256u;
        workgroupBarrier();
        room = atomicLoad(&listed[which]) + 256u <= LIST;
        workgroupBarrier();
    }
    return begins;
}

// Looks at the pairs of the listed entries.
fn look(row: u32, known: Best, lane: u32) -> Best {
    var best = known;
    let kept = atomicLoad(&listed[0]);
    let removed = atomicLoad(&listed[1]);
    for (var i = lane; i < kept * removed; i += 256u) {
        let a = i / removed;
        let b = LIST + i % removed;
        let out = places[a];
        let back = places[b];
        if out / p.width != back / p.width {
            continue;
        }
        let sum = changes[a] + changes[b];
        let bound = bounds[2u * p.columns + out * p.blocks + back / BLOCK];
        if sum - 2.0 * strength_at(row, out) * strength_at(row, back) * bound <= beaten() {
            best = better(best, together(row, sum, out, back), out, back);
        }
    }
    return best;
}

@compute @workgroup_size(256)
fn large_groups(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    var count = begin(row, lane);
    if count >= FINISHED {
        return;
    }
    var reach = 0.0;
    for (var column = lane; column < p.columns; column += 256u) {
        reach = max(reach, strength_at(row, column) * correlation_at(column));
    }
    var farthest = -lowest(vec4(-reach, 0.0, 0.0, 0.0), lane).x;
    if farthest == 0.0 {
        // No correlations: the chords are level, and any end will do.
        farthest = 1.0;
    }
    let knots = 2.0 * farthest * KNOTS;
    let last = min(p.most, count + p.steps);
    var ended = false;
    while count < last && !ended {
        clear(lane);
        var of_kept = vec4(FAR);
        var of_removed = vec4(FAR);
        var lowest_kept = NOWHERE;
        var lowest_removed = NOWHERE;
        for (var column = lane; column < p.columns; column += 256u) {
            let strength = strength_at(row, column);
            let removed = gone(row, column);
            let change = change_at(row, column, strength, removed);
            let values = vec4(change) - knots * strength;
            if removed {
                if values.x < of_removed.x {
                    lowest_removed = column;
                }
                of_removed = min(of_removed, values);
            } else {
                if values.x < of_kept.x {
                    lowest_kept = column;
                }
                of_kept = min(of_kept, values);
            }
        }
        let own_kept = of_kept.x;
        let own_removed = of_removed.x;
        of_kept = lowest(of_kept, lane);
        of_removed = lowest(of_removed, lane);
        var best = Best(0.0, NOWHERE, NOWHERE);
        if of_kept.x < FAR && of_removed.x < FAR {
            // A good pair gives something to beat: that of the entries whose changes alone are lowest, then the best pairs of its
            // kept and of its removed entry, one after the other.
            if own_kept == of_kept.x {
                atomicMin(&first[0], lowest_kept);
            }
            if own_removed == of_removed.x {
                atomicMin(&first[1], lowest_removed);
            }
            workgroupBarrier();
            let out = atomicLoad(&first[0]);
            let back = atomicLoad(&first[1]);
            workgroupBarrier();
            best = pairs(row, best, out, false, lane);
            let next = agreed(best, lane);
            best = pairs(row, best, select(next.removed, back, next.removed == NOWHERE), true, lane);
            workgroupBarrier();
            let for_kept = chords(of_removed, farthest);
            let for_removed = chords(of_kept, farthest);
            var from_kept = 0u;
            while from_kept < p.columns {
                from_kept = list(row, 0u, from_kept, for_kept, lane);
                var from_removed = 0u;
                while from_removed < p.columns {
                    from_removed = list(row, 1u, from_removed, for_removed, lane);
                    best = look(row, best, lane);
                    // Before a list is made anew.
                    workgroupBarrier();
                }
            }
        }
        ended = !swapped(row, best, lane);
        count += u32(!ended);
    }
    finish(row, count, ended, lane);
}
