//! What a fetch is asked for, checked before any program hears of it. Pure.
//!
//! Invariant: nothing that passes here can be taken for an option, a refspec's operator, another URL or a second header.

use base64::Engine as _;
use cakework_core::build::BuildErrorCode;
use cakework_core::limit::SOURCE_TOKEN_MAX_BYTES;
use cakework_wire::build::{BuildProblem, Token};
use zeroize::Zeroizing;

use super::config::GitConfig;

/// Longest organisation and longest repository name: GitHub's own bound of a repository's.
const NAME_MAX_BYTES: usize = 100;
/// Longest branch or tag: it is a file's name on the forge.
const REFERENCE_MAX_BYTES: usize = 255;
/// Hexadecimal digits of a commit's whole name.
const COMMIT_DIGITS: usize = 40;
/// The fewest that anyone abbreviates a commit to.
const SHORT_COMMIT_DIGITS: usize = 7;
/// The user that GitHub takes tokens from, in place of a person's name.
const TOKEN_USER: &str = "x-access-token";

/// A checked wish.
pub struct Ask<'a> {
    /// `org/repo`, without `.git`.
    pub repository: &'a str,
    /// As the user wrote it.
    pub reference: Option<&'a str>,
    /// The forge, with a trailing slash: what git compares the next URL with before it sends a token.
    pub base: String,
    /// The forge's name for sentences.
    pub host: String,
    /// Whether the forge is spoken to without TLS.
    pub plain_http: bool,
    /// What the forge wants to see.
    pub secret: Option<Secret>,
}

/// A token in its two forms, wiped when dropped.
pub struct Secret {
    plain: Zeroizing<String>,
    encoded: Zeroizing<String>,
}

impl<'a> Ask<'a> {
    /// Checks a wish.
    ///
    /// # Errors
    /// What is wrong with it, in the words of who made it; an unusable `base_url` is the operator's fault.
    pub fn new(
        config: &GitConfig,
        repository: &'a str,
        reference: Option<&'a str>,
        token: Option<&Token>,
    ) -> Result<Self, BuildProblem> {
        let (base, host) = base(&config.base_url).ok_or_else(|| {
            tracing::error!("base_url must be http(s)://host[:port][/prefix], without user and query");
            BuildProblem::new(BuildErrorCode::Internal, "This host's forge is not configured.")
        })?;
        let repository = name(repository).ok_or_else(|| {
            BuildProblem::new(
                BuildErrorCode::SourceNotFound,
                "A repository is named as `org/repo`, both of letters, digits, `.`, `_` and `-`.",
            )
        })?;
        if let Some(reference) = reference
            && !is_reference(reference)
        {
            return Err(BuildProblem::new(
                BuildErrorCode::BranchNotFound,
                "What was given as a branch can't be the name of a branch, a tag or a commit.",
            ));
        }
        let secret = match token {
            Some(token) => Some(Secret::new(token).ok_or_else(|| {
                BuildProblem::new(
                    BuildErrorCode::SourceUnauthorized,
                    "The token has characters that no token has. Pass it as the forge shows it.",
                )
            })?),
            None => None,
        };
        let plain_http = base.starts_with("http:");
        Ok(Self { repository, reference, base, host, plain_http, secret })
    }

    /// The repository's URL.
    pub fn url(&self) -> String {
        format!("{}{}.git", self.base, self.repository)
    }

    /// What to ask the forge for, one after the other: a branch wins over a tag of the same name.
    pub fn candidates(&self) -> Vec<String> {
        match self.reference {
            None => vec!["HEAD".into()],
            Some(commit) if self.wants_commit() => vec![commit.to_ascii_lowercase()],
            Some(whole) if whole.starts_with("refs/") => vec![whole.into()],
            Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
        }
    }

    /// Whether a whole commit is named.
    pub fn wants_commit(&self) -> bool {
        self.reference.is_some_and(|text| text.len() == COMMIT_DIGITS && is_hex(text))
    }

    /// Whether what is named could be a part of a commit's name.
    pub fn looks_like_short_commit(&self) -> bool {
        self.reference.is_some_and(|text| (SHORT_COMMIT_DIGITS..COMMIT_DIGITS).contains(&text.len()) && is_hex(text))
    }

    /// The text without the token, whatever it is that git or the forge said.
    pub fn redact(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) => text.replace(secret.encoded.as_str(), "***").replace(secret.plain.as_str(), "***"),
            None => text.to_owned(),
        }
    }
}

impl Secret {
    /// `None` where it is empty, too long, or could end a header.
    fn new(token: &Token) -> Option<Self> {
        let text = token.0.as_str();
        let fit =
            (1..=SOURCE_TOKEN_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fit.then(|| {
            let pair = Zeroizing::new(format!("{TOKEN_USER}:{text}"));
            Self {
                plain: Zeroizing::new(text.to_owned()),
                encoded: Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes())),
            }
        })
    }

    /// The header that carries it.
    pub fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Authorization: Basic {}", self.encoded.as_str()))
    }
}

/// The forge with a trailing slash, and its name; `None` where it is no plain http(s) URL.
fn base(url: &str) -> Option<(String, String)> {
    let parsed: http::Uri = url.parse().ok()?;
    let authority = parsed.authority()?.as_str();
    let plain = matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.query().is_none();
    // A fragment is dropped in silence by the parser.
    (plain && !url.contains('#') && !authority.contains('@'))
        .then(|| (format!("{}/", url.trim_end_matches('/')), authority.to_owned()))
}

