//! A `tokenizer.json`: loaded, and given texts of several kinds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::data::tokenizer::{Bos, Tokenizer};

const VOCABULARY: usize = 1000;

/// What tokenizers trip over: special tokens, bytes beyond ASCII, runs of blanks, nothing.
const TEXTS: [&str; 5] = [
    "",
    "<s>The quick brown fox</s> <|endoftext|> jumps",
    "caf\u{e9} \u{1f600} \u{4f60}\u{597d} \u{fb01} e\u{301} \u{0}\u{fffd}",
    "   \t\r\n\n  1234567890 don't\u{a0}\u{3000}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("tokenizer.json"), bytes).expect("writable");
    let Ok(tokenizer) = Tokenizer::load(folder.path()) else {
        return;
    };
    for text in TEXTS {
        for bos in [Bos::Tokenizer, Bos::Never] {
            if let Ok(ids) = tokenizer.encode(text, bos, VOCABULARY) {
                assert!(ids.iter().all(|id| (*id as usize) < VOCABULARY));
            }
        }
    }
    for role in ["bos_token", "eos_token"] {
        assert!(tokenizer.special(role).is_none(), "nothing beside it names one");
    }
});
