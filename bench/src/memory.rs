//! Memory of the server's processes at rest, with one VM running; an agent's peak while others measure.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::{Auth, Registry};
use serde_json::json;

use crate::sandbox::PORT;
use crate::stats::Table;
use crate::subject::{Access, Subject, WAIT, first_byte};

/// Time in which nothing is asked of the server before its memory is read.
const REST: Duration = Duration::from_secs(5);

/// Memory of one process in KiB, as proc_pid_smaps_rollup(5) has it.
pub struct Memory {
    pub pid: u32,
    role: String,
    pub rss_kib: u64,
    pss_kib: u64,
    private_kib: u64,
}

/// Starts a VM, leaves the server alone, and reads.
pub async fn measure(access: &Access) -> Result<Table> {
    let subject = access.open().await?;
    let vm = running_vm(&subject).await?;
    tokio::time::sleep(REST).await;
    let processes = processes(&subject.data_dir)?;
    let mut table =
        Table::new("Memory at rest, one VM running", &["process", "RSS MiB", "PSS MiB", "private MiB", "target"]);
    let mib = |kib: u64| format!("{:.2}", kib as f64 / 1024.0);
    for process in &processes {
        let target = if process.role == "monitor" { "private ≤ 1 MiB" } else { "" };
        table.row(&[
            process.role.clone(),
            mib(process.rss_kib),
            mib(process.pss_kib),
            mib(process.private_kib),
            target.to_owned(),
        ]);
    }
    let sum = |field: fn(&Memory) -> u64| -> u64 {
        processes.iter().filter(|process| process.role != "monitor").map(field).sum()
    };
    table.row(&[
        "all but the monitor".to_owned(),
        mib(sum(|process| process.rss_kib)),
        mib(sum(|process| process.pss_kib)),
        mib(sum(|process| process.private_kib)),
        "RSS ≤ 100 MiB".to_owned(),
    ]);
    subject.stop(&vm).await?;
    Ok(table)
}

/// The peak of a process's resident memory, from when it is made on.
pub struct Peak {
    pid: u32,
}

impl Peak {
    /// Begins to watch the agent of a server, which runs.
    pub fn of_agent(data_dir: &Path) -> Result<Self> {
        let agent = processes(data_dir)?.into_iter().find(|process| process.role == "agent");
        let pid = agent.context("the server has no agent")?.pid;
        // proc_pid_clear_refs(5): 5 sets the peak back to what there is now.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("setting the peak back needs root")?;
        Ok(Self { pid })
    }

    /// The peak until now, in MiB.
    pub fn mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the agent has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("the kernel names no VmHWM")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

async fn running_vm(subject: &Subject) -> Result<String> {
    let registry = Registry::start(Auth::Basic).await?;
    let image = images::python_app(Format::Oci, Compression::Gzip)?.build();
    registry.push("bench/app", "v1", &image).await?;
    let image_id = subject.import(&registry.reference("bench/app", "v1"), registry.password()).await?;
    let vm = subject.post("/v1/vm/start", json!({"imageId": image_id, "port": PORT})).await?;
    first_byte(&subject.edge, vm["hostname"].as_str().context("startVM answers a hostname")?).await?;
    Ok(vm["id"].as_str().context("startVM answers an id")?.to_owned())
}

/// The supervisor, which holds the data directory's lock, its children, and the monitors of the directory's VMs.
pub fn processes(data_dir: &Path) -> Result<Vec<Memory>> {
    let end = Instant::now() + WAIT;
    let lock = data_dir.join("lock");
    let supervisor = loop {
        let holder = pids()?.into_iter().find(|pid| role(*pid) == "serve" && holds(*pid, &lock));
        if let Some(pid) = holder {
            break pid;
        }
        ensure!(Instant::now() < end, "no `cakework serve` holds {}", lock.display());
    };
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    let mut found = vec![supervisor];
    found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    let dir = data_dir.display().to_string();
    let monitors = pids()?.into_iter().filter(|pid| role(*pid) == "monitor" && command_line(*pid).contains(&dir));
    found.extend(monitors.filter(|pid| !found.contains(pid)).collect::<Vec<_>>());
    found.into_iter().map(read).collect()
}

fn pids() -> Result<Vec<u32>> {
    Ok(fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a process has this file open.
fn holds(pid: u32, file: &Path) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == file))
}

fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// The word after the program's name.
fn role(pid: u32) -> String {
    command_line(pid).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn read(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("reading smaps_rollup needs root")?;
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    Ok(Memory {
        pid,
        role: role(pid),
        rss_kib: field("Rss"),
        pss_kib: field("Pss"),
        private_kib: field("Private_Clean") + field("Private_Dirty"),
    })
}
