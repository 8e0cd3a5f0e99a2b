//! A log's segment after a crash of its writer or its disk.
#![no_main]

use cakework_wire::segment::{append, intact_bytes, read_backward, read_forward, read_header};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = read_header(bytes);
    let _ = read_backward(bytes);
    let whole = intact_bytes(bytes);
    assert!(whole <= bytes.len());
    let mut rest = &bytes[..whole];
    let mut again = Vec::new();
    while let Ok(Some((record, length))) = read_forward(rest) {
        append(&mut again, record);
        let (back, back_length) = read_backward(&rest[..length]).expect("the same from its end").expect("one");
        assert_eq!((back, back_length), (record, length));
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "what is intact is read to its end");
    assert_eq!(again, bytes[..whole], "a record has one form");
});
