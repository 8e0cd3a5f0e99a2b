//! A layer or archive, compressed in any way: its first byte says how.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cakework_image::fuzzing::tar(bytes));
