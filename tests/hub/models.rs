//! Models: what is downloaded, what is used from the cache, what is refused.

use super::server::{Fault, Server, etag};
use super::{COMMIT, MODEL, RUN, folder, model_files, refused, run, says, snapshot, tree, works};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn a_model_is_downloaded_once_and_used_from_the_cache_ever_after() {
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    let plan = run(&folder, &server, &["plan", "experiment.toml"], &[]);
    works(&plan);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        text.contains(
            "missing: model org/tiny (revision main) is not in the Hugging Face cache; `zprune run` downloads it"
        ),
        "{text}"
    );
    assert!(server.log().is_empty(), "a plan asks nobody");
    assert!(!folder.path("hf").exists(), "a plan leaves nothing behind");

    let text = works(&run(&folder, &server, RUN, &[]));
    assert!(text.contains("downloading org/tiny model.safetensors ("), "{text}");
    let plan = std::fs::read_to_string(folder.path("results/tiny/plan.toml")).expect("a plan");
    assert!(plan.contains(&format!("commit = \"{COMMIT}\"")), "{plan}");
    // The layout of the Python library: lock files apart, nothing else.
    let cache = folder.path("hf/hub/models--org--tiny");
    let mut files = tree(&cache);
    files.retain(|file| !file.ends_with(".lock"));
    let wanted = [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    let content = model_files();
    let mut expected: Vec<String> = wanted.iter().map(|name| format!("snapshots/{COMMIT}/{name}")).collect();
    for name in wanted {
        let etag = etag(name, &content[name]);
        expected.push(format!("blobs/{etag}"));
        let link = std::fs::read_link(snapshot(&folder).join(name)).expect("snapshots link to blobs");
        assert_eq!(link, Path::new("../../blobs").join(&etag));
        assert_eq!(
            std::fs::read(snapshot(&folder).join(name)).expect("readable"),
            content[name]
        );
    }
    expected.push("refs/main".to_string());
    expected.sort();
    assert_eq!(files, expected);
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).expect("a ref"), COMMIT);

    // A model that is pruned says what it was made from, and keeps its licence.
    let prune = "prune --model hub:org/tiny --method wanda --sparsity 0.5 --calibration calibration.jsonl --sequences 2 --length 16 \
                 --out pruned";
    let words: Vec<&str> = prune.split_whitespace().collect();
    works(&run(&folder, &server, &words, &[]));
    let card = std::fs::read_to_string(folder.path("pruned/README.md")).expect("a card");
    assert!(card.starts_with("---\nbase_model: org/tiny\nlicense: mit\n"), "{card}");
    assert!(
        card.contains(&format!("https://huggingface.co/org/tiny/tree/{COMMIT}")),
        "{card}"
    );
    assert!(!card.contains("add to the lines above"), "{card}");
    let record = std::fs::read_to_string(folder.path("pruned/pruning.json")).expect("a record");
    assert!(record.contains("\"base_model\": \"org/tiny\""), "{record}");
    assert!(record.contains(&format!("\"base_revision\": \"{COMMIT}\"")), "{record}");

    // Again: the branch is looked up, no file is.
    server.log();
    let again = works(&run(&folder, &server, RUN, &[]));
    assert!(again.contains("0 cells run"), "{again}");
    assert_eq!(server.log(), ["GET /api/models/org/tiny/revision/main"]);

    // Pinned to the commit: nobody is asked. The results are those of the branch.
    folder.replace(
        "experiment.toml",
        "hub = \"org/tiny\"",
        &format!("hub = \"org/tiny\"\nrevision = \"{COMMIT}\""),
    );
    let pinned = works(&run(&folder, &server, RUN, &[]));
    assert!(pinned.contains("0 cells run"), "{pinned}");
    assert!(server.log().is_empty());
    folder.replace("experiment.toml", COMMIT, "main");

    // Offline by wish, and offline because the hub is gone.
    works(&run(&folder, &server, RUN, &[("HF_HUB_OFFLINE", "1")]));
    assert!(server.log().is_empty());
    let gone = works(&run(&folder, &server, RUN, &[("HF_ENDPOINT", "http://127.0.0.1:9")]));
    assert!(
        gone.contains("the hub cannot be reached") && gone.contains("using what is in the cache"),
        "{gone}"
    );
}

