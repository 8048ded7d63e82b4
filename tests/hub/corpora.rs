//! Corpora by name and by path, exported tokens, and parquet.

use super::server::Server;
use super::{COMMIT, RUN, refused, run, tree, works};
use crate::tiny::{self, Folder};
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/parquet")
        .join(name);
    std::fs::read(path).expect("a fixture of the repository")
}

#[test]
fn corpora_are_fetched_by_name_and_by_path() {
    let (server, folder) = (Server::new(), Folder::new());
    server.add(
        "datasets/Salesforce/wikitext",
        [(
            "wikitext-2-raw-v1/test-00000-of-00001.parquet".to_string(),
            fixture("wikitext.parquet"),
        )]
        .into(),
    );
    server.add(
        "datasets/ptb-text-only/ptb_text_only",
        [("penn_treebank/train/0000.parquet".to_string(), fixture("ptb.parquet"))].into(),
    );
    server.with(|state| {
        let ptb = state
            .repos
            .get_mut("datasets/ptb-text-only/ptb_text_only")
            .expect("just added");
        ptb.revisions.push("refs/convert/parquet");
    });
    folder.replace(
        "experiment.toml",
        "corpus = \"novel.txt\"",
        "corpus = \"hub:wikitext2\"",
    );
    folder.replace(
        "experiment.toml",
        "corpus = \"calibration.jsonl\"",
        "corpus = \"hub:ptb\"",
    );
    let plan = run(&folder, &server, &["plan", "experiment.toml"], &[]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    for part in [
        "evaluation corpus wikitext-2-raw-v1/test-00000-of-00001.parquet of data set Salesforce/wikitext (revision main) is not",
        "`zprune run` downloads it",
        "data set ptb-text-only/ptb_text_only (revision refs/convert/parquet)",
    ] {
        assert!(text.contains(part), "{text}");
    }
    works(&run(&folder, &server, RUN, &[]));
    let plan = std::fs::read_to_string(folder.path("results/tiny/plan.toml")).expect("a plan");
    assert!(
        plan.contains("corpus = \"hub:wikitext2:test\"") && plan.contains("join = \"wikitext\""),
        "{plan}"
    );
    let refs = folder.path("hf/hub/datasets--ptb-text-only--ptb_text_only/refs/refs/convert/parquet");
    assert_eq!(std::fs::read_to_string(refs).expect("a ref"), COMMIT);
    works(&run(&folder, &server, RUN, &[("HF_HUB_OFFLINE", "1")]));
    works(&run(&folder, &server, RUN, &[("HF_ENDPOINT", "http://127.0.0.1:9")]));

    // The first rows only: another text, another cell; but not more than there are.
    folder.replace("experiment.toml", "windows = 4", "rows = 12");
    works(&run(&folder, &server, RUN, &[]));
    folder.replace("experiment.toml", "rows = 12", "rows = 49");
    refused(
        &run(&folder, &server, RUN, &[]),
        &["hub:wikitext2:test: has 48 rows, but `rows` asks for 49"],
    );
    folder.replace("experiment.toml", "rows = 49", "windows = 4");

    // The same file by its path, joined the same way, is the same cell.
    folder.replace(
        "experiment.toml",
        "corpus = \"hub:wikitext2\"",
        "corpus = \"hub:Salesforce/wikitext/wikitext-2-raw-v1/test-00000-of-00001.parquet\"\njoin = \"wikitext\"",
    );
    let again = works(&run(&folder, &server, RUN, &[]));
    assert!(again.contains("0 cells run"), "{again}");
    folder.replace("experiment.toml", "test-00000-of-00001", "tset-00000-of-00001");
    refused(
        &run(&folder, &server, RUN, &[]),
        &["data set Salesforce/wikitext", "no such file at this revision"],
    );
    folder.replace("experiment.toml", "hub:Salesforce/wikitext/", "hub:Salesforce/wiki/");
    refused(
        &run(&folder, &server, RUN, &[("HF_TOKEN", "x")]),
        &["there is no such repository"],
    );
}

#[test]
fn contradictions_are_refused_with_their_place() {
    for (old, new, expect) in [
        (
            "path = \"model\"",
            "path = \"model\"\nhub = \"org/tiny\"",
            "toml:6:7: a model has either `path` or `hub`",
        ),
        (
            "path = \"model\"",
            "path = \"model\"\nrevision = \"main\"",
            "`revision` belongs to a model of the `hub`",
        ),
        (
            "path = \"model\"",
            "path = \"hub:org/tiny\"",
            "is written `hub = \"org/tiny\"`",
        ),
        ("path = \"model\"\n", "", "`path` is missing"),
        (
            "path = \"model\"",
            "hub = \"../tiny\"",
            "`../tiny` is not the name of a repository",
        ),
        (
            "path = \"model\"",
            "hub = \"org/tiny\"\nrevision = \"a b\"",
            "`a b` is not a branch, tag or commit",
        ),
        (
            "\"novel.txt\"",
            "\"hub:wikitxt2\"",
            "unknown corpus `wikitxt2`; did you mean `wikitext2`?",
        ),
        ("\"novel.txt\"", "\"hub:c4:test\"", "`c4` has no split `test`"),
        (
            "\"novel.txt\"",
            "\"hub:org/name\"",
            "is not `hub:org/name/path/in/repository.parquet`",
        ),
        (
            "corpus = \"novel.txt\"",
            "corpus = \"novel.txt\"\ntokens = \"t\"",
            "`tokens` takes the place of `corpus`",
        ),
        ("windows = 4", "windows = 4\nrows = 0", "`rows` is a number of rows"),
        ("corpus = \"novel.txt\"\n", "", "`corpus` is missing"),
        (
            "corpus = \"novel.txt\"",
            "tokens = \"t\"\njoin = \"lines\"",
            "`join` belongs to a `corpus`",
        ),
        (
            "corpus = \"calibration.jsonl\"",
            "tokens = \"t-{seed}\"",
            "`sampling` belongs to a `corpus`",
        ),
    ] {
        let folder = Folder::new();
        folder.replace("experiment.toml", old, new);
        let server = Server::new();
        refused(&run(&folder, &server, RUN, &[]), &["experiment.toml:", expect]);
    }
}

#[test]
fn exported_tokens_give_the_same_numbers_in_place_of_the_corpora() {
    let (server, folder) = (Server::new(), Folder::new());
    std::fs::remove_file(folder.path("model/model.safetensors")).expect("the model has weights");
    let listed = run(&folder, &server, &["tokens", "experiment.toml", "--out", "tokens"], &[]);
    works(&listed);
    let files = tree(&folder.path("tokens"));
    let expected = ["calibration_seed0", "calibration_seed1", "evaluation_novel"];
    assert_eq!(files, expected.map(|name| format!("model/{name}.safetensors")));
    tiny::save(&tiny::weights(), &folder.path("model/model.safetensors"));
    works(&folder.run());
    let numbers = |folder: &Folder| -> Vec<String> {
        let text = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
        let values = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"));
        values
            .map(|record| {
                format!(
                    "{} {} {}",
                    record["label"], record["evaluations"][0], record["calibration_tokens"]
                )
            })
            .collect()
    };
    let from_text = numbers(&folder);
    std::fs::remove_dir_all(folder.path("results")).expect("results were written");
    folder.replace(
        "experiment.toml",
        "corpus = \"novel.txt\"",
        "tokens = \"tokens/model/evaluation_novel.safetensors\"",
    );
    folder.replace(
        "experiment.toml",
        "corpus = \"calibration.jsonl\"",
        "tokens = \"tokens/model/calibration_seed{seed}.safetensors\"",
    );
    folder.replace("experiment.toml", "sampling = \"documents\"\n", "");
    works(&run(&folder, &server, RUN, &[]));
    assert_eq!(numbers(&folder), from_text);

    // The identity is the file: other tokens, other cells; the dense cell does not see calibration.
    let seed = |seed: u32| folder.path(format!("tokens/model/calibration_seed{seed}.safetensors"));
    std::fs::copy(seed(1), seed(0)).expect("both are there");
    let text = works(&run(&folder, &server, RUN, &[]));
    assert!(text.contains("4 cells run, 5 had results already"), "{text}");

    folder.replace("experiment.toml", "seed{seed}", "seed0");
    refused(
        &run(&folder, &server, RUN, &[]),
        &["is one draw, but there are 2 seeds; name it with `{seed}`"],
    );
    folder.replace("experiment.toml", "seeds = [0, 1]", "seeds = [0]");
    works(&run(&folder, &server, RUN, &[]));
    folder.replace("experiment.toml", "sequences = 4", "sequences = 5");
    refused(
        &run(&folder, &server, RUN, &[]),
        &["calibration_seed0.safetensors: ", "4 windows of 16, but 5 are needed"],
    );
    folder.replace(
        "experiment.toml",
        "sequences = 5\nlength = 16",
        "sequences = 4\nlength = 8",
    );
    refused(
        &run(&folder, &server, RUN, &[]),
        &["windows have 16 tokens, but `length` is 8"],
    );
    std::fs::remove_file(seed(0)).expect("it was there");
    refused(
        &run(&folder, &server, RUN, &[]),
        &["calibration tokens: `tokens/model/calibration_seed0.safetensors` is not there"],
    );
}

#[test]
fn token_windows_files_of_other_programs_are_read_or_refused() {
    use safetensors::{Dtype, tensor::TensorView};
    use zprune::data::windows::TokenWindows;
    let folder = Folder::new();
    let path = folder.path("tokens.safetensors");
    let store = |dtype, shape: &[usize], bytes: &[u8], name: &str| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).expect("bytes fit the shape");
        let content = safetensors::serialize([(name, view)], None).expect("in memory");
        std::fs::write(&path, content).expect("writable");
        TokenWindows::read(&path).map_err(|error| error.to_string())
    };
    let wide: Vec<u8> = (1..=6i64).flat_map(i64::to_le_bytes).collect();
    let narrow: Vec<u8> = (1..=6i32).flat_map(i32::to_le_bytes).collect();
    let expected = TokenWindows::new((1..=6).collect(), 3);
    assert_eq!(
        store(Dtype::I64, &[2, 3], &wide, "input_ids").ok(),
        expected.as_ref().ok().cloned()
    );
    for dtype in [Dtype::I32, Dtype::U32] {
        assert_eq!(
            store(dtype, &[2, 3], &narrow, "input_ids").ok(),
            expected.as_ref().ok().cloned()
        );
    }
    let windows = expected.expect("two windows");
    windows.write(&path).expect("writable");
    assert_eq!(TokenWindows::read(&path).expect("as written"), windows);
    assert!(windows.check_vocabulary(7).is_ok());
    let error = windows
        .check_vocabulary(6)
        .expect_err("6 is the seventh token")
        .to_string();
    assert!(error.contains("token id 6 (window 1, token 2)"), "{error}");
    let negative: Vec<u8> = [1i64, -1].into_iter().flat_map(i64::to_le_bytes).collect();
    for (result, expect) in [
        (
            store(Dtype::I64, &[1, 2], &negative, "input_ids"),
            "-1 is not a token id (window 0, token 1)",
        ),
        (store(Dtype::I64, &[6], &wide, "input_ids"), "has shape [6]"),
        (store(Dtype::F32, &[2, 3], &narrow, "input_ids"), "has type F32"),
        (store(Dtype::I64, &[2, 3], &wide, "labels"), "has no tensor `input_ids`"),
        (
            store(Dtype::I64, &[6, 1], &wide, "input_ids"),
            "do not make one or more windows of 1",
        ),
        (
            store(Dtype::I64, &[0, 3], &[], "input_ids"),
            "do not make one or more windows",
        ),
        (
            store(Dtype::I64, &[2, 0], &[], "input_ids"),
            "do not make one or more windows",
        ),
    ] {
        let error = result.expect_err(expect);
        assert!(
            error.contains("tokens.safetensors: ") && error.contains(expect),
            "{error}"
        );
    }
    std::fs::write(&path, b"text").expect("writable");
    assert!(TokenWindows::read(&path).is_err());
}

