//! Giving up root: what a child of the supervisor does before it does anything else.
//!
//! Invariant: after [`confine`] the process and all its descendants hold no capability and can get none, whatever
//! they execute. The calls are per thread (credentials(7)), so it refuses to run beside other threads.

use std::io;

use rustix::fs::{Gid, Uid};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_capabilities_secure_bits, set_no_new_privs, set_thread_gid, set_thread_groups,
    set_thread_uid,
};

/// Becomes `uid` and `gid` with no other group and no capability. With uid 0 it stays root in name only: the owner of
/// root's files, and nothing more.
///
/// # Errors
/// Anything that could not be given up: the caller must not go on.
pub fn confine(uid: u32, gid: u32) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("privileges can only be given up before other threads start"));
    }
    for bit in 0..=last_capability()? {
        remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit))?;
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(gid))?;
    set_thread_uid(Uid::from_raw(uid))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    let left = capabilities(None)?;
    if !left.permitted.is_empty() || rustix::process::geteuid().as_raw() != uid {
        return Err(io::Error::other("privileges remain"));
    }
    Ok(())
}

/// Dies with `parent`, the supervisor. To be called after [`confine`], which resets it (prctl(2)).
///
/// # Errors
/// Where the parent is gone already.
pub fn die_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) { Ok(()) } else { Err(io::Error::other("the supervisor is gone")) }
}

fn last_capability() -> io::Result<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last: u32 = text.trim().parse().map_err(io::Error::other)?;
    Ok(last.min(63))
}
