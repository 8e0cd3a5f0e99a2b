//! The record's wishes of images, carried to the host: layers that are to arrive. What became of them is reported by
//! the watch.

use std::time::Duration;

use cakework_wire::host::{Credential, ImageObservation, ImageReport, PullImage};
use tokio_util::sync::CancellationToken;

use super::{CLAIM_MS, TICK, backoff_ms, credential_place};
use crate::app::{App, Shared};
use crate::clock::now_ms;
use crate::host::HostError;
use crate::store::images::Image;

/// Images that one look takes up.
const BATCH: u32 = 64;
/// Longest time of one call, with a margin.
const PULL_CLAIM_MS: u64 = 4 * CLAIM_MS + 5_000;
/// Time after which a host that pulls is asked again, should its reports be lost.
const REMIND_MS: u64 = 30_000;

/// Runs until `shutdown`.
pub(crate) async fn run(app: Shared, shutdown: CancellationToken) {
    loop {
        let work = async {
            if let Err(error) = pass(&app).await {
                tracing::error!(error = ?error, "the images' reconciler failed");
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = work => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.pokes.images.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn pass(app: &App) -> anyhow::Result<()> {
    for image in app.store.images_due(now_ms(), BATCH).await? {
        if app.store.claim_image(&image, now_ms() + PULL_CLAIM_MS).await? {
            let pause = pull(app, &image).await?;
            app.store.image_due(&image.digest, now_ms() + pause.as_millis() as u64).await?;
        }
    }
    Ok(())
}

/// Asks the host to pull; answers when to ask again.
async fn pull(app: &App, image: &Image) -> anyhow::Result<Duration> {
    let credential = match &image.credential {
        None => None,
        Some(sealed) => {
            let text = app.sealer.open_sealed(&credential_place(&image.id), sealed)?;
            Some(serde_json::from_slice::<Credential>(&text)?)
        }
    };
    let wish = PullImage { reference: image.reference.clone(), credential };
    match app.host.pull(&image.digest, &wish).await {
        Ok(ImageReport { observation, .. }) => match observation {
            ImageObservation::Pulling { done_bytes, .. } => {
                app.store.image_progress(&image.digest, done_bytes, now_ms()).await?;
            }
            ImageObservation::Ready => app.store.image_ready(&image.digest, now_ms()).await?,
            ImageObservation::Failed { problem } => {
                app.store.image_failed(&image.digest, &problem, now_ms()).await?;
            }
        },
        Err(HostError::Problem(problem)) => app.store.image_failed(&image.digest, &problem, now_ms()).await?,
        Err(HostError::Away(why)) => {
            tracing::debug!(image = %image.id, why, "the image could not be asked for");
            return Ok(Duration::from_millis(backoff_ms(image.attempts)));
        }
    }
    Ok(Duration::from_millis(REMIND_MS))
}
