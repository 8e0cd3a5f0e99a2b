//! The signal by which a VM is asked to end, as its image wants it.

/// The signal that an image wants, if it is a name or number that the engine can't misread; else `TERM`.
pub fn stop_signal(wanted: Option<&str>) -> &str {
    match wanted {
        Some(signal) if !signal.is_empty() && signal.len() <= 16 && signal.bytes().all(is_signal_byte) => signal,
        _ => "TERM",
    }
}

fn is_signal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_stop_signal_is_not_passed_on() {
        for (wanted, sent) in [
            (None, "TERM"),
            (Some(""), "TERM"),
            (Some("SIGQUIT"), "SIGQUIT"),
            (Some("9"), "9"),
            (Some("RTMIN+3"), "RTMIN+3"),
            (Some("--all"), "TERM"),
            (Some("TERM\n"), "TERM"),
        ] {
            assert_eq!(stop_signal(wanted), sent, "{wanted:?}");
        }
    }
}
