//! The registries that are there, each with each way in: the same image comes from all of them, and what they refuse is
//! said in the same words. Images are pushed by skopeo, which shares no code with this project.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use cakework_image::ImageConfig;
use cakework_testkit::images::{Builder, Compression, Entry, Format, Image, Layer};
use cakework_testkit::registry::{Auth, Registry, TokenService};
use cakework_testkit::remote::USER;
use cakework_wire::host::{Credential, ProblemCode, PullImage, ResolveImage};
use common::Host;
use common::server::{Answer, Asked, Server};
use container_registry::ContainerRegistry;
use sec::Secret;
use serde_json::json;
use tempfile::TempDir;

const PASSWORD: &str = "right";
const SERVICE: &str = "registry.test";
const ISSUER: &str = "tokens.test";

/// A registry, and how to get in.
struct Row {
    what: &'static str,
    host: String,
    password: Option<String>,
    config: ImageConfig,
}

impl Row {
    fn credential(&self, password: Option<&str>) -> Option<Credential> {
        password.map(|password| Credential { username: USER.into(), password: password.into() })
    }

    async fn check(&self, image: &Image) {
        let host = Host::with(self.config.clone()).await;
        let own = self.credential(self.password.as_deref());
        let by_tag = format!("{}/team/app:v1", self.host);
        for reference in [by_tag.clone(), format!("{}/team/app@{}", self.host, image.digest())] {
            let resolve = ResolveImage { reference: reference.clone(), credential: own.clone() };
            let resolved =
                host.store.resolve(&resolve).await.unwrap_or_else(|problem| panic!("{}: {problem:?}", self.what));
            assert_eq!(resolved.digest, image.digest(), "{}: {reference}", self.what);
        }
        let pull = PullImage { reference: by_tag.clone(), credential: own.clone() };
        let arrived =
            host.bring(image.digest(), &pull).await.unwrap_or_else(|problem| panic!("{}: {problem:?}", self.what));
        let files: Vec<_> = arrived.layers.iter().map(|layer| common::names(layer)).collect();
        assert_eq!(files, [["a"], ["b"]], "{}", self.what);

        let missing = ResolveImage { reference: format!("{}/team/app:none", self.host), credential: own };
        let problem = host.store.resolve(&missing).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::ImageNotFound, "{}: {}", self.what, problem.message);
        if self.password.is_some() {
            for wrong in [None, Some("wrong")] {
                let refused = ResolveImage { reference: by_tag.clone(), credential: self.credential(wrong) };
                let problem = host.store.resolve(&refused).await.unwrap_err();
                assert_eq!(problem.code, ProblemCode::RegistryUnauthorized, "{}: {}", self.what, problem.message);
            }
        }
    }
}

/// Copies `team/app:v1` from an open registry.
async fn copy(from: &Registry, to: &Row) {
    let mut skopeo = tokio::process::Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    if let Some(password) = &to.password {
        skopeo.arg(format!("--dest-creds={USER}:{password}"));
    }
    skopeo
        .arg(format!("docker://{}", from.reference("team/app", "v1")))
        .arg(format!("docker://{}/team/app:v1", to.host));
    let output = skopeo.output().await.expect("skopeo is installed");
    assert!(output.status.success(), "{}: {}", to.what, String::from_utf8_lossy(&output.stderr));
}

fn openssl(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A service that gives a token to whoever brings the password, signed as a registry verifies it (RFC 7515, RS256).
async fn token_service(dir: &TempDir) -> (Server, TokenService) {
    let subject = ["-subj", "/CN=tokens"];
    let make =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", "key.pem", "-out", "cert.pem"];
    openssl(dir.path(), &[&make[..], &subject].concat());
    let certificate = BASE64_STANDARD.encode(openssl(dir.path(), &["x509", "-in", "cert.pem", "-outform", "der"]));
    let path = dir.path().to_owned();
    let server = Server::start(move |asked, _| give(asked, &path, &certificate)).await;
    let realm = format!("http://{}/token", server.host);
    let certificate = dir.path().join("cert.pem");
    (server, TokenService { realm, service: SERVICE.into(), issuer: ISSUER.into(), certificate })
}

fn give(asked: &Asked, dir: &Path, certificate: &str) -> Answer {
    let right = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if asked.headers.get("authorization") != Some(&right) {
        return (401, Vec::new(), Vec::new());
    }
    let url = reqwest::Url::parse(&format!("http://host{}", asked.path)).unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["service"], SERVICE);
    let access: Vec<_> = query
        .get("scope")
        .into_iter()
        .map(|scope| {
            let parts: Vec<_> = scope.split(':').collect();
            json!({"type": parts[0], "name": parts[1], "actions": parts[2].split(',').collect::<Vec<_>>()})
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({"iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now,
        "jti": "1", "access": access});
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let file = tempfile::NamedTempFile::new_in(dir).unwrap();
    std::fs::write(file.path(), &signed).unwrap();
    let signature = openssl(dir, &["dgst", "-sha256", "-sign", "key.pem", file.path().to_str().unwrap()]);
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
    (
        200,
        vec![("content-type".to_owned(), "application/json".to_owned())],
        json!({"token": token}).to_string().into_bytes(),
    )
}

/// Another implementation of the distribution specification, in this process.
async fn other(dir: &TempDir) -> String {
    let users = HashMap::from([(USER.to_owned(), Secret::new(PASSWORD.to_owned()))]);
    let registry = ContainerRegistry::builder().storage(dir.path()).auth_provider(Arc::new(users)).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum_07::serve(listener, registry.make_router()).await });
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_image_comes_from_every_registry() {
    let layer = |name: &str, compression| Layer::new(&[Entry::file(name, name)], compression);
    let image =
        Builder::new(Format::Oci).layer(layer("a", Compression::Gzip)).layer(layer("b", Compression::None)).build();
    let (open, basic) = (Registry::start(Auth::Anonymous).await.unwrap(), Registry::start(Auth::Basic).await.unwrap());
    let tls = Registry::start_tls(Auth::Basic).await.unwrap();
    let (keys, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_service, tokens) = token_service(&keys).await;
    let behind = Registry::start_behind(&tokens).await.unwrap();
    open.push("team/app", "v1", &image).await.unwrap();
    let trusting = ImageConfig { ca_file: Some(tls.ca_file()), ..ImageConfig::default() };
    // A name of loopback would be spoken to without TLS.
    let over_tls = tls.host().replace("127.0.0.1", "0.0.0.0");
    let row = |what, host: &str, password: Option<&str>| Row {
        what,
        host: host.to_owned(),
        password: password.map(str::to_owned),
        config: ImageConfig::default(),
    };
    let rows = [
        row("docker-registry, open", open.host(), None),
        row("docker-registry, a password", basic.host(), Some(basic.password())),
        Row { config: trusting, ..row("docker-registry, a password over TLS", &over_tls, Some(tls.password())) },
        row("docker-registry, tokens of a service", behind.host(), Some(PASSWORD)),
        row("container-registry, a password", &other(&store).await, Some(PASSWORD)),
    ];
    for row in &rows {
        if row.host != open.host() {
            copy(&open, row).await;
        }
        row.check(&image).await;
    }
}
