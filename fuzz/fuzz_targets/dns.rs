//! A guest's question, and what comes back for one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cakework_agent::fuzzing::dns(bytes));
