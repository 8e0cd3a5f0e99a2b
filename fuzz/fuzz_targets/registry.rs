//! What a registry says: documents, challenges, tokens; references to it; names of fetched files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cakework_image::fuzzing::registry(bytes));
