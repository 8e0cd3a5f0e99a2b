//! Logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "lines": [{"timestamp": 1767621601234_i64, "level": "info", "message": "listening on 8080"}],
    "pagination": "the next page's token",
}))]
pub struct Logs {
    /// The lines, in the order that was asked for.
    pub lines: Vec<LogLine>,
    /// Token of the next page. Without it the log was read to its end for now (or to its beginning).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<String>,
    /// `from` of the query: pass it back with `pagination`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `to` of the query: pass it back with `pagination`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Unix time in milliseconds.
    pub timestamp: u64,
    /// `info` for standard output, `error` for standard error; a JSON line keeps its own.
    pub level: String,
    /// The text.
    pub message: String,
    /// The line was longer than 64 KiB: it goes on in the next one of its stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// A server-sent event of a log that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "event": "log", "id": "the token to go on after it",
    "data": "{\"timestamp\":1767621601234,\"level\":\"info\",\"message\":\"listening on 8080\"}",
}))]
pub struct LogEvent {
    /// `log` for a line; `end` when there will be no more.
    #[schema(example = "log")]
    pub event: String,
    /// JSON: a `LogLine`, or `{"status"}` with how the log's VM or build stands then.
    pub data: String,
    /// Of a line its place: as `Last-Event-ID` it goes on behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A page out of the logs of many VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "lines": [{
        "vmId": "e784996f346483", "tenant": "ann", "timestamp": 1767621601234_i64, "level": "error",
        "message": "no order 7",
    }],
    "from": "2026-01-05T14:00:00Z",
}))]
pub struct FoundLogs {
    /// The lines, in the order that was asked for; those of the same millisecond by the VMs' ids.
    pub lines: Vec<FoundLine>,
    /// Token of the next page. Without it all logs were read to their ends for now (or to their beginnings). A page with
    /// a token may have few lines, or none: much was read then, and little found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<String>,
    /// `from` of the query: pass it back with `pagination`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `to` of the query: pass it back with `pagination`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A line of the log of one of many VMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundLine {
    /// Whose line it is.
    pub vm_id: String,
    /// The VM's tenant, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}
