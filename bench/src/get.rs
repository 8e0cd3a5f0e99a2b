//! getVm, one call after the other on one connection, with few and with many VMs in the database.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cakework_testkit::images::{self, Compression, Format};
use cakework_testkit::process::run;
use cakework_testkit::{Auth, Registry};
use serde_json::json;

use crate::stats::{Samples, Table};
use crate::subject::{Access, Subject};

const VMS: usize = 10_000;
const CALLS: usize = 5_000;

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
    let vm = ended_vm(&subject).await?;
    let one = |_: usize| vm.clone();
    calls(&subject, CALLS / 10, one).await?;
    let few = calls(&subject, CALLS, one).await?;
    let rows = copy_rows(&subject.data_dir, &vm)?;
    // A stride that is prime to the count visits all of them in no order that an index has.
    let many = calls(&subject, CALLS, |call| format!("be{:012x}", call * 7919 % VMS + 1)).await?;
    let mut table = Table::new(
        "getVm at a client on one connection",
        &["VMs", "calls", "median ms", "p99 ms", "ratio of p99", "target"],
    );
    for (name, samples, target) in [("few", &few, ""), (rows.as_str(), &many, "p99 ≤ 2 ms")] {
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

/// A VM that has run and ended.
async fn ended_vm(subject: &Subject) -> Result<String> {
    let registry = Registry::start(Auth::Basic).await?;
    let image = images::busybox(Format::Oci, Compression::Gzip)?.build();
    registry.push("bench/busybox", "v1", &image).await?;
    let image_id = subject.import(&registry.reference("bench/busybox", "v1"), registry.password()).await?;
    let vm = subject.post("/v1/vm/start", json!({"imageId": image_id})).await?;
    let id = vm["id"].as_str().context("startVM answers an id")?.to_owned();
    subject.stop(&id).await?;
    Ok(id)
}

fn copy_rows(data_dir: &Path, vm: &str) -> Result<String> {
    let database = data_dir.join("api/cakework.db");
    let output = run(Command::new("python3").args(["-c", COPY]).arg(database).args([vm, &VMS.to_string()]))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
