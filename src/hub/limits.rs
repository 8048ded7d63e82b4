//! How long a conversation with the hub may take, and how much it may bring.

use std::time::Duration;

/// Limits of the conversation with the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// For a name to be looked up, and for a connection to be made.
    pub connect: Duration,
    /// From a request to the end of the answer's headers.
    pub answer: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// A body brings [`Limits::least`] bytes in every such time.
    pub window: Duration,
    /// Bytes that arrive in [`Limits::window`], at least.
    pub least: u64,
    /// For the whole description of a repository.
    pub description_time: Duration,
    /// Bytes of the description of a repository, at most.
    pub description_size: u64,
    /// Redirects one after another.
    pub redirects: usize,
    /// Attempts at a request that the hub was too busy for, or whose connection broke before an answer.
    pub attempts: usize,
    /// Attempts at a file whose connection breaks after it brought something.
    pub file_attempts: usize,
    /// Between two attempts; twice as long after each of a request's.
    pub pause: Duration,
    /// What the hub may ask us to wait before the next attempt; if it asks for more, there is none.
    pub longest_pause: Duration,
    /// Bytes of a configuration, a tokenizer or an index, at most.
    pub small_file: u64,
    /// Bytes of any other file, at most.
    pub file: u64,
    /// Bytes of a file whose length was not announced, at most.
    pub unannounced: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
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
