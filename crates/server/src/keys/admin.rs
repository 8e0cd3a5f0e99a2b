//! The admin socket: `POST /keys` with a [`KeyCommand`], for whoever may open the socket's file (mode 0600).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::{KeyAnswer, KeyCommand, KeyError, carry_out};
use crate::store::Store;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
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
pub(crate) fn router(store: Store) -> Router {
    Router::new().route("/keys", post(keys)).with_state(store)
}

async fn keys(State(store): State<Store>, Json(command): Json<KeyCommand>) -> Response {
    let (status, kind, message) = match carry_out(&store, command).await {
        Ok(answer) => return Json(answer).into_response(),
        Err(KeyError::Unknown(noun)) => (StatusCode::NOT_FOUND, "unknown", noun.to_owned()),
        Err(KeyError::Invalid(message)) => (StatusCode::BAD_REQUEST, "invalid", message),
        Err(error @ (KeyError::Served | KeyError::Io(_))) => {
            tracing::error!(error = ?error, "a key command failed");
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
    let socket = dir.join(SOCKET);
    if tokio::net::UnixStream::connect(&socket).await.is_err() {
        return super::offline(dir, command).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().timeout(CALL_TIMEOUT).build();
    let client = client.context("the admin socket's client can't be made")?;
    let response = client.post("http://admin/keys").json(&command).send().await.context("the admin socket")?;
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
