//! Requests to the hub, with an end to everything: redirects, attempts, silence, slowness, sizes.
//!
//! Redirects are followed here and not by `ureq`, because what they say about a file counts, and because the token
//! goes to the endpoint's own scheme, host and port only. It is never sent over plain http except to this machine.
//! (The crate `hf-hub` 0.5 has none of this; 1.0 needs an asynchronous runtime and does not check small files' hashes.)

use super::address::{Address, escaped_part, escaped_path};
use super::answers::{self, Answer, Metadata, RepositoryFiles, Start};
use super::failure::Failure;
use super::limits::RequestLimits;
use super::names::FileName;
use super::repository::{Kind, Repository};
use crate::threads;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::HeaderValue;

/// A connection to the hub.
pub struct Client {
    agent: Agent,
    endpoint: Address,
    token: Option<HeaderValue>,
    limits: RequestLimits,
}

/// The result of a request: the answers, each but the last a redirect to the next, and the body of the last one.
struct Reply {
    chain: Vec<Answer>,
    body: Body,
}

impl Client {
    /// Prepares a client; no request is made yet.
    ///
    /// # Errors
    /// The token cannot be one.
    pub fn new(endpoint: Address, token: Option<&str>, limits: RequestLimits) -> Result<Client, Failure> {
        let config = Agent::config_builder()
            .user_agent(concat!("zprune/", env!("CARGO_PKG_VERSION")))
            // The bytes as they are: their number and hash are known, and nothing unpacks to more.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.answer))
            .timeout_recv_response(Some(limits.answer))
            .timeout_per_read(Some(limits.idle))
            .timeout_per_write(Some(limits.idle))
            .build();
        let header = |token| -> Result<HeaderValue, Failure> {
            let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                // Without the token: messages are copied into tickets.
                Failure::Nonsense("the token in HF_TOKEN or its file has a character that no token has".to_string())
            })?;
            header.set_sensitive(true);
            Ok(header)
        };
        Ok(Client {
            agent: config.into(),
            endpoint,
            token: token.map(header).transpose()?,
            limits,
        })
    }

    /// The limits that this client keeps to.
    pub fn limits(&self) -> &RequestLimits {
        &self.limits
    }

    /// Asks for the files and the commit of a repository at its revision.
    pub fn listing(&self, repository: &Repository) -> Result<RepositoryFiles, Failure> {
        let path = format!(
            "/api/{}/{}/revision/{}",
            match repository.kind {
                Kind::Model => "models",
                Kind::Dataset => "datasets",
            },
            repository.name,
            escaped_part(&repository.revision)
        );
        let Reply { mut body, .. } = self.get(&path, None, |_| Ok(false))?;
        let (started, mut text, mut buffer) = (Instant::now(), Vec::new(), vec![0; 1 << 16]);
        loop {
            match body.read(&mut buffer)? {
                0 => return answers::listing(&text),
                length => text.extend_from_slice(&buffer[..length]),
            }
            if text.len() as u64 > self.limits.description_size {
                let message = format!("a description of more than {} bytes", self.limits.description_size);
                return Err(Failure::Nonsense(message));
            }
            if started.elapsed() > self.limits.description_time {
                let message = format!("the description did not end within {:?}", self.limits.description_time);
                return Err(Failure::Network(message));
            }
        }
    }

    /// What the hub says about a file at a revision.
    pub fn metadata(&self, repository: &Repository, revision: &str, file: &FileName) -> Result<Metadata, Failure> {
        let path = file_path(repository, revision, file);
        let asked = match self.get(&path, Some("bytes=0-0"), answers::is_complete) {
            // An empty file has no first byte.
            Err(Failure::Status(416)) => self.get(&path, None, answers::is_complete),
            asked => asked,
        };
        answers::metadata(&asked?.chain)
    }

    /// Requests the content of a file of a commit, from byte `from` on if the hub can do that.
    pub fn content(
        &self,
        repository: &Repository,
        metadata: &Metadata,
        file: &FileName,
        from: u64,
    ) -> Result<(Start, Body), Failure> {
        let path = file_path(repository, metadata.commit.as_str(), file);
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let Reply { chain, body } = self.get(&path, range.as_deref(), |_| Ok(false))?;
        Ok((answers::start(&chain, metadata, from)?, body))
    }

    /// Repeats a request until further attempts would not change the answer.
    fn get(
        &self,
        path: &str,
        range: Option<&str>,
        enough: impl Fn(&[Answer]) -> Result<bool, Failure>,
    ) -> Result<Reply, Failure> {
        let (mut attempt, mut pause) = (1, self.limits.pause);
        loop {
            let outcome = self.follow(self.endpoint.below(path), range, &enough);
            let again = attempt < self.limits.attempts;
            let wait = match outcome {
                Ok(reply) => {
                    let answer = &reply.chain[reply.chain.len() - 1];
                    match answer.status {
                        200..=299 => return Ok(reply),
                        // Followed as far as it was wanted.
                        _ if answer.redirects() => return Ok(reply),
                        status @ (408 | 429 | 500 | 502 | 503 | 504) => {
                            let asked = answer.retry_after().map(Duration::from_secs);
                            match asked {
                                Some(asked) if asked > self.limits.longest_pause => {
                                    return Err(Failure::Busy(status, asked));
                                }
                                _ if !again => return Err(Failure::Status(status)),
                                asked => asked.unwrap_or(pause),
                            }
                        }
                        status => return Err(Failure::Status(status)),
                    }
                }
                Err(Failure::Cut(_)) if again => pause,
                Err(failure) => return Err(failure),
            };
            std::thread::sleep(wait);
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }

    /// Makes a request and follows redirects, until the answers say enough or the last one is no redirect.
    fn follow(
        &self,
        mut address: Address,
        range: Option<&str>,
        enough: impl Fn(&[Answer]) -> Result<bool, Failure>,
    ) -> Result<Reply, Failure> {
        let (mut chain, mut visited): (Vec<Answer>, Vec<Address>) = (Vec::new(), Vec::new());
        // Once the way has led elsewhere, the token stays away, also if it leads back.
        let mut own = true;
        loop {
            own &= address.same_origin(&self.endpoint);
            let (answer, body) = self.send(&address, range, own)?;
            visited.push(address);
            let (from, redirects) = (&visited[visited.len() - 1], answer.redirects());
            chain.push(answer);
            if !redirects || enough(&chain)? {
                return Ok(Reply { chain, body });
            }
            let answer = &chain[chain.len() - 1];
            let Some(location) = answer.header("Location")? else {
                let message = format!("status {} without a Location ({from})", answer.status);
                return Err(Failure::Nonsense(message));
            };
            let next = from.join(location).map_err(|fault| {
                let message = format!(
                    "status {} with a Location that cannot be followed: {fault} ({from})",
                    answer.status
                );
                Failure::Nonsense(message)
            })?;
            let way = || {
                let way: Vec<String> = visited.iter().chain([&next]).map(Address::to_string).collect();
                way.join(" -> ")
            };
            if visited.contains(&next) {
                return Err(Failure::Nonsense(format!("redirects in a circle: {}", way())));
            }
            if visited.len() > self.limits.redirects {
                let message = format!("more than {} redirects: {}", self.limits.redirects, way());
                return Err(Failure::Nonsense(message));
            }
            if from.is_secure() && !next.is_secure() {
                return Err(Failure::Nonsense(format!("a redirect from https to http: {}", way())));
            }
            address = next;
        }
    }

    /// Makes one request and returns its answer, without following redirects.
    fn send(&self, address: &Address, range: Option<&str>, own: bool) -> Result<(Answer, Body), Failure> {
        let mut request = self.agent.get(address.text());
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let token = self.token.as_ref();
        if let Some(token) = token.filter(|_| own && address.may_see_a_token()) {
            request = request.header("Authorization", token);
        }
        if address.is_loopback() {
            // A proxy is another machine, which could not reach this one, and must not see the token.
            request = request.config().proxy(None).build();
        }
        // A name is looked up on a thread, so that there is an end to it.
        threads::check("looking up the hub's name").map_err(|error| Failure::Network(error.to_string()))?;
        let response = request.call().map_err(|error| self.failure(error))?;
        let headers = response.headers().iter();
        let answer = Answer {
            status: response.status().as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.as_str().to_string(), value)
                })
                .collect(),
        };
        if let Some(coding) = answer.header("Content-Encoding")?
            && !coding.eq_ignore_ascii_case("identity")
        {
            let message = format!("a body packed as {coding:?}, which was not asked for");
            return Err(Failure::Nonsense(message));
        }
        let body = Body {
            reader: response.into_body().into_reader(),
            limits: self.limits.clone(),
            spent: Duration::ZERO,
            arrived: 0,
        };
        Ok((answer, body))
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        use ureq::Timeout::{Connect, Resolve};
        match error {
            ureq::Error::Timeout(Connect | Resolve) => {
                Failure::Network(format!("no connection within {:?}", self.limits.connect))
            }
            ureq::Error::Timeout(_) => Failure::Network(format!(
                "no answer within {:?}",
                self.limits.answer.min(self.limits.idle)
            )),
            error => Failure::from(error),
        }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error {
            ureq::Error::BadUri(message) => Failure::Nonsense(format!("not an address: {message}; see HF_ENDPOINT")),
            ureq::Error::Http(error) => Failure::Nonsense(format!("not a request: {error}; see HF_ENDPOINT")),
            ureq::Error::Io(error)
                if matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                Failure::Cut(error.to_string())
            }
            error => Failure::Network(error.to_string()),
        }
    }
}

