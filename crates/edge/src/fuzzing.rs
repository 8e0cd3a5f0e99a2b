//! A door for the fuzz target to what reads a stranger's request.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Uri};

use crate::{headers, hostname};

const BASE_DOMAIN: &str = "apps.example.com";

/// A target in the first line, then a header field in each: `name:value`.
pub fn head(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut map = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]))
        {
            map.append(name, value);
        }
    }
    if let Ok(label) = hostname::label(&uri, &map, BASE_DOMAIN) {
        let host = map.get(HOST).and_then(|host| host.to_str().ok()).expect("it named one").to_ascii_lowercase();
        assert!(host.starts_with(&format!("{label}.{BASE_DOMAIN}")), "{host}");
    }
    let id = headers::request_id(&map);
    assert!(!id.is_empty() && id.to_str().is_ok());
    let _ = (headers::asks_websocket(&Method::GET, &map), headers::takes_trailers(&map));
    headers::keep_one_length(&mut map);
    assert!(!(map.contains_key(TRANSFER_ENCODING) && map.contains_key(CONTENT_LENGTH)));
    headers::end_hop(&mut map);
    assert!(!map.contains_key(CONNECTION) && !map.contains_key(TRANSFER_ENCODING));
    headers::say_origin(&mut map, std::net::Ipv4Addr::LOCALHOST.into(), false, &id);
    assert_eq!(map.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!(map.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
}
