//! The confined child: it reads one layer on its standard input and unpacks it into its working directory.

use std::process::ExitCode;

/// The role `unpack`. It must be called before the process has started a thread.
pub fn child_main() -> ExitCode {
    ExitCode::FAILURE
}
