//! Images from a real registry into the store: what works, what is refused in which words, and what stays behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::FileTypeExt;

use cakework_image::{ImageConfig, ImageLimits, rootfs};
use cakework_testkit::images::{self, Builder, Compression, Entry, Format, Image, Layer};
use cakework_testkit::registry::{Auth, Registry};
use cakework_wire::host::{Credential, ImageObservation, ProblemCode, PullImage, ResolveImage};
use common::{Host, PATIENCE, request};

fn layer(name: &str, compression: Compression) -> Layer {
    Layer::new(&[Entry::file(name, name)], compression)
}

fn image(format: Format, layers: Vec<Layer>) -> Image {
    layers.into_iter().fold(Builder::new(format), Builder::layer).cmd(&["/bin/true"]).build()
}

async fn serving(name: &str, image: &Image) -> Registry {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    registry.push(name, "v1", image).await.unwrap();
    registry
}

fn resolve(request: PullImage) -> ResolveImage {
    let PullImage { reference, credential } = request;
    ResolveImage { reference, credential }
}

#[tokio::test]
async fn images_of_every_form_arrive() {
    let registry = Registry::start(Auth::Basic).await.unwrap();
    let host = Host::new().await;
    let layers = || vec![layer("gzip", Compression::Gzip), layer("plain", Compression::None)];
    let with_zstd = [layers(), vec![layer("zstd", Compression::Zstd)]].concat();
    for (name, format, layers) in [("oci", Format::Oci, with_zstd), ("docker", Format::Docker, layers())] {
        let built = image(format, layers.clone());
        registry.push(name, "v1", &built).await.unwrap();
        let resolved = host.store.resolve(&resolve(request(&registry, name))).await.unwrap();
        let declared: u64 = built.layers().iter().map(images::Blob::size_bytes).sum();
        assert_eq!((&resolved.digest[..], resolved.size_bytes), (built.digest(), declared));
        assert_eq!(resolved.layers as usize, layers.len());
        assert_eq!(host.store.report(&resolved.digest), None, "resolving keeps nothing");
        let image = host.import(&registry, name).await.unwrap();
        assert_eq!(image.config.config().as_ref().unwrap().cmd().as_deref(), Some(&["/bin/true".to_owned()][..]));
        assert_eq!(image.layers.len(), layers.len());
        assert_eq!(common::names(&image.layers[0]), ["gzip"]);
        let report = host.store.report(&resolved.digest).unwrap();
        assert_eq!(report.observation, ImageObservation::Ready);
    }
    assert_eq!(host.names("tmp"), [""; 0]);
    assert_eq!(host.names("layers").len(), 3, "shared layers are there once");
    assert_eq!(host.store.reports().len(), 2);
}

#[tokio::test]
async fn an_index_gives_the_image_for_this_host() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let ours = image(Format::Oci, vec![layer("ours", Compression::Gzip)]);
    let other = Builder::new(Format::Oci).layer(layer("other", Compression::Gzip)).architecture("s390x").build();
    registry.remote().push_index("multi", "v1", &[&other, &ours]).await.unwrap();
    registry.remote().push_index("foreign", "v1", &[&other]).await.unwrap();
    registry.push("single", "v1", &other).await.unwrap();
    let host = Host::new().await;
    let image = host.import(&registry, "multi").await.unwrap();
    assert_eq!(image.digest, ours.digest());
    for name in ["foreign", "single"] {
        let refusal = host.store.resolve(&resolve(request(&registry, name))).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::ImageArchitecture);
        assert!(refusal.message.contains("linux/s390x"), "{}", refusal.message);
    }
}

