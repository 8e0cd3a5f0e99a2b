//! What git's words mean, and what the user hears. Pure.
//!
//! Git and curl say why they failed in sentences alone, which differ little from version to version; they run with
//! `LC_ALL=C`. The first row that fits wins. A forge's own lines (`remote: …`) are a stranger's, as a repository's
//! names are, and git's last word comes after both.

use cakework_core::build::BuildErrorCode;
use cakework_wire::build::BuildProblem;

use super::ask::Ask;
use super::config::GitConfig;

/// Why a fetch came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 401: the token is wrong, or there is none.
    Unauthorized,
    /// 403: the token is known, and not enough.
    Forbidden,
    /// 404.
    NotFound,
    /// 3xx.
    Moved,
    /// No such branch, tag or commit.
    NoReference,
    /// More bytes, files or memory than may be.
    TooLarge,
    /// Folders nested too deep.
    TooDeep,
    /// The forge can't be reached, or is not well.
    Unavailable,
    /// The forge's certificate is not to be trusted.
    Untrusted,
    /// The connection ended early.
    BrokenOff,
    /// Objects that git refuses.
    Malformed,
    /// The host's disk is full.
    DiskFull,
    /// The deadline.
    Late,
    /// There is no git program here.
    NoGit,
    /// Anything else.
    Unknown,
}

/// Words of git or curl, and what they mean.
const ROWS: &[(&str, Cause)] = &[
    ("No space left on device", Cause::DiskFull),
    ("Disk quota exceeded", Cause::DiskFull),
    // SIGXFSZ is 25 on the architectures that Cakework runs on.
    ("died of signal 25", Cause::TooLarge),
    ("File too large", Cause::TooLarge),
    ("Out of memory", Cause::TooLarge),
    ("out of memory", Cause::TooLarge),
    ("mmap failed: Cannot allocate memory", Cause::TooLarge),
    // Whether it is over its limit was looked at before.
    ("unable to write file", Cause::DiskFull),
    ("fsck error", Cause::Malformed),
    ("invalid path '", Cause::Malformed),
    ("terminal prompts disabled", Cause::Unauthorized),
    ("Authentication failed for '", Cause::Unauthorized),
    ("returned error: 401", Cause::Unauthorized),
    ("returned error: 403", Cause::Forbidden),
    ("returned error: 404", Cause::NotFound),
    ("/' not found", Cause::NotFound),
    (".git' not found", Cause::NotFound),
    ("returned error: 30", Cause::Moved),
    ("unable to update url base from redirection", Cause::Moved),
    ("returned error: ", Cause::Unavailable),
    ("couldn't find remote ref", Cause::NoReference),
    ("not our ref", Cause::NoReference),
    ("unadvertised object", Cause::NoReference),
    ("certificate", Cause::Untrusted),
    ("unable to access '", Cause::Unavailable),
    ("RPC failed", Cause::BrokenOff),
    ("early EOF", Cause::BrokenOff),
    ("hung up unexpectedly", Cause::BrokenOff),
    ("unexpected disconnect", Cause::BrokenOff),
    ("expected flush after", Cause::BrokenOff),
];

/// What a git that failed means by its status and words.
pub fn cause(status: Option<i32>, said: &str) -> Cause {
    // Of `prlimit`, as of a shell: it is not there, or may not be run.
    if matches!(status, Some(126 | 127)) {
        return Cause::NoGit;
    }
    let own: Vec<&str> = said.lines().filter(|line| !line.starts_with("remote: ")).collect();
    let find = |(words, cause): &(&str, Cause)| own.iter().any(|line| line.contains(words)).then_some(*cause);
    ROWS.iter().find_map(find).unwrap_or(Cause::Unknown)
}

