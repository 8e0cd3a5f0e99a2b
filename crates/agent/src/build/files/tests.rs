//! COPY's meaning. The tests need root: they set owners and capabilities, and mount.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use xattr::FileExt as _;

use super::gather::Filter;
use super::place::Placed;
use super::wanted::Component;
use super::*;

mod hostile;

const TIME_SECS: i64 = 1_700_000_000;

/// A tree to copy from, a root to copy to, and beside them what must never change.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "tests of COPY set owners: run them as root");
        let place = Self { dir: tempfile::tempdir().expect("a directory") };
        for name in ["from", "to", "outside"] {
            fs::create_dir(place.dir.path().join(name)).expect("a directory");
        }
        fs::write(place.outside(), "alive").expect("a canary");
        place
    }

    fn from(&self, path: &str) -> PathBuf {
        self.dir.path().join("from").join(path)
    }

    fn to(&self, path: &str) -> PathBuf {
        self.dir.path().join("to").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside/canary")
    }

    /// Files (`name=content`), directories (`name/`) and links (`name->target`).
    fn fill(&self, root: &str, entries: &[&str]) {
        for entry in entries {
            let path = |name: &str| self.dir.path().join(root).join(name);
            let with_parent = |name: &str| {
                fs::create_dir_all(path(name).parent().expect("a parent")).expect("a directory");
                path(name)
            };
            if let Some((name, target)) = entry.split_once("->") {
                symlink(target, with_parent(name)).expect("a link");
            } else if let Some((name, content)) = entry.split_once('=') {
                fs::write(with_parent(name), content).expect("a file");
            } else {
                fs::create_dir_all(path(entry)).expect("a directory");
            }
        }
    }

    fn gather(&self, source: &str) -> Result<Gathered, FilesError> {
        self.gather_without(source, &Nothing, &Nothing)
    }

    fn gather_without(
        &self,
        source: &str,
        ignored: &dyn Filter,
        excluded: &dyn Filter,
    ) -> Result<Gathered, FilesError> {
        let mut allowance = Allowance::new(1000, 1 << 20);
        gather(&Folder::all(&self.from("")), &wanted(source), ignored, excluded, &mut allowance)
    }

    fn copy(&self, sources: &[&str], destination: &str) -> Result<Placed, FilesError> {
        let sources: Vec<_> = sources.iter().map(|source| self.gather(source)).collect::<Result<_, _>>()?;
        place(&self.to(""), &sources, &to(destination))
    }

    /// All of the root: files with content, directories, links, sorted.
    fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        listed(&self.to(""), "", &mut found);
        found.sort();
        found
    }

    fn assert_canary(&self) {
        assert_eq!(fs::read_to_string(self.outside()).expect("it is there"), "alive");
        let names = |path: &Path| {
            let entries = fs::read_dir(path).expect("readable").map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            names
        };
        assert_eq!(names(self.dir.path()), ["from", "outside", "to"]);
        assert_eq!(names(&self.dir.path().join("outside")), ["canary"]);
    }
}

fn listed(directory: &Path, path: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let entry = entry.expect("an entry");
        let path = format!("{path}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            found.push(format!("{path}/"));
            listed(&entry.path(), &format!("{path}/"), found);
        } else if kind.is_symlink() {
            found.push(format!("{path}->{}", fs::read_link(entry.path()).expect("a link").display()));
        } else if kind.is_fifo() {
            found.push(format!("{path}|"));
        } else {
            found.push(format!("{path}={}", fs::read_to_string(entry.path()).expect("UTF-8")));
        }
    }
}

/// Stands in for the patterns of the Dockerfile's crate: one `*` a component.
fn wanted(source: &str) -> Wanted {
    let component = |text: &str| match text.split_once('*') {
        None => Component::Name(text.to_owned()),
        Some((start, end)) => {
            let (start, end) = (start.to_owned(), end.to_owned());
            Component::Matching(Box::new(move |name| {
                name.len() >= start.len() + end.len() && name.starts_with(&start) && name.ends_with(&end)
            }))
        }
    };
    Wanted::new(source, source.split('/').filter(|name| !matches!(*name, "" | ".")).map(component).collect())
}

