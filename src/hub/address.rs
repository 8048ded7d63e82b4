//! Addresses of the hub and of where it sends us: scheme, host and port apart from the path, because they decide
//! who may see the token.

use http::Uri;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Number of characters of an address that a message shows.
const SHOWN: usize = 160;

/// An absolute address, `http` or `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    secure: bool,
    /// Host name in lower case; an IPv6 address keeps its brackets.
    host: String,
    port: u16,
    /// Path and query of the address; begins with `/`.
    path: String,
}

impl Address {
    /// Reads an absolute address. A user and a password in it are left out.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(text: &str) -> Result<Address, String> {
        let secure = match text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()) {
            Some(scheme) if scheme == "https" => true,
            Some(scheme) if scheme == "http" => false,
            _ => return Err("it does not begin with http:// or https://".to_string()),
        };
        let uri: Uri = text.parse().map_err(|error| format!("it is no address ({error})"))?;
        let authority = uri.authority().ok_or("it has no host")?;
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("it has no host".to_string());
        }
        // The parser of addresses takes `34[::1]`, which is no host and would not be read again as it is written.
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let named = |host: &str| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        if !inside.map_or(named(&host), |inside| inside.parse::<Ipv6Addr>().is_ok()) {
            return Err("its host is neither a name nor an address".to_string());
        }
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if place.len() == host.len() => {
                if secure {
                    443
                } else {
                    80
                }
            }
            None => return Err("its port is no number up to 65535".to_string()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match path.starts_with('/') {
            true => path.to_string(),
            false => format!("/{path}"),
        };
        Ok(Address {
            secure,
            host,
            port,
            path,
        })
    }

    /// Whether a token may be sent there. It is as good as a password, and over plain http everyone on the way reads it.
    pub fn may_see_a_token(&self) -> bool {
        self.is_secure() || self.is_loopback()
    }

    /// The address that a `Location` header names, relative to this one.
    ///
    /// # Errors
    /// What is wrong with the header, in a few words.
    pub fn join(&self, location: &str) -> Result<Address, String> {
        let location = location.trim();
        let location = location.split('#').next().unwrap_or_default();
        if location.is_empty() {
            return Err("it is empty".to_string());
        }
        if location
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err("it has a space, a backslash or a control character".to_string());
        }
        let location = escaped(location, |byte| byte.is_ascii());
        let (before_query, _) = split_query(&location);
        let scheme = before_query.split('/').next().unwrap_or_default();
        if scheme.contains(':') {
            return Address::parse(&location);
        }
        if location.starts_with("//") {
            return Address::parse(&format!("{}:{location}", self.scheme()));
        }
        let (own, _) = split_query(&self.path);
        let joined = if location.starts_with('/') {
            location
        } else if location.starts_with('?') {
            format!("{own}{location}")
        } else {
            let folder = &own[..=own.rfind('/').unwrap_or(0)];
            format!("{folder}{location}")
        };
        let (path, query) = split_query(&joined);
        let path = format!("{}{query}", without_dots(path));
        // Through the parser once more: what it does not take is no path.
        Address::parse(&format!("{}{path}", self.origin()))
    }

    /// This address followed by a path that begins with `/`.
    #[must_use]
    pub fn below(&self, path: &str) -> Address {
        Address {
            path: format!("{}{path}", self.path.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// Whether another address has the same scheme, host and port.
    pub fn same_origin(&self, other: &Address) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// Whether the scheme is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the host is this machine, so that nothing is sent over the network: `localhost`, 127.0.0.0/8, `::1`.
    pub fn is_loopback(&self) -> bool {
        let inside = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match inside {
            Some(host) => host.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
            None => self.host == "localhost" || self.host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback()),
        }
    }

    /// Whether the address has a query (a question mark).
    pub fn has_query(&self) -> bool {
        self.path.contains('?')
    }

    /// The whole address, for a request.
    pub fn text(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// Scheme, host and port, without path and query.
    pub fn origin(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        match self.port == usual {
            true => format!("{}://{}", self.scheme(), self.host),
            false => format!("{}://{}:{}", self.scheme(), self.host, self.port),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl fmt::Display for Address {
    /// The address for messages: without the query, which may hold a signature, and no longer than a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = split_query(&self.path);
        let text = format!("{}{}", self.origin(), path.trim_end_matches('/'));
        let shown: String = text.chars().take(SHOWN).collect();
        f.write_str(&shown)?;
        if shown.len() < text.len() || !query.is_empty() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

/// A path of names as part of an address: characters that have another meaning there are written as `%XX`.
pub fn escaped_path(path: &str) -> String {
    escaped(path, |byte| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte))
}

/// One part of a path; slashes in it are escaped, too.
pub fn escaped_part(part: &str) -> String {
    escaped_path(part).replace('/', "%2F")
}

fn escaped(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let escape = |byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Splits a path into the path itself and its query with the question mark.
fn split_query(path: &str) -> (&str, &str) {
    path.split_at(path.find('?').unwrap_or(path.len()))
}

/// A path that begins with `/`, with the parts `.` and `..` resolved.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut open = false;
    for part in path.split('/').skip(1) {
        open = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if open {
        parts.push("");
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn locations_are_joined_as_browsers_do() {
        let base = address("https://hub.example:8443/org/name/resolve/main/a.json?x=1");
        for (location, expected) in [
            ("https://cdn.example/f", "https://cdn.example/f"),
            ("HTTPS://CDN.example:443/f", "https://cdn.example/f"),
            ("//cdn.example/f?q", "https://cdn.example/f?q"),
            ("/api/x/../y", "https://hub.example:8443/api/y"),
            ("b.json", "https://hub.example:8443/org/name/resolve/main/b.json"),
            ("./b.json#top", "https://hub.example:8443/org/name/resolve/main/b.json"),
            ("../../../../../x", "https://hub.example:8443/x"),
            ("..", "https://hub.example:8443/org/name/resolve/"),
            ("?y=2", "https://hub.example:8443/org/name/resolve/main/a.json?y=2"),
            ("/a?b=../c", "https://hub.example:8443/a?b=../c"),
            ("/é", "https://hub.example:8443/%C3%A9"),
            ("http://user:secret@other/x", "http://other/x"),
            ("http://[::1]:80/x", "http://[::1]/x"),
        ] {
            let joined = base
                .join(location)
                .unwrap_or_else(|error| panic!("{location}: {error}"));
            assert_eq!(joined.text(), expected, "{location}");
        }
        for location in [
            "",
            "#top",
            "ftp://a/b",
            "file:///etc/passwd",
            "javascript:x",
            "a b",
            "\\\\evil\\x",
            "http://",
            "http:///x",
            "http://a:99999/",
            "http://a:/",
            "http:a",
            "//",
            "https://34[::1]:8080/",
            "http://[::g]/",
        ] {
            assert!(base.join(location).is_err(), "{location}: {:?}", base.join(location));
        }
    }

    #[test]
    fn the_origin_is_scheme_host_and_port() {
        let own = address("http://127.0.0.1:8000/a");
        assert!(own.same_origin(&address("http://127.0.0.1:8000/b")));
        assert!(address("https://A.b/").same_origin(&address("https://a.B:443/x")));
        for other in [
            "https://127.0.0.1:8000/a",
            "http://127.0.0.1:8001/a",
            "http://127.0.0.2:8000/a",
            "http://localhost:8000/a",
            "http://127.0.0.1/a",
        ] {
            assert!(!own.same_origin(&address(other)), "{other}");
        }
        for (text, loopback) in [
            ("http://localhost", true),
            ("http://LOCALHOST:1/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:3/", true),
            ("http://[::2]/", false),
            ("http://128.0.0.1/", false),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.1.evil.example/", false),
            ("http://0.0.0.0/", false),
            ("http://127.0.0.1@evil.example/", false),
        ] {
            assert_eq!(address(text).is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn messages_show_no_query() {
        assert_eq!(address("https://a/b?signature=secret").to_string(), "https://a/b...");
        assert_eq!(address("https://a/").to_string(), "https://a");
        assert!(address(&format!("https://a/{}", "b".repeat(9999))).to_string().len() < 200);
        assert_eq!(escaped_path("a b/é?#%.json"), "a%20b/%C3%A9%3F%23%25.json");
        assert_eq!(escaped_part("refs/pr/1"), "refs%2Fpr%2F1");
    }
}
