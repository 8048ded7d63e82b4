// Exact selection of the lowest keys, by radix: four rounds of a histogram of 8 bits each find the key at a
// rank without sorting. Ties are settled as on the CPU: the lower column goes first, then the lower row.

// What a round knows, in `state`.
const PREFIX: u32 = 0u;
const RANK: u32 = 1u;
// Keys below this go.
const THRESHOLD: u32 = 2u;
// Of the keys equal to it, this many go: those in columns before COLUMN, and in COLUMN in rows before ROW.
const TIES: u32 = 3u;
const COLUMN: u32 = 4u;
const ROW: u32 = 5u;
const HISTOGRAM: u32 = 8u;
// Ties in each column.
const TIED: u32 = 264u;
// Rows whose ties a workgroup counts.
const TIED_ROWS: u32 = 256u;
const ALL: u32 = 0xffffffffu;

struct Parameters {
    rows: u32,
    width: u32,
    // Bits below the ones of this round: 24, 16, 8, 0.
    shift: u32,
    // How many go, at least 1 (rank of the threshold, counted from 1).
    count: u32,
    // 1: all keys up to the one at rank count + 1 go (the papers' threshold rule).
    reference: u32,
    // Where the masks of these columns start, and words per row of the mask.
    first_word: u32,
    words: u32,
    // N:M.
    keep: u32,
    group_size: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> state: array<atomic<u32>>;
// The mask.
@group(0) @binding(3) var<storage, read_write> work: array<u32>;

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> shared_sums: array<u32, 256>;
var<workgroup> found: array<u32, 4>;

fn index(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * 256u + lane;
}

// The target rank among all keys, counted from 0.
fn target_rank(n: u32) -> u32 {
    if p.reference == 1u {
        return min(p.count, n - 1u);
    }
    return p.count - 1u;
}

@compute @workgroup_size(256)
fn start(@builtin(local_invocation_index) lane: u32) {
    atomicStore(&state[HISTOGRAM + lane], 0u);
    for (var c = lane; c < p.width; c += 256u) {
        atomicStore(&state[TIED + c], 0u);
    }
    if lane == 0u {
        atomicStore(&state[PREFIX], 0u);
        atomicStore(&state[RANK], target_rank(p.rows * p.width));
        atomicStore(&state[COLUMN], ALL);
        atomicStore(&state[ROW], ALL);
    }
}

fn matches(key: u32, prefix: u32, shift: u32) -> bool {
    return shift == 24u || (key >> (shift + 8u)) == prefix;
}

@compute @workgroup_size(256)
fn histogram(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    atomicStore(&bins[lane], 0u);
    workgroupBarrier();
    let prefix = atomicLoad(&state[PREFIX]);
    let n = p.rows * p.width;
    let stride = groups.x * groups.y * 256u;
    for (var i = index(group, groups, lane); i < n; i += stride) {
        let key = keys[i];
        if matches(key, prefix, p.shift) {
            atomicAdd(&bins[(key >> p.shift) & 255u], 1u);
        }
    }
    workgroupBarrier();
    let count = atomicLoad(&bins[lane]);
    if count > 0u {
        atomicAdd(&state[HISTOGRAM + lane], count);
    }
}

// One workgroup: finds the bin of the target rank.
@compute @workgroup_size(256)
fn pick(@builtin(local_invocation_index) lane: u32) {
    shared_sums[lane] = atomicLoad(&state[HISTOGRAM + lane]);
    atomicStore(&state[HISTOGRAM + lane], 0u);
    workgroupBarrier();
    if lane == 0u {
        var rank = atomicLoad(&state[RANK]);
        var bin = 0u;
        while rank >= shared_sums[bin] {
            rank -= shared_sums[bin];
            bin++;
        }
        let prefix = (atomicLoad(&state[PREFIX]) << 8u) | bin;
        atomicStore(&state[PREFIX], prefix);
        atomicStore(&state[RANK], rank);
        if p.shift == 0u {
            atomicStore(&state[THRESHOLD], prefix);
            // The exact rule takes rank + 1 of the equal keys; when that is all of them, no order matters.
            let all = p.reference == 1u || rank + 1u == shared_sums[bin];
            atomicStore(&state[TIES], select(rank + 1u, ALL, all));
        }
    }
}

// Keys equal to the threshold in each of 64 columns, of some rows; nothing to do when all of them go.
@compute @workgroup_size(64, 4)
fn tied_columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let column = group.x * 64u + lane.x;
    if column >= p.width || atomicLoad(&state[TIES]) == ALL {
        return;
    }
    let threshold = atomicLoad(&state[THRESHOLD]);
    let first = group.y * TIED_ROWS;
    var count = 0u;
    for (var row = first + lane.y; row < min(first + TIED_ROWS, p.rows); row += 4u) {
        count += u32(keys[row * p.width + column] == threshold);
    }
    if count > 0u {
        atomicAdd(&state[TIED + column], count);
    }
}

