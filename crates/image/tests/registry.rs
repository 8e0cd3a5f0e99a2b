//! Registries of other kinds than the real one at hand, and hostile ones: a small server that answers as told.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use cakework_image::ImageConfig;
use cakework_testkit::images::{Builder, Compression, Entry, Format, Image, Layer};
use cakework_wire::host::{Credential, ImageObservation, ProblemCode, PullImage, ResolveImage};
use common::server::{Answer, Server};
use common::{Host, PATIENCE};

fn resolve(server: &Server, credential: Option<Credential>) -> ResolveImage {
    ResolveImage { reference: format!("{}/app:v1", server.host), credential }
}

fn built() -> Image {
    Builder::new(Format::Oci).layer(Layer::new(&[Entry::file("a", "a")], Compression::Gzip)).build()
}

/// Answers as a registry with one image would.
fn content(image: &Image, path: &str) -> Answer {
    if path.starts_with("/v2/app/manifests/") {
        return (200, vec![("content-type".into(), image.manifest_media_type().into())], image.manifest().to_vec());
    }
    match image.blobs().iter().find(|blob| path.contains(blob.digest())) {
        Some(blob) => (200, Vec::new(), blob.read().unwrap().to_vec()),
        None => (404, Vec::new(), Vec::new()),
    }
}