fn to(destination: &str) -> Placement<'_> {
    Placement {
        destination,
        is_dir: destination.ends_with('/'),
        owner: Owner::Set { uid: 0, gid: 0 },
        mode: None,
        mtime_secs: Some(TIME_SECS),
    }
}

/// Leaves out these paths and all below them, but for the exceptions.
struct Without(&'static [&'static str], &'static [&'static str]);

fn is_below(path: &str, above: &str) -> bool {
    path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

impl Filter for Without {
    fn excludes(&self, path: &str) -> bool {
        self.0.iter().any(|out| is_below(path, out)) && !self.1.iter().any(|kept| is_below(path, kept))
    }

    fn prunes(&self, directory: &str) -> bool {
        self.excludes(directory) && !self.1.iter().any(|kept| is_below(kept, directory))
    }
}

/// Sources, destination, what is in the root before, and after.
type Case = (&'static [&'static str], &'static str, &'static [&'static str], &'static [&'static str]);

#[test]
fn copy_means_what_docker_documents() {
    let from = ["a.txt=a", "b.txt=b", "dir/c=c", "dir/sub/d=d", "dir/link->c", "name->dir", "file->a.txt", "e/"];
    #[rustfmt::skip]
    let cases: &[Case] = &[
        // A file as that name, into a directory that is there, and into one that is made.
        (&["a.txt"], "/x", &[], &["x=a"]),
        (&["a.txt"], "/p/q/x", &[], &["p/", "p/q/", "p/q/x=a"]),
        (&["a.txt"], "/x", &["x/"], &["x/", "x/a.txt=a"]),
        (&["a.txt"], "/x/", &[], &["x/", "x/a.txt=a"]),
        (&["a.txt"], "/", &[], &["a.txt=a"]),
        (&["a.txt"], "/x", &["x=old"], &["x=a"]),
        // A directory gives its content, with or without a slash.
        (&["dir"], "/x", &[], &["x/", "x/c=c", "x/link->c", "x/sub/", "x/sub/d=d"]),
        (&["dir/"], "/x/", &["x/keep=k", "x/sub/e=e"], &["x/", "x/c=c", "x/keep=k", "x/link->c", "x/sub/", "x/sub/d=d", "x/sub/e=e"]),
        (&["e"], "/x", &[], &["x/"]),
        // Several sources, also by a pattern.
        (&["a.txt", "b.txt"], "/x/", &[], &["x/", "x/a.txt=a", "x/b.txt=b"]),
        (&["*.txt"], "/x", &[], &["x/", "x/a.txt=a", "x/b.txt=b"]),
        (&["*.txt", "no*"], "/x/", &[], &["x/", "x/a.txt=a", "x/b.txt=b"]),
        (&["dir/*"], "/x/", &[], &["x/", "x/c=c", "x/d=d", "x/link=c"]),
        (&["*/c"], "/x", &[], &["x=c"]),
        (&["d*/sub/*"], "/x", &[], &["x=d"]),
        // The source itself is followed, and keeps the name by which it was meant.
        (&["name"], "/x", &[], &["x/", "x/c=c", "x/link->c", "x/sub/", "x/sub/d=d"]),
        (&["name/sub/d"], "/x/", &[], &["x/", "x/d=d"]),
        (&["file"], "/x/", &[], &["x/", "x/file=a"]),
        (&["fi*"], "/x/", &[], &["x/", "x/file=a"]),
        // The way to the destination is followed, also where it leads nowhere yet; the last link is replaced.
        (&["a.txt"], "/l/x", &["real/", "l->/real"], &["l->/real", "real/", "real/x=a"]),
        (&["a.txt"], "/l", &["real/", "l->real"], &["l->real", "real/", "real/a.txt=a"]),
        (&["a.txt"], "/l/x", &["l->run/here"], &["l->run/here", "run/", "run/here/", "run/here/x=a"]),
        (&["a.txt"], "/l", &["l->other", "other=o"], &["l=a", "other=o"]),
        (&["dir"], "/", &["sub/", "link=old"], &["c=c", "link->c", "sub/", "sub/d=d"]),
    ];
    for (sources, destination, before, after) in cases {
        let place = Place::new();
        place.fill("from", &from);
        place.fill("to", before);
        place.copy(sources, destination).unwrap_or_else(|error| panic!("{sources:?} {destination}: {error}"));
        assert_eq!(place.tree(), *after, "COPY {sources:?} {destination} over {before:?}");
    }
}

#[test]
fn what_is_in_the_way_is_an_error() {
    let cases = [
        (&["dir"][..], "/x", "x=file", "“/x” is not a directory."),
        (&["dir"], "/", "sub=file", "“/sub” is not a directory."),
        (&["dir"], "/", "sub->/etc", "“/sub” is not a directory."),
        (&["dir"], "/", "c/", "“/c” is a directory, and a file can't replace it."),
        (&["a"], "/x/", "x=file", "“/x/” is not a directory."),
        (&["a"], "/x/y", "x=file", "“/x/y” is not a directory."),
        (&["a"], "/l/y", "l->l", "“/l/y” leads through links in a circle."),
        (&["none"], "/x", "y/", "“none” is not there, or is left out by .dockerignore."),
        (&["a/b"], "/x", "y/", "“a/b” is not there, or is left out by .dockerignore."),
        (&["gone"], "/x", "y/", "“gone” is not there, or is left out by .dockerignore."),
        (&["n*e", "no/*"], "/x/", "y/", "No file matches “n*e no/*”."),
        (&["a"], "/.wh.x", "y/", "The name “/.wh.x” begins with .wh., which means a removed file in a layer."),
        (&["a"], "/.wh.x/y", "y/", "The name “/.wh.x/y” begins with .wh., which means a removed file in a layer."),
        (&["self"], "/x", "y/", "“self” leads through links in a circle."),
    ];
    for (sources, destination, before, sentence) in cases {
        let place = Place::new();
        place.fill("from", &["a=a", "dir/c=c", "dir/sub/d=d", "gone->nowhere", "self->self"]);
        place.fill("to", &[before]);
        let error = place.copy(sources, destination).expect_err(sentence);
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
fn modes_owners_times_and_attributes_are_kept_or_set() {
    let place = Place::new();
    place.fill("from", &["dir/tool=t", "dir/sub/", "dir/link->tool"]);
    place.fill("to", &["old/sub/"]);
    let (tool, sub) = (place.from("dir/tool"), place.from("dir/sub"));
    std::os::unix::fs::chown(&tool, Some(7), Some(8)).expect("an owner");
    std::os::unix::fs::lchown(place.from("dir/link"), Some(5), Some(6)).expect("an owner");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4750)).expect("a mode");
    fs::set_permissions(&sub, fs::Permissions::from_mode(0o1711)).expect("a mode");
    let file = File::options().write(true).open(&tool).expect("a file");
    file.set_xattr("user.note", b"n").expect("an attribute");
    // VFS_CAP_REVISION_2 with cap_net_bind_service.
    let mut capability = [0; 20];
    capability[3] = 2;
    capability[5] = 4;
    file.set_xattr("security.capability", &capability).expect("an attribute");
    file.set_xattr("trusted.overlay.opaque", b"y").expect("an attribute");
    let when = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 999);
    file.set_modified(when).expect("a time");
    let old_root = fs::metadata(place.to("old")).expect("it is there");

    let sources = [place.gather("dir").expect("it is there")];
    let kept = Placement { owner: Owner::Kept, mtime_secs: None, ..to("/old") };
    super::place(&place.to(""), &sources, &kept).expect("a copy");
    let found = fs::metadata(place.to("old/tool")).expect("it is there");
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o4750, 7, 8));
    assert_eq!((found.mtime(), found.mtime_nsec()), (1_600_000_000, 0));
    let link = fs::symlink_metadata(place.to("old/link")).expect("it is there");
    assert_eq!((link.uid(), link.gid()), (5, 6));
    assert_eq!(fs::metadata(place.to("old/sub")).expect("it is there").mode() & 0o7777, 0o1711);
    let copied = File::open(place.to("old/tool")).expect("a file");
    assert_eq!(copied.get_xattr("user.note").expect("readable"), Some(b"n".to_vec()));
    assert_eq!(copied.get_xattr("security.capability").expect("readable"), Some(capability.to_vec()));
    assert_eq!(copied.get_xattr("trusted.overlay.opaque").expect("readable"), None);
    let root = fs::metadata(place.to("old")).expect("it is there");
    assert_eq!(
        (root.mode(), root.mtime(), root.mtime_nsec()),
        (old_root.mode(), old_root.mtime(), old_root.mtime_nsec())
    );

    let set = Placement { owner: Owner::Set { uid: 3, gid: 4 }, mode: Some(0o640), ..to("/new/deep/") };
    super::place(&place.to(""), &sources, &set).expect("a copy");
    let facts = |path: &str| {
        let found = fs::symlink_metadata(place.to(path)).expect("it is there");
        (found.mode() & 0o7777, found.uid(), found.gid(), found.mtime())
    };
    assert_eq!(facts("new"), (0o755, 3, 4, TIME_SECS));
    for name in ["new/deep", "new/deep/tool", "new/deep/sub"] {
        assert_eq!(facts(name), (0o640, 3, 4, TIME_SECS), "{name}");
    }
    assert_eq!(facts("new/deep/link"), (0o777, 3, 4, TIME_SECS));
}

