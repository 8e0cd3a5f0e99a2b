//! Confines this process to its working directory, before it reads a byte of a stranger's.
//!
//! What stays: reading standard input, writing standard output and error, making files below the new root. Namespaces
//! without network and without the host's mounts; the working directory as the root, without devices, setuid and
//! programs; Landlock as far as the kernel knows it; six capabilities; a seccomp allow-list. Anything that fails here
//! but Landlock, which older kernels lack, ends the process.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::sys;

/// Room for the largest zstd window, the buffers and the remembered directories.
const ADDRESS_SPACE_MAX_BYTES: u64 = 1 << 30;
/// Two for each level of a directory that is replaced.
const OPEN_FILES_MAX: u64 = 600;

/// What unpacking as root takes: any owner, mode and setuid bit, into directories of any mode; file capabilities; and
/// `SYS_ADMIN` for one thing, the `trusted.overlay.opaque` attribute. The calls that make `SYS_ADMIN` mighty (mount,
/// setns, bpf and so on) are not on the list of system calls. A whiteout node needs none since Linux 5.8.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// The system calls of unpacking, of the allocator and of the way out; beside them only this process' own limits may be
/// read and lowered. Any other fails with `EPERM`.
const SYSTEM_CALLS: &[libc::c_long] = &[
    // Streams and files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_ftruncate,
    libc::SYS_syncfs,
    // Making what a layer names.
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    // The process itself.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Bounds the size of any file that this process writes, in bytes.
///
/// # Errors
/// What the kernel says.
pub fn limit_files(bytes: u64) -> io::Result<()> {
    let most = rustix::process::getrlimit(Resource::Fsize).maximum.map_or(bytes, |hard| hard.min(bytes));
    rustix::process::setrlimit(Resource::Fsize, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}

/// Confines this process; its root is then the directory that it was started in.
///
/// # Errors
/// Which step failed.
pub fn confine() -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    sys::close_inherited().map_err(step("closing inherited files"))?;
    let apart = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::unshare(apart).map_err(|error| step("making namespaces")(error.into()))?;
    enter_root().map_err(step("changing the root"))?;
    set_limits().map_err(step("setting limits"))?;
    restrict_files()?;
    drop_capabilities().map_err(step("dropping capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| step("no_new_privs")(error.into()))?;
    seccompiler::apply_filter(&system_call_filter()?).map_err(|error| format!("filtering system calls: {error}"))
}

fn enter_root() -> io::Result<()> {
    let here = std::env::current_dir()?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount_bind(&here, &here)?;
    let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount_remount(&here, flags, c"")?;
    rustix::process::chdir(&here)?;
    // The old root is put over the new one and taken off again, so that no directory for it has to be made.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

fn set_limits() -> io::Result<()> {
    let limits = [
        (Resource::As, ADDRESS_SPACE_MAX_BYTES),
        (Resource::Nofile, OPEN_FILES_MAX),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ];
    for (resource, most) in limits {
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Files below the root may be made, read and removed, never run; no network, no signals to others.
fn restrict_files() -> Result<(), String> {
    let abi = ABI::V6;
    let all = AccessFs::from_all(abi);
    let allowed = all & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::IoctlDev);
    let root = PathFd::new("/").map_err(|error| format!("Landlock: {error}"))?;
    let restrict = || -> Result<(), landlock::RulesetError> {
        Ruleset::default()
            .handle_access(all)?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rule(PathBeneath::new(root, allowed))?
            .restrict_self()?;
        Ok(())
    };
    restrict().map_err(|error| format!("Landlock: {error}"))
}

fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for capability in CapabilitySet::all().difference(CAPABILITIES).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel is older than the capability.
            Err(rustix::io::Errno::INVAL) => {}
            other => other?,
        }
    }
    let sets = CapabilitySets { effective: CAPABILITIES, permitted: CAPABILITIES, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

fn system_call_filter() -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let mut rules: BTreeMap<_, _> = SYSTEM_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let myself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| format!("the list of system calls: {error}"))?;
    rules.insert(libc::SYS_prlimit64, vec![myself]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| format!("the list of system calls: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use rustix::fs::{CWD, FileType, Mode};
    use rustix::io::Errno;

    use super::*;

    /// The confinement takes hold of one thread for good, so this one runs as a process of its own, below.
    #[test]
    #[ignore = "run by the test below"]
    fn inside() {
        confine().expect("it confines itself");
        assert!(File::create("/own").is_ok(), "what it is there for works");
        assert!(File::open("/etc/passwd").is_err() && File::open("/proc/self/status").is_err());
        let make =
            |name: &str, kind| rustix::fs::mknodat(CWD, name, kind, Mode::empty(), 0x801).map_err(Errno::raw_os_error);
        assert_eq!(
            make("/block", FileType::BlockDevice),
            Err(libc::EACCES),
            "Landlock refuses it before capabilities do"
        );
        assert_eq!(make("/socket", FileType::Socket), Err(libc::EACCES), "only Landlock refuses this");
        assert_eq!(
            make("/null", FileType::CharacterDevice),
            Err(libc::EPERM),
            "a device needs a capability that is gone"
        );
        let refused = |error: io::Error| error.raw_os_error() == Some(libc::EPERM);
        assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err_and(refused), "no sockets");
        assert!(Command::new("/own").status().is_err(), "no programs");
        assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
        assert_eq!(rustix::mount::mount_change("/", MountPropagationFlags::SHARED), Err(Errno::PERM));
        assert_eq!(
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1),
            Err(Errno::PERM)
        );
        let more = Rlimit { current: Some(4 << 30), maximum: Some(4 << 30) };
        assert_eq!(rustix::process::setrlimit(Resource::As, more), Err(Errno::PERM));
        let other = rustix::process::Pid::INIT;
        assert_eq!(rustix::process::prlimit(Some(other), Resource::Nofile, more), Err(Errno::PERM));
    }

    #[test]
    fn it_can_do_nothing_but_unpack() {
        let directory = tempfile::tempdir().expect("a directory");
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "unpack::confine::tests::inside", "--ignored", "--nocapture"])
            .current_dir(directory.path())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "as root? {text}");
        let names: Vec<_> = std::fs::read_dir(directory.path()).expect("it is there").collect();
        assert_eq!(names.len(), 1, "the file it made, and nothing else");
    }
}
