//! The OCI runtime configuration of a VM, or of a build's command (runtime-spec 1.0.2). Pure.
//!
//! Invariant: no mount source comes from an image or a user, and the first process gets no capability that docker
//! would not give it.

use std::path::{Path, PathBuf};

use cakework_core::limit;
use cakework_core::spec::VmSpec;
use cakework_image::rootfs::User;
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

/// Where a volume is seen.
pub const VOLUME_PATH: &str = "/data";

/// Processes of one user inside: the guest's `fork` fails long before the sandbox's own threads are refused.
const GUEST_PROCESSES_MAX: u64 = 2000;
/// What a process finds where its image says nothing.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's set without `MKNOD` and `NET_RAW`, which nothing in a sandbox can use.
const CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The same as bits (capabilities(7)).
pub fn capability_bits() -> u64 {
    let known = CAPABILITIES.iter().filter_map(|name| name.parse::<caps::Capability>().ok());
    known.fold(0, |bits, capability| bits | 1 << capability.index())
}

/// What a VM's first process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstProcess {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
}

/// Why an image and a specification make no process; a sentence for the VM's owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unstartable {
    /// There is nothing to run.
    #[error("the image has neither an entrypoint nor a command: pass `command`")]
    NoCommand,
    /// A string with a NUL can't be passed to a process.
    #[error("the image's {0} holds a NUL byte")]
    Nul(&'static str),
    /// More than [`limit::ENV_TOTAL_MAX_BYTES`].
    #[error("the environment is larger than {} bytes", limit::ENV_TOTAL_MAX_BYTES)]
    EnvTooLarge,
}

/// Where the sandbox's parts are on the host.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The mounted root.
    pub root: &'a Path,
    /// What is mounted beside what every sandbox has.
    pub mounts: &'a [Mount],
    /// The network namespace; `None` makes an empty one.
    pub netns: Option<&'a Path>,
    /// The control group, from its hierarchy's root.
    pub cgroup: &'a Path,
    /// The sandbox's memory.
    pub memory_mib: u32,
    /// Open files of one process.
    pub open_files: u64,
}

/// A mount of one sandbox. Targets are absolute paths inside it, and there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A directory or file of the host.
    Bind {
        /// Where it is on the host.
        source: PathBuf,
        /// Where it is seen.
        target: String,
        /// Nothing can be written.
        read_only: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Where it is seen.
        target: String,
        /// Its size.
        size_bytes: u64,
    },
}

/// Puts together the first process by docker's rules: entrypoint, then the command that was passed or the image's; the
/// image's environment, the passed one over it; `PATH`, `HOME` and `HOSTNAME` where nobody set them.
///
/// # Errors
/// [`Unstartable`].
pub fn first_process(
    image: &ImageConfiguration,
    spec: &VmSpec,
    user: &User,
    hostname: &str,
) -> Result<FirstProcess, Unstartable> {
    let config = image.config().as_ref();
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let mut args = list(config.and_then(|config| config.entrypoint().as_ref()));
    match &spec.command {
        Some(command) => args.extend(command.iter().cloned()),
        None => args.extend(list(config.and_then(|config| config.cmd().as_ref()))),
    }
    if args.first().is_none_or(String::is_empty) {
        return Err(Unstartable::NoCommand);
    }
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}"), format!("HOME={}", user.home)];
    for variable in list(config.and_then(|config| config.env().as_ref())) {
        set(&mut env, variable);
    }
    for (name, value) in &spec.env {
        set(&mut env, format!("{name}={value}"));
    }
    let cwd = config.and_then(|config| config.working_dir().clone()).unwrap_or_default();
    // A relative one, which docker's builder never writes, is taken from the root.
    let cwd = format!("/{}", cwd.trim_start_matches('/'));
    let has_nul = |texts: &[String]| texts.iter().any(|text| text.contains('\0'));
    if has_nul(&args) {
        return Err(Unstartable::Nul("command"));
    }
    if has_nul(&env) || cwd.contains('\0') {
        return Err(Unstartable::Nul("environment or working directory"));
    }
    if env.iter().map(|variable| variable.len() + 1).sum::<usize>() > limit::ENV_TOTAL_MAX_BYTES {
        return Err(Unstartable::EnvTooLarge);
    }
    Ok(FirstProcess { args, env, cwd })
}

/// Sets a variable in place of an earlier one of the same name. One without `=` is dropped: no process could read it.
pub fn set(env: &mut Vec<String>, variable: String) {
    let Some((name, _)) = variable.split_once('=') else { return };
    let same = |other: &String| other.split_once('=').is_some_and(|(other, _)| other == name);
    match env.iter().position(same) {
        Some(index) => env[index] = variable,
        None => env.push(variable),
    }
}

/// The content of the bundle's `config.json`.
pub fn config(process: &FirstProcess, user: &User, hostname: &str, parts: Parts<'_>) -> Value {
    // A process that is not root starts with nothing; what it may gain by a set-user-id program is bounded.
    let held: &[&str] = if user.uid == 0 { &CAPABILITIES } else { &[] };
    let limited = |kind: &str, count: u64| json!({"type": kind, "soft": count, "hard": count});
    let mut network = json!({"type": "network"});
    if let Some(netns) = parts.netns {
        network["path"] = json!(netns);
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": hostname,
        "root": {"path": parts.root, "readonly": false},
        "process": {
            "terminal": false,
            "args": process.args,
            "env": process.env,
            "cwd": process.cwd,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "capabilities": {
                "bounding": CAPABILITIES, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
            },
            "rlimits": [limited("RLIMIT_NOFILE", parts.open_files), limited("RLIMIT_NPROC", GUEST_PROCESSES_MAX)],
            "noNewPrivileges": false,
        },
        "mounts": mounts(parts.memory_mib, parts.mounts),
        "linux": {
            "cgroupsPath": parts.cgroup,
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, network],
        },
    })
}

