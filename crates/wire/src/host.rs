//! The host protocol: HTTP with JSON bodies, over a unix socket on one machine (TLS when remote).
//!
//! | verb | body | answer |
//! |---|---|---|
//! | `GET /v1/host` | | [`HostStatus`] |
//! | `PUT /v1/host/drain` | [`Drain`] | [`HostStatus`] |
//! | `GET /v1/host/cached` | | [`CachedStatus`] |
//! | `GET /v1/watch?after=SEQ&wait_ms=MS` | | [`WatchPage`] |
//! | `POST /v1/spares/claim` | [`ClaimSpare`] | [`Claimed`] |
//! | `PUT /v1/vms/{vmId}` | [`PutVm`] | [`PutVmAnswer`] |
//! | `POST /v1/vms/{vmId}/stop` | [`EndVm`] | [`Accepted`] |
//! | `POST /v1/vms/{vmId}/sleep` | [`SleepVm`] | [`SleepAnswer`] |
//! | `POST /v1/vms/{vmId}/wake` | [`WakeVm`] | [`VmReport`] |
//! | `DELETE /v1/vms/{vmId}?generation=N` | | [`Accepted`] |
//! | `POST /v1/vms/{vmId}/logs` | [`LogRequest`] | [`LogPage`] |
//! | `POST /v1/logs/search` | [`SearchLogs`] | [`FoundPage`] |
//! | `POST /v1/images/resolve` | [`ResolveImage`] | [`ResolvedImage`] |
//! | `PUT /v1/images/{digest}` | [`PullImage`] | [`ImageReport`] |
//! | `GET /v1/images/{digest}` | | [`ImageReport`] |
//!
//! Builds have verbs of their own: [`crate::build`]. So have commands that run in a VM: [`crate::exec`].
//!
//! Every answer is a [`Reply`]; every failure an [`AgentProblem`] with a 4xx or 5xx status. Verbs are idempotent on
//! `(vmId, generation)` and on an image's digest. Each request names the caller's protocol in [`PROTOCOL_HEADER`];
//! the agent refuses one below [`PROTOCOL_OLDEST`].

use std::net::Ipv4Addr;

use cakework_core::admission::{Amounts, Shortage};
use cakework_core::cached::{CachedSpec, Start};
use cakework_core::id::{Generation, HostId, Incarnation, VmId};
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle::Exit;
use cakework_core::logquery::{LogQuery, Position};
use cakework_core::logsearch::Mark;
use cakework_core::spec::VmSpec;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::build::BuildReport;

/// The protocol that this build speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest protocol that this build still understands.
pub const PROTOCOL_OLDEST: u32 = 1;
/// The request header that carries the caller's protocol.
pub const PROTOCOL_HEADER: &str = "cakework-protocol";
/// Longest time that a watch is held, in milliseconds.
pub const WATCH_WAIT_MAX_MS: u64 = 30_000;
/// Longest time that a wake is held, in milliseconds.
pub const WAKE_WAIT_MAX_MS: u64 = 10_000;

/// An answer of the agent, with the host and the life of the host that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply<T> {
    /// The host.
    pub host_id: HostId,
    /// Its life: another one means that the VMs of the one before are gone.
    pub incarnation: Incarnation,
    /// The answer.
    pub body: T,
}

/// A failure, as the agent says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentProblem {
    /// A word that programs branch on.
    pub code: ProblemCode,
    /// A sentence for the user; it holds no path and no secret.
    pub message: String,
}

/// Failures of the agent that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The registry refused the credential, or wants one.
    RegistryUnauthorized,
    /// The registry does not know the repository or the tag.
    ImageNotFound,
    /// The index has no image for this host's architecture.
    ImageArchitecture,
    /// A manifest, config or layer is not what its digest says, or not of a form we read.
    ImageInvalid,
    /// The image is over a limit.
    ImageTooLarge,
    /// The reference is not one, or names plain HTTP where that is not allowed.
    ImageReference,
    /// An address that the host does not go to for a stranger.
    EgressDenied,
    /// The registry could not be reached, or answered 5xx.
    RegistryUnavailable,
    /// The host does not know it.
    Unknown,
    /// The VM does not run in this placement, or sleeps.
    NotRunning,
    /// As much goes on as may at once.
    Busy,
    /// A command that can't be started.
    InvalidCommand,
    /// The caller's protocol is too old, or the message is not one.
    Protocol,
    /// The host has no room on its disk.
    DiskFull,
    /// Something else; the agent's log has the cause.
    Internal,
}

/// What a host is and has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The protocol that the agent speaks.
    pub protocol: u32,
    /// What its VMs run in; `None` while it refuses to start any.
    pub isolation: Option<Isolation>,
    /// Why it refuses, with the fix.
    pub refusal: Option<String>,
    /// The engine's own name and version.
    pub engine: Option<String>,
    /// All it has to give.
    pub capacity: Amounts,
    /// What of it is promised.
    pub reserved: Amounts,
    /// It takes no new VMs.
    pub draining: bool,
}

