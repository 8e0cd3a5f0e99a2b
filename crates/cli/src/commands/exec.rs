//! `cakework exec` and `cakework vm exec`: a command in a VM, with this process's streams and, at a terminal, with one. Its exit
//! code is this command's.

use std::io::Write as _;

use cakework_api::exec::{ExecEnd, ExecExit, ExecTicket};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{pairs, typed};
use crate::args::{self, ExecOptions, When};
use crate::client::{Again, Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::terminal::{self, Raw, Resizes};

/// First byte of a message (docs/exec-and-files.md).
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
/// Bytes that are read of stdin at once.
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) async fn of_project(options: args::Exec) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let vm = match options.vm {
        Some(vm) => vm,
        None => super::of_project(&client, &options.project.dir).await?.id,
    };
    run(&client, &vm, options.options).await
}

/// Runs a command in a VM.
pub(super) async fn run(client: &Client, vm: &str, options: ExecOptions) -> Result<Exit> {
    let tty = match options.tty {
        When::Auto => terminal::is_one(),
        When::Always => true,
        When::Never => false,
    };
    let path = format!("/v1/vm/{}/exec", part(vm)?);
    let mut wish = json!({
        "command": options.command,
        "envVars": pairs("--env", &options.env)?,
        "timeoutSeconds": options.timeout,
    });
    for (field, value) in [("cwd", &options.workdir), ("user", &options.user)] {
        if let Some(value) = value {
            wish[field] = value.as_str().into();
        }
    }
    if tty {
        let (rows, cols) = terminal::size();
        wish["tty"] = json!({"rows": rows, "cols": cols});
        if wish["envVars"]["TERM"].is_null() {
            wish["envVars"]["TERM"] = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()).into();
        }
    }
    // A ticket rather than the key: it is part of a URL.
    let ticket: ExecTicket = typed(client.post(&format!("{path}/ticket"), Again::Never).await?)?;
    let url = client.url(&format!("{path}?ticket={}", ticket.ticket)).replacen("http", "ws", 1);
    let (socket, _) = tokio_tungstenite::connect_async(url).await.map_err(|error| broken(&error))?;
    let (mut to, mut from) = socket.split();
    to.send(Message::text(wish.to_string())).await.map_err(|error| broken(&error))?;
    let raw = if tty && terminal::is_one() { Some(Raw::enter()?) } else { None };
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut resizes = Resizes::new();
    let mut is_open = true;
    let end = loop {
        tokio::select! {
            message = from.next() => match message {
                Some(Ok(Message::Binary(bytes))) => write(&bytes)?,
                Some(Ok(Message::Text(text))) => break serde_json::from_str::<Value>(&text).unwrap_or_default(),
                Some(Ok(Message::Close(_))) | None => return Err(lost()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(&error)),
            },
            count = stdin.read(&mut buffer), if is_open => {
                let count = count.unwrap_or(0);
                is_open = count > 0;
                let message = if is_open {
                    let mut bytes = Vec::with_capacity(count + 1);
                    bytes.push(STDIN);
                    bytes.extend_from_slice(&buffer[..count]);
                    Message::binary(bytes)
                } else {
                    Message::text(json!({"type": "eof"}).to_string())
                };
                // Whoever hears no more has ended, and says so.
                let _ = to.send(message).await;
            }
            () = resizes.next(), if tty => {
                let (rows, cols) = terminal::size();
                let _ = to.send(Message::text(json!({"type": "resize", "rows": rows, "cols": cols}).to_string())).await;
            }
        }
    };
    drop(raw);
    over(end)
}

/// A piece of the command's output.
fn write(bytes: &[u8]) -> Result<()> {
    let Some((stream, rest)) = bytes.split_first() else { return Ok(()) };
    let written = if *stream == STDOUT {
        let mut out = std::io::stdout().lock();
        out.write_all(rest).and_then(|()| out.flush())
    } else {
        let mut out = std::io::stderr().lock();
        out.write_all(rest).and_then(|()| out.flush())
    };
    written.map_err(Failure::from)
}

/// What the last message says of the command's end.
fn over(said: Value) -> Result<Exit> {
    if said["type"] == "error" {
        let exit = match said["code"].as_str() {
            Some("invalid_command") => Exit::Code(127),
            _ => Exit::Failed,
        };
        let detail = said["detail"].as_str().unwrap_or("the command is lost");
        return Err(Failure::new(exit, detail));
    }
    let exit: ExecExit = typed(said["exit"].clone())?;
    match (exit.reason, exit.code, exit.signal) {
        (ExecEnd::Timeout, ..) => Err(Failure::new(Exit::Code(124), "the command took longer than --timeout")),
        (ExecEnd::VmEnded, ..) => Err(Failure::new(Exit::Failed, "the VM ended, and the command with it")),
        (ExecEnd::Exited, Some(code), _) => Ok(Exit::Code(u8::try_from(code).unwrap_or(1))),
        (ExecEnd::Exited, None, signal) => Ok(Exit::Code(u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(1))),
    }
}

fn broken(error: &tungstenite::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the connection to the command broke off: {error}"))
}

fn lost() -> Failure {
    Failure::new(Exit::Unavailable, "the connection to the command was closed").fix("the command has ended with it")
}
