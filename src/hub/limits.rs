//! How long a conversation with the hub may take, and how much it may bring.

use std::time::Duration;

/// RequestLimits on time, size and attempts for requests to the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestLimits {
    /// Most time for looking up a name and making a connection.
    pub connect: Duration,
    /// Most time from a request to the end of the answer's headers.
    pub answer: Duration,
    /// Most time between two pieces of a body.
    pub idle: Duration,
    /// Period in which a body must bring at least [`RequestLimits::least`] bytes.
    pub window: Duration,
    /// Least number of bytes that must arrive in each [`RequestLimits::window`].
    pub least: u64,
    /// Most time for the whole description of a repository.
    pub description_time: Duration,
    /// Largest description of a repository, in bytes.
    pub description_size: u64,
    /// Most redirects that are followed for one request.
    pub redirects: usize,
    /// Most attempts at a request if the hub is too busy, or if the connection breaks before an answer.
    pub attempts: usize,
    /// Most attempts at a file whose connection breaks after some bytes arrived.
    pub file_attempts: usize,
    /// Time between two attempts; it doubles after each attempt at the same request.
    pub pause: Duration,
    /// Longest wait that the hub may ask for before the next attempt; if it asks for more, the request fails.
    pub longest_pause: Duration,
    /// Largest configuration, tokenizer or index, in bytes.
    pub small_file: u64,
    /// Largest file of any other kind, in bytes.
    pub file: u64,
    /// Largest file whose length was not announced, in bytes.
    pub unannounced: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            window: Duration::from_secs(60),
            least: 60 << 10,
            description_time: Duration::from_secs(120),
            description_size: 64 << 20,
            redirects: 10,
            attempts: 3,
            file_attempts: 5,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            small_file: 256 << 20,
            file: 1 << 40,
            unannounced: 64 << 20,
        }
    }
}
