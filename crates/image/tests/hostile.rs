//! Layers that mean harm: each is refused or kept inside its directory, and a file of the host beside it stays as it is.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cakework_testkit::images::Entry;
use cakework_wire::host::ProblemCode;
use common::{Given, PATIENCE, Tar};
use tar::EntryType;

fn hard(path: &str, target: &str) -> Entry {
    Entry::Hardlink { path: path.into(), target: target.into() }
}

fn device(path: &str) -> Entry {
    Entry::CharDevice { path: path.into(), major: 1, minor: 3 }
}

/// A directory of the host with a canary beside the layer's own.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cakework-ground-").tempdir().unwrap();
        fs::create_dir(dir.path().join("layer")).unwrap();
        fs::write(dir.path().join("canary"), "alive").unwrap();
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Unpacks and looks after the canary.
    fn unpack(&self, entries: &[Entry]) -> Result<u64, cakework_wire::host::AgentProblem> {
        let outcome = Given::entries(entries).unpack(&self.path().join("layer"));
        assert_eq!(fs::read_to_string(self.path().join("canary")).unwrap(), "alive");
        assert_eq!(fs::metadata(self.path().join("canary")).unwrap().nlink(), 1);
        assert_eq!(common::names(self.path()), ["canary", "layer"]);
        outcome
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../canary", "a/../../canary", "..", "./../canary", "/../canary", "a/.."] {
        let refusal = Ground::new().unpack(&[Entry::dir("a"), Entry::file(name, "dead")]).expect_err(name);
        assert_eq!(refusal.code, ProblemCode::ImageInvalid, "{name}");
    }
}

#[test]
fn an_absolute_name_is_inside() {
    let ground = Ground::new();
    let absolute = ground.path().join("canary");
    ground.unpack(&[Entry::file(absolute.to_str().unwrap(), "inside")]).unwrap();
    let inside = ground.path().join("layer").join(absolute.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside).unwrap(), "inside");
}

#[test]
fn a_link_on_the_way_leads_nowhere_else() {
    let ground = Ground::new();
    let outside = ground.path().to_str().unwrap().to_owned();
    // To an absolute directory of the host, which is not there inside.
    let refusal = ground.unpack(&[Entry::symlink("out", &outside), Entry::file("out/canary", "dead")]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);

    // Upwards: the root is its own parent.
    let ground = Ground::new();
    ground
        .unpack(&[
            Entry::symlink("up", "../../../../../.."),
            Entry::file("up/canary", "inside"),
            Entry::symlink("root", "/"),
            Entry::file("root/second", "inside"),
            Entry::symlink("last", "../canary"),
            Entry::file("last", "a file in the link's place"),
        ])
        .unwrap();
    assert_eq!(common::names(&ground.path().join("layer")), ["canary", "last", "root", "second", "up"]);
    assert!(fs::symlink_metadata(ground.path().join("layer/last")).unwrap().is_file());

    // Through proc, which is not there.
    let refusal =
        Ground::new().unpack(&[Entry::symlink("p", "/proc/self/cwd"), Entry::file("p/x", "dead")]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);

    // In a circle.
    let refusal = Ground::new().unpack(&[Entry::symlink("a", "b"), Entry::symlink("b", "a"), Entry::file("a/x", "")]);
    assert_eq!(refusal.unwrap_err().code, ProblemCode::ImageInvalid);
}

#[test]
fn a_hard_link_has_its_target_inside() {
    for target in ["../canary", "/etc/passwd", "nothing", "", "/", "d"] {
        let refusal = Ground::new().unpack(&[Entry::dir("d"), hard("stolen", target)]).expect_err(target);
        assert_eq!(refusal.code, ProblemCode::ImageInvalid, "{target}");
    }
    let ground = Ground::new();
    let canary = ground.path().join("canary");
    let refusal = ground.unpack(&[Entry::symlink("out", "../"), hard("stolen", canary.to_str().unwrap())]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);
    let refusal = ground.unpack(&[Entry::symlink("out2", "../"), hard("stolen", "out2/canary")]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);
}

#[test]
fn device_nodes_are_refused_or_left_out() {
    let refusal = Ground::new().unpack(&[device("mem")]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);
    let block = Given::tar(Tar::new().entry("sda", EntryType::Block, |_| {}, b"").finish());
    assert_eq!(block.refusal().code, ProblemCode::ImageInvalid);
    let ground = Ground::new();
    ground.unpack(&[Entry::dir("dev"), device("dev/null"), device("dev/sub/zero")]).unwrap();
    assert_eq!(common::names(&ground.path().join("layer/dev")), [""; 0]);
    let refusal = Ground::new().unpack(&[Entry::file(".wh.x", ""), hard("y", "x")]).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid, "a whiteout is no file");
}

