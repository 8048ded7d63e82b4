//! What a general compressor makes of the same weights, so that nobody has to take an archive's size for a good one.

/// How many bytes are compressed at most, about: more would take longer than the archive.
const SAMPLE: u64 = 64 << 20;

/// An estimate of the size of tensors under zstd. Of large models it looks at pieces, evenly spread.
pub struct Rival {
    /// One piece of so many is compressed.
    every: u64,
    pieces: u64,
    /// Sizes of the pieces that were compressed, before and after.
    before: u64,
    after: u64,
}

impl Rival {
    /// For tensors of about `bytes` in all, which come in pieces of at most `piece` bytes.
    pub fn new(bytes: u64) -> Self {
        Rival {
            // Odd, so that no regular order of large and small tensors hides half of them.
            every: bytes.div_ceil(SAMPLE) | 1,
            pieces: 0,
            before: 0,
            after: 0,
        }
    }

    /// Takes the next piece into account.
    pub fn see(&mut self, piece: &[u8]) {
        if self.pieces.is_multiple_of(self.every) {
            // Nothing refuses to be compressed; if it did, it would count as it is.
            let packed = zstd::bulk::compress(piece, zstd::DEFAULT_COMPRESSION_LEVEL);
            self.before += piece.len() as u64;
            self.after += packed.map_or(piece.len(), |packed| packed.len()) as u64;
        }
        self.pieces += 1;
    }

    /// About how many bytes zstd needs for `bytes` of the kind that was seen.
    pub fn of(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.after as f64 / self.before.max(1) as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_sample_tells_the_size_of_all() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut piece = vec![0u8; 1 << 16];
        let [mut all, mut some] = [Rival::new(1), Rival::new(4 * SAMPLE)];
        for _ in 0..64 {
            // Half of the bytes are zero.
            piece
                .iter_mut()
                .for_each(|byte| *byte = random.random::<u8>() * u8::from(random.random::<bool>()));
            all.see(&piece);
            some.see(&piece);
        }
        let (all, some) = (all.of(1 << 22) as f64, some.of(1 << 22) as f64);
        let entropy = (0.5 * 9.0 + 0.5) / 8.0 * f64::from(1 << 22);
        assert!((some / all - 1.0).abs() < 0.01, "{some} {all}");
        assert!(all > 0.98 * entropy && all < 1.1 * entropy, "{all} {entropy}");
        assert_eq!(Rival::new(1).of(0), 0);
    }
}
