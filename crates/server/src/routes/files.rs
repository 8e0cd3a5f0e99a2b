//! Files of VMs.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use cakework_api::files::{FileEntry, FileList};
use cakework_api::problem::ErrorCode;
use cakework_core::limit;
use cakework_wire::files::{Entry, EntryKind, FileOp};
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{OfVm, Params, Writer};
use super::openapi::Failures;
use crate::app::Shared;
use crate::error::ApiError;
use crate::ops::files::{self, Done};
use crate::ops::vms::find;

const MODE: HeaderName = HeaderName::from_static("x-file-mode");
const UID: HeaderName = HeaderName::from_static("x-file-uid");
const GID: HeaderName = HeaderName::from_static("x-file-gid");

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(write)).routes(routes!(remove))
}

/// A file's bytes, or what is in a directory, of a VM that runs; a sleeping one is woken. With `format=tar` a directory as an
/// archive of its files, directories and links. The headers `x-file-mode`, `x-file-uid` and `x-file-gid` say whose it is.
#[utoipa::path(get, path = "/v1/vm/{vmId}/files", operation_id = "readFile", tag = "vms", security(("apiKey" = [])),
    params(
        ("vmId" = String, Path),
        ("path" = String, Query, description = "Absolute, resolved in the VM; links are followed."),
        ("format" = Option<String>, Query, description = "`tar`: a directory as an archive."),
    ),
    responses(
        (status = 200, description = "A file's bytes or an archive; of a directory its list.", content(
            (FileList = "application/json"), (String = "application/octet-stream"), (String = "application/x-tar"))),
        Failures,
    ))]
async fn read(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
    mut params: Params,
) -> Result<Response, ApiError> {
    find(&app, &caller, &id).await?;
    let (path, packs) = (path(&mut params)?, is_tar(&mut params)?);
    params.done()?;
    let op = if packs { FileOp::Pack { path } } else { FileOp::Read { path } };
    let done = files::done(&app, &caller, &id, op, None).await?;
    if !packs && done.entry.kind == EntryKind::Directory {
        return Ok(Json(files::list(done).await?).into_response());
    }
    Ok(bytes(done, packs))
}

fn bytes(done: Done, packs: bool) -> Response {
    let Done { entry, bytes, place } = done;
    let kind = if packs { "application/x-tar" } else { "application/octet-stream" };
    // The place is held until all has gone out.
    let body = Body::from_stream(bytes.inspect(move |_| _ = &place));
    let mut response =
        ([(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response();
    let headers = response.headers_mut();
    if !packs {
        headers.insert(header::CONTENT_LENGTH, entry.size.into());
    }
    describe(headers, &entry);
    response
}

fn describe(headers: &mut http::HeaderMap, entry: &Entry) {
    let mode = format!("{:04o}", entry.mode & 0o7777);
    headers.insert(MODE, HeaderValue::from_str(&mode).expect("digits"));
    headers.insert(UID, entry.uid.into());
    headers.insert(GID, entry.gid.into());
    let modified = jiff::Timestamp::from_millisecond(entry.modified_ms).ok();
    let modified = modified.map(|moment| moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if let Some(modified) = modified.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::LAST_MODIFIED, modified);
    }
}

/// Writes a file of a VM that runs: the body, whole or not at all. Directories on the way are made. With `directory=true` a
/// directory is made; with `format=tar` the body is unpacked into a directory. What is new belongs to the user that the VM's
/// process runs as.
#[utoipa::path(put, path = "/v1/vm/{vmId}/files", operation_id = "writeFile", tag = "vms", security(("apiKey" = [])),
    params(
        ("vmId" = String, Path),
        ("path" = String, Query, description = "Absolute, resolved in the VM; a link is followed."),
        ("mode" = Option<String>, Query, description = "Permission bits in octal digits; those of the file that is \
         replaced, or 0644, or 0755 of a directory by default."),
        ("directory" = Option<bool>, Query, description = "`true`: a directory; the body is empty."),
        ("format" = Option<String>, Query, description = "`tar`: an archive, unpacked into the directory `path`."),
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 200, body = FileEntry), Failures))]
async fn write(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
    mut params: Params,
    request: Request,
) -> Result<Json<FileEntry>, ApiError> {
    find(&app, &caller, &id).await?;
    let (path, unpacks, directory) = (path(&mut params)?, is_tar(&mut params)?, flag(&mut params, "directory")?);
    let mode = params.take("mode").map(|mode| files::mode(&mode)).transpose()?;
    params.done()?;
    let op = match (unpacks, directory) {
        (true, true) => {
            let detail = "`directory` and `format` are not for the same request.";
            return Err(ApiError::field(ErrorCode::InvalidValue, "directory", detail));
        }
        (true, false) if mode.is_some() => {
            let detail = "An archive brings the modes of its files.";
            return Err(ApiError::field(ErrorCode::InvalidValue, "mode", detail));
        }
        (true, false) => FileOp::Unpack { path },
        (false, true) => FileOp::MakeDir { path, mode },
        (false, false) => FileOp::Write { path, mode },
    };
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > limit::VM_FILE_MAX_BYTES) {
        let max = limit::VM_FILE_MAX_BYTES;
        return Err(ApiError::new(ErrorCode::FileTooLarge, format!("At most {max} bytes go in at once.")));
    }
    let body = (!directory).then(|| reqwest::Body::wrap_stream(request.into_body().into_data_stream()));
    Ok(Json(files::view(files::done(&app, &caller, &id, op, body).await?.entry)))
}

/// Removes a file or link, or a directory, of a VM that runs.
#[utoipa::path(delete, path = "/v1/vm/{vmId}/files", operation_id = "removeFile", tag = "vms", security(("apiKey" = [])),
    params(
        ("vmId" = String, Path),
        ("path" = String, Query, description = "Absolute, resolved in the VM; a link itself is removed."),
        ("recursive" = Option<bool>, Query, description = "`true`: also what is in a directory."),
    ),
    responses((status = 204, description = "It is gone."), Failures))]
async fn remove(
    State(app): State<Shared>,
    Writer(caller): Writer,
    OfVm(id): OfVm,
    mut params: Params,
) -> Result<StatusCode, ApiError> {
    find(&app, &caller, &id).await?;
    let (path, recursive) = (path(&mut params)?, flag(&mut params, "recursive")?);
    params.done()?;
    files::done(&app, &caller, &id, FileOp::Remove { path, recursive }, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn path(params: &mut Params) -> Result<String, ApiError> {
    let path = params.take("path");
    let missing = || ApiError::field(ErrorCode::MissingField, "path", "The parameter `path` is missing.");
    files::path(path.ok_or_else(missing)?)
}

fn is_tar(params: &mut Params) -> Result<bool, ApiError> {
    match params.take("format").as_deref() {
        None => Ok(false),
        Some("tar") => Ok(true),
        Some(_) => Err(ApiError::field(ErrorCode::InvalidValue, "format", "`format` must be `tar`.")),
    }
}

fn flag(params: &mut Params, name: &str) -> Result<bool, ApiError> {
    match params.take(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::field(ErrorCode::InvalidValue, name, format!("`{name}` must be `true` or `false`."))),
    }
}
