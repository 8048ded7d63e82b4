//! CPython's `random.Random`, as far as calibration sampling uses it.
//!
//! MT19937 seeded by `init_by_array` with the seed's 32-bit words; `getrandbits(k)` for `k <= 32` takes
//! the top bits of one output, longer values are put together from the low word up; `randint` rejects
//! draws above the range. Golden values from CPython 3.11 hold all of it.

use rand_mt::Mt;

/// Python's random generator, in the state that `random.seed(seed)` leaves.
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// Does what `random.seed(seed)` does, for a non-negative integer.
    pub fn new(seed: u64) -> Self {
        let words = [seed as u32, (seed >> 32) as u32];
        let used = if words[1] == 0 { &words[..1] } else { &words[..] };
        PythonRandom(Mt::new_with_key(used.iter().copied()))
    }

    /// The result of `random.getrandbits(bits)`, for `bits` from 1 to 64.
    pub fn bits(&mut self, bits: u32) -> u64 {
        debug_assert!((1..=64).contains(&bits));
        let low_bits = bits.min(32);
        let low = u64::from(self.0.next_u32() >> (32 - low_bits));
        if bits <= 32 {
            return low;
        }
        low | u64::from(self.0.next_u32() >> (64 - bits)) << 32
    }

    /// The result of `random.randint(0, last)`: uniform over `0..=last`.
    pub fn up_to(&mut self, last: u64) -> u64 {
        let choices = last + 1;
        let bits = u64::BITS - choices.leading_zeros();
        loop {
            let draw = self.bits(bits);
            if draw < choices {
                return draw;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_equal_cpython() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/python_random.json")).expect("golden file is JSON");
        for (seed, lists) in golden.as_object().expect("one object per seed") {
            let seed: u64 = seed.parse().expect("keys are seeds");
            let mut random = PythonRandom::new(seed);
            for (call, values) in lists.as_object().expect("one list per call") {
                // The second list was drawn after the first from one generator, the others from fresh ones.
                if call != "randint_0_7" {
                    random = PythonRandom::new(seed);
                }
                for value in values.as_array().expect("a list of draws") {
                    let draw = match call.as_str() {
                        "randint_0_356316" => random.up_to(356_316),
                        "randint_0_7" => random.up_to(7),
                        "getrandbits32" => random.bits(32),
                        "randint_0_2**40" => random.up_to(1 << 40),
                        other => panic!("golden file has an unknown call {other}"),
                    };
                    assert_eq!(draw, value.as_u64().expect("draws are integers"), "seed {seed}, {call}");
                }
            }
        }
    }
}