#[test]
fn the_digest_changes_with_all_that_is_copied_and_not_with_times() {
    let place = Place::new();
    place.fill("from", &["dir/a=1", "dir/l->a", "dir/s/"]);
    let digest = |keeps_owners| place.gather("dir").expect("it is there").digest(keeps_owners);
    let (mut seen, without) = (vec![digest(true)], digest(false));
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    File::options().write(true).open(place.from("dir/a")).expect("a file").set_modified(later).expect("a time");
    assert_eq!(digest(true), seen[0]);

    std::os::unix::fs::chown(place.from("dir/a"), Some(9), None).expect("an owner");
    assert_eq!(digest(false), without);
    seen.push(digest(true));
    let mode = |mode| fs::set_permissions(place.from("dir/a"), fs::Permissions::from_mode(mode)).expect("a mode");
    let changes: [&dyn Fn(); 6] = [
        &|| mode(0o600),
        &|| fs::write(place.from("dir/a"), "2").expect("a file"),
        &|| fs::rename(place.from("dir/s"), place.from("dir/t")).expect("a name"),
        &|| {
            fs::remove_file(place.from("dir/l")).expect("gone");
            symlink("b", place.from("dir/l")).expect("a link");
        },
        &|| File::open(place.from("dir/a")).expect("a file").set_xattr("user.x", b"1").expect("an attribute"),
        &|| fs::write(place.from("dir/new"), "").expect("a file"),
    ];
    for change in changes {
        change();
        seen.push(digest(true));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn what_is_left_out_is_not_copied_and_exceptions_are() {
    let place = Place::new();
    place.fill(
        "from",
        &["a=a", "out/x=x", "out/deep/kept=k", "out/deep/not=n", "out/empty/", "link->out/x", ".wh.no=w"],
    );
    let ignored = Without(&["out", ".wh.no"], &["out/deep/kept"]);
    let all = place.gather_without(".", &ignored, &Nothing).expect("a tree");
    super::place(&place.to(""), &[all], &to("/")).expect("a copy");
    assert_eq!(place.tree(), ["a=a", "link->out/x", "out/", "out/deep/", "out/deep/kept=k"]);
    // A link to what is left out leads nowhere, as it does in BuildKit's context.
    for source in ["out/x", "link", "out/empty"] {
        let found = place.gather_without(source, &ignored, &Nothing);
        assert!(matches!(found, Err(FilesError::NotFound(_))), "{source}: {found:?}");
    }

    let excluded = place.gather_without("out", &Nothing, &Without(&["deep"], &[])).expect("a tree");
    super::place(&place.to(""), &[excluded], &to("/second")).expect("a copy");
    assert_eq!(place.tree()[5..], ["second/", "second/empty/", "second/x=x"]);
    assert!(
        place
            .gather_without("*", &Without(&["out", ".wh.no", "link"], &[]), &Without(&["a"], &[]))
            .expect("fine")
            .is_empty()
    );
}

#[test]
fn a_heredoc_is_a_file_like_others() {
    let place = Place::new();
    place.fill("from", &["a=a"]);
    let inline = Gathered::inline("EOF", "text\n");
    assert_ne!(inline.digest(false), Gathered::inline("EOF", "other\n").digest(false));
    let placement = Placement { owner: Owner::Set { uid: 1, gid: 2 }, mode: Some(0o700), ..to("/etc/app.conf") };
    super::place(&place.to(""), &[inline], &placement).expect("a copy");
    let found = fs::metadata(place.to("etc/app.conf")).expect("it is there");
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid(), found.mtime()), (0o700, 1, 2, TIME_SECS));
    let both = [Gathered::inline("one", "1"), place.gather("a").expect("it is there")];
    super::place(&place.to(""), &both, &to("/x/")).expect("a copy");
    assert_eq!(place.tree(), ["etc/", "etc/app.conf=text\n", "x/", "x/a=a", "x/one=1"]);
    assert_eq!(fs::metadata(place.to("x/one")).expect("it is there").mode() & 0o7777, 0o644);
    for name in ["../up", "a/b", "..", ""] {
        let error = super::place(&place.to(""), &[Gathered::inline(name, "x")], &to("/x/")).expect_err(name);
        assert!(matches!(error, FilesError::Unusable { .. }), "{error}");
    }
}

