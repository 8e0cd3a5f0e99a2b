//! An image's `USER` with its `etc/passwd` and `etc/group`, apart by NUL bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| cakework_image::fuzzing::passwd(text));
