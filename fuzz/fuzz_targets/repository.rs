//! A repository, a reference and a token of a request, on their way to git.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| cakework_agent::fuzzing::repository(text));
