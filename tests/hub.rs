//! Claim: models and corpora named on the hub arrive whole in the cache that other programs share, whatever
//! happens on the way, and what cannot be had is refused with what to do.
//!
//! A server on the loopback interface plays the hub; every test has its own, and its own cache.

mod tiny;

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use tiny::Folder;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = "models/org/tiny";

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// Every body of more than this many bytes ends there, with the connection.
    Cut(usize),
    /// Bodies end there, and the headers say that this is all.
    Short(usize),
    /// The length in the headers is greater than the body.
    LongHeader(usize),
    /// The range of a request is not honoured; the whole file comes.
    NoRanges,
    /// One byte is wrong.
    Flipped,
}

struct Repo {
    files: BTreeMap<String, Vec<u8>>,
    revisions: Vec<&'static str>,
    /// The token a reader needs.
    gate: Option<&'static str>,
}

struct State {
    /// By `models/org/name` or `datasets/org/name`.
    repos: BTreeMap<String, Repo>,
    fault: Fault,
    /// Requests as `METHOD path [range]`.
    log: Vec<String>,
    /// Bytes of bodies sent for whole files, by path.
    sent: BTreeMap<String, usize>,
}

/// A hub on the loopback interface.
struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn new() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State {
            repos: BTreeMap::new(),
            fault: Fault::None,
            log: Vec::new(),
            sent: BTreeMap::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that hangs up is part of some tests.
                std::thread::spawn(move || {
                    let _ = serve(stream, &shared);
                });
            }
        });
        Server { address, state }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no test panics holding it"));
    }

    fn add(&self, name: &str, files: BTreeMap<String, Vec<u8>>) {
        let repo = Repo {
            files,
            revisions: vec!["main", COMMIT],
            gate: None,
        };
        self.with(|state| {
            state.repos.insert(name.to_string(), repo);
        });
    }

    fn fault(&self, fault: Fault) {
        self.with(|state| state.fault = fault);
    }

    /// The requests since the last call.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no test panics holding it").log)
    }

    /// Bytes sent of a file since the last call.
    fn sent(&self, path: &str) -> usize {
        let mut state = self.state.lock().expect("no test panics holding it");
        state.sent.remove(path).unwrap_or(0)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers one request and closes the connection.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut range, mut token) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_lowercase().as_str() {
            "range" => range = Some(value.trim().to_string()),
            "authorization" => token = Some(value.trim().trim_start_matches("Bearer ").to_string()),
            _ => {}
        }
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_string());
    let (answer, body, limit) = {
        let mut state = state.lock().expect("no test panics holding it");
        let ranged = range.clone().map(|range| format!(" {range}")).unwrap_or_default();
        state.log.push(format!("{method} {path}{ranged}"));
        respond(&mut state, &path, range.as_deref(), token.as_deref())
    };
    write!(stream, "HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n")?;
    if method != "HEAD" {
        stream.write_all(&body[..limit.min(body.len())])?;
    }
    stream.flush()
}

