//! A hub on the loopback interface that does as the real one, but for one fault at a time.

use super::COMMIT;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
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

pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
    pub revisions: Vec<&'static str>,
    /// The token a reader needs.
    pub gate: Option<&'static str>,
}

pub struct State {
    /// By `models/org/name` or `datasets/org/name`.
    pub repos: BTreeMap<String, Repo>,
    pub fault: Fault,
    /// Requests as `METHOD path [range]`.
    pub log: Vec<String>,
    /// Bytes of bodies sent for whole files, by path.
    pub sent: BTreeMap<String, usize>,
}

/// A hub on the loopback interface.
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new() -> Server {
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

    pub fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no test panics holding it"));
    }

    pub fn add(&self, name: &str, files: BTreeMap<String, Vec<u8>>) {
        let repo = Repo {
            files,
            revisions: vec!["main", COMMIT],
            gate: None,
        };
        self.with(|state| {
            state.repos.insert(name.to_string(), repo);
        });
    }

    pub fn fault(&self, fault: Fault) {
        self.with(|state| state.fault = fault);
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no test panics holding it").log)
    }

    /// Bytes sent of a file since the last call.
    pub fn sent(&self, path: &str) -> usize {
        let mut state = self.state.lock().expect("no test panics holding it");
        state.sent.remove(path).unwrap_or(0)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Git's hash of a file's content.
pub fn git_hash(bytes: &[u8]) -> String {
    let digest = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()))
        .chain_update(bytes)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Large files have their SHA-256 as etag, small ones git's hash.
pub fn etag(path: &str, content: &[u8]) -> String {
    match path.ends_with(".safetensors") {
        true => sha256(content),
        false => git_hash(content),
    }
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
    let etag = etag(path, content);
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
