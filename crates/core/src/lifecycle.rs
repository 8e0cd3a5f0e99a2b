//! The life of a VM as the api records it, and the only function that may change it.
//!
//! ```text
//!  one-time:
//!            HostStarted            StopAsked              DeadlinePassed
//!  Created ---------------> Started -----------> Stopping ---------------> Destroying
//!     |  \                     |                    |                          |
//!     |   `--- StopAsked, DeadlinePassed ---------> |                          |
//!     |                        |                    |                          |
//!     `-- HostEnded, Refused, HostLost (from every state) ------------> Destroyed
//!
//!  cached:
//!            StartAsked           HostStarted           StopAsked
//!  Stopped ------------> Created ------------> Started -----------> Stopping
//!     ^                     |                     |                    |
//!     `---- HostStopped, Refused, HostLost -------+--------------------'
//!
//!  DestroyAsked, from every state ---> Destroying --- HostEnded, Refused, HostLost ---> Destroyed
//! ```
//! The record is *intent and observation*: `Created`, `Stopping` and `Destroying` say what is wanted of the host,
//! `Started`, `Stopped` and `Destroyed` what the host reported. The store applies a [`Change`] by compare-and-set on the
//! old state and the generation; whoever loses reads again. `Created`, `Stopping` and `Destroying` are transient: each
//! has a deadline, after which [`VmEvent::DeadlinePassed`] is applied.

use serde::{Deserialize, Serialize};

/// What a VM is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmKind {
    /// It runs once; its end is the end of all of it but its log.
    Once,
    /// It starts again, each time from its prepared state.
    Cached,
}

impl VmKind {
    /// Both, for tests.
    pub const ALL: [Self; 2] = [Self::Once, Self::Cached];

    /// The word stored in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Cached => "cached",
        }
    }
}

/// What the api has on record of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// Wanted, not running yet: its image may still arrive.
    Created,
    /// Its sandbox runs, or sleeps and wakes by itself.
    Started,
    /// Its end was asked for; the process may still answer the stop signal.
    Stopping,
    /// A cached one that does not run, and can be started.
    Stopped,
    /// It is to end now, without grace.
    Destroying,
    /// It is over.
    Destroyed,
}

impl VmState {
    /// Every state, for tests and queries.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Started, Self::Stopping, Self::Stopped, Self::Destroying, Self::Destroyed];

    /// The word stored in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// True where a deadline bounds the state.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Created | Self::Stopping | Self::Destroying => true,
            Self::Started | Self::Stopped | Self::Destroyed => false,
        }
    }
}

impl std::str::FromStr for VmState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// A stored word that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such VM state")]
pub struct UnknownState;

/// What can happen to a VM, as the api sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmEvent {
    /// Its owner, or a request to its hostname, wants a cached one to run.
    StartAsked,
    /// Its host reported that the sandbox runs.
    HostStarted,
    /// Its host reported that a cached one's run is over.
    HostStopped,
    /// Its host reported its end: nothing of it is left there but its log.
    HostEnded,
    /// No host took it, or its image failed.
    Refused,
    /// Its owner asked for its run's end: for a one-time VM, that is its own.
    StopAsked,
    /// Its owner asked for its end, now.
    DestroyAsked,
    /// The deadline of a transient state passed.
    DeadlinePassed,
    /// Its host came back as a new incarnation: what ran there is gone.
    HostLost,
}

impl VmEvent {
    /// Every event, for tests.
    pub const ALL: [Self; 9] = [
        Self::StartAsked,
        Self::HostStarted,
        Self::HostStopped,
        Self::HostEnded,
        Self::Refused,
        Self::StopAsked,
        Self::DestroyAsked,
        Self::DeadlinePassed,
        Self::HostLost,
    ];
}

/// The answer of [`transition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The record moves to this state.
    To(VmState),
    /// The event says nothing new: a repeated request or a late report.
    Stay,
}

/// The next state of a VM. Total: every event is legal in every state, so that asking for an end never fails.
pub const fn transition(kind: VmKind, state: VmState, event: VmEvent) -> Change {
    use Change::{Stay, To};
    use VmEvent::{
        DeadlinePassed, DestroyAsked, HostEnded, HostLost, HostStarted, HostStopped, Refused, StartAsked, StopAsked,
    };
    use VmState::{Created, Destroyed, Destroying, Started, Stopped, Stopping};
    // Where a run leads that is over: a one-time VM has only the one.
    let rest = match kind {
        VmKind::Once => Destroyed,
        VmKind::Cached => Stopped,
    };
    match (state, event) {
        (Destroyed, _) => Stay,
        (Destroying, HostEnded | Refused | HostLost) => To(Destroyed),
        (Destroying, _) => Stay,
        (_, DestroyAsked) => To(Destroying),
        (_, HostEnded) => To(Destroyed),
        (Stopped, StartAsked) => To(Created),
        (Stopped, _) => Stay,
        (Created, HostStarted) => To(Started),
        (Created, StopAsked | DeadlinePassed) => To(Stopping),
        (Created | Stopping, Refused | HostStopped | HostLost) => To(rest),
        (Created, StartAsked) => Stay,
        (Started, StopAsked) => To(Stopping),
        (Started, HostStopped | HostLost) => To(rest),
        (Started, StartAsked | HostStarted | Refused | DeadlinePassed) => Stay,
        // A cached one's host is asked again, for an end without grace: what is on its disk stays.
        (Stopping, DeadlinePassed) => match kind {
            VmKind::Once => To(Destroying),
            VmKind::Cached => Stay,
        },
        (Stopping, StartAsked | HostStarted | StopAsked) => Stay,
    }
}

