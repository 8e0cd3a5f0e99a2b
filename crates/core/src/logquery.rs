//! A query over a log: its limits, its dates in every form that clients send, and its page tokens.
//!
//! A position is `(segment, offset)` in the log of one `(VM, generation)`: no host, no wall time. A token is
//! opaque to clients and carries the direction it was given for; reading it never trusts it, since a forged one
//! can at most name another place in the same log.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::id::Generation;
use crate::limit;

/// The order in which lines are returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// From the first line on.
    #[default]
    OldestFirst,
    /// From the last line back.
    NewestFirst,
}

/// A place between two records of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The VM's placement whose log this is.
    pub generation: Generation,
    /// Segment number, from 1.
    pub segment: u32,
    /// Byte offset of a record's start in the segment's file.
    pub offset: u64,
}

/// A validated query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogQuery {
    /// Case-insensitive substring; empty finds every line.
    pub contains: String,
    /// Most lines of the page.
    pub batch: u32,
    /// The order.
    pub order: Order,
    /// Earliest time, Unix milliseconds, inclusive.
    pub from_ms: Option<u64>,
    /// Latest time, Unix milliseconds, inclusive.
    pub to_ms: Option<u64>,
    /// Where the page before ended.
    pub after: Option<Position>,
}

/// A query as it came in.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawQuery<'a> {
    /// `query`
    pub query: Option<&'a str>,
    /// `batch`
    pub batch: Option<&'a str>,
    /// `order`
    pub order: Option<&'a str>,
    /// `pagination`
    pub pagination: Option<&'a str>,
    /// `from`
    pub from: Option<&'a str>,
    /// `to`
    pub to: Option<&'a str>,
}

/// What is wrong with a query: the parameter, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// `query` is too long.
    #[error("`query` is longer than {max} bytes", max = limit::LOG_QUERY_MAX_BYTES)]
    Query,
    /// `batch` is no number in the range.
    #[error("`batch` must be a whole number from {min} to {max}", min = limit::LOG_BATCH_MIN, max = limit::LOG_BATCH_MAX)]
    Batch,
    /// `order` is none of the two.
    #[error("`order` must be `oldest_first` or `newest_first`")]
    Order,
    /// `pagination` was not given out by this server for this order.
    #[error("`pagination` is not a token that an earlier page of this log and order returned")]
    Pagination,
    /// A date in no known form.
    #[error("`{0}` must be a date such as 2022-07-19T13:32:56+0000 (ISO 8601, with its offset)")]
    Date(&'static str),
    /// `from` is after `to`.
    #[error("`from` is later than `to`")]
    Range,
}

impl LogQuery {
    /// Validates what came in.
    ///
    /// # Errors
    /// The first parameter that is wrong, in the order of [`RawQuery`].
    pub fn parse(raw: RawQuery<'_>) -> Result<Self, InvalidQuery> {
        let contains = raw.query.unwrap_or_default();
        if contains.len() > limit::LOG_QUERY_MAX_BYTES {
            return Err(InvalidQuery::Query);
        }
        let batch = match raw.batch {
            None => limit::LOG_BATCH_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|batch| (limit::LOG_BATCH_MIN..=limit::LOG_BATCH_MAX).contains(batch))
                .ok_or(InvalidQuery::Batch)?,
        };
        let order = match raw.order {
            None | Some("oldest_first") => Order::OldestFirst,
            Some("newest_first") => Order::NewestFirst,
            Some(_) => return Err(InvalidQuery::Order),
        };
        let after = raw.pagination.map(|token| read_token(token, order).ok_or(InvalidQuery::Pagination)).transpose()?;
        let date =
            |name, text: Option<&str>| text.map(|text| parse_date(text).ok_or(InvalidQuery::Date(name))).transpose();
        let (from_ms, to_ms) = (date("from", raw.from)?, date("to", raw.to)?);
        if from_ms.zip(to_ms).is_some_and(|(from, to)| from > to) {
            return Err(InvalidQuery::Range);
        }
        Ok(Self { contains: contains.to_owned(), batch, order, from_ms, to_ms, after })
    }
}

const TOKEN_VERSION: u8 = 1;

