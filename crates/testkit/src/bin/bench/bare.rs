//! The least that starts the same app in gVisor: umoci's bundle, a ready network namespace, `runsc create` and `start`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cakework_testkit::Registry;
use cakework_testkit::process::run;
use cakework_testkit::remote::USER;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::start::first_byte;

/// The unpacked image, and a config.json in the making.
pub struct Bare {
    dir: TempDir,
    config: Value,
}

/// A network namespace and its sandbox; both go when it is dropped.
struct Running<'a> {
    bare: &'a Bare,
    name: String,
    bundle: PathBuf,
}

impl Bare {
    /// Unpacks the image.
    pub fn prepare(registry: &Registry, name: &str, tag: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cakework-bare-").tempdir()?;
        let copy = format!("{}:{tag}", dir.path().join("copy").display());
        let credential = format!("{USER}:{}", registry.password());
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", "--src-creds", &credential])
            .arg(format!("docker://{}", registry.reference(name, tag)))
            .arg(format!("oci:{copy}")))?;
        let bundle = dir.path().join("bundle");
        run(Command::new("umoci").args(["unpack", "--image", &copy]).arg(&bundle))?;
        std::fs::write(bundle.join("rootfs/etc/hosts"), "127.0.0.1 localhost\n10.0.0.2 app\n")?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
        config["process"]["terminal"] = json!(false);
        config["hostname"] = json!("app");
        config["root"] = json!({"path": bundle.join("rootfs"), "readonly": true});
        config["mounts"] = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ]);
        config["linux"] = json!({});
        Ok(Self { dir, config })
    }

    /// One start, in a new namespace that is ready before the clock runs.
    pub async fn start_once(&self, run_index: usize) -> Result<Duration> {
        let name = format!("cwbare{run_index}");
        let running = Running { bare: self, bundle: self.dir.path().join(&name), name };
        running.make_network()?;
        running.write_bundle()?;
        let begun = Instant::now();
        running.runsc(&["create", "--bundle", &running.bundle.display().to_string(), &running.name])?;
        running.runsc(&["start", &running.name])?;
        first_byte("http://169.254.43.2:8080/").await?;
        Ok(begun.elapsed())
    }
}

impl Running<'_> {
    fn make_network(&self) -> Result<()> {
        let name = &self.name;
        ip(&["netns", "add", name])?;
        ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["address", "add", "169.254.43.1/24", "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        ip(&["-n", name, "address", "add", "169.254.43.2/24", "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])
    }

    fn write_bundle(&self) -> Result<()> {
        let mut config = self.bare.config.clone();
        let network = format!("/var/run/netns/{}", self.name);
        config["linux"]["namespaces"] = json!([
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": network},
        ]);
        std::fs::create_dir_all(&self.bundle)?;
        Ok(std::fs::write(self.bundle.join("config.json"), serde_json::to_vec(&config)?)?)
    }

    fn runsc(&self, words: &[&str]) -> Result<()> {
        // This build of gVisor refuses a root network namespace that it can see in /proc/sys/net.
        let script = "mount -t tmpfs -o ro tmpfs /proc/sys/net && exec runsc \"$@\"";
        let status = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "runsc", "--root"])
            .arg(self.bare.dir.path().join("runsc"))
            .args(["--platform=systrap", "--network=sandbox", "--overlay2=none", "--ignore-cgroups"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("running runsc")?;
        anyhow::ensure!(status.success(), "runsc {words:?} ended with {status}");
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // What is gone already is as wanted.
        let _ = self.runsc(&["delete", "-force", &self.name]);
        let _ = ip(&["link", "delete", &self.name]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words)).map(drop)
}
