//! `cakework run`: a project once, in front of a person. Its output is this command's, and so is its exit code.

use cakework_api::vm::{ExitReason, Vm};
use serde_json::Value;

use super::build;
use super::deploy::ended;
use crate::args::Run;
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::follow::Follower;
use crate::project::Project;
use crate::show;
use crate::terminal::unless_interrupted;

pub(super) async fn run(options: &Run) -> Result<Exit> {
    let dir = &options.project.dir;
    let project = Project::read(dir)?;
    let client = Client::new(&options.to)?;
    let image = build::of_project(&client, dir, &project, &options.build).await?;
    let mut body = project.vm(&image);
    if !options.command.is_empty() {
        body["command"] = options.command.clone().into();
    }
    let vm: Vm = client.make("/v1/vm/start", &body).await?;
    let id = part(&vm.id)?;
    show::done("started", vm.url.as_deref().filter(|_| vm.port.is_some()).unwrap_or(&vm.id));
    let shown = Follower::new(&client, format!("/v1/vm/{id}/logs"), Vec::new()).run(|line| {
        let text = show::plain(&line.message);
        if line.level == "error" {
            show::fact(&text)
        } else {
            show::line(&text)
        }
        Ok(())
    });
    let stop = async {
        client.post(&format!("/v1/vm/{id}/stop"), Again::Always).await?;
        Err(Failure::new(Exit::Interrupted, format!("stopped {id}")))
    };
    unless_interrupted(shown, stop).await?;
    let query = [("state", "destroyed".to_owned()), ("timeout", "20".to_owned())];
    client.get::<Value>(&format!("/v1/vm/{id}/wait"), &query).await?;
    let vm: Vm = client.get(&format!("/v1/vm/{id}"), &[]).await?;
    match &vm.exit {
        Some(exit) if exit.reason == ExitReason::Exited => match (exit.code, exit.signal) {
            (Some(code), _) => Ok(Exit::Code(u8::try_from(code).unwrap_or(1))),
            (None, Some(signal)) => Ok(Exit::Code(u8::try_from(128 + signal).unwrap_or(1))),
            (None, None) => Err(ended(&vm)),
        },
        Some(_) => Err(ended(&vm)),
        None => {
            Err(Failure::new(Exit::Unavailable, format!("how {id} ended is not known yet"))
                .fix("cakework vm show says it"))
        }
    }
}
