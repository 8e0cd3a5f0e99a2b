//! The moments of which each is interrupted, and what has to have come of it in the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cakework_testkit::images::{Compression, Entry, Format, Layer, busybox};
use cakework_testkit::registry::{Auth, Registry};
use cakework_testkit::server::{Options, Server};
use rand::{RngExt, rngs::StdRng};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::check::{self, Log};

/// How long a process of a new VM may take to be there.
const VICTIM: Duration = Duration::from_secs(3);
/// How long before the kill a cancel is sent.
const CANCELLED: Duration = Duration::from_millis(15);
const POLL: Duration = Duration::from_millis(5);
/// Time for a role that was killed to be there again.
const ROLES_BACK: Duration = Duration::from_secs(30);

/// Says once that it began, then a number and its checksum, ten lines a second, until it is stopped; serves the number
/// that it is at.
const APP: &str = "mkdir -p /tmp/w; echo began; trap 'echo stopping; exit 0' TERM; httpd -p 8080 -h /tmp/w; i=0; \
                   while true; do i=$((i+1)); echo line $i $((i*7919%10007)); echo $i > /tmp/w/at; usleep 100000; done";

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Api,
    Agent,
    Monitor,
    Sandbox,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Api, Self::Agent, Self::Monitor, Self::Sandbox];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Agent => "agent",
            Self::Monitor => "monitor",
            Self::Sandbox => "sandbox",
        }
    }
}

/// What goes on when it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    ImageArrives,
    BuildRuns,
    BuildIsCancelled,
    VmStarts,
    VmRuns,
    VmStops,
    IsPrepared,
    CachedStarts,
    CachedRuns,
    FallsAsleep,
    Wakes,
    CachedStops,
    IsDestroyed,
}

impl Moment {
    pub const ALL: [Self; 13] = [
        Self::ImageArrives,
        Self::BuildRuns,
        Self::BuildIsCancelled,
        Self::VmStarts,
        Self::VmRuns,
        Self::VmStops,
        Self::IsPrepared,
        Self::CachedStarts,
        Self::CachedRuns,
        Self::FallsAsleep,
        Self::Wakes,
        Self::CachedStops,
        Self::IsDestroyed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageArrives => "an image arrives",
            Self::BuildRuns => "a build runs",
            Self::BuildIsCancelled => "a build is cancelled",
            Self::VmStarts => "a VM starts",
            Self::VmRuns => "a VM runs",
            Self::VmStops => "a VM stops",
            Self::IsPrepared => "a cached VM is prepared",
            Self::CachedStarts => "a cached VM starts",
            Self::CachedRuns => "a cached VM runs",
            Self::FallsAsleep => "a cached VM falls asleep",
            Self::Wakes => "a cached VM wakes",
            Self::CachedStops => "a cached VM stops",
            Self::IsDestroyed => "a cached VM is destroyed",
        }
    }

    /// Who takes part in it.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::ImageArrives | Self::BuildRuns | Self::BuildIsCancelled => &[Role::Api, Role::Agent],
            _ => &Role::ALL,
        }
    }

    /// Longest time from its begin to the kill.
    const fn within_ms(self) -> u64 {
        match self {
            Self::VmRuns | Self::CachedRuns => 50,
            Self::CachedStarts | Self::Wakes | Self::FallsAsleep => 60,
            Self::VmStops | Self::CachedStops | Self::IsDestroyed => 80,
            Self::ImageArrives => 200,
            Self::VmStarts => 400,
            Self::BuildRuns | Self::BuildIsCancelled => 600,
            Self::IsPrepared => 1200,
        }
    }
}

/// A kill that hit.
pub struct Hit {
    /// How many processes ended.
    pub kills: u32,
    /// What was seen of the object just before.
    pub seen: String,
}

/// A server to which things happen.
pub struct Chaos {
    pub server: Server,
    registry: Registry,
    /// An image of busybox.
    pub image: String,
}

impl Chaos {
    pub async fn start() -> Result<Self> {
        Self::start_in(None).await
    }