#[test]
fn a_working_directory_is_made_and_one_that_is_there_stays() {
    let place = Place::new();
    place.fill("to", &["srv/", "l->/srv/real", "file=f"]);
    make_workdir(&place.to(""), "/srv/a/b", 5, 6, TIME_SECS).expect("directories");
    make_workdir(&place.to(""), "/l/c", 7, 7, TIME_SECS).expect("directories");
    make_workdir(&place.to(""), "/srv/a", 9, 9, 0).expect("it is there");
    make_workdir(&place.to(""), "/", 9, 9, 0).expect("it is there");
    let facts = |path: &str| {
        let found = fs::metadata(place.to(path)).expect("it is there");
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    assert_eq!((facts("srv/a"), facts("srv/a/b")), ((0o755, 5, 6), (0o755, 5, 6)));
    assert_eq!((facts("srv").1, facts("srv/real/c").1), (0, 7));
    assert_eq!(fs::metadata(place.to("srv/a")).expect("it is there").mtime(), TIME_SECS);
    let error = make_workdir(&place.to(""), "/file/x", 0, 0, 0).expect_err("a file");
    assert!(matches!(error, FilesError::NotADirectory(_)), "{error}");
}

/// Undoes a test's mount, whatever becomes of the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn an_overlay_gets_what_is_copied_and_its_directories_keep_their_times() {
    let place = Place::new();
    place.fill("outside", &["lower/app/old=o", "lower/app/sub/keep=k"]);
    let lower = place.dir.path().join("outside/lower");
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_500_000_000, 5);
    for name in ["app/sub", "app", ""] {
        File::open(lower.join(name)).expect("a directory").set_modified(then).expect("a time");
    }
    let disk = place.dir.path().join("outside/disk");
    cakework_image::rootfs::mount_overlay(std::slice::from_ref(&lower), &disk, &place.to("")).expect("an overlay");
    let _mounted = Mounted(place.to(""));
    let time = |path: &Path| fs::metadata(path).map(|found| (found.mtime(), found.mtime_nsec())).expect("it is there");
    let root_time = time(&disk.join("upper"));
    place.fill("from", &["dir/old=new", "dir/sub/more=m"]);
    place.copy(&["dir"], "/app").expect("a copy");
    place.copy(&["dir/old"], "/made/here").expect("a copy");

    let upper = disk.join("upper");
    let mut found = Vec::new();
    listed(&upper, "", &mut found);
    found.sort();
    assert_eq!(found, ["app/", "app/old=new", "app/sub/", "app/sub/more=m", "made/", "made/here=new"]);
    assert_eq!(time(&upper), root_time);
    assert_eq!(time(&upper.join("app")), (1_500_000_000, 5));
    // It was a source's: it has the time of the copy.
    assert_eq!(time(&upper.join("app/sub")), (TIME_SECS, 0));
    assert_eq!(time(&upper.join("made")), (TIME_SECS, 0));
    assert_eq!(fs::read_to_string(lower.join("app/old")).expect("it is there"), "o");
}
