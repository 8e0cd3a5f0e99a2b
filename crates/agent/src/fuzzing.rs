//! Doors for the fuzz targets to what reads guests' and strangers' bytes, each with what has to hold of it.

use cakework_wire::build::Token;
use cakework_wire::segment::{PAYLOAD_MAX_BYTES, Stream};

use crate::build::git::GitConfig;
use crate::build::git::ask::Ask;
use crate::logs::level;
use crate::monitor::split::Splitter;
use crate::net::dns::message::Question;

/// A guest's question; where it is one, an answer of the same bytes.
pub fn dns(bytes: &[u8]) {
    if let Ok(question) = Question::read(bytes) {
        let asked = question.with_id(7);
        assert_eq!(asked.len(), bytes.len());
        let _ = (question.servfail(), question.accept(7, &asked), question.accept(7, bytes));
    }
}

/// Output in two reads, cut where its first two bytes say.
pub fn lines(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first_chunk() else { return };
    let cut = usize::from(u16::from_be_bytes(*cut)).min(bytes.len());
    let (first, second) = bytes.split_at(cut);
    let split = |chunks: &[&[u8]]| {
        let (mut lines, mut splitter) = (Vec::new(), Splitter::new());
        let mut keep = |line: &[u8], continues| lines.push((line.to_vec(), continues));
        chunks.iter().for_each(|chunk| splitter.push(chunk, &mut keep));
        splitter.finish(keep);
        lines
    };
    let lines = split(&[first, second]);
    assert_eq!(lines, split(&[bytes]), "where a read ends does not matter");
    for (line, _) in lines {
        assert!(line.len() <= PAYLOAD_MAX_BYTES);
        let level = level::of_line(Stream::Stdout, &line);
        assert!(!level.is_empty() && level.bytes().all(|byte| byte.is_ascii_graphic()), "{level}");
    }
}

/// A repository, a reference and a token, each on its line.
pub fn repository(text: &str) {
    let mut lines = text.splitn(3, '\n');
    let repository = lines.next().unwrap_or_default();
    let (reference, token) = (lines.next(), lines.next());
    let given = token.map(|token| Token(token.to_owned()));
    if let Ok(ask) = Ask::new(&GitConfig::default(), repository, reference, given.as_ref()) {
        for word in ask.candidates().iter().chain([&ask.url()]) {
            assert!(!word.starts_with('-') && !word.contains(|char: char| char.is_control() || char == ' '), "{word}");
        }
        if let Some(token) = token {
            assert_eq!(ask.redact(&format!("\n{token}\n")), "\n***\n", "{token}");
        }
    }
}