    /// The same with a data directory of its own.
    pub async fn start_in(data_dir: Option<PathBuf>) -> Result<Self> {
        let registry = Registry::start(Auth::Basic).await?;
        registry.push("app", "1", &busybox(Format::Oci, Compression::Gzip)?.build()).await?;
        let server = Server::start(Options { data_dir, ..Options::new(env!("CARGO_BIN_EXE_cakework")) }).await?;
        let image = server.import(&registry.reference("app", "1"), registry.password()).await?.ok();
        let image = text(&image, "imageId")?;
        let chaos = Self { server, registry, image };
        check::settles(&chaos.server, &format!("/v1/image/{}", chaos.image), "state", &["ready"]).await?;
        Ok(chaos)
    }

    /// Lets `moment` begin, kills `role` in the middle of it, and judges what came of it. Each attempt takes half of the
    /// time of the one before.
    pub async fn interrupt(&self, moment: Moment, role: Role, attempt: u32, rng: &mut StdRng) -> Result<Hit> {
        self.roles_are_back().await?;
        let within_ms = (moment.within_ms() >> attempt).max(1);
        let delay = Duration::from_millis(rng.random_range(0..within_ms));
        match moment {
            Moment::ImageArrives => self.image_arrives(role, delay, rng).await,
            Moment::BuildRuns | Moment::BuildIsCancelled => self.build(moment, role, delay, rng).await,
            Moment::VmStarts => self.vm_starts(role, delay).await,
            Moment::VmRuns | Moment::VmStops => self.vm(moment, role, delay).await,
            _ => self.cached(moment, role, delay).await,
        }
    }

    async fn image_arrives(&self, role: Role, delay: Duration, rng: &mut StdRng) -> Result<Hit> {
        let tag = format!("n{:016x}", rng.random::<u64>());
        let file = Entry::file("srv/n", tag.clone());
        let layer = Layer::new(&[file], Compression::Gzip);
        self.registry.push("app", &tag, &busybox(Format::Oci, Compression::Gzip)?.layer(layer).build()).await?;
        let reference = self.registry.reference("app", &tag);
        let act = self.server.import(&reference, self.registry.password());
        let (answer, hit) = tokio::join!(act, self.kill_after(role, delay, None));
        let hit = hit?;
        check::answers(&self.server).await?;
        // Importing again what came through or did not is harmless.
        let answer = match answer {
            Ok(answer) if answer.status < 500 => answer,
            _ => {
                check::until(&self.server, "the import is taken", async || {
                    let again = self.server.import(&reference, self.registry.password()).await;
                    Ok(again.ok().filter(|answer| answer.status < 500))
                })
                .await?
            }
        };
        let path = format!("/v1/image/{}", text(&answer.ok(), "imageId")?);
        check::settles(&self.server, &path, "state", &["ready"]).await?;
        Ok(hit)
    }

    async fn build(&self, moment: Moment, role: Role, delay: Duration, rng: &mut StdRng) -> Result<Hit> {
        let nonce: u64 = rng.random();
        let dockerfile = format!("FROM cakework/{}\nRUN usleep 300000; echo {nonce} > /n\nCOPY f /f\n", self.image);
        let file = json!({"dir": ".", "name": "f", "content": "f"});
        let body = json!({"dockerfile": dockerfile, "files": [file]});
        let id = text(&self.server.post("/v1/image/build/files", body).await?.ok(), "buildId")?;
        let path = format!("/v1/image/build/{id}");
        let is_cancelled = moment == Moment::BuildIsCancelled;
        let act = async {
            if is_cancelled {
                tokio::time::sleep(delay.saturating_sub(CANCELLED)).await;
                let _ = self.server.post(&format!("{path}/cancel"), json!({})).await;
            }
        };
        let ((), hit) = tokio::join!(act, self.kill_after(role, delay, Some((&path, "status"))));
        let hit = hit?;
        check::answers(&self.server).await?;
        if is_cancelled {
            check::takes(&self.server, &format!("{path}/cancel")).await?;
        }
        let built = check::settles(&self.server, &path, "status", &["succeeded", "failed"]).await?;
        if built["status"] == "failed" {
            let code = text(&built["error"], "code")?;
            let may = match role {
                _ if is_cancelled && code == "cancelled" => true,
                // What a host did for a build goes with its agent, and is said so.
                Role::Agent => code == "host_lost",
                _ => false,
            };
            ensure!(may, "the build failed with {}", built["error"]);
        }
        Ok(hit)
    }

