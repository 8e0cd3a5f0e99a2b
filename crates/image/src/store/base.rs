//! Images that a build begins with: a stranger names them.

use std::sync::Arc;

use cakework_wire::host::{AgentProblem, Credential, ProblemCode};

use super::{Image, ImageStore};
use crate::problem::problem;
use crate::reference::Reference;

/// Someone else's pull of the same image may fail by their credential; ours comes after it.
const ATTEMPTS_MAX: u32 = 2;

impl ImageStore {
    /// An image to build on, fetched as a stranger names it: under the egress policy, and only once it is whole. The
    /// registry is asked each time, with this credential, also for an image that is here already: who may not have it
    /// does not get it by another's pull.
    ///
    /// # Errors
    /// A problem of the registry or of the image; an address that builds may not reach.
    pub async fn base(&self, reference: &str, credential: Option<Credential>) -> Result<Arc<Image>, AgentProblem> {
        let reference: Reference = reference.parse()?;
        let mut attempt = 1;
        loop {
            let repository = self.inner.guarded.repository(&reference, credential.clone());
            let resolved = self.inner.ask(&repository, &reference.version).await?;
            if self.inner.stop.is_cancelled() {
                return Err(problem(ProblemCode::Internal, "The host is stopping."));
            }
            let digest = resolved.digest.clone();
            let is_ours = self.inner.report_unless_failed(&digest).is_none();
            if is_ours {
                self.inner.keep_and_start(resolved, repository, reference.host.clone()).await?;
            }
            match self.ready(&digest.to_string()).await {
                Err(_) if !is_ours && attempt < ATTEMPTS_MAX => attempt += 1,
                other => return other,
            }
        }
    }
}
