//! The fixtures themselves: registries keep their door, images are what other tools take for images,
//! and a census sees what it should. They need root and the packages of `scripts/setup.sh --tests`.

use std::process::Command;
use std::time::Duration;

use cakework_testkit::images::{self, Blob, Builder, Compression, Entry, Format, Layer};
use cakework_testkit::kernel::{Census, Kind, Scope};
use cakework_testkit::process::run;
use cakework_testkit::remote::USER;
use cakework_testkit::{Auth, Registry, http};

fn small(format: Format, compression: Compression) -> images::Image {
    let layer = Layer::new(&[Entry::file("etc/motd", "hello\n")], compression);
    Builder::new(format).layer(layer).cmd(&["/bin/true"]).build()
}

#[tokio::test]
async fn a_registry_with_a_password_lets_nobody_else_in() {
    let registry = Registry::start(Auth::Basic).await.unwrap();
    let digest = registry.push("team/app", "v1", &small(Format::Oci, Compression::Gzip)).await.unwrap();
    let url = format!("http://{}/v2/team/app/manifests/v1", registry.host());
    let ask = |password: Option<&'static str>, right: bool| {
        let request = http::client().get(&url).header("Accept", "application/vnd.oci.image.manifest.v1+json");
        match (password, right) {
            (_, true) => request.basic_auth(USER, Some(registry.password())),
            (Some(wrong), _) => request.basic_auth(USER, Some(wrong)),
            (None, _) => request,
        }
        .send()
    };
    let answer = ask(None, true).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["docker-content-digest"], digest.as_str());
    assert_eq!(ask(Some("wrong"), false).await.unwrap().status(), 401);
    assert_eq!(ask(None, false).await.unwrap().status(), 401);
}

