//! What the hub answers, checked: a repository's files and commit, a file's commit, hash and size, and where in
//! the file a body begins. Pure functions of status, headers and text; no name passes that could lead out of a folder.

use super::failure::Failure;
use super::names::{Commit, Etag, stays_inside};
use serde::Deserialize;
use std::collections::BTreeSet;

/// One HTTP answer: its status and its headers, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status, such as 200 or 404.
    pub status: u16,
    /// The headers, as pairs of name and value.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// Whether the answer redirects to another address. 304 does not: no request asks for it.
    pub fn redirects(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }

    /// The value of a header.
    ///
    /// # Errors
    /// It is there twice with different values.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self
            .headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let Some((_, first)) = values.next() else {
            return Ok(None);
        };
        match values.find(|(_, value)| value != first) {
            None => Ok(Some(first.trim())),
            Some((_, other)) => {
                let message = format!("two headers {name}, {} and {}", shown(first), shown(other));
                Err(Failure::Nonsense(message))
            }
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.header(name)? else {
            return Ok(None);
        };
        match value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse()) {
            Some(Ok(number)) => Ok(Some(number)),
            _ => Err(Failure::Nonsense(format!("the header {name}: {}", shown(value)))),
        }
    }

    /// Number of seconds after which to ask again, if the answer gives it in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.number("Retry-After").ok().flatten()
    }
}

/// A value from the hub as messages show it: in quotes, without control characters, no longer than a line.
fn shown(value: &str) -> String {
    let visible = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    let text: String = value.chars().take(100).map(visible).collect();
    match value.chars().count() > 100 {
        true => format!("`{text}...`"),
        false => format!("`{text}`"),
    }
}

/// The files of a repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFiles {
    /// The commit that the revision stands for.
    pub commit: Commit,
    /// Paths of all files; none leads out of the repository.
    pub files: BTreeSet<String>,
}

/// Reads the hub's description of a repository (`/api/models/org/name/revision/main`).
///
/// # Errors
/// It is not that, or names a commit or a file that cannot be one.
pub fn listing(text: &[u8]) -> Result<RepositoryFiles, Failure> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let info: Info = serde_json::from_slice(text)
        .map_err(|error| Failure::Nonsense(format!("not the description of a repository: {error}")))?;
    let commit = commit(&info.sha)?;
    let mut files = BTreeSet::new();
    for Sibling { rfilename } in info.siblings {
        if let Err(fault) = stays_inside(&rfilename) {
            let message = format!("a file named {}: {fault}", shown(&rfilename));
            return Err(Failure::Nonsense(message));
        }
        files.insert(rfilename);
    }
    Ok(RepositoryFiles { commit, files })
}

/// What the hub says about a file before it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The commit that the revision stands for.
    pub commit: Commit,
    /// The hash of the content.
    pub etag: Etag,
    /// Its length in bytes, if the hub gave it.
    pub size: Option<u64>,
}

/// What a chain of answers says about a file. Each answer but the last is a redirect to the next.
#[derive(Debug, Default)]
struct Said {
    commit: Option<Commit>,
    /// From `X-Linked-Etag` of any answer, or from `ETag` of the answer that has the content.
    etag: Option<Etag>,
    size: Option<u64>,
}

impl Said {
    fn by(chain: &[Answer]) -> Result<Said, Failure> {
        let mut said = Said::default();
        for answer in chain {
            let found = answer.header("X-Repo-Commit")?.map(commit).transpose()?;
            agree("commit", &mut said.commit, found)?;
            let found = answer.header("X-Linked-Etag")?.map(etag).transpose()?;
            agree("hash", &mut said.etag, found)?;
            agree("size", &mut said.size, answer.number("X-Linked-Size")?)?;
        }
        Ok(said)
    }
}

/// Stores a value that was not known yet, and refuses one that differs from the known value.
fn agree<T: PartialEq + std::fmt::Display>(what: &str, known: &mut Option<T>, found: Option<T>) -> Result<(), Failure> {
    let Some(found) = found else {
        return Ok(());
    };
    match known {
        Some(known) if *known != found => {
            let message = format!("the {what} {known} in one answer and {found} in the next");
            Err(Failure::Nonsense(message))
        }
        _ => {
            *known = Some(found);
            Ok(())
        }
    }
}

fn commit(value: &str) -> Result<Commit, Failure> {
    Commit::parse(value).ok_or_else(|| {
        let message = format!("the commit {}, which is not 40 hexadecimal digits", shown(value));
        Failure::Nonsense(message)
    })
}

