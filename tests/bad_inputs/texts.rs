//! Tokenizers and texts that cannot be used.

use super::Change::*;
use super::tiny::{self, Tensor};
use super::{Case, refuses_all};
use std::io::Write;

/// Gzips bytes.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Makes a named pipe that nobody writes to.
#[cfg(unix)]
fn pipe(folder: &super::tiny::Folder, name: &str) {
    let made = std::process::Command::new("mkfifo").arg(folder.path(name)).status();
    assert!(made.expect("mkfifo is there").success());
}

const TEXTS: &[Case] = &[
    Case {
        name: "no tokenizer",
        change: Absent("model/tokenizer.json"),
        expect: &["tokenizer: `model/tokenizer.json` is not there; to get it: train it"],
    },
    Case {
        name: "a tokenizer that is not JSON",
        change: Content("model/tokenizer.json", b"{\n  \"version\": \"1.0\",\n  \"model\": {\n"),
        expect: &["model/tokenizer.json: not a tokenizer: ", "line 4"],
    },
    Case {
        name: "a tokenizer without a model",
        change: Content("model/tokenizer.json", b"{\"version\": \"1.0\"}"),
        expect: &["model/tokenizer.json: not a tokenizer: "],
    },
    // The crate `tokenizers` panics on the next three.
    Case {
        name: "a tokenizer that is broken within its decoder",
        change: Other(|folder| folder.replace("model/tokenizer.json", "\"decoder\": {", "\"decoder\": {,")),
        expect: &["model/tokenizer.json: not a tokenizer: ", "line 18"],
    },
    Case {
        name: "a tokenizer that merges unknown tokens",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"merges\": []",
                "\"merges\": [[\"a\", \"zz\"]]",
            );
        }),
        expect: &["model/tokenizer.json: not a tokenizer: ", "zz"],
    },
    Case {
        name: "a tokenizer that adds an unknown token",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"special_tokens\": {\"<s>\"",
                "\"special_tokens\": {\"<b>\"",
            );
        }),
        expect: &["model/tokenizer.json: cannot encode the text: "],
    },
    Case {
        name: "tokens beyond the vocabulary",
        change: Other(|folder| {
            folder.replace("model/config.json", "\"vocab_size\": 259", "\"vocab_size\": 64");
            let mut tensors = tiny::weights();
            tensors.insert(
                "model.embed_tokens.weight".into(),
                Tensor::new(&[64, 32], (0..64 * 32).map(|_| 0.1)),
            );
            tiny::save(&tensors, &folder.path("model/model.safetensors"));
        }),
        expect: &[
            "model/tokenizer.json: token id ",
            "vocabulary of 64; tokenizer and config.json do not belong together",
        ],
    },
    Case {
        name: "no evaluation corpus",
        change: Absent("novel.txt"),
        expect: &["evaluation corpus: `novel.txt` is not there; to get it: print it"],
    },
    Case {
        name: "no calibration corpus, and no word on how to get it",
        change: Other(|folder| {
            folder.replace("experiment.toml", "obtain = \"write it\"\n", "");
            Absent("calibration.jsonl").apply(folder);
        }),
        expect: &[
            "calibration corpus: `calibration.jsonl` is not there; paths in an experiment file are relative to its folder",
        ],
    },
    Case {
        name: "nothing there at all",
        change: Other(|folder| {
            for name in ["model/config.json", "novel.txt", "calibration.jsonl"] {
                Absent(name).apply(folder);
            }
        }),
        expect: &["to get it: train it", "to get it: print it", "to get it: write it"],
    },
    Case {
        name: "an empty corpus",
        change: Content("novel.txt", b""),
        expect: &["novel.txt: contains no text"],
    },
    Case {
        name: "a corpus of blanks",
        change: Content("novel.txt", b" \n\n \n"),
        expect: &["novel.txt: contains no text"],
    },
    Case {
        name: "a corpus that is not UTF-8",
        change: Content("novel.txt", b"It was\nthe best of\ntimes \xe9t\xe9\n"),
        expect: &["novel.txt: line 3: not valid UTF-8"],
    },
    Case {
        name: "a corpus too short for a window",
        change: Content("novel.txt", b"It was"),
        expect: &["novel.txt: the text has 7 tokens, which fill 0 windows of 16, but 4 are needed"],
    },
    Case {
        name: "a corpus too short for all windows",
        change: Experiment("windows = 4", "windows = 4000"),
        expect: &["novel.txt: the text has ", " windows of 16, but 4000 are needed"],
    },
    Case {
        name: "a corpus that is a folder",
        change: Experiment("corpus = \"novel.txt\"", "corpus = \"model\""),
        expect: &["model: is a folder; a file is needed here"],
    },
    Case {
        name: "a corpus whose format is not known",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.html");
            folder.write("novel.html", tiny::text(100, 100));
        }),
        expect: &[
            "novel.html: `.html` is not a format of texts: plain text ends in .txt, .text, .raw, .tokens, JSON lines in",
        ],
    },
    Case {
        name: "a corpus without an ending",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel");
            folder.write("novel", tiny::text(100, 100));
        }),
        expect: &["novel: has no ending that says what it holds: "],
    },
    Case {
        name: "a packed archive",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.tar.gz");
            folder.write("novel.tar.gz", packed(tiny::text(100, 100).as_bytes()));
        }),
        expect: &["novel.tar.gz: `.tar` is not a format of texts"],
    },
    Case {
        name: "a corpus in UTF-16",
        change: Content("novel.txt", b"\xff\xfeI\0t\0 \0w\0a\0s\0\n\0"),
        expect: &["novel.txt: line 1: text in UTF-16, not in UTF-8; convert it: `iconv -f UTF-16 -t UTF-8`"],
    },
    Case {
        name: "a corpus in UTF-16 without a mark",
        change: Content("novel.txt", b"I\0t\0 \0w\0a\0s\0\n\0"),
        expect: &["novel.txt: line 1: text in UTF-16"],
    },
    #[cfg(unix)]
    Case {
        name: "a corpus that is a pipe",
        change: Other(|folder| {
            Absent("novel.txt").apply(folder);
            pipe(folder, "novel.txt");
        }),
        expect: &["novel.txt: is a pipe; inputs are read more than once"],
    },
    #[cfg(unix)]
    Case {
        name: "a tokenizer that is a pipe",
        change: Other(|folder| {
            Absent("model/tokenizer.json").apply(folder);
            pipe(folder, "model/tokenizer.json");
        }),
        expect: &["model/tokenizer.json: is a pipe"],
    },
    #[cfg(unix)]
    Case {
        name: "weights that are a pipe",
        change: Other(|folder| {
            Absent("model/model.safetensors").apply(folder);
            pipe(folder, "model/model.safetensors");
        }),
        expect: &["model/model.safetensors: is a pipe"],
    },
    #[cfg(unix)]
    Case {
        name: "a device that never ends",
        change: Other(|folder| {
            Absent("novel.txt").apply(folder);
            std::os::unix::fs::symlink("/dev/zero", folder.path("novel.txt")).expect("a link");
        }),
        expect: &["novel.txt: is a device"],
    },
    #[cfg(unix)]
    Case {
        name: "a configuration that never ends",
        change: Other(|folder| {
            Absent("model/config.json").apply(folder);
            std::os::unix::fs::symlink("/dev/zero", folder.path("model/config.json")).expect("a link");
        }),
        expect: &["model/config.json: is a device"],
    },
    Case {
        name: "gzip that expands without an end",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.txt.gz");
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&vec![b'a'; 80 << 20]).expect("in memory");
            folder.write("novel.txt.gz", encoder.finish().expect("in memory"));
        }),
        expect: &[
            "novel.txt.gz: line 1: cannot read: its ",
            " unpack to more than 64.0 MiB",
        ],
    },
    Case {
        name: "a tokenizer whose rules announce more than they hold",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"normalizer\": null",
                "\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/P///w==\"}",
            );
        }),
        expect: &["model/tokenizer.json: `normalizer`: `precompiled_charsmap`: truncated"],
    },
    Case {
        name: "a tokenizer with random tokens",
        change: Other(|folder| folder.replace("model/tokenizer.json", "\"dropout\": null", "\"dropout\": 0.5")),
        expect: &["model/tokenizer.json: `model.dropout` = 0.5 makes the tokens of a text random"],
    },
    Case {
        name: "a tokenizer whose rules have no trie",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"normalizer\": null",
                "\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAAAA==\"}",
            );
        }),
        expect: &[
            "model/tokenizer.json: `normalizer`: `precompiled_charsmap`: its trie is empty; take `normalizer` from",
        ],
    },
    Case {
        name: "a tokenizer whose rules lead nowhere",
        change: Other(|folder| {
            folder.replace(
                "model/tokenizer.json",
                "\"normalizer\": null",
                "\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"BAAAAAD8//9hAA==\"}",
            );
        }),
        expect: &["model/tokenizer.json: ", "download tokenizer.json again"],
    },
    Case {
        name: "no tokenizer, and no word on how to get it",
        change: Other(|folder| {
            folder.replace("experiment.toml", "obtain = \"train it\"\n", "");
            Absent("model/tokenizer.json").apply(folder);
        }),
        expect: &[
            "model/tokenizer.json` is not there; the folder has no tokenizer in any form (`config.json`, `model.safetensors`); get \
             tokenizer.json from where the model is from",
        ],
    },
    Case {
        name: "an added token that the model does not have",
        change: Other(|folder| {
            folder.write(
                "model/tokenizer_config.json",
                "{\"added_tokens_decoder\": {\"259\": {\"content\": \"e\"}}}",
            );
            folder.write("model/special_tokens_map.json", "{}");
        }),
        expect: &["model/tokenizer_config.json: token `e` has the id 259 there, but 104 with tokenizer.json"],
    },
    Case {
        name: "an added token beyond the vocabulary",
        change: Other(|folder| {
            folder.write("model/special_tokens_map.json", "{\"pad_token\": \" \"}");
        }),
        expect: &[
            "model/special_tokens_map.json: token ` `, which this file adds with id 259, is outside the model's vocabulary of 259; \
             remove it, or",
        ],
    },
    Case {
        name: "JSONL with a NaN",
        change: Content("calibration.jsonl", b"{\"text\": \"one\", \"score\": NaN}\n"),
        expect: &[
            "calibration.jsonl: line 1: ",
            "`NaN` and `Infinity` are not JSON: write null in their place",
        ],
    },
    Case {
        name: "JSONL with half a character",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n{\"text\": \"\\ud83d!\"}\n"),
        expect: &[
            "calibration.jsonl: line 2: ",
            "half of a character in UTF-16, which is none: write `\\ufffd`",
        ],
    },
    Case {
        name: "JSONL with a second half alone",
        change: Content("calibration.jsonl", b"{\"text\": \"\\ude00\"}\n"),
        expect: &["calibration.jsonl: line 1: ", "half of a character in UTF-16"],
    },
    Case {
        name: "JSONL that was joined of marked files",
        change: Content(
            "calibration.jsonl",
            b"{\"text\": \"one\"}\n\xef\xbb\xbf{\"text\": \"two\"}\n",
        ),
        expect: &[
            "calibration.jsonl: line 2: ",
            "there is a byte order mark before it, perhaps because files were joined; remove it",
        ],
    },
    Case {
        name: "an added token of another id",
        change: Content(
            "model/tokenizer_config.json",
            b"{\"added_tokens_decoder\": {\"7\": {\"content\": \"<x>\"}}}",
        ),
        expect: &["model/tokenizer_config.json: token `<x>` has the id 7 there, but 259 with tokenizer.json"],
    },
    Case {
        name: "JSONL of lists",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n[\"text\"]\n"),
        expect: &["calibration.jsonl: line 2: not an object with a string `text`: a list; "],
    },
    Case {
        name: "JSONL of strings",
        change: Content("calibration.jsonl", b"\"text\"\n"),
        expect: &["calibration.jsonl: line 1: not an object with a string `text`: it does not begin with `{`"],
    },
    Case {
        name: "JSONL with a text twice",
        change: Content("calibration.jsonl", b"{\"text\": \"one\", \"text\": \"two\"}\n"),
        expect: &["calibration.jsonl: line 1: ", "duplicate field `text`"],
    },
    Case {
        name: "JSONL broken at a line",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n\n{\"text\": \"two\"\n"),
        expect: &[
            "calibration.jsonl: line 3: not an object with a string `text`: ",
            "at column 14",
        ],
    },
    Case {
        name: "JSONL without texts",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n{\"txt\": \"two\"}\n"),
        expect: &["calibration.jsonl: line 2: ", "missing field `text` at column 14"],
    },
    Case {
        name: "JSONL with a number for a text",
        change: Content("calibration.jsonl", b"{\"text\": 1}\n"),
        expect: &[
            "calibration.jsonl: line 1: ",
            "invalid type: integer `1`, expected a string",
        ],
    },
    Case {
        name: "documents that are all too short",
        change: Content("calibration.jsonl", b"{\"text\": \"one\"}\n{\"text\": \"three\"}\n"),
        expect: &[
            "calibration.jsonl: none of 2 calibration documents drawn is longer than a window of 16 tokens (the longest has 6)",
            "use `sampling = \"packed\"` or a shorter `length`",
        ],
    },
    Case {
        name: "a packed calibration text that is too short",
        change: Other(|folder| {
            folder.replace("experiment.toml", "\"documents\"", "\"packed\"");
            folder.write("calibration.jsonl", "{\"text\": \"one\"}\n");
        }),
        expect: &["calibration.jsonl: the calibration text has 4 tokens; a window of 16 needs at least one more"],
    },
    Case {
        name: "a truncated gzip file",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.txt.gz");
            let whole = packed(tiny::text(100, 100).as_bytes());
            folder.write("novel.txt.gz", &whole[..whole.len() / 2]);
        }),
        expect: &["novel.txt.gz: line ", "cannot read: "],
    },
    Case {
        name: "a gzip file that is none",
        change: Other(|folder| {
            folder.replace("experiment.toml", "novel.txt", "novel.txt.gz");
            folder.write("novel.txt.gz", "It was the best of times");
        }),
        expect: &["novel.txt.gz: line 1: cannot read: invalid gzip header"],
    },
];

#[test]
fn tokenizers_and_texts_that_cannot_be_used_are_refused() {
    refuses_all(TEXTS);
}
