//! Names of registries, read as Docker reads them: which one a reference means, and one spelling for each.

/// Bytes of a registry's name with its port.
pub const HOST_MAX_BYTES: usize = 260;

/// The registry that a reference names, as it is written there; without one it is Docker's own.
pub fn host_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) || has_upper(host) => host,
        _ => DEFAULT_HOST,
    }
}

/// The one spelling of a registry's name, `host` or `host:port`: lower case, without a scheme or path, Docker's own by
/// one name. `None` where the text names none.
pub fn normal_host(text: &str) -> Option<String> {
    let bare = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let (bare, path) = bare.split_once('/').unwrap_or((bare, ""));
    // What `docker login` calls Docker's own: its host with the version of its protocol.
    let is_host_alone = path.trim_end_matches('/').is_empty() || matches!(path.trim_end_matches('/'), "v1" | "v2");
    let host = bare.to_ascii_lowercase();
    if !is_host_alone || host.len() > HOST_MAX_BYTES || !is_host(&host) {
        return None;
    }
    Some(if DEFAULT_NAMES.contains(&host.as_str()) { DEFAULT_HOST.to_owned() } else { host })
}

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

fn has_upper(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        Some(_) => return false,
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_its_registry_or_dockers_own() {
        for (reference, host) in [
            ("python:3.12-slim", "docker.io"),
            ("library/python", "docker.io"),
            ("localhost/app", "localhost"),
            ("registry.test/team/app:1", "registry.test"),
            ("registry:5000/app@sha256:00", "registry:5000"),
            ("", "docker.io"),
        ] {
            assert_eq!(host_of(reference), host, "{reference}");
        }
    }

    #[test]
    fn every_spelling_of_a_registry_is_one() {
        for (text, host) in [
            ("Registry.Test", Some("registry.test")),
            ("https://registry.test:5000/", Some("registry.test:5000")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("docker.io", Some("docker.io")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("registry.test/team", None),
            ("", None),
            ("a b", None),
            ("registry.test:0", None),
            ("registry.test:+1", None),
            ("-x", None),
            ("[::1", None),
            ("[x]:1", None),
            ("user@registry.test", None),
            ("ftp://registry.test", None),
        ] {
            assert_eq!(normal_host(text).as_deref(), host, "{text}");
        }
        assert_eq!(normal_host(&"a".repeat(300)), None);
    }
}
