//! What happens to header fields on the way: connection-specific ones end at the edge (RFC 9110 §7.6.1), and what the
//! edge itself says of a request replaces what its client says.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};

/// The id that a request carries to the VM and its response to the client.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const REQUEST_ID_MAX_BYTES: usize = 128;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The only protocol that a connection is given up to.
const WEBSOCKET: &str = "websocket";

/// The client's id where it has one of a plain form, otherwise a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    match (ids.next(), ids.next()) {
        (Some(id), None) if is_plain(id.as_bytes()) => id.clone(),
        _ => HeaderValue::from_str(&format!("{:032x}", rand::random::<u128>())).expect("hex digits are a header value"),
    }
}

fn is_plain(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX_BYTES).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// True where the headers ask for, or agree to, a WebSocket (RFC 6455 §4).
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let says_upgrade = tokens(headers, CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let mut protocols = tokens(headers, UPGRADE);
    says_upgrade
        && protocols.next().is_some_and(|token| token.eq_ignore_ascii_case(WEBSOCKET))
        && protocols.next().is_none()
}

/// True for a request that a client asks to make into a WebSocket.
pub(crate) fn asks_websocket(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && is_websocket(headers)
}

/// Removes the length that a response's transfer coding overrides (RFC 9112 §6.3): the coding ends at the edge.
pub(crate) fn keep_one_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Removes the fields that are meant for this connection only.
pub(crate) fn end_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, CONNECTION)
        .filter_map(|token| token.parse().ok())
        // These are never a connection's own (RFC 9110 §7.6.1): who names them wants to change what the VM reads.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Says again, for the next connection, that a WebSocket begins.
pub(crate) fn say_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// True where the sender takes trailers (RFC 9110 §10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// Says so to the next connection.
pub(crate) fn say_takes_trailers(headers: &mut HeaderMap) {
    headers.append(CONNECTION, HeaderValue::from_static("te"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
}

/// Puts on what the edge knows of the request. `trusted` is whether `peer` is a proxy whose word is taken.
pub(crate) fn say_origin(headers: &mut HeaderMap, peer: IpAddr, trusted: bool, request_id: &HeaderValue) {
    let before = joined(headers, FORWARDED_FOR).filter(|_| trusted);
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name, trusted)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    let chain = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.insert(REQUEST_ID, request_id.clone());
}

/// Fields that tell a VM where a request comes from. Many apps read `_` like `-` (CGI's way, RFC 3875 §4.1.18), so a
/// field with `_` could stand in for ours: such ones go even where the proxy in front is trusted.
fn is_claim(name: &HeaderName, trusted: bool) -> bool {
    let plain = name.as_str().replace('_', "-");
    let claim =
        plain.starts_with("x-forwarded-") || [FORWARDED, REAL_IP, REQUEST_ID].iter().any(|of| plain == of.as_str());
    claim && (!trusted || plain != name.as_str())
}

fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The members of a comma-separated field.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn peer() -> IpAddr {
        "203.0.113.9".parse().expect("an address")
    }

    #[test]
    fn connection_fields_end_here() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "host,content-length"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "a"),
            ("content-length", "3"),
            ("trailer", "x-sum"),
        ]);
        end_hop(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "trailer"]);
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        assert!(is_websocket(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_websocket(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!is_websocket(&map(&[("connection", "upgrade"), ("upgrade", "websocket, h2c")])));
        assert!(!is_websocket(&map(&[("upgrade", "websocket")])));
    }

    #[test]
    fn a_clients_claims_are_replaced() {
        let id = HeaderValue::from_static("an-id");
        let claims = [
            ("host", "a.test"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b.test"),
            ("x-forwarded-prefix", "/x"),
            ("x_forwarded_for", "10.0.0.2"),
            ("forwarded", "for=10.0.0.3"),
            ("x-real-ip", "10.0.0.4"),
        ];
        let mut headers = map(&claims);
        say_origin(&mut headers, peer(), false, &id);
        let expected = map(&[
            ("host", "a.test"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.test"),
            ("x-request-id", "an-id"),
        ]);
        assert_eq!(headers, expected);

        let mut headers = map(&claims);
        say_origin(&mut headers, peer(), true, &id);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "b.test");
        assert!(!headers.contains_key("x_forwarded_for"));
    }

    #[test]
    fn a_request_id_is_kept_or_minted() {
        assert_eq!(request_id(&map(&[("x-request-id", "abc-1.2_3")])), "abc-1.2_3");
        for headers in [
            map(&[]),
            map(&[("x-request-id", "a b")]),
            map(&[("x-request-id", "<script>")]),
            map(&[("x-request-id", "")]),
            map(&[("x-request-id", "a"), ("x-request-id", "b")]),
        ] {
            let id = request_id(&headers);
            assert!(id.len() == 32 && is_plain(id.as_bytes()), "{id:?}");
        }
    }
}
