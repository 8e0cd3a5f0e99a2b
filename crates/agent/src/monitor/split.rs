//! Cuts a stream of bytes into lines.
//!
//! A line without its newline waits for it, however long that takes: a prompt or a progress bar becomes a line when it
//! ends, when the sandbox does, or when it reaches the limit. Invariant: at most one line's greatest length is held.

use cakework_wire::segment::PAYLOAD_MAX_BYTES;
use memchr::memchr;

/// The unfinished line of one stream.
#[derive(Debug)]
pub struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// A splitter at a line's start. Its buffer never grows: growing would leave its smaller copies in the heap, and
    /// pages that no line has reached cost nothing.
    pub fn new() -> Self {
        Self { partial: Vec::with_capacity(PAYLOAD_MAX_BYTES) }
    }

    /// Takes bytes in and hands out the lines that they end: each without its newline, and whether it goes on in the next.
    /// Only a line of more than [`PAYLOAD_MAX_BYTES`] does.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        while !bytes.is_empty() {
            let (mut piece, rest) = match memchr(b'\n', bytes) {
                Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
                None => (bytes, None),
            };
            while self.partial.len() + piece.len() > PAYLOAD_MAX_BYTES {
                let (head, tail) = piece.split_at(PAYLOAD_MAX_BYTES - self.partial.len());
                self.emit(head, true, &mut line);
                piece = tail;
            }
            match rest {
                Some(rest) => {
                    self.emit(piece, false, &mut line);
                    bytes = rest;
                }
                None => {
                    self.partial.extend_from_slice(piece);
                    return;
                }
            }
        }
    }

    /// Hands out the unfinished line, if there is one.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            self.emit(&[], false, &mut line);
        }
    }

    fn emit(&mut self, tail: &[u8], continues: bool, line: &mut impl FnMut(&[u8], bool)) {
        if self.partial.is_empty() {
            line(tail, continues);
            return;
        }
        self.partial.extend_from_slice(tail);
        line(&self.partial, continues);
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Vec::new();
        let mut splitter = Splitter::new();
        for chunk in chunks {
            splitter.push(chunk, |line, continues| lines.push((line.to_vec(), continues)));
            assert!(splitter.partial.len() <= PAYLOAD_MAX_BYTES);
        }
        splitter.finish(|line, continues| lines.push((line.to_vec(), continues)));
        lines
    }

    #[test]
    fn a_line_of_the_greatest_length_is_whole_and_one_byte_more_is_not() {
        let mut bytes = vec![b'x'; PAYLOAD_MAX_BYTES];
        assert_eq!(split(&[&bytes]), [(bytes.clone(), false)]);
        assert_eq!(split(&[&bytes, b"\n"]), [(bytes.clone(), false)]);
        assert_eq!(split(&[&bytes, b"y\nz"]), [(bytes.clone(), true), (b"y".to_vec(), false), (b"z".to_vec(), false)]);
        bytes.extend_from_slice(&bytes.clone());
        let half = &bytes[..PAYLOAD_MAX_BYTES];
        assert_eq!(split(&[&bytes, b"\n"]), [(half.to_vec(), true), (half.to_vec(), false)]);
    }

    #[test]
    fn empty_lines_are_lines_and_an_end_is_none() {
        let line = |text: &str| (text.as_bytes().to_vec(), false);
        assert_eq!(split(&[b"\n\na", b"", b"b\r\n"]), [line(""), line(""), line("ab\r")]);
        assert!(split(&[b""]).is_empty());
    }

    proptest! {
        #[test]
        fn where_the_reads_cut_does_not_matter(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(b'\n'), 5 => any::<u8>()], 0..400),
            long in 0..3 * PAYLOAD_MAX_BYTES,
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut all = bytes.clone();
            all.resize(bytes.len() + long, b'l');
            all.extend_from_slice(&bytes);
            let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(all.len() + 1)).collect();
            at.extend([0, all.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
            let lines = split(&chunks);
            prop_assert_eq!(&lines, &split(&[&all]));
            let mut joined = Vec::new();
            for (line, continues) in &lines {
                joined.extend_from_slice(line);
                if !continues { joined.push(b'\n'); }
            }
            if !all.is_empty() && all.last() != Some(&b'\n') { all.push(b'\n'); }
            prop_assert_eq!(joined, all);
        }
    }
}