#[tokio::test]
async fn refusals_of_the_registry_are_said_in_words() {
    let registry = Registry::start(Auth::Basic).await.unwrap();
    registry.push("app", "v1", &image(Format::Oci, vec![layer("a", Compression::Gzip)])).await.unwrap();
    let host = Host::new().await;
    let right = request(&registry, "app");
    let wrong = Credential { username: "AWS".into(), password: "not-the-password".into() };
    let gone = format!("127.0.0.1:{}/app:v1", free_port());
    for (reference, credential, code) in [
        (right.reference.clone(), Some(wrong), ProblemCode::RegistryUnauthorized),
        (right.reference.clone(), None, ProblemCode::RegistryUnauthorized),
        (registry.reference("app", "v2"), right.credential.clone(), ProblemCode::ImageNotFound),
        (registry.reference("other", "v1"), right.credential.clone(), ProblemCode::ImageNotFound),
        (gone, None, ProblemCode::RegistryUnavailable),
        ("App:v1".into(), None, ProblemCode::ImageReference),
    ] {
        let refusal = host.store.resolve(&ResolveImage { reference: reference.clone(), credential }).await.unwrap_err();
        assert_eq!(refusal.code, code, "{reference}: {}", refusal.message);
        assert!(!refusal.message.contains("not-the-password") && !refusal.message.contains(registry.password()));
    }
    let digest = images::digest(b"nothing");
    let refusal = host.store.pull(&digest, &right).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::ImageNotFound);
    assert_eq!(host.store.report(&digest), None);
    assert_eq!(host.store.ready(&digest).await.unwrap_err().code, ProblemCode::Unknown);
    assert_eq!((host.names("images"), host.names("tmp")), (vec![], vec![]));
}

/// 0.0.0.0 leads to this machine, too, and is no loopback address.
#[tokio::test]
async fn plain_http_is_spoken_to_loopback_and_to_configured_names_alone() {
    let built = image(Format::Oci, vec![layer("a", Compression::Gzip)]);
    let (plain, tls) = (Registry::start(Auth::Basic).await.unwrap(), Registry::start_tls(Auth::Basic).await.unwrap());
    let beyond = |registry: &Registry| registry.host().replace("127.0.0.1", "0.0.0.0");
    for registry in [&plain, &tls] {
        registry.push("app", "v1", &built).await.unwrap();
    }
    let pulled = async |registry: &Registry, config: ImageConfig| {
        let PullImage { credential, .. } = request(registry, "app");
        let pull = PullImage { reference: format!("{}/app:v1", beyond(registry)), credential };
        Host::with(config).await.bring(built.digest(), &pull).await.map(|image| image.digest.clone())
    };
    let asked = |registry: &Registry| registry.log().matches("\"GET /v2/app/").count();
    let before = asked(&plain);
    let refusal = pulled(&plain, ImageConfig::default()).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RegistryUnavailable, "{}", refusal.message);
    assert_eq!(asked(&plain), before, "nothing was asked without TLS");
    let named = ImageConfig { plain_http: vec![beyond(&plain)], ..ImageConfig::default() };
    assert_eq!(pulled(&plain, named).await.unwrap(), built.digest());

    let refusal = pulled(&tls, ImageConfig::default()).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RegistryUnavailable, "nobody vouches for it: {}", refusal.message);
    let trusting = ImageConfig { ca_file: Some(tls.ca_file()), ..ImageConfig::default() };
    assert_eq!(pulled(&tls, trusting).await.unwrap(), built.digest());
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_layer_that_lies_fails_the_image_and_leaves_nothing() {
    let good = layer("good", Compression::Gzip);
    let wrong_id = layer("a", Compression::Gzip).with_diff_id(&images::digest(b"another"));
    let broken = layer("b", Compression::Gzip).with_bytes(b"no gzip".to_vec());
    let device = Layer::new(&[Entry::CharDevice { path: "mem".into(), major: 1, minor: 1 }], Compression::Zstd);
    let upwards = Layer::new(&[Entry::file("../../canary", "dead")], Compression::Gzip);
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    for (name, layer) in [("wrong-id", wrong_id), ("broken", broken), ("device", device), ("upwards", upwards)] {
        registry.push(name, "v1", &image(Format::Oci, vec![good.clone(), layer])).await.unwrap();
        let host = Host::new().await;
        let problem = host.import(&registry, name).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::ImageInvalid, "{name}: {}", problem.message);
        let observation = host.store.reports().pop().unwrap().observation;
        assert_eq!(observation, ImageObservation::Failed { problem }, "{name}");
        for directory in ["images", "layers", "tmp"] {
            emptied(&host, directory).await;
        }
    }
}

