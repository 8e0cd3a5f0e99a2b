//! The life of a VM as the api records it, and the only function that may change it.
//!
//! ```text
//!            HostStarted            StopAsked              DeadlinePassed
//!  Created ---------------> Started -----------> Stopping ---------------> Destroying
//!     |  \                     |                    |                          |
//!     |   `--- StopAsked, DeadlinePassed ---------> |                          |
//!     |                        |                    |                          |
//!     `-- HostEnded, Refused, HostLost (from every state) ------------> Destroyed
//! ```
//! The record is *intent and observation*: `Stopping` and `Destroying` say what is wanted of the host, `Started`
//! and `Destroyed` what the host reported. The store applies a [`Change`] by compare-and-set on the old state and
//! the generation; whoever loses reads again. `Created`, `Stopping` and `Destroying` are transient: each has a
//! deadline, after which [`VmEvent::DeadlinePassed`] is applied.

use serde::{Deserialize, Serialize};

/// What the api has on record of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// Wanted, not running yet: its image may still arrive.
    Created,
    /// Its sandbox runs.
    Started,
    /// Its end was asked for; the process may still answer the stop signal.
    Stopping,
    /// It is to end now, without grace.
    Destroying,
    /// It is over.
    Destroyed,
}

impl VmState {
    /// Every state, for tests and queries.
    pub const ALL: [Self; 5] = [Self::Created, Self::Started, Self::Stopping, Self::Destroying, Self::Destroyed];

    /// The word stored in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// True where a deadline bounds the state.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Created | Self::Stopping | Self::Destroying => true,
            Self::Started | Self::Destroyed => false,
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
    /// Its host reported that the sandbox runs.
    HostStarted,
    /// Its host reported its end.
    HostEnded,
    /// No host took it, or its image failed.
    Refused,
    /// Its owner asked for its end.
    StopAsked,
    /// The deadline of a transient state passed.
    DeadlinePassed,
    /// Its host came back as a new incarnation: what ran there is gone.
    HostLost,
}

impl VmEvent {
    /// Every event, for tests.
    pub const ALL: [Self; 6] =
        [Self::HostStarted, Self::HostEnded, Self::Refused, Self::StopAsked, Self::DeadlinePassed, Self::HostLost];
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
pub const fn transition(state: VmState, event: VmEvent) -> Change {
    use Change::{Stay, To};
    use VmEvent::{DeadlinePassed, HostEnded, HostLost, HostStarted, Refused, StopAsked};
    use VmState::{Created, Destroyed, Destroying, Started, Stopping};
    match (state, event) {
        (Created, HostStarted) => To(Started),
        (Created, StopAsked | DeadlinePassed) => To(Stopping),
        (Started, StopAsked) => To(Stopping),
        (Started, HostStarted | Refused | DeadlinePassed) => Stay,
        (Stopping, DeadlinePassed) => To(Destroying),
        (Stopping, HostStarted | StopAsked) => Stay,
        (Destroying, HostStarted | StopAsked | DeadlinePassed) => Stay,
        (Created | Stopping | Destroying, HostEnded | Refused | HostLost) => To(Destroyed),
        (Started, HostEnded | HostLost) => To(Destroyed),
        (Destroyed, HostStarted | HostEnded | Refused | StopAsked | DeadlinePassed | HostLost) => Stay,
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

    fn after(state: VmState, event: VmEvent) -> VmState {
        match transition(state, event) {
            Change::To(next) => next,
            Change::Stay => state,
        }
    }

    #[test]
    fn an_end_can_be_reached_from_every_state() {
        for state in VmState::ALL {
            assert_eq!(after(state, VmEvent::HostEnded), VmState::Destroyed, "{state:?}");
            assert_eq!(after(state, VmEvent::HostLost), VmState::Destroyed, "{state:?}");
            let asked = after(state, VmEvent::StopAsked);
            assert!(!matches!(asked, VmState::Created | VmState::Started), "{state:?} → {asked:?}");
        }
    }

    #[test]
    fn transient_states_leave_by_their_deadline() {
        for state in VmState::ALL.into_iter().filter(|state| state.is_transient()) {
            let next = after(state, VmEvent::DeadlinePassed);
            assert!(next != state || state == VmState::Destroying, "{state:?}");
        }
        assert_eq!(transition(VmState::Started, VmEvent::DeadlinePassed), Change::Stay);
    }

    #[test]
    fn a_start_is_seen_only_once() {
        assert_eq!(transition(VmState::Created, VmEvent::HostStarted), Change::To(VmState::Started));
        for state in [VmState::Started, VmState::Stopping, VmState::Destroying, VmState::Destroyed] {
            assert_eq!(transition(state, VmEvent::HostStarted), Change::Stay, "{state:?}");
        }
    }

    #[test]
    fn stored_words_read_back() {
        for state in VmState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("STARTED".parse::<VmState>(), Err(UnknownState));
    }

    /// How near the end a state is: no event leads back.
    fn rank(state: VmState) -> u8 {
        match state {
            VmState::Created => 0,
            VmState::Started => 1,
            VmState::Stopping => 2,
            VmState::Destroying => 3,
            VmState::Destroyed => 4,
        }
    }

    proptest! {
        #[test]
        fn no_story_leads_back(events in proptest::collection::vec(0..VmEvent::ALL.len(), 0..30)) {
            let mut state = VmState::Created;
            for event in events {
                let next = after(state, VmEvent::ALL[event]);
                prop_assert!(rank(next) >= rank(state));
                state = next;
            }
        }
    }
}