#[test]
fn a_checkpoint_of_the_hub_is_a_method() {
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    let prune = "prune --model hub:org/tiny --method wanda --sparsity 0.5 --calibration calibration.jsonl --sequences 4 --length 16 \
                 --seed 0 --out pruned";
    let words: Vec<&str> = prune.split_whitespace().collect();
    works(&run(&folder, &server, &words, &[]));
    let read = |name: &str| std::fs::read(folder.path("pruned").join(name)).expect("a file of the model");
    let names = ["config.json", "tokenizer.json", "model.safetensors"];
    server.add(
        "models/else/where",
        names.map(|name| (name.to_string(), read(name))).into(),
    );
    std::fs::remove_dir_all(folder.path("pruned")).expect("it was there");

    let text = std::fs::read_to_string(folder.path("experiment.toml")).expect("an experiment");
    let (from, to) = (text.find("[[method]]"), text.find("[[evaluation]]"));
    let (from, to) = (from.expect("methods"), to.expect("an evaluation"));
    let methods = "[[method]]\ncriterion = \"wanda\"\n\n[[method]]\nname = \"theirs\"\ncheckpoint = \"hub:else/where\"\n\
                   pattern = 0.5\nseed = 0\n\n";
    folder.write("experiment.toml", format!("{}{methods}{}", &text[..from], &text[to..]));
    let said = works(&run(&folder, &server, RUN, &[]));
    assert!(said.contains("downloading else/where model.safetensors ("), "{said}");
    let records = std::fs::read_to_string(folder.path("results/tiny/runs.jsonl")).expect("records");
    let records: Vec<serde_json::Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect();
    let theirs = records.iter().find(|record| record["label"]["method"] == "theirs");
    let theirs = theirs.expect("a cell of the checkpoint");
    // Its place in the table is that of the method that made it, and so are its numbers.
    let same = |record: &&serde_json::Value| {
        record["label"]["method"] == "wanda"
            && record["cell"]["pruning"]["pattern"] == theirs["cell"]["pruning"]["pattern"]
            && record["cell"]["pruning"]["calibration"]["seed"] == theirs["cell"]["pruning"]["seed"]
    };
    let own = records.iter().find(same).expect("a cell of wanda");
    assert_eq!(own["evaluations"], theirs["evaluations"]);
}

#[test]
fn what_is_not_in_the_cache_is_refused_offline() {
    let (server, folder) = (Server::new(), folder());
    refused(
        &run(&folder, &server, RUN, &[("HF_HUB_OFFLINE", "TRUE")]),
        &[
            "experiment.toml:5:",
            "model org/tiny (revision main) is not in the Hugging Face cache",
            "run once without HF_HUB_OFFLINE",
            "`path = \"DIR\"` for a model",
        ],
    );
    assert!(server.log().is_empty());
    refused(
        &run(&folder, &server, RUN, &[("HF_ENDPOINT", "http://127.0.0.1:9")]),
        &["org/tiny (revision main): the connection to http://127.0.0.1:9 failed"],
    );
    assert!(folder.results().is_empty());
}

#[test]
fn a_gated_model_wants_a_token_of_an_account_that_may() {
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    server.with(|state| state.repos.get_mut(MODEL).expect("just added").gate = Some("hf_good"));
    let page = format!("accept the licence at {}/org/tiny", server.address);
    refused(
        &run(&folder, &server, RUN, &[]),
        &[
            "org/tiny (revision main): config.json: ",
            "gated",
            &page,
            "set HF_TOKEN",
        ],
    );
    refused(
        &run(&folder, &server, RUN, &[("HF_TOKEN", "hf_bad")]),
        &["may not read", &page],
    );
    works(&run(&folder, &server, RUN, &[("HF_TOKEN", "hf_good\n")]));
    // The token of `hf auth login`.
    std::fs::remove_dir_all(folder.path("hf/hub")).expect("the cache was there");
    folder.write("hf/token", "hf_good\n");
    works(&run(&folder, &server, RUN, &[]));
}

