//! References to images, read as Docker reads them.
//!
//! Grammar: the `reference` package of the distribution project. Without a host it is Docker Hub's; without a slash
//! there, of its `library`; without tag and digest, `latest`. With both the digest counts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cakework_wire::host::{AgentProblem, ProblemCode};

use crate::digest::Digest;
use crate::problem::problem;

const DEFAULT_HOST: &str = "docker.io";
/// Bytes of a reference, of its registry's name, its repository and its tag.
const REFERENCE_MAX_BYTES: usize = 512;
const HOST_MAX_BYTES: usize = 253;
const REPOSITORY_MAX_BYTES: usize = 255;
const TAG_MAX_BYTES: usize = 128;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Registry, as `host[:port]`.
    pub host: String,
    /// Repository, such as `library/python`.
    pub repository: String,
    /// Tag or digest.
    pub version: Version,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// What the tag names now.
    Tag(String),
    /// Exactly this manifest or index.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, .. } = self;
        match &self.version {
            Version::Tag(tag) => write!(f, "{host}/{repository}:{tag}"),
            Version::Digest(digest) => write!(f, "{host}/{repository}@{digest}"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = AgentProblem;

    fn from_str(text: &str) -> Result<Self, AgentProblem> {
        if text.len() > REFERENCE_MAX_BYTES {
            return Err(refused(format!("An image reference has at most {REFERENCE_MAX_BYTES} characters.")));
        }
        if text.is_empty() {
            return Err(refused("The image reference is empty."));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("An image reference has no blanks and no characters beyond ASCII."));
        }
        if text.contains("://") {
            return Err(refused("An image reference begins with the registry's host, without https:// before it."));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|error| refused(format!("In the image reference {error}.")))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (host, path) = split_host(rest);
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        check_host(host)?;
        check_repository(repository)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let host = match host {
            "index.docker.io" => DEFAULT_HOST,
            host => host,
        };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { host: host.to_owned(), repository, version })
    }
}

/// The registry that a reference names, as `host[:port]`; `None` where it is no reference.
pub fn registry_of(reference: &str) -> Option<String> {
    reference.parse::<Reference>().ok().map(|reference| reference.host)
}

/// The part before the first slash is a host where it can't be a repository's.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((host, path)) if host == "localhost" || host.contains(['.', ':']) || has_upper(host) => (host, path),
        _ => (DEFAULT_HOST, text),
    }
}

/// `host`, `host:port`, `[v6]` and `[v6]:port`, without the port and brackets.
pub fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// The host is this machine itself: `localhost`, 127.0.0.0/8 or `::1`.
pub fn is_loopback(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks `host[:port]`.
///
/// # Errors
/// [`ProblemCode::ImageReference`] with what is wrong.
pub fn check_host(host: &str) -> Result<(), AgentProblem> {
    let wrong = || refused("The registry's host in the image reference is not one.");
    let (is_name_fine, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or_else(wrong)?),
        };
        (address.parse::<std::net::Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (name.len() <= HOST_MAX_BYTES && name.split('.').all(is_label), port)
    };
    let is_digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port_fine = port.is_none_or(|port| is_digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_name_fine && is_port_fine { Ok(()) } else { Err(wrong()) }
}

/// Lower-case words, joined by `.`, `_`, `__` or any number of `-`, in parts between slashes.
fn check_repository(repository: &str) -> Result<(), AgentProblem> {
    if repository.len() > REPOSITORY_MAX_BYTES {
        return Err(refused(format!("An image's repository has at most {REPOSITORY_MAX_BYTES} characters.")));
    }
    if has_upper(repository) {
        return Err(refused("An image's repository is in lower case."));
    }
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().is_some_and(|byte| is_word(*byte)) && bytes.last().is_some_and(|byte| is_word(*byte));
        let mut joints =
            part.split(|char: char| char.is_ascii() && is_word(char as u8)).filter(|joint| !joint.is_empty());
        ends && joints.all(|joint| matches!(joint, "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
    };
    if repository.split('/').all(is_part) {
        Ok(())
    } else {
        Err(refused("An image's repository is words of a-z and 0-9, joined by one of . _ - and parted by slashes."))
    }
}

fn check_tag(tag: &str) -> Result<(), AgentProblem> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (1..=TAG_MAX_BYTES).contains(&tag.len()) && tag.bytes().all(is_fine) && !tag.starts_with(['.', '-']) {
        Ok(())
    } else {
        Err(refused(format!("An image's tag is 1 to {TAG_MAX_BYTES} of a-z, A-Z, 0-9, _ . and -.")))
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn refused(message: impl Into<String>) -> AgentProblem {
    problem(ProblemCode::ImageReference, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = Digest::of(b"x");
        let pinned = format!("ghcr.io/a/b:1@{digest}");
        for (text, whole) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/python", "docker.io/library/python:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Registry/app", "Registry/app:latest"),
            ("a.b/c__d/e---f:G_.-1", "a.b/c__d/e---f:G_.-1"),
            (&pinned, &format!("ghcr.io/a/b@{digest}")),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.to_string(), whole);
        }
    }

    #[test]
    fn odd_references_are_refused_in_words() {
        let long = "a".repeat(REFERENCE_MAX_BYTES + 1);
        let long_tag = format!("a:{}", "b".repeat(TAG_MAX_BYTES + 1));
        let long_path = format!("a.b/{}", "c".repeat(REPOSITORY_MAX_BYTES + 1));
        for text in [
            "",
            " ",
            "a b",
            "a\nb",
            "ä",
            "https://a.b/c",
            "a/",
            "/a",
            "a//b",
            "Abc",
            "a.b/C",
            "a.b/../c",
            "a.b/c/../../d",
            "a:",
            "a:.x",
            "a:b:c",
            "a:b/c",
            "a@",
            "a@sha256:12",
            "a@sha512:00",
            "a?x=1",
            "a#x",
            "a.b:0/c",
            "a.b:66666/c",
            "a.b:+1/c",
            "a.b:x/c",
            "a..b/c",
            "-a.b/c",
            "[::1/c",
            "[x]:1/c",
            "a%2f.b/c",
            "u:p@a.b/c",
            "a._b",
            "a___b",
            "a.b/-c",
            &long,
            &long_tag,
            &long_path,
        ] {
            let refusal = text.parse::<Reference>().expect_err(text);
            assert_eq!(refusal.code, ProblemCode::ImageReference, "{text}");
            assert!(refusal.message.ends_with('.'), "{}", refusal.message);
        }
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "[::2]:5000", "127.0.0.1.example.com", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn what_is_read_says_the_same_again(text in "([a-zA-Z0-9.:-]{1,12}/)?[a-z0-9._/-]{1,20}(:[a-zA-Z0-9._-]{1,8})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                let again: Reference = reference.to_string().parse().expect("its own form");
                prop_assert_eq!(&again, &reference);
                let odd = |char: char| !(char.is_ascii_alphanumeric() || "._-/".contains(char));
                prop_assert!(!reference.repository.contains(odd));
                prop_assert!(!reference.repository.split('/').any(|part| matches!(part, "" | "." | "..")));
            }
        }
    }
}
