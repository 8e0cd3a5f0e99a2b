//! Commands in VMs: an answer at the end, server-sent events, or a WebSocket.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequest as _, FromRequestParts, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use cakework_api::exec::{Encoding, Exec, ExecEvent, ExecResult, ExecTicket};
use cakework_api::problem::ErrorCode;
use cakework_core::exec::{ExecInput, STDERR, STDIN, STDOUT};
use cakework_core::id::VmId;
use cakework_core::limit;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, OfVm, Params, Writer};
use super::openapi::Failures;
use crate::app::Shared;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::HostError;
use crate::host_exec::{HostExec, Input, Said};
use crate::ops::exec::{self, Running, Text, Wanted};
use crate::ops::exec_ticket;
use crate::ops::vms::find;

/// Time between two signs of life of a stream of events in which nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time for the first message of a WebSocket.
const HELLO: Duration = Duration::from_secs(30);
/// Bytes of a message to a command: the first one holds its words and its environment.
const WISH_MAX_BYTES: usize = 1 << 20;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(run)).routes(routes!(open)).routes(routes!(make_ticket))
}

/// Runs a command in a VM that runs, and answers when it is over. With `Accept: text/event-stream` its output comes as it is
/// written: `event: stdout` and `event: stderr` with `{"data"}`, then `event: exit` with how it ended. A sleeping VM is woken.
/// A client that hangs up ends the command.
#[utoipa::path(post, path = "/v1/vm/{vmId}/exec", operation_id = "execVM", tag = "vms", security(("apiKey" = [])),
    params(("vmId" = String, Path)), request_body = Exec,
    responses(
        (status = 200, description = "How it ended and what it wrote, or the events.", content(
            (ExecResult = "application/json"), (ExecEvent = "text/event-stream"))),
        Failures,
    ))]
async fn run(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    // What is wrong with a command for a VM of another's is nobody's business.
    find(&app, &caller, &id).await?;
    let Body(request) = Body::<Exec>::from_request(request, &app).await?;
    let Wanted { spec, stdin, encoding } = exec::check(request)?;
    let running = exec::begin(&app, &caller, &id, &spec).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/event-stream") {
        return Ok(Json(exec::collect(running, stdin, encoding).await?).into_response());
    }
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(running, stdin, encoding)).keep_alive(keep_alive).into_response())
}

/// A command's output as events: bytes as they come, then how it ended.
fn events(
    running: Running,
    stdin: Option<axum::body::Bytes>,
    encoding: Encoding,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let Running { exec: HostExec { input, output }, place } = running;
    let feeding = AbortOnDropHandle::new(tokio::spawn(exec::feed(input, stdin)));
    let state = (Some(output), [Text::default(), Text::default()], (feeding, place));
    let batches = futures_util::stream::unfold(state, move |(output, mut texts, kept)| async move {
        let mut output = output?;
        let (batch, is_over) = match output.next().await {
            Ok(Said::Bytes(bytes)) => {
                let (stream, bytes) = bytes.split_first()?;
                let data = match encoding {
                    Encoding::Utf8 => texts[usize::from(*stream != STDOUT)].push(bytes),
                    Encoding::Base64 => exec::written(bytes, encoding),
                };
                (vec![chunk(*stream, data)], false)
            }
            Ok(Said::Exit(exit)) => {
                let rests =
                    [STDOUT, STDERR].into_iter().zip(&mut texts).map(|(stream, text)| chunk(stream, text.end()));
                let exit = event("exit", &cakework_api::exec::ExecExit::from(exit));
                (rests.chain([Some(exit)]).collect(), true)
            }
            Err(error) => (vec![Some(event("error", &lost(error)))], true),
        };
        Some((
            futures_util::stream::iter(batch.into_iter().flatten().map(Ok)),
            ((!is_over).then_some(output), texts, kept),
        ))
    });
    batches.flatten()
}

fn chunk(stream: u8, data: String) -> Option<Event> {
    let name = if stream == STDOUT { "stdout" } else { "stderr" };
    (!data.is_empty()).then(|| event(name, &json!({ "data": data })))
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).expect("plain data"))
}

/// What a client hears of a command whose end is not known, once its answer has begun.
fn lost(error: HostError) -> serde_json::Value {
    let error = ApiError::from(error);
    if let Some(cause) = &error.cause {
        tracing::error!(cause = format!("{cause:#}"), "a command was lost");
    }
    json!({"code": error.code, "detail": error.detail})
}

/// Opens a command as a WebSocket. The first message is text: the body of `execVM`. Then binary messages carry bytes, the
/// first byte the stream: `0` to the command, `1` and `2` from it. Text messages to it are `{"type": "resize", "rows",
/// "cols"}`, `{"type": "signal", "signal"}` and `{"type": "eof"}`; the last one from it is `{"type": "exit", "exit"}`, or
/// `{"type": "error", "code", "detail"}`. A browser, which can send no key here, passes a `ticket`.
#[utoipa::path(get, path = "/v1/vm/{vmId}/exec", operation_id = "openExec", tag = "vms", security(("apiKey" = [])),
    params(("vmId" = String, Path), ("ticket" = Option<String>, Query, description = "In place of a key: what `createExecTicket` answered.")),
    responses((status = 101, description = "The WebSocket is open."), Failures))]
