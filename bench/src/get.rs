//! getVm, one call after the other on one connection, with few and with many VMs in the database; and five hundred calls a
//! second while VMs start.

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::run;
use cakework_testkit::{Auth, Registry, http};
use serde_json::json;

use crate::stats::{Samples, Table};
use crate::subject::{Access, Subject};

const VMS: usize = 10_000;
const CALLS: usize = 5_000;
/// Calls of the steady stream, and the time between two of them.
const STREAM: usize = 5_000;
const STREAM_EVERY: Duration = Duration::from_millis(2);
/// Clients that share it, and the time for them to be there.
const CLIENTS: usize = 8;
const STREAM_AHEAD: Duration = Duration::from_secs(3);

/// Copies a VM's row under new ids. A VM that has ended is copied, so that nobody acts on the copies.
const COPY: &str = r#"
import sqlite3, sys
path, vm, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = sqlite3.connect(path, timeout=30)
columns = [row[1] for row in db.execute("PRAGMA table_info(vms)")]
new = {"id": "printf('be%012x', n.i)", "label": "'01' || printf('%024d', n.i)"}
values = ", ".join(new.get(name, "vms." + name) for name in columns)
db.execute(
    f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
    f"INSERT INTO vms ({', '.join(columns)}) SELECT {values} FROM vms, n WHERE vms.id = ?", (count, vm))
db.commit()
print(db.execute("SELECT count(*) FROM vms").fetchone()[0])
"#;

/// Measures before and after the copies are made.
pub async fn measure(access: &Access) -> Result<Table> {
    let subject = access.open().await?;
    let (image_id, vm) = ended_vm(&subject).await?;
    let one = |_: usize| vm.clone();
    calls(&subject, CALLS / 10, one).await?;
    let few = calls(&subject, CALLS, one).await?;
    let rows = copy_rows(&subject.data_dir, &vm)?;
    // A stride that is prime to the count visits all of them in no order that an index has.
    let many = calls(&subject, CALLS, |call| format!("be{:012x}", call * 7919 % VMS + 1)).await?;
    let mut table = Table::new(
        "getVm at a client: on one connection, and as a steady stream",
        &["VMs", "calls", "median ms", "p99 ms", "ratio of p99", "target"],
    );
    let subject = Arc::new(subject);
    let alone = stream(&subject, None).await?;
    let beside = stream(&subject, Some(&image_id)).await?;
    for (name, samples, target) in [
        ("few", &few, ""),
        (rows.as_str(), &many, "p99 ≤ 2 ms"),
        ("500 calls a second", &alone.0, ""),
        (&format!("500 calls a second, while {} VMs start and stop", beside.1), &beside.0, "p99 ≤ 2 ms"),
    ] {
        table.row(&[
            name.to_owned(),
            samples.count().to_string(),
            format!("{:.2}", samples.median_ms()),
            format!("{:.2}", samples.percentile_ms(99)),
            format!("{:.2}×", samples.percentile_ms(99) / few.percentile_ms(99)),
            target.to_owned(),
        ]);
    }
    Ok(table)
}

/// A steady stream of calls, each timed from when it was due, so that waiting counts; how many VMs were started and
/// stopped meanwhile, one after the other.
async fn stream(subject: &Arc<Subject>, image_id: Option<&str>) -> Result<(Samples, usize)> {
    let started = Arc::new(AtomicUsize::new(0));
    let began = Instant::now() + STREAM_AHEAD;
    let starting = image_id.map(|image| {
        let starts = start_and_stop(Arc::clone(subject), image.to_owned(), Arc::clone(&started));
        tokio::spawn(async move {
            tokio::time::sleep_until(began.into()).await;
            starts.await
        })
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let subject = Arc::clone(subject);
            tokio::task::spawn_blocking(move || calls_when_due(&subject, began, client))
        })
        .collect();
    let mut samples = Samples::default();
    for client in clients {
        client.await??.into_iter().for_each(|took| samples.add(took));
    }
    if let Some(starting) = starting {
        ensure!(!starting.is_finished(), "a start failed: {:?}", starting.await);
        starting.abort();
    }
    Ok((samples, started.load(Ordering::Relaxed)))
}

/// One client's part of the stream, on a connection of its own. A client is elsewhere: its thread waits for no CPU that the
/// server or its VMs use.
fn calls_when_due(subject: &Subject, began: Instant, client: usize) -> Result<Vec<Duration>> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    run(Command::new("chrt").args(["--fifo", "--pid", "1", &thread]))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (own, mut times) = (http::client(), Vec::new());
    for call in (client..STREAM).step_by(CLIENTS) {
        let due = began + STREAM_EVERY * u32::try_from(call)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let url = format!("{}/v1/vm/be{:012x}", subject.url, call * 7919 % VMS + 1);
        runtime.block_on(async {
            own.get(url).header("X-Api-Key", subject.key()).send().await?.error_for_status()?.bytes().await
        })?;
        times.push(due.elapsed());
    }
    // The thread goes back to others.
    run(Command::new("chrt").args(["--other", "--pid", "0", &thread]))?;
    Ok(times)
}

/// Starts and stops VMs, one after the other, and counts them.
async fn start_and_stop(subject: Arc<Subject>, image_id: String, count: Arc<AtomicUsize>) -> Result<Infallible> {
    loop {
        let vm = subject.post("/v1/vm/start", json!({"imageId": image_id})).await?;
        subject.stop(vm["id"].as_str().context("startVM answers an id")?).await?;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn calls(subject: &Subject, count: usize, id: impl Fn(usize) -> String) -> Result<Samples> {
    let mut samples = Samples::default();
    for call in 0..count {
        let id = id(call);
        let path = format!("/v1/vm/{id}");
        let began = Instant::now();
        let vm = subject.get(&path).await?;
        samples.add(began.elapsed());
        ensure!(vm["id"] == id.as_str(), "another VM: {vm}");
    }
    Ok(samples)
}

/// An image, and a VM of it that has run and ended.
async fn ended_vm(subject: &Subject) -> Result<(String, String)> {
    let registry = Registry::start(Auth::Basic).await?;
    let image = images::busybox(Format::Oci, Compression::Gzip)?.build();
    registry.push("bench/busybox", "v1", &image).await?;
    let image_id = subject.import(&registry.reference("bench/busybox", "v1"), registry.password()).await?;
    let vm = subject.post("/v1/vm/start", json!({"imageId": image_id})).await?;
    let id = vm["id"].as_str().context("startVM answers an id")?.to_owned();
    subject.stop(&id).await?;
    Ok((image_id, id))
}

fn copy_rows(data_dir: &Path, vm: &str) -> Result<String> {
    let database = data_dir.join("api/cakework.db");
    let output = run(Command::new("python3").args(["-c", COPY]).arg(database).args([vm, &VMS.to_string()]))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
