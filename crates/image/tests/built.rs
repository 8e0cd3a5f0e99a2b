//! What is made on the host: layers of a real overlay's writable directory, images of them, and the cache of steps.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use cakework_image::{CachedStep, ImageConfig, ImageLimits, StoredLayer, rootfs};
use cakework_testkit::images::{self, Builder, Compression, Entry, Format, Layer};
use cakework_testkit::registry::{Auth, Registry};
use cakework_wire::host::{ImageObservation, ProblemCode};
use common::Host;
use rustix::fs::{FileType, Mode, XattrFlags};

const MIB: u64 = 1 << 20;
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An overlay over layers, on a disk of its own.
struct Overlay {
    dir: tempfile::TempDir,
}

impl Overlay {
    fn over(layers: &[PathBuf]) -> Self {
        let overlay = Self { dir: tempfile::Builder::new().prefix("cakework-overlay-").tempdir().unwrap() };
        rootfs::make_disk(&overlay.path("disk.img"), 128).unwrap();
        rootfs::mount_disk(&overlay.path("disk.img"), &overlay.path("disk")).unwrap();
        rootfs::mount_overlay(layers, &overlay.path("disk"), &overlay.path("root")).unwrap();
        overlay
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn upper(&self) -> PathBuf {
        self.path("disk/upper")
    }

    /// Mounts layers for reading.
    fn view(&self, layers: &[PathBuf]) -> PathBuf {
        let view = self.path("view");
        rootfs::unmount(&view).unwrap();
        rootfs::mount_layers(layers, &view).unwrap();
        view
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for name in ["view", "root", "disk"] {
            let _ = rootfs::unmount(&self.path(name));
        }
    }
}

/// Everything that a layer keeps of one name, but a directory's own time: an overlay makes new ones of copied names.
fn described(root: &Path, path: &Path, links: &mut Vec<(u64, PathBuf)>) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let name = path.strip_prefix(root).unwrap().to_owned();
    let content = if kind.is_symlink() {
        format!("-> {:?}", fs::read_link(path).unwrap())
    } else if kind.is_file() {
        images::digest(&fs::read(path).unwrap())
    } else {
        format!("{}{}", kind.is_dir(), kind.is_fifo())
    };
    let first = if kind.is_dir() || stat.nlink() == 1 {
        name.clone()
    } else if let Some((_, first)) = links.iter().find(|(inode, _)| *inode == stat.ino()) {
        first.clone()
    } else {
        links.push((stat.ino(), name.clone()));
        name.clone()
    };
    let xattrs: Vec<_> = ["user.note", "security.capability"].map(|key| (key, xattr(path, key))).into_iter().collect();
    let (mode, uid, gid, mtime) = (stat.mode(), stat.uid(), stat.gid(), stat.mtime());
    format!("{name:?} {mode:o} {uid}:{gid} {mtime} {content} same as {first:?} {xattrs:?}")
}

fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let count = rustix::fs::lgetxattr(path, key, &mut value[..]).ok()?;
    value.truncate(count);
    Some(value)
}

fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, directory: &Path, links: &mut Vec<(u64, PathBuf)>, all: &mut Vec<String>) {
        let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            all.push(described(root, &path, links));
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                walk(root, &path, links, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(root, root, &mut Vec::new(), &mut all);
    all
}

async fn based(host: &Host, registry: &Registry, entries: &[Entry]) -> std::sync::Arc<cakework_image::Image> {
    let image = Builder::new(Format::Docker).layer(Layer::new(entries, Compression::Gzip)).cmd(&["/bin/true"]).build();
    registry.push("base", "v1", &image).await.unwrap();
    host.import(registry, "base").await.unwrap()
}

fn base_entries() -> Vec<Entry> {
    let mut entries = vec![Entry::dir("etc"), Entry::dir("usr"), Entry::dir("opt/gone/deep"), Entry::dir("opt/again")];
    for name in ["etc/motd", "etc/keep", "usr/tool", "usr/other", "opt/gone/deep/x", "opt/again/old", "became-a-dir"] {
        entries.push(Entry::file(name, name));
    }
    entries.extend([Entry::symlink("bin", "usr"), Entry::file("empty-dir/only", "x"), Entry::file("swap/a", "a")]);
    entries
}

/// What a hostile or diligent step may leave.
fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    // Deleted, renamed, replaced.
    fs::remove_file(at("etc/motd")).unwrap();
    fs::rename(at("usr/tool"), at("usr/renamed")).unwrap();
    fs::remove_dir_all(at("opt/gone")).unwrap();
    fs::remove_dir_all(at("opt/again")).unwrap();
    fs::create_dir(at("opt/again")).unwrap();
    fs::write(at("opt/again/new"), "new").unwrap();
    fs::remove_file(at("became-a-dir")).unwrap();
    fs::create_dir_all(at("became-a-dir/inside")).unwrap();
    fs::remove_dir_all(at("swap")).unwrap();
    fs::write(at("swap"), "a file now").unwrap();
    fs::remove_file(at("empty-dir/only")).unwrap();
    fs::remove_file(at("bin")).unwrap();
    symlink("etc", at("bin")).unwrap();
    // Modes, owners, attributes.
    fs::write(at("setuid"), "s").unwrap();
    chown(at("setuid"), Some(1000), Some(3_000_000)).unwrap();
    fs::set_permissions(at("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(at("etc/keep"), fs::Permissions::from_mode(0o600)).unwrap();
    rustix::fs::lsetxattr(at("usr/other"), "user.note", b"hello\nworld", XattrFlags::empty()).unwrap();
    rustix::fs::lsetxattr(at("setuid"), "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
    rustix::fs::lsetxattr(at("etc"), "user.note", b"of a directory", XattrFlags::empty()).unwrap();
    fs::create_dir(at("sticky")).unwrap();
    fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    // Links, pipes, sockets.
    fs::write(at("sticky/one"), "linked").unwrap();
    fs::hard_link(at("sticky/one"), at("another")).unwrap();
    fs::hard_link(at("sticky/one"), at("sticky/two")).unwrap();
    symlink("/absolutely/nowhere", at("dangling")).unwrap();
    symlink("t".repeat(300), at("long-link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    // Sizes and names.
    fs::write(at("nothing"), "").unwrap();
    fs::write(at("large"), vec![42; 700_000]).unwrap();
    fs::File::create(at("sparse")).unwrap().set_len(3 << 20).unwrap();
    fs::create_dir_all(at(&["directory"; 30].join("/"))).unwrap();
    fs::write(at(&["directory"; 30].join("/")).join("n".repeat(255)), "deep").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not\xff\xfeutf8\nline")), "bytes").unwrap();
    fs::create_dir(root.join(OsStr::from_bytes(&[0xfe; 200]))).unwrap();
    let old = fs::File::options().write(true).open(at("large")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_an_overlay_gives_the_same_tree_again() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let host = Host::new().await;
    let base = based(&host, &registry, &base_entries()).await;
    let overlay = Overlay::over(&base.layers);
    change(&overlay.root());
    let expected = tree(&overlay.root());
    assert!(expected.len() > 50);
    let _listening = std::os::unix::net::UnixListener::bind(overlay.root().join("socket")).unwrap();

    let layer = host.store.commit_layer(&overlay.upper(), 64 * MIB).await.unwrap().expect("it has content");
    assert_eq!((&layer.digest, layer.size_bytes % 512), (&layer.diff_id, 0));
    assert!(layer.size_bytes > 3 * MIB, "holes are data");
    let dir = host.store.layer_dir(&layer.diff_id).unwrap();
    assert!(fs::symlink_metadata(dir.join("etc/motd")).unwrap().file_type().is_char_device());
    assert_eq!(xattr(&dir.join("opt/again"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    let layers = [base.layers.clone(), vec![dir]].concat();
    let view = overlay.view(&layers);
    similar(&tree(&view), &expected);
    assert!(fs::write(view.join("more"), "x").is_err(), "it is for reading only");
    assert_eq!(fs::metadata(&view).unwrap().mode() & 0o7777, 0o755);

    let again = host.store.commit_layer(&overlay.upper(), 64 * MIB).await.unwrap();
    assert_eq!(again.as_ref(), Some(&layer), "the same tree is the same layer");
    // The same tree, made by the child, written again.
    let dir = host.store.layer_dir(&layer.diff_id).unwrap();
    let repeated = host.store.commit_layer(&dir, 64 * MIB).await.unwrap();
    assert_eq!(repeated.as_ref(), Some(&layer), "what was unpacked packs to the same bytes");
    fs::set_permissions(overlay.root().join("nothing"), fs::Permissions::from_mode(0o640)).unwrap();
    let other = host.store.commit_layer(&overlay.upper(), 64 * MIB).await.unwrap().unwrap();
    assert_ne!(other.diff_id, layer.diff_id, "one bit of a mode is another layer");
    assert_eq!(host.names("tmp"), [""; 0]);
}

fn similar(seen: &[String], expected: &[String]) {
    for (seen, expected) in seen.iter().zip(expected) {
        assert_eq!(seen, expected);
    }
    assert_eq!(seen.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_nothing_is_no_layer() {
    let host = Host::new().await;
    let overlay = Overlay::over(&[]);
    assert_eq!(host.store.commit_layer(&overlay.upper(), MIB).await.unwrap(), None);
    let _listening = std::os::unix::net::UnixListener::bind(overlay.root().join("socket")).unwrap();
    assert_eq!(host.store.commit_layer(&overlay.upper(), MIB).await.unwrap(), None, "a socket alone is nothing");
    assert_eq!((host.names("layers"), host.names("tmp")), (vec![], vec![]));
    fs::set_permissions(overlay.root(), fs::Permissions::from_mode(0o711)).unwrap();
    let layer = host.store.commit_layer(&overlay.upper(), MIB).await.unwrap().expect("the root's own mode is a change");
    let view = overlay.view(&[host.store.layer_dir(&layer.diff_id).unwrap()]);
    assert_eq!(fs::metadata(&view).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::read_dir(overlay.view(&[])).unwrap().count(), 0, "no layers are an empty root");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_layer_can_hold_is_refused() {
    let host = Host::new().await;
    let make = |node: FileType, device: u64| {
        move |root: &Path| rustix::fs::mknodat(rustix::fs::CWD, root.join("dev"), node, Mode::empty(), device).unwrap()
    };
    let deep = |root: &Path| {
        let mut here = root.to_owned();
        for _ in 0..300 {
            here.push("d");
            fs::create_dir(&here).unwrap();
        }
    };
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Make<'_>, ProblemCode); 8] = [
        ("whiteout", &|root| fs::write(root.join(".wh.etc"), "").unwrap(), ProblemCode::ImageInvalid),
        ("opaque", &|root| fs::write(root.join(".wh..wh..opq"), "").unwrap(), ProblemCode::ImageInvalid),
        ("directory", &|root| fs::create_dir_all(root.join("a/.wh.b")).unwrap(), ProblemCode::ImageInvalid),
        ("device", &make(FileType::CharacterDevice, 0x103), ProblemCode::ImageInvalid),
        ("block", &make(FileType::BlockDevice, 0x801), ProblemCode::ImageInvalid),
        ("large", &|root| fs::write(root.join("x"), vec![0; 2 << 20]).unwrap(), ProblemCode::ImageTooLarge),
        (
            "sparse",
            &|root| fs::File::create(root.join("x")).unwrap().set_len(1 << 40).unwrap(),
            ProblemCode::ImageTooLarge,
        ),
        ("deep", &deep, ProblemCode::ImageTooLarge),
    ];
    for (what, make, code) in cases {
        let upper = tempfile::tempdir().unwrap();
        fs::set_permissions(upper.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(upper.path().join("before"), "x").unwrap();
        make(upper.path());
        let problem = host.store.commit_layer(upper.path(), MIB).await.unwrap_err();
        assert_eq!(problem.code, code, "{what}: {}", problem.message);
    }
    let few = ImageConfig { limits: ImageLimits { entries: 9, ..ImageLimits::default() }, ..ImageConfig::default() };
    let few = Host::with(few).await;
    let upper = tempfile::tempdir().unwrap();
    (0..10).for_each(|number| fs::write(upper.path().join(number.to_string()), "").unwrap());
    let problem = few.store.commit_layer(upper.path(), MIB).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::ImageTooLarge);
    assert_eq!((host.names("layers"), host.names("tmp"), few.names("tmp")), (vec![], vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_waits_for_cleans_up() {
    let host = Host::new().await;
    let upper = tempfile::tempdir().unwrap();
    fs::File::create(upper.path().join("sparse")).unwrap().set_len(1 << 36).unwrap();
    let commit = host.store.commit_layer(upper.path(), 1 << 40);
    assert!(tokio::time::timeout(Duration::from_millis(300), commit).await.is_err(), "64 GiB take longer");
    host.store.shutdown().await;
    assert_eq!((host.names("layers"), host.names("tmp")), (vec![], vec![]));
}

/// A layer with one file.
async fn made(host: &Host, name: &str) -> StoredLayer {
    let upper = tempfile::tempdir().unwrap();
    fs::write(upper.path().join(name), vec![7; 100_000]).unwrap();
    let old = fs::File::options().write(true).open(upper.path().join(name)).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    host.store.commit_layer(upper.path(), MIB).await.unwrap().unwrap()
}

fn config(layers: &[StoredLayer]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = serde_json::json!({
        "architecture": images::host_architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_built_image_is_ready_and_stays() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let host = Host::new().await;
    let base = based(&host, &registry, &base_entries()).await;
    let config_of_base = serde_json::from_slice::<serde_json::Value>(&base.config_bytes).unwrap();
    assert_eq!(config_of_base["config"]["Cmd"][0], "/bin/true");
    let own = made(&host, "own").await;
    let layers = [base.stored.clone(), vec![own.clone()]].concat();
    let built = host.store.keep_built(config(&layers), &layers).await.unwrap();
    assert_eq!(built.size_bytes, layers.iter().map(|layer| layer.size_bytes).sum::<u64>());
    assert_eq!(host.store.report(&built.digest).unwrap().observation, ImageObservation::Ready);
    let image = host.store.ready(&built.digest).await.unwrap();
    assert_eq!((&image.stored, &image.config_bytes[..]), (&layers, &config(&layers)[..]));
    assert_eq!(host.store.keep_built(config(&layers), &layers).await.unwrap(), built, "twice is fine");
    let path = host.dir.path().join("images").join(&built.digest["sha256:".len()..]);
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(path.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["layers"][0]["digest"], base.stored[0].digest.as_str());
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar");

    assert_eq!(host.store.keep_built(config(&[]), &[]).await.unwrap_err().code, ProblemCode::ImageInvalid);
    let wrong = host.store.keep_built(config(&base.stored), std::slice::from_ref(&own)).await.unwrap_err();
    assert_eq!(wrong.code, ProblemCode::Internal, "a configuration of other layers");
    let gone = StoredLayer { diff_id: images::digest(b"gone"), ..own };
    assert!(host.store.keep_built(config(std::slice::from_ref(&gone)), &[gone]).await.is_err());

    assert_eq!(host.store.collect(0, 0).await, 0);
    host.store.shutdown().await;
    let store = common::open(host.dir.path(), ImageConfig::default()).await;
    assert_eq!(store.ready(&built.digest).await.unwrap().stored, layers, "the next start takes it up");
}

fn key(name: &str) -> String {
    images::digest(name.as_bytes())["sha256:".len()..].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_remembered_apart_and_survive_a_restart() {
    let host = Host::new().await;
    let step = CachedStep { layer: Some(made(&host, "a").await) };
    let empty = CachedStep { layer: None };
    host.store.cache_step("alice", &key("1"), &step).await.unwrap();
    host.store.cache_step("alice", &key("2"), &empty).await.unwrap();
    assert_eq!(host.store.cached_step("alice", &key("1")).await, Some(step.clone()));
    assert_eq!(host.store.cached_step("alice", &key("2")).await, Some(empty));
    assert_eq!(host.store.cached_step("bob", &key("1")).await, None, "another scope sees nothing");
    assert_eq!(host.store.cached_step("alice", &key("3")).await, None);
    let long = "a".repeat(65);
    for scope in ["", "..", "a/b", "../alice", "a b", &long, "a\0"] {
        assert_eq!(host.store.cached_step(scope, &key("1")).await, None, "{scope}");
        assert!(host.store.cache_step(scope, &key("1"), &step).await.is_err(), "{scope}");
    }
    for odd in ["", "..", "../../images/x", &key("1").to_uppercase(), &key("1")[1..]] {
        assert_eq!(host.store.cached_step("alice", odd).await, None, "{odd}");
        assert!(host.store.cache_step("alice", odd, &step).await.is_err(), "{odd}");
    }
    host.store.shutdown().await;
    let orphan = made(&Host::new().await, "b").await;
    let scope = host.dir.path().join("steps/alice");
    fs::write(scope.join(format!("{}.json", key("4"))), "{\"layer\": ").unwrap();
    fs::create_dir_all(host.dir.path().join("layers").join(&orphan.diff_id["sha256:".len()..])).unwrap();

    let store = common::open(host.dir.path(), ImageConfig::default()).await;
    assert_eq!(host.names("layers").len(), 1, "the step's layer stays, the orphan goes");
    assert_eq!(common::names(&scope).len(), 2, "half a record is none");
    assert_eq!(store.cached_step("alice", &key("1")).await, Some(step.clone()));
    fs::remove_dir_all(store.layer_dir(&step.layer.unwrap().diff_id).unwrap()).unwrap();
    assert_eq!(store.cached_step("alice", &key("1")).await, None, "without its layer a step is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_is_collected() {
    let host = Host::new().await;
    let (old, new, kept, loose) =
        (made(&host, "old").await, made(&host, "new").await, made(&host, "kept").await, made(&host, "loose").await);
    let layers = [kept.clone()];
    host.store.keep_built(config(&layers), &layers).await.unwrap();
    for (name, layer) in [("old", &old), ("new", &new), ("kept", &kept)] {
        host.store.cache_step("alice", &key(name), &CachedStep { layer: Some(layer.clone()) }).await.unwrap();
    }
    let age = |name: &str, hours: u64| {
        let path = host.dir.path().join("steps/alice").join(format!("{}.json", key(name)));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    ["old", "new", "kept"].into_iter().zip([3, 2, 4]).for_each(|(name, hours)| age(name, hours));
    let is_here = |layer: &StoredLayer| host.store.layer_dir(&layer.diff_id).is_some();

    let pin = host.store.pin();
    assert_eq!(host.store.collect(u64::MAX, u64::MAX).await, 0);
    assert!(is_here(&loose), "a build may have made it");
    let late = host.store.pin();
    drop(pin);
    assert_eq!(host.store.collect(u64::MAX, u64::MAX).await, loose.size_bytes, "the later build can't know it");
    drop(late);
    assert!(!is_here(&loose) && is_here(&old));

    // Its use makes the old one the younger.
    assert!(host.store.cached_step("alice", &key("old")).await.is_some());
    assert_eq!(host.store.collect(old.size_bytes, u64::MAX).await, new.size_bytes);
    assert!(is_here(&old) && !is_here(&new));
    assert_eq!(host.store.cached_step("alice", &key("new")).await, None);
    assert!(
        host.store.cached_step("alice", &key("kept")).await.is_some(),
        "an image's layer takes no room of the cache"
    );
    age("old", 3);
    assert_eq!(host.store.collect(u64::MAX, 2 * 3600).await, old.size_bytes);
    assert!(is_here(&kept), "an image needs it");
    assert_eq!(host.names("tmp"), [""; 0]);
    assert_eq!(host.store.collect(0, 0).await, 0);
    assert_eq!(host.names("steps"), [""; 0], "a scope goes with its last step");
}

/// Builds that share layers with each other and with images that arrive, while everything that nobody needs is removed again and
/// again: what an image, or a step that was just found, names is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_stays_while_the_rest_is_collected() {
    const BUILDS: usize = 60;
    const NAMES: usize = 7;
    let (host, registry) = (Host::new().await, Registry::start(Auth::Anonymous).await.unwrap());
    let over = AtomicBool::new(false);
    let collecting = async {
        let mut rounds = 0_u32;
        while !over.load(Ordering::Relaxed) {
            // Steps go at once, and with them each layer that no image has.
            host.store.collect(0, 0).await;
            rounds += 1;
        }
        rounds
    };
    let building = async |builder: usize| {
        let mut built = Vec::new();
        for round in 0..BUILDS {
            let pin = host.store.pin();
            let name = format!("shared{}", (round * 3 + builder) % NAMES);
            let found = host.store.cached_step("alice", &key(&name)).await.and_then(|step| step.layer);
            let layer = match found {
                Some(layer) => layer,
                None => made(&host, &name).await,
            };
            assert!(host.store.layer_dir(&layer.diff_id).is_some(), "a build holds what it has seen");
            host.store.cache_step("alice", &key(&name), &CachedStep { layer: Some(layer.clone()) }).await.unwrap();
            if round % 4 == builder {
                let own = made(&host, &format!("own{builder}.{round}")).await;
                let layers = [layer, own];
                built.push(host.store.keep_built(config(&layers), &layers).await.unwrap().digest);
            }
            drop(pin);
        }
        built
    };
    let arriving = async {
        let mut arrived = Vec::new();
        for number in 0..10 {
            let name = format!("app{number}");
            let shared = Layer::new(&[Entry::file("base", vec![1; 300_000])], Compression::Gzip);
            let own = Layer::new(&[Entry::file(&name, name.clone())], Compression::Gzip);
            registry.push(&name, "v1", &Builder::new(Format::Oci).layer(shared).layer(own).build()).await.unwrap();
            arrived.push(host.import(&registry, &name).await.unwrap().digest.clone());
        }
        arrived
    };
    let work = async {
        let (one, two, arrived) = tokio::join!(building(0), building(1), arriving);
        over.store(true, Ordering::Relaxed);
        [one, two, arrived].concat()
    };
    let (rounds, images) = tokio::join!(collecting, work);
    assert!(rounds > 10, "only {rounds} collections ran beside");
    assert_eq!(images.len(), 2 * BUILDS / 4 + 10);
    host.store.collect(0, 0).await;
    let mut needed = BTreeSet::new();
    for digest in &images {
        for layer in &host.store.ready(digest).await.unwrap().stored {
            let dir = host.store.layer_dir(&layer.diff_id).expect("an image's layer is there");
            assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
            needed.insert(layer.diff_id["sha256:".len()..].to_owned());
        }
    }
    assert_eq!(host.names("layers"), needed.into_iter().collect::<Vec<_>>(), "and nothing else");
    assert_eq!((host.names("tmp"), host.names("steps")), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_lies_takes_no_layer_of_a_build_with_it() {
    let host = Host::new().await;
    let layer = made(&host, "cached").await;
    host.store.cache_step("alice", &key("1"), &CachedStep { layer: Some(layer.clone()) }).await.unwrap();
    let good = Layer::new(&[Entry::file("a", "a")], Compression::Gzip).with_diff_id(&layer.diff_id);
    let bad = Layer::new(&[Entry::file("../b", "b")], Compression::Gzip);
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    registry.push("liar", "v1", &Builder::new(Format::Oci).layer(good).layer(bad).build()).await.unwrap();
    assert_eq!(host.import(&registry, "liar").await.unwrap_err().code, ProblemCode::ImageInvalid);
    host.store.shutdown().await;
    assert!(host.store.layer_dir(&layer.diff_id).is_some());
    assert_eq!(host.names("images"), [""; 0]);
}
