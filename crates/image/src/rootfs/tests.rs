//! Root file systems on real mounts, and hostile roots. They need root, loop devices and overlayfs.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

/// A directory of a test's own, outside of which nothing may change. Its mounts go with it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "tests of root file systems mount: run them as root");
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// A root with a file `canary` beside it, which must never change.
    fn root(&self) -> PathBuf {
        fs::write(self.path("canary"), "alive").expect("a canary");
        self.make("root/etc");
        self.path("root")
    }

    fn assert_canary(&self) {
        assert_eq!(fs::read_to_string(self.path("canary")).expect("it is there"), "alive");
        let mut names: Vec<_> =
            fs::read_dir(self.dir.path()).expect("readable").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "root"], "something was made outside of the root");
    }

    fn disk(&self, size_mib: u64) -> PathBuf {
        make_disk(&self.path("disk.img"), size_mib).expect("a disk");
        mount_disk(&self.path("disk.img"), &self.path("disk")).expect("a mount");
        self.path("disk")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(mount).starts_with(self.dir.path()) {
                let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// The loop devices whose backing file is `file`.
fn loops_of(file: &Path) -> usize {
    let blocks = fs::read_dir("/sys/block").expect("sysfs").filter_map(Result::ok);
    let backing = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    blocks.filter_map(backing).filter(|backing| backing.trim_end() == file.to_str().expect("UTF-8")).count()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_disk_is_sparse_limited_and_leaves_no_loop_device() {
    let place = Place::new();
    let (file, disk) = (place.path("disk.img"), place.disk(64));
    assert_eq!(loops_of(&file), 1, "the check sees the device");
    assert_eq!(fs::metadata(&file).expect("a file").len(), 64 << 20);
    assert!(fs::metadata(&file).expect("a file").blocks() * 512 < 4 << 20, "the disk is not sparse");

    let chunk = vec![7; 1 << 20];
    let full = (0..100).find_map(|index| fs::write(disk.join(index.to_string()), &chunk).err());
    assert_eq!(full.expect("100 MiB do not fit").kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(disk.join("0")).expect("a full disk still works");
    fs::write(disk.join("small"), "x").expect("and has room again");

    mount_disk(&file, &disk).expect("mounted already is fine");
    assert_eq!(loops_of(&file), 1);
    unmount(&disk).expect("it can go");
    wait_until("the loop device is free", || loops_of(&file) == 0);
    unmount(&disk).expect("twice is fine");
    unmount(&place.path("never")).expect("and so is nothing at all");

    mount_disk(&file, &disk).expect("again");
    assert_eq!(fs::read(disk.join("small")).expect("kept"), b"x");
    unmount(&disk).expect("it can go");
    make_disk(&file, 16).expect("a new one in its place");
    mount_disk(&file, &disk).expect("a mount");
    assert!(!disk.join("small").exists());
}

#[test]
fn a_disk_in_use_is_unmounted_at_last() {
    let place = Place::new();
    let (file, disk) = (place.path("disk.img"), place.disk(16));
    let held = fs::File::create(disk.join("held")).expect("a file");
    unmount(&disk).expect("detached");
    assert!(fs::read_dir(&disk).expect("the mount point").next().is_none());
    drop(held);
    wait_until("the loop device is free", || loops_of(&file) == 0);
}

#[test]
fn a_copy_of_a_disk_holds_all_that_was_in_it_and_no_more_blocks() {
    let place = Place::new();
    let (file, disk, copy) = (place.path("disk.img"), place.disk(64), place.path("copy.img"));
    fs::write(disk.join("page"), vec![7; 100_000]).expect("written");
    let held = fs::File::open(disk.join("page")).expect("a file");
    assert!(unmount_whole(&disk).is_err(), "it is in use, and never detached");
    drop(held);
    unmount_whole(&disk).expect("it can go");
    unmount_whole(&disk).expect("twice is fine");
    copy_disk(&file, &copy).expect("a copy");
    assert_eq!(fs::read(&file).expect("readable"), fs::read(&copy).expect("readable"));
    assert!(fs::metadata(&copy).expect("there").blocks() <= fs::metadata(&file).expect("there").blocks());
    mount_disk(&copy, &disk).expect("a mount");
    assert_eq!(fs::read(disk.join("page")).expect("kept"), vec![7; 100_000]);
}

#[test]
fn a_durable_disk_has_a_journal_and_its_name_only_when_it_is_whole() {
    let place = Place::new();
    let (file, at) = (place.path("volume.img"), place.path("volume"));
    make_durable_disk(&file, 64).expect("a disk");
    assert!(!place.path("volume.draft").exists());
    // The superblock at 1024 has its compatible features at 0x5C, and the journal is the bit 4 of them.
    assert_eq!(fs::read(&file).expect("readable")[1024 + 0x5C] & 4, 4);
    mount_disk(&file, &at).expect("a mount");
    unmount(&at).expect("it can go");
}

#[test]
fn what_is_there_is_found_inside_the_root_alone() {
    let place = Place::new();
    let root = place.make("root");
    make_dir(&root, "/run/app", 0o755).expect("a directory");
    symlink("/etc/passwd", root.join("run/app/out")).expect("a link");
    symlink("../../run/app", root.join("run/app/self")).expect("a link");
    for (path, there) in [("/run/app", true), ("/run/app/self", true), ("/run/app/out", false), ("/none/at/all", false)]
    {
        assert_eq!(is_there(&root, path).expect("a path"), there, "{path}");
    }
}

#[test]
fn a_host_without_room_is_told_apart() {
    let place = Place::new();
    let tiny = place.make("tiny");
    rustix::mount::mount("tmpfs", &tiny, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=64k"))
        .expect("a tmpfs");
    let error = make_disk(&tiny.join("disk.img"), 1024).expect_err("it does not fit");
    assert!(matches!(error, RootfsError::NoSpace(_)), "{error:?}");
}

#[test]
fn as_many_layers_as_allowed_make_one_root() {
    let place = Place::new();
    let disk = place.disk(16);
    // Long names with every character that overlayfs gives a meaning: as options they would not fit a page.
    let layer = |index: usize| place.path(&format!("layers/sha256:{index:03},\\{}", "0".repeat(64)));
    let layers: Vec<_> = (0..LAYERS_MAX).map(layer).collect();
    for (index, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer).expect("a layer");
        fs::write(layer.join("top"), index.to_string()).expect("a file");
        fs::write(layer.join(format!("own-{index}")), "").expect("a file");
    }
    let root = place.path("rootfs");
    mount_overlay(&layers, &disk, &root).expect("a root");
    mount_overlay(&layers, &disk, &root).expect("mounted already is fine");
    assert_eq!(fs::read_to_string(root.join("top")).expect("there"), (LAYERS_MAX - 1).to_string());
    assert!((0..LAYERS_MAX).all(|index| root.join(format!("own-{index}")).exists()));

    fs::write(root.join("top"), "mine").expect("writable");
    fs::remove_file(root.join("own-0")).expect("removable");
    assert_eq!(fs::read_to_string(disk.join("upper/top")).expect("on the VM's disk"), "mine");
    assert_eq!(fs::read_to_string(layers[LAYERS_MAX - 1].join("top")).expect("kept"), (LAYERS_MAX - 1).to_string());
    assert!(layers[0].join("own-0").exists());
    unmount(&root).expect("it can go");
    assert!(!rustix_mounted(&root));

    let too_many: Vec<_> = (0..=LAYERS_MAX).map(layer).collect();
    assert!(matches!(mount_overlay(&too_many, &disk, &root), Err(RootfsError::TooManyLayers { count: 128 })));
}

fn rustix_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn an_image_without_layers_is_an_empty_root() {
    let place = Place::new();
    let (disk, root) = (place.disk(16), place.path("rootfs"));
    mount_overlay(&[], &disk, &root).expect("a root");
    assert!(fs::read_dir(&root).expect("readable").next().is_none());
    write_file(&root, "/etc/hosts", b"127.0.0.1 localhost\n", 0o644).expect("writable");
    assert!(disk.join("upper/etc/hosts").exists());
}

#[test]
fn a_layer_that_comes_twice_counts_where_it_is_highest() {
    let place = Place::new();
    let (disk, root) = (place.disk(16), place.path("rootfs"));
    let (a, b) = (place.make("a"), place.make("b"));
    fs::write(a.join("file"), "a").expect("a file");
    fs::write(b.join("file"), "b").expect("a file");
    mount_overlay(&[a.clone(), b.clone(), a.clone()], &disk, &root).expect("a root");
    assert_eq!(fs::read_to_string(root.join("file")).expect("there"), "a");
}

#[test]
fn a_file_is_written_with_its_mode_and_replaces_what_was_there() {
    let place = Place::new();
    let root = place.root();
    write_file(&root, "/etc/deep/er/hosts", b"one", 0o640).expect("written");
    write_file(&root, "etc//deep/./er/hosts", b"two", 0o604).expect("replaced");
    let file = root.join("etc/deep/er/hosts");
    assert_eq!(fs::read(&file).expect("there"), b"two");
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o7777, 0o604);
    assert_eq!(fs::metadata(root.join("etc/deep")).expect("there").mode() & 0o7777, 0o755);

    make_dir(&root, "/srv/app", 0o700).expect("made");
    make_dir(&root, "/srv/app", 0o777).expect("there already");
    assert_eq!(fs::metadata(root.join("srv/app")).expect("there").mode() & 0o7777, 0o700);
    make_dir(&root, "/", 0o777).expect("the root is there");
    place.assert_canary();
}

#[test]
fn links_and_dots_never_lead_out() {
    let place = Place::new();
    let root = place.root();
    symlink("/", root.join("slash")).expect("a link");
    symlink("../../../..", root.join("up")).expect("a link");
    symlink(place.dir.path(), root.join("abs")).expect("a link");
    symlink("/proc/self/root", root.join("magic")).expect("a link");
    for path in ["slash/canary", "up/canary", "../../../../canary", "etc/../../../canary", "/slash/up/slash/canary"] {
        write_file(&root, path, b"inside", 0o600).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(fs::read(root.join("canary")).expect("inside"), b"inside", "{path}");
        fs::remove_file(root.join("canary")).expect("inside");
        make_dir(&root, &path.replace("canary", "made"), 0o755).expect("inside");
        fs::remove_dir(root.join("made")).expect("inside");
        place.assert_canary();
    }
    // These lead to places that the root does not have.
    for path in ["abs/canary", "magic/canary"] {
        let error = write_file(&root, path, b"outside", 0o600).expect_err(path);
        assert!(matches!(error, RootfsError::Unusable { .. }), "{path}: {error:?}");
        assert!(make_dir(&root, path, 0o755).is_err());
        place.assert_canary();
    }
}

#[test]
fn a_link_a_fifo_or_a_device_in_a_files_place_is_replaced() {
    let place = Place::new();
    let root = place.root();
    let hosts = root.join("etc/hosts");
    let mknod = |kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, &hosts, kind, rustix::fs::Mode::RWXU, device).expect("a node");
    };
    let replaced = || {
        write_file(&root, "etc/hosts", b"new", 0o644).expect("replaced");
        assert!(fs::symlink_metadata(&hosts).expect("there").is_file());
        fs::remove_file(&hosts).expect("a file");
        place.assert_canary();
    };
    symlink(place.path("canary"), &hosts).expect("a link");
    replaced();
    symlink("../../canary", &hosts).expect("a link");
    replaced();
    fs::hard_link(place.path("canary"), &hosts).expect("a link");
    replaced();
    mknod(rustix::fs::FileType::Fifo, 0);
    replaced();
    mknod(rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    replaced();
}

#[test]
fn what_can_not_be_written_is_said() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir(root.join("etc/hosts")).expect("a directory");
    fs::write(root.join("file"), "").expect("a file");
    symlink("loop", root.join("loop")).expect("a link");
    symlink("nowhere", root.join("dangling")).expect("a link");
    let long = format!("{}/x", "a/".repeat(3000));
    for path in ["etc/hosts", "/", "", ".", "..", "etc/..", "file/x", "loop/x", "dangling/x", "a\0b", &long] {
        let error = write_file(&root, path, b"", 0o644).expect_err(path);
        assert!(matches!(error, RootfsError::Unusable { .. }), "{path:?}: {error:?}");
    }
    for path in ["file", "file/x", "loop", "dangling", "a\0b"] {
        let error = make_dir(&root, path, 0o755).expect_err(path);
        assert!(matches!(error, RootfsError::Unusable { .. }), "{path:?}: {error:?}");
    }
    place.assert_canary();
}

#[test]
fn the_users_files_are_found_inside_the_root_alone() {
    let place = Place::new();
    let root = place.root();
    let (passwd, group) = (root.join("etc/passwd"), root.join("etc/group"));
    assert_eq!(find_user(&root, "7:8").expect("ids need no files").gid, 8);
    assert!(matches!(find_user(&root, "app"), Err(RootfsError::NoSuchUser { .. })));

    fs::write(&group, "app:x:1001:\nvideo:x:44:app\n").expect("a file");
    fs::write(root.join("etc/users"), "app:x:1000:1001::/home/app:/bin/sh\n").expect("a file");
    symlink("/etc/users", &passwd).expect("a link");
    let app = find_user(&root, "app").expect("through the link");
    assert_eq!(app, User { uid: 1000, gid: 1001, groups: vec![44], home: "/home/app".to_owned() });

    fs::remove_file(&passwd).expect("a link");
    fs::write(place.path("canary"), "outside:x:4:4::/:/bin/sh\n").expect("a canary");
    let absolute = place.path("canary");
    let absolute = absolute.to_str().expect("UTF-8");
    for target in ["../../canary", absolute, &format!("../../../../../../../../../..{absolute}")] {
        symlink(target, &passwd).expect("a link");
        let outside = find_user(&root, "outside");
        assert!(matches!(outside, Err(RootfsError::NoSuchUser { .. })), "{target}: {outside:?}");
        fs::remove_file(&passwd).expect("a link");
    }
    symlink("/etc/shadow", &passwd).expect("a link");
    assert_eq!(find_user(&root, "").expect("no such file is no entry").uid, 0);
    symlink("shadow", root.join("etc/shadow")).expect("a link");
    assert!(matches!(find_user(&root, ""), Err(RootfsError::Unusable { .. })), "a link to itself");
}

#[test]
fn users_files_that_are_none_are_refused_at_once() {
    let place = Place::new();
    let root = place.root();
    let passwd = root.join("etc/passwd");
    let refused = |why: &str| {
        for user in ["", "root", "1000"] {
            match find_user(&root, user).expect_err(why) {
                RootfsError::Unusable { path, problem } => {
                    assert!(path == "etc/passwd" && problem.contains(why), "{problem}")
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let mknod = |kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, kind, rustix::fs::Mode::RWXU, device).expect("a node");
    };
    // A FIFO without a writer blocks whoever opens it: that this test ends is the check.
    mknod(rustix::fs::FileType::Fifo, 0);
    assert!(fs::symlink_metadata(&passwd).expect("there").file_type().is_fifo());
    refused("regular file");
    fs::remove_file(&passwd).expect("a node");
    mknod(rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    refused("regular file");
    fs::remove_file(&passwd).expect("a node");
    fs::create_dir(&passwd).expect("a directory");
    refused("is a directory");
    fs::remove_dir(&passwd).expect("a directory");
    fs::write(&passwd, vec![b'\n'; (1 << 20) + 1]).expect("a file");
    refused("too large");
    fs::write(&passwd, vec![b'\n'; 1 << 20]).expect("a file");
    assert_eq!(find_user(&root, "").expect("the limit itself is fine").uid, 0);
}

#[test]
fn bytes_of_a_draft_are_copied_as_they_are() {
    let place = Place::new();
    let file = place.path("disk.img");
    make_disk(&file, 32).expect("a disk");
    let check = std::process::Command::new("e2fsck").arg("-fn").arg(&file).output().expect("e2fsck runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