async fn open(
    State(app): State<Shared>,
    Opener(caller): Opener,
    OfVm(id): OfVm,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    find(&app, &caller, &id).await?;
    let socket = socket.map_err(|_| ApiError::new(ErrorCode::UpgradeRequired, "The request opens no WebSocket."))?;
    let socket = socket.max_message_size(WISH_MAX_BYTES).max_frame_size(WISH_MAX_BYTES);
    Ok(socket.on_upgrade(move |socket| talk(app, caller, id, socket).in_current_span()))
}

/// A caller who may open a command: with a key, or with a ticket for the VM.
struct Opener(Caller);

impl FromRequestParts<Shared> for Opener {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let mut params = Params::from_request_parts(parts, app).await?;
        let ticket = params.take("ticket");
        params.done()?;
        match ticket {
            Some(ticket) => {
                let OfVm(id) = OfVm::from_request_parts(parts, app).await?;
                exec_ticket::open(app, &id, &ticket).map(Self)
            }
            None => Writer::from_request_parts(parts, app).await.map(|Writer(caller)| Self(caller)),
        }
    }
}

/// Makes a ticket that opens commands in a VM, by `openExec`, for a minute: for a browser of the builder's end user.
#[utoipa::path(post, path = "/v1/vm/{vmId}/exec/ticket", operation_id = "createExecTicket", tag = "vms",
    security(("apiKey" = [])), params(("vmId" = String, Path)), responses((status = 201, body = ExecTicket), Failures))]
async fn make_ticket(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
) -> Result<(StatusCode, Json<ExecTicket>), ApiError> {
    Ok((StatusCode::CREATED, Json(exec_ticket::make(&app, &caller, &id).await?)))
}

async fn talk(app: Shared, caller: Caller, id: VmId, mut socket: WebSocket) {
    let begun = begin(&app, &caller, &id, &mut socket).await;
    let last = match begun {
        Ok(Some(running)) => {
            let closing = app.closing.clone();
            tokio::select! {
                last = relay(running, &mut socket) => last,
                () = closing.cancelled() => None,
            }
        }
        Ok(None) => None,
        Err(error) => {
            if let Some(cause) = &error.cause {
                tracing::error!(cause = format!("{cause:#}"), "a command was not started");
            }
            Some(json!({"type": "error", "code": error.code, "detail": error.detail, "field": error.field}))
        }
    };
    if let Some(last) = last {
        // A client that is gone has heard enough.
        let _ = socket.send(Message::text(last.to_string())).await;
    }
    let _ = socket.send(Message::Close(None)).await;
}

/// Hears what is wanted and begins it; `None` where the client goes before it says so.
async fn begin(app: &Shared, caller: &Caller, id: &VmId, socket: &mut WebSocket) -> Result<Option<Running>, ApiError> {
    let first = match tokio::time::timeout(HELLO, socket.recv()).await {
        Ok(Some(Ok(Message::Text(text)))) => text,
        Ok(None | Some(Err(_))) | Err(_) => return Ok(None),
        Ok(Some(Ok(_))) => {
            return Err(ApiError::new(ErrorCode::InvalidJson, "The first message is to be text: the command as JSON."));
        }
    };
    let request = super::extract::parse::<Exec>(first.as_bytes())?;
    let Wanted { spec, stdin, .. } = exec::check(request)?;
    if stdin.is_some() {
        let detail = "Over a WebSocket, input comes as binary messages.";
        return Err(ApiError::field(ErrorCode::InvalidValue, "stdin", detail));
    }
    exec::begin(app, caller, id, &spec).await.map(Some)
}

/// Passes messages both ways until the command is over or its client gone; the last message, where there is a client.
async fn relay(running: Running, socket: &mut WebSocket) -> Option<serde_json::Value> {
    let Running { exec: HostExec { input, mut output }, place: _place } = running;
    let (mut to_client, from_client) = socket.split();
    let mut hearing = std::pin::pin!(hear(from_client, input));
    loop {
        let said = tokio::select! {
            wrong = &mut hearing => return wrong.map(|detail| {
                json!({"type": "error", "code": ErrorCode::InvalidValue, "detail": detail})
            }),
            said = output.next() => said,
        };
        match said {
            Ok(Said::Bytes(bytes)) => to_client.send(Message::Binary(bytes)).await.ok()?,
            Ok(Said::Exit(exit)) => {
                return Some(json!({"type": "exit", "exit": cakework_api::exec::ExecExit::from(exit)}));
            }
            Err(error) => {
                let mut last = lost(error);
                last["type"] = json!("error");
                return Some(last);
            }
        }
    }
}

/// Passes on what a client says until it goes; what was wrong with its last message, where something was.
async fn hear(mut client: SplitStream<&mut WebSocket>, mut input: Input) -> Option<&'static str> {
    while let Some(Ok(message)) = client.next().await {
        let sent = match message {
            Message::Binary(bytes) if bytes.first() == Some(&STDIN) => {
                let mut sent = Ok(());
                for chunk in bytes[1..].chunks(limit::EXEC_MESSAGE_MAX_BYTES / 2) {
                    sent = input.write(chunk).await;
                }
                sent
            }
            Message::Binary(_) => return Some("A binary message begins with the byte 0: the command's input."),
            Message::Text(text) => match serde_json::from_str::<ExecInput>(&text) {
                Ok(message) => input.send(&message).await,
                Err(_) => return Some("A text message is `resize`, `signal` or `eof`."),
            },
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => return None,
        };
        if sent.is_err() {
            // Why is said by what comes out, or nothing is.
            std::future::pending::<()>().await;
        }
    }
    None
}
