//! What a VM writes: cut into lines, wherever the reads cut it, and each line's level.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cakework_agent::fuzzing::lines(bytes));