    async fn vm_starts(&self, role: Role, delay: Duration) -> Result<Hit> {
        let known = self.vms().await?;
        let act = self.server.start_vm(json!({"imageId": self.image, "command": ["sh", "-c", APP]}));
        let kill = async {
            match role {
                Role::Api | Role::Agent => self.kill_after(role, delay, None).await,
                Role::Monitor | Role::Sandbox => {
                    tokio::time::sleep(delay).await;
                    self.kill_of_new(role, &known).await
                }
            }
        };
        let (answer, hit) = tokio::join!(act, kill);
        let hit = hit?;
        check::answers(&self.server).await?;
        // A call whose server died may have done its work or not: the list says which.
        let begun: Vec<_> = self.vms().await?.into_iter().filter(|id| !known.contains(id)).collect();
        ensure!(begun.len() <= 1, "one start made {begun:?}");
        ensure!(!begun.is_empty() || answer.is_err(), "a start was answered, and there is no VM");
        for id in begun {
            let path = format!("/v1/vm/{id}");
            let ends: &[&str] = match role {
                Role::Api | Role::Agent => &["started"],
                Role::Monitor | Role::Sandbox => &["started", "destroyed"],
            };
            let vm = check::settles(&self.server, &path, "state", ends).await?;
            // What was seen of a killed sandbox may be from before its end.
            if vm["state"] == "started" && role != Role::Sandbox {
                self.lines_go_on(&id, role).await?;
            }
            self.end(&id, role).await?;
        }
        Ok(hit)
    }

    /// A VM that runs and logs.
    pub async fn running(&self) -> Result<String> {
        let body = json!({"imageId": self.image, "command": ["sh", "-c", APP]});
        let id = text(&self.server.start_vm(body).await?.ok(), "id")?;
        check::settles(&self.server, &format!("/v1/vm/{id}"), "state", &["started"]).await?;
        self.lines_go_on(&id, Role::Api).await?;
        Ok(id)
    }

    async fn vm(&self, moment: Moment, role: Role, delay: Duration) -> Result<Hit> {
        let id = self.running().await?;
        let path = format!("/v1/vm/{id}");
        let act = async {
            if moment == Moment::VmStops {
                let _ = self.server.stop_vm(&id).await;
            }
        };
        let ((), hit) = tokio::join!(act, self.kill_after(role, delay, Some((&path, "state"))));
        let hit = hit?;
        check::answers(&self.server).await?;
        if moment == Moment::VmRuns {
            let state = if role == Role::Sandbox { "destroyed" } else { "started" };
            check::settles(&self.server, &path, "state", &[state]).await?;
            if state == "started" {
                self.lines_go_on(&id, role).await?;
            }
        }
        self.end(&id, role).await?;
        Ok(hit)
    }

    /// Ends a one-time VM, and judges its log.
    pub async fn end(&self, id: &str, role: Role) -> Result<()> {
        check::takes(&self.server, &format!("/v1/vm/{id}/stop")).await?;
        check::settles(&self.server, &format!("/v1/vm/{id}"), "state", &["destroyed"]).await?;
        let log = Log::read(&self.server, &format!("/v1/vm/{id}/logs")).await?;
        log.is_whole(role == Role::Monitor)?;
        ensure!(log.begins <= 1, "the app of VM {id} began {} times", log.begins);
        Ok(())
    }

