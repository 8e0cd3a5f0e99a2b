//! Bytes that go in: chunks, each after its length, the last one empty. What ends without that is not whole.

use std::io::{self, ErrorKind, Read};

use cakework_core::limit;
use cakework_wire::files::CHUNK_MAX_BYTES;

/// Reads chunks from `source`.
pub struct Chunks<R> {
    source: R,
    left: usize,
    total: u64,
    over: bool,
}

/// What this program's standard input brings.
pub fn stdin() -> Chunks<io::StdinLock<'static>> {
    Chunks::new(io::stdin().lock())
}

impl<R: Read> Chunks<R> {
    pub const fn new(source: R) -> Self {
        Self { source, left: 0, total: 0, over: false }
    }
}

impl<R: Read> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            self.left = u32::from_be_bytes(length) as usize;
            self.total += self.left as u64;
            if self.left > CHUNK_MAX_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.total > limit::VM_FILE_MAX_BYTES {
                return Err(rustix::io::Errno::FBIG.into());
            }
            self.over = self.left == 0;
            if self.over {
                return Ok(0);
            }
        }
        let wanted = buffer.len().min(self.left);
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Chunks::new(bytes).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn chunks_are_read_to_their_end_and_not_without() {
        assert_eq!(read(b"\0\0\0\x02ab\0\0\0\x01c\0\0\0\0rest").expect("whole"), b"abc");
        for cut in [&b""[..], b"\0\0", b"\0\0\0\x02a", b"\0\0\0\x01a"] {
            assert_eq!(read(cut).expect_err("not whole").kind(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(read(b"\xff\xff\xff\xff").expect_err("too long").kind(), ErrorKind::InvalidData);
    }
}
