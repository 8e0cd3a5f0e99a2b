//! Archives that are no layers, unpacked by the confined child: what works, what is refused, and what stays inside.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cakework_image::archive::{self, ArchiveKind, ArchiveLimits};
use cakework_image::{Unpacker, unpack::Compression};
use cakework_testkit::images::{Entry, tar};
use cakework_wire::host::{AgentProblem, ProblemCode};
use common::Tar;
use tar::EntryType;

const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 16 << 20, entries: 1000 };

/// A directory with a canary beside the one that is unpacked into.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cakework-archive-").tempdir().unwrap();
        fs::create_dir(dir.path().join("into")).unwrap();
        fs::write(dir.path().join("canary"), "alive").unwrap();
        Self(dir)
    }

    fn place(&self) -> PathBuf {
        self.0.path().join("into")
    }

    async fn extract(&self, bytes: &[u8], limits: ArchiveLimits) -> Result<(), AgentProblem> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let kind = archive::kind(&bytes[..bytes.len().min(512)]).expect("it looks like an archive");
        // Wherever the file stands: whoever looked at its head need not take care.
        file.seek(std::io::SeekFrom::Start(7)).unwrap();
        let unpacker = Unpacker { program: common::child(), args: Vec::new() };
        let result = archive::extract(&unpacker, file, kind, &self.place(), limits).await;
        assert_eq!(fs::read_to_string(self.0.path().join("canary")).unwrap(), "alive");
        assert_eq!(fs::metadata(self.0.path().join("canary")).unwrap().nlink(), 1);
        assert_eq!(common::names(self.0.path()), ["canary", "into"]);
        result
    }
}