/// Why a VM is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Its process ended by itself.
    Exited,
    /// It used more memory than it had.
    Oom,
    /// Its `timeoutSeconds` passed.
    Timeout,
    /// Its owner stopped it.
    Stopped,
    /// It could not be started: `message` says why.
    StartFailed,
    /// Its host restarted or is gone.
    HostLost,
    /// It ended while nobody could see how.
    Unknown,
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code of the process, 0–255, where it exited by itself and the code is known.
    pub code: Option<i32>,
    /// Signal that ended the process, where one did.
    pub signal: Option<i32>,
    /// The kernel's memory limit killed it.
    pub oom: bool,
    /// Why it is over.
    pub reason: ExitReason,
    /// A sentence for the VM's owner, where the reason alone does not say enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Exit {
    /// An end of which only the reason is known.
    pub const fn only(reason: ExitReason) -> Self {
        Self { code: None, signal: None, oom: false, reason, message: None }
    }

    /// A start that failed, with a sentence for the VM's owner.
    pub fn start_failed(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::only(ExitReason::StartFailed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(kind: VmKind, state: VmState, event: VmEvent) -> VmState {
        match transition(kind, state, event) {
            Change::To(next) => next,
            Change::Stay => state,
        }
    }

    #[test]
    fn an_end_can_be_reached_from_every_state() {
        for (kind, state) in VmKind::ALL.into_iter().flat_map(|kind| VmState::ALL.map(|state| (kind, state))) {
            assert_eq!(after(kind, state, VmEvent::HostEnded), VmState::Destroyed, "{state:?}");
            let destroying = after(kind, state, VmEvent::DestroyAsked);
            assert!(matches!(destroying, VmState::Destroying | VmState::Destroyed), "{state:?} → {destroying:?}");
            let asked = after(kind, state, VmEvent::StopAsked);
            assert!(!matches!(asked, VmState::Created | VmState::Started), "{state:?} → {asked:?}");
            let lost = after(kind, state, VmEvent::HostLost);
            assert!(!lost.is_transient() && lost != VmState::Started, "{state:?} → {lost:?}");
        }
    }

    #[test]
    fn transient_states_leave_by_their_deadline_or_are_asked_again() {
        for state in VmState::ALL.into_iter().filter(|state| state.is_transient()) {
            let next = after(VmKind::Once, state, VmEvent::DeadlinePassed);
            assert!(next != state || state == VmState::Destroying, "{state:?}");
        }
        for kind in VmKind::ALL {
            for state in [VmState::Started, VmState::Stopped] {
                assert_eq!(transition(kind, state, VmEvent::DeadlinePassed), Change::Stay);
            }
        }
    }

    #[test]
    fn a_start_is_seen_only_once() {
        for kind in VmKind::ALL {
            assert_eq!(transition(kind, VmState::Created, VmEvent::HostStarted), Change::To(VmState::Started));
            for state in VmState::ALL.into_iter().filter(|state| *state != VmState::Created) {
                assert_eq!(transition(kind, state, VmEvent::HostStarted), Change::Stay, "{state:?}");
            }
        }
    }

    #[test]
    fn only_a_cached_vm_rests_and_only_a_start_ends_its_rest() {
        for state in VmState::ALL {
            for event in VmEvent::ALL {
                let once = after(VmKind::Once, state, event);
                assert!(once != VmState::Stopped || state == VmState::Stopped, "{state:?} {event:?}");
                if after(VmKind::Cached, state, event) == VmState::Created && state != VmState::Created {
                    assert_eq!((state, event), (VmState::Stopped, VmEvent::StartAsked));
                }
            }
        }
        for state in [VmState::Created, VmState::Started, VmState::Stopping] {
            assert_eq!(after(VmKind::Cached, state, VmEvent::HostStopped), VmState::Stopped);
        }
    }

    #[test]
    fn stored_words_read_back() {
        for state in VmState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("STARTED".parse::<VmState>(), Err(UnknownState));
    }

    /// How near the end a one-time VM's state is: no event leads back.
    fn rank(state: VmState) -> u8 {
        match state {
            VmState::Created => 0,
            VmState::Started => 1,
            VmState::Stopping | VmState::Stopped => 2,
            VmState::Destroying => 3,
            VmState::Destroyed => 4,
        }
    }

    proptest! {
        #[test]
        fn no_story_leads_back(events in proptest::collection::vec(0..VmEvent::ALL.len(), 0..30)) {
            let mut state = VmState::Created;
            for event in events {
                let next = after(VmKind::Once, state, VmEvent::ALL[event]);
                prop_assert!(rank(next) >= rank(state));
                state = next;
            }
        }

        #[test]
        fn what_is_destroyed_stays_so(events in proptest::collection::vec(0..VmEvent::ALL.len(), 0..30)) {
            let mut state = VmState::Stopped;
            for event in events {
                let next = after(VmKind::Cached, state, VmEvent::ALL[event]);
                prop_assert!(!matches!(state, VmState::Destroying | VmState::Destroyed) || rank(next) >= rank(state));
                state = next;
            }
        }
    }
}
