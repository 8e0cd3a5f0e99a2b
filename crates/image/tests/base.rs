//! Images that builds begin with, named by strangers: what the egress policy lets pass, and who gets what is here.
#![allow(clippy::unwrap_used)]

mod common;

use cakework_image::egress::EgressConfig;
use cakework_image::{ImageConfig, ImageStore};
use cakework_testkit::images::{Builder, Compression, Entry, Format, Image, Layer};
use cakework_testkit::registry::{Auth, Registry};
use cakework_wire::host::{Credential, ProblemCode};
use common::Host;
use common::server::Server;

fn image() -> Image {
    Builder::new(Format::Oci).layer(Layer::new(&[Entry::file("a", "a")], Compression::Gzip)).build()
}

fn loopback() -> ImageConfig {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    ImageConfig { egress: EgressConfig { allow, ..EgressConfig::default() }, ..ImageConfig::default() }
}

async fn refused(store: &ImageStore, reference: &str) {
    let problem = store.base(reference, None).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::EgressDenied, "{reference}: {}", problem.message);
    assert!(problem.message.contains("may not reach"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_comes_from_where_builds_may_go() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    registry.push("app", "v1", &image()).await.unwrap();
    let reference = registry.reference("app", "v1");
    let host = Host::new().await;
    refused(&host.store, &reference).await;
    let port = registry.host().rsplit(':').next().unwrap();
    refused(&host.store, &format!("localhost:{port}/app:v1")).await;
    refused(&host.store, "10.1.2.3/app:v1").await;
    refused(&host.store, "[fd00::1]:5000/app:v1").await;
    assert!(!registry.log().contains("/v2/app/manifests/v1\" 200"), "nothing was asked");
    assert!(host.import(&registry, "app").await.is_ok(), "an import is no build");
    refused(&host.store, &reference).await;

    let named = registry.host().to_owned();
    let plain = ImageConfig { plain_http: vec![named.clone()], ..ImageConfig::default() };
    let mirror = ImageConfig { mirrors: [("hub.invalid".to_owned(), vec![named])].into(), ..ImageConfig::default() };
    for (config, reference) in
        [(loopback(), &reference), (plain, &reference), (mirror, &"hub.invalid/app:v1".to_owned())]
    {
        let host = Host::with(config).await;
        let base = host.store.base(reference, None).await.unwrap();
        assert_eq!((&base.digest[..], base.stored.len()), (image().digest(), 1));
        assert!(host.store.layer_dir(&base.stored[0].diff_id).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_have_an_image_does_not_get_it_from_the_store() {
    let registry = Registry::start(Auth::Basic).await.unwrap();
    registry.push("private", "v1", &image()).await.unwrap();
    let reference = registry.reference("private", "v1");
    let host = Host::with(loopback()).await;
    let right = || Credential { username: "AWS".into(), password: registry.password().into() };
    let base = host.store.base(&reference, Some(right())).await.unwrap();
    let pinned = format!("{}@{}", registry.reference("private", "v1"), base.digest);
    for reference in [&reference, &pinned] {
        let wrong = Credential { username: "AWS".into(), password: "guess".into() };
        for credential in [None, Some(wrong)] {
            let problem = host.store.base(reference, credential).await.unwrap_err();
            assert_eq!(problem.code, ProblemCode::RegistryUnauthorized, "{reference}");
        }
        assert_eq!(host.store.base(reference, Some(right())).await.unwrap().digest, base.digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_leads_builds_nowhere_else() {
    let served = image();
    let server = Server::start(move |asked, _| {
        let to = |url: &str| (307, vec![("location".into(), url.to_owned())], Vec::new());
        let realm = |url: &str| (401, vec![("www-authenticate".into(), format!("Bearer realm=\"{url}\""))], Vec::new());
        match asked.path.split('/').nth(2).unwrap() {
            "redirect" => to("https://10.1.2.3/v2/"),
            "loopback" => to("http://127.0.0.2:1/v2/"),
            "metadata" => realm("https://169.254.169.254/token"),
            "realm" => realm("https://localhost:1/token"),
            "layers" if asked.path.contains(served.layers()[0].digest()) => to("https://[::1]/layer"),
            _ if asked.path.contains("/manifests/") => {
                let kind = ("content-type".into(), served.manifest_media_type().into());
                (200, vec![kind], served.manifest().to_vec())
            }
            _ => {
                let blob = served.blobs().iter().find(|blob| asked.path.contains(blob.digest())).unwrap();
                (200, Vec::new(), blob.read().unwrap().to_vec())
            }
        }
    })
    .await;
    let mut config = loopback();
    config.egress.allow = vec!["127.0.0.1/32".parse().unwrap()];
    let host = Host::with(config).await;
    let base = async |name: &str| host.store.base(&format!("{}/{name}:v1", server.host), None).await;
    for (name, code) in [
        ("redirect", ProblemCode::RegistryUnavailable),
        ("loopback", ProblemCode::RegistryUnavailable),
        ("metadata", ProblemCode::EgressDenied),
        ("layers", ProblemCode::RegistryUnavailable),
    ] {
        let problem = base(name).await.unwrap_err();
        assert_eq!(problem.code, code, "{name}: {}", problem.message);
    }
    // What a name leads to is judged when it is looked up: of localhost's addresses one is allowed here, and refuses.
    assert_eq!(base("realm").await.unwrap_err().code, ProblemCode::RegistryUnavailable);
}
