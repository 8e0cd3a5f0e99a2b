//! VMs.

use std::collections::BTreeMap;

use cakework_core::cached;
use cakework_core::isolation::Isolation;
use cakework_core::lifecycle;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Starts a VM.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX", "cpu": 1, "memory": 256, "port": 8080, "envVars": {"GREETING": "hello"},
    "timeoutSeconds": 600, "tenant": "ann", "metadata": {"plan": "free"},
}))]
pub struct StartVm {
    /// The image to run.
    #[schema(example = "01GTZHKS9CZHQ1NKZCA3G0H4DX")]
    pub image_id: String,
    /// CPUs.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 8, default = 1)]
    pub cpu: Option<i64>,
    /// Memory in MB.
    #[serde(default)]
    #[schema(minimum = 256, maximum = 16384, default = 256)]
    pub memory: Option<i64>,
    /// The port that the VM's hostname leads to; without one it has none.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// Environment variables, set over the image's own.
    #[serde(default)]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Size of a volume at `/data`, in GB.
    #[serde(default, rename = "volumeGB")]
    #[schema(minimum = 1, maximum = 500)]
    pub volume_gb: Option<i64>,
    /// Replaces the image's command; its entrypoint stays.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The builder's own marks; `listVMs` filters by them.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Longest life of the VM once it runs.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31536000)]
    pub timeout_seconds: Option<i64>,
    /// The builder's end user whose VM this is.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
}

/// Caches a VM: one that starts again and again.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX", "cpu": 1, "memory": 256, "port": 8080, "idleTimeoutSeconds": 60,
    "tenant": "ann",
}))]
pub struct CacheVm {
    /// The image to run.
    #[schema(example = "01GTZHKS9CZHQ1NKZCA3G0H4DX")]
    pub image_id: String,
    /// CPUs.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 8, default = 1)]
    pub cpu: Option<i64>,
    /// Memory in MB.
    #[serde(default)]
    #[schema(minimum = 256, maximum = 16384, default = 256)]
    pub memory: Option<i64>,
    /// The port that the VM's hostname leads to; without one it has none.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// Environment variables, set over the image's own.
    #[serde(default)]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Size of a volume at `/data`, in GB. It stays as it was left from one run to the next.
    #[serde(default, rename = "volumeGB")]
    #[schema(minimum = 1, maximum = 500)]
    pub volume_gb: Option<i64>,
    /// Another name of `volumeGB`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 500)]
    pub disk_size: Option<i64>,
    /// Replaces the image's command; its entrypoint stays.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The builder's own marks; `listVMs` filters by them.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Longest life of one run.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 31536000)]
    pub timeout_seconds: Option<i64>,
    /// The builder's end user whose VM this is.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub tenant: Option<String>,
    /// Time without a request, connection or work after which it is put to sleep; absent, it never is.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2592000)]
    pub idle_timeout_seconds: Option<i64>,
    /// Whether a request to its hostname starts or wakes it; otherwise such a request is answered with 503.
    #[serde(default)]
    #[schema(default = true)]
    pub auto_start: Option<bool>,
    /// How far it is made ready before it is started.
    #[serde(default)]
    pub prewarm: Option<Prewarm>,
}

/// How far a cached VM is made ready before it is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prewarm {
    /// `boot` with a port and without a volume, else `create`.
    #[default]
    Auto,
    /// It is booted until it is ready; its memory and disk of that moment are what each start begins with.
    Boot,
    /// Its sandbox is made; no code of the image runs before the first start.
    Create,
    /// Nothing is made ready.
    None,
}

impl From<Prewarm> for cached::Prewarm {
    fn from(prewarm: Prewarm) -> Self {
        match prewarm {
            Prewarm::Auto => Self::Auto,
            Prewarm::Boot => Self::Boot,
            Prewarm::Create => Self::Create,
            Prewarm::None => Self::None,
        }
    }
}

impl From<cached::Prewarm> for Prewarm {
    fn from(prewarm: cached::Prewarm) -> Self {
        match prewarm {
            cached::Prewarm::Auto => Self::Auto,
            cached::Prewarm::Boot => Self::Boot,
            cached::Prewarm::Create => Self::Create,
            cached::Prewarm::None => Self::None,
        }
    }
}

/// How a VM's run started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// What it began with.
    pub tier: StartTier,
    /// From the host's hearing of the wish until its process went on, in milliseconds.
    pub duration_ms: u64,
    /// Why a faster tier was tried and given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// What a start began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartTier {
    /// A prepared instance that waited, paused.
    Paused,
    /// The prepared memory and disk, restored.
    Restored,
    /// A sandbox that was made before, with nothing running in it.
    Created,
    /// Nothing.
    Cold,
}

impl From<cached::Start> for Start {
    fn from(start: cached::Start) -> Self {
        let tier = match start.tier {
            cached::StartTier::Paused => StartTier::Paused,
            cached::StartTier::Restored => StartTier::Restored,
            cached::StartTier::Created => StartTier::Created,
            cached::StartTier::Cold => StartTier::Cold,
        };
        Self { tier, duration_ms: start.duration_ms, fallback: start.fallback }
    }
}

/// How a started VM sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sleep {
    /// It is paused where it is.
    Paused,
    /// Its memory is on the disk, and nothing of it runs.
    Spilled,
}

