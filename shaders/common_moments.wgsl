
// Rows that one workgroup adds up.
const ROWS: u32 = 256u;

struct Parameters {
    rows: u32,
    width: u32,
    // Pieces of ROWS rows: of all rows for squares, of each sequence for sums.
    pieces: u32,
    // Rows of one sequence.
    length: u32,
}
