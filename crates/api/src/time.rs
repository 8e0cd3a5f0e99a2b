//! Moments as the API writes them.

/// RFC 3339, UTC, with exactly three digits of milliseconds: the one form that every published client reads.
/// Moments that no calendar holds become its last one.
pub fn rfc3339(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn milliseconds_are_always_written() {
        assert_eq!(rfc3339(1_678_169_576_000), "2023-03-07T06:12:56.000Z");
        assert_eq!(rfc3339(1_678_169_576_007), "2023-03-07T06:12:56.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-30T22:00:00.999Z");
    }
}
