//! The commands, a file each noun. They say what they did, and hand on why they could not.

mod build;
mod cache;
mod cp;
mod deploy;
mod exec;
mod image;
mod login;
mod logs;
mod registry;
mod run;
mod vm;
mod webhook;

use cakework_api::vm::{Vm, VmState};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{ClientCommand, Connection, Init};
use crate::client::{Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::project::{self, MARK, Project};
use crate::show;

/// Items of a page of a list.
const PAGE: usize = 100;

/// Runs a command.
pub(crate) async fn run(command: ClientCommand) -> Result<Exit> {
    match command {
        ClientCommand::Init(options) => init(&options),
        ClientCommand::Deploy(options) => deploy::run(&options).await,
        ClientCommand::Run(options) => run::run(&options).await,
        ClientCommand::Logs(options) => logs::of_project(&options).await,
        ClientCommand::Exec(options) => exec::of_project(options).await,
        ClientCommand::Open(options) => deploy::open(&options).await,
        ClientCommand::Build(options) => build::run(&options).await,
        ClientCommand::Image(command) => image::run(&command).await,
        ClientCommand::Vm(command) => vm::run(command).await,
        ClientCommand::Cache(command) => cache::run(&command).await,
        ClientCommand::Webhook(command) => webhook::run(&command).await,
        ClientCommand::Registry(command) => registry::run(&command).await,
        ClientCommand::Login(options) => login::login(&options).await,
        ClientCommand::Logout(options) => login::logout(&options),
    }
}

fn init(options: &Init) -> Result<Exit> {
    let (name, files) = project::init(&options.dir, options.template, options.name.as_deref())?;
    show::done("made", &format!("{name}: {}", files.join(", ")));
    let place = if options.dir.as_os_str() == "." { String::new() } else { format!(" -C {}", options.dir.display()) };
    show::fact(&format!("next: cakework deploy{place}"));
    Ok(Exit::Done)
}

/// The items of a list, page by page, the newest first: as they came, and as this program reads them.
async fn items<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    field: &str,
    query: &[(&str, String)],
    most: usize,
) -> Result<(Vec<Value>, Vec<T>)> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    while found.len() < most {
        let mut query = query.to_vec();
        query.push(("limit", (most - found.len()).min(PAGE).to_string()));
        query.extend(token.take().map(|token| ("pagination", token)));
        let mut page: Value = client.get(path, &query).await?;
        token = page["pagination"].as_str().map(str::to_owned);
        if let Value::Array(items) = page[field].take() {
            found.extend(items);
        }
        if token.is_none() {
            break;
        }
    }
    let typed = found.iter().map(|item| typed(item.clone())).collect::<Result<_>>()?;
    Ok((found, typed))
}

/// What the server said, as this program reads it.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("the server's answer can't be read: {error}")))
}

/// The VM that runs a folder's project: the newest that is not over.
async fn of_project(client: &Client, dir: &std::path::Path) -> Result<Vm> {
    let project = Project::read(dir)?;
    let vms = vms_of(client, &project).await?;
    vms.into_iter().next().ok_or_else(|| {
        Failure::new(Exit::Absent, format!("{} is not deployed", project.name)).fix("run `cakework deploy` first")
    })
}

/// A project's cached VMs that are not over, the newest first.
async fn vms_of(client: &Client, project: &Project) -> Result<Vec<Vm>> {
    let mark = format!("metadata.{MARK}");
    let query = [(mark.as_str(), project.name.clone())];
    let (_, vms): (_, Vec<Vm>) = items(client, "/v1/vms", "vms", &query, usize::MAX).await?;
    Ok(vms.into_iter().filter(|vm| vm.prewarm.is_some() && vm.state != VmState::Destroyed).collect())
}

/// `NAME=VALUE`, as often as it was typed.
fn pairs(what: &str, words: &[String]) -> Result<serde_json::Map<String, Value>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Value::from(value))),
        _ => Err(Failure::usage(format!("{what} {word:?} is not NAME=VALUE"))),
    };
    words.iter().map(pair).collect()
}

/// One call for each of several things: all are tried, the first failure is the command's.
async fn each(
    to: &Connection,
    ids: &[String],
    done: &str,
    call: impl AsyncFn(&Client, &str) -> Result<()>,
) -> Result<Exit> {
    let client = Client::new(to)?;
    let mut first = None;
    for id in ids {
        match call(&client, &part(id)?).await {
            Ok(()) => show::done(done, id),
            Err(failure) => {
                let failure = failure.of(id);
                match first {
                    None => first = Some(failure),
                    Some(_) => failure.say(),
                }
            }
        }
    }
    first.map_or(Ok(Exit::Done), Err)
}
