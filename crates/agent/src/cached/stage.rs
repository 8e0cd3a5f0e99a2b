//! Where a cached VM is on its host: the counterpart of [`cakework_core::phase`] for a VM that starts again. Pure.
//!
//! ```text
//!            RunAsked            Up            StopAsked
//!      Held ----------> Starting ----> Running ----------> Stopping
//!       ^                   |          |  ^  |                 |
//!       |                   |   Pausing'  |  |                 |
//!       |                   |      |   Resuming, Restoring     |
//!       |                   |      v      |                    |
//!       |                   |  Asleep -> Spilling -> Spilled   |
//!       |                   v                                  v
//!       '------ Clean ---- Ending <------ SandboxEnded, KillAsked, Failed
//!
//!      from every stage: DestroyAsked -> Destroying - Clean -> Ended
//! ```
//! A stage is on disk before what it names is done, so that the next agent knows what may have happened. `Pausing` and
//! `Resuming` are the two after which nobody can tell whether the sandbox stands: one resume too many kills it.

use serde::{Deserialize, Serialize};

/// Where a cached VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// No run. A sandbox may be made ready for the next one, and is nothing that must be kept.
    Held,
    /// A run was asked for and has not begun.
    Starting,
    /// The run's process runs.
    Running,
    /// It is about to be paused.
    Pausing,
    /// It is paused.
    Asleep,
    /// It is paused, and its memory is being written to the disk.
    Spilling,
    /// Its memory is on the disk; its sandbox is gone, or about to be ended.
    Spilled,
    /// It is about to go on where it is paused.
    Resuming,
    /// Its memory is about to be restored from the disk.
    Restoring,
    /// The stop signal was sent; the kill follows after the grace time.
    Stopping,
    /// The run is over: what it took is given back.
    Ending,
    /// The VM is over: all of it is given back.
    Destroying,
    /// Only the record and the logs are left.
    Ended,
}

impl Stage {
    /// Every stage, for tests.
    #[cfg(test)]
    pub const ALL: [Self; 13] = [
        Self::Held,
        Self::Starting,
        Self::Running,
        Self::Pausing,
        Self::Asleep,
        Self::Spilling,
        Self::Spilled,
        Self::Resuming,
        Self::Restoring,
        Self::Stopping,
        Self::Ending,
        Self::Destroying,
        Self::Ended,
    ];

    /// Whether it takes neither memory nor CPU that others could be promised.
    pub const fn rests(self) -> bool {
        matches!(self, Self::Held | Self::Destroying) || self.sleeps()
    }

    /// Whether the run's memory is where it was when it was paused last, and is to be kept.
    pub const fn sleeps(self) -> bool {
        matches!(self, Self::Asleep | Self::Spilling | Self::Spilled)
    }
}

/// What can happen to a cached VM on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A run is wanted.
    RunAsked,
    /// The process runs.
    Up,
    /// The run could not be made, or not be gone on with.
    Failed,
    /// The run is to end, with grace.
    StopAsked,
    /// The run is to end now.
    KillAsked,
    /// The run's time, or its grace time, is over.
    TimeoutPassed,
    /// The VM is to end.
    DestroyAsked,
    /// The sandbox is gone.
    SandboxEnded,
    /// It is to be paused.
    PauseBegun,
    /// It stands.
    Paused,
    /// Its memory is to be written.
    SpillBegun,
    /// That failed; it is still paused.
    SpillFailed,
    /// It is written.
    Spilled,
    /// It is to go on where it is.
    ResumeBegun,
    /// It is to be restored.
    RestoreBegun,
    /// That did not begin: nothing of its memory and disk was touched.
    RestoreUndone,
    /// What was to be given back is.
    Clean,
}

impl Event {
    /// Every event, for tests.
    #[cfg(test)]
    pub const ALL: [Self; 17] = [
        Self::RunAsked,
        Self::Up,
        Self::Failed,
        Self::StopAsked,
        Self::KillAsked,
        Self::TimeoutPassed,
        Self::DestroyAsked,
        Self::SandboxEnded,
        Self::PauseBegun,
        Self::Paused,
        Self::SpillBegun,
        Self::SpillFailed,
        Self::Spilled,
        Self::ResumeBegun,
        Self::RestoreBegun,
        Self::RestoreUndone,
        Self::Clean,
    ];
}

