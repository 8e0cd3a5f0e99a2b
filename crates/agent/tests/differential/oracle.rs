//! The other side: buildah of Debian 13, in a sandbox of its own, without a network. It builds all cases one after the
//! other and leaves of each image its whole tree as a tar, and its configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cakework_testkit::images::{Image as BaseImage, buildah_root, digest, tar};
use cakework_testkit::process::run;
use serde_json::{Value, json};

use crate::cases::Case;
use crate::compare::Image;
use crate::tree;

/// What each `$BASE` of a Dockerfile is there.
const BASE: &str = "localhost/base:1";
/// What buildah in a container needs; the sandbox gives them inside itself only.
const CAPABILITIES: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_NET_BIND_SERVICE",
    "CAP_AUDIT_WRITE",
];
/// The store is on a tmpfs: on the sandbox's other file systems links have no attributes that could be read.
const SCRIPT: &str = r#"set -eu
export HOME=/root TMPDIR=/scratch/tmp
mkdir -p /scratch/tmp
buildah() { command buildah --storage-driver overlay --root /scratch/store --runroot /scratch/run "$@"; }
buildah --version > /oracle/out/version
buildah tag "$(buildah pull -q oci:/oracle/base:base)" localhost/base:1
for case in /oracle/in/*; do
    out=/oracle/out/${case##*/}
    mkdir /scratch/context
    tar -xpf "$case/context.tar" -C /scratch/context
    if (. "$case/build") > "$out.log" 2>&1 < /dev/null; then
        buildah inspect --type image result > "$out.json"
        container=$(buildah from --pull=never result)
        tar --numeric-owner -cf "$out.tar" -C "$(buildah mount "$container")" .
        buildah rm "$container" > /dev/null
        buildah rmi result > /dev/null
    fi
    rm -rf /scratch/context
done
"#;

pub struct Oracle {
    dir: tempfile::TempDir,
    /// `buildah version …`.
    pub version: String,
}

impl Oracle {
    /// Builds the cases.
    pub fn run(base: &BaseImage, cases: &[Case]) -> Self {
        let dir = tempfile::Builder::new().prefix("cakework-oracle-").tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let packed = buildah_root().expect("buildah of Debian 13");
        run(Command::new("tar").arg("-xf").arg(packed).arg("-C").arg(&root)).expect("unpacked");
        for (name, text) in [("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")] {
            fs::write(root.join(name), text).expect("written");
        }
        let work = root.join("oracle");
        for name in ["in", "out"] {
            fs::create_dir_all(work.join(name)).expect("a directory");
        }
        fs::create_dir(root.join("scratch")).expect("a directory");
        write_base(base, &work.join("base"));
        for case in cases {
            write_case(case, &work.join("in").join(case.name));
        }
        fs::write(work.join("script"), SCRIPT).expect("written");
        fs::write(dir.path().join("config.json"), bundle(&root).to_string()).expect("written");
        sandbox(dir.path());
        let version = fs::read_to_string(work.join("out/version")).expect("it ran");
        let version = version.split(" (").next().unwrap_or_default().trim().to_owned();
        assert!(version.starts_with("buildah version 1.39"), "{version}");
        Self { dir, version: version.replace("buildah version", "buildah") }
    }

    /// A case's image, or why there is none; `None` where it was not to build it.
    pub fn image(&self, case: &Case) -> Option<Result<Image, String>> {
        let out = |extension: &str| self.dir.path().join(format!("root/oracle/out/{}.{extension}", case.name));
        let log = fs::read_to_string(out("log")).ok()?;
        let Ok(config) = fs::read(out("json")) else { return Some(Err(log)) };
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        let tree = tree::of_tar(fs::File::open(out("tar")).expect("its tree"));
        Some(Ok(Image { tree: tree::without_scenery(tree), config: config["Docker"]["config"].clone() }))
    }
}

/// An OCI image layout.
fn write_base(image: &BaseImage, dir: &Path) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory");
    let put = |bytes: &[u8]| {
        let name = digest(bytes);
        fs::write(blobs.join(&name[7..]), bytes).expect("written");
        name
    };
    for blob in image.blobs() {
        put(&blob.read().expect("its bytes"));
    }
    let manifest = put(image.manifest());
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": image.manifest_media_type(), "digest": manifest, "size": image.manifest().len(),
        "annotations": {"org.opencontainers.image.ref.name": "base"},
    }]});
    fs::write(dir.join("index.json"), index.to_string()).expect("written");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("written");
}

fn write_case(case: &Case, dir: &Path) {
    fs::create_dir(dir).expect("a directory");
    fs::write(dir.join("context.tar"), tar(&case.recipe.files)).expect("written");
    fs::write(dir.join("Dockerfile"), case.recipe.dockerfile.replace("$BASE", BASE)).expect("written");
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let mut build =
        "buildah bud --isolation chroot --network host --format docker --identity-label=false --layers=false \
                     --pull=never --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 -t result"
            .to_owned();
    for (name, value) in &case.recipe.put.build_args {
        let _ = write!(build, " --build-arg {}", quoted(&format!("{name}={value}")));
    }
    if let Some(target) = &case.recipe.put.target {
        let _ = write!(build, " --target {}", quoted(target));
    }
    let _ = writeln!(build, " -f /oracle/in/{}/Dockerfile /scratch/context", case.name);
    fs::write(dir.join("build"), build).expect("written");
}

fn bundle(root: &Path) -> Value {
    let capabilities: Value =
        ["bounding", "effective", "permitted"].map(|set| (set.to_owned(), json!(CAPABILITIES))).into_iter().collect();
    let tmpfs = |path: &str| json!({"destination": path, "type": "tmpfs", "source": "tmpfs"});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "/oracle/script"], "cwd": "/",
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "capabilities": capabilities,
        },
        "root": {"path": root, "readonly": false},
        "hostname": "oracle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            tmpfs("/dev"), tmpfs("/tmp"), tmpfs("/scratch"),
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}]},
    })
}

/// Runs the bundle to its end. runsc of 2024 wants an empty `/proc/sys/net` on Linux 6.11 and later.
fn sandbox(bundle: &Path) {
    let log: PathBuf = bundle.join("log");
    let output = fs::File::create(&log).expect("a file");
    let script = "mount -t tmpfs -o ro none /proc/sys/net && exec timeout -k 5 600 runsc --root \"$1/state\" --platform=systrap \
                  --network=none --overlay2=none --ignore-cgroups run --bundle \"$1\" oracle";
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"])
        .arg(bundle)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file"))
        .stderr(output)
        .status()
        .expect("util-linux has unshare");
    assert!(status.success(), "{status}: {}", fs::read_to_string(&log).unwrap_or_default());
}