// One workgroup: the column and the row in which the ties that go run out.
@compute @workgroup_size(256)
fn tied_boundary(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u {
        found[0] = atomicLoad(&state[TIES]);
    }
    let ties = workgroupUniformLoad(&found[0]);
    if ties == ALL {
        return;
    }
    let threshold = atomicLoad(&state[THRESHOLD]);
    // Columns: 256 runs of consecutive ones.
    let run = (p.width + 255u) / 256u;
    var sum = 0u;
    for (var c = lane * run; c < min((lane + 1u) * run, p.width); c++) {
        sum += atomicLoad(&state[TIED + c]);
    }
    shared_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var left = ties;
        var owner = 0u;
        while left > shared_sums[owner] {
            left -= shared_sums[owner];
            owner++;
        }
        var column = owner * run;
        var here = atomicLoad(&state[TIED + column]);
        while left > here {
            left -= here;
            column++;
            here = atomicLoad(&state[TIED + column]);
        }
        found[1] = column;
        found[2] = left;
    }
    workgroupBarrier();
    let column = found[1];
    let left = found[2];
    let piece = (p.rows + 255u) / 256u;
    sum = 0u;
    for (var r = lane * piece; r < min((lane + 1u) * piece, p.rows); r++) {
        sum += u32(keys[r * p.width + column] == threshold);
    }
    workgroupBarrier();
    shared_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u {
        var rest = left;
        var owner = 0u;
        while rest > shared_sums[owner] {
            rest -= shared_sums[owner];
            owner++;
        }
        var row = owner * piece;
        while rest > 0u {
            rest -= u32(keys[row * p.width + column] == threshold);
            row++;
        }
        atomicStore(&state[COLUMN], column);
        atomicStore(&state[ROW], row);
    }
}

// The mask of these columns, one word of 32 columns an invocation; `work` holds the mask.
@compute @workgroup_size(256)
fn mark(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    let here = (p.width + 31u) / 32u;
    if i >= p.rows * here {
        return;
    }
    let row = i / here;
    let word = i % here;
    let threshold = atomicLoad(&state[THRESHOLD]);
    let last_column = atomicLoad(&state[COLUMN]);
    let last_row = atomicLoad(&state[ROW]);
    var bits = 0u;
    for (var b = 0u; b < 32u; b++) {
        let column = word * 32u + b;
        if column < p.width {
            let key = keys[row * p.width + column];
            let tie_goes = column < last_column || (column == last_column && row < last_row);
            if key < threshold || (key == threshold && tie_goes) {
                bits |= 1u << b;
            }
        }
    }
    work[row * p.words + p.first_word + word] = bits;
}

// Every row on its own, one workgroup each; `work` takes the mask.
@compute @workgroup_size(256)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let start = row * p.width;
    if lane == 0u {
        found[0] = 0u;
        found[1] = p.count - 1u;
        found[2] = ALL;
    }
    for (var round = 0u; round < 4u; round++) {
        let shift = 24u - 8u * round;
        atomicStore(&bins[lane], 0u);
        workgroupBarrier();
        let prefix = found[0];
        for (var c = lane; c < p.width; c += 256u) {
            let key = keys[start + c];
            if matches(key, prefix, shift) {
                atomicAdd(&bins[(key >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var rank = found[1];
            var bin = 0u;
            var size = atomicLoad(&bins[0]);
            while rank >= size {
                rank -= size;
                bin++;
                size = atomicLoad(&bins[bin]);
            }
            found[0] = (prefix << 8u) | bin;
            found[1] = rank;
            // Whether some of the equal keys stay.
            found[3] = u32(rank + 1u < size);
        }
        workgroupBarrier();
    }
    let threshold = found[0];
    if found[3] == 1u {
        let run = (p.width + 255u) / 256u;
        var sum = 0u;
        for (var c = lane * run; c < min((lane + 1u) * run, p.width); c++) {
            sum += u32(keys[start + c] == threshold);
        }
        shared_sums[lane] = sum;
        workgroupBarrier();
        if lane == 0u {
            var left = found[1] + 1u;
            var owner = 0u;
            while left > shared_sums[owner] {
                left -= shared_sums[owner];
                owner++;
            }
            var column = owner * run;
            while left > 0u {
                left -= u32(keys[start + column] == threshold);
                column++;
            }
            // Ties before this column go.
            found[2] = column;
        }
    }
    workgroupBarrier();
    let last = found[2];
    for (var word = lane; word < p.words; word += 256u) {
        var bits = 0u;
        for (var b = 0u; b < 32u; b++) {
            let column = word * 32u + b;
            if column < p.width {
                let key = keys[start + column];
                if key < threshold || (key == threshold && column < last) {
                    bits |= 1u << b;
                }
            }
        }
        work[row * p.words + word] = bits;
    }
}

// N:M groups: one invocation a word of 32 columns; a column's rank within its group decides.
@compute @workgroup_size(256)
fn structured(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = index(group, groups, lane);
    if i >= p.rows * p.words {
        return;
    }
    let row = i / p.words;
    let word = i % p.words;
    let start = row * p.width;
    var bits = 0u;
    for (var b = 0u; b < 32u; b++) {
        let column = word * 32u + b;
        if column < p.width {
            let first = column / p.group_size * p.group_size;
            let key = keys[start + column];
            var before = 0u;
            for (var other = first; other < first + p.group_size; other++) {
                let rival = keys[start + other];
                before += u32(rival < key || (rival == key && other < column));
            }
            if before < p.group_size - p.keep {
                bits |= 1u << b;
            }
        }
    }
    work[i] = bits;
}
