//! What a workbench has room for, so that a recipe that needs more is refused before anything is computed.

/// Numbers that a workbench cannot exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Weights of an N:M group while kept weights are updated column by column.
    pub updated_group: usize,
    /// Constants of a formula.
    pub constants: usize,
    /// Vectors of a formula: values per row or per column.
    pub vectors: usize,
    /// Matrices of a formula beside the weights.
    pub matrices: usize,
    /// The same of a score that is computed again while weights are updated.
    pub followed_matrices: usize,
}

impl Limits {
    /// As much as there is memory for.
    pub const NONE: Limits = Limits {
        updated_group: usize::MAX,
        constants: usize::MAX,
        vectors: usize::MAX,
        matrices: usize::MAX,
        followed_matrices: usize::MAX,
    };
}
