//! What a registry asks for in `WWW-Authenticate`, and what it is given. Pure.
//!
//! Sources: RFC 9110, section 11 (challenges); RFC 7617 (Basic); Docker's "Token Authentication Specification".

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cakework_wire::host::Credential;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token from a service.
    Bearer {
        /// The service's URL.
        realm: String,
        /// Who the token is for.
        service: Option<String>,
        /// What the token is to allow.
        scope: Option<String>,
    },
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The challenges that we can meet.
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(read).collect()
}

/// User and password as a header.
pub fn basic(credential: &Credential) -> HeaderValue {
    let pair = Zeroizing::new(format!("{}:{}", credential.username, credential.password));
    header(&Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))))
        .expect("base64 is plain ASCII")
}

/// The header of the token in a token service's answer.
pub fn bearer(answer: &[u8]) -> Option<HeaderValue> {
    let answer: Token = serde_json::from_slice(answer).ok()?;
    let token = answer.token.as_ref().or(answer.access_token.as_ref()).filter(|token| !token.is_empty())?;
    header(&Zeroizing::new(format!("Bearer {token}")))
}

fn header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads `Scheme key="value", key=value, Scheme …`.
fn read(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut scheme = String::new();
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = text;
    let mut end = |scheme: &str, realm: Option<String>, service, scope| {
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if let (true, Some(realm)) = (scheme.eq_ignore_ascii_case("bearer"), realm) {
            found.push(Challenge::Bearer { realm, service, scope });
        }
    };
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let word = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        if word == 0 {
            break;
        }
        let (key, after) = rest.split_at(word);
        let Some(value) = after.strip_prefix('=') else {
            end(&scheme, realm.take(), service.take(), scope.take());
            scheme = key.to_owned();
            rest = after;
            continue;
        };
        let (value, after) = parameter(value);
        match key {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
        rest = after;
    }
    end(&scheme, realm, service, scope);
    found
}

/// A parameter's value, quoted or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            char => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/python:pull""#;
        let scope = "repository:library/python:pull";
        assert_eq!(read(hub), [token("https://auth.docker.io/token", Some("registry.docker.io"), Some(scope))]);
        assert_eq!(read(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(read(r#"Basic realm="https://ecr/",service="ecr.amazonaws.com""#), [Challenge::Basic]);
        let both = r#"Negotiate, Basic realm="a, b", bearer realm="https://t/?a=\"b\"" , service=x"#;
        assert_eq!(read(both), [Challenge::Basic, token("https://t/?a=\"b\"", Some("x"), None)]);
        for odd in ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"", "=", "\"", ", ,"] {
            assert_eq!(read(odd), [], "{odd}");
        }
    }

    #[test]
    fn a_header_with_a_secret_is_never_printed() {
        let credential = Credential { username: "AWS".into(), password: "geheim".into() };
        assert_eq!(basic(&credential).to_str().expect("ASCII"), "Basic QVdTOmdlaGVpbQ==");
        assert!(!format!("{:?}", basic(&credential)).contains("QVdT"));
        let header = bearer(br#"{"access_token": "abc", "expires_in": 300}"#).expect("a token");
        assert_eq!(header.to_str().expect("ASCII"), "Bearer abc");
        assert!(!format!("{header:?}").contains("abc"));
        for odd in [&b"{}"[..], br#"{"token": ""}"#, br#"{"token": "a\nb"}"#, b"[]"] {
            assert!(bearer(odd).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(text in "\\PC{0,60}") {
            let _ = read(&text);
        }
    }
}
