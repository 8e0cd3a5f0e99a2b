//! Parameters of a log's reader, one to a line; ids.
#![no_main]

use cakework_core::id::{BuildId, HostLabel, ImageId, VmId};
use cakework_core::logquery::{LogQuery, Order, RawQuery, parse_date, write_token};
use cakework_core::logsearch::Mark;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut words = text.split('\n').map(|word| Some(word).filter(|word| !word.is_empty()));
    let mut next = || words.next().flatten();
    let raw = RawQuery { query: next(), batch: next(), order: next(), pagination: next(), from: next(), to: next() };
    if let Ok(query) = LogQuery::parse(raw) {
        assert!(query.from_ms.zip(query.to_ms).is_none_or(|(from, to)| from <= to));
        if let Some(after) = query.after {
            let again = write_token(after, query.order);
            let raw = RawQuery { pagination: Some(&again), ..raw };
            assert_eq!(LogQuery::parse(raw).map(|query| query.after), Ok(Some(after)));
        }
    }
    if let Some(mark) = Mark::read(text, Order::OldestFirst) {
        assert_eq!(Mark::read(&mark.write(Order::OldestFirst), Order::OldestFirst), Some(mark));
    }
    let _ = parse_date(text);
    if let Ok(id) = text.parse::<VmId>() {
        assert_eq!(id.as_str(), text);
    }
    let _ = (text.parse::<ImageId>(), text.parse::<BuildId>(), text.parse::<HostLabel>());
});
