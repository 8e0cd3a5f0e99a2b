//! Which label a request names (RFC 9112 §3.2). It answers with a label or a refusal, never with a place to go.

use cakework_core::id::HostLabel;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Why a request names no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLabel {
    /// There is no `Host`, or more than one.
    NotOneHost,
    /// The target is a whole URI whose authority is another one than `Host`.
    Disagrees,
    /// The name is not `<label>.<base domain>`.
    Unknown,
}

/// The label of a request for `<label>.<base_domain>`, with or without a port, a final dot, and in any case.
pub(crate) fn label(uri: &Uri, headers: &HeaderMap, base_domain: &str) -> Result<HostLabel, NoLabel> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(NoLabel::NotOneHost) };
    let host: Authority = host.to_str().ok().and_then(|text| text.parse().ok()).ok_or(NoLabel::Unknown)?;
    if let Some(target) = uri.authority()
        && !same(target, &host)
    {
        return Err(NoLabel::Disagrees);
    }
    if has_user(&host) || (port_text(&host).is_some() && host.port_u16().is_none()) {
        return Err(NoLabel::Unknown);
    }
    let name = name(&host);
    let label = name
        .strip_suffix(&base_domain.trim_end_matches('.').to_ascii_lowercase())
        .and_then(|rest| rest.strip_suffix('.'))
        .ok_or(NoLabel::Unknown)?;
    label.parse().map_err(|_| NoLabel::Unknown)
}

/// Both name the same host; the port of plain HTTP may be left out.
fn same(target: &Authority, host: &Authority) -> bool {
    const HTTP_PORT: u16 = 80;
    let port = |authority: &Authority| match port_text(authority) {
        None => Some(HTTP_PORT),
        Some(_) => authority.port_u16(),
    };
    !has_user(target) && !has_user(host) && name(target) == name(host) && port(target) == port(host)
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

/// What follows the host's colon; also an empty or impossible port.
fn port_text(authority: &Authority) -> Option<&str> {
    let after_host = authority.as_str().rsplit('@').next()?.strip_prefix(authority.host())?;
    after_host.strip_prefix(':')
}

fn name(authority: &Authority) -> String {
    let host = authority.host();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const LABEL: &str = "01gv2zfbt345trtrdk6vhbeccz";

    fn read(uri: &str, hosts: &[&str]) -> Result<HostLabel, NoLabel> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).expect("visible text"));
        }
        label(&uri.parse().expect("a target"), &headers, "Apps.example.com")
    }

    #[test]
    fn the_name_is_read_in_each_of_its_forms() {
        let upper = LABEL.to_ascii_uppercase();
        for host in [
            format!("{LABEL}.apps.example.com"),
            format!("{LABEL}.apps.example.com."),
            format!("{LABEL}.apps.example.com:8080"),
            format!("{LABEL}.apps.example.com.:8080"),
            format!("{upper}.APPS.Example.Com"),
        ] {
            assert_eq!(read("/x", &[&host]).map(|label| label.to_string()), Ok(LABEL.to_owned()), "{host}");
        }
    }

    #[test]
    fn other_names_lead_nowhere() {
        for host in [
            "apps.example.com",
            ".apps.example.com",
            "localhost",
            "127.0.0.1:8081",
            "[::1]:8081",
            LABEL,
            &format!("{LABEL}.apps.example.com.evil.test"),
            &format!("{LABEL}.apps.example.com.."),
            &format!("{LABEL}apps.example.com"),
            &format!("x.{LABEL}.apps.example.com"),
            &format!("user@{LABEL}.apps.example.com"),
            &format!("{LABEL}.apps.example.com:99999"),
            &format!("{LABEL}.apps.example.com:"),
            &format!("{LABEL}.apps.example.com:80:80"),
            &format!("{LABEL}.apps.example.com/x"),
            &format!("{LABEL} .apps.example.com"),
            "",
        ] {
            assert_eq!(read("/", &[host]), Err(NoLabel::Unknown), "{host:?}");
        }
    }

    #[test]
    fn there_is_one_host_and_the_target_agrees() {
        let host = format!("{LABEL}.apps.example.com");
        assert_eq!(read("/", &[]), Err(NoLabel::NotOneHost));
        assert_eq!(read("/", &[&host, &host]), Err(NoLabel::NotOneHost));
        assert!(read(&format!("http://{host}/x"), &[&host]).is_ok());
        assert!(read(&format!("http://{host}:80/x"), &[&host]).is_ok());
        for other in ["127.0.0.1:22", &format!("{host}:81"), &format!("user@{host}"), "other.apps.example.com"] {
            assert_eq!(read(&format!("http://{other}/x"), &[&host]), Err(NoLabel::Disagrees), "{other}");
        }
    }
}
