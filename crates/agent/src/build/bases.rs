//! Brings the images that a Dockerfile names, all at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cakework_core::build::BuildErrorCode;
use cakework_dockerfile::{Base, Plan, Tree};
use cakework_image::Image;
use cakework_wire::host::ProblemCode;
use futures_util::StreamExt;

use super::ending::Ending;
use super::execute::Executor;

/// Images that arrive at the same time.
const PARALLEL: usize = 4;
/// Time between two lines about an image that is still on its way.
const STILL: Duration = Duration::from_secs(5);
const MIB: f64 = (1_u64 << 20) as f64;

impl Executor<'_> {
    /// Brings every image of the plan.
    ///
    /// # Errors
    /// The first one that can't be had, with the FROM that names it.
    pub async fn pull(&mut self, plan: &Plan) -> Result<(), Ending> {
        let this = &*self;
        let mut wanted = Vec::new();
        for tree in plan.images() {
            wanted.push(async move {
                let image = this.image(tree).await.map_err(|ending| named_by(plan, tree, ending))?;
                Ok::<_, Ending>((tree.clone(), image))
            });
        }
        let mut arriving = futures_util::stream::iter(wanted).buffer_unordered(PARALLEL);
        let mut images = Vec::new();
        while let Some(arrived) = self.unless_stopped(arriving.next()).await? {
            images.push(arrived?);
        }
        drop(arriving);
        self.images.extend(images);
        Ok(())
    }

    async fn image(&self, tree: &Tree) -> Result<Arc<Image>, Ending> {
        let images = &self.parts.vm.images;
        match tree {
            Tree::Own(id) => {
                let digest = self.job.put.own_images.get(id).ok_or_else(|| {
                    Ending::new(BuildErrorCode::BaseImage, format!("The account has no image `cakework/{id}`."))
                })?;
                images.ready(digest).await.map_err(|problem| Ending::image(BuildErrorCode::BaseImage, problem))
            }
            Tree::Image(reference) => {
                let begin = Instant::now();
                self.log.say(&format!("Pulling {reference}"));
                let credential =
                    cakework_image::registry_of(reference).and_then(|host| self.job.put.registries.get(&host).cloned());
                let mut pull = std::pin::pin!(images.base(reference, credential));
                let pulled = loop {
                    tokio::select! {
                        pulled = &mut pull => break pulled,
                        () = tokio::time::sleep(STILL) => {
                            self.log.say(&format!("Pulling {reference}: {}s", begin.elapsed().as_secs()));
                        }
                    }
                };
                let image = pulled.map_err(|problem| pull_failed(reference, problem))?;
                let bytes: u64 = image.stored.iter().map(|layer| layer.size_bytes).sum();
                self.log.say(&format!(
                    "Pulled {reference}: {}, {} layers, {:.1} MiB, {:.1}s",
                    image.digest,
                    image.stored.len(),
                    bytes as f64 / MIB,
                    begin.elapsed().as_secs_f64()
                ));
                Ok(image)
            }
            Tree::Context | Tree::Stage(_) => Err(Ending::host("pull an image", "it is none")),
        }
    }
}

fn pull_failed(reference: &str, problem: cakework_wire::host::AgentProblem) -> Ending {
    let is_named = !matches!(problem.code, ProblemCode::Internal | ProblemCode::DiskFull);
    let message = if is_named { format!("{reference}: {}", problem.message) } else { problem.message };
    Ending::image(BuildErrorCode::BaseImage, cakework_wire::host::AgentProblem { message, ..problem })
}

/// The FROM to blame; a COPY that names an image is found by its step.
fn named_by(plan: &Plan, tree: &Tree, ending: Ending) -> Ending {
    let stage = plan.stages.iter().find(|stage| matches!(&stage.base, Base::Tree(base) if base == tree));
    match stage {
        Some(stage) => ending.at(&stage.text, stage.line),
        None => ending,
    }
}
