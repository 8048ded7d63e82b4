//! The one forward pass, generic over the backend, with taps where linear layers read their input.
//!
//! The residual stream of many sequences ([`Hidden`], [`Packed`]) moves through the model block by block, so only
//! one block's weights are needed at a time, and calibration, propagation and evaluation are the same
//! loop with different listeners. The gradient of a loss ([`Backward`]) moves the same way back.

mod adjoint;
mod backward;
mod batches;
mod block;
mod ends;
mod hidden;
mod layout;
mod packed;
mod pass;

pub use backward::{Backward, Tape, of_distance, of_norms};
pub use block::Block;
pub use ends::Ends;
pub use hidden::{Before, Hidden};
pub use layout::Layout;
pub use packed::Packed;
pub(crate) use pass::copy;
