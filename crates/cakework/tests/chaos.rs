//! A short chaos run: agent and api are killed with SIGKILL while VMs start, log and stop.
//!
//! Whatever happened, afterwards: every VM's state is right, no app was restarted, every line of every log is there
//! once and in order, and the kernel holds nothing that it did not hold before. `CAKEWORK_CHAOS_SEED` repeats a run;
//! `CAKEWORK_CHAOS_ROUNDS` makes it longer.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{Compression, Format, busybox};
use cakework_testkit::kernel::{Census, Kind, Object, Scope};
use cakework_testkit::registry::{Auth, Registry};
use cakework_testkit::server::{Options, Server};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const ROUNDS_DEFAULT: u32 = 6;
/// How long the system may take to be right again after the last kill.
const SETTLE: Duration = Duration::from_secs(90);
const LEFTOVERS: Duration = Duration::from_secs(30);

/// Says once when it began and then counts, ten lines a second, until it is stopped.
const APP: &str = "echo began $(cut -d' ' -f1 /proc/uptime); i=0; trap 'echo stopping; exit 0' TERM; \
                   while true; do i=$((i+1)); echo line $i; usleep 100000; done";

#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_roles_lose_nothing() -> Result<()> {
    let seed: u64 = from_env("CAKEWORK_CHAOS_SEED").unwrap_or_else(rand::random);
    let rounds: u32 = from_env("CAKEWORK_CHAOS_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut rng = StdRng::seed_from_u64(seed);
    let registry = Registry::start(Auth::Basic).await?;
    registry.push("app", "1", &busybox(Format::Oci, Compression::Gzip)?.build()).await?;
    let server = Server::start(Options::new(env!("CARGO_BIN_EXE_cakework"))).await?;
    let image = server.import(&registry.reference("app", "1"), registry.password()).await?.ok();
    let image = image["imageId"].as_str().context("an image id")?.to_owned();
    let scope = server.scope()?;
    let before = Census::take(&scope)?;

    let mut kills = BTreeMap::from([("agent", 0), ("api", 0)]);
    // Whether each VM is to live: false once a stop was answered.
    let mut wanted: BTreeMap<String, bool> = BTreeMap::new();
    for round in 0..rounds {
        let role = if round % 2 == 0 { "agent" } else { "api" };
        let delay = Duration::from_millis(rng.random_range(0..400));
        let victim = wanted.iter().find(|(_, lives)| **lives).map(|(id, _)| id.clone()).filter(|_| wanted.len() > 2);
        let start = server.start_vm(json!({"imageId": image, "command": ["sh", "-c", APP]}));
        let stop = async {
            match &victim {
                Some(id) => Some(server.stop_vm(id).await),
                None => None,
            }
        };
        let kill = async {
            tokio::time::sleep(delay).await;
            kill_role(&server, role)
        };
        let (started, stopped, killed) = tokio::join!(start, stop, kill);
        killed.with_context(|| format!("killing {role}, seed {seed}"))?;
        *kills.get_mut(role).expect("both roles are there") += 1;
        answers(&server).await.with_context(|| format!("after killing {role}, seed {seed}"))?;
        // A call whose server died may have done its work or not: the list says which.
        for vm in vms(&server).await? {
            let id = vm["id"].as_str().context("an id")?.to_owned();
            wanted.entry(id).or_insert(true);
        }
        if let (Some(id), Some(answer)) = (victim, stopped) {
            // The same holds for a stop: asking again is harmless, and makes the wish certain.
            if answer.is_err() {
                server.stop_vm(&id).await?.ok();
            }
            wanted.insert(id, false);
        }
        let said = started.map_or_else(|_| "no answer".to_owned(), |answer| answer.status.to_string());
        println!("killed {role} after {} ms; the start got {said}", delay.as_millis());
    }
    println!("seed {seed}: kills {kills:?}, {} VMs", wanted.len());
    ensure!(!wanted.is_empty(), "no VM was ever started");

    for (id, lives) in &wanted {
        let state = if *lives { "started" } else { "destroyed" };
        settle(&server, id, state).await.with_context(|| format!("seed {seed}"))?;
    }
    for id in wanted.keys() {
        lines_are_whole(&server, id).await.with_context(|| format!("VM {id}, seed {seed}"))?;
    }
    a_leak_is_seen(&scope)?;
    for (id, lives) in &wanted {
        server.stop_vm(id).await?.ok();
        settle(&server, id, "destroyed").await?;
        let last = lines_are_whole(&server, id).await.with_context(|| format!("VM {id}, seed {seed}"))?;
        ensure!(last > 0 || !lives, "VM {id} never wrote a line");
    }
    // Sandboxes may wait for the next starts.
    server.drain().await?;
    // The roles were started anew, so their processes differ; those of VMs may not be there any more.
    let left: Vec<_> = Census::leftovers(&scope, &before, LEFTOVERS)?.into_iter().filter(|it| !is_role(it)).collect();
    ensure!(left.is_empty(), "left over, seed {seed}: {left:?}");
    Ok(())
}

