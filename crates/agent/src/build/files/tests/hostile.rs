//! Hostile trees on both sides of a copy.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use super::*;

#[test]
fn hostile_sources_stay_in_their_tree() {
    let place = Place::new();
    let canary = place.outside();
    let canary = canary.to_str().expect("UTF-8");
    for (index, target) in [canary, "../outside/canary", "../../../../../etc/passwd", "/etc/passwd"].iter().enumerate()
    {
        symlink(target, place.from(&format!("l{index}"))).expect("a link");
    }
    symlink("..", place.from("up")).expect("a link");
    symlink("/proc/self/root", place.from("magic")).expect("a link");
    for source in ["l0", "l1", "l2", "l3", "l*", "up/outside/canary", "../outside/canary", "magic/etc/passwd"] {
        let found = place.gather(source);
        assert!(matches!(found, Err(FilesError::NotFound(_))), "{source}: {found:?}");
    }
    // The way to a folder inside a tree is a stranger's too.
    symlink(place.dir.path().join("outside"), place.from("folder")).expect("a link");
    let folder = Folder::inside(&place.from(""), "folder");
    assert!(matches!(find(&folder, "canary"), Err(FilesError::NotFound(_))));
    // Links inside are copied as they are.
    let upward = place.gather("up").expect("the root");
    assert!(upward.roots[0].is_dir() && upward.roots[0].at.is_empty());
    place.copy(&["."], "/x").expect("a copy");
    assert_eq!(fs::read_link(place.to("x/l0")).expect("a link"), Path::new(canary));
    place.assert_canary();
}

#[test]
fn hostile_destinations_stay_in_their_root() {
    for link in ["../outside", "../../../../../../tmp", "/proc/self/cwd", "ABSOLUTE"] {
        let place = Place::new();
        let outside = place.dir.path().join("outside");
        place.fill("from", &["canary=overwritten", "dir/canary=overwritten"]);
        let target = if link == "ABSOLUTE" { outside.clone() } else { PathBuf::from(link) };
        symlink(&target, place.to("l")).expect("a link");
        symlink(outside.join("canary"), place.to("canary")).expect("a link");
        for (sources, destination) in [
            (&["canary"][..], "/l/"),
            (&["dir"], "/l/canary2"),
            (&["canary"], "/../outside/canary"),
            (&["canary"], "/canary"),
            (&["dir"], "/"),
        ] {
            let _ = place.copy(sources, destination);
            place.assert_canary();
        }
        make_workdir(&place.to(""), "/l/../../outside/made", 1, 1, TIME_SECS).expect("a directory");
        place.assert_canary();
        // The link itself was replaced.
        assert_eq!(fs::read_to_string(place.to("canary")).expect("a file"), "overwritten");
        assert!(fs::symlink_metadata(place.to("canary")).expect("it is there").is_file());
    }
}

#[test]
fn a_hard_link_in_the_root_is_replaced_and_not_written_through() {
    let place = Place::new();
    place.fill("from", &["a=new", "one=1"]);
    fs::hard_link(place.from("one"), place.from("two")).expect("a link");
    fs::hard_link(place.outside(), place.to("a")).expect("a link");
    place.copy(&["a", "one", "two"], "/").expect("a copy");
    place.assert_canary();
    assert_eq!(place.tree(), ["a=new", "one=1", "two=1"]);
    assert_eq!(fs::metadata(place.to("one")).expect("it is there").nlink(), 1);
}

#[test]
fn nodes_that_are_no_files_are_never_opened() {
    let place = Place::new();
    place.fill("from", &["d/a=a"]);
    let node = |name, kind, device| {
        rustix::fs::mknodat(CWD, place.from(name), kind, Mode::from_raw_mode(0o600), device).expect("a node");
    };
    node("d/fifo", FileType::Fifo, 0);
    let _socket = UnixListener::bind(place.from("d/socket")).expect("a socket");
    place.copy(&["d"], "/x").expect("a copy");
    assert_eq!(place.tree(), ["x/", "x/a=a", "x/fifo|"]);
    // What is in the way is one: it is replaced, not opened.
    place.fill("from", &["fifo=content"]);
    place.copy(&["fifo"], "/x/").expect("a copy");
    assert_eq!(place.tree(), ["x/", "x/a=a", "x/fifo=content"]);

    // /dev/full: who opened it for reading would read for ever.
    node("d/device", FileType::CharacterDevice, rustix::fs::makedev(1, 7));
    for source in ["d", "d/device", "d/dev*", "d/socket"] {
        let found = place.gather(source);
        assert!(matches!(found, Err(FilesError::Special { .. })), "{source}: {found:?}");
    }
    let folder = Folder::all(&place.from(""));
    assert!(matches!(find(&folder, "d/fifo"), Err(FilesError::Special { kind: "FIFO", .. })));
    assert!(find(&folder, "d").expect("a directory").is_dir);
    assert!(!find(&folder, "/d/a").expect("a file").is_dir);
    assert!(matches!(find(&folder, "d/none"), Err(FilesError::NotFound(_))));
}

