//! What stands in for the client where the program was built without the feature `hub`. There is no client then: the hub
//! counts as offline, and what is in the cache is all there is.

use super::address::Address;
use super::answers::{Metadata, RepositoryFiles, Start};
use super::failure::Failure;
use super::limits::RequestLimits;
use super::names::FileName;
use super::repository::Repository;

/// A connection to the hub; there is none.
pub enum Client {}

impl Client {
    /// Refuses: nothing in this program can speak to the hub.
    ///
    /// # Errors
    /// Always; says that the feature is missing.
    pub fn new(_endpoint: Address, _token: Option<&str>, _limits: RequestLimits) -> Result<Client, Failure> {
        let message = "this program was built without the feature `hub`";
        Err(Failure::Network(message.to_string()))
    }

    /// The limits of a conversation.
    pub fn limits(&self) -> &RequestLimits {
        match *self {}
    }

    /// The files and the commit of a repository.
    pub fn listing(&self, _repository: &Repository) -> Result<RepositoryFiles, Failure> {
        match *self {}
    }

    /// What the hub says about a file.
    pub fn metadata(&self, _repository: &Repository, _revision: &str, _file: &FileName) -> Result<Metadata, Failure> {
        match *self {}
    }

    /// The content of a file.
    pub fn content(
        &self,
        _repository: &Repository,
        _metadata: &Metadata,
        _file: &FileName,
        _from: u64,
    ) -> Result<(Start, Body), Failure> {
        match *self {}
    }
}

/// A body on its way; there is none.
pub enum Body {}

impl Body {
    /// Would read what has arrived.
    pub fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, Failure> {
        match *self {}
    }
}