/// What is left of a failed image is removed just after the failure is told.
async fn emptied(host: &Host, directory: &str) {
    let wait = async {
        while !host.names(directory).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{directory}: {:?}", host.names(directory)));
}

#[tokio::test]
async fn a_flipped_byte_fails_the_image_which_can_be_pulled_again() {
    let built = image(Format::Oci, vec![Layer::new(&[Entry::file("a", vec![5; 100_000])], Compression::None)]);
    let registry = serving("app", &built).await;
    let path = registry.blob_path(built.layers()[0].digest());
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[50_000] ^= 1;
    fs::write(&path, flipped).unwrap();
    let host = Host::new().await;
    assert_eq!(host.import(&registry, "app").await.unwrap_err().code, ProblemCode::ImageInvalid);
    fs::write(&path, whole).unwrap();
    let image = host.import(&registry, "app").await.unwrap();
    assert_eq!(fs::read(image.layers[0].join("a")).unwrap(), vec![5; 100_000]);
}

#[tokio::test]
async fn limits_are_held() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let big = Layer::new(&[Entry::file("zeros", vec![0; 4 << 20])], Compression::Gzip);
    let entries: Vec<_> = (0..50).map(|number| Entry::file(&format!("f{number}"), "")).collect();
    registry.push("big", "v1", &image(Format::Oci, vec![big])).await.unwrap();
    registry.push("many", "v1", &image(Format::Oci, vec![Layer::new(&entries, Compression::Gzip)])).await.unwrap();
    let layers = |count: usize| (0..count).map(|number| layer(&number.to_string(), Compression::Gzip)).collect();
    registry.push("layers", "v1", &image(Format::Oci, layers(4))).await.unwrap();
    let default = ImageLimits::default();
    for (name, limits) in [
        ("big", ImageLimits { compressed_bytes: 1000, ..default.clone() }),
        ("big", ImageLimits { inflated_bytes: 1 << 20, ..default.clone() }),
        ("big", ImageLimits { document_bytes: 100, ..default.clone() }),
        ("many", ImageLimits { entries: 49, ..default.clone() }),
        ("layers", ImageLimits { layers: 3, ..default.clone() }),
    ] {
        let host = Host::with(ImageConfig { limits: limits.clone(), ..ImageConfig::default() }).await;
        let problem = host.import(&registry, name).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::ImageTooLarge, "{name}, {limits:?}: {}", problem.message);
    }
    let host = Host::new().await;
    assert_eq!(host.import(&registry, "layers").await.unwrap().layers.len(), 4);
}

#[tokio::test]
async fn layers_hide_and_replace_those_below() {
    let below =
        [Entry::dir("etc"), Entry::file("etc/motd", "old"), Entry::file("etc/keep", "keep"), Entry::file("var/x", "x")];
    let above = [Entry::file("etc/.wh.motd", ""), Entry::file("var/.wh..wh..opq", ""), Entry::file("var/y", "y")];
    let again = layer("z", Compression::Gzip);
    let layers =
        vec![again.clone(), Layer::new(&below, Compression::Gzip), Layer::new(&above, Compression::Zstd), again];
    let registry = serving("app", &image(Format::Oci, layers)).await;
    let host = Host::new().await;
    let image = host.import(&registry, "app").await.unwrap();
    assert_eq!(image.layers.len(), 3, "a layer that occurs twice is mounted once");
    assert!(fs::symlink_metadata(image.layers[1].join("etc/motd")).unwrap().file_type().is_char_device());
    let (disk, root) = (host.dir.path().join("disk"), host.dir.path().join("root"));
    fs::create_dir(&disk).unwrap();
    rootfs::make_disk(&host.dir.path().join("disk.img"), 64).unwrap();
    let _mounted = Mounted(vec![root.clone(), disk.clone()]);
    rootfs::mount_disk(&host.dir.path().join("disk.img"), &disk).unwrap();
    rootfs::mount_overlay(&image.layers, &disk, &root).unwrap();
    assert_eq!(common::names(&root.join("etc")), ["keep"]);
    assert_eq!(common::names(&root.join("var")), ["y"]);
    assert_eq!(fs::read_to_string(root.join("z")).unwrap(), "z");
}

