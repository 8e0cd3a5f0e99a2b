//! The phases of a VM on its host, as its driver records them: the counterpart of [`crate::lifecycle`], which is
//! the api's record.
//!
//! ```text
//!  Admitted --ImageReady--> Preparing --Up--> Running --StopAsked, TimeoutPassed--> Stopping
//!      |                        |                |                                     |
//!      `--- Failed, StopAsked --+--- SandboxEnded, KillAsked, Failed ------------------'
//!                               v
//!                            Cleaning --Clean--> Ended
//! ```
//! `Cleaning` has no sandbox wish left: everything the VM took from the host is given back there, in any order and
//! as often as it takes. `Ended` keeps only the record and the logs. The agent writes a phase before it acts on it,
//! so that its next start can go on from the record.

use serde::{Deserialize, Serialize};

/// Where a VM is on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its share of the host is reserved; its image may still arrive.
    Admitted,
    /// Disk, network and sandbox are being made.
    Preparing,
    /// The sandbox runs.
    Running,
    /// The stop signal was sent; the kill follows after the grace time.
    Stopping,
    /// The sandbox is to be gone; what the VM took is given back.
    Cleaning,
    /// Only the record and the logs are left.
    Ended,
}

impl Phase {
    /// Every phase, for tests.
    pub const ALL: [Self; 6] =
        [Self::Admitted, Self::Preparing, Self::Running, Self::Stopping, Self::Cleaning, Self::Ended];

    /// True while the VM's share of the host is taken.
    pub const fn holds_resources(self) -> bool {
        !matches!(self, Self::Ended)
    }
}

/// What can happen to a VM on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseEvent {
    /// All layers of its image are there.
    ImageReady,
    /// Its sandbox runs.
    Up,
    /// It could not be made, or its image failed.
    Failed,
    /// Its owner wants it to end, with grace.
    StopAsked,
    /// It is to end now.
    KillAsked,
    /// Its `timeoutSeconds` passed, or a phase's own deadline.
    TimeoutPassed,
    /// Its sandbox is gone.
    SandboxEnded,
    /// Everything was given back.
    Clean,
}

impl PhaseEvent {
    /// Every event, for tests.
    pub const ALL: [Self; 8] = [
        Self::ImageReady,
        Self::Up,
        Self::Failed,
        Self::StopAsked,
        Self::KillAsked,
        Self::TimeoutPassed,
        Self::SandboxEnded,
        Self::Clean,
    ];
}

/// The next phase; the same one where the event says nothing new.
pub const fn advance(phase: Phase, event: PhaseEvent) -> Phase {
    use Phase::{Admitted, Cleaning, Ended, Preparing, Running, Stopping};
    use PhaseEvent::{Clean, Failed, ImageReady, KillAsked, SandboxEnded, StopAsked, TimeoutPassed, Up};
    match (phase, event) {
        (Admitted, ImageReady) => Preparing,
        (Admitted, Failed | StopAsked | KillAsked | TimeoutPassed) => Cleaning,
        (Admitted, Up | SandboxEnded | Clean) => Admitted,
        (Preparing, Up) => Running,
        (Preparing, Failed | StopAsked | KillAsked | TimeoutPassed | SandboxEnded) => Cleaning,
        (Preparing, ImageReady | Clean) => Preparing,
        (Running, StopAsked | TimeoutPassed) => Stopping,
        (Running, Failed | KillAsked | SandboxEnded) => Cleaning,
        (Running, ImageReady | Up | Clean) => Running,
        (Stopping, Failed | KillAsked | TimeoutPassed | SandboxEnded) => Cleaning,
        (Stopping, ImageReady | Up | StopAsked | Clean) => Stopping,
        (Cleaning, Clean) => Ended,
        (Cleaning, ImageReady | Up | Failed | StopAsked | KillAsked | TimeoutPassed | SandboxEnded) => Cleaning,
        (Ended, ImageReady | Up | Failed | StopAsked | KillAsked | TimeoutPassed | SandboxEnded | Clean) => Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_leads_to_cleaning_from_every_phase_that_holds_something() {
        for phase in Phase::ALL {
            let next = advance(phase, PhaseEvent::KillAsked);
            assert_eq!(next.holds_resources(), phase.holds_resources(), "{phase:?}");
            assert!(matches!(next, Phase::Cleaning | Phase::Ended), "{phase:?}");
        }
    }

    #[test]
    fn resources_are_only_let_go_by_clean() {
        for phase in Phase::ALL {
            for event in PhaseEvent::ALL {
                let next = advance(phase, event);
                if phase.holds_resources() && !next.holds_resources() {
                    assert_eq!((phase, event), (Phase::Cleaning, PhaseEvent::Clean));
                }
            }
        }
    }

    #[test]
    fn no_event_leads_back() {
        let rank = |phase: Phase| Phase::ALL.iter().position(|&other| other == phase);
        for phase in Phase::ALL {
            for event in PhaseEvent::ALL {
                assert!(rank(advance(phase, event)) >= rank(phase), "{phase:?} {event:?}");
            }
        }
    }
}