fn etag(value: &str) -> Result<Etag, Failure> {
    Etag::parse(value).ok_or_else(|| {
        let message = format!(
            "the ETag {}, which is neither a git hash (40 hexadecimal digits) nor a SHA-256 (64)",
            shown(value)
        );
        Failure::Nonsense(message)
    })
}

/// Whether answers that end with a redirect already say everything about a file, so that the next server need not be
/// asked.
///
/// # Errors
/// As [`metadata`].
pub fn is_complete(chain: &[Answer]) -> Result<bool, Failure> {
    let said = Said::by(chain)?;
    Ok(said.commit.is_some() && said.etag.is_some() && said.size.is_some())
}

/// What the answers to a request for a file's first byte say about the file. Each answer but the last is a redirect
/// to the next.
///
/// # Errors
/// Something is missing, is not a plain hash, or differs from one answer to the next.
pub fn metadata(chain: &[Answer]) -> Result<Metadata, Failure> {
    let mut said = Said::by(chain)?;
    if let Some(last) = chain.last().filter(|last| !last.redirects()) {
        if said.etag.is_none() {
            said.etag = last.header("ETag")?.map(etag).transpose()?;
        }
        if last.status == 206 {
            agree("size", &mut said.size, content_range(last)?.total)?;
        } else if said.size.is_none() {
            said.size = last.number("Content-Length")?;
        }
    }
    let missing = |header: &str| Failure::Nonsense(format!("no header {header}"));
    Ok(Metadata {
        commit: said.commit.ok_or_else(|| missing("X-Repo-Commit"))?,
        etag: said.etag.ok_or_else(|| missing("ETag"))?,
        size: said.size,
    })
}

/// Where in a file a body begins, and the lengths that the hub gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Position in the file of the body's first byte.
    pub from: u64,
    /// Length of the whole file in bytes, if the hub gave it.
    pub size: Option<u64>,
    /// Length of the body in bytes, if the hub gave it.
    pub length: Option<u64>,
}

/// Compares the answers to a request for a file's bytes from byte `from` on with what the hub said about the file
/// before.
///
/// # Errors
/// They speak of another file, commit, size or range.
pub fn start(chain: &[Answer], metadata: &Metadata, from: u64) -> Result<Start, Failure> {
    let Said { commit, etag, size } = Said::by(chain)?;
    agree("commit", &mut Some(metadata.commit.clone()), commit)?;
    agree("hash", &mut Some(metadata.etag.clone()), etag)?;
    let mut known = metadata.size;
    agree("size", &mut known, size)?;
    let last = chain.last().ok_or_else(|| Failure::Nonsense("nothing".to_string()))?;
    // Where the bytes lie elsewhere, their host may have a hash of another sort; the bytes are checked in any case.
    let own = last.header("ETag")?.and_then(Etag::parse);
    let same_sort = own.filter(|own| own.kind() == metadata.etag.kind());
    agree("hash", &mut Some(metadata.etag.clone()), same_sort)?;
    let length = last.number("Content-Length")?;
    match last.status {
        200 => {
            let size = known.or(length);
            Ok(Start { from: 0, size, length })
        }
        206 => {
            let range = content_range(last)?;
            if range.first != from {
                let message = format!(
                    "the bytes from {} on where those from {from} on were asked for",
                    range.first
                );
                return Err(Failure::Nonsense(message));
            }
            agree("size", &mut known, range.total)?;
            Ok(Start {
                from,
                size: known,
                length,
            })
        }
        status => Err(Failure::Status(status)),
    }
}

/// The header `Content-Range: bytes 0-9/100`, parsed.
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