#[test]
fn a_missing_repository_revision_or_safetensors_is_named() {
    let (server, folder) = (Server::new(), folder());
    refused(
        &run(&folder, &server, RUN, &[]),
        &["org/tiny (revision main): ", "does not exist", "spelling"],
    );
    refused(
        &run(&folder, &server, RUN, &[("HF_TOKEN", "hf_good")]),
        &[
            "there is no such repository on the hub",
            "check the spelling of `org/name`",
        ],
    );
    server.add(MODEL, model_files());
    folder.replace(
        "experiment.toml",
        "hub = \"org/tiny\"",
        "hub = \"org/tiny\"\nrevision = \"v2\"",
    );
    refused(
        &run(&folder, &server, RUN, &[]),
        &[
            "org/tiny (revision v2): the repository has no revision `v2`",
            "/org/tiny/tree/main",
        ],
    );
    folder.replace("experiment.toml", "\"v2\"", "\"main\"");
    for (keep, part) in [
        (
            vec!["config.json", "tokenizer.json", "pytorch_model.bin"],
            "has only pytorch_model.bin",
        ),
        (vec!["README.md", "tiny-q4.gguf"], "`zprune import`"),
        (vec!["config.json", "model.safetensors"], "has no tokenizer.json"),
        (vec!["tokenizer.json", "model.safetensors"], "has no config.json"),
    ] {
        let mut files = model_files();
        files.insert("tiny-q4.gguf".into(), b"GGUF".into());
        files.retain(|name, _| keep.contains(&name.as_str()));
        server.add(MODEL, files);
        refused(&run(&folder, &server, RUN, &[]), &["org/tiny (revision main): ", part]);
    }
    assert!(folder.results().is_empty());
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    const WEIGHTS: &str = "/org/tiny/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors";
    let (server, folder) = (Server::new(), folder());
    let files = model_files();
    let total = files["model.safetensors"].len();
    server.add(MODEL, files);
    // One eleventh at a time: five attempts do not reach the end.
    let piece = total / 11;
    assert!(piece > 8000, "small files pass whole");
    server.fault(Fault::Cut(piece));
    refused(
        &run(&folder, &server, RUN, &[]),
        &[
            "org/tiny (revision main): model.safetensors: the connection to",
            "run the same command again; it goes on where it stopped",
        ],
    );
    assert_eq!(server.sent(WEIGHTS), 5 * piece);
    assert!(!snapshot(&folder).join("model.safetensors").exists());
    server.fault(Fault::None);
    server.log();
    let text = works(&run(&folder, &server, RUN, &[]));
    assert!(text.contains("here already"), "{text}");
    assert_eq!(server.sent(WEIGHTS), total - 5 * piece);
    assert!(server.log().contains(&format!("GET {WEIGHTS} bytes={}-", 5 * piece)));
}

#[test]
fn what_arrives_damaged_is_not_used() {
    let server = Server::new();
    let files = model_files();
    let weights = &files["model.safetensors"];
    let (etag, total) = (etag("model.safetensors", weights), weights.len());
    server.add(MODEL, files.clone());
    let part = format!("hf/hub/models--org--tiny/blobs/{etag}.part");
    let half = total / 2;
    for (fault, expect) in [
        (Fault::Short(half), "bytes arrived before the server ended the file"),
        (Fault::Flipped, "its SHA-256 is"),
    ] {
        let folder = folder();
        let small = |name: &str| name != "model.safetensors";
        // The small files come first and whole; what is being tried is the large one.
        for (name, content) in files.iter().filter(|(name, _)| small(name) && !name.contains('/')) {
            std::fs::create_dir_all(snapshot(&folder)).expect("writable");
            std::fs::write(snapshot(&folder).join(name), content).expect("writable");
        }
        server.fault(fault);
        refused(
            &run(&folder, &server, RUN, &[]),
            &["model.safetensors: ", expect, "run the same command again"],
        );
        assert!(!snapshot(&folder).join("model.safetensors").exists(), "{fault:?}");
        assert!(folder.results().is_empty(), "{fault:?}");
        server.fault(Fault::None);
        works(&run(&folder, &server, RUN, &[]));
    }
    // A server that does not know ranges sends all of it: what was here is not in the way.
    let folder_with_half = folder();
    std::fs::create_dir_all(folder_with_half.path(&part).parent().expect("in blobs")).expect("writable");
    folder_with_half.write(&part, &files["model.safetensors"][..half]);
    server.fault(Fault::NoRanges);
    works(&run(&folder_with_half, &server, RUN, &[]));
    let arrived = std::fs::read(snapshot(&folder_with_half).join("model.safetensors")).expect("downloaded");
    assert!(arrived == files["model.safetensors"]);
    // All of it came, and only the header promised more.
    server.fault(Fault::LongHeader(10));
    works(&run(&folder(), &server, RUN, &[]));
    server.fault(Fault::None);
    // A `.part` that is whole already, or another file's, must not stay.
    for content in [files["model.safetensors"].clone(), vec![7; total], vec![7; total + 9]] {
        let folder = folder();
        std::fs::create_dir_all(folder.path(&part).parent().expect("in blobs")).expect("writable");
        folder.write(&part, content);
        works(&run(&folder, &server, RUN, &[]));
    }
    // A blob that another revision or program left is linked, not fetched; a dangling link is made anew.
    let folder = folder();
    works(&run(&folder, &server, RUN, &[]));
    let blob = folder.path("hf/hub/models--org--tiny/blobs").join(&etag);
    server.log();
    std::fs::remove_file(snapshot(&folder).join("model.safetensors")).expect("it was there");
    works(&run(&folder, &server, RUN, &[]));
    let asked: Vec<String> = server
        .log()
        .into_iter()
        .filter(|line| line.contains("model.safetensors"))
        .collect();
    assert!(asked.iter().all(|line| line.ends_with(" bytes=0-0")), "{asked:?}");
    std::fs::remove_file(&blob).expect("it was there");
    works(&run(&folder, &server, RUN, &[]));
    assert!(blob.exists());
}