fn file_path(repository: &Repository, revision: &str, file: &FileName) -> String {
    let kind = match repository.kind {
        Kind::Model => "",
        Kind::Dataset => "/datasets",
    };
    let (revision, file) = (escaped_part(revision), escaped_path(file.as_str()));
    format!("{kind}/{}/resolve/{revision}/{file}", repository.name)
}

/// The body of an answer while it is being received; too slow a body is an error.
pub struct Body {
    reader: ureq::BodyReader<'static>,
    limits: RequestLimits,
    /// Time spent waiting for the bytes of the current window. Time the caller takes to store them does not count.
    spent: Duration,
    arrived: u64,
}

impl Body {
    /// Reads the bytes that have arrived; returns 0 at the end of the body.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let started = Instant::now();
        let length = self
            .reader
            .read(buffer)
            .map_err(|error| match ureq::Error::from(error) {
                ureq::Error::Timeout(_) => Failure::Cut(format!("nothing arrived for {:?}", self.limits.idle)),
                error => Failure::from(error),
            })?;
        self.spent += started.elapsed();
        self.arrived += length as u64;
        if length > 0 && self.spent > self.limits.window {
            if self.arrived < self.limits.least {
                let RequestLimits { window, least, .. } = self.limits;
                let message = format!("only {} bytes arrived in {window:?}, fewer than {least}", self.arrived);
                return Err(Failure::Cut(message));
            }
            (self.spent, self.arrived) = (Duration::ZERO, 0);
        }
        Ok(length)
    }
}
