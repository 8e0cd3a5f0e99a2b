//! The files of COPY and ADD: what a source names in a tree, a digest of it, and putting it into a root.
//!
//! ```text
//! Folder --gather(Wanted)--> Gathered --digest--> the step's cache key
//!                               | place
//!                               v
//!                        a root's directory
//! ```
//! It knows no Dockerfile, no cache and no mount. Invariant: names, links and nodes on both sides are a stranger's, so
//! every path is resolved by `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, what is made is made by calls that
//! follow no link, and nothing but a regular file or a directory is ever opened for what is in it. Trees that are read
//! are changed by nobody meanwhile; a file that was is found out by its digest. Every function blocks.

mod fault;
mod gather;
mod gathered;
mod inside;
mod pick;
mod place;
#[cfg(test)]
mod tests;
mod wanted;

pub use fault::FilesError;
pub use gather::{Allowance, Nothing, gather};
pub use gathered::Gathered;
pub use inside::{Folder, find};
pub use place::{Owner, Placement, make_workdir, place};
pub use wanted::Wanted;
