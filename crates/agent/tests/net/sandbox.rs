//! The network from inside a real gVisor sandbox.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::allowed::{ANSWER, forwarder, name_server};
use super::probe::{Target, Way};
use super::world::{INTERNET, VM_PORT, World};

const BUSYBOX: &str = "/bin/busybox";
/// Bound of one sandbox's life, for a machine under load.
const DEADLINE_S: u32 = 60;

/// A bundle whose root holds busybox and whose process is `script`.
fn bundle(dir: &Path, netns: &Path, script: &str) {
    for part in ["rootfs/bin", "rootfs/etc", "rootfs/proc"] {
        std::fs::create_dir_all(dir.join(part)).expect("a directory");
    }
    let busybox = dir.join("rootfs/bin/busybox");
    std::fs::copy(BUSYBOX, &busybox).expect("this test needs a static busybox at /bin/busybox");
    std::fs::set_permissions(&busybox, std::fs::Permissions::from_mode(0o755)).expect("executable");
    std::fs::write(dir.join("rootfs/etc/resolv.conf"), "nameserver 10.0.0.1\n").expect("a file");
    let config = serde_json::json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/busybox", "sh", "-c", script],
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            {"type": "network", "path": netns},
        ]},
    });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("a file");
}

/// Runs the bundle to its end and answers what it printed. Where the kernel has the sysctl that this engine build
/// stumbles over, an empty directory hides it.
fn run(dir: &Path, id: &str) -> String {
    let line = format!(
        "mount -t tmpfs -o ro tmpfs /proc/sys/net && exec timeout -k 5 {DEADLINE_S} runsc --root {0}/state \
         --platform=systrap --network=sandbox --overlay2=none --ignore-cgroups --net-disconnect-ok \
         run --bundle {0} {id}",
        dir.display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &line]).output().expect("unshare runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "this test needs runsc\n{out}\n{err}");
    out.into_owned()
}

#[test]
fn address_route_names_and_internet_are_there_inside_also_at_the_next_start() {
    World::play(|world| {
        name_server(world);
        forwarder(world);
        let target = Target::new(&world.internet, INTERNET, 7007);
        let vm = world.vm(1);
        let dir = tempfile::tempdir().expect("a directory");
        let script = format!(
            "busybox ip -4 addr show eth0; busybox ip route; busybox nslookup -type=a app.example.com; \
             busybox nc {INTERNET} 7007 </dev/null"
        );
        bundle(dir.path(), &vm.attachment.netns, &script);
        for start in ["first", "second"] {
            let text = run(dir.path(), &format!("{}-{start}", vm.id));
            for expected in ["inet 10.0.0.2/24", "default via 10.0.0.1", &ANSWER.to_string(), "hello"] {
                assert!(text.contains(expected), "{start}: no {expected:?} in\n{text}");
            }
            // The engine took the guest's address; the next start needs it again.
            world.attach(&vm.id, vm.slot, Some(VM_PORT));
        }
        assert_eq!(target.visitors(Way::Tcp).len(), 2);
    });
}
