//! The life of a build as the api records it, and the only function that may change it; why a build fails.
//!
//! ```text
//!  Queued --Placed--> Building --HostSucceeded--> Succeeded
//!    |                   |
//!    `--- Failed, CancelAsked, DeadlinePassed, HostLost ---> Failed
//! ```
//! Every event is legal in every state. A build is placed once: one that its host lost has failed, with the reason.

use serde::{Deserialize, Serialize};

/// What the api has on record of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// It waits for its turn.
    Queued,
    /// A host was asked to build it.
    Building,
    /// Its image is there.
    Succeeded,
    /// It has none, and says why.
    Failed,
}

impl BuildState {
    /// Every state, for tests and queries.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Building, Self::Succeeded, Self::Failed];

    /// The word stored in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// True once nothing can change it any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl std::str::FromStr for BuildState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// A stored word that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such build state")]
pub struct UnknownState;

/// What can happen to a build, as the api sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildEvent {
    /// A host is about to be asked.
    Placed,
    /// Its host reported the image.
    HostSucceeded,
    /// Its host reported a failure, or no host can build it.
    Failed,
    /// Its owner wants it to end.
    CancelAsked,
    /// It took longer than a build may.
    DeadlinePassed,
    /// Its host came back without it.
    HostLost,
}

impl BuildEvent {
    /// Every event, for tests.
    pub const ALL: [Self; 6] =
        [Self::Placed, Self::HostSucceeded, Self::Failed, Self::CancelAsked, Self::DeadlinePassed, Self::HostLost];
}

/// The next state of a build; `None` where the event says nothing new.
pub const fn transition(state: BuildState, event: BuildEvent) -> Option<BuildState> {
    use BuildEvent::{CancelAsked, DeadlinePassed, Failed, HostLost, HostSucceeded, Placed};
    use BuildState::{Building, Queued, Succeeded};
    match (state, event) {
        (Queued, Placed) => Some(Building),
        (Building, HostSucceeded) => Some(Succeeded),
        (Queued | Building, Failed | CancelAsked | DeadlinePassed | HostLost) => Some(BuildState::Failed),
        (Queued, HostSucceeded) | (Building, Placed) => None,
        (Succeeded | BuildState::Failed, Placed | HostSucceeded | Failed | CancelAsked | DeadlinePassed | HostLost) => {
            None
        }
    }
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, )*) => {
        /// Why a build failed: the word that programs branch on. Words are only ever added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum BuildErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl BuildErrorCode {
            /// Every word, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

codes! {
    /// The Dockerfile can't be read.
    DockerfileInvalid = "dockerfile_invalid",
    /// The Dockerfile asks for something that is not supported.
    DockerfileUnsupported = "dockerfile_unsupported",
    /// A command of a RUN ended with a code other than 0.
    CommandFailed = "command_failed",
    /// A COPY or ADD names nothing, or can't put it where it should be.
    CopyFailed = "copy_failed",
    /// An ADD's URL can't be fetched, or its checksum is another.
    DownloadFailed = "download_failed",
    /// An address that builds may not reach.
    EgressDenied = "egress_denied",
    /// The base image can't be had.
    BaseImage = "base_image",
    /// A registry refused the credential, or wants one.
    RegistryUnauthorized = "registry_unauthorized",
    /// The repository's host refused the token.
    SourceUnauthorized = "source_unauthorized",
    /// There is no such repository, or the token does not show it.
    SourceNotFound = "source_not_found",
    /// The repository has no such branch, tag or commit.
    BranchNotFound = "branch_not_found",
    /// The repository or the files are larger than allowed.
    SourceTooLarge = "source_too_large",
    /// The repository lacks the folder, or holds what can't be checked out.
    SourceInvalid = "source_invalid",
    /// The repository's host does not answer.
    SourceUnavailable = "source_unavailable",
    /// A secret that a RUN needs was not passed.
    SecretMissing = "secret_missing",
    /// A RUN used more memory than a build has.
    OutOfMemory = "out_of_memory",
    /// The build's disk is full.
    DiskFull = "disk_full",
    /// The image is over a limit.
    ImageTooLarge = "image_too_large",
    /// It took longer than a build may.
    Timeout = "timeout",
    /// It was cancelled.
    Cancelled = "cancelled",
    /// Its host was restarted or is gone.
    HostLost = "host_lost",
    /// No host can build.
    IsolationUnavailable = "isolation_unavailable",
    /// Something else; the operator finds the cause in the log.
    Internal = "internal",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_so_and_every_end_is_reached() {
        for event in BuildEvent::ALL {
            assert_eq!(transition(BuildState::Succeeded, event), None);
            assert_eq!(transition(BuildState::Failed, event), None);
        }
        for state in [BuildState::Queued, BuildState::Building] {
            for event in [BuildEvent::Failed, BuildEvent::CancelAsked, BuildEvent::DeadlinePassed, BuildEvent::HostLost]
            {
                assert_eq!(transition(state, event), Some(BuildState::Failed));
            }
        }
        assert_eq!(transition(BuildState::Queued, BuildEvent::HostSucceeded), None);
    }

    #[test]
    fn words_read_back() {
        for state in BuildState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for code in BuildErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("a word"), code.as_str());
        }
    }
}