fn is_role(object: &Object) -> bool {
    object.kind == Kind::Process && !["monitor", "runsc", "unpack"].iter().any(|word| object.name.contains(word))
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn kill_role(server: &Server, role: &str) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(server.role_pid(role)?)?).context("a process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Waits until the api answers again.
async fn answers(server: &Server) -> Result<()> {
    let end = Instant::now() + SETTLE;
    while !matches!(server.get("/v1/vms").await, Ok(answer) if answer.status == 200) {
        ensure!(Instant::now() < end, "the api does not answer:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn vms(server: &Server) -> Result<Vec<Value>> {
    let list = server.get("/v1/vms").await?.ok();
    Ok(list["vms"].as_array().context("a list")?.clone())
}

async fn settle(server: &Server, id: &str, state: &str) -> Result<()> {
    let end = Instant::now() + SETTLE;
    loop {
        let vm = server.get(&format!("/v1/vm/{id}")).await?.ok();
        if vm["state"] == state {
            return Ok(());
        }
        ensure!(Instant::now() < end, "VM {id} is not {state} but {vm}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads a VM's whole log page by page. Answers the number of its last line.
async fn lines_are_whole(server: &Server, id: &str) -> Result<u64> {
    let (mut next, mut began, mut token) = (1, 0, String::new());
    loop {
        let page = server.logs(id, &format!("batch=1000{token}")).await?.ok();
        for line in page["lines"].as_array().context("lines")? {
            let message = line["message"].as_str().context("a message")?;
            match message.split_once(' ') {
                Some(("began", _)) => began += 1,
                Some(("line", number)) => {
                    ensure!(number.parse::<u64>()? == next, "line {number} stands where {next} belongs");
                    next += 1;
                }
                _ => ensure!(message == "stopping", "unexpected line: {message}"),
            }
        }
        match page["pagination"].as_str() {
            Some(pagination) => token = format!("&pagination={pagination}"),
            None => break,
        }
    }
    ensure!(began <= 1, "the app began {began} times");
    ensure!(began == 1 || next == 1, "the line that says when the app began is missing");
    Ok(next - 1)
}

/// A network namespace that nobody gives back must turn the census red: else its silence would mean nothing.
fn a_leak_is_seen(scope: &Scope) -> Result<()> {
    let before = Census::take(scope)?;
    let name = before
        .objects()
        .find(|object| object.kind == Kind::Netns)
        .map(|object| format!("{}-leak", object.name))
        .context("a VM with a network is there")?;
    ensure!(Command::new("ip").args(["netns", "add", &name]).status()?.success(), "ip netns add");
    let left = Census::leftovers(scope, &before, Duration::from_millis(200));
    ensure!(Command::new("ip").args(["netns", "del", &name]).status()?.success(), "ip netns del");
    ensure!(left?.iter().any(|object| object.name == name), "the census does not see a leaked network namespace");
    Ok(())
}
