//! A hub that answers whatever a test writes, and what a download from it may never do: hang, panic, tell the token,
//! or touch a file outside the cache.
//!
//! The library is called in this process, with limits that make every case last a second or two.

use super::server::etag;
use super::{COMMIT, tree};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use zprune::hub::{Hub, Parts, Repository, RequestLimits, Snapshot};
use zprune::progress::Silent;

pub const TOKEN: &str = "hf_SecretOfThisTest";

/// No case may take longer; most of them wait for a limit of two seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub host: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl Request {
    /// The last part of the path: the file that is asked for, or the revision that is to be described.
    pub fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a repository's description is asked for.
    pub fn describes(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// Whether only a file's headers are of interest.
    pub fn probes(&self) -> bool {
        self.range.as_deref() == Some("bytes=0-0")
    }
}

/// A server whose answers a test writes.
pub struct Hostile {
    pub address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Hostile {
    pub fn new(answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, shared) = (Arc::new(answer), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), shared.clone());
                // A client that hangs up is part of the tests.
                std::thread::spawn(move || {
                    let _ = serve(stream, &log, &*answer);
                });
            }
        });
        Hostile { address, log }
    }

    /// A hub that writes this text for what `which` picks, and is honest about everything else.
    pub fn writing(which: impl Fn(&Request) -> bool + Send + Sync + 'static, text: impl Into<Vec<u8>>) -> Hostile {
        let text = text.into();
        Hostile::new(move |request, stream| match which(request) {
            true => stream.write_all(&text),
            false => stream.write_all(&honest(request)),
        })
    }

    pub fn log(&self) -> Vec<Request> {
        self.log.lock().expect("no test panics holding it").clone()
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request, &mut TcpStream) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let request = read_request(&mut BufReader::new(stream.try_clone()?))?;
    log.lock().expect("no test panics holding it").push(request.clone());
    answer(&request, &mut stream)?;
    stream.flush()
}

pub fn read_request(reader: &mut impl BufRead) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Ok(Request {
        path,
        host: headers.remove("host").unwrap_or_default(),
        range: headers.remove("range"),
        authorization: headers.remove("authorization"),
    })
}

/// The repository's files.
pub fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let weights: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    [
        ("config.json", b"{\"model_type\": \"tiny\"}".to_vec()),
        ("tokenizer.json", b"{\"model\": {}}".to_vec()),
        ("model.safetensors", weights),
    ]
    .into()
}

pub fn description() -> String {
    let siblings: Vec<_> = files()
        .keys()
        .map(|file| serde_json::json!({ "rfilename": file }))
        .collect();
    serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string()
}

/// An answer with a body of this length.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What a good hub says about a file.
pub fn facts(file: &str) -> String {
    let content = &files()[file];
    let etag = etag(file, content);
    format!(
        "X-Repo-Commit: {COMMIT}\r\nETag: \"{etag}\"\r\nX-Linked-Size: {}\r\n",
        content.len()
    )
}

/// What a good hub answers.
pub fn honest(request: &Request) -> Vec<u8> {
    if request.describes() {
        return answer("200 OK", "", description().as_bytes());
    }
    let all = files();
    let Some(content) = all.get(request.file()) else {
        return answer("404 Not Found", "", b"");
    };
    let facts = facts(request.file());
    let range = request.range.as_deref().and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()))
    });
    match range {
        None => answer("200 OK", &facts, content),
        Some((first, last)) => {
            let last = last.unwrap_or(usize::MAX).min(content.len() - 1);
            let range = format!("Content-Range: bytes {first}-{last}/{}\r\n", content.len());
            answer(
                "206 Partial Content",
                &format!("{facts}{range}"),
                &content[first..=last],
            )
        }
    }
}

