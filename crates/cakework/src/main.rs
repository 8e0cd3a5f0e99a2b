//! The binary: role dispatch, supervisor, command line.

fn main() {}
