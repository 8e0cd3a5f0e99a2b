//! Changes what was gathered before it is placed: ADD unpacks archives in place of copying them, and gives what it
//! fetched another name.

use super::gathered::{Gathered, Kind, Root};

impl Gathered {
    /// Where in their tree the regular files are that the source itself names, without links on the way.
    pub fn files(&self) -> Vec<String> {
        let file = |root: &Root| matches!(root.entries[0].kind, Kind::File { .. });
        let paths = self.roots.iter().filter(|root| file(root)).map(|root| String::from_utf8(root.at.clone()));
        // A name that is not UTF-8 is copied as it is.
        paths.filter_map(Result::ok).collect()
    }

    /// Takes out a file that [`Self::files`] named.
    pub fn take_out(&mut self, path: &str) {
        self.roots.retain(|root| root.at != path.as_bytes());
    }

    /// Gives the one thing that was gathered another name.
    pub fn rename(&mut self, name: &str) {
        for root in &mut self.roots {
            root.name = name.as_bytes().to_vec();
        }
    }
}