/// The token for the page after `position` in `order`.
pub fn write_token(position: Position, order: Order) -> String {
    let mut bytes = vec![TOKEN_VERSION, matches!(order, Order::NewestFirst).into()];
    bytes.extend(position.generation.0.to_be_bytes());
    bytes.extend(position.segment.to_be_bytes());
    bytes.extend(position.offset.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_token(token: &str, order: Order) -> Option<Position> {
    let bytes: [u8; 22] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let [TOKEN_VERSION, newest_first, rest @ ..] = bytes else { return None };
    if newest_first != u8::from(order == Order::NewestFirst) {
        return None;
    }
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (segment, offset) = rest.split_first_chunk::<4>()?;
    Some(Position {
        generation: Generation(u64::from_be_bytes(*generation)),
        segment: u32::from_be_bytes(*segment),
        offset: u64::from_be_bytes(offset.try_into().ok()?),
    })
}

/// Reads a date as the contract's clients write it: ISO 8601 with an offset of either form or `Z`, or
/// `2023-03-07 06:12:56 UTC`. The answer is Unix milliseconds; times before 1970 are refused.
///
/// A `+` of an offset that a client did not percent-encode arrives as a space; it is read as what was meant.
pub fn parse_date(text: &str) -> Option<u64> {
    const DATE_MAX_BYTES: usize = 40;
    if text.len() > DATE_MAX_BYTES {
        return None;
    }
    let normal = match text.strip_suffix(" UTC") {
        Some(local) => format!("{local}Z"),
        None => match text.rsplit_once(' ') {
            Some((local, offset)) if local.contains(['T', ' ']) && is_offset(offset) => format!("{local}+{offset}"),
            _ => text.to_owned(),
        },
    };
    let timestamp: jiff::Timestamp = normal.parse().ok()?;
    u64::try_from(timestamp.as_millisecond()).ok()
}

fn is_offset(text: &str) -> bool {
    matches!(text.len(), 4 | 5) && text.bytes().all(|b| b.is_ascii_digit() || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_date_names_the_same_moment() {
        for text in [
            "2022-07-19T13:32:56+0000",
            "2022-07-19T13:32:56+00:00",
            "2022-07-19T13:32:56 0000",
            "2022-07-19T13:32:56 00:00",
            "2022-07-19T13:32:56Z",
            "2022-07-19T13:32:56.000Z",
            "2022-07-19 13:32:56 UTC",
            "2022-07-19T15:32:56+0200",
            "2022-07-19T05:32:56-08:00",
        ] {
            assert_eq!(parse_date(text), Some(1_658_237_576_000), "{text}");
        }
        assert_eq!(parse_date("2023-03-09T02:43:30.243-08:00"), Some(1_678_358_610_243));
    }

    #[test]
    fn other_dates_are_refused() {
        for text in [
            "",
            "yesterday",
            "2022-07-19",
            "2022-07-19T13:32:56",
            "2022-13-19T13:32:56Z",
            "1658237576",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_and_limits_are_the_contracts() {
        let query = LogQuery::parse(RawQuery::default()).expect("no parameter is needed");
        assert_eq!((query.batch, query.order), (100, Order::OldestFirst));
        let batch = |text| LogQuery::parse(RawQuery { batch: Some(text), ..RawQuery::default() });
        assert!(batch("50").is_ok() && batch("1000").is_ok());
        for text in ["49", "1001", "-1", "ten", "", "100.0", "99999999999"] {
            assert_eq!(batch(text), Err(InvalidQuery::Batch), "{text}");
        }
        let order = RawQuery { order: Some("newest"), ..RawQuery::default() };
        assert_eq!(LogQuery::parse(order), Err(InvalidQuery::Order));
        let range =
            RawQuery { from: Some("2023-01-02T00:00:00Z"), to: Some("2023-01-01T00:00:00Z"), ..RawQuery::default() };
        assert_eq!(LogQuery::parse(range), Err(InvalidQuery::Range));
    }

    #[test]
    fn a_token_is_bound_to_its_order() {
        let position = Position { generation: Generation(3), segment: 7, offset: 1 << 40 };
        let token = write_token(position, Order::NewestFirst);
        assert_eq!(read_token(&token, Order::NewestFirst), Some(position));
        assert_eq!(read_token(&token, Order::OldestFirst), None);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,60}") {
            let _ = parse_date(&text);
            let raw = RawQuery {
                query: Some(&text), batch: Some(&text), order: None,
                pagination: Some(&text), from: Some(&text), to: Some(&text),
            };
            let _ = LogQuery::parse(raw);
        }
    }
}