#[test]
fn any_name_that_linux_takes_is_copied() {
    let place = Place::new();
    let names: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", &[b'n'; 255], b"-rf *", b"..."];
    for name in names {
        fs::write(place.from("").join(OsStr::from_bytes(name)), name).expect("a file");
    }
    assert_eq!(place.copy(&["*"], "/x/").expect("a copy").entries, 5);
    place.copy(&["."], "/y").expect("a copy");
    for directory in ["x", "y"] {
        let found = fs::read_dir(place.to(directory)).expect("readable").map(|entry| entry.expect("an entry"));
        let mut found: Vec<_> = found.map(|entry| entry.file_name().into_vec()).collect();
        let mut expected: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
    let long = place.copy(&["new*"], &format!("/{}", "n".repeat(256))).expect_err("too long");
    assert!(matches!(long, FilesError::Unusable { .. }), "{long}");
}

#[test]
fn every_limit_holds() {
    let place = Place::new();
    place.fill("from", &["d/a=12345", "d/b=12345"]);
    let take = |source: &str, entries, bytes| {
        let mut allowance = Allowance::new(entries, bytes);
        gather(&Folder::all(&place.from("")), &wanted(source), &Nothing, &Nothing, &mut allowance)
    };
    take("d", 3, 10).expect("exactly that");
    for (entries, bytes, sentence) in
        [(2, 10, "More than 2 files would be copied at once."), (3, 9, "More than 9 bytes would be copied at once.")]
    {
        assert_eq!(take("d", entries, bytes).expect_err("too much").to_string(), sentence);
    }
    assert!(matches!(take("d/*", 1, 10), Err(FilesError::TooLarge { .. })));
    // An allowance is for all sources together; a hole counts as what it would fill.
    let mut allowance = Allowance::new(1, 100);
    let folder = Folder::all(&place.from(""));
    gather(&folder, &wanted("d/a"), &Nothing, &Nothing, &mut allowance).expect("one");
    gather(&folder, &wanted("d/b"), &Nothing, &Nothing, &mut allowance).expect_err("two");
    File::create(place.from("hole")).expect("a file").set_len(1 << 43).expect("a hole");
    assert!(matches!(take("hole", 1, 1 << 40), Err(FilesError::TooLarge { .. })));

    let deep = |depth: usize| vec!["d"; depth].join("/");
    fs::create_dir_all(place.from("deep").join(deep(256))).expect("directories");
    place.copy(&["deep"], "/x").expect("just deep enough");
    fs::create_dir_all(place.from("deep").join(deep(257))).expect("directories");
    let error = place.copy(&["deep"], "/x").expect_err("too deep");
    assert!(error.to_string().ends_with("lies too deep."), "{error}");
    for name in ["d/.wh.a", "d/.wh..wh..opq"] {
        fs::write(place.from(name), "").expect("a file");
        for source in ["d", name] {
            let found = place.gather(source);
            assert!(matches!(found, Err(FilesError::Whiteout(_))), "{source}: {found:?}");
        }
        fs::remove_file(place.from(name)).expect("gone");
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_found_out() {
    for changed in ["2", "12", ""] {
        let place = Place::new();
        place.fill("from", &["a=1"]);
        let gathered = place.gather("a").expect("it is there");
        fs::write(place.from("a"), changed).expect("a file");
        let error = super::super::place(&place.to(""), &[gathered], &to("/a")).expect_err("changed");
        assert!(matches!(error, FilesError::Changed(_)), "{error}");
    }
}

/// A directory of those that exist, a name, and what it is.
type Made = (usize, usize, usize);

fn grow(place: &Place, root: &str, made: &[Made]) {
    const NAMES: [&str; 4] = ["a", "b", "outside", "canary"];
    let outside = place.dir.path().join("outside");
    let canary = place.outside();
    let targets =
        ["..", ".", "/", "a", "b/a", "../../../outside", "/proc/self/root", "canary"].map(PathBuf::from).into_iter();
    let targets: Vec<PathBuf> = targets.chain([outside, canary]).collect();
    let mut directories = vec![place.dir.path().join(root)];
    for (directory, name, what) in made {
        let path = directories[directory % directories.len()].join(NAMES[name % NAMES.len()]);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match what % 16 {
            0..4 => {
                fs::create_dir(&path).expect("a directory");
                directories.push(path);
            }
            4..6 => fs::write(&path, format!("{what}")).expect("a file"),
            other => symlink(&targets[other - 6], &path).expect("a link"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_copy_is_what_was_copied_and_nothing_outside_changes(
        from in proptest::collection::vec(any::<Made>(), 0..24),
        before in proptest::collection::vec(any::<Made>(), 0..24),
        source in "[ab*]/?[ab*]?|canary|outside/?[ab*]?",
        way in "(/(a|b|outside|canary|\\.\\.)){1,4}/?",
    ) {
        let place = Place::new();
        grow(&place, "from", &from);
        let whole = place.gather(".").expect("a tree");
        super::super::place(&place.to(""), &[whole], &to("/")).expect("a copy");
        let back = gather(&Folder::all(&place.to("")), &wanted("."), &Nothing, &Nothing, &mut Allowance::new(1000, 1 << 20));
        prop_assert_eq!(back.expect("a tree").digest(true), place.gather(".").expect("a tree").digest(true));

        // Over whatever is there, it works or not; a link is never a way out.
        fs::remove_dir_all(place.to("")).expect("gone");
        fs::create_dir(place.to("")).expect("a directory");
        grow(&place, "to", &before);
        let _ = place.copy(&["."], &way);
        let _ = place.copy(&[&source], &way);
        let _ = place.copy(&["."], "/");
        let _ = make_workdir(&place.to(""), &way, 0, 0, 0);
        place.assert_canary();
    }
}
