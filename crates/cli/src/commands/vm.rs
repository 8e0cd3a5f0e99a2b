//! `cakework vm …`

use cakework_api::vm::{Sleep, Vm, VmState};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cp, each, exec, items, logs, pairs, typed};
use crate::args::{self, VmList, VmOptions};
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Result};
use crate::show;

pub(super) async fn run(command: args::Vm) -> Result<Exit> {
    match command {
        args::Vm::Start(options) => start(&options).await,
        args::Vm::List(options) => list(&options).await,
        args::Vm::Show(options) => {
            let client = Client::new(&options.to)?;
            show::json(&client.get::<Value>(&format!("/v1/vm/{}", part(&options.id)?), &[]).await?)?;
            Ok(Exit::Done)
        }
        args::Vm::Stop(options) => {
            let stop = async |client: &Client, id: &str| {
                client.post(&format!("/v1/vm/{id}/stop"), Again::Always).await.map(drop)
            };
            each(&options.to, &options.ids, "stopped", stop).await
        }
        args::Vm::Exec(options) => exec::run(&Client::new(&options.to)?, &options.vm, options.options).await,
        args::Vm::Cp(options) => cp::run(&options).await,
        args::Vm::Logs(options) => {
            logs::show_log(&Client::new(&options.to)?, &options.vm, &options.options, options.to.json).await
        }
    }
}

/// The body of `startVM` and `cacheVM`.
pub(super) fn body(options: &VmOptions) -> Result<Value> {
    let mut body = json!({
        "imageId": options.image,
        "envVars": pairs("--env", &options.env)?,
        "metadata": pairs("--metadata", &options.metadata)?,
    });
    let numbers = [
        ("cpu", options.cpu),
        ("memory", options.memory),
        ("port", options.port),
        ("volumeGB", options.volume),
        ("timeoutSeconds", options.timeout),
    ];
    for (field, number) in numbers {
        if let Some(number) = number {
            body[field] = number.into();
        }
    }
    if let Some(tenant) = &options.tenant {
        body["tenant"] = tenant.as_str().into();
    }
    if !options.command.is_empty() {
        body["command"] = options.command.clone().into();
    }
    Ok(body)
}

async fn start(options: &VmOptions) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let raw: Value = client.make("/v1/vm/start", &body(options)?).await?;
    let vm: Vm = typed(raw.clone())?;
    made(&vm, "started");
    if options.to.json {
        show::json(&raw)?
    } else {
        show::line(&vm.id)
    }
    Ok(Exit::Done)
}

/// Says that a VM is there, and where.
pub(super) fn made(vm: &Vm, what: &str) {
    let word = if vm.state == VmState::Created { "starting" } else { what };
    show::done(word, vm.url.as_deref().filter(|_| vm.port.is_some()).unwrap_or(&vm.hostname));
}

async fn list(options: &VmList) -> Result<Exit> {
    let client = Client::new(&options.options.to)?;
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(options.state.clone().map(|state| ("status", state)));
    query.extend(options.image.clone().map(|image| ("imageId", image)));
    query.extend(options.options.tenant.clone().map(|tenant| ("tenant", tenant)));
    let marks: Vec<_> = pairs("--metadata", &options.metadata)?
        .into_iter()
        .map(|(name, value)| (format!("metadata.{name}"), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    query.extend(marks.iter().map(|(name, value)| (name.as_str(), value.clone())));
    // Those that are over are passed over here: no filter of the API names all but one state.
    let shows_all = options.all || options.state.is_some();
    let most = if shows_all { options.options.limit } else { usize::MAX };
    let (raw, vms): (_, Vec<Vm>) = items(&client, "/v1/vms", "vms", &query, most).await?;
    let is_shown = |vm: &Vm| shows_all || vm.state != VmState::Destroyed;
    let both = raw.into_iter().zip(vms).filter(|(_, vm)| is_shown(vm)).take(options.options.limit);
    let (raw, vms): (Vec<Value>, Vec<Vm>) = both.unzip();
    if options.options.to.json {
        show::json(&raw)?;
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let row = |vm: Vm| {
        let state = match (vm.state, vm.sleep) {
            (_, Some(Sleep::Paused)) => "asleep",
            (_, Some(Sleep::Spilled)) => "asleep on disk",
            (state, None) => state.as_str(),
        };
        let kind = if vm.prewarm.is_some() { "cached" } else { "once" };
        let size = format!("{} CPU, {} MB", vm.cpu, vm.memory);
        let url = vm.url.filter(|_| vm.port.is_some()).unwrap_or_default();
        vec![vm.id, kind.to_owned(), state.to_owned(), size, show::ago(&vm.created_at, now), url]
    };
    show::table(&["VM ID", "KIND", "STATE", "SIZE", "CREATED", "URL"], vms.into_iter().map(row).collect());
    Ok(Exit::Done)
}