/// The user's words.
pub fn problem(cause: Cause, ask: &Ask<'_>, config: &GitConfig) -> BuildProblem {
    let (repository, host) = (ask.repository, ask.host.as_str());
    let (code, message) = match (cause, &ask.secret) {
        (Cause::Unauthorized, Some(_)) => (
            BuildErrorCode::SourceUnauthorized,
            format!("{host} refused the token. It may be expired, revoked or mistyped: make a new one."),
        ),
        (Cause::Unauthorized, None) => (
            BuildErrorCode::SourceUnauthorized,
            format!(
                "{host} shows no repository {repository} without a token. If it is private, pass a token that can read \
                 it; else look at its name."
            ),
        ),
        (Cause::Forbidden, _) => (
            BuildErrorCode::SourceUnauthorized,
            format!(
                "{host} does not let this token read {repository}. Give it read access to the repository's contents, \
                 and authorize it for the organisation if that wants it."
            ),
        ),
        (Cause::NotFound, _) => (
            BuildErrorCode::SourceNotFound,
            format!(
                "{host} shows no repository {repository}: it does not exist, or it is private and the token can't read \
                 it, which a forge does not tell apart."
            ),
        ),
        (Cause::Moved, _) => (
            BuildErrorCode::SourceNotFound,
            format!("{host} says that {repository} has moved. Use its present name: redirects are not followed."),
        ),
        (Cause::NoReference, _) => (BuildErrorCode::BranchNotFound, no_reference(ask)),
        (Cause::TooLarge, _) => (
            BuildErrorCode::SourceTooLarge,
            format!(
                "{repository} is larger than a source may be: {} bytes, {} files and folders.",
                config.max_bytes, config.max_files
            ),
        ),
        (Cause::TooDeep, _) => {
            (BuildErrorCode::SourceTooLarge, format!("The folders of {repository} are nested too deep."))
        }
        (Cause::Unavailable, _) => {
            (BuildErrorCode::SourceUnavailable, format!("{host} can't be reached or does not work. Try again later."))
        }
        (Cause::Untrusted, _) => (
            BuildErrorCode::SourceUnavailable,
            format!("The certificate of {host} is not trusted. The operator can name its authority."),
        ),
        (Cause::BrokenOff, _) => {
            (BuildErrorCode::SourceUnavailable, format!("{host} broke off while it sent {repository}. Try again."))
        }
        (Cause::Malformed, _) => (
            BuildErrorCode::SourceInvalid,
            format!("{repository} holds names or objects that git refuses to check out."),
        ),
        (Cause::DiskFull, _) => (BuildErrorCode::DiskFull, "The host's disk is full.".to_owned()),
        (Cause::Late, _) => (
            BuildErrorCode::Timeout,
            format!("{repository} did not arrive from {host} within {} seconds.", config.timeout_ms / 1000),
        ),
        (Cause::NoGit, _) => (BuildErrorCode::Internal, "This host has no git to fetch repositories with.".to_owned()),
        (Cause::Unknown, _) => (BuildErrorCode::Internal, format!("The host could not fetch {repository}.")),
    };
    BuildProblem::new(code, message)
}

fn no_reference(ask: &Ask<'_>) -> String {
    let repository = ask.repository;
    match ask.reference {
        None => format!("{repository} has no commit yet."),
        Some(commit) if ask.wants_commit() => format!("{repository} has no commit {commit}."),
        Some(part) if ask.looks_like_short_commit() => {
            format!("{repository} has no branch or tag “{part}”. If it is a commit, give all 40 digits of it.")
        }
        Some(name) => format!("{repository} has no branch or tag “{name}”."),
    }
}

#[cfg(test)]
mod tests {
    use cakework_wire::build::Token;

    use super::*;