/// What waits on a host: for starts, or asleep. Of what was promised, none of it is a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedStatus {
    /// Prepared instances that wait for a start.
    pub paused: WaitingVms,
    /// Sandboxes that wait for the prepared memory to be restored into them.
    #[serde(default)]
    pub blank: WaitingVms,
    /// Sandboxes with nothing running in them that wait for a start.
    pub created: WaitingVms,
    /// Runs that sleep where they are.
    pub asleep: WaitingVms,
    /// Restores that failed since the agent started; a slower start took the place of each.
    pub restores_failed: u64,
    /// What may wait on the host, in MiB.
    #[serde(default)]
    pub host_cap_mib: u64,
    /// What may wait of one scope, in MiB.
    #[serde(default)]
    pub scope_cap_mib: u64,
}

/// Sandboxes of one kind that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingVms {
    /// How many.
    pub count: u64,
    /// Their memory in MiB.
    pub memory_mib: u64,
}

/// Starts or ends draining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// Whether new VMs are refused.
    pub draining: bool,
}

/// Asks for a sandbox that was made ahead for a VM that runs once, and says that one is about to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpare {
    /// Whose it is: nothing is shared between scopes.
    pub scope: String,
    /// What the VM is to be.
    pub spec: VmSpec,
}

/// The agent's answer to [`ClaimSpare`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// The id that the VM is to have. It is kept for a minute; whoever comes later, or asks for something else by it,
    /// starts as if there had been none.
    pub vm_id: Option<VmId>,
}

/// Wants a VM to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutVm {
    /// The placement.
    pub generation: Generation,
    /// Whose it is, opaque to the host: what waits ready and what is kept of logs is capped for each scope.
    #[serde(default)]
    pub scope: String,
    /// What the VM is to be.
    pub spec: VmSpec,
    /// Time left of the VM's life once it runs; `None` has no end. The agent enforces it alone.
    pub timeout_ms: Option<u64>,
    /// Time left for its image to arrive and its sandbox to run.
    pub start_remaining_ms: u64,
    /// How long the answer may wait for it to run, so that a fast start needs no second message.
    #[serde(default)]
    pub wait_ms: u64,
    /// A cached VM; absent, it runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<PutCached>,
}

/// What is wanted of a cached VM. It is put again, with a higher generation, for each of its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutCached {
    /// What it is to be.
    pub spec: CachedSpec,
    /// `true`: this placement is a run. `false`: the host only holds it, and makes it ready.
    pub run: bool,
}

/// The agent's answer to [`PutVm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum PutVmAnswer {
    /// Its share of the host is reserved, on disk, and its driver is on the way.
    Admitted {
        /// Where it is, if it was waited for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        now: Option<VmObservation>,
    },
    /// This placement was admitted before.
    Already {
        /// Where it is, if it was waited for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        now: Option<VmObservation>,
    },
    /// The host has seen a later placement of this VM, or a tombstone for this one.
    StaleGeneration {
        /// The highest generation seen.
        highest: Generation,
    },
    /// It does not fit.
    NoCapacity {
        /// What is missing.
        shortage: Shortage,
        /// What could still be promised.
        free: Amounts,
    },
    /// The host takes no new VMs.
    Draining,
    /// The host can't give the isolation or something else in the spec.
    Unsupported {
        /// A sentence with the fix.
        reason: String,
    },
}

/// Wants a VM to end with its stop signal and grace time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndVm {
    /// The placement that is to end; earlier ones too.
    pub generation: Generation,
    /// Without grace. A cached VM's run ends so and the VM stays.
    #[serde(default)]
    pub now: bool,
}

/// Wants a running cached VM to sleep: it is paused where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SleepVm {
    /// The run.
    pub generation: Generation,
    /// Only where it was idle for so long: no exec, and its CPU use under a floor.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// Its memory is written to the disk and its sandbox ends.
    #[serde(default)]
    pub spill: bool,
}

/// The agent's answer to [`SleepVm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum SleepAnswer {
    /// It sleeps.
    Asleep {
        /// The number of this change on the host, as in [`VmReport`].
        #[serde(default)]
        seq: u64,
    },
    /// It goes on: it was not idle.
    Busy {
        /// What it does.
        reason: String,
    },
    /// This run does not run.
    NotRunning,
}

/// Wants a sleeping cached VM to go on. Held until it does, within [`WAKE_WAIT_MAX_MS`]; one that runs is answered at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeVm {
    /// The run.
    pub generation: Generation,
}

/// The request is on record and will be done, also over a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {}

/// Where a VM is on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum VmObservation {
    /// Admitted: its image may still arrive.
    Starting,
    /// Its sandbox runs.
    Running {
        /// The address that the edge of this host reaches it by.
        address: Ipv4Addr,
        /// How it started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<Start>,
    },
    /// A cached one's run is held, and goes on where it is when it is woken.
    Asleep {
        /// Its memory is on the disk, and nothing of it runs.
        spilled: bool,
    },
    /// A cached one does not run and can be started.
    Stopped {
        /// How its last run ended; `None` before the first.
        exit: Option<Exit>,
    },
    /// Its end was asked for, or its sandbox is gone and its resources are being given back.
    Ending,
    /// It is over and has given back everything but its logs.
    Ended {
        /// How it ended.
        exit: Exit,
    },
}

