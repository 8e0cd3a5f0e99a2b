//! `cakework registry …`

use std::io::{IsTerminal as _, Read as _};

use cakework_api::registry::Registry;
use reqwest::{Body, Method};
use serde_json::{Value, json};

use super::typed;
use crate::args;
use crate::client::{Again, CALL, Client};
use crate::failure::{Exit, Failure, Result};
use crate::show;

/// Bytes of a password that are read.
const PASSWORD_MAX_BYTES: u64 = 16 * 1024;

pub(super) async fn run(command: &args::Registry) -> Result<Exit> {
    match command {
        args::Registry::Set(options) => {
            let client = Client::new(&options.to)?;
            let password = secret(&format!("Password of {} at {}: ", options.username, options.host))?;
            let body = json!({"host": options.host, "username": options.username, "password": password}).to_string();
            let how = (Again::Always, CALL, "application/json");
            client.upload::<Value>(Method::POST, "/v1/registry", &[], how, || Body::from(body.clone())).await?;
            show::done("kept", &options.host);
        }
        args::Registry::List(options) => {
            let client = Client::new(&options.to)?;
            let mut said: Value = client.get("/v1/registry", &[]).await?;
            let said = said["registries"].take();
            if options.to.json {
                show::json(&said)?;
                return Ok(Exit::Done);
            }
            let registries: Vec<Registry> = typed(said)?;
            let row = |registry: Registry| vec![registry.host, registry.username, registry.updated_at];
            show::table(&["HOST", "USER", "UPDATED"], registries.into_iter().map(row).collect());
        }
        args::Registry::Delete(options) => {
            let client = Client::new(&options.to)?;
            client.delete("/v1/registry", &[("host", options.host.clone())]).await?;
            show::done("forgotten", &options.host);
        }
    }
    Ok(Exit::Done)
}

/// A secret: typed without being shown, or a line of stdin. Never an argument, which everybody on the machine can read.
pub(super) fn secret(prompt: &str) -> Result<String> {
    let text = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(prompt)?
    } else {
        let mut text = String::new();
        std::io::stdin().lock().take(PASSWORD_MAX_BYTES).read_to_string(&mut text)?;
        text
    };
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    if text.is_empty() {
        Err(Failure::usage("nothing was given").fix("type it, or pass it on stdin"))
    } else {
        Ok(text)
    }
}
