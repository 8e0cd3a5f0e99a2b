//! The one task that owns a build: it lets it be executed, writes down how it ended, and gives back all that it took.
//!
//! Invariant: the outcome is on disk before anything is given back, and the assignment is there until all is: whoever
//! finds an assignment after a crash knows what may be left, and whoever finds none, that nothing is.

use std::sync::Arc;
use std::time::Duration;

use cakework_core::id::BuildId;
use cakework_wire::build::{BuildObservation, BuildReport, PutBuild};
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::dir::BuildDir;
use super::execute;
use super::log::Log;
use super::record::Assignment;
use super::recover::remove_contexts;
use crate::sys::file::{self, Survives};
use crate::vm::clean::{self, CleanError, Files};

/// Time before a cleaning that failed is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is to be built, and where.
#[derive(Debug)]
pub struct Job {
    /// The build.
    pub build: BuildId,
    /// Its directory.
    pub dir: BuildDir,
    /// What was asked for. Secrets are in it: it is dropped with the job, and written nowhere.
    pub put: PutBuild,
    /// What it holds of this host.
    pub assignment: Assignment,
}

/// A build's owner.
#[derive(Debug)]
pub struct Driver {
    parts: Arc<Parts>,
    job: Job,
    cancel: CancellationToken,
}

impl Driver {
    /// The driver of an admitted build.
    pub const fn new(parts: Arc<Parts>, job: Job, cancel: CancellationToken) -> Self {
        Self { parts, job, cancel }
    }

    /// Takes the build to its end; the report is left to the caller to put up.
    pub async fn run(self) -> BuildReport {
        let Self { parts, job, cancel } = self;
        let (build, dir, assignment) = (job.build.clone(), job.dir.clone(), job.assignment.clone());
        let log = Log::new(dir.vm().logs(), assignment.generation, parts.vm.logs);
        let observation = match execute::execute(&parts, job, &log, cancel).await {
            Ok(image) => BuildObservation::Succeeded { digest: image.digest, size_bytes: image.size_bytes },
            Err(ending) => {
                let problem = ending.problem();
                tracing::info!(%build, code = problem.code.as_str(), "a build failed");
                log.complain(&match problem.line {
                    Some(line) => format!("ERROR line {line}: {}", problem.message),
                    None => format!("ERROR {}", problem.message),
                });
                BuildObservation::Failed { problem }
            }
        };
        log.hand_over();
        let report = BuildReport { build_id: build.clone(), generation: assignment.generation, observation };
        save(&dir, &report).await;
        clean(&parts, &build, &dir, &assignment).await;
        report
    }
}

/// Writes the outcome. Where that fails, a restart of the agent says that the build was lost.
async fn save(dir: &BuildDir, report: &BuildReport) {
    let (path, content) = (dir.outcome(), report.clone());
    let written = tokio::task::spawn_blocking(move || file::write_json(&path, &content, Survives::PowerLoss));
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = written {
        tracing::error!(build = %report.build_id, %error, "a build's outcome could not be written");
    }
}

/// Gives back until nothing is left, or the agent ends: then the next one does it.
async fn clean(parts: &Arc<Parts>, build: &BuildId, dir: &BuildDir, assignment: &Assignment) {
    let mut wait = RETRY_MIN;
    while let Err(error) = give_back(parts, dir, assignment).await {
        tracing::warn!(%build, error = &error as &dyn std::error::Error, "a build's cleaning is tried again");
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
            () = parts.vm.shutdown.cancelled() => return,
        }
    }
}

async fn give_back(parts: &Arc<Parts>, dir: &BuildDir, assignment: &Assignment) -> Result<(), CleanError> {
    clean::end_sandbox(&parts.vm, &assignment.sandbox, true).await?;
    clean::give_back(&parts.vm, &assignment.sandbox, dir.vm(), assignment.slot, Files::All).await?;
    let dir = dir.clone();
    let removed = tokio::task::spawn_blocking(move || {
        remove_contexts(&dir)?;
        file::remove(&dir.assignment())
    });
    let removed = removed.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    removed.map_err(|source| CleanError::Io { what: "a build's files", source })
}
