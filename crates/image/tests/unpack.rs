//! The confined child unpacks what a layer means, by itself: real processes, real files.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cakework_image::unpack::Compression;
use cakework_testkit::images::{Entry, tar};
use cakework_wire::host::ProblemCode;
use common::{Given, Tar};
use tar::EntryType;

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let size = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(size);
    Some(value)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .entry("./", EntryType::Directory, |header| header.set_mode(0o711), b"")
        .entry("bin/", EntryType::Directory, |header| header.set_mode(0o2755), b"")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("mtime", b"1234567890.5"),
        ])
        .entry("bin/ping", EntryType::Regular, |header| header.set_mode(0o4755), b"ping")
        .entry(
            "home",
            EntryType::Regular,
            |header| {
                header.set_uid(1000);
                header.set_gid(1001);
                header.set_mode(0o600);
            },
            b"",
        )
        .entry("pipe", EntryType::Fifo, |_| {}, b"")
        .finish();
    let layer = Given::tar(tar).unpacked().unwrap();
    let root = layer.path();
    assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o711);
    let bin = fs::metadata(root.join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o2755, 1_000_000_000), "a directory's time is set last");
    let ping = fs::metadata(root.join("bin/ping")).unwrap();
    assert_eq!(ping.mode() & 0o7777, 0o4755, "setuid survives the change of owner");
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (1_234_567_890, 500_000_000));
    assert_eq!(ping.gid(), 0, "the owner is the archive's, not the setgid directory's");
    assert_eq!(xattr(&root.join("bin/ping"), "security.capability").as_deref(), Some(capability));
    assert_eq!(xattr(&root.join("bin/ping"), "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&root.join("bin/ping"), "user.overlay.opaque"), None);
    let home = fs::metadata(root.join("home")).unwrap();
    assert_eq!((home.uid(), home.gid(), home.mode() & 0o7777), (1000, 1001, 0o600));
    assert!(fs::metadata(root.join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn links_lead_where_the_image_means() {
    let layer = Given::entries(&[
        Entry::dir("usr/bin"),
        Entry::symlink("bin", "usr/bin"),
        Entry::symlink("abs", "/usr"),
        Entry::file("bin/sh", "shell"),
        Entry::file("abs/bin/tool", "tool"),
        Entry::Hardlink { path: "bin/bash".into(), target: "/bin/sh".into() },
        Entry::symlink("etc/localtime", "../../../../../usr/share/zoneinfo"),
        Entry::Hardlink { path: "second".into(), target: "etc/localtime".into() },
    ])
    .unpacked()
    .unwrap();
    let root = layer.path();
    assert_eq!(fs::read(root.join("usr/bin/sh")).unwrap(), b"shell");
    assert_eq!(fs::read(root.join("usr/bin/tool")).unwrap(), b"tool");
    let inode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("usr/bin/bash"), inode("usr/bin/sh"));
    assert_eq!(inode("second"), inode("etc/localtime"), "a hard link to a symbolic link is one");
    assert_eq!(fs::symlink_metadata(root.join("etc")).unwrap().mode() & 0o7777, 0o755, "a parent that was left out");
}

#[test]
fn whiteouts_become_what_overlayfs_reads() {
    let layer = Given::entries(&[
        Entry::file("etc/.wh.motd", ""),
        Entry::file("var/cache/.wh..wh..opq", ""),
        Entry::file("var/cache/new", "new"),
        Entry::file(".wh..wh.plnk", ""),
        Entry::dir("both"),
        Entry::file(".wh.both", ""),
        Entry::file(".wh.back", ""),
        Entry::file("back/x", "x"),
    ])
    .unpacked()
    .unwrap();
    let root = layer.path();
    let gone = fs::symlink_metadata(root.join("etc/motd")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["var/cache", "both", "back"] {
        assert_eq!(xattr(&root.join(opaque), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert_eq!(fs::read(root.join("back/x")).unwrap(), b"x");
    assert_eq!(common::names(root), ["back", "both", "etc", "var"]);
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let layer = Given::entries(&[
        Entry::file("a", "first"),
        Entry::file("a", "second"),
        Entry::file("d/deep/x", "x"),
        Entry::file("d", "a file now"),
        Entry::symlink("l", "a"),
        Entry::file("l", "no link"),
        Entry::symlink("m", "usr"),
        Entry::dir("m"),
        Entry::file("m/x", "x"),
    ])
    .unpacked()
    .unwrap();
    let read = |name: &str| fs::read_to_string(layer.path().join(name)).unwrap();
    assert_eq!(
        (read("a"), read("d"), read("l"), read("m/x")),
        ("second".into(), "a file now".into(), "no link".into(), "x".into())
    );
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let deep = format!("{}/file", vec!["directory"; 60].join("/"));
    let mut gnu = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    gnu.append_data(&mut header, &deep, &b"g"[..]).unwrap();
    let layer = Given::tar(gnu.into_inner().unwrap()).unpacked().unwrap();
    assert_eq!(fs::read(layer.path().join(&deep)).unwrap(), b"g");

    let layer =
        Given::tar(Tar::new().pax(&[("path", deep.as_bytes())]).file("short", b"p").finish()).unpacked().unwrap();
    assert_eq!(fs::read(layer.path().join(&deep)).unwrap(), b"p");

    let endless = "x/".repeat(3000);
    let refusal = Given::tar(Tar::new().pax(&[("path", endless.as_bytes())]).file("short", b"").finish()).refusal();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);
    let component = "y".repeat(256);
    let refusal = Given::tar(Tar::new().pax(&[("path", component.as_bytes())]).file("short", b"").finish()).refusal();
    assert_eq!(refusal.code, ProblemCode::ImageInvalid);
}

#[test]
fn a_sparse_file_keeps_its_holes() {
    let sparse = |real: u64| {
        let set = move |header: &mut tar::Header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.sparse[0].set_offset(1 << 20);
            gnu.sparse[0].set_length(3);
            gnu.set_real_size(real);
        };
        Given::tar(Tar::new().entry("holes", EntryType::GNUSparse, set, b"abc").finish())
    };
    let layer = sparse(2 << 20).unpacked().unwrap();
    let content = fs::read(layer.path().join("holes")).unwrap();
    assert_eq!((content.len(), &content[1 << 20..(1 << 20) + 3]), (2 << 20, &b"abc"[..]));
    assert!(content[..1 << 20].iter().all(|byte| *byte == 0));
    assert_eq!(sparse(1 << 40).refusal().code, ProblemCode::ImageTooLarge, "its size counts, not its bytes");
    assert_eq!(sparse(5).refusal().code, ProblemCode::ImageInvalid, "a piece behind its end");
}

#[test]
fn every_compression_is_inflated_in_one_or_several_parts() {
    let tar = tar(&[Entry::file("a", vec![7; 300_000])]);
    let (one, two) = tar.split_at(1000);
    let gzip = [gzip(one), gzip(two)].concat();
    let zstd = [zstd::encode_all(one, 3).unwrap(), zstd::encode_all(two, 3).unwrap()].concat();
    for (compression, bytes) in [(Compression::Gzip, gzip), (Compression::Zstd, zstd), (Compression::None, tar.clone())]
    {
        let whole = Given::tar(tar.clone()).compressed(compression, bytes.clone());
        assert!(whole.unpacked().is_ok(), "{compression:?}");
        let mut cut =
            Given::tar(tar.clone()).compressed(compression, bytes[..bytes.len() - 1200.min(bytes.len() / 2)].to_vec());
        if compression == Compression::None {
            cut.bytes.truncate(2000);
        }
        assert_eq!(cut.refusal().code, ProblemCode::ImageInvalid, "{compression:?}, cut");
        let more = Given::tar(tar.clone()).compressed(compression, [&bytes[..], b"more"].concat());
        assert_eq!(more.refusal().code, ProblemCode::ImageInvalid, "{compression:?}, with a tail");
        let mut unannounced = Given::tar(tar.clone()).compressed(compression, bytes.clone());
        unannounced.request.size_bytes = Some(bytes.len() as u64 - 1);
        assert_eq!(unannounced.refusal().code, ProblemCode::ImageInvalid, "{compression:?}, larger than declared");
        let mut lying = Given::tar(tar.clone()).compressed(compression, bytes.clone());
        lying.request.digest = Some("0".repeat(64));
        assert!(lying.refusal().message.contains("bytes"), "{compression:?}, another digest");
        let mut lying = Given::tar(tar.clone()).compressed(compression, bytes);
        lying.request.diff_id = Some("0".repeat(64));
        assert!(lying.refusal().message.contains("content"), "{compression:?}, another diff-id");
    }
}

#[test]
fn bombs_are_cut_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let header = Tar::new().entry("zeros", EntryType::Regular, |header| header.set_size(1 << 30), b"").finish();
    for bytes in std::iter::once(&header[..512]).chain(std::iter::repeat_n(&zeros[..], 9)) {
        encoder.write_all(bytes).unwrap();
        zstd.write_all(bytes).unwrap();
    }
    let bombs = [(Compression::Gzip, encoder.finish().unwrap()), (Compression::Zstd, zstd.finish().unwrap())];
    for (compression, bomb) in bombs {
        assert!(bomb.len() < 1 << 20);
        let given = Given::tar(Vec::new()).compressed(compression, bomb);
        assert_eq!(given.refusal().code, ProblemCode::ImageTooLarge, "{compression:?}, by what the header says");
    }
    // A bomb behind the archive's end, which no header announces.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..9).for_each(|_| encoder.write_all(&zeros).unwrap());
    let given = Given::tar(Vec::new()).compressed(Compression::Gzip, encoder.finish().unwrap());
    assert_eq!(given.refusal().code, ProblemCode::ImageTooLarge);
}

#[test]
fn entries_are_counted() {
    let entries: Vec<_> = (0..200).map(|number| Entry::file(&format!("f{number}"), "")).collect();
    let mut given = Given::entries(&entries);
    given.request.entries_max = 199;
    assert_eq!(given.refusal().code, ProblemCode::ImageTooLarge);
    given.request.entries_max = 200;
    assert!(given.unpacked().is_ok());
}