fn mounts(memory_mib: u32, own: &[Mount]) -> Vec<Value> {
    let shared_memory = format!("size={}m", memory_mib / 2);
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=1m"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
               "options": ["nosuid", "noexec", "nodev", "mode=1777", shared_memory]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
    ];
    mounts.extend(own.iter().map(|mount| match mount {
        Mount::Bind { source, target, read_only } => {
            let access = if *read_only { "ro" } else { "rw" };
            json!({"destination": target, "type": "bind", "source": source, "options": [access]})
        }
        Mount::Tmpfs { target, size_bytes } => {
            json!({"destination": target, "type": "tmpfs", "source": "tmpfs",
                   "options": ["nosuid", "nodev", "mode=1777", format!("size={size_bytes}")]})
        }
    }));
    mounts
}

/// The files that every root gets before it starts: path, content, mode.
pub fn files(
    hostname: &str,
    address: std::net::Ipv4Addr,
    resolver: std::net::Ipv4Addr,
) -> [(&'static str, String, u32); 4] {
    [
        ("/etc/hosts", format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{address}\t{hostname}\n"), 0o644),
        ("/etc/hostname", format!("{hostname}\n"), 0o644),
        ("/etc/resolv.conf", format!("nameserver {resolver}\n"), 0o644),
        // The engine lays a file system in memory over an empty /tmp; with something in it, /tmp stays on the disk.
        ("/tmp/.keep", String::new(), 0o644),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            image_digest: format!("sha256:{}", "0".repeat(64)),
            cpu: 1,
            memory_mib: 256,
            disk_mib: 512,
            volume_gb: None,
            port: None,
            env: [("A".to_owned(), "passed".to_owned())].into(),
            command: None,
            stop_grace_ms: 1000,
        }
    }

    fn image(config: Value) -> ImageConfiguration {
        let image = json!({"architecture": "amd64", "os": "linux", "config": config,
                           "rootfs": {"type": "layers", "diff_ids": []}, "history": []});
        serde_json::from_value(image).expect("an image's configuration")
    }

    fn user(uid: u32) -> User {
        User { uid, gid: uid, groups: vec![7], home: "/home/u".into() }
    }

    #[test]
    fn the_image_and_the_request_are_merged_as_docker_does() {
        let image = image(json!({"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=image", "B=image", "HOME=/h", "odd"],
                                 "WorkingDir": "srv"}));
        let process = first_process(&image, &spec(), &user(0), "vm").expect("it starts");
        assert_eq!((process.args, process.cwd), (vec!["/e".into(), "c".into()], "/srv".into()));
        assert_eq!(process.env, [DEFAULT_PATH, "HOSTNAME=vm", "HOME=/h", "A=passed", "B=image"]);
        let command = VmSpec { command: Some(vec!["x".into()]), ..spec() };
        assert_eq!(first_process(&image, &command, &user(0), "vm").expect("it starts").args, ["/e", "x"]);
    }

    #[test]
    fn what_can_not_start_is_said() {
        let nothing = first_process(&image(json!({})), &spec(), &user(0), "vm");
        assert_eq!(nothing, Err(Unstartable::NoCommand));
        let nul = first_process(&image(json!({"Cmd": ["a\0b"]})), &spec(), &user(0), "vm");
        assert_eq!(nul, Err(Unstartable::Nul("command")));
        let large = VmSpec { env: [("L".into(), "x".repeat(limit::ENV_TOTAL_MAX_BYTES))].into(), ..spec() };
        let large = first_process(&image(json!({"Cmd": ["a"]})), &large, &user(0), "vm");
        assert_eq!(large, Err(Unstartable::EnvTooLarge));
    }

    #[test]
    fn every_capability_has_its_bit() {
        assert_eq!(capability_bits().count_ones() as usize, CAPABILITIES.len());
    }

    #[test]
    fn only_root_begins_with_capabilities() {
        let process = FirstProcess { args: vec!["a".into()], env: vec![], cwd: "/".into() };
        let volume = [Mount::Bind { source: "/v".into(), target: VOLUME_PATH.into(), read_only: false }];
        let parts = Parts {
            root: Path::new("/r"),
            mounts: &volume,
            netns: Some(Path::new("/run/netns/n")),
            cgroup: Path::new("/c/vm"),
            memory_mib: 256,
            open_files: 1024,
        };
        let root = config(&process, &user(0), "vm", parts);
        assert_eq!(root["process"]["capabilities"]["effective"].as_array().map(Vec::len), Some(CAPABILITIES.len()));
        let other = config(&process, &user(1000), "vm", parts);
        assert_eq!(other["process"]["capabilities"]["effective"], json!([]));
        assert_eq!(other["linux"]["namespaces"][4], json!({"type": "network", "path": "/run/netns/n"}));
        assert_eq!(
            other["mounts"].as_array().and_then(|mounts| mounts.last()).map(|mount| &mount["source"]),
            Some(&json!("/v"))
        );
    }
}
