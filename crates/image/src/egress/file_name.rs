//! What a fetched file is called: by its server, or by its URL. Both are a stranger's, so that only a plain name counts.
//!
//! Sources: RFC 6266 (`Content-Disposition`), RFC 8187 (`filename*`). Pure.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{CONTENT_DISPOSITION, HeaderMap};

/// Bytes of a file's name.
const NAME_MAX_BYTES: usize = 255;

/// The name that the server gives a file, or its URL's last part.
pub fn file_name(headers: &HeaderMap, url: &Url) -> Option<String> {
    let disposition = headers.get(CONTENT_DISPOSITION).and_then(|value| value.to_str().ok());
    let given = disposition.and_then(disposition_name);
    given
        .or_else(|| {
            let last = url.path_segments()?.next_back()?;
            percent_decode_str(last).decode_utf8().ok().map(Into::into)
        })
        .filter(|name| is_plain(name))
}

fn is_plain(name: &str) -> bool {
    let is_short = (1..=NAME_MAX_BYTES).contains(&name.len());
    is_short
        && !matches!(name, "." | "..")
        && !name.contains(|char: char| matches!(char, '/' | '\\') || char.is_control())
}

/// The `filename` parameter, or `filename*` before it.
fn disposition_name(text: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    let mut rest = text;
    while let Some(at) = rest.find(';') {
        let parameter = rest[at + 1..].trim_start();
        let Some((key, value)) = parameter.split_once('=') else { break };
        let (value, after) = value_of(value.trim_start());
        match &key.trim().to_ascii_lowercase()[..] {
            "filename" => plain = plain.or(Some(value)),
            "filename*" => extended = extended.or_else(|| extended_name(&value)),
            _ => {}
        }
        rest = after;
    }
    extended.or(plain)
}

/// A token or quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
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

/// `UTF-8'language'percent-encoded`.
fn extended_name(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let is_utf8 = parts.next()?.eq_ignore_ascii_case("utf-8");
    let encoded = parts.nth(1)?;
    is_utf8.then(|| percent_decode_str(encoded).decode_utf8().ok().map(Into::into))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(disposition: Option<&str>, url: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = disposition {
            headers.insert(CONTENT_DISPOSITION, value.parse().expect("a header"));
        }
        file_name(&headers, &Url::parse(url).expect(url))
    }

    #[test]
    fn the_servers_name_counts_before_the_urls() {
        for (disposition, url, expected) in [
            (None, "http://a.b/c/d.tgz?x=y#z", Some("d.tgz")),
            (None, "http://a.b/c%20d.txt", Some("c d.txt")),
            (None, "http://a.b/", None),
            (None, "http://a.b/c/", None),
            (None, "http://a.b/%2fetc%2fpasswd", None),
            (None, "http://a.b/x%00y", None),
            (Some("attachment; filename=x.txt"), "http://a.b/c", Some("x.txt")),
            (Some("attachment; filename=\"a \\\"b\\\"; c.txt\""), "http://a.b/c", Some("a \"b\"; c.txt")),
            (Some("attachment;filename=x; filename*=utf-8''%e2%82%ac.txt"), "http://a.b/c", Some("€.txt")),
            (Some("attachment; filename=../../etc/passwd"), "http://a.b/c", None),
            (Some("attachment; filename=\"..\""), "http://a.b/c", None),
            (Some("attachment; filename=\"\""), "http://a.b/c", None),
            (Some("inline"), "http://a.b/c", Some("c")),
            (Some("attachment; filename"), "http://a.b/c", Some("c")),
        ] {
            assert_eq!(named(disposition, url).as_deref(), expected, "{disposition:?} {url}");
        }
        assert_eq!(named(None, &format!("http://a.b/{}", "x".repeat(256))), None);
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_name_is_plain(text in "[ -~]{0,60}", path in "[a-z./%0-9]{0,20}") {
            if let Some(name) = named(Some(&text), &format!("http://a.b/{path}")) {
                prop_assert!(is_plain(&name));
            }
        }
    }
}
