//! Logs of VMs and builds: a page, or with `follow` all of it as server-sent events; and a search through those of all VMs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use cakework_api::logs::FoundLogs;
use cakework_api::problem::ErrorCode;
use cakework_core::logquery::{InvalidQuery, LogQuery, RawQuery};
use cakework_core::logsearch::Mark;
use futures_util::Stream;
use http::HeaderMap;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as OpenApiResponse, ResponseBuilder};

use super::extract::{Params, Reader};
use super::openapi::Failures;
use crate::app::Shared;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::ops::follow::{self, Event, Follower, read_place};
use crate::ops::log_search;
use crate::ops::logs::{self, Log};
use crate::store::vms::VmFilter;

/// Time between two signs of life of a log that is followed and does not grow.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The header by which a client of server-sent events says where it was cut off.
const LAST_EVENT_ID: &str = "last-event-id";

/// The parameters of every log.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it only describes them")]
pub(super) struct LogParams {
    /// Case-insensitive substring.
    query: Option<String>,
    /// 50–1000, 100 by default.
    batch: Option<u32>,
    /// `oldest_first` (default) or `newest_first`.
    order: Option<String>,
    /// The token of the page before.
    pagination: Option<String>,
    /// ISO 8601, inclusive.
    from: Option<String>,
    /// ISO 8601, inclusive.
    to: Option<String>,
    /// `true`: server-sent events instead of a page. `event: log` has a line as its data; `event: end` comes when there
    /// will be no more. `Last-Event-ID` goes on after the event that it names.
    follow: Option<bool>,
}

/// The answers of every log: a page, or with `follow` the events.
pub(super) struct LogAnswers;

impl IntoResponses for LogAnswers {
    fn responses() -> BTreeMap<String, RefOr<OpenApiResponse>> {
        let page = ContentBuilder::new().schema(Some(Ref::from_schema_name("Logs"))).build();
        let events = ContentBuilder::new().schema(Some(Ref::from_schema_name("LogEvent"))).build();
        let response = ResponseBuilder::new()
            .description("A page; with `follow` the events.")
            .content("application/json", page)
            .content("text/event-stream", events)
            .build();
        BTreeMap::from([("200".to_owned(), RefOr::T(response))])
    }
}

/// The page or the stream that the parameters ask for.
pub(super) async fn answer(
    app: Shared,
    caller: Caller,
    log: Log,
    mut params: Params,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let is_followed = match params.take("follow").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(ApiError::field(ErrorCode::InvalidValue, "follow", "`follow` must be `true` or `false`."));
        }
    };
    let mut asked = Asked::take(&mut params);
    params.done()?;
    let mut passed = 0;
    if let Some(last) = headers.get(LAST_EVENT_ID).filter(|_| is_followed) {
        let place = last.to_str().ok().and_then(read_place);
        let (token, lines) = place.ok_or_else(|| invalid_query(InvalidQuery::Pagination))?;
        (asked.pagination, passed) = (token.map(str::to_owned), lines);
    }
    let query = asked.query()?;
    if !is_followed {
        return Ok(Json(logs::page(&app, &caller, &log, query).await?).into_response());
    }
    let follower = follow::follow(app, caller, log, query, passed).await?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(follower)).keep_alive(keep_alive).into_response())
}

/// The parameters of a query, as they came.
struct Asked {
    query: Option<String>,
    batch: Option<String>,
    order: Option<String>,
    pagination: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Asked {
    fn take(params: &mut Params) -> Self {
        let [query, batch, order, pagination, from, to] =
            ["query", "batch", "order", "pagination", "from", "to"].map(|name| params.take(name));
        Self { query, batch, order, pagination, from, to }
    }

    fn query(&self) -> Result<LogQuery, ApiError> {
        let raw = RawQuery {
            query: self.query.as_deref(),
            batch: self.batch.as_deref(),
            order: self.order.as_deref(),
            pagination: self.pagination.as_deref(),
            from: self.from.as_deref(),
            to: self.to.as_deref(),
        };
        LogQuery::parse(raw).map_err(invalid_query)
    }
}

/// Lines of the logs of all VMs, or of those that the filters leave, in the order of time; also of VMs that are over.
/// Logs of builds are not among them.
#[utoipa::path(get, path = "/v1/logs", operation_id = "searchLogs", tag = "vms", security(("apiKey" = [])),
    params(
        ("query" = Option<String>, Query, description = "Case-insensitive substring."),
        ("tenant" = Option<String>, Query, description = "Only of this end user's VMs."),
        ("imageId" = Option<String>, Query, description = "Only of VMs of this image."),
        ("metadata.KEY" = Option<String>, Query, description = "Only of VMs with this mark; as often as needed."),
        ("batch" = Option<u32>, Query, description = "50–1000, 100 by default."),
        ("order" = Option<String>, Query, description = "`oldest_first` (default) or `newest_first`."),
        ("pagination" = Option<String>, Query, description = "The token of the page before."),
        ("from" = Option<String>, Query, description = "ISO 8601, inclusive."),
        ("to" = Option<String>, Query, description = "ISO 8601, inclusive."),
    ),
    responses((status = 200, body = FoundLogs), Failures))]
pub(super) async fn search(
    State(app): State<Shared>,
    Reader(caller): Reader,
    mut params: Params,
) -> Result<Json<FoundLogs>, ApiError> {
    let filter = VmFilter {
        image: super::vms::image(&mut params)?,
        tenant: params.take("tenant"),
        metadata: params.take_prefixed("metadata."),
        ..VmFilter::default()
    };
    let mut asked = Asked::take(&mut params);
    params.done()?;
    let token = asked.pagination.take();
    let query = asked.query()?;
    let read = |token: String| Mark::read(&token, query.order).ok_or_else(|| invalid_query(InvalidQuery::Pagination));
    let after = token.map(read).transpose()?;
    Ok(Json(log_search::search(&app, &caller, filter, query, after).await?))
}

fn events(follower: Follower) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    futures_util::stream::unfold(follower, |mut follower| async {
        let event = match follower.next().await? {
            Event::Line { place, line } => {
                let data = serde_json::to_string(&line).expect("a line is plain data");
                SseEvent::default().event("log").id(place).data(data)
            }
            Event::End { word } => {
                SseEvent::default().event("end").data(serde_json::json!({ "status": word }).to_string())
            }
        };
        Some((Ok(event), follower))
    })
}

fn invalid_query(error: InvalidQuery) -> ApiError {
    let (code, field) = match error {
        InvalidQuery::Query => (ErrorCode::TooLong, "query"),
        InvalidQuery::Batch => (ErrorCode::OutOfRange, "batch"),
        InvalidQuery::Order => (ErrorCode::InvalidValue, "order"),
        InvalidQuery::Pagination => (ErrorCode::InvalidPageToken, "pagination"),
        InvalidQuery::Date(field) => (ErrorCode::InvalidDate, field),
        InvalidQuery::Range => (ErrorCode::InvalidDate, "from"),
    };
    ApiError::field(code, field, format!("{error}."))
}