#[test]
fn parquet_rows_join_as_in_python_and_damage_is_an_error() {
    use zprune::data::corpus::{Corpus, Join};
    let folder = Folder::new();
    let read = |content: &[u8], join| {
        let path = folder.path("corpus.parquet");
        std::fs::write(&path, content).expect("writable");
        Corpus::read(&path, join).map_err(|error| error.to_string())
    };
    let text = |name: &str| String::from_utf8(fixture(name)).expect("UTF-8");
    for (name, join) in [("wikitext", Join::Wikitext), ("ptb", Join::Spaces)] {
        let corpus = read(&fixture(&format!("{name}.parquet")), join).expect("readable");
        assert_eq!(corpus.joined(join), text(&format!("{name}.joined.txt")), "{name}");
    }
    let code = read(&fixture("code.parquet"), Join::None).expect("readable");
    assert_eq!(code.documents(), ["fn main() {}\n", "x = 1\n", "\t"]);
    for (name, expect) in [
        ("null", "row group 1: row 3 is null"),
        (
            "numbers",
            "column `text` does not hold strings; the columns are `text` (INT64)",
        ),
        (
            "no_text",
            "has none of the columns `text`, `sentence`, `content`; its columns are `url` (string), `stars` (INT64)",
        ),
    ] {
        let error = read(&fixture(&format!("{name}.parquet")), Join::None).expect_err(expect);
        assert!(error.contains("corpus.parquet: ") && error.contains(expect), "{error}");
    }
    for name in ["wikitext", "ptb", "code"] {
        let whole = fixture(&format!("{name}.parquet"));
        for length in 0..whole.len() {
            let error = read(&whole[..length], Join::None).expect_err("a prefix is no parquet file");
            assert!(error.contains("parquet"), "{name}, {length} bytes: {error}");
        }
        // One wrong byte may go unnoticed where nothing depends on it; it must never be a panic.
        for position in 0..whole.len() {
            for damage in [0x01, 0x55, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[position] ^= damage;
                let _ = read(&damaged, Join::None);
            }
        }
    }
}
