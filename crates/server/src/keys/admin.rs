//! The admin socket: `POST /keys` with a [`KeyCommand`] and `POST /snapshot`, for whoever may open the socket's file (mode
//! 0600).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::{KeyAnswer, KeyCommand, KeyError, carry_out};
use crate::snapshot;
use crate::store::Store;

/// Longest time of a call: the copy of a large database takes some time.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
const SOCKET: &str = "admin.sock";

/// A failure on the socket.
#[derive(Serialize, Deserialize)]
struct Refusal {
    /// `unknown`, `invalid` or `failed`.
    kind: String,
    message: String,
}

/// Takes the socket in `dir`; one that a server before left there is replaced.
pub(crate) fn listen(dir: &Path) -> anyhow::Result<UnixListener> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context("admin.sock"),
        _ => {}
    }
    let listener = UnixListener::bind(&path).context("admin.sock can't be made")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).context("admin.sock")?;
    Ok(listener)
}

/// The socket's routes.
pub(crate) fn router(store: Store, dir: PathBuf) -> Router {
    Router::new().route("/keys", post(keys)).route("/snapshot", post(copy)).with_state((store, dir))
}

async fn keys(State((store, _)): State<(Store, PathBuf)>, Json(command): Json<KeyCommand>) -> Response {
    answer(carry_out(&store, command).await)
}

async fn copy(State((store, dir)): State<(Store, PathBuf)>) -> Response {
    answer(snapshot::take(&store, &dir).await)
}

fn answer(done: Result<impl Serialize, KeyError>) -> Response {
    let (status, kind, message) = match done {
        Ok(answer) => return Json(answer).into_response(),
        Err(KeyError::Unknown(noun)) => (StatusCode::NOT_FOUND, "unknown", noun.to_owned()),
        Err(KeyError::Invalid(message)) => (StatusCode::BAD_REQUEST, "invalid", message),
        Err(error @ (KeyError::Served | KeyError::Io(_))) => {
            tracing::error!(error = ?error, "a command on the admin socket failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "failed", "the server's log has the cause".to_owned())
        }
    };
    (status, Json(Refusal { kind: kind.to_owned(), message })).into_response()
}

/// Carries a command out: through the admin socket in `dir` where a server listens on it, else as [`super::offline`]
/// does.
///
/// # Errors
/// See [`KeyError`].
pub async fn execute(dir: &Path, command: KeyCommand) -> Result<KeyAnswer, KeyError> {
    match ask(dir, "/keys", &command).await {
        Some(answer) => answer,
        None => super::offline(dir, command).await,
    }
}

/// Calls the admin socket in `dir`; `None` where nobody listens on it.
pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
    dir: &Path,
    path: &str,
    question: &Q,
) -> Option<Result<A, KeyError>> {
    let socket = dir.join(SOCKET);
    tokio::net::UnixStream::connect(&socket).await.ok()?;
    Some(call(socket, path, question).await)
}

async fn call<A: DeserializeOwned>(socket: PathBuf, path: &str, question: &impl Serialize) -> Result<A, KeyError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().timeout(CALL_TIMEOUT).build();
    let client = client.context("the admin socket's client can't be made")?;
    let response =
        client.post(format!("http://admin{path}")).json(question).send().await.context("the admin socket")?;
    if response.status().is_success() {
        return Ok(response.json().await.context("the admin socket")?);
    }
    let refusal: Refusal = response.json().await.context("the admin socket")?;
    Err(match (refusal.kind.as_str(), refusal.message.as_str()) {
        ("unknown", "key") => KeyError::Unknown("key"),
        ("unknown", _) => KeyError::Unknown("account"),
        ("invalid", _) => KeyError::Invalid(refusal.message),
        _ => KeyError::Io(anyhow::anyhow!("{}", refusal.message)),
    })
}
