//! Checks of the kernel, its cgroups and its firewall, and of the addresses to listen on.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::row::Row;
use crate::instance;

/// The first kernel whose firewall sees what leaves a device (the `netdev` family's egress hook).
const KERNEL_OLDEST: (u32, u32) = (5, 16);
const COMMAND_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// All forms of rules that VMs' networks are made of, against the loopback of a namespace that vanishes at once.
const RULES: &str = "\
table inet cwdoctor {
  set vms { type ipv4_addr; }
  chain nat { type nat hook postrouting priority 100; ip saddr @vms masquerade; }
  chain dns { type nat hook prerouting priority -100; udp dport 53 redirect to :5300; }
  chain filter { type filter hook forward priority 0; ct state established accept; ip saddr @vms drop; }
  chain out { type filter hook output priority 0; ip daddr @vms meta skuid != 1 drop; }
}
table netdev cwdoctor {
  chain in { type filter hook ingress device \"lo\" priority 0; ip saddr 10.0.0.2 ip saddr set 10.0.0.3 accept; }
  chain out { type filter hook egress device \"lo\" priority 0; ip daddr 10.0.0.3 ip daddr set 10.0.0.2 accept; }
}
";

pub fn kernel() -> Row {
    let found = rustix::system::uname();
    let release = found.release().to_string_lossy().into_owned();
    let machine = found.machine().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if !matches!(machine.as_str(), "x86_64" | "aarch64") {
        return Row::gap("kernel", format!("{machine} is not supported"), "use an x86_64 or aarch64 machine");
    }
    if version < KERNEL_OLDEST {
        let (major, minor) = KERNEL_OLDEST;
        return Row::gap(
            "kernel",
            format!("Linux {release} is older than {major}.{minor}"),
            "apt-get install linux-image-amd64, and boot it",
        );
    }
    Row::ok("kernel", format!("Linux {release} {machine}"))
}

pub fn cgroups() -> Row {
    let root = Path::new("/sys/fs/cgroup");
    let (layout, dirs) = if let Ok(offered) = std::fs::read_to_string(root.join("cgroup.controllers")) {
        let offered: Vec<&str> = offered.split_whitespace().collect();
        if let Some(missing) = CONTROLLERS.iter().find(|name| !offered.contains(name)) {
            return Row::gap(
                "cgroups",
                format!("v2 without the controller {missing}"),
                format!("boot with cgroup_enable={missing}"),
            );
        }
        ("v2", vec![root.to_owned()])
    } else {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let dir = |name: &&str| -> Option<PathBuf> {
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find_map(|fields| match fields.as_slice() {
                [_, point, "cgroup", options, ..] if options.split(',').any(|option| option == *name) => {
                    Some((*point).into())
                }
                _ => None,
            })
        };
        if let Some(missing) = CONTROLLERS.iter().find(|name| dir(name).is_none()) {
            let fix = format!(
                "mkdir -p /sys/fs/cgroup/{missing} && mount -t cgroup -o {missing} cgroup /sys/fs/cgroup/{missing}"
            );
            return Row::gap("cgroups", format!("no hierarchy with the controller {missing}"), fix);
        }
        ("v1", CONTROLLERS.iter().filter_map(dir).collect())
    };
    if !rustix::process::geteuid().is_root() {
        return Row::ok("cgroups", format!("{layout} with {}", CONTROLLERS.join(", ")));
    }
    for dir in dirs {
        let scratch = dir.join(format!("cakework-doctor-{}", std::process::id()));
        if let Err(error) = std::fs::create_dir(&scratch).and_then(|()| std::fs::remove_dir(&scratch)) {
            return Row::gap(
                "cgroups",
                format!("no group can be made in {}: {error}", dir.display()),
                format!("mount -o remount,rw {}", dir.display()),
            );
        }
    }
    Row::ok("cgroups", format!("{layout} with {}", CONTROLLERS.join(", ")))
}

/// Loads every kind of rule into a network namespace that lives as long as the command.
pub fn nft() -> Row {
    match run_with_input(Command::new("unshare").args(["--net", "nft", "-f", "-"]), RULES.as_bytes()) {
        Ok(()) => Row::ok("nft", "all kinds of rules load, in a scratch namespace"),
        Err(said)
            if said.contains("failed to execute nft") || said.contains("No such file or directory") && !has("nft") =>
        {
            Row::gap("nft", "nft is not installed", "apt-get install nftables")
        }
        Err(said) => Row::gap(
            "nft",
            format!("the rules of VMs' networks do not load: {said}"),
            "modprobe -a nf_tables nft_chain_nat nft_masq nft_redir nft_ct, or boot a kernel that has them",
        ),
    }
}

/// Whether a program is on the path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

pub fn port(name: &'static str, address: SocketAddr, data_dir: &Path) -> Row {
    match TcpListener::bind(address) {
        Ok(_) => Row::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let ours = data_dir.join("lock").exists() && matches!(instance::lock(data_dir), Ok(None));
            if ours {
                Row::ok(name, format!("{address} is held while a server runs on {}", data_dir.display()))
            } else {
                Row::gap(
                    name,
                    format!("{address} is in use"),
                    format!("ss -ltnp 'sport = :{}', or choose another address", address.port()),
                )
            }
        }
        Err(error) => Row::gap(
            name,
            format!("{address} can't be listened on: {error}"),
            "choose an address of this machine (ip -brief address)",
        ),
    }
}

pub fn forwarding() -> Row {
    let file = Path::new("/proc/sys/net/ipv4/ip_forward");
    let on = std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1");
    let writable = rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok();
    match (on, writable) {
        (true, _) => Row::ok("ip_forward", "on"),
        (false, true) => Row::ok("ip_forward", "off; it is switched on with the first server"),
        (false, false) => {
            Row::gap("ip_forward", "off, and this process can't switch it on", "sysctl -w net.ipv4.ip_forward=1")
        }
    }
}

/// Repositories are fetched with git, and its part that speaks HTTPS is a program of its own.
pub fn git() -> Row {
    const FIX: &str = "apt-get install git";
    let home = Command::new("git").arg("--exec-path").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let Ok(home) = home else {
        return Row::warn("git", "git is not installed, so no image is built from a repository", FIX);
    };
    let home = PathBuf::from(String::from_utf8_lossy(&home.stdout).trim());
    if home.join("git-remote-https").is_file() {
        Row::ok("git", "git is installed, for builds from repositories")
    } else {
        Row::warn("git", "git can't speak HTTPS, so no image is built from a repository", FIX)
    }
}

/// Runs a command on some input, with a deadline; the error is what it wrote on stderr.
fn run_with_input(command: &mut Command, input: &[u8]) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that is gone has said why.
        let _ = stdin.write_all(input);
    }
    let end = Instant::now() + COMMAND_WAIT;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("no end after {} s", COMMAND_WAIT.as_secs()));
        }
        std::thread::sleep(POLL);
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).lines().take(3).collect::<Vec<_>>().join(" ");
    if output.status.success() { Ok(()) } else { Err(said) }
}
