//! What can't be had is said in words that help.

use cakework_agent::git::GitConfig;
use cakework_core::build::BuildErrorCode;
use cakework_testkit::git::{Access, File, Trouble};
use cakework_wire::build::BuildProblem;

use crate::forge::{Forge, Wish};

async fn private() -> Forge {
    let forge = Forge::start().await;
    forge.repository(Access::Private).commit("main", &[File::plain("a", "a")]).unwrap();
    forge
}

fn assert_says(problem: &BuildProblem, code: BuildErrorCode, words: &str) {
    assert_eq!(problem.code, code, "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
}

#[tokio::test]
async fn a_bad_token_and_none() {
    let forge = private().await;
    let bad = Wish { token: Some("ghp_wrong".into()), ..Wish::default() };
    assert_says(&forge.fetch(&bad).await.unwrap_err(), BuildErrorCode::SourceUnauthorized, "refused the token");
    let none = forge.fetch(&Wish::default()).await.unwrap_err();
    assert_says(&none, BuildErrorCode::SourceUnauthorized, "shows no repository acme/app without a token");
    forge.server.trouble(Some(Trouble::Status(403)));
    let weak = Wish { token: forge.token(), ..Wish::default() };
    assert_says(&forge.fetch(&weak).await.unwrap_err(), BuildErrorCode::SourceUnauthorized, "does not let this token");
}

#[tokio::test]
async fn a_missing_repository() {
    let forge = private().await;
    let wish = Wish { repository: Some("acme/other"), token: forge.token(), ..Wish::default() };
    assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::SourceNotFound, "or it is private");
}

#[tokio::test]
async fn a_missing_branch_tag_or_commit() {
    let forge = private().await;
    let absent = "0123456789abcdef0123456789abcdef01234567";
    for (reference, words) in [
        ("nope", "has no branch or tag “nope”"),
        ("refs/heads/nope", "has no branch or tag “refs/heads/nope”"),
        ("0123456", "give all 40 digits"),
        (absent, "has no commit 0123456789abcdef"),
        ("--upload-pack=touch", "can't be the name of a branch"),
        ("a\nb", "can't be the name of a branch"),
    ] {
        let wish = Wish { reference: Some(reference), token: forge.token(), ..Wish::default() };
        assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::BranchNotFound, words);
    }
    forge.server.create("acme/empty", Access::Private).unwrap();
    let empty = Wish { repository: Some("acme/empty"), token: forge.token(), ..Wish::default() };
    assert_says(&forge.fetch(&empty).await.unwrap_err(), BuildErrorCode::BranchNotFound, "has no commit yet");
}

#[tokio::test]
async fn a_forge_that_sends_elsewhere_is_not_followed() {
    let (forge, other) = (private().await, private().await);
    forge.server.trouble(Some(Trouble::Redirect(other.server.base_url())));
    let problem = forge.fetch(&Wish { token: forge.token(), ..Wish::default() }).await.unwrap_err();
    assert_says(&problem, BuildErrorCode::SourceNotFound, "redirects are not followed");
    assert!(other.server.seen().is_empty());
    assert_eq!(forge.server.seen().len(), 1);
}

#[tokio::test]
async fn a_forge_that_is_ill_gone_or_not_the_one() {
    let mut forge = private().await;
    let wish = Wish { token: forge.token(), ..Wish::default() };
    forge.server.trouble(Some(Trouble::Status(503)));
    assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::SourceUnavailable, "Try again later");
    forge.server.trouble(Some(Trouble::CutAfter(200)));
    assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::SourceUnavailable, "broke off");
    forge.server.trouble(None);
    forge.config.ca_file = None;
    assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::SourceUnavailable, "is not trusted");
    forge.config.base_url = format!("https://127.0.0.1:{}", cakework_testkit::http::free_port().unwrap());
    assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::SourceUnavailable, "can't be reached");
}

#[tokio::test]
async fn a_host_that_is_not_set_up() {
    let mut forge = private().await;
    let wish = Wish { token: forge.token(), ..Wish::default() };
    let good = forge.config.clone();
    for (config, words) in [
        (GitConfig { git: "/nonexistent/git".into(), ..good.clone() }, "has no git"),
        (GitConfig { uid: 0, ..good.clone() }, "could not fetch"),
        (GitConfig { base_url: "ssh://forge".into(), ..good.clone() }, "is not configured"),
        (GitConfig { ca_file: Some("/nonexistent.pem".into()), ..good.clone() }, "could not fetch"),
    ] {
        forge.config = config;
        assert_says(&forge.fetch(&wish).await.unwrap_err(), BuildErrorCode::Internal, words);
    }
}
