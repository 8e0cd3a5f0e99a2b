//! A request's head at the edge: the label that it names, and its header fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cakework_edge::fuzzing::head(bytes));
