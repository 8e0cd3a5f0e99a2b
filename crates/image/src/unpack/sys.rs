//! The one call of the confinement that no safe function offers.
#![allow(unsafe_code)]

use std::io;

/// Closes every file descriptor above standard error, such as one that the parent did not mark close-on-exec.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: the caller has opened nothing yet, so no owner of a descriptor is left with a closed one.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
