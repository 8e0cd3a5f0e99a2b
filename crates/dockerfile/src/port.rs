//! Ports of EXPOSE.

use crate::fault::{Refusal, invalid, shown};

/// Reads `8080`, `8080-8090`, `53/udp`, and forgets a host's port before a `:` as BuildKit does. The result is
/// `8080/tcp` and the like.
pub(crate) fn ports(text: &str) -> Result<impl ExactSizeIterator<Item = String>, Refusal> {
    let wrong = || invalid(format!("{} is no port. Write such as 8080, 8000-8010 or 53/udp.", shown(text)));
    let container = text.rsplit(':').next().unwrap_or(text);
    let (range, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err(wrong()),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or_else(wrong)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    // A range of `u32` knows its length, one of ports with both ends does not.
    let (first, end) = (u32::from(first), u32::from(last) + 1);
    Ok((first..end).map(move |port| format!("{port}/{protocol}")))
}
