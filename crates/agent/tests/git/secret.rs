//! The token is where it must be, and nowhere else: greps of arguments, files, sentences and lines.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cakework_testkit::git::{Access, File, Trouble};
use tracing_subscriber::fmt::MakeWriter;

use crate::forge::{Forge, Wish};

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Reads the arguments of all processes again and again, until it is told to stop; gives all it has seen.
fn sample_arguments(stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut seen = std::collections::BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
                    seen.insert(String::from_utf8_lossy(&line).into_owned());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        seen.into_iter().collect()
    })
}

fn contents(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            contents(&entry.path(), found);
        } else if kind.is_file() {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_reaches_the_forge_and_nothing_else() {
    let kept = Kept::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(kept.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut forge = Forge::start().await;
    let repository = forge.repository(Access::Private);
    let files: Vec<_> = (0..500).map(|at| File::plain(&format!("f{at}"), format!("{at}"))).collect();
    repository.commit("main", &files).unwrap();
    let token = forge.server.token().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = sample_arguments(Arc::clone(&stop));

    // While git has it in hand: a forge that keeps it waiting, with what it has on the disk by then.
    forge.server.trouble(Some(Trouble::Silent));
    forge.config.timeout_ms = 2000;
    let wish = Wish { token: Some(token.clone()), ..Wish::default() };
    let mut said = vec![forge.fetch(&wish).await.unwrap_err().message];
    let mut left = Vec::new();
    contents(forge.work(), &mut left);
    assert!(left.iter().any(|(path, _)| path.ends_with("git/config")), "a fetch that was broken off leaves its files");
    forge.config.timeout_ms = 60_000;

    // And in each way that it ends, with the token in the places that are repeated to the user.
    forge.server.trouble(None);
    for wish in [
        wish.clone(),
        Wish { reference: Some(&token), ..wish.clone() },
        Wish { path: Some(&token), ..wish.clone() },
        Wish { repository: Some(&format!("acme/{token}")), ..wish.clone() },
        Wish { token: Some(format!("{token}x")), ..wish.clone() },
    ] {
        if let Err(problem) = forge.fetch(&wish).await {
            said.push(format!("{problem:?}"));
        }
        contents(forge.work(), &mut left);
    }
    forge.config.git = format!("/nonexistent/{token}").into();
    said.push(format!("{:?}", forge.fetch(&wish).await.unwrap_err()));
    assert_eq!(said.len(), 6, "{said:?}");
    stop.store(true, Ordering::Relaxed);
    let arguments = sampler.join().unwrap();

    // The same look finds git, and the same grep finds the header where it should be.
    assert!(arguments.iter().any(|line| line.contains("git\0fetch\0") && line.contains(forge.server.host())));
    let header = forge.server.seen().into_iter().find_map(|seen| seen.authorization).unwrap();
    let encoded = header.strip_prefix("Basic ").unwrap();
    assert!(forge.server.seen().iter().all(|seen| seen.authorization.is_some()), "no request without it");
    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("git failed"), "{log}");
    for secret in [token.as_str(), encoded] {
        for (path, bytes) in &left {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{path}");
        }
        for text in said.iter().chain(&forge.lines()).chain([&log]) {
            assert!(!text.contains(secret), "{text}");
        }
    }
    for line in &arguments {
        // The user's own words are arguments; here one of them was the token, as was the program's name.
        let own = line.contains(&format!("/{token}"));
        assert!(own || !line.contains(&token), "{line}");
        assert!(!line.contains(encoded), "{line}");
    }
}
