// Exact selection of the lowest keys, by radix: three rounds of a histogram, of 11, 10 and 10 bits, find the key at a
// rank without sorting. The sign of a key is never set, so the first round sees the exponent and three bits of the fraction: scores
// spread over enough bins that invocations seldom add to the same one. Keys are read four at a time.
// Ties are settled as on the CPU: the lower column goes first, then the lower row.

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
const BINS: u32 = 2048u;
// Bins per invocation where a workgroup sums them up.
const RUN: u32 = 8u;
// Ties in each column.
const TIED: u32 = 2056u;
// Rows whose ties a workgroup counts.
const TIED_ROWS: u32 = 256u;
const ALL: u32 = 0xffffffffu;

struct Parameters {
    rows: u32,
    width: u32,
    // Bits below the ones of this round: 20, 10, 0.
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
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> state: array<atomic<u32>>;
// The mask.
@group(0) @binding(3) var<storage, read_write> work: array<u32>;

var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> shared_sums: array<u32, LANES>;
var<workgroup> coarse: array<u32, 16>;
var<workgroup> found: array<u32, 4>;
// The words of a mask that a workgroup makes.
var<workgroup> marks: array<atomic<u32>, 256>;

fn key_at(i: u32) -> u32 {
    return keys[i >> 2u][i & 3u];
}

// Four keys from `i` on, which need not be a multiple of 4.
fn four_at(i: u32) -> vec4<u32> {
    if (i & 3u) == 0u {
        return keys[i >> 2u];
    }
    return vec4<u32>(key_at(i), key_at(i + 1u), key_at(i + 2u), key_at(i + 3u));
}

// The target rank among all keys, counted from 0.
fn target_rank(n: u32) -> u32 {
    if p.reference == 1u {
        return min(p.count, n - 1u);
    }
    return p.count - 1u;
}

@compute @workgroup_size(LANES)
fn start(@builtin(local_invocation_index) lane: u32) {
    for (var b = lane; b < BINS; b += LANES) {
        atomicStore(&state[HISTOGRAM + b], 0u);
    }
    for (var c = lane; c < p.width; c += LANES) {
        atomicStore(&state[TIED + c], 0u);
    }
    if lane == 0u {
        atomicStore(&state[PREFIX], 0u);
        atomicStore(&state[RANK], target_rank(p.rows * p.width));
        atomicStore(&state[COLUMN], ALL);
        atomicStore(&state[ROW], ALL);
    }
}

// The bin of a key in the round of `shift`; BINS: its higher bits are not the ones found so far.
fn bin_of(key: u32, prefix: u32, shift: u32) -> u32 {
    if shift == 20u {
        return key >> 20u;
    }
    return select(BINS, (key >> shift) & 1023u, (key >> (shift + 10u)) == prefix);
}

fn tally(key: u32, prefix: u32, shift: u32, counts: bool) {
    let bin = bin_of(key, prefix, shift);
    if counts && bin < BINS {
        atomicAdd(&bins[bin], 1u);
    }
}

fn tally_four(four: vec4<u32>, prefix: u32, shift: u32, here: u32) {
    tally(four.x, prefix, shift, here > 0u);
    tally(four.y, prefix, shift, here > 1u);
    tally(four.z, prefix, shift, here > 2u);
    tally(four.w, prefix, shift, here > 3u);
}

fn clear_bins(lane: u32) {
    for (var b = lane; b < BINS; b += LANES) {
        atomicStore(&bins[b], 0u);
    }
    workgroupBarrier();
}

// The bin of a rank in `bins`, left in `found[0]`; what is left of the rank inside it, in `found[1]`; the bin's size, in
// `found[2]`. Sums of 8 bins, then of 16 of these, so that nobody walks over more than 16 numbers.
fn locate(rank: u32, lane: u32) {
    var sum = 0u;
    for (var b = 0u; b < RUN; b++) {
        sum += atomicLoad(&bins[lane * RUN + b]);
    }
    shared_sums[lane] = sum;
    workgroupBarrier();
    if lane < 16u {
        var total = 0u;
        for (var i = 0u; i < 16u; i++) {
            total += shared_sums[lane * 16u + i];
        }
        coarse[lane] = total;
    }
    workgroupBarrier();
    if lane == 0u {
        var left = rank;
        var group = 0u;
        while left >= coarse[group] {
            left -= coarse[group];
            group++;
        }
        var run = group * 16u;
        while left >= shared_sums[run] {
            left -= shared_sums[run];
            run++;
        }
        var bin = run * RUN;
        var size = atomicLoad(&bins[bin]);
        while left >= size {
            left -= size;
            bin++;
            size = atomicLoad(&bins[bin]);
        }
        found[0] = bin;
        found[1] = left;
        found[2] = size;
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn histogram(
    #invocation()
) {
    clear_bins(lane);
    let prefix = atomicLoad(&state[PREFIX]);
    let n = p.rows * p.width;
    let quads = n / 4u;
    let stride = groups.x * groups.y * LANES;
    for (var q = index(group, groups, lane); q < quads; q += stride) {
        tally_four(keys[q], prefix, p.shift, 4u);
    }
    if index(group, groups, lane) == 0u && n % 4u != 0u {
        tally_four(keys[quads], prefix, p.shift, n % 4u);
    }
    workgroupBarrier();
    for (var b = lane; b < BINS; b += LANES) {
        let count = atomicLoad(&bins[b]);
        if count > 0u {
            atomicAdd(&state[HISTOGRAM + b], count);
        }
    }
}

// One workgroup: finds the bin of the target rank.
@compute @workgroup_size(LANES)
fn pick(@builtin(local_invocation_index) lane: u32) {
    for (var b = lane; b < BINS; b += LANES) {
        atomicStore(&bins[b], atomicLoad(&state[HISTOGRAM + b]));
        atomicStore(&state[HISTOGRAM + b], 0u);
    }
    workgroupBarrier();
    locate(atomicLoad(&state[RANK]), lane);
    if lane == 0u {
        let prefix = (atomicLoad(&state[PREFIX]) << 10u) | found[0];
        let rank = found[1];
        atomicStore(&state[PREFIX], prefix);
        atomicStore(&state[RANK], rank);
        if p.shift == 0u {
            atomicStore(&state[THRESHOLD], prefix);
            // The exact rule takes rank + 1 of the equal keys; when that is all of them, no order matters.
            let all = p.reference == 1u || rank + 1u == found[2];
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
        count += u32(key_at(row * p.width + column) == threshold);
    }
    if count > 0u {
        atomicAdd(&state[TIED + column], count);
    }
}

// One workgroup: the column and the row in which the ties that go run out.
@compute @workgroup_size(LANES)
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
    let run = (p.width + LANES - 1u) / LANES;
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
    let piece = (p.rows + LANES - 1u) / LANES;
    sum = 0u;
    for (var r = lane * piece; r < min((lane + 1u) * piece, p.rows); r++) {
        sum += u32(key_at(r * p.width + column) == threshold);
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
            rest -= u32(key_at(row * p.width + column) == threshold);
            row++;
        }
        atomicStore(&state[COLUMN], column);
        atomicStore(&state[ROW], row);
    }
}

// Which of four keys from `column` on go: those below the threshold, and equal ones up to (last_column, last_row).
fn going(four: vec4<u32>, row: u32, column: u32, threshold: u32, last_column: u32, last_row: u32) -> u32 {
    var bits = 0u;
    for (var c = 0u; c < 4u; c++) {
        let here = column + c;
        let tie_goes = here < last_column || (here == last_column && row < last_row);
        let key = four[c];
        let goes = here < p.width && (key < threshold || (key == threshold && tie_goes));
        bits |= select(0u, 1u << c, goes);
    }
    return bits;
}

// The mask of these columns, 256 words a workgroup: eight invocations a word, four columns each, so that neighbours
// read neighbouring keys; `work` holds the mask.
@compute @workgroup_size(LANES)
fn mark(
    #invocation()
) {
    let here = (p.width + 31u) / 32u;
    let words = p.rows * here;
    let first = (group.y * groups.x + group.x) * LANES;
    let threshold = atomicLoad(&state[THRESHOLD]);
    let last_column = atomicLoad(&state[COLUMN]);
    let last_row = atomicLoad(&state[ROW]);
    atomicStore(&marks[lane], 0u);
    workgroupBarrier();
    for (var step = 0u; step < 8u; step++) {
        let word = step * 32u + lane / 8u;
        let i = first + word;
        let row = i / here;
        let column = (i % here) * 32u + (lane % 8u) * 4u;
        if i < words && column < p.width {
            let bits = going(four_at(row * p.width + column), row, column, threshold, last_column, last_row);
            if bits != 0u {
                atomicOr(&marks[word], bits << ((lane % 8u) * 4u));
            }
        }
    }
    workgroupBarrier();
    let i = first + lane;
    if i < words {
        work[(i / here) * p.words + p.first_word + i % here] = atomicLoad(&marks[lane]);
    }
}

// Every row on its own, one workgroup each; `work` takes the mask.
@compute @workgroup_size(LANES)
fn rows(
    #invocation()
) {
    let row = group.y * groups.x + group.x;
    if row >= p.rows {
        return;
    }
    let start = row * p.width;
    var prefix = 0u;
    var rank = p.count - 1u;
    for (var shift = 20u; ; shift -= 10u) {
        clear_bins(lane);
        for (var c = 4u * lane; c < p.width; c += 1024u) {
            tally_four(four_at(start + c), prefix, shift, p.width - c);
        }
        workgroupBarrier();
        locate(rank, lane);
        prefix = (prefix << 10u) | found[0];
        rank = found[1];
        if shift == 0u {
            break;
        }
    }
    let threshold = prefix;
    var last = ALL;
    // Whether some of the equal keys stay.
    if rank + 1u < found[2] {
        let run = (p.width + LANES - 1u) / LANES;
        var sum = 0u;
        for (var c = lane * run; c < min((lane + 1u) * run, p.width); c++) {
            sum += u32(key_at(start + c) == threshold);
        }
        shared_sums[lane] = sum;
        workgroupBarrier();
        if lane == 0u {
            var left = rank + 1u;
            var owner = 0u;
            while left > shared_sums[owner] {
                left -= shared_sums[owner];
                owner++;
            }
            var column = owner * run;
            while left > 0u {
                left -= u32(key_at(start + column) == threshold);
                column++;
            }
            // Ties before this column go.
            found[3] = column;
        }
        workgroupBarrier();
        last = found[3];
    }
    // 32 words at a time, eight invocations a word.
    for (var base = 0u; base < p.words; base += 32u) {
        if lane < 32u {
            atomicStore(&marks[lane], 0u);
        }
        workgroupBarrier();
        let column = (base + lane / 8u) * 32u + (lane % 8u) * 4u;
        if column < p.width {
            let bits = going(four_at(start + column), 0u, column, threshold, last, 0u);
            if bits != 0u {
                atomicOr(&marks[lane / 8u], bits << ((lane % 8u) * 4u));
            }
        }
        workgroupBarrier();
        if lane < 32u && base + lane < p.words {
            work[row * p.words + base + lane] = atomicLoad(&marks[lane]);
        }
    }
}

// N:M groups: one invocation a word of 32 columns; a column's rank within its group decides.
@compute @workgroup_size(LANES)
fn structured(
    #invocation()
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
            let key = key_at(start + column);
            var before = 0u;
            for (var other = first; other < first + p.group_size; other++) {
                let rival = key_at(start + other);
                before += u32(rival < key || (rival == key && other < column));
            }
            if before < p.group_size - p.keep {
                bits |= 1u << b;
            }
        }
    }
    work[i] = bits;
}
