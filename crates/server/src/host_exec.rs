//! The client's end of a command on a host: a WebSocket to its agent.

use std::time::Duration;

use cakework_core::exec::{ExecExit, ExecInput, ExecSpec, STDIN};
use cakework_core::id::{Generation, HostId, VmId};
use cakework_core::limit;
use cakework_wire::exec::{ExecNews, StartExec};
use cakework_wire::host::{AgentProblem, ProblemCode};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::host::{HostClient, HostError, chain};

/// Time for a command to be started or refused.
const BEGIN: Duration = Duration::from_secs(12);

/// A command that runs on a host. It ends when both of its ends are dropped.
pub(crate) struct HostExec {
    /// What goes in.
    pub(crate) input: Input,
    /// What comes out: to be read while something is sent, since a full pipe holds both.
    pub(crate) output: Output,
}

/// The way to a command.
pub(crate) struct Input(SplitSink<WebSocketStream<Upgraded>, Message>);

/// The way from a command.
pub(crate) struct Output(SplitStream<WebSocketStream<Upgraded>>);

/// What a command says.
#[derive(Debug)]
pub(crate) enum Said {
    /// Bytes of one of its streams, after the stream's own byte.
    Bytes(axum::body::Bytes),
    /// It is over; the last word.
    Exit(ExecExit),
}

impl HostClient {
    /// Starts a command in a VM's placement on `host`.
    pub(crate) async fn exec(
        &self,
        host: &HostId,
        id: &VmId,
        generation: Generation,
        spec: &ExecSpec,
    ) -> Result<HostExec, HostError> {
        let begin = async {
            let request = self.request(Method::GET, &format!("vms/{id}/exec"));
            let request = request.header("connection", "upgrade").header("upgrade", "websocket");
            let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", generate_key());
            let response = request.send().await.map_err(|error| HostError::Away(chain(&error)))?;
            let upgraded = response.upgrade().await.map_err(|error| HostError::Away(chain(&error)))?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(limit::EXEC_MESSAGE_MAX_BYTES))
                .max_frame_size(Some(limit::EXEC_MESSAGE_MAX_BYTES));
            let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
            let wish = StartExec { host_id: host.clone(), generation, spec: spec.clone() };
            let wish = serde_json::to_string(&wish).map_err(HostError::away)?;
            socket.send(Message::text(wish)).await.map_err(HostError::away)?;
            match socket.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(ExecNews::Started) => {
                        let (input, output) = socket.split();
                        Ok(HostExec { input: Input(input), output: Output(output) })
                    }
                    Ok(ExecNews::Refused(problem)) => Err(HostError::Problem(problem)),
                    Ok(ExecNews::Exit(_)) | Err(_) => Err(HostError::away("the answer to a command is none")),
                },
                Some(Err(error)) => Err(HostError::away(error)),
                Some(Ok(_)) | None => Err(HostError::away("the host closed a command at once")),
            }
        };
        tokio::time::timeout(BEGIN, begin).await.unwrap_or_else(|_| Err(HostError::away("no command began in time")))
    }
}

impl Output {
    /// What it says next.
    ///
    /// # Errors
    /// The host is away: how the command ended is not known.
    pub(crate) async fn next(&mut self) -> Result<Said, HostError> {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => Ok(Said::Bytes(bytes)),
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(ExecNews::Exit(exit)) => Ok(Said::Exit(exit)),
                    Ok(ExecNews::Started | ExecNews::Refused(_)) | Err(_) => {
                        Err(HostError::away("a command's message is none"))
                    }
                },
                Some(Ok(Message::Close(_))) | None => Err(HostError::away("the host let a command go")),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Err(HostError::away(error)),
            };
        }
    }
}

impl Input {
    /// Sends bytes to its standard input. Held while it reads none.
    ///
    /// # Errors
    /// The host is away, or the command over.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        self.0.send(Message::binary([&[STDIN], bytes].concat())).await.map_err(HostError::away)
    }

    /// Sends another message.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn send(&mut self, input: &ExecInput) -> Result<(), HostError> {
        let text = serde_json::to_string(input).map_err(HostError::away)?;
        self.0.send(Message::text(text)).await.map_err(HostError::away)
    }
}

/// Whether the VM may have fallen asleep just now.
pub(crate) fn is_not_running(error: &HostError) -> bool {
    matches!(error, HostError::Problem(AgentProblem { code: ProblemCode::NotRunning, .. }))
}
