//! Bodies of requests, paths of files, cursors of lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| cakework_server::fuzzing::requests(text));
