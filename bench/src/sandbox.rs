//! The floor of a start: an OCI bundle of an image, in a network namespace that is ready, run by `runsc` alone.
//!
//! Everything that a user of `runsc` would have prepared is there before the clock runs: root file system, bundle,
//! veth pair, mount namespace. Dropped, it takes everything away.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::Image;
use cakework_testkit::process::run;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::subject::{WAIT, first_byte};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 2);
/// The port of the image's app.
pub const PORT: u16 = 8080;
/// The container's name below its own `--root`.
const ID: &str = "bench";
/// The pause between attempts to connect.
const KNOCK: Duration = Duration::from_millis(1);
/// Time that a restored app has to itself before it is paused.
const REST: Duration = Duration::from_millis(200);

/// A prepared bundle.
pub struct Sandbox {
    dir: TempDir,
    netns: String,
}

/// A process that sleeps in the mount namespace which this runsc needs on newer kernels.
struct Keeper(Child);

/// What one start took, from before `create`.
pub struct Started {
    /// Until `runsc create` ended.
    pub created: Duration,
    /// Until `runsc start` ended.
    pub started: Duration,
    /// Until the first byte of HTTP.
    pub answered: Duration,
}

impl Sandbox {
    /// Unpacks the image and prepares all but the namespaces, which each start takes anew.
    pub fn prepare(image: &Image) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cakework-bench-").tempdir()?;
        let sandbox = Self { dir, netns: format!("bench{}", std::process::id()) };
        let root = sandbox.path("bundle/rootfs");
        std::fs::create_dir_all(&root)?;
        for layer in image.layers() {
            let packed = sandbox.path("layer.tar.gz");
            std::fs::write(&packed, layer.read()?)?;
            run(Command::new("tar").arg("-xzf").arg(&packed).args(["--keep-directory-symlink", "-C"]).arg(&root))?;
        }
        // http.server asks for the name of its address before it listens.
        std::fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n{GUEST} bench\n"))?;
        std::fs::write(root.join("etc/resolv.conf"), "")?;
        let spec = bundle(&root, image.config(), &sandbox.netns);
        std::fs::write(sandbox.path("bundle/config.json"), spec.to_string())?;
        Ok(sandbox)
    }

    /// Starts it once and waits for the app's first byte.
    pub async fn start(&self) -> Result<Started> {
        self.make_network()?;
        // After the network, whose mount point it has to see.
        let keeper = Keeper::start()?;
        let bundle = self.path("bundle").display().to_string();
        let began = Instant::now();
        self.runsc(&keeper, &["create", "--bundle", &bundle, ID])?;
        let created = began.elapsed();
        self.runsc(&keeper, &["start", ID])?;
        let started = began.elapsed();
        self.until_it_answers(began).await?;
        let answered = began.elapsed();
        self.runsc(&keeper, &["delete", "-force", ID])?;
        self.drop_network();
        Ok(Started { created, started, answered })
    }

    /// Writes the memory of one that has just come up, for [`Self::restore`].
    pub async fn checkpoint(&self) -> Result<()> {
        self.make_network()?;
        let keeper = Keeper::start()?;
        self.runsc(&keeper, &["create", "--bundle", &self.path("bundle").display().to_string(), ID])?;
        self.runsc(&keeper, &["start", ID])?;
        self.until_it_listens().await?;
        self.ask("containerManager.Pause")?;
        std::fs::create_dir(self.image())?;
        let path = format!("--image-path={}", self.image().display());
        self.runsc(&keeper, &["checkpoint", "--leave-running", "--compression=none", &path, ID])?;
        self.runsc(&keeper, &["delete", "-force", ID])?;
        self.drop_network();
        Ok(())
    }

    /// Restores that memory into a sandbox that was made before the clock runs; until the restore ended, and until the first
    /// byte of HTTP. With `paused` it is restored, left alone and paused before: from the order to go on.
    pub async fn restore(&self, paused: bool) -> Result<(Duration, Duration)> {
        self.make_network()?;
        let keeper = Keeper::start()?;
        let bundle = self.path("bundle").display().to_string();
        self.runsc(&keeper, &["create", "--bundle", &bundle, ID])?;
        let path = format!("--image-path={}", self.image().display());
        let mut began = Instant::now();
        self.runsc(&keeper, &["restore", "--detach", "--bundle", &bundle, &path, ID])?;
        if paused {
            self.until_it_listens().await?;
            tokio::time::sleep(REST).await;
            self.ask("containerManager.Pause")?;
            began = Instant::now();
            self.ask("containerManager.Resume")?;
        }
        let restored = began.elapsed();
        self.until_it_answers(began).await?;
        let took = began.elapsed();
        self.runsc(&keeper, &["delete", "-force", ID])?;
        self.drop_network();
        Ok((restored, took))
    }

    /// Bytes of the memory that [`Self::checkpoint`] wrote.
    pub fn image_bytes(&self) -> Result<u64> {
        disk_bytes(&self.image())
    }

    fn image(&self) -> PathBuf {
        self.path("image")
    }

    async fn until_it_listens(&self) -> Result<()> {
        let began = Instant::now();
        while tokio::net::TcpStream::connect(format!("{GUEST}:{PORT}")).await.is_err() {
            ensure!(began.elapsed() < WAIT, "the app does not listen");
            tokio::time::sleep(KNOCK).await;
        }
        Ok(())
    }

    async fn until_it_answers(&self, began: Instant) -> Result<()> {
        let address = format!("{GUEST}:{PORT}");
        while first_byte(&address, "bench").await.is_err() {
            ensure!(began.elapsed() < WAIT, "the app does not answer");
            tokio::time::sleep(KNOCK).await;
        }
        Ok(())
    }

    /// Starts it, pauses it, and answers how long it took from the order to go on, given at the control socket, until the
    /// first byte of HTTP.
    pub async fn resume(&self) -> Result<Duration> {
        self.make_network()?;
        let keeper = Keeper::start()?;
        self.runsc(&keeper, &["create", "--bundle", &self.path("bundle").display().to_string(), ID])?;
        self.runsc(&keeper, &["start", ID])?;
        self.until_it_answers(Instant::now()).await?;
        self.ask("containerManager.Pause")?;
        let began = Instant::now();
        self.ask("containerManager.Resume")?;
        self.until_it_answers(began).await?;
        let took = began.elapsed();
        self.runsc(&keeper, &["delete", "-force", ID])?;
        self.drop_network();
        Ok(took)
    }

    /// A call of gVisor's control socket.
    fn ask(&self, method: &str) -> Result<()> {
        let path = self.path("runsc").join(format!("runsc-{ID}.sock"));
        let mut socket = std::os::unix::net::UnixStream::connect(path)?;
        socket.write_all(json!({"method": method, "arg": null}).to_string().as_bytes())?;
        let mut answers = serde_json::Deserializer::from_reader(socket).into_iter::<Value>();
        let answer = answers.next().context("the sandbox answers")??;
        ensure!(answer["success"] == true, "{method}: {answer}");
        Ok(())
    }

    /// The same bundle by `crun run`, which isolates nothing, until the first byte of HTTP.
    pub async fn crun(&self) -> Result<Duration> {
        self.make_network()?;
        let keeper = Keeper::without_unified()?;
        let bundle = self.path("bundle").display().to_string();
        let began = Instant::now();
        self.crun_with(&keeper, &["run", "--detach", "--bundle", &bundle, ID])?;
        self.until_it_answers(began).await?;
        let took = began.elapsed();
        self.crun_with(&keeper, &["delete", "--force", ID])?;
        self.drop_network();
        Ok(took)
    }

    /// `crun exec` of words in a container that runs, each time.
    pub fn crun_exec(&self, words: &[&str], runs: usize) -> Result<Vec<Duration>> {
        self.make_network()?;
        let keeper = Keeper::without_unified()?;
        let bundle = self.path("bundle").display().to_string();
        self.crun_with(&keeper, &["run", "--detach", "--bundle", &bundle, ID])?;
        let mut all = Vec::new();
        for _ in 0..=runs {
            let began = Instant::now();
            self.crun_with(&keeper, &[&["exec", ID], words].concat())?;
            all.push(began.elapsed());
        }
        self.crun_with(&keeper, &["delete", "--force", ID])?;
        self.drop_network();
        // The first one warms up.
        Ok(all.split_off(1))
    }

    fn crun_with(&self, keeper: &Keeper, words: &[&str]) -> Result<()> {
        let status = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", keeper.0.id()))
            .args(["--", "crun", "--root"])
            .arg(self.path("crun"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("crun.log"))?)
            .status()
            .context("nsenter comes with util-linux")?;
        let said = || std::fs::read_to_string(self.path("crun.log")).unwrap_or_default();
        ensure!(status.success(), "crun {words:?} ended with {status}: {}", said());
        Ok(())
    }

    /// Runs one command of the image in a sandbox of its own; answers what `runsc run` took.
    pub fn run_once(&self, words: &[&str]) -> Result<Duration> {
        self.make_network()?;
        let keeper = Keeper::start()?;
        let config = json!({"config": {"Entrypoint": words, "Env": ["PATH=/usr/bin:/bin"]}});
        let once = self.path("once");
        std::fs::create_dir_all(&once)?;
        let spec = bundle(&self.path("bundle/rootfs"), &config, &self.netns);
        std::fs::write(once.join("config.json"), spec.to_string())?;
        let began = Instant::now();
        self.runsc(&keeper, &["run", "--bundle", &once.display().to_string(), ID])?;
        let took = began.elapsed();
        self.drop_network();
        Ok(took)
    }

    /// `--ignore-cgroups` makes it cheaper than a start with limits: the harder floor.
    fn runsc(&self, keeper: &Keeper, words: &[&str]) -> Result<()> {
        let root = self.path("runsc");
        let status = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", keeper.0.id()))
            .args(["--", "runsc", "--root"])
            .arg(&root)
            .args([
                "--platform=systrap",
                "--network=sandbox",
                "--overlay2=none",
                "--net-disconnect-ok",
                "--ignore-cgroups",
            ])
            .args(words)
            // The sandbox keeps what it inherits: with pipes this would wait for its end.
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path("runsc.log"))?)
            .status()
            .context("nsenter comes with util-linux")?;
        let said = || std::fs::read_to_string(self.path("runsc.log")).unwrap_or_default();
        ensure!(status.success(), "runsc {words:?} ended with {status}: {}", said());
        Ok(())
    }

    /// runsc takes the address off the interface, so that each start needs a new one.
    fn make_network(&self) -> Result<()> {
        let (netns, link) = (self.netns.as_str(), self.link());
        let ip = |words: &str| run(Command::new("ip").args(words.split(' ')));
        ip(&format!("netns add {netns}"))?;
        ip(&format!("link add {link} type veth peer name eth0 netns {netns}"))?;
        ip(&format!("addr add {HOST}/30 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {netns} link set lo up"))?;
        ip(&format!("-n {netns} addr add {GUEST}/30 dev eth0"))?;
        ip(&format!("-n {netns} link set eth0 up"))?;
        ip(&format!("-n {netns} route add default via {HOST}"))?;
        Ok(())
    }

    /// What is not there is fine: it runs after failures, too.
    fn drop_network(&self) {
        let _ = run(Command::new("ip").args(["link", "del", &self.link()]));
        let _ = run(Command::new("ip").args(["netns", "del", &self.netns]));
    }

    fn link(&self) -> String {
        format!("bn{}", std::process::id())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Ok(keeper) = Keeper::start() {
            let _ = self.runsc(&keeper, &["delete", "-force", ID]);
        }
        self.drop_network();
    }
}

