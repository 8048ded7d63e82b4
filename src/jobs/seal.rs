//! Checksums that a JSON file carries of its own content, so that what was changed later is told from what was written.

use crate::data::digest;

/// The text in place of the checksum while the checksum is computed.
pub const OPEN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Replaces the last [`OPEN`] in the text by the SHA-256 of the text.
///
/// # Panics
/// The text does not have it: a mistake of the caller.
pub fn seal(mut text: String) -> String {
    let checksum = digest::of_bytes(text.as_bytes());
    let place = text.rfind(OPEN).expect("there is a place for the checksum");
    text.replace_range(place..place + OPEN.len(), &checksum);
    text
}

/// Whether the bytes are exactly what [`seal`] made with this checksum. A change of any other byte is found, too,
/// even in spaces and names.
pub fn is_intact(bytes: &[u8], checksum: &str) -> bool {
    let place = bytes
        .windows(OPEN.len())
        .rposition(|window| window == checksum.as_bytes());
    place.is_some_and(|place| {
        let mut open = bytes.to_vec();
        open[place..place + OPEN.len()].copy_from_slice(OPEN.as_bytes());
        digest::of_bytes(&open) == checksum
    })
}
