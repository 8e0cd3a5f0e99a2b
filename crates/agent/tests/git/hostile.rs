//! Repositories that mean harm: nothing of theirs runs, leads out, or pretends to be git's own.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::git::{Access, File};

use crate::forge::{Forge, Wish};

#[tokio::test]
async fn nothing_in_a_repository_runs_or_is_replaced() {
    let forge = Forge::start().await;
    let marker = forge.work().join("marker");
    let touch = format!("#!/bin/sh\ntouch {} /mnt/tree/marker /mnt/marker\n", marker.display());
    let files = [
        File::plain(
            ".gitattributes",
            "*.bin filter=lfs diff=lfs merge=lfs -text\n*.evil filter=evil\n*.txt text eol=crlf\n",
        ),
        File::plain(".gitconfig", "[filter \"evil\"]\n\tsmudge = touch marker\n\trequired = true\n"),
        File::plain(".lfsconfig", "[lfs]\n\turl = https://127.0.0.1:1/\n"),
        File::plain("a.evil", "evil"),
        File::lfs_pointer("big.bin", &"a".repeat(64), 12345),
        File::program("hooks/post-checkout", touch.as_str()),
        File::program(".githooks/post-checkout", touch.as_str()),
        File::plain(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = https://127.0.0.1:1/a/b.git\n"),
        File::submodule("sub", "0123456789abcdef0123456789abcdef01234567"),
        File::link("root", "/"),
        File::link("up", "../../.."),
        File::program("run.sh", "#!/bin/sh\n"),
    ];
    let repository = forge.repository(Access::Private);
    repository.commit("main", &files).unwrap();
    // The server's own hooks and settings stay with it.
    repository.git(&["config", "core.hooksPath", "/mnt/tree/.githooks"]).unwrap();
    let found = forge.files(&Wish { token: forge.token(), ..Wish::default() }).await;
    assert_eq!(found["a.evil"], "evil");
    assert!(found["big.bin"].starts_with("version https://git-lfs") && found["big.bin"].ends_with("size 12345\n"));
    assert_eq!(found["sub"], "dir");
    assert!(!found.keys().any(|name| name.starts_with("sub/")), "{found:?}");
    assert_eq!((found["root"].as_str(), found["up"].as_str()), ("-> /", "-> ../../.."));
    assert_eq!(found["run.sh"], "program #!/bin/sh\n");
    assert!(!marker.exists() && !found.contains_key("marker") && !forge.work().join("source/marker").exists());
    assert_eq!(forge.lines()[2], "Submodules are not fetched: their folders are empty");
    assert!(forge.server.seen().iter().all(|seen| seen.path.starts_with("/acme/app.git/")));
}

#[tokio::test]
async fn a_name_that_means_something_to_git_is_refused() {
    let forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    for (at, name) in
        [".git", ".GIT", "..", "git~1", ".g\u{200c}it", ".git ", ".git::$INDEX_ALLOCATION"].iter().enumerate()
    {
        let branch = format!("b{at}");
        repository.commit_unchecked(&branch, &[File::plain(name, "x"), File::plain("a", "a")]).unwrap();
        let wish = Wish { reference: Some(&branch), token: forge.token(), ..Wish::default() };
        let problem = forge.fetch(&wish).await.unwrap_err();
        assert_eq!(problem.code, BuildErrorCode::SourceInvalid, "{name:?}: {problem:?}");
        assert!(problem.message.contains("git refuses"), "{problem:?}");
    }
}

#[tokio::test]
async fn a_link_is_never_a_way_to_write() {
    let forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    // The same name as a link and as a folder, which a file system that ignores case would mix up.
    repository.commit("main", &[File::link("A", target), File::plain("a/b", "x"), File::link("ab", "a/b")]).unwrap();
    let found = forge.files(&Wish { token: forge.token(), ..Wish::default() }).await;
    assert_eq!((found["a/b"].as_str(), found["ab"].as_str()), ("x", "-> a/b"));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}