/// One VM, as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmReport {
    /// The VM.
    pub vm_id: VmId,
    /// The placement.
    pub generation: Generation,
    /// Where it is.
    #[serde(flatten)]
    pub observation: VmObservation,
    /// The number of this change on its host: what is told under a smaller one was before it.
    #[serde(default)]
    pub seq: u64,
}

/// What changed on a host after a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchPage {
    /// Pass this as `after` next time. It grows over restarts of the agent within one incarnation.
    pub seq: u64,
    /// `vms`, `images` and `builds` are all there are, not just what changed: `after` was too old.
    pub resync: bool,
    /// VMs that changed.
    pub vms: Vec<VmReport>,
    /// Images that changed.
    pub images: Vec<ImageReport>,
    /// Builds that changed.
    #[serde(default)]
    pub builds: Vec<BuildReport>,
}

/// A registry's user and password. Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The user, such as ECR's `AWS`.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Wants to know what a reference names, without keeping anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolveImage {
    /// A reference such as `registry.example.com:5000/team/app:1.2` or `python:3.12-slim`.
    pub reference: String,
    /// For a private registry.
    pub credential: Option<Credential>,
}

/// What a reference names: manifest and config were fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedImage {
    /// Digest of the manifest for this host's platform, `sha256:<64 hex>`.
    pub digest: String,
    /// Compressed bytes of all layers, as declared.
    pub size_bytes: u64,
    /// How many layers.
    pub layers: u32,
}

/// Wants an image's layers on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullImage {
    /// The reference that was resolved; the digest in the path pins what is pulled.
    pub reference: String,
    /// For a private registry. Kept in memory only.
    pub credential: Option<Credential>,
}

/// One image, as a host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// Manifest digest.
    pub digest: String,
    /// Where it is.
    #[serde(flatten)]
    pub observation: ImageObservation,
}

/// Where an image is on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ImageObservation {
    /// Its layers arrive.
    Pulling {
        /// Compressed bytes that are there.
        done_bytes: u64,
        /// Compressed bytes in all.
        total_bytes: u64,
    },
    /// Every layer was verified and unpacked.
    Ready,
    /// It can't be used.
    Failed {
        /// Why.
        problem: AgentProblem,
    },
}

/// Asks for a page of a VM's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    /// The query, validated by the api.
    pub query: LogQuery,
}

/// A page of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// The lines, in the order of the query.
    pub lines: Vec<LogLine>,
    /// Where the next page begins; `None` when the log is read to its end for now (oldest first) or to its
    /// beginning (newest first).
    pub next: Option<Position>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Unix milliseconds.
    pub timestamp: u64,
    /// `info`, `error`, or what a JSON line says.
    pub level: String,
    /// The text; bytes that are not UTF-8 are replaced.
    pub message: String,
    /// The line was too long for one: it goes on in the next of its stream.
    #[serde(default)]
    pub continues: bool,
}

/// Asks for a page out of the logs of many VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchLogs {
    /// The VMs; those that the host never had have no lines.
    pub vms: Vec<VmId>,
    /// What is looked for; its own `after` says nothing.
    pub query: LogQuery,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Mark>,
}

/// A page out of many logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundPage {
    /// The lines, in the order of time, then of the VMs' ids.
    pub lines: Vec<FoundLine>,
    /// Behind what the next page begins; `None` where all logs were read to their ends for now.
    pub next: Option<Mark>,
}

/// A line that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundLine {
    /// Whose it is, and where a search goes on behind it.
    pub mark: Mark,
    /// The line.
    pub line: LogLine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_never_printed() {
        let credential = Credential { username: "AWS".into(), password: "geheim".into() };
        let pull = PullImage { reference: "r/app:1".into(), credential: Some(credential) };
        assert!(!format!("{pull:?}").contains("geheim"));
    }

    #[test]
    fn a_report_is_flat() {
        let report = VmReport {
            vm_id: "e784996f346483".parse().expect("an id"),
            generation: Generation(2),
            observation: VmObservation::Running { address: Ipv4Addr::new(10, 64, 0, 1), start: None },
            seq: 7,
        };
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(
            json,
            serde_json::json!({"vmId": "e784996f346483", "generation": 2, "state": "running", "address": "10.64.0.1", "seq": 7})
        );
        assert_eq!(serde_json::from_value::<VmReport>(json).expect("its own form"), report);
    }

    #[test]
    fn a_field_of_a_later_protocol_is_ignored() {
        let json = r#"{"seq": 4, "resync": false, "vms": [], "images": [], "later": {"x": 1}}"#;
        assert!(serde_json::from_str::<WatchPage>(json).is_ok());
    }
}
