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

#[tokio::test]
async fn a_layer_that_breaks_off_is_tried_again() {
    let image = built();
    let (served, tries) = (image.clone(), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&tries);
    let server = Server::start(move |asked, _| {
        if asked.path.ends_with(served.layers()[0].digest()) {
            let mut tries = counted.lock().unwrap();
            *tries += 1;
            if *tries < 3 {
                return (502, Vec::new(), Vec::new());
            }
        }
        content(&served, &asked.path)
    })
    .await;
    let host = Host::new().await;
    let pull = PullImage { reference: format!("{}/app:v1", server.host), credential: None };
    host.bring(image.digest(), &pull).await.unwrap();
    assert_eq!(*tries.lock().unwrap(), 3);
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