/// The next stage; the same one where the event says nothing new.
pub const fn advance(stage: Stage, event: Event) -> Stage {
    use Event::{
        Clean, DestroyAsked, Failed, KillAsked, PauseBegun, Paused, RestoreBegun, RestoreUndone, ResumeBegun, RunAsked,
        SandboxEnded, SpillBegun, SpillFailed, StopAsked, TimeoutPassed, Up,
    };
    use Stage::{
        Asleep, Destroying, Ended, Ending, Held, Pausing, Restoring, Resuming, Running, Spilled, Spilling, Starting,
        Stopping,
    };
    match (stage, event) {
        (Ended, _) => Ended,
        (Destroying, Clean) => Ended,
        (Destroying, _) => Destroying,
        (_, DestroyAsked) => Destroying,
        (Held, RunAsked) => Starting,
        (Ending, Clean) => Held,
        (Held | Ending, _) => stage,
        // What sleeps as files is ended by nobody's end.
        (Spilled, SandboxEnded) => Spilled,
        (_, KillAsked | Failed | SandboxEnded) => Ending,
        // Before the process is there, nobody could hear a signal; one that sleeps is woken first.
        (Starting, StopAsked | TimeoutPassed) => Ending,
        (Running, StopAsked | TimeoutPassed) => Stopping,
        (Stopping, TimeoutPassed) => Ending,
        (Starting | Pausing | Resuming | Restoring, Up) => Running,
        (Running, PauseBegun) => Pausing,
        (Pausing, Paused) => Asleep,
        (Asleep, SpillBegun) => Spilling,
        (Spilling, SpillFailed) => Asleep,
        // Where nobody knows whether it stands, it is paused once more and spilled.
        (Spilling | Pausing | Resuming, Event::Spilled) => Spilled,
        (Asleep, ResumeBegun) => Resuming,
        (Spilled, RestoreBegun) => Restoring,
        (Restoring, RestoreUndone) => Spilled,
        (
            Starting | Running | Pausing | Asleep | Spilling | Spilled | Resuming | Restoring | Stopping,
            RunAsked
            | Up
            | StopAsked
            | TimeoutPassed
            | PauseBegun
            | Paused
            | SpillBegun
            | SpillFailed
            | Event::Spilled
            | ResumeBegun
            | RestoreBegun
            | RestoreUndone
            | Clean,
        ) => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each() -> impl Iterator<Item = (Stage, Event, Stage)> {
        Stage::ALL
            .into_iter()
            .flat_map(|stage| Event::ALL.into_iter().map(move |event| (stage, event, advance(stage, event))))
    }

    #[test]
    fn a_destroyed_vm_never_comes_back_and_is_left_only_when_clean() {
        for (stage, event, next) in each() {
            if event == Event::DestroyAsked && stage != Stage::Ended {
                assert_eq!(next, Stage::Destroying, "{stage:?}");
            }
            if next == Stage::Ended && stage != Stage::Ended {
                assert_eq!((stage, event), (Stage::Destroying, Event::Clean));
            }
            if stage == Stage::Destroying {
                assert!(matches!(next, Stage::Destroying | Stage::Ended));
            }
        }
    }

    #[test]
    fn a_run_is_over_only_when_all_of_it_was_given_back() {
        for (stage, event, next) in each() {
            if next == Stage::Held && stage != Stage::Held {
                assert_eq!((stage, event), (Stage::Ending, Event::Clean));
            }
        }
    }

    #[test]
    fn a_kill_ends_each_run() {
        for stage in Stage::ALL {
            let next = advance(stage, Event::KillAsked);
            let at_rest = matches!(stage, Stage::Held | Stage::Destroying | Stage::Ended);
            assert_eq!(next, if at_rest { stage } else { Stage::Ending }, "{stage:?}");
        }
    }

    #[test]
    fn nothing_wakes_but_by_a_stage_that_says_so() {
        for (stage, event, next) in each() {
            if next == Stage::Running && stage != Stage::Running {
                assert!(matches!(stage, Stage::Starting | Stage::Pausing | Stage::Resuming | Stage::Restoring));
                assert_eq!(event, Event::Up);
            }
            if stage.sleeps() && !next.sleeps() {
                let woken = matches!(next, Stage::Resuming | Stage::Restoring);
                assert!(woken || matches!(next, Stage::Ending | Stage::Destroying), "{stage:?} {event:?}");
            }
        }
    }

    #[test]
    fn spilled_memory_outlives_its_sandbox() {
        assert_eq!(advance(Stage::Spilled, Event::SandboxEnded), Stage::Spilled);
        assert_eq!(advance(Stage::Spilling, Event::SandboxEnded), Stage::Ending);
    }
}