    async fn cached(&self, moment: Moment, role: Role, delay: Duration) -> Result<Hit> {
        let body = json!({"imageId": self.image, "port": 8080, "command": ["sh", "-c", APP]});
        let known = self.vms().await?;
        let answer = self.server.post("/v1/vm/cache", body);
        if moment == Moment::IsPrepared {
            let id = text(&answer.await?.ok(), "id")?;
            let hit = match role {
                Role::Api | Role::Agent => {
                    self.kill_after(role, delay, Some((&format!("/v1/vm/{id}"), "state"))).await?
                }
                Role::Monitor | Role::Sandbox => self.kill_of_new(role, &known).await?,
            };
            check::answers(&self.server).await?;
            self.serves_and_ends(&id, role).await?;
            return Ok(hit);
        }
        let id = text(&answer.await?.ok(), "id")?;
        let path = format!("/v1/vm/{id}");
        let call = async |name: &str| self.server.post(&format!("/v1/vm/cached/{id}/{name}"), json!({})).await;
        if moment != Moment::CachedStarts {
            call("start").await?.ok();
            self.lines_go_on(&id, role).await?;
        }
        if moment == Moment::Wakes {
            self.server.post(&format!("{path}/suspend"), json!({})).await?.ok();
        }
        let hostname = text(&self.server.get(&path).await?.ok(), "hostname")?;
        let act = async {
            match moment {
                Moment::CachedStarts => drop(call("start").await),
                Moment::FallsAsleep => drop(self.server.post(&format!("{path}/suspend"), json!({})).await),
                Moment::Wakes => drop(self.server.fetch(&hostname, "/at").await),
                Moment::CachedStops => drop(call("stop").await),
                Moment::IsDestroyed => drop(call("destroy").await),
                _ => {}
            }
        };
        // What starts may have no process yet; what ends may have none any more.
        let wait = if moment == Moment::CachedStarts { VICTIM } else { Duration::ZERO };
        let ((), hit) = tokio::join!(act, self.kill_one_after(role, delay, wait, Some((&path, "state"))));
        let hit = hit?;
        check::answers(&self.server).await?;
        match moment {
            Moment::IsDestroyed => {}
            Moment::CachedStops => {
                check::takes(&self.server, &format!("/v1/vm/cached/{id}/stop")).await?;
                check::settles(&self.server, &path, "state", &["stopped"]).await?;
            }
            Moment::CachedRuns if role == Role::Sandbox => {
                check::settles(&self.server, &path, "state", &["stopped"]).await?;
            }
            _ => {
                let ends: &[&str] = if role == Role::Sandbox || moment == Moment::CachedStarts {
                    &["started", "stopped"]
                } else {
                    &["started"]
                };
                check::settles(&self.server, &path, "state", ends).await?;
            }
        }
        if moment == Moment::IsDestroyed {
            check::takes(&self.server, &format!("/v1/vm/cached/{id}/destroy")).await?;
            check::settles(&self.server, &path, "state", &["destroyed"]).await?;
        } else {
            self.serves_and_ends(&id, role).await?;
        }
        Ok(hit)
    }

    /// A cached VM answers under its hostname, whatever was; its log is whole; it goes.
    async fn serves_and_ends(&self, id: &str, role: Role) -> Result<()> {
        let path = format!("/v1/vm/{id}");
        let hostname = text(&self.server.get(&path).await?.ok(), "hostname")?;
        check::serves(&self.server, &hostname).await?;
        check::settles(&self.server, &path, "state", &["started"]).await?;
        check::takes(&self.server, &format!("/v1/vm/cached/{id}/stop")).await?;
        check::settles(&self.server, &path, "state", &["stopped"]).await?;
        let log = Log::read(&self.server, &format!("/v1/vm/cached/{id}/logs")).await?;
        log.is_whole_over_runs(role == Role::Monitor)?;
        check::takes(&self.server, &format!("/v1/vm/cached/{id}/destroy")).await?;
        check::settles(&self.server, &path, "state", &["destroyed"]).await?;
        Ok(())
    }

    /// Waits until lines of a VM arrive that were not there.
    pub async fn lines_go_on(&self, id: &str, role: Role) -> Result<()> {
        check::lines_go_on(&self.server, id).await.with_context(|| format!("{role:?}"))
    }

    /// The ids of all VMs.
    pub async fn vms(&self) -> Result<Vec<String>> {
        let list = self.server.get("/v1/vms?limit=1000").await?.ok();
        list["vms"].as_array().context("a list")?.iter().map(|vm| text(vm, "id")).collect()
    }

