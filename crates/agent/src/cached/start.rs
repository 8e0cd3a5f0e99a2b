//! A start: the fastest way that is at hand, and a slower one where that fails.

use cakework_core::cached::{Start, StartTier};
use cakework_wire::host::ProblemCode;

use super::activity::Activity;
use super::decide;
use super::driver::{Driver, Next, Ready, Shutdown};
use super::make::{MakeError, Source, is_late};
use super::stage::Event;
use crate::backend::gvisor::{self, EngineError};
use crate::sys::clock;
use crate::vm::clean::Files;

const HOST_FAILED: &str = "the host could not start the VM; its operator finds the cause in the agent's log";

impl Driver {
    pub(super) async fn start(&mut self) -> Next {
        self.shared.leave(&self.vm);
        if std::mem::take(&mut self.outdated) && self.ready.take().is_some() && self.undo(Files::Run).await.is_err() {
            return Ok(self.fail(HOST_FAILED));
        }
        if self.ready.take_if(|ready| *ready == Ready::Booted).is_some() {
            // It booted for its preparation, and has done nothing but begin.
            return Ok(self.came_up(StartTier::Cold, None));
        }
        let mut fallback = None;
        // Nothing but the claim stands between the wish and a paused instance.
        if self.ready == Some(Ready::Paused) {
            let Err(error) = self.claim().await else { return Ok(self.came_up(StartTier::Paused, None)) };
            if let Some(event) = self.give_up(StartTier::Paused, &error, &mut fallback).await {
                return Ok(event);
            }
        }
        let prepared = self.prepared().await;
        if let Err(Some(why)) = &prepared {
            fallback.get_or_insert_with(|| (*why).to_owned());
        }
        let prepared = prepared.ok();
        if prepared.is_none() && self.ready.take_if(|ready| *ready == Ready::Blank).is_some() {
            // It has the prepared disk.
            if self.undo(Files::Run).await.is_err() {
                return Ok(self.fail(HOST_FAILED));
            }
        }
        let waits = self.ready.is_some();
        if !waits && let Some(event) = self.await_image().await? {
            return Ok(event);
        }
        for tier in decide::tiers(self.have(prepared.is_some())) {
            let tried = match tier {
                StartTier::Paused => continue,
                StartTier::Restored => match &prepared {
                    Some(prepared) => self.restore_prepared(prepared).await,
                    None => continue,
                },
                StartTier::Created => self.run_created().await,
                StartTier::Cold => self.run_cold().await,
            };
            let Err(error) = tried else { return Ok(self.came_up(tier, fallback)) };
            if let Some(event) = self.give_up(tier, &error, &mut fallback).await {
                return Ok(event);
            }
        }
        Ok(self.fail(HOST_FAILED))
    }

    /// Takes back a try; an event where no slower one follows.
    async fn give_up(&mut self, tier: StartTier, error: &MakeError, fallback: &mut Option<String>) -> Option<Event> {
        tracing::warn!(vm = %self.vm, ?tier, error = error as &dyn std::error::Error, "a start failed");
        if matches!(tier, StartTier::Paused | StartTier::Restored) {
            self.shared.restore_failed();
        }
        self.ready = None;
        if self.undo(Files::Run).await.is_err() || tier == StartTier::Cold {
            return Some(self.fail(self.for_owner(error)));
        }
        if tier == StartTier::Restored && self.forget_prepared().await.is_err() {
            return Some(self.fail(HOST_FAILED));
        }
        fallback.get_or_insert_with(|| given_up(tier, error).to_owned());
        if let Some(event) = self.wished() {
            return Some(event);
        }
        is_late(self.assignment.start_by_ms).then(|| self.fail("the VM did not start in time"))
    }

    fn came_up(&mut self, tier: StartTier, fallback: Option<String>) -> Event {
        let now_ms = clock::boottime_ms();
        let duration_ms = u64::try_from(self.heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ready = None;
        self.record.run.start = Some(Start { tier, duration_ms, fallback });
        self.record.run.end_by_ms = self.assignment.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms));
        self.activity = Activity::since(now_ms);
        Event::Up
    }

    async fn claim(&mut self) -> Result<(), MakeError> {
        Ok(self.parts.gvisor.resume(self.vm.as_str()).await?)
    }

    async fn run_created(&mut self) -> Result<(), MakeError> {
        Ok(self.parts.gvisor.start(self.vm.as_str(), self.packets.take()).await?)
    }

    async fn run_cold(&mut self) -> Result<(), MakeError> {
        self.make(Source::Image).await?;
        self.run_created().await
    }

    /// Waits for the image; an event where the start ends instead.
    async fn await_image(&mut self) -> Result<Option<Event>, Shutdown> {
        let images = self.parts.images.clone();
        let digest = self.assignment.spec.image_digest.clone();
        let ready = async move {
            let mut changed = images.changed();
            loop {
                match images.ready(&digest).await {
                    // The api says anew which images it wants: after a restart this may come first.
                    Err(problem) if problem.code == ProblemCode::Unknown => {
                        let _ = changed.changed().await;
                    }
                    other => return other,
                }
            }
        };
        tokio::pin!(ready);
        loop {
            tokio::select! {
                image = &mut ready => {
                    return Ok(image.err().map(|problem| {
                        self.fail(format!("the image can't be used: {}", problem.message))
                    }));
                }
                () = Self::wish(&mut self.wishes) => if let Some(event) = self.wished() { return Ok(Some(event)) },
                () = clock::sleep_until(Some(self.assignment.start_by_ms)) => {
                    return Ok(Some(self.fail("the image did not arrive in time")));
                }
                () = self.parts.shutdown.cancelled() => return Err(Shutdown),
            }
        }
    }

    fn for_owner(&self, error: &MakeError) -> String {
        match error {
            MakeError::Image(_) => error.to_string(),
            MakeError::Prepare(error) => error.for_owner(),
            MakeError::Boot(complaint) | MakeError::Engine(EngineError::Failed { complaint, .. }) => {
                gvisor::explain(complaint, self.program.as_deref().unwrap_or_default())
            }
            _ => HOST_FAILED.into(),
        }
    }
}

/// Why a tier was given up, for the VM's owner: the engine's own words name host paths.
const fn given_up(tier: StartTier, error: &MakeError) -> &'static str {
    match (tier, error) {
        (_, MakeError::Silent) => "what was restored did not accept on its port",
        (StartTier::Paused, _) => "the instance that waited could not go on",
        (StartTier::Restored, _) => "the prepared state could not be restored",
        (StartTier::Created | StartTier::Cold, _) => "the sandbox that waited could not be started",
    }
}
