//! `cakework deploy` and `cakework open`.

use std::io::IsTerminal as _;
use std::time::Duration;

use cakework_api::logs::Logs;
use cakework_api::vm::{Vm, VmState};
use serde_json::Value;

use super::{build, of_project, vms_of};
use crate::args::{Deploy, Open};
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::progress::Work;
use crate::project::Project;
use crate::show;
use crate::terminal::unless_interrupted;

/// Time for a VM whose start goes on behind its answer.
const START: Duration = Duration::from_secs(120);
/// Time for the app to answer once it runs.
const ANSWER: Duration = Duration::from_secs(35);
/// Lines of the log that are shown where an app does not come up.
const LAST_LINES: usize = 20;

pub(super) async fn run(options: &Deploy) -> Result<Exit> {
    let dir = &options.project.dir;
    let project = Project::read(dir)?;
    let client = Client::new(&options.to)?;
    let before = vms_of(&client, &project).await?;
    let image = build::of_project(&client, dir, &project, &options.build).await?;
    let mut body = project.vm(&image);
    if let Some(seconds) = project.idle_timeout_seconds {
        body["idleTimeoutSeconds"] = seconds.into();
    }
    let made: Vm = client.make("/v1/vm/cache", &body).await?;
    let id = part(&made.id)?;
    // Until the new one answers, the one before goes on; then it goes.
    let interrupted = async { Err(Failure::new(Exit::Interrupted, "the deployment is undone")) };
    let vm = match unless_interrupted(come_up(&client, &id, project.port.is_some()), interrupted).await {
        Ok(vm) => vm,
        Err(failure) => {
            if failure.exit != Exit::Interrupted {
                last_words(&client, &id).await;
            }
            let _ = client.post(&format!("/v1/vm/{id}/destroy"), Again::Always).await;
            return Err(if before.is_empty() {
                failure
            } else {
                failure.fix("what was deployed before goes on as it was")
            });
        }
    };
    for old in &before {
        client.post(&format!("/v1/vm/{}/destroy", part(&old.id)?), Again::Always).await?;
        show::done("replaced", &old.id);
    }
    if options.to.json {
        show::json(&vm)?;
    } else {
        show::line(vm.url.as_deref().unwrap_or(&vm.id));
    }
    Ok(Exit::Done)
}

/// Starts a cached VM and waits until it answers.
async fn come_up(client: &Client, id: &str, has_port: bool) -> Result<Vm> {
    let work = Work::begin("starting");
    client.post(&format!("/v1/vm/cached/{id}/start"), Again::Always).await?;
    let end = tokio::time::Instant::now() + START;
    let vm: Vm = loop {
        let vm: Vm = client.get(&format!("/v1/vm/{id}"), &[]).await?;
        match vm.state {
            VmState::Started => break vm,
            VmState::Created if tokio::time::Instant::now() < end => {
                let query = [("state", "started".to_owned()), ("timeout", "20".to_owned())];
                client.get::<Value>(&format!("/v1/vm/{id}/wait"), &query).await?;
            }
            VmState::Created => return Err(Failure::new(Exit::TimedOut, format!("{id} did not start in time"))),
            VmState::Stopped | VmState::Destroyed => return Err(ended(&vm)),
        }
    };
    let tier = vm.start.as_ref().map_or(String::new(), |start| {
        let tier = serde_json::to_value(start.tier).ok().and_then(|tier| tier.as_str().map(str::to_owned));
        format!(" ({} in {} ms)", tier.unwrap_or_default(), start.duration_ms)
    });
    let rest = format!("{id}{tier}");
    work.done("started", &rest);
    if let (true, Some(url)) = (has_port, &vm.url) {
        let work = Work::begin(&format!("waiting for an answer at {url}"));
        let status = client.knock(url, ANSWER).await.map_err(|failure| {
            failure.ends(Exit::Failed).fix("does the app listen on the port that cakework.toml names, on 0.0.0.0?")
        })?;
        let rest = format!("{} after {}", status.as_u16(), work.seconds());
        work.done("answers", &rest);
    }
    Ok(vm)
}

/// Why a VM is over.
pub(super) fn ended(vm: &Vm) -> Failure {
    let how = vm.exit.as_ref().map_or_else(String::new, |exit| {
        let code = exit.code.map(|code| format!(" with code {code}"));
        let signal = exit.signal.map(|signal| format!(" by signal {signal}"));
        let memory = if exit.oom { " for lack of memory" } else { "" };
        let message = exit.message.as_ref().map(|message| format!(": {message}"));
        [code, signal, Some(memory.to_owned()), message].into_iter().flatten().collect()
    });
    Failure::new(Exit::Failed, format!("the VM {} ended{how}", vm.id))
}

/// The end of a log, for whoever wants to know why.
pub(super) async fn last_words(client: &Client, id: &str) {
    let query = [("order", "newest_first".to_owned()), ("batch", "50".to_owned())];
    let Ok(page) = client.get::<Logs>(&format!("/v1/vm/{id}/logs"), &query).await else { return };
    for line in page.lines.iter().take(LAST_LINES).rev() {
        show::fact(&format!("  {}", show::plain(&line.message)));
    }
}

pub(super) async fn open(options: &Open) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let vm = of_project(&client, &options.project.dir).await?;
    let url = vm.url.filter(|_| vm.port.is_some()).ok_or_else(|| {
        Failure::new(Exit::Conflict, "the project has no port, so that it has no page")
            .fix("name its `port` in cakework.toml and deploy it again")
    })?;
    show::line(&url);
    if !options.print && std::io::stdout().is_terminal() {
        // Where there is no browser, the line has said it.
        let _ = open::that_detached(&url);
    }
    Ok(Exit::Done)
}