    /// As git 2.39 and 2.47 with curl 7.88 and 8.14 say it.
    const MESSAGES: &[(&str, Cause)] = &[
        ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", Cause::Unauthorized),
        (
            "remote: Invalid username or password.\nfatal: Authentication failed for 'https://github.com/a/b.git/'",
            Cause::Unauthorized,
        ),
        (
            "remote: Write access to repository not granted.\nfatal: unable to access 'https://github.com/a/b.git/': \
             The requested URL returned error: 403",
            Cause::Forbidden,
        ),
        ("remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found", Cause::NotFound),
        ("fatal: unable to access 'https://github.com/a/b.git/': The requested URL returned error: 301", Cause::Moved),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': The requested URL returned error: 429",
            Cause::Unavailable,
        ),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': The requested URL returned error: 502",
            Cause::Unavailable,
        ),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com",
            Cause::Unavailable,
        ),
        (
            "fatal: unable to access 'https://127.0.0.1:1/a/b.git/': Failed to connect to 127.0.0.1 port 1 after 0 ms: \
             Couldn't connect to server",
            Cause::Unavailable,
        ),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': Operation too slow. Less than 1 bytes/sec \
             transferred the last 60 seconds",
            Cause::Unavailable,
        ),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': server certificate verification failed. CAfile: \
             none CRLfile: none",
            Cause::Untrusted,
        ),
        (
            "fatal: unable to access 'https://github.com/a/b.git/': SSL certificate problem: unable to get local issuer \
             certificate",
            Cause::Untrusted,
        ),
        ("fatal: couldn't find remote ref refs/heads/nope", Cause::NoReference),
        ("fatal: couldn't find remote ref HEAD", Cause::NoReference),
        ("fatal: remote error: upload-pack: not our ref 0123456789abcdef0123456789abcdef01234567", Cause::NoReference),
        (
            "error: Server does not allow request for unadvertised object 0123456789abcdef0123456789abcdef01234567",
            Cause::NoReference,
        ),
        ("fatal: write error: File too large\nfatal: fetch-pack: invalid index-pack output", Cause::TooLarge),
        ("error: index-pack died of signal 25\nfatal: index-pack failed", Cause::TooLarge),
        ("error: unable to write file a", Cause::DiskFull),
        ("fatal: Out of memory, malloc failed (tried to allocate 268435457 bytes)", Cause::TooLarge),
        ("fatal: write error: No space left on device", Cause::DiskFull),
        (
            "error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF\nfatal: \
             fetch-pack: invalid index-pack output",
            Cause::BrokenOff,
        ),
        (
            "error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)\nfatal: expected flush \
             after ref listing",
            Cause::BrokenOff,
        ),
        ("fatal: the remote end hung up unexpectedly", Cause::BrokenOff),
        (
            "error: object 0123456789abcdef0123456789abcdef01234567: hasDotgit: contains '.git'\nfatal: fsck error in \
             packed object\nfatal: fetch-pack: invalid index-pack output",
            Cause::Malformed,
        ),
        ("error: invalid path '.git/config'", Cause::Malformed),
        // Only git's own words count.
        ("remote: returned error: 403\nfatal: the remote end hung up unexpectedly", Cause::BrokenOff),
        ("fatal: something new", Cause::Unknown),
        ("", Cause::Unknown),
    ];

    #[test]
    fn each_message_has_its_meaning() {
        for (said, expected) in MESSAGES {
            assert_eq!(cause(Some(128), said), *expected, "{said}");
        }
        for status in [126, 127] {
            assert_eq!(cause(Some(status), "prlimit: failed to execute git: No such file"), Cause::NoGit);
        }
        assert_eq!(cause(None, ""), Cause::Unknown);
    }

    #[test]
    fn a_refusal_tells_a_bad_token_from_none() {
        let config = GitConfig::default();
        let said = |token: Option<&Token>| {
            let ask = Ask::new(&config, "a/b", None, token).expect("a repository");
            problem(Cause::Unauthorized, &ask, &config).message
        };
        assert!(said(Some(&Token("t".into()))).starts_with("github.com refused the token."));
        assert!(said(None).starts_with("github.com shows no repository a/b without a token."));
    }
}