fn content_range(answer: &Answer) -> Result<ContentRange, Failure> {
    let Some(value) = answer.header("Content-Range")? else {
        return Err(Failure::Nonsense("status 206 without a Content-Range".to_string()));
    };
    let parsed = || {
        let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total = match total {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let fits = first <= last && total.is_none_or(|total| last < total);
        fits.then_some(ContentRange { first, total })
    };
    parsed().ok_or_else(|| Failure::Nonsense(format!("the Content-Range {}", shown(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const GIT: &str = "1111111111111111111111111111111111111111";
    const SHA: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        Answer {
            status,
            headers: headers.iter().map(owned).collect(),
        }
    }

    #[track_caller]
    fn fails<T: std::fmt::Debug>(result: Result<T, Failure>, part: &str) {
        let message = result.expect_err(part).to_string();
        assert!(message.contains(part), "does not say `{part}`: {message}");
    }

    #[test]
    fn descriptions_of_a_repository_are_checked() {
        let read = |text: &str| listing(text.as_bytes());
        let good = format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a/b.json"}}],"other":[1]}}"#);
        assert_eq!(
            read(&good).expect("good").files.into_iter().collect::<Vec<_>>(),
            ["a/b.json"]
        );
        let name = |name: &str| read(&good.replace("a/b.json", name));
        fails(name("a/../../../evil.json"), "a part is `.` or `..`");
        fails(name("/etc/passwd"), "absolute");
        fails(name("a\\\\b"), "backslash");
        fails(name("a\\u0000b"), "`a\\0b`");
        fails(name("C:/x"), "drive");
        fails(name(""), "empty");
        fails(read(&good.replace(COMMIT, "../../x")), "the commit `../../x`");
        fails(read("{}"), "missing field `sha`");
        fails(read(&good.replace("siblings", "sublings")), "missing field `siblings`");
        fails(
            read(&format!("{}1{}", "[".repeat(9999), "]".repeat(9999))),
            "not the description",
        );
        fails(listing(b"\xff"), "not the description");
    }

    #[test]
    fn a_file_is_described_by_one_chain_of_answers() {
        let large = answer(
            302,
            &[
                ("x-repo-commit", COMMIT),
                ("X-Linked-Etag", &format!("\"{SHA}\"")),
                ("X-Linked-Size", "9"),
            ],
        );
        assert!(is_complete(std::slice::from_ref(&large)).expect("plain"));
        let found = metadata(std::slice::from_ref(&large)).expect("all is said");
        assert_eq!((found.etag.as_str(), found.size), (SHA, Some(9)));
        let small = [
            answer(307, &[("X-Repo-Commit", COMMIT)]),
            answer(206, &[("ETag", GIT), ("Content-Range", "bytes 0-0/335")]),
        ];
        assert!(!is_complete(&small[..1]).expect("plain"));
        let found = metadata(&small).expect("all is said");
        assert_eq!((found.etag.as_str(), found.size), (GIT, Some(335)));
        let one = |headers: &[(&str, &str)]| metadata(&[answer(200, headers)]);
        fails(one(&[("ETag", GIT)]), "no header X-Repo-Commit");
        fails(one(&[("X-Repo-Commit", COMMIT)]), "no header ETag");
        fails(
            one(&[("X-Repo-Commit", COMMIT), ("ETag", "../../../x")]),
            "the ETag `../../../x`",
        );
        fails(one(&[("X-Repo-Commit", "..")]), "the commit `..`");
        fails(
            one(&[("ETag", GIT), ("etag", SHA), ("X-Repo-Commit", COMMIT)]),
            "two headers ETag",
        );
        let commit = ("X-Repo-Commit", COMMIT);
        for size in ["-1", "1e9", "99999999999999999999", "+5", ""] {
            fails(
                one(&[commit, ("ETag", GIT), ("Content-Length", size)]),
                "Content-Length",
            );
        }
        let other = answer(200, &[("X-Repo-Commit", GIT)]);
        fails(metadata(&[large, other]), "in one answer and");
    }

    #[test]
    fn a_body_is_held_against_what_was_announced() {
        let expected = Metadata {
            commit: Commit::parse(COMMIT).expect("a commit"),
            etag: Etag::parse(GIT).expect("a hash"),
            size: Some(100),
        };
        let begin = |status, headers: &[(&str, &str)], from| start(&[answer(status, headers)], &expected, from);
        let range = |range| begin(206, &[("Content-Range", range)], 40);
        assert_eq!(range("bytes 40-99/100").expect("as asked").from, 40);
        assert_eq!(range("bytes 40-99/*").expect("as asked").size, Some(100));
        assert_eq!(begin(200, &[], 40).expect("the whole file").from, 0);
        fails(range("bytes 41-99/100"), "the bytes from 41 on");
        fails(range("bytes 40-99/200"), "the size 100 in one answer and 200");
        for bad in [
            "bytes 40-100/100",
            "bytes 40-39/100",
            "bytes */100",
            "40-99/100",
            "bytes -1-9/100",
            "",
        ] {
            fails(range(bad), "the Content-Range");
        }
        fails(begin(206, &[], 40), "without a Content-Range");
        fails(begin(200, &[("ETag", &GIT.replace('1', "3"))], 0), "the hash");
        assert!(begin(200, &[("ETag", "\"d41d8cd98f00b204e9800998ecf8427e-2\"")], 0).is_ok());
        fails(begin(200, &[("X-Repo-Commit", GIT)], 0), "the commit");
        fails(begin(204, &[], 0), "status 204");
    }
}