#[test]
fn odd_whiteouts_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let refusal = Ground::new().unpack(&[Entry::file(name, "")]).expect_err(name);
        assert_eq!(refusal.code, ProblemCode::ImageInvalid, "{name}");
    }
}

#[test]
fn directories_are_bounded_in_depth_also_through_links() {
    let mut entries = Vec::new();
    let part = vec!["d"; 45].join("/");
    let mut way = part.clone();
    for number in 0..6 {
        entries.push(Entry::dir(&way));
        entries.push(Entry::symlink(
            &format!("l{number}"),
            &if number == 0 { part.clone() } else { format!("l{}/{part}", number - 1) },
        ));
        way = format!("l{number}/{part}");
    }
    let refusal = Ground::new().unpack(&entries).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageTooLarge);
}

#[test]
fn garbage_is_refused() {
    for (what, bytes) in [
        ("text", b"hello ".repeat(200)),
        ("a cut header", Tar::new().file("a", b"x").finish()[..300].to_vec()),
        ("a cut file", Tar::new().file("a", &[1; 2000]).finish()[..1500].to_vec()),
        ("bytes behind the end", [Tar::new().file("a", b"x").finish(), vec![0; 512], vec![9; 512]].concat()),
        ("an unknown kind", Tar::new().entry("a", EntryType::new(b'Z'), |_| {}, b"").finish()),
        ("a root that is a file", Tar::new().entry("./", EntryType::Symlink, |_| {}, b"").finish()),
        ("a malformed extension", Tar::new().entry("x", EntryType::XHeader, |_| {}, b"999 path=a\n").finish()),
        ("a link to nothing", Tar::new().entry("l", EntryType::Symlink, |_| {}, b"").finish()),
    ] {
        assert_eq!(Given::tar(bytes).refusal().code, ProblemCode::ImageInvalid, "{what}");
    }
}

/// A child that waits for the rest of its layer.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_child_is_confined_before_it_reads_the_layer() {
    let ground = Ground::new();
    let layer = ground.path().join("layer");
    let command =
        Command::new(common::child()).current_dir(&layer).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Waiting(command);
    let given = Given::entries(&[Entry::file("a", "x")]);
    // The first byte is not even there yet when everything is in place.
    let proc = Path::new("/proc").join(child.0.id().to_string());
    let end = Instant::now() + PATIENCE;
    let status = loop {
        let status = fs::read_to_string(proc.join("status")).unwrap();
        if status.contains("Seccomp:\t2") {
            break status;
        }
        assert!(Instant::now() < end, "it does not confine itself: {status}");
        std::thread::yield_now();
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("NoNewPrivs:"), "1");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_ADMIN, SETFCAP.
    let capabilities = (1_u64 << 0) | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 21 | 1 << 31;
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(field(set), 16).unwrap(), capabilities, "{set}");
    }
    assert_eq!((field("CapInh:"), field("CapAmb:")), ("0000000000000000", "0000000000000000"));
    for namespace in ["net", "mnt", "ipc", "uts", "cgroup"] {
        let of = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(of(&proc), of(Path::new("/proc/self")), "{namespace}");
    }
    let (root, own) = (fs::metadata(proc.join("root/")).unwrap(), fs::metadata(&layer).unwrap());
    assert_eq!((root.dev(), root.ino()), (own.dev(), own.ino()), "its root is the layer's directory");
    let mounts = fs::read_to_string(proc.join("mounts")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "nothing else is mounted: {mounts}");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(mounts.contains(option), "{mounts}");
    }
    let devices = fs::read_to_string(proc.join("net/dev")).unwrap();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), 1, "only a loopback: {devices}");
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    assert!(
        limits.lines().any(|line| line.starts_with("Max address space") && line.contains("1073741824")),
        "{limits}"
    );

    let mut input = child.0.stdin.take().unwrap();
    let mut line = serde_json::to_vec(&given.request).unwrap();
    line.push(b'\n');
    input.write_all(&line).unwrap();
    input.write_all(&given.bytes).unwrap();
    drop(input);
    assert!(child.0.wait().unwrap().success());
    assert_eq!(fs::read_to_string(layer.join("a")).unwrap(), "x");
}