    /// Waits for what was killed before: between quick deaths of a role its supervisor lets some seconds pass.
    async fn roles_are_back(&self) -> Result<()> {
        let end = Instant::now() + ROLES_BACK;
        for role in [Role::Api, Role::Agent] {
            while let Err(error) = self.server.role_pid(role.name()) {
                ensure!(Instant::now() < end, "{role:?} has not come back: {error}");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Kills a role of the server.
    pub fn kill(&self, role: Role) -> Result<()> {
        ensure!(signal(self.server.role_pid(role.name())?, Signal::KILL), "{role:?} has ended by itself");
        Ok(())
    }

    /// Kills a role of the server, or a process of the VM whose path this is, and says what was seen there before.
    async fn kill_after(&self, role: Role, delay: Duration, object: Option<(&str, &str)>) -> Result<Hit> {
        self.kill_one_after(role, delay, Duration::ZERO, object).await
    }

    /// The same, of a process that may have to be waited for.
    async fn kill_one_after(
        &self,
        role: Role,
        delay: Duration,
        wait: Duration,
        object: Option<(&str, &str)>,
    ) -> Result<Hit> {
        tokio::time::sleep(delay).await;
        let seen = match object {
            Some((path, field)) => self.server.get(path).await.map_or(Value::Null, |answer| answer.json[field].clone()),
            None => Value::Null,
        };
        let seen =
            format!("{} ms in{}", delay.as_millis(), seen.as_str().map_or(String::new(), |word| format!(", {word}")));
        let kills = match role {
            Role::Api | Role::Agent => {
                let pid = self.server.role_pid(role.name())?;
                u32::from(signal(pid, Signal::KILL))
            }
            Role::Monitor | Role::Sandbox => {
                let (path, _) = object.context("a VM")?;
                let id = path.rsplit('/').next().unwrap_or_default();
                self.kill_processes(role, wait, |words| words.contains(id)).await?
            }
        };
        Ok(Hit { kills, seen })
    }

    /// Kills a process of the VM that is not among those that are known, once it has one.
    async fn kill_of_new(&self, role: Role, known: &[String]) -> Result<Hit> {
        let is_new = |words: &str| !known.iter().any(|id| words.contains(id.as_str()));
        let kills = self.kill_processes(role, VICTIM, is_new).await?;
        Ok(Hit { kills, seen: "as soon as it was there".to_owned() })
    }

    /// Kills the processes of a kind in this server's directory that are meant; waits so long for the first.
    async fn kill_processes(&self, role: Role, wait: Duration, is_meant: impl Fn(&str) -> bool) -> Result<u32> {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let pids = self.processes(role, &is_meant)?;
            let kills = pids.into_iter().map(|pid| u32::from(signal(pid, Signal::KILL))).sum();
            // It may have ended before.
            if kills > 0 || tokio::time::Instant::now() > end {
                return Ok(kills);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The processes of VMs of a kind in this server's directory whose arguments are meant.
    fn processes(&self, role: Role, is_meant: impl Fn(&str) -> bool) -> Result<Vec<u32>> {
        let dir = self.server.data_dir().display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            let mut parts = words.split('\0');
            let (program, first) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let is_role = match role {
                Role::Monitor => first == "monitor",
                Role::Sandbox => program.starts_with("runsc-sandbox"),
                Role::Api | Role::Agent => bail!("{role:?} is no process of a VM"),
            };
            if is_role && words.contains(&dir) && is_meant(&words) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Stops each role in turn for some seconds while a VM runs: afterwards all goes on, and nothing is missing.
    pub async fn stall_each(&self, stall: Duration) -> Result<()> {
        let id = self.running().await?;
        for role in Role::ALL {
            let pids = match role {
                Role::Api | Role::Agent => vec![self.server.role_pid(role.name())?],
                Role::Monitor | Role::Sandbox => self.processes(role, |words| words.contains(&id))?,
            };
            ensure!(!pids.is_empty(), "VM {id} has no {role:?}");
            let all_get = |sent| pids.iter().all(|pid| signal(*pid, sent));
            ensure!(all_get(Signal::STOP), "{role:?} has ended");
            tokio::time::sleep(stall).await;
            ensure!(all_get(Signal::CONT), "{role:?} has ended meanwhile");
            check::answers(&self.server).await?;
            check::settles(&self.server, &format!("/v1/vm/{id}"), "state", &["started"]).await?;
            self.lines_go_on(&id, role).await?;
        }
        self.end(&id, Role::Api).await
    }
}

/// Whether the process was there to get it.
fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn text(value: &Value, name: &str) -> Result<String> {
    value[name].as_str().map(str::to_owned).with_context(|| format!("a {name} in {value}"))
}