#[tokio::test]
async fn two_registries_run_side_by_side_and_end_with_their_value() {
    let (first, second) =
        (Registry::start(Auth::Anonymous).await.unwrap(), Registry::start(Auth::Anonymous).await.unwrap());
    assert_ne!(first.host(), second.host());
    let url = format!("http://{}/v2/", first.host());
    drop(first);
    assert!(http::client().get(url).send().await.unwrap_err().is_connect());
    assert_eq!(http::client().get(format!("http://{}/v2/", second.host())).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_registry_with_tls_is_trusted_by_those_who_know_its_authority() {
    let registry = Registry::start_tls(Auth::Basic).await.unwrap();
    registry.push("app", "v1", &small(Format::Oci, Compression::Gzip)).await.unwrap();
    let url = format!("https://{}/v2/", registry.host());
    assert!(http::client().get(&url).send().await.is_err());
    let ca = std::fs::read(registry.ca_file()).unwrap();
    assert_eq!(http::client_trusting(&ca).unwrap().get(&url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn other_tools_take_the_images_for_images() {
    let registry = Registry::start(Auth::Basic).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (tag, format, compression) in [
        ("oci-gzip", Format::Oci, Compression::Gzip),
        ("oci-zstd", Format::Oci, Compression::Zstd),
        ("docker-gzip", Format::Docker, Compression::Gzip),
    ] {
        let image = images::busybox(format, compression).unwrap().build();
        registry.push("busybox", tag, &image).await.unwrap();
        let to = dir.path().join(tag);
        let credential = format!("{USER}:{}", registry.password());
        run(Command::new("skopeo")
            .args(["copy", "--src-tls-verify=false", "--src-creds", &credential])
            .arg(format!("docker://{}", registry.reference("busybox", tag)))
            .arg(format!("oci:{}:{tag}", to.display())))
        .unwrap();
        if compression == Compression::Gzip {
            let bundle = dir.path().join(format!("{tag}-bundle"));
            let from = format!("{}:{tag}", to.display());
            run(Command::new("umoci").args(["unpack", "--image", &from]).arg(&bundle)).unwrap();
            let greeting = run(Command::new(bundle.join("rootfs/bin/busybox")).args(["echo", "hi"])).unwrap();
            assert_eq!(greeting.stdout, b"hi\n");
        }
    }
}

#[tokio::test]
async fn an_index_names_each_image_by_its_platform() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let ours = small(Format::Oci, Compression::Gzip);
    let layer = Layer::new(&[Entry::file("etc/motd", "elsewhere\n")], Compression::Gzip);
    let theirs = Builder::new(Format::Oci).layer(layer).architecture("s390x").build();
    registry.remote().push_index("app", "multi", &[&theirs, &ours]).await.unwrap();
    let raw = run(Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--override-arch", "s390x", "--format", "{{.Architecture}}"])
        .arg(format!("docker://{}", registry.reference("app", "multi"))))
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&raw.stdout).trim(), "s390x");
}

#[tokio::test]
async fn the_python_app_answers_and_logs() {
    let app = images::python_app(Format::Oci, Compression::Gzip).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for layer in app.build().layers() {
        let packed = root.join("layer.tar.gz");
        std::fs::write(&packed, layer.read().unwrap()).unwrap();
        run(Command::new("tar").arg("-xzf").arg(&packed).args(["--keep-directory-symlink", "-C"]).arg(root)).unwrap();
    }
    // http.server asks for the name of its address before it listens.
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    // Its own interpreter and library, none of this machine's; the port is the kernel's choice.
    let script = "import sys, socket; sys.path.insert(0, '/app'); import app, threading, urllib.request as r\n\
                  s = app.ThreadingHTTPServer(('127.0.0.1', 0), app.App)\n\
                  threading.Thread(target=s.serve_forever, daemon=True).start()\n\
                  print(r.urlopen('http://127.0.0.1:%d/' % s.server_port).read().decode())";
    let output = run(Command::new("chroot")
        .arg(root)
        .args(["/usr/bin/python3", "-c", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TOKEN", "secret-word"))
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Hello from Cakework! token=secret-word"), "{text}");
    assert!(text.contains("greeting someone, token=secret-word"), "{text}");
}

#[tokio::test]
async fn a_changed_blob_is_what_the_registry_serves() {
    let registry = Registry::start(Auth::Anonymous).await.unwrap();
    let blob = Blob::new(b"honest bytes".to_vec());
    registry.remote().put_blob("app", &blob).await.unwrap();
    std::fs::write(registry.blob_path(blob.digest()), b"hOnest bytes").unwrap();
    let url = format!("http://{}/v2/app/blobs/{}", registry.host(), blob.digest());
    let answer = http::client().get(url).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), b"hOnest bytes".as_slice());
}

/// Takes its namespace away also when the test fails.
struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn a_census_names_what_was_left_over() {
    let mut rng = rand::rng();
    let instance = rand::distr::SampleString::sample_string(&rand::distr::Alphanumeric, &mut rng, 4).to_lowercase();
    let dir = tempfile::tempdir().unwrap();
    let scope = Scope::new(&instance, Some(dir.path()));
    let before = Census::take(&scope).unwrap();
    assert!(before.is_empty());

    let netns = Netns(format!("cw{instance}-e784996f346483"));
    run(Command::new("ip").args(["netns", "add", &netns.0])).unwrap();
    let marker = dir.path().join("marker");
    let mut command = Command::new("sh");
    let mut child =
        command.args(["-c", "read line", "sh"]).arg(&marker).stdin(std::process::Stdio::piped()).spawn().unwrap();

    let now = Census::take(&scope).unwrap();
    assert_eq!((now.count(Kind::Netns), now.count(Kind::Mount), now.count(Kind::Process)), (1, 1, 1));
    let left: Vec<String> = now.since(&before).iter().map(ToString::to_string).collect();
    assert!(left.contains(&format!("network namespace {}", netns.0)), "{left:?}");
    assert!(Census::take(&Scope::everything()).unwrap().objects().any(|object| object.name == netns.0));

    drop(child.stdin.take());
    child.wait().unwrap();
    drop(netns);
    assert_eq!(Census::leftovers(&scope, &before, Duration::from_secs(5)).unwrap(), []);
}
