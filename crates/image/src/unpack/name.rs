//! Names in a layer: made relative to its root, or refused.
//!
//! A leading `/` or `./` is dropped, as Docker does; `..` is refused wherever it stands, although a resolver that stays
//! inside the root could take it: no tool writes such names, so who does means harm.

use super::fault::{Fault, shown};

/// Longest name, in bytes: Linux' `PATH_MAX`.
pub const NAME_MAX_BYTES: usize = 4096;

/// What the names of whiteouts begin with.
pub const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of everything that a directory holds below.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// A name inside a layer: components without `.` and `..`, joined by single slashes; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

/// What an entry's last component means (OCI image spec, "Whiteouts").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The entry itself.
    Plain,
    /// The sibling of this name is gone from the layers below.
    Whiteout(Vec<u8>),
    /// Nothing of the parent directory comes from the layers below.
    Opaque,
    /// Bookkeeping of AUFS.
    Ignored,
}

impl Name {
    /// Normalises a name as it stands in the archive.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for `..`, NUL and overlong names.
    pub fn parse(raw: &[u8]) -> Result<Self, Fault> {
        if raw.len() > NAME_MAX_BYTES {
            return Err(Fault::invalid(format!("A layer has a name of more than {NAME_MAX_BYTES} bytes.")));
        }
        let mut name = Vec::with_capacity(raw.len());
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(Fault::invalid(format!("A layer's entry {} leads upwards.", shown(raw)))),
                component if component.contains(&0) => {
                    return Err(Fault::invalid(format!("A layer's entry {} has a NUL in it.", shown(raw))));
                }
                component => {
                    if !name.is_empty() {
                        name.push(b'/');
                    }
                    name.extend_from_slice(component);
                }
            }
        }
        Ok(Self(name))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It is the layer's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Parent directory and last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (b"", &self.0),
        }
    }

    /// It lies in the directory for device nodes, which a sandbox brings itself.
    pub fn is_under_dev(&self) -> bool {
        self.0.starts_with(b"dev/")
    }

    /// A component is one that only a whiteout may have.
    pub fn is_reserved(&self) -> bool {
        self.0.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT))
    }

    /// What its last component means.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for a whiteout of nothing, `.` or `..`.
    pub fn meaning(&self) -> Result<Meaning, Fault> {
        let (_, last) = self.split();
        if last == OPAQUE {
            return Ok(Meaning::Opaque);
        }
        match last.strip_prefix(WHITEOUT) {
            None => Ok(Meaning::Plain),
            Some(b"" | b"." | b"..") => {
                Err(Fault::invalid(format!("A layer's whiteout {} names nothing.", shown(&self.0))))
            }
            Some(target) if target.starts_with(WHITEOUT) => Ok(Meaning::Ignored),
            Some(target) => Ok(Meaning::Whiteout(target.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(raw: &str) -> Name {
        Name::parse(raw.as_bytes()).expect(raw)
    }

    #[test]
    fn names_become_relative_to_the_root() {
        for (raw, normal) in
            [("./etc/passwd", "etc/passwd"), ("/etc//x/", "etc/x"), ("a/./b", "a/b"), ("./", ""), ("/", ""), ("", "")]
        {
            assert_eq!(name(raw).as_bytes(), normal.as_bytes(), "{raw}");
        }
    }

    #[test]
    fn names_that_lead_upwards_are_refused() {
        for raw in ["..", "../x", "a/../b", "a/..", "/..", "./../x"] {
            assert!(matches!(Name::parse(raw.as_bytes()), Err(Fault::Invalid(_))), "{raw}");
        }
        assert_eq!(name("a/..b/...").as_bytes(), b"a/..b/...");
        assert!(Name::parse(&[b'x'; NAME_MAX_BYTES + 1]).is_err());
        assert!(Name::parse(b"a\0b").is_err());
    }

    #[test]
    fn whiteouts_are_known_by_their_last_component() {
        assert_eq!(name("a/.wh.b").meaning().expect("fine"), Meaning::Whiteout(b"b".to_vec()));
        assert_eq!(name(".wh.b").meaning().expect("fine"), Meaning::Whiteout(b"b".to_vec()));
        assert_eq!(name("a/.wh..wh..opq").meaning().expect("fine"), Meaning::Opaque);
        assert_eq!(name("a/.wh..wh.plnk").meaning().expect("fine"), Meaning::Ignored);
        assert_eq!(name(".wh.a/b").meaning().expect("fine"), Meaning::Plain);
        for raw in [".wh.", "a/.wh..", "a/.wh..."] {
            assert!(name(raw).meaning().is_err(), "{raw}");
        }
    }

    #[test]
    fn reserved_names_are_known_on_the_way_too() {
        for raw in [".wh.", "a/.wh.b", ".wh.a/b", ".wh..wh..opq"] {
            assert!(name(raw).is_reserved(), "{raw}");
        }
        assert!(!name("a/wh.b/.wh/x.wh.y").is_reserved());
    }

    proptest! {
        #[test]
        fn a_name_never_leads_out(raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..64)) {
            let Ok(name) = Name::parse(&raw) else { return Ok(()) };
            let bytes = name.as_bytes();
            prop_assert!(!bytes.starts_with(b"/") && !bytes.ends_with(b"/") && !bytes.contains(&0));
            if !name.is_root() {
                prop_assert!(bytes.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
            }
            prop_assert_eq!(Name::parse(bytes).expect("normal already"), name.clone());
            if let Ok(Meaning::Whiteout(target)) = name.meaning() {
                prop_assert!(!target.contains(&b'/') && !matches!(&target[..], b"" | b"." | b".."));
            }
        }

        #[test]
        fn dotdot_is_found_anywhere(before in "[a-z./]{0,20}", after in "[a-z./]{0,20}") {
            let raw = format!("{before}/../{after}");
            prop_assert!(Name::parse(raw.as_bytes()).is_err());
        }
    }
}