fn credential() -> Credential {
    Credential { username: "user".into(), password: "geheim".into() }
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says() {
    let image = built();
    let served = image.clone();
    let server = Server::start(move |asked, own| {
        if asked.path.starts_with("/token?") {
            return match asked.headers.get("authorization").map(String::as_str) {
                Some("Basic dXNlcjpnZWhlaW0=") => (200, Vec::new(), br#"{"token": "t1"}"#.to_vec()),
                Some(_) => (401, Vec::new(), Vec::new()),
                None => (200, Vec::new(), br#"{"access_token": "anonymous"}"#.to_vec()),
            };
        }
        if asked.headers.get("authorization").is_some_and(|value| value == "Bearer t1") {
            return content(&served, &asked.path);
        }
        let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"me\"");
        (401, vec![("www-authenticate".into(), challenge)], Vec::new())
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: Some(credential()) };
    host.bring(image.digest(), &pull).await.unwrap();
    let tokens: Vec<_> = server.asked().into_iter().filter(|asked| asked.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1, "one token serves the whole image: {tokens:?}");
    assert_eq!(tokens[0].path, "/token?service=me&scope=repository%3Aapp%3Apull");

    let wrong = Credential { username: "user".into(), password: "falsch".into() };
    for credential in [Some(wrong), None] {
        let refusal = host.store.resolve(&resolve(&server, credential)).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::RegistryUnauthorized, "{}", refusal.message);
    }
}

#[tokio::test]
async fn a_credential_goes_nowhere_before_it_is_asked_for_nor_behind_a_redirect() {
    let image = built();
    let (served, stored) = (image.clone(), image.clone());
    let storage = Server::start(move |asked, _| content(&stored, &asked.path)).await;
    let storage_host = storage.host.clone();
    let server = Server::start(move |asked, _| {
        if !asked.headers.contains_key("authorization") {
            return (401, vec![("www-authenticate".into(), "Basic realm=\"x\"".into())], Vec::new());
        }
        if asked.path.contains("/blobs/") {
            let location = format!("http://{storage_host}{}?signature=s", asked.path);
            return (307, vec![("location".into(), location)], Vec::new());
        }
        content(&served, &asked.path)
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: Some(credential()) };
    host.bring(image.digest(), &pull).await.unwrap();
    assert!(!server.asked()[0].headers.contains_key("authorization"));
    let asked = storage.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| !asked.headers.contains_key("authorization")), "{asked:?}");
}

#[tokio::test]
async fn servers_that_mean_harm_are_refused() {
    let image = built();
    for (what, code, answer) in [
        ("an endless manifest", ProblemCode::ImageTooLarge, (200, vec![], vec![b' '; 5 << 20])),
        ("no manifest", ProblemCode::ImageInvalid, (200, vec![], b"<html>".to_vec())),
        ("a token service without TLS elsewhere", ProblemCode::RegistryUnavailable, {
            let challenge = "Bearer realm=\"http://169.254.169.254/latest\"".to_owned();
            (401, vec![("www-authenticate".to_owned(), challenge)], vec![])
        }),
        ("a redirect without TLS elsewhere", ProblemCode::RegistryUnavailable, {
            (307, vec![("location".to_owned(), "http://192.0.2.1/x".to_owned())], vec![])
        }),
        ("a redirect to a file", ProblemCode::RegistryUnavailable, {
            (307, vec![("location".to_owned(), "file:///etc/passwd".to_owned())], vec![])
        }),
        ("an unknown challenge", ProblemCode::RegistryUnauthorized, {
            (401, vec![("www-authenticate".to_owned(), "Negotiate".to_owned())], vec![])
        }),
        ("a failure", ProblemCode::RegistryUnavailable, (503, vec![], vec![])),
        ("too many requests", ProblemCode::RegistryUnavailable, (429, vec![], vec![])),
    ] {
        let server = Server::start(move |_, _| answer.clone()).await;
        let host = Host::new().await;
        let refusal = host.store.resolve(&resolve(&server, Some(credential()))).await.unwrap_err();
        assert_eq!(refusal.code, code, "{what}: {}", refusal.message);
        assert!(!refusal.message.contains("geheim"));
    }

    // A configuration and a layer that are not what their digests say.
    for part in [0, 1] {
        let (served, digest) = (image.clone(), image.blobs()[part].digest().to_owned());
        let server = Server::start(move |asked, _| {
            let (status, headers, mut body) = content(&served, &asked.path);
            if asked.path.ends_with(&digest) {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            (status, headers, body)
        })
        .await;
        let host = Host::new().await;
        let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
        let problem = host.bring(image.digest(), &pull).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::ImageInvalid, "{part}: {}", problem.message);
    }
}

/// What passes is waited out, whatever was asked for; a mirror is passed over instead.
#[tokio::test]
async fn failures_that_pass_are_asked_again() {
    let image = built();
    let (served, tries) = (image.clone(), Arc::new(Mutex::new(std::collections::HashMap::<String, u32>::new())));
    let counted = Arc::clone(&tries);
    let server = Server::start(move |asked, _| {
        let mut tries = counted.lock().unwrap();
        let count = tries.entry(asked.path.clone()).or_default();
        *count += 1;
        match count {
            1 => (429, vec![("retry-after".to_owned(), "1".to_owned())], Vec::new()),
            2 => (503, Vec::new(), Vec::new()),
            _ => content(&served, &asked.path),
        }
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
    host.bring(image.digest(), &pull).await.unwrap();
    let counts: Vec<_> = tries.lock().unwrap().values().copied().collect();
    assert!(counts.len() >= 3 && counts.iter().all(|count| *count == 3), "{counts:?}");
}

#[tokio::test]
async fn a_registry_that_wants_to_be_left_alone_for_long_is() {
    let server = Server::start(|_, _| (429, vec![("retry-after".to_owned(), "3600".to_owned())], Vec::new())).await;
    let host = Host::new().await;
    let refusal = host.store.resolve(&resolve(&server, None)).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RegistryUnavailable);
    assert_eq!(server.asked().len(), 1);
}

/// The stream of a layer breaks off again and again; with ranges the rest is asked for, without them all of it.
#[tokio::test]
async fn a_layer_that_breaks_off_goes_on_where_it_was() {
    const PART: usize = 300_000;
    for has_ranges in [true, false] {
        let noise: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let layer = Layer::new(&[Entry::file("noise", noise.clone())], Compression::None);
        let image = Builder::new(Format::Oci).layer(layer.clone()).build();
        let (served, digest) = (image.clone(), layer.blob().digest().to_owned());
        let size = layer.blob().size_bytes() as usize;
        let parts = Mutex::new(0);
        let server = Server::start(move |asked, _| {
            let (status, headers, body) = content(&served, &asked.path);
            if !asked.path.ends_with(&digest) {
                return (status, headers, body);
            }
            let range = asked.headers.get("range").map(|range| range["bytes=".len()..range.len() - 1].parse().unwrap());
            let mut parts = parts.lock().unwrap();
            *parts += 1;
            // Too short for what its head promises: the stream breaks off.
            let (from, to) = match range.filter(|_| has_ranges) {
                Some(from) => (from, size.min(from + PART)),
                None => (0, size.min(PART * *parts)),
            };
            let mut head = vec![("content-length".to_owned(), (size - from).to_string())];
            if from > 0 {
                head.push(("content-range".to_owned(), format!("bytes {from}-{}/{size}", size - 1)));
            }
            (if from > 0 { 206 } else { 200 }, head, body[from..to].to_vec())
        })
        .await;
        let host = Host::new().await;
        let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
        let arrived = host.bring(image.digest(), &pull).await.unwrap();
        assert_eq!(std::fs::read(arrived.layers[0].join("noise")).unwrap(), noise);
        let asked: Vec<_> =
            server.asked().into_iter().filter(|asked| asked.path.ends_with(layer.blob().digest())).collect();
        assert_eq!(asked.len(), size.div_ceil(PART), "ranges: {has_ranges}");
        let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.headers.get("range").cloned()).collect();
        let expected: Vec<_> = (1..asked.len()).map(|part| format!("bytes={}-", part * PART)).collect();
        assert_eq!(ranges, expected);
        let ImageObservation::Ready = host.store.report(image.digest()).unwrap().observation else { panic!() };
    }
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_refused() {
    let layer = Layer::new(&[Entry::file("a", vec![1; 100_000])], Compression::None);
    let image = Builder::new(Format::Oci).layer(layer.clone()).build();
    let (served, digest) = (image.clone(), layer.blob().digest().to_owned());
    let server = Server::start(move |asked, _| {
        let (status, headers, body) = content(&served, &asked.path);
        match asked.headers.get("range") {
            Some(_) => (206, vec![("content-range".to_owned(), "bytes 7-9/10".to_owned())], b"abc".to_vec()),
            None if asked.path.ends_with(&digest) => {
                (200, vec![("content-length".to_owned(), body.len().to_string())], body[..50_000].to_vec())
            }
            None => (status, headers, body),
        }
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
    let problem = host.bring(image.digest(), &pull).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::RegistryUnavailable);
    assert!(problem.message.contains("another part"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pull_says_how_far_it_is_and_is_taken_up_after_a_stop() {
    let arrived = Layer::new(&[Entry::file("b", vec![2; 1 << 20])], Compression::None);
    let held = Layer::new(&[Entry::file("c", "c")], Compression::None);
    let image = Builder::new(Format::Oci).layer(arrived.clone()).layer(held.clone()).build();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (served, gate) = (image.clone(), Mutex::new(gate));
    let server = Server::start(move |asked, _| {
        if asked.path.ends_with(held.blob().digest()) {
            // Until the test drops its end.
            let _ = gate.lock().unwrap().recv();
        }
        content(&served, &asked.path)
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
    let total: u64 = image.layers().iter().map(|layer| layer.size_bytes()).sum();
    let report = host.store.pull(image.digest(), &pull).await.unwrap();
    assert!(matches!(report.observation, ImageObservation::Pulling { total_bytes, .. } if total_bytes == total));
    let first = arrived.blob().size_bytes();
    let half_way = async {
        loop {
            let observation = host.store.report(image.digest()).unwrap().observation;
            if observation == (ImageObservation::Pulling { done_bytes: first, total_bytes: total })
                && host.names("layers").len() == 1
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, half_way).await.expect("one layer arrives while the other is held");
    let again = host.store.pull(image.digest(), &pull).await.unwrap();
    assert!(matches!(again.observation, ImageObservation::Pulling { .. }), "a pull under way is left as it is");

    tokio::time::timeout(PATIENCE, host.store.shutdown()).await.expect("the pull ends at once");
    assert_eq!(host.names("tmp"), [""; 0]);
    assert_eq!(host.store.ready(image.digest()).await.unwrap_err().code, ProblemCode::Internal);
    drop(open);
    let store = common::open(host.dir.path(), ImageConfig::default()).await;
    assert_eq!(store.reports(), []);
    store.pull(image.digest(), &pull).await.unwrap();
    tokio::time::timeout(PATIENCE, store.ready(image.digest())).await.unwrap().unwrap();
    let fetches = server.asked().iter().filter(|asked| asked.path.ends_with(arrived.blob().digest())).count();
    assert_eq!(fetches, 1, "the layer that had arrived is still there");
}
