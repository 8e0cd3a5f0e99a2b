//! The role `unpack` as a program of its own, for the tests of this crate.

fn main() -> std::process::ExitCode {
    cakework_image::unpack::child_main()
}