/// Status and headers, the body, and how much of it is sent.
fn respond(state: &mut State, path: &str, range: Option<&str>, token: Option<&str>) -> (String, Vec<u8>, usize) {
    let plain = |status: &str| (format!("{status}\r\nContent-Length: 0"), Vec::new(), 0);
    let decoded = path.replace("%2F", "/");
    let trimmed = decoded.trim_start_matches('/');
    // Routes: api/<kind>/org/name/revision/REV, org/name/resolve/REV/FILE, datasets/org/name/resolve/REV/FILE.
    let (name, rest, api) = match trimmed.strip_prefix("api/") {
        Some(rest) => match rest.split_once("/revision/") {
            Some((name, revision)) => (name.to_string(), revision.to_string(), true),
            None => return plain("404 Not Found"),
        },
        None => match trimmed.split_once("/resolve/") {
            Some((name, rest)) if name.starts_with("datasets/") => (name.to_string(), rest.to_string(), false),
            Some((name, rest)) => (format!("models/{name}"), rest.to_string(), false),
            None => return plain("404 Not Found"),
        },
    };
    let fault = state.fault;
    let Some(repo) = state.repos.get(&name) else {
        // The real hub says 401 to strangers here.
        return plain(if token.is_some() {
            "404 Not Found"
        } else {
            "401 Unauthorized"
        });
    };
    let revision = repo.revisions.iter().find(|revision| match api {
        true => rest == **revision,
        false => rest.starts_with(&format!("{revision}/")),
    });
    let Some(revision) = revision else {
        return plain("404 Not Found");
    };
    if api {
        let siblings: Vec<_> = repo
            .files
            .keys()
            .map(|file| serde_json::json!({ "rfilename": file }))
            .collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings })
            .to_string()
            .into_bytes();
        let head = format!(
            "200 OK\r\nContent-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        let length = body.len();
        return (head, body, length);
    }
    if let Some(gate) = repo.gate
        && token != Some(gate)
    {
        return plain(if token.is_some() {
            "403 Forbidden"
        } else {
            "401 Unauthorized"
        });
    }
    let Some(content) = repo.files.get(&rest[revision.len() + 1..]) else {
        return plain("404 Not Found");
    };
    // Large files have their SHA-256 as etag, small ones git's hash, which is shorter.
    let mut etag = sha256(content);
    if !path.ends_with(".safetensors") {
        etag.truncate(40);
    }
    let total = content.len();
    let common = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{etag}\"\r\nX-Linked-Size: {total}");
    let (start, end) = match range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
        Some((start, end)) => (
            start.parse().unwrap_or(0),
            end.parse().map_or(total, |end: usize| end + 1),
        ),
        None => (0, total),
    };
    if start >= total {
        return plain("416 Range Not Satisfiable");
    }
    let probe = range == Some("bytes=0-0");
    let mut body = content.clone();
    if fault == Fault::Flipped && !probe {
        body[total / 2] ^= 1;
    }
    if fault == Fault::NoRanges && !probe {
        *state.sent.entry(path.to_string()).or_default() += total;
        return (format!("200 OK\r\n{common}\r\nContent-Length: {total}"), body, total);
    }
    let body = body[start..end.min(total)].to_vec();
    let (mut announced, mut limit) = (body.len(), body.len());
    if !probe {
        match fault {
            Fault::Cut(most) => limit = limit.min(most),
            Fault::Short(most) => (announced, limit) = (announced.min(most), limit.min(most)),
            Fault::LongHeader(more) => announced += more,
            _ => {}
        }
        *state.sent.entry(path.to_string()).or_default() += limit;
    }
    let head = format!(
        "206 Partial Content\r\n{common}\r\nContent-Range: bytes {start}-{}/{total}\r\nContent-Length: {announced}",
        end.min(total) - 1
    );
    (head, body, limit)
}

/// The tiny model's files, and others that zprune must leave alone.
fn model_files() -> BTreeMap<String, Vec<u8>> {
    let folder = Folder::new();
    let read = |name: &str| std::fs::read(folder.path("model").join(name)).expect("a file of the model");
    let mut files: BTreeMap<String, Vec<u8>> = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| (name.to_string(), read(name)))
        .into();
    for (name, content) in [
        ("generation_config.json", "{}"),
        ("pytorch_model.bin", "pickled"),
        ("onnx/config.json", "{}"),
        ("README.md", "# Tiny"),
    ] {
        files.insert(name.to_string(), content.into());
    }
    files
}

/// A folder whose experiment takes its model from the hub.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.replace("experiment.toml", "path = \"model\"", "hub = \"org/tiny\"");
    std::fs::remove_dir_all(folder.path("model")).expect("the model was there");
    folder
}

fn run(folder: &Folder, server: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = folder.zprune(arguments);
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(name);
    }
    for name in ["HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", folder.path("hf"))
        .env("HF_ENDPOINT", &server.address)
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

