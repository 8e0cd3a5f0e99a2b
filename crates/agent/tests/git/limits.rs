//! A fetch has its bounds: bytes, files, time, and its caller's life.

use std::time::{Duration, Instant};

use cakework_core::build::BuildErrorCode;
use cakework_testkit::git::{Access, File, Trouble};
use rand::Rng as _;

use crate::forge::{Forge, Wish};

/// Bytes that no compression makes fewer.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn too_many_bytes_on_the_way_in_one_file_or_in_all() {
    let mut forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    let wish = |reference| Wish {
        reference: Some(reference),
        token: forge.server.token().to_owned().into(),
        ..Wish::default()
    };
    repository.commit("pack", &[File::plain("a", noise(200_000))]).unwrap();
    repository.commit("file", &[File::plain("a", vec![b'x'; 200_000])]).unwrap();
    let many: Vec<_> = (0..40).map(|at| File::plain(&format!("f{at}"), vec![b'x'; 5000])).collect();
    repository.commit("all", &many).unwrap();
    let (pack, file, all) = (wish("pack"), wish("file"), wish("all"));
    forge.config.max_bytes = 100_000;
    for wish in [&pack, &file, &all] {
        let problem = forge.fetch(wish).await.unwrap_err();
        assert_eq!(problem.code, BuildErrorCode::SourceTooLarge, "{:?}: {problem:?}", wish.reference);
        assert!(problem.message.contains("100000 bytes"), "{problem:?}");
    }
    forge.config.max_bytes = 300_000;
    for wish in [&pack, &file, &all] {
        forge.fetch(wish).await.unwrap();
    }
}

#[tokio::test]
async fn too_many_files() {
    let mut forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    let many: Vec<_> = (0..50).map(|at| File::plain(&format!("d{at}/f"), "x")).collect();
    repository.commit("main", &many).unwrap();
    // Ten to the power of nine files, out of ten objects.
    repository.commit_unfolding("bomb", 10, 9).unwrap();
    let deep = format!("{}f", "d/".repeat(200));
    repository.commit("deep", &[File::plain(&deep, "x")]).unwrap();
    let wish = |reference| Wish {
        reference: Some(reference),
        token: forge.server.token().to_owned().into(),
        ..Wish::default()
    };
    let (main, bomb, deep) = (wish("main"), wish("bomb"), wish("deep"));
    forge.config.max_files = 100;
    forge.fetch(&main).await.unwrap();
    forge.config.max_files = 99;
    for wish in [&main, &bomb, &deep] {
        let problem = forge.fetch(wish).await.unwrap_err();
        assert_eq!(problem.code, BuildErrorCode::SourceTooLarge, "{:?}: {problem:?}", wish.reference);
    }
}

#[tokio::test]
async fn too_slow() {
    let mut forge = Forge::start().await;
    forge.repository(Access::Private).commit("main", &[File::plain("a", "a")]).unwrap();
    forge.server.trouble(Some(Trouble::Silent));
    forge.config.timeout_ms = 1500;
    let started = Instant::now();
    let problem = forge.fetch(&Wish { token: forge.token(), ..Wish::default() }).await.unwrap_err();
    assert_eq!(problem.code, BuildErrorCode::Timeout);
    assert!(problem.message.contains("did not arrive"), "{problem:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(running(&forge.server.base_url()), 0, "nobody is left");
}

#[tokio::test]
async fn a_fetch_ends_with_its_caller() {
    let forge = Forge::start().await;
    forge.repository(Access::Private).commit("main", &[File::plain("a", "a")]).unwrap();
    forge.server.trouble(Some(Trouble::Silent));
    let wish = Wish { token: forge.token(), ..Wish::default() };
    {
        let mut fetching = Box::pin(forge.fetch(&wish));
        while forge.server.seen().is_empty() {
            let waited = tokio::time::timeout(Duration::from_millis(50), &mut fetching).await;
            assert!(waited.is_err(), "{waited:?}");
        }
        assert!(running(&forge.server.base_url()) > 0, "the same look finds them");
    }
    let end = Instant::now() + Duration::from_secs(10);
    while running(&forge.server.base_url()) > 0 {
        assert!(Instant::now() < end, "processes are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many processes have a word in their arguments.
fn running(word: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}
