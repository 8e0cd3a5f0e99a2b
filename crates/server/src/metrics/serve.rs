//! Where the metrics are read: `GET /metrics` on the admin socket, and on an address of its own where the operator gave
//! one. It needs no key: whoever gets there is the operator's.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::{encode_eof, encode_registry};

use super::scene;
use crate::app::{App, Shared};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The one route.
pub(crate) fn router(app: Shared) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(app)
}

async fn metrics(State(app): State<Shared>) -> Response {
    match text(&app).await {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(error = ?error, "the metrics could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn text(app: &App) -> anyhow::Result<String> {
    let scene = scene::look(app).await?;
    let mut text = String::new();
    encode_registry(&mut text, &app.metrics.registry)?;
    encode_registry(&mut text, &scene)?;
    encode_eof(&mut text)?;
    Ok(text)
}