/// A folder with a cache in it and files beside it that are nobody's business.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let place = Place {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        std::fs::create_dir_all(place.cache()).expect("writable");
        std::fs::write(place.victim(), "precious").expect("writable");
        std::fs::create_dir(place.outside("elsewhere")).expect("writable");
        place
    }

    pub fn outside(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn victim(&self) -> PathBuf {
        self.outside("victim")
    }

    pub fn cache(&self) -> PathBuf {
        self.outside("deep/down/hub")
    }

    /// A path in the repository's folder of the cache, whose parents are made.
    pub fn inside(&self, path: &str) -> PathBuf {
        let path = self.cache().join("models--org--tiny").join(path);
        std::fs::create_dir_all(path.parent().expect("below the cache")).expect("writable");
        path
    }

    pub fn blob(&self, file: &str) -> PathBuf {
        self.inside(&format!("blobs/{}", etag(file, &files()[file])))
    }

    pub fn pointer(&self, file: &str) -> PathBuf {
        self.inside(&format!("snapshots/{COMMIT}")).join(file)
    }

    /// Nothing outside the cache was made, changed or removed.
    #[track_caller]
    pub fn untouched(&self) {
        let outside: Vec<String> = tree(self.folder.path())
            .into_iter()
            .filter(|path| !path.starts_with("deep/down/hub"))
            .collect();
        assert_eq!(outside, ["victim"]);
        assert_eq!(std::fs::read_to_string(self.victim()).expect("still there"), "precious");
        let elsewhere = std::fs::read_dir(self.outside("elsewhere")).expect("still there");
        assert_eq!(elsewhere.count(), 0);
    }

    /// All files are in the cache as they should be.
    #[track_caller]
    pub fn complete(&self) {
        for (file, content) in files() {
            let found = std::fs::read(self.pointer(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(found == content, "{file} is not what the hub has");
        }
    }

    /// Downloads the model from a hub, within limits of two seconds.
    pub fn fetch(&self, hub: &Hostile) -> Result<Snapshot, String> {
        self.fetch_with(&hub.address, None, limits())
    }

    /// Downloads the model; the outcome, or the error message, which is checked for the token.
    #[track_caller]
    pub fn fetch_with(
        &self,
        endpoint: &str,
        revision: Option<&str>,
        limits: RequestLimits,
    ) -> Result<Snapshot, String> {
        let hub = Hub::new(&self.cache(), endpoint, Some(TOKEN.to_string())).expect("a hub");
        let repository = Repository::model("org/tiny", revision).expect("a name");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let outcome = hub
                .with_limits(limits)
                .fetch_model(&repository, Parts::Everything, &Silent);
            let _ = sender.send(outcome.map_err(|error| error.to_string()));
        });
        let outcome = receiver.recv_timeout(PATIENCE).expect("it ends, and not in a panic");
        if let Err(message) = &outcome {
            assert!(!message.contains(TOKEN), "the token is in a message: {message}");
            assert!(message.len() < 5000, "a message of {} bytes", message.len());
        }
        outcome
    }

    /// The download is refused with a message that has these parts; nothing outside the cache was touched.
    #[track_caller]
    pub fn refuses(&self, hub: &Hostile, parts: &[&str]) {
        let message = self.fetch(hub).expect_err("it cannot be used");
        for part in parts {
            assert!(message.contains(part), "does not say `{part}`: {message}");
        }
        self.untouched();
    }
}

/// RequestLimits that a test can wait for.
pub fn limits() -> RequestLimits {
    RequestLimits {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(2),
        idle: Duration::from_secs(2),
        window: Duration::from_secs(2),
        least: 10_000,
        description_time: Duration::from_secs(2),
        description_size: 100_000,
        pause: Duration::from_millis(10),
        longest_pause: Duration::from_secs(1),
        unannounced: 1 << 20,
        ..RequestLimits::default()
    }
}

/// All there is below a folder, with content; links by their target.
pub fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |path: String| {
        let content = std::fs::read_link(root.join(&path))
            .map(|target| target.to_string_lossy().into_owned().into_bytes())
            .or_else(|_| std::fs::read(root.join(&path)))
            .unwrap_or_default();
        (path, content)
    };
    tree(root).into_iter().map(read).collect()
}
