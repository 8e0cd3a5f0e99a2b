//! The guest role as a program of its own, for the agent's tests: linked statically, as the `cakework` program is, it
//! runs in images that have nothing.

use std::process::ExitCode;

cakework_guest::starts_from_an_open_file!();

fn main() -> ExitCode {
    cakework_guest::main(std::env::args_os().skip(2))
}