impl Keeper {
    /// Makes the namespace and empties `/proc/sys/net` in it: without that, runsc of 2024 refuses to start on Linux
    /// 6.11 and later.
    fn start() -> Result<Self> {
        Self::with("")
    }

    /// The same without the second hierarchy of control groups: crun refuses a host with both.
    fn without_unified() -> Result<Self> {
        Self::with("if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi && ")
    }

    fn with(first: &str) -> Result<Self> {
        let script = format!("{first}mount -t tmpfs -o ro none /proc/sys/net && exec sleep infinity");
        let words = ["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--", "sh", "-c"];
        let mut setpriv = Command::new("setpriv");
        let mut keeper =
            Self(setpriv.args(words).arg(script).stdin(Stdio::null()).spawn().context("starting unshare")?);
        let mounts = PathBuf::from(format!("/proc/{}/mounts", keeper.0.id()));
        let end = Instant::now() + WAIT;
        while !std::fs::read_to_string(&mounts).unwrap_or_default().contains(" /proc/sys/net tmpfs") {
            ensure!(keeper.0.try_wait()?.is_none() && Instant::now() < end, "unshare and mount need root");
            std::thread::sleep(KNOCK);
        }
        Ok(keeper)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bundle(root: &Path, config: &Value, netns: &str) -> Value {
    let words = |field: &str| config["config"][field].as_array().cloned().unwrap_or_default();
    let args: Vec<Value> = words("Entrypoint").into_iter().chain(words("Cmd")).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": words("Env"),
            "cwd": config["config"]["WorkingDir"].as_str().filter(|dir| !dir.is_empty()).unwrap_or("/"),
            "noNewPrivileges": true,
        },
        "root": {"path": root, "readonly": false},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            {"type": "network", "path": format!("/var/run/netns/{netns}")},
        ]},
    })
}

/// What a directory's files take on the disk.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    let (mut bytes, device) = (0, std::fs::metadata(dir)?.dev());
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += match meta.is_dir() {
            true if meta.dev() != device => 0,
            true => disk_bytes(&entry.path())?,
            false => meta.blocks() * 512,
        };
    }
    Ok(bytes)
}
