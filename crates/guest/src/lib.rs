//! The guest role: a program that the agent starts in a VM to work on its files from inside.
//!
//! It is the `cakework` program itself, or its like, given to the sandbox as an open file: the image needs nothing. It is
//! root in the VM and sees what the VM sees; nothing that it reads or resolves is the host's. It gets its wish as an argument, bytes on
//! standard input, and answers on standard output, by `cakework_wire::files`.

mod archive;
mod chunks;
mod entry;
mod refusal;
mod tree;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use cakework_wire::files::{Entry, FileAnswer, FileOp, GuestWish};

use refusal::{Failure, Refusal};

/// Does what the one argument says.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let wish = args.next().and_then(|text| serde_json::from_slice::<GuestWish>(text.as_encoded_bytes()).ok());
    let Some(wish) = wish else { return ExitCode::from(2) };
    let mut out = BufWriter::with_capacity(256 * 1024, std::io::stdout().lock());
    match done(&wish, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(Refusal { code, message })) => {
            let said = answer(&mut out, &FileAnswer::Refused { code, message }).and_then(|()| out.flush());
            said.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(Failure::Broken(error)) => {
            // What came out so far is not whole, and whoever hears it knows by the exit code.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn done(wish: &GuestWish, out: &mut impl Write) -> Result<(), Failure> {
    let owner = (wish.uid, wish.gid);
    let entry = match &wish.op {
        FileOp::Read { path } => return tree::read(path, out),
        FileOp::Pack { path } => return archive::pack(path, out),
        FileOp::Write { path, mode } => tree::write(path, *mode, owner, &mut chunks::stdin())?,
        FileOp::MakeDir { path, mode } => tree::make_dir(path, *mode, owner)?,
        FileOp::Remove { path, recursive } => tree::remove(path, *recursive)?,
        FileOp::Unpack { path } => archive::unpack(path, owner, &mut chunks::stdin())?,
    };
    Ok(done_with(out, entry)?)
}

/// Says that it is done, or that an entry's bytes follow.
fn done_with(out: &mut impl Write, entry: Entry) -> std::io::Result<()> {
    answer(out, &FileAnswer::Done(entry))
}

fn answer(out: &mut impl Write, answer: &FileAnswer) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, answer)?;
    out.write_all(b"\n")
}

/// What a program needs to be started from an open file, to stand in its own crate.
///
/// glibc's start reads where the program lies from `/proc/self/exe` and ends the process where that is no path
/// (`elf/dl-origin.c`). In a statically linked program the linker takes this in place of glibc's: not known.
#[macro_export]
macro_rules! starts_from_an_open_file {
    () => {
        #[allow(unsafe_code, reason = "the name is glibc's own; the value is what glibc has for an unknown place")]
        #[unsafe(no_mangle)]
        extern "C" fn _dl_get_origin() -> *const ::core::ffi::c_char {
            ::core::ptr::without_provenance(usize::MAX)
        }
    };
}
