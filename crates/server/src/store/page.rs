//! Cursors of lists: the place after an object in the order "newest first".
//!
//! The place is what never changes of an object (when it was made, and its id), so that a walk neither skips nor
//! repeats one while others come and go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of the id in a page token.
const ID_MAX_BYTES: usize = 36;
const VERSION: u8 = 1;

/// The place after an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) created_ms: u64,
    pub(crate) id: String,
}

impl Cursor {
    /// The opaque token.
    pub(crate) fn write(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.created_ms.to_be_bytes());
        bytes.extend(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token. A forged one names at most another place in the caller's own list.
    pub(crate) fn read(token: &str) -> Option<Self> {
        if token.len() > 64 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let [VERSION, rest @ ..] = bytes.as_slice() else { return None };
        let (created, id) = rest.split_first_chunk::<8>()?;
        let created_ms = u64::from_be_bytes(*created);
        let id = String::from_utf8(id.to_vec()).ok()?;
        let plain =
            !id.is_empty() && id.len() <= ID_MAX_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (plain && i64::try_from(created_ms).is_ok()).then_some(Self { created_ms, id })
    }
}

/// A part of a list, and the place where the next part begins.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Of `limit` + 1 items that were read, keeps `limit`; the one too many says that there is a next part.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> Cursor) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(place) } else { None };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_reads_back() {
        let cursor = Cursor { created_ms: 1_700_000_000_000, id: "e784996f346483".into() };
        assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,70}") {
            let _ = Cursor::read(&text);
        }
    }
}