impl From<cached::Sleep> for Sleep {
    fn from(sleep: cached::Sleep) -> Self {
        match sleep {
            cached::Sleep::Paused => Self::Paused,
            cached::Sleep::Spilled => Self::Spilled,
        }
    }
}

/// A VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "id": "e784996f346483", "state": "started", "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX", "cpu": 1, "memory": 256,
    "port": 8080, "hostname": "01gv2zfbt345trtrdk6vhbeccz.localhost",
    "url": "http://01gv2zfbt345trtrdk6vhbeccz.localhost:8080", "isolation": "gvisor",
    "start": {"tier": "paused", "durationMs": 4}, "prewarm": "auto", "autoStart": true, "idleTimeoutSeconds": 60,
    "tenant": "ann", "metadata": {"plan": "free"},
    "createdAt": "2026-01-05T14:00:00Z", "updatedAt": "2026-01-05T14:00:01Z",
}))]
pub struct Vm {
    /// The VM.
    #[schema(example = "e784996f346483")]
    pub id: String,
    /// The name that it is reached by.
    #[schema(example = "01gv2zfbt345trtrdk6vhbeccz.localhost")]
    pub hostname: String,
    /// CPUs.
    pub cpu: u32,
    /// Memory in MB.
    pub memory: u32,
    /// The image that it runs.
    pub image_id: String,
    /// Where it is.
    pub state: VmState,
    /// The port that its hostname leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Size of its volume at `/data`, in GB.
    #[serde(rename = "volumeGB", skip_serializing_if = "Option::is_none")]
    pub volume_gb: Option<u32>,
    /// What keeps its code inside; known once a host took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "gvisor")]
    pub isolation: Option<Isolation>,
    /// Where its port is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "http://01gv2zfbt345trtrdk6vhbeccz.localhost:8080")]
    pub url: Option<String>,
    /// How it ended; of a cached one its last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How its run started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Where it is `started`: how it sleeps, if it does. This and the next three are of cached VMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Sleep>,
    /// Time without a request, connection or work after which it is put to sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u64>,
    /// Whether a request to its hostname starts or wakes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_start: Option<bool>,
    /// How far it is made ready before it is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prewarm: Option<Prewarm>,
    /// The builder's own marks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metadata: BTreeMap<String, String>,
    /// The builder's end user whose VM this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Longest life of the VM, or of a run of a cached one, once it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// When it was asked for.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its state last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Where a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// Wanted, not running yet: its image may still arrive.
    Created,
    /// It runs.
    Started,
    /// A one-time VM's end was asked for and goes on; a cached one does not run and can be started.
    Stopped,
    /// It is over.
    Destroyed,
}

impl VmState {
    /// Every state, in the order that a VM goes through them.
    pub const ALL: [Self; 4] = [Self::Created, Self::Started, Self::Stopped, Self::Destroyed];

    /// The word in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
        }
    }

    /// The recorded states that this word stands for.
    pub const fn recorded(self) -> &'static [lifecycle::VmState] {
        match self {
            Self::Created => &[lifecycle::VmState::Created],
            Self::Started => &[lifecycle::VmState::Started],
            Self::Stopped => {
                &[lifecycle::VmState::Stopping, lifecycle::VmState::Stopped, lifecycle::VmState::Destroying]
            }
            Self::Destroyed => &[lifecycle::VmState::Destroyed],
        }
    }
}

impl From<lifecycle::VmState> for VmState {
    fn from(state: lifecycle::VmState) -> Self {
        match state {
            lifecycle::VmState::Created => Self::Created,
            lifecycle::VmState::Started => Self::Started,
            lifecycle::VmState::Stopping | lifecycle::VmState::Stopped | lifecycle::VmState::Destroying => {
                Self::Stopped
            }
            lifecycle::VmState::Destroyed => Self::Destroyed,
        }
    }
}

impl std::str::FromStr for VmState {
    type Err = lifecycle::UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(lifecycle::UnknownState)
    }
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// Exit code of the process, where it exited by itself and the code is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal that ended the process, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// It used more memory than it had.
    pub oom: bool,
    /// Why it is over.
    pub reason: ExitReason,
    /// A sentence, where the reason alone does not say enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a VM is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Its process ended by itself.
    Exited,
    /// It used more memory than it had.
    Oom,
    /// Its `timeoutSeconds` passed.
    Timeout,
    /// It was stopped by request.
    Stopped,
    /// It could not be started: `message` says why.
    StartFailed,
    /// Its host restarted or is gone.
    HostLost,
    /// It ended while nobody could see how.
    Unknown,
}

impl From<lifecycle::Exit> for Exit {
    fn from(exit: lifecycle::Exit) -> Self {
        let reason = match exit.reason {
            lifecycle::ExitReason::Exited => ExitReason::Exited,
            lifecycle::ExitReason::Oom => ExitReason::Oom,
            lifecycle::ExitReason::Timeout => ExitReason::Timeout,
            lifecycle::ExitReason::Stopped => ExitReason::Stopped,
            lifecycle::ExitReason::StartFailed => ExitReason::StartFailed,
            lifecycle::ExitReason::HostLost => ExitReason::HostLost,
            lifecycle::ExitReason::Unknown => ExitReason::Unknown,
        };
        Self { code: exit.code, signal: exit.signal, oom: exit.oom, reason, message: exit.message }
    }
}

/// A page of VMs, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmList {
    /// The VMs.
    pub vms: Vec<Vm>,
    /// Token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the next page's token")]
    pub pagination: Option<String>,
}