fn says(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[track_caller]
fn works(output: &Output) -> String {
    let text = says(output);
    assert!(output.status.success(), "{text}");
    text
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = says(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in parts {
        assert!(text.contains(part), "does not say `{part}`: {text}");
    }
}

const RUN: &[&str] = &["experiment.toml"];

fn snapshot(folder: &Folder) -> PathBuf {
    folder.path("hf/hub/models--org--tiny/snapshots").join(COMMIT)
}

/// All files and links under a folder, by relative path.
fn tree(root: &Path) -> Vec<String> {
    let (mut folders, mut found) = (vec![root.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() && !entry.path().is_symlink() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

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
    // The layout of the Python library: hf-hub's lock files apart, nothing else.
    let cache = folder.path("hf/hub/models--org--tiny");
    let mut files = tree(&cache);
    files.retain(|file| !file.ends_with(".lock"));
    let wanted = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    let content = model_files();
    let mut expected: Vec<String> = wanted.iter().map(|name| format!("snapshots/{COMMIT}/{name}")).collect();
    for name in wanted {
        let digest = sha256(&content[name]);
        let etag = if name == "model.safetensors" {
            &digest[..]
        } else {
            &digest[..40]
        };
        expected.push(format!("blobs/{etag}"));
        let link = std::fs::read_link(snapshot(&folder).join(name)).expect("snapshots link to blobs");
        assert_eq!(link, Path::new("../../blobs").join(etag));
        assert_eq!(
            std::fs::read(snapshot(&folder).join(name)).expect("readable"),
            content[name]
        );
    }
    expected.push("refs/main".to_string());
    expected.sort();
    assert_eq!(files, expected);
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).expect("a ref"), COMMIT);

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
fn what_is_not_in_the_cache_is_refused_offline() {
    let (server, folder) = (Server::new(), folder());
    refused(
        &run(&folder, &server, RUN, &[("HF_HUB_OFFLINE", "TRUE")]),
        &[
            "org/tiny (revision main): is not in the cache",
            "run once without HF_HUB_OFFLINE",
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
    let (etag, total) = (sha256(&files["model.safetensors"]), files["model.safetensors"].len());
    server.add(MODEL, files.clone());
    let part = format!("hf/hub/models--org--tiny/blobs/{etag}.part");
    let half = total / 2;
    for (fault, expect) in [
        (Fault::Short(half), "bytes arrived before the server ended the file"),
        (Fault::Flipped, "its SHA-256 is"),
        (Fault::NoRanges, "bytes arrived where"),
    ] {
        let folder = folder();
        let small = |name: &str| name != "model.safetensors";
        // The small files come first and whole; what is being tried is the large one.
        for (name, content) in files.iter().filter(|(name, _)| small(name) && !name.contains('/')) {
            std::fs::create_dir_all(snapshot(&folder)).expect("writable");
            std::fs::write(snapshot(&folder).join(name), content).expect("writable");
        }
        if fault == Fault::NoRanges {
            std::fs::create_dir_all(folder.path(&part).parent().expect("in blobs")).expect("writable");
            folder.write(&part, &files["model.safetensors"][..half]);
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
    // All of it came, and only the header promised more.
    server.fault(Fault::LongHeader(10));
    works(&run(&folder(), &server, RUN, &[]));
    server.fault(Fault::None);
    // A `.part` that is whole already, or another file's, must not confuse hf-hub's range.
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
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.ends_with("model.safetensors bytes=0-"))
    );
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
            "toml:4:1: a model has either `path` or `hub`",
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
        ("path = \"model\"\n", "", "missing field `path`"),
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
        ("corpus = \"novel.txt\"\n", "", "missing field `corpus`"),
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
        ("sampling = \"documents\"\n", "", "missing field `sampling`"),
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
        &["calibration tokens tokens/model/calibration_seed0.safetensors is not there"],
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
            "-1 is no token id (window 0, token 1)",
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
