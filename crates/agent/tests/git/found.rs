//! What is there is fetched: branches, tags, commits, folders.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::git::{Access, File};

use crate::forge::{Forge, Wish};

fn one(content: &str) -> Vec<File> {
    vec![File::plain("which", content)]
}

#[tokio::test]
async fn a_branch_a_tag_a_commit_or_the_default_branch() {
    let forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    let old = repository.commit("main", &one("old")).unwrap();
    let tagged = repository.commit("main", &one("tagged")).unwrap();
    repository.tag("v1", &tagged).unwrap();
    // A tag that a branch hides, and one whose object is not a commit.
    repository.tag("both", &tagged).unwrap();
    repository.commit("both", &one("both")).unwrap();
    repository.commit("feat/é+1", &one("feat")).unwrap();
    let tip = repository.commit("main", &one("tip")).unwrap();
    let upper = old.to_ascii_uppercase();
    for (reference, content, commit) in [
        (None, "tip", Some(&tip)),
        (Some("main"), "tip", Some(&tip)),
        (Some("refs/heads/main"), "tip", Some(&tip)),
        (Some("v1"), "tagged", Some(&tagged)),
        (Some("both"), "both", None),
        (Some("refs/tags/both"), "tagged", Some(&tagged)),
        (Some("feat/é+1"), "feat", None),
        (Some(old.as_str()), "old", Some(&old)),
        (Some(upper.as_str()), "old", Some(&old)),
    ] {
        let fetched = forge.fetch(&Wish { reference, token: forge.token(), ..Wish::default() }).await.unwrap();
        assert_eq!(std::fs::read_to_string(fetched.dir.join("which")).unwrap(), content, "{reference:?}");
        assert_eq!(std::fs::read_dir(&fetched.dir).unwrap().count(), 1, "no .git, nothing else");
        assert!(commit.is_none_or(|commit| *commit == fetched.commit), "{reference:?}");
        let around = std::fs::read_dir(forge.work().join("source")).unwrap();
        assert_eq!(around.count(), 1, "only the tree is left");
    }
    let lines = forge.lines();
    assert_eq!(lines[0], format!("Fetching acme/app from {}", forge.server.host()));
    assert_eq!(lines[1], format!("Fetched commit {tip}: 1 entries, 0.0 MiB"));
}

#[tokio::test]
async fn everyone_may_fetch_what_is_public_and_git_may_end_its_name() {
    let forge = Forge::start().await;
    forge.repository(Access::Public).commit("main", &one("public")).unwrap();
    for repository in ["acme/app", "acme/app.git"] {
        let files = forge.files(&Wish { repository: Some(repository), ..Wish::default() }).await;
        assert_eq!(files["which"], "public");
    }
    assert!(forge.server.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_folder_of_a_monorepo() {
    let forge = Forge::start().await;
    let files = [
        File::plain("apps/web/index.html", "web"),
        File::plain("README.md", "all"),
        File::link("www", "apps/web"),
        File::link("etc", "/etc"),
    ];
    let commit = forge.repository(Access::Private).commit("main", &files).unwrap();
    let wish = |path| Wish { path: Some(path), token: forge.token(), ..Wish::default() };
    for path in ["apps/web", "/apps/web/", "www", "../apps/web"] {
        let files = forge.files(&wish(path)).await;
        assert_eq!(files.into_iter().collect::<Vec<_>>(), [("index.html".to_owned(), "web".to_owned())], "{path}");
    }
    for path in ["apps/api", "README.md", "etc"] {
        let problem = forge.fetch(&wish(path)).await.unwrap_err();
        assert_eq!(problem.code, BuildErrorCode::SourceInvalid);
        assert_eq!(problem.message, format!("acme/app has no folder “{path}” at commit {commit}."));
    }
    assert_eq!(forge.fetch(&wish("a\nb")).await.unwrap_err().message, "The path is no name of a folder.");
}
