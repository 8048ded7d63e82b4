//! What a workbench has room for, so that a recipe that needs more is refused before anything is computed.

/// The largest numbers that a workbench supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most weights of an N:M group if kept weights are updated column by column.
    pub updated_group: usize,
    /// Most constants that a formula may have.
    pub constants: usize,
    /// Most vectors that a formula may use, each with one value per row or per column.
    pub vectors: usize,
    /// Most matrices that a formula may use in addition to the weights.
    pub matrices: usize,
    /// Most matrices that a score may use if it is computed again while weights are updated.
    pub followed_matrices: usize,
}

impl Limits {
    /// No limits but the memory that there is.
    pub const NONE: Limits = Limits {
        updated_group: usize::MAX,
        constants: usize::MAX,
        vectors: usize::MAX,
        matrices: usize::MAX,
        followed_matrices: usize::MAX,
    };
}
