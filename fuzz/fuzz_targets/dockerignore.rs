//! A `.dockerignore`, with paths to try: both apart by a NUL byte.
#![no_main]

use cakework_dockerfile::{Ignore, Pattern};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (text, path) = text.split_once('\0').unwrap_or((text, "a/b"));
    if let Ok(ignore) = Ignore::parse(text)
        && ignore.prunes(path)
    {
        assert!(ignore.excludes(path));
        assert!(ignore.excludes(&format!("{path}/a")) && ignore.excludes(&format!("{path}/b/c")));
    }
    if let Some(pattern) = Pattern::parse(text) {
        let _ = (pattern.matches(path), pattern.literal());
    }
});