/// `org/repo`, without `.git`.
fn name(repository: &str) -> Option<&str> {
    let repository = repository.strip_suffix(".git").unwrap_or(repository);
    let (organisation, name) = repository.split_once('/')?;
    (is_name(organisation) && is_name(name)).then_some(repository)
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX_BYTES).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && !text.contains("..")
        && text.bytes().all(fits)
}

/// The rules of git-check-ref-format(1), and none that begins like an option.
fn is_reference(text: &str) -> bool {
    let part_fits = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let char_fits = |char: char| !char.is_control() && !char.is_whitespace() && !"~^:?*[\\".contains(char);
    text.len() <= REFERENCE_MAX_BYTES
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && text.split('/').all(part_fits)
        && text.chars().all(char_fits)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask<'a>(repository: &'a str, reference: Option<&'a str>) -> Result<Ask<'a>, BuildProblem> {
        Ask::new(&GitConfig::default(), repository, reference, None)
    }

    #[test]
    fn a_repository_is_two_plain_names() {
        for good in ["org/repo", "a/b", "Org-1/re.po_2", "org/repo.git"] {
            let url = ask(good, None).expect(good).url();
            assert_eq!(url, format!("https://github.com/{}.git", good.trim_end_matches(".git")));
        }
        let long = format!("org/{}", "a".repeat(101));
        for bad in [
            "",
            "repo",
            "/repo",
            "org/",
            "org/.git",
            "a/b/c",
            "org/..",
            "../repo",
            "org/a..b",
            ".org/repo",
            "-org/repo",
            "org/-repo",
            "org/re po",
            "org/re?po",
            "org/repo#x",
            "org/repo@x",
            "org/r%2e",
            "https://a/b",
            "org/é",
            "org/re\0po",
            "org/re\npo",
            &long,
        ] {
            let problem = ask(bad, None).err().expect(bad);
            assert_eq!(problem.code, BuildErrorCode::SourceNotFound, "{bad:?}");
        }
    }

    #[test]
    fn a_reference_is_a_branch_a_tag_or_a_commit() {
        let commit = "0123456789ABCDEF0123456789abcdef01234567";
        for (reference, wanted) in [
            (None, vec!["HEAD".to_owned()]),
            (Some("main"), vec!["refs/heads/main".into(), "refs/tags/main".into()]),
            (Some("feat/é+1"), vec!["refs/heads/feat/é+1".into(), "refs/tags/feat/é+1".into()]),
            (Some("refs/pull/1/head"), vec!["refs/pull/1/head".into()]),
            (Some(commit), vec![commit.to_ascii_lowercase()]),
        ] {
            assert_eq!(ask("a/b", reference).expect("it is fit").candidates(), wanted);
        }
        assert!(ask("a/b", Some("0123456")).expect("a name").looks_like_short_commit());
        assert!(!ask("a/b", Some("012345g")).expect("a name").looks_like_short_commit());
        let long = "a".repeat(256);
        for bad in [
            "",
            "-b",
            "--upload-pack=x",
            "a b",
            "a\nb",
            "a\0b",
            "a\u{7f}b",
            "a:b",
            "a^",
            "a~1",
            "a*",
            "a?",
            "[a",
            "a\\b",
            "a..b",
            "a@{1}",
            "@",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            "x.lock/a",
            ".a",
            "a/.b",
            "a.",
            &long,
        ] {
            let problem = ask("a/b", Some(bad)).err().expect(bad);
            assert_eq!(problem.code, BuildErrorCode::BranchNotFound, "{bad:?}");
        }
    }

    #[test]
    fn a_forge_is_a_plain_url() {
        let with = |base_url: &str| {
            let config = GitConfig { base_url: base_url.into(), ..GitConfig::default() };
            Ask::new(&config, "a/b", None, None).map(|ask| (ask.url(), ask.host.clone(), ask.plain_http))
        };
        let split = |url: &str, host: &str, plain: bool| Ok((url.to_owned(), host.to_owned(), plain));
        assert_eq!(with("https://git.example/"), split("https://git.example/a/b.git", "git.example", false));
        assert_eq!(with("http://127.0.0.1:81/x"), split("http://127.0.0.1:81/x/a/b.git", "127.0.0.1:81", true));
        for bad in [
            "",
            "git.example",
            "/a",
            "ssh://a",
            "file:///a",
            "https://u:p@a",
            "https://a/?q",
            "https://a/#f",
            "ext::sh",
        ] {
            assert_eq!(with(bad).expect_err(bad).code, BuildErrorCode::Internal, "{bad}");
        }
    }

    #[test]
    fn a_token_ends_no_header_and_is_in_no_text() {
        let with = |token: &str| Ask::new(&GitConfig::default(), "a/b", None, Some(&Token(token.into())));
        for bad in ["", "a b", "a\r\nHost: x", "a\0", "é", &"a".repeat(4097)] {
            assert_eq!(with(bad).err().expect(bad).code, BuildErrorCode::SourceUnauthorized);
        }
        let ask = with("ghp_secret").expect("a token");
        let header = ask.secret.as_ref().expect("it has one").header();
        assert_eq!(header.as_str(), "Authorization: Basic eC1hY2Nlc3MtdG9rZW46Z2hwX3NlY3JldA==");
        let said = format!("fatal: ghp_secret and {} are bad", header.as_str());
        assert_eq!(ask.redact(&said), "fatal: *** and Authorization: Basic *** are bad");
    }

    proptest! {
        #[test]
        fn what_passes_is_one_plain_word(repository in ".{0,40}", reference in ".{0,40}") {
            if let Ok(ask) = ask(&repository, Some(&reference)) {
                for word in ask.candidates().iter().chain([&ask.url()]) {
                    prop_assert!(!word.starts_with('-') && !word.contains(|c: char| c.is_control() || c == ' '));
                }
            }
        }
    }
}