#[test]
fn two_runs_at_once_download_once() {
    const WEIGHTS: &str = "/org/tiny/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors";
    let (server, first, second) = (Server::new(), folder(), folder());
    let files = model_files();
    let total = files["model.safetensors"].len();
    server.add(MODEL, files);
    let shared = first.path("hf");
    let home = [("HF_HOME", shared.to_str().expect("UTF-8"))];
    std::thread::scope(|scope| {
        for folder in [&first, &second] {
            let server = &server;
            scope.spawn(move || works(&run(folder, server, RUN, &home)));
        }
    });
    assert_eq!(server.sent(WEIGHTS), total);
}

#[test]
fn the_cache_may_be_elsewhere_and_must_be_writable() {
    let (server, folder) = (Server::new(), folder());
    server.add(MODEL, model_files());
    let blocked = folder.path("novel.txt/hub");
    let output = run(
        &folder,
        &server,
        RUN,
        &[("HF_HUB_CACHE", blocked.to_str().expect("UTF-8"))],
    );
    assert_eq!(output.status.code(), Some(3), "{}", says(&output));
    assert!(says(&output).contains("novel.txt/hub: "), "{}", says(&output));
    works(&run(&folder, &server, RUN, &[("HF_HUB_CACHE", "elsewhere")]));
    assert!(
        folder
            .path("elsewhere/models--org--tiny/snapshots")
            .join(COMMIT)
            .exists()
    );
    assert!(!folder.path("hf").exists());
}

#[test]
fn shards_are_those_the_index_names() {
    let (server, folder) = (Server::new(), folder());
    let mut files = model_files();
    let weights = files.remove("model.safetensors").expect("the model has weights");
    let tensors = safetensors::SafeTensors::deserialize(&weights).expect("a checkpoint");
    let map: BTreeMap<&str, &str> = tensors
        .names()
        .into_iter()
        .map(|name| (name, "model-00001-of-00001.safetensors"))
        .collect();
    let index = |map: serde_json::Value| serde_json::json!({ "weight_map": map }).to_string().into_bytes();
    files.insert("model-00001-of-00001.safetensors".into(), weights.clone());
    files.insert("consolidated.safetensors".into(), b"another format".into());
    files.insert(
        "model.safetensors.index.json".into(),
        index(serde_json::json!({ "a": "../../evil.safetensors" })),
    );
    server.add(MODEL, files.clone());
    refused(
        &run(&folder, &server, RUN, &[]),
        &["shard `../../evil.safetensors` is not the name"],
    );
    std::fs::remove_dir_all(folder.path("hf")).expect("the cache was there");
    files.insert("model.safetensors.index.json".into(), index(serde_json::json!(map)));
    server.add(MODEL, files);
    works(&run(&folder, &server, RUN, &[]));
    assert!(snapshot(&folder).join("model-00001-of-00001.safetensors").exists());
    assert!(!snapshot(&folder).join("consolidated.safetensors").exists());
}
