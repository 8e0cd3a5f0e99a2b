//! `cakework cache …`

use cakework_api::vm::Vm;
use serde_json::Value;

use super::{each, typed, vm};
use crate::args::{Cache, CacheCreate};
use crate::client::{Again, Client};
use crate::failure::{Exit, Result};
use crate::show;

pub(super) async fn run(command: &Cache) -> Result<Exit> {
    match command {
        Cache::Create(options) => create(options).await,
        Cache::Start(options) => {
            let start = async |client: &Client, id: &str| {
                let vm: Vm = typed(client.post(&format!("/v1/vm/cached/{id}/start"), Again::Always).await?)?;
                vm::made(&vm, "runs");
                Ok(())
            };
            each(&options.to, &options.ids, "started", start).await
        }
        Cache::Stop(options) => each(&options.to, &options.ids, "stopped", call("cached/{id}/stop")).await,
        Cache::Suspend(options) => each(&options.to, &options.ids, "asleep", call("{id}/suspend")).await,
        Cache::Destroy(options) => each(&options.to, &options.ids, "destroyed", call("{id}/destroy")).await,
    }
}

/// A call whose answer says nothing.
fn call(path: &'static str) -> impl AsyncFn(&Client, &str) -> Result<()> {
    async move |client: &Client, id: &str| {
        client.post(&format!("/v1/vm/{}", path.replace("{id}", id)), Again::Always).await.map(drop)
    }
}

async fn create(options: &CacheCreate) -> Result<Exit> {
    let client = Client::new(&options.vm.to)?;
    let mut body = vm::body(&options.vm)?;
    if let Some(seconds) = options.idle_timeout {
        body["idleTimeoutSeconds"] = seconds.into();
    }
    if options.no_auto_start {
        body["autoStart"] = false.into();
    }
    if let Some(prewarm) = &options.prewarm {
        body["prewarm"] = prewarm.as_str().into();
    }
    let raw: Value = client.make("/v1/vm/cache", &body).await?;
    let vm: Vm = typed(raw.clone())?;
    vm::made(&vm, "cached");
    if options.vm.to.json {
        show::json(&raw)?
    } else {
        show::line(&vm.id)
    }
    Ok(Exit::Done)
}