async fn refusal(bytes: &[u8]) -> AgentProblem {
    Ground::new().extract(bytes, LIMITS).await.expect_err("refused")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// By the tool that everybody has.
fn xz(bytes: &[u8], args: &[&str]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let output = std::process::Command::new("xz").arg("-c").args(args).stdin(file).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn every_compression_is_inflated() {
    let plain = Tar::new()
        .entry("deep/er/tool", EntryType::Regular, |header| header.set_mode(0o4750), b"tool")
        .entry(
            "owned",
            EntryType::Regular,
            |header| {
                header.set_uid(1000);
                header.set_gid(1001);
            },
            &[7; 300_000],
        )
        .entry("dir/", EntryType::Directory, |header| header.set_mode(0o2775), b"")
        .finish();
    let (one, two) = plain.split_at(2000);
    let zstd = |bytes| zstd::encode_all(bytes, 3).unwrap();
    for (kind, bytes) in [
        (ArchiveKind::Tar, plain.clone()),
        (ArchiveKind::Gzip, [gzip(one), gzip(two)].concat()),
        (ArchiveKind::Zstd, [zstd(one), zstd(two)].concat()),
        (ArchiveKind::Bzip2, [bzip2(one), bzip2(two)].concat()),
        (ArchiveKind::Xz, [xz(one, &["-9e"]), xz(two, &["-1", "--check=sha256"])].concat()),
        (ArchiveKind::Xz, xz(&plain, &["--x86", "--lzma2=dict=1MiB", "--check=crc32"])),
    ] {
        assert_eq!(archive::kind(&bytes), Some(kind));
        let ground = Ground::new();
        ground.extract(&bytes, LIMITS).await.unwrap_or_else(|problem| panic!("{kind:?}: {}", problem.message));
        let stat = |name: &str| fs::metadata(ground.place().join(name)).unwrap();
        assert_eq!((stat("deep").mode() & 0o7777, stat("deep/er").mode() & 0o7777), (0o755, 0o755), "{kind:?}");
        assert_eq!((stat("deep/er/tool").mode() & 0o7777, stat("deep/er/tool").mtime()), (0o4750, 1_000_000_000));
        assert_eq!((stat("owned").uid(), stat("owned").gid(), stat("owned").len()), (1000, 1001, 300_000));
        assert_eq!((stat("dir").mode() & 0o7777, stat("dir").mtime()), (0o2775, 1_000_000_000));
        if kind != ArchiveKind::Tar {
            let cut = Ground::new().extract(&bytes[..bytes.len() / 2], LIMITS).await.unwrap_err();
            assert_ne!(cut.code, ProblemCode::Internal, "{kind:?}, cut: {}", cut.message);
        }
    }
}

#[tokio::test]
async fn what_is_compressed_but_no_archive_is_told_apart() {
    let text = b"no archive at all ".repeat(100);
    for bytes in [gzip(&text), bzip2(&text), xz(&text, &[]), zstd::encode_all(&text[..], 3).unwrap(), gzip(b"")] {
        let ground = Ground::new();
        assert_eq!(ground.extract(&bytes, LIMITS).await.unwrap_err().code, ProblemCode::Unknown);
        assert_eq!(common::names(&ground.place()), [""; 0]);
    }
    let mut broken = gzip(&tar(&[Entry::file("a", "x")]));
    broken[12] ^= 0xff;
    assert_eq!(refusal(&broken).await.code, ProblemCode::Unknown);
}

#[tokio::test]
async fn nothing_leads_out() {
    for name in ["../canary", "a/../../canary", "..", "a/.."] {
        let problem = refusal(&tar(&[Entry::dir("a"), Entry::file(name, "dead")])).await;
        assert_eq!(problem.code, ProblemCode::ImageInvalid, "{name}");
        assert!(problem.message.starts_with("The archive's entry"), "{}", problem.message);
    }
    for target in ["../canary", "/etc/passwd", "up/canary"] {
        let hard = Entry::Hardlink { path: "stolen".into(), target: target.into() };
        let problem = refusal(&tar(&[Entry::symlink("up", ".."), hard])).await;
        assert_eq!(problem.code, ProblemCode::ImageInvalid, "{target}");
    }
    let ground = Ground::new();
    let outside = ground.0.path().to_str().unwrap().to_owned();
    let leading_out = tar(&[Entry::symlink("out", &outside), Entry::file("out/canary", "dead")]);
    assert_eq!(ground.extract(&leading_out, LIMITS).await.unwrap_err().code, ProblemCode::ImageInvalid);
    let ground = Ground::new();
    let entries = [
        Entry::symlink("up", "../../.."),
        Entry::file("up/canary", "inside"),
        Entry::file("/abs/x", "inside"),
        Entry::symlink("last", "../canary"),
        Entry::file("last", "in the link's place"),
    ];
    ground.extract(&tar(&entries), LIMITS).await.unwrap();
    assert_eq!(common::names(&ground.place()), ["abs", "canary", "last", "up"]);
}

#[tokio::test]
async fn whiteouts_and_devices_are_refused() {
    for name in [".wh.x", "a/.wh.x", ".wh..wh..opq", ".wh.a/b", "/.wh..wh.plnk"] {
        let problem = refusal(&tar(&[Entry::file(name, "")])).await;
        assert_eq!(problem.code, ProblemCode::ImageInvalid, "{name}");
        assert!(problem.message.contains(".wh."), "{}", problem.message);
    }
    for path in ["mem", "dev/mem"] {
        let device = Entry::CharDevice { path: path.into(), major: 1, minor: 1 };
        assert_eq!(refusal(&tar(&[device])).await.code, ProblemCode::ImageInvalid, "{path}");
    }
    let zero = Entry::CharDevice { path: "whiteout".into(), major: 0, minor: 0 };
    assert_eq!(refusal(&tar(&[zero])).await.code, ProblemCode::ImageInvalid);
}

#[tokio::test]
async fn bombs_are_cut_at_the_limit() {
    let zeros = vec![0; LIMITS.bytes as usize + 1];
    let header = Tar::new().entry("zeros", EntryType::Regular, |header| header.set_size(1 << 30), b"").finish();
    let announced = [&header[..512], &zeros].concat();
    let honest = Tar::new().file("small", b"x").finish();
    for bomb in [gzip(&announced), bzip2(&announced), xz(&announced, &[]), zstd::encode_all(&announced[..], 3).unwrap()]
    {
        assert!(bomb.len() < 1 << 20);
        assert_eq!(refusal(&bomb).await.code, ProblemCode::ImageTooLarge);
    }
    // A name that goes on and on.
    let long = Tar::new().entry("x", EntryType::XHeader, |header| header.set_size(1 << 30), b"").finish();
    let long = gzip(&[&long[..512], &zeros].concat());
    assert_eq!(refusal(&long).await.code, ProblemCode::ImageTooLarge);
    // What follows the end is not even read.
    Ground::new().extract(&gzip(&[&honest[..], &zeros, &zeros].concat()), LIMITS).await.unwrap();
    let many: Vec<_> = (0..20).map(|number| Entry::file(&format!("f{number}"), "")).collect();
    let few = ArchiveLimits { entries: 19, ..LIMITS };
    let problem = Ground::new().extract(&tar(&many), few).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::ImageTooLarge);
    let tight = ArchiveLimits { bytes: 20 << 10, ..LIMITS };
    let problem = Ground::new().extract(&tar(&[Entry::file("a", vec![1; 30 << 10])]), tight).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::ImageTooLarge, "before inflating too");
}

#[tokio::test]
async fn a_dictionary_that_takes_all_memory_is_refused() {
    let bytes = xz(&tar(&[Entry::file("a", "x")]), &["--lzma2=dict=1GiB"]);
    let problem = refusal(&bytes).await;
    assert_ne!(problem.code, ProblemCode::Internal, "{}", problem.message);
}

#[test]
fn layers_know_their_kinds() {
    let kinds = [Compression::None, Compression::Gzip, Compression::Zstd].map(ArchiveKind::from);
    assert_eq!(kinds, [ArchiveKind::Tar, ArchiveKind::Gzip, ArchiveKind::Zstd]);
}
