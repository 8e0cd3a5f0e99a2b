//! What cached VMs may take that do not run, and what they take now where a server runs.

use cakework_server::waiting;
use cakework_wire::host::CachedStatus;

use super::row::Row;
use crate::config::Settings;

const NAME: &str = "waiting";

/// Reads the settings, and asks the agent below the data directory where one answers.
pub fn row(settings: &Settings) -> Row {
    let socket = settings.data_dir.join("run/agent.sock");
    let asked = || -> Option<CachedStatus> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(waiting(&socket))
    };
    match socket.exists().then(asked).flatten() {
        Some(status) => Row::ok(NAME, now(&status)),
        None => Row::ok(NAME, configured(settings)),
    }
}

fn configured(settings: &Settings) -> String {
    let part = |mib: Option<u64>, part: &str| mib.map_or_else(|| part.to_owned(), |mib| format!("{mib} MiB"));
    format!(
        "cached VMs that do not run may take {}, those of one account {}",
        part(settings.cached.waiting_mib, "a quarter of the memory"),
        part(settings.cached.account_waiting_mib, "half of that"),
    )
}

fn now(status: &CachedStatus) -> String {
    let CachedStatus { paused, blank, created, asleep, restores_failed, host_cap_mib, scope_cap_mib } = status;
    let mib = paused.memory_mib + blank.memory_mib + created.memory_mib + asleep.memory_mib;
    let ready = paused.count + blank.count + created.count;
    format!(
        "{mib} of {host_cap_mib} MiB, {scope_cap_mib} of one account: {ready} ready for a start, {} asleep; \
         {restores_failed} restores failed",
        asleep.count
    )
}

#[cfg(test)]
mod tests {
    use cakework_wire::host::WaitingVms;

    use super::*;

    #[test]
    fn what_waits_is_said_with_its_caps() {
        let of = |count, memory_mib| WaitingVms { count, memory_mib };
        let status = CachedStatus {
            paused: of(2, 50),
            blank: of(0, 0),
            created: of(1, 10),
            asleep: of(3, 90),
            restores_failed: 4,
            host_cap_mib: 1000,
            scope_cap_mib: 500,
        };
        let said = "150 of 1000 MiB, 500 of one account: 3 ready for a start, 3 asleep; 4 restores failed";
        assert_eq!(now(&status), said);
        let mut settings = Settings::default();
        settings.cached.waiting_mib = Some(7);
        let said = "cached VMs that do not run may take 7 MiB, those of one account half of that";
        assert_eq!(configured(&settings), said);
    }
}
