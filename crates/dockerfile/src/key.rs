//! The name of a step's result: a hash over all that it depends on.
//!
//! `key = H(parent's key, the step as it was expanded, the ARG and ENV values in use, the digests of the files it reads)`,
//! each part with its length before it. Whose cache it is found in is not part of it: the cache's owner keeps scopes apart.
//! A step that changes the configuration only has its parent's key, so a variable counts where it is used, not where it is
//! set.

use sha2::{Digest, Sha256};

use crate::step::{Action, Step};

/// A step's result by name: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Of a base image: its manifest digest; `scratch` for none.
    pub fn base(digest: &str) -> Self {
        Self::of([["base"].as_slice(), &[digest]])
    }

    /// Of the step on top of this one. `content` are the digests of what it reads from outside its own root, in the order
    /// of its sources and mounts.
    #[must_use]
    pub fn step(&self, step: &Step, content: &[String]) -> Self {
        if step.action == Action::Configure {
            return self.clone();
        }
        let material: Vec<&str> = step.material.iter().map(String::as_str).collect();
        let content: Vec<&str> = content.iter().map(String::as_str).collect();
        Self::of([["step"].as_slice(), &[self.as_str()], &material, &content])
    }

    /// Its digits: safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of<const N: usize>(lists: [&[&str]; N]) -> Self {
        let mut hash = Sha256::new();
        let mut number = |number: usize| hash.update((number as u64).to_le_bytes());
        for list in lists {
            number(list.len());
        }
        for part in lists.into_iter().flatten() {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hex::encode(hash.finalize()))
    }
}