struct Mounted(Vec<std::path::PathBuf>);

impl Drop for Mounted {
    fn drop(&mut self) {
        for target in &self.0 {
            let _ = rootfs::unmount(target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_two_images_want_comes_once() {
    let shared = Layer::new(&[Entry::file("shared", vec![1; 20 << 20])], Compression::None);
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let images = ["one", "two", "three"]
        .map(|name| (name, image(Format::Oci, vec![shared.clone(), layer(name, Compression::Gzip)])));
    for (name, image) in &images {
        registry.push(name, "v1", image).await.unwrap();
    }
    let host = Host::new().await;
    let [one, two, three] = &images;
    let (one, two, three, again) = tokio::join!(
        host.import(&registry, one.0),
        host.import(&registry, two.0),
        host.import(&registry, three.0),
        host.import(&registry, one.0),
    );
    assert_eq!(one.unwrap().digest, again.unwrap().digest);
    assert_eq!(two.unwrap().layers[0], three.unwrap().layers[0]);
    let log = registry.log();
    let fetches = |layer: &Layer| {
        let path = format!("/blobs/{} HTTP", layer.blob().digest());
        log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(&path)).count()
    };
    assert_eq!(fetches(&shared), 1, "{log}");
    assert_eq!(host.names("layers").len(), 4);
}

#[tokio::test]
async fn a_restart_keeps_what_is_whole_and_sweeps_the_rest() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let whole = image(Format::Oci, vec![layer("a", Compression::Gzip)]);
    let half = image(Format::Oci, vec![layer("b", Compression::Gzip), layer("c", Compression::Gzip)]);
    registry.push("whole", "v1", &whole).await.unwrap();
    registry.push("half", "v1", &half).await.unwrap();
    let host = Host::new().await;
    host.import(&registry, "whole").await.unwrap();
    let image = host.import(&registry, "half").await.unwrap();
    host.store.shutdown().await;
    let dir = host.dir.path();
    fs::remove_dir_all(&image.layers[1]).unwrap();
    fs::create_dir_all(dir.join("tmp/7/deep")).unwrap();
    fs::create_dir_all(dir.join("layers").join("0".repeat(64))).unwrap();
    fs::create_dir_all(dir.join("images").join("1".repeat(64))).unwrap();

    let store = common::open(dir, ImageConfig::default()).await;
    assert_eq!(host.names("tmp"), [""; 0]);
    assert_eq!(host.names("images").len(), 2);
    let kept: Vec<_> = store.reports().into_iter().map(|report| report.digest).collect();
    assert_eq!(kept, [whole.digest()], "half an image is not reported");
    assert_eq!(store.ready(whole.digest()).await.unwrap().layers.len(), 1);
    assert_eq!(store.ready(half.digest()).await.unwrap_err().code, ProblemCode::Unknown);

    store.pull(half.digest(), &request(&registry, "half")).await.unwrap();
    tokio::time::timeout(PATIENCE, store.ready(half.digest())).await.unwrap().unwrap();
    let log = registry.log();
    let fetches = |layer: usize| {
        let digest = half.layers()[layer].digest();
        log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(digest)).count()
    };
    assert_eq!((fetches(0), fetches(1)), (1, 2), "the layer that was there is not fetched again");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over() {
    let built = image(Format::Oci, vec![layer("a", Compression::Gzip)]);
    let (origin, mirror) = (serving("app", &built).await, serving("hub/app", &built).await);
    let nobody = format!("127.0.0.1:{}", free_port());
    for (mirrors, asks_origin) in
        [(vec![format!("{}/hub", mirror.host())], false), (vec![nobody, format!("{}/nothing", mirror.host())], true)]
    {
        let before = origin.log().matches("\"GET /v2/app/").count();
        let config = ImageConfig { mirrors: [(origin.host().to_owned(), mirrors)].into(), ..ImageConfig::default() };
        let host = Host::with(config).await;
        host.import(&origin, "app").await.unwrap();
        assert_eq!(origin.log().matches("\"GET /v2/app/").count() > before, asks_origin);
    }
}
