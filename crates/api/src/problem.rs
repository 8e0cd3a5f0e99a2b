//! Problems: the closed list of codes, and the body that every failure has (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every failure, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "type": "urn:cakework:problem:unknown_vm", "title": "There is no such VM", "status": 404, "code": "unknown_vm",
    "detail": "There is no VM e784996f346483.", "instance": "/v1/vm/e784996f346483",
    "requestId": "01GV2ZFBT345TRTRDK6VHBECCZ",
}))]
pub struct Problem {
    /// A URI that names the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:cakework:problem:unknown_vm")]
    pub kind: String,
    /// What the code means, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// The word that programs branch on.
    pub code: ErrorCode,
    /// The field or parameter that is wrong, where one is: `envVars.A B`, `command[2]`, `batch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Names the request in the server's log; the header `x-request-id` says it too.
    pub request_id: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident $code:tt $status:literal $title:literal $(, fix: $fix:literal)? ; )*) => {
        /// Every code. Codes are only ever added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $(
                #[doc = $title]
                #[serde(rename = $code)]
                $name,
            )*
        }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// What it means.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do about it, where that is always the same.
            pub const fn fix(self) -> Option<&'static str> {
                match self { $(Self::$name => codes!(@fix $($fix)?)),* }
            }
        }
    };
    (@fix) => { None };
    (@fix $fix:literal) => { Some($fix) };
}

codes! {
    MissingKey "missing_key" 401 "The request carries no API key",
        fix: "Send the header X-Api-Key. `cakework key create` makes a key.";
    InvalidKey "invalid_key" 401 "There is no such API key",
        fix: "Check the header X-Api-Key. `cakework key list` shows the keys that exist.";
    RevokedKey "revoked_key" 401 "The API key was revoked", fix: "Use another key.";
    ExpiredKey "expired_key" 401 "The API key has expired", fix: "Use another key.";
    InvalidTicket "invalid_ticket" 401 "The ticket opens nothing here",
        fix: "Make a new one by `POST /v1/vm/{vmId}/exec/ticket`: it is good for a minute, and for that VM alone.";
    Scope "scope" 403 "The API key's scope does not allow this",
        fix: "Use a key with the scope that `detail` names.";
    QuotaExceeded "quota_exceeded" 403 "The account has as much as it may have",
        fix: "Stop VMs that are no longer needed, or have the operator raise the account's limits.";

    InvalidJson "invalid_json" 400 "The body is not JSON";
    UnknownField "unknown_field" 400 "A field or parameter that this operation does not have";
    MissingField "missing_field" 400 "A required field is missing";
    WrongType "wrong_type" 400 "A field has the wrong type";
    OutOfRange "out_of_range" 400 "A value is outside its range";
    TooLong "too_long" 400 "A value is longer than allowed";
    InvalidValue "invalid_value" 400 "A value is not one of those allowed";
    InvalidEnv "invalid_env" 400 "An environment variable can't be set",
        fix: "Names are not empty and hold no `=`, NUL or newline; values hold no NUL.";
    InvalidCommand "invalid_command" 400 "The command can't be run",
        fix: "Send at least one word, none with a NUL.";
    InvalidTenant "invalid_tenant" 400 "The tenant is not a valid name",
        fix: "Send 1 to 128 bytes without control characters.";
    InvalidMetadata "invalid_metadata" 400 "The metadata can't be kept";
    InvalidDate "invalid_date" 400 "A date is in no known form",
        fix: "Send ISO 8601 with an offset, such as 2022-07-19T13:32:56+0000.";
    InvalidPageToken "invalid_page_token" 400 "The page token was not given out for this query",
        fix: "Pass `pagination` back as it was returned, with the same order.";
    SearchTooWide "search_too_wide" 400 "More VMs' logs would have to be gone through than one search does",
        fix: "Name a `tenant`, an `imageId`, `metadata`, or a time with `from` and `to`.";
    InvalidPath "invalid_path" 400 "The path can't be used",
        fix: "Send an absolute path of at most 4096 bytes without NUL.";
    InvalidArchive "invalid_archive" 400 "The bytes are no tar archive, or broke off",
        fix: "Send an uncompressed tar archive, whole.";
    InvalidFile "invalid_file" 400 "A file of the build can't be used",
        fix: "Send relative paths without `..`, names without `/` and control characters, and valid base64.";
    FileConflict "file_conflict" 400 "Two files of the build have the same path, or one is where another needs a directory";
    FileCase "file_case" 400 "Two paths of the build differ only by upper and lower case",
        fix: "Rename one: they would be the same file on many machines.";
    TooManyFiles "too_many_files" 400 "The build has more files than allowed";
    FilesTooLarge "files_too_large" 400 "The files of the build are larger than allowed";
    BodyTooLarge "body_too_large" 413 "The body is larger than this server reads";
    FileTooLarge "file_too_large" 413 "The file or directory is larger than goes in or out at once",
        fix: "Take a part of it, or run a command in the VM.";
    BodyTimeout "body_timeout" 408 "The body did not arrive in time";

    RegistryUnauthorized "registry_unauthorized" 400 "The registry refused the credential, or wants one",
        fix: "Send `password`: an ECR password, valid for 12 hours, or `user:password` of another registry.";
    ImageNotFound "image_not_found" 400 "The registry does not know the image",
        fix: "Check repository and tag; some registries also say so when the credential lacks the right.";
    ImageArchitecture "image_architecture" 400 "The image is not built for the hosts' architecture",
        fix: "Build it for that platform, or push a multi-platform index.";
    ImageInvalid "image_invalid" 400 "The image is not what its digests say, or not of a form that can be read",
        fix: "Push the image again.";
    ImageTooLarge "image_too_large" 400 "The image is over a limit";
    ImageReference "image_reference" 400 "The image reference can't be used";
    RegistryUnavailable "registry_unavailable" 400 "The registry can't be reached or answers with errors",
        fix: "Try again; check the registry's name.";

    UnknownRoute "unknown_route" 404 "There is nothing at this path", fix: "/openapi.json lists every operation.";
    UnknownVm "unknown_vm" 404 "There is no such VM";
    UnknownWebhook "unknown_webhook" 404 "There is no such webhook endpoint";
    UnknownDelivery "unknown_delivery" 404 "The webhook endpoint has no such delivery",
        fix: "Deliveries are kept for 30 days; the list of deliveries shows those that are there.";
    UnknownFile "unknown_file" 404 "There is nothing at this path in the VM";
    UnknownImage "unknown_image" 404 "There is no such image";
    UnknownBuild "unknown_build" 404 "There is no such build";
    UnknownRegistry "unknown_registry" 404 "The account keeps no credential for this registry";
    MethodNotAllowed "method_not_allowed" 405 "This path does not take this method";
    WebhookDisabled "webhook_disabled" 409 "The webhook endpoint is disabled",
        fix: "Repair the receiver, then enable the endpoint: POST /v1/webhook/{webhookId}/enable.";
    ImageFailed "image_failed" 409 "The image failed, so no VM can start from it", fix: "Import it again.";
    VmNotCached "vm_not_cached" 409 "The VM is not a cached one",
        fix: "A one-time VM is started by startVM and ended by stopVM; cacheVM makes one that starts again.";
    VmNotRunning "vm_not_running" 409 "The VM does not run", fix: "Start it with startCachedVM.";
    VmStopping "vm_stopping" 409 "The VM's run is ending", fix: "Start it when its `state` is `stopped`.";
    VmBusy "vm_busy" 409 "The VM is at work, so it is not put to sleep",
        fix: "Try again when its requests and connections are over.";
    VmOver "vm_over" 409 "The VM is destroyed, or is being destroyed", fix: "Make another one with cacheVM.";
    FileKind "file_kind" 409 "What is at the path is of another kind";
    FileDenied "file_denied" 409 "The VM's system does not permit it";
    DirectoryNotEmpty "directory_not_empty" 409 "The directory is not empty", fix: "Pass `recursive=true`.";
    VmDiskFull "vm_disk_full" 409 "The VM's disk is full";
    StartFailed "start_failed" 409 "The VM could not be started", fix: "`exit` of getVm and getCachedVMLogs say why.";
    BuildOver "build_over" 409 "The build is over, so it can't be cancelled";
    IdempotencyConflict "idempotency_conflict" 409 "The idempotency key was used for another request",
        fix: "Send a new key with each new request, and the same one only with the same body.";
    RequestInProgress "request_in_progress" 409 "A request with this idempotency key is being carried out",
        fix: "Send it again in a moment: it is answered as the first one was.";
    UpgradeRequired "upgrade_required" 426 "The path speaks WebSocket",
        fix: "Open it as a WebSocket, or run the command by POST.";
    TooManyExecs "too_many_execs" 429 "As many commands run in the VM as may at once",
        fix: "Try again when one of them is over.";
    RateLimited "rate_limited" 429 "The key or its account sends more requests than it may",
        fix: "Wait as long as `Retry-After` says; webhooks and `wait` save asking again and again.";
    QueueFull "queue_full" 429 "As many builds wait as may wait", fix: "Try again when some of them are over.";

    NotImplemented "not_implemented" 501 "This server does not have the operation yet";
    HostFull "host_full" 503 "No host has room for this VM",
        fix: "Stop a VM, ask for less, or try again later.";
    HostDraining "host_draining" 503 "The hosts take no new VMs at present", fix: "Try again later.";
    HostUnavailable "host_unavailable" 503 "The host can't be reached at present", fix: "Try again in a moment.";
    IsolationUnavailable "isolation_unavailable" 503 "No host can give VMs the isolation that they need",
        fix: "`cakework doctor` on the host names each gap and its fix.";
    DiskFull "disk_full" 503 "The server or its host has no room on its disk",
        fix: "Have the operator make room on the data directory's disk.";
    Overloaded "overloaded" 503 "The server has too many requests at once", fix: "Try again in a moment.";
    Internal "internal" 500 "Something went wrong in the server",
        fix: "The operator finds the cause in the log under `requestId`.";
}

impl ErrorCode {
    /// The URI that names the code.
    pub fn kind(self) -> String {
        format!("urn:cakework:problem:{}", self.as_str())
    }
}

/// The documentation of every code: `docs/errors.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Problem codes\n\nEvery failure has the body of RFC 9457, `application/problem+json`:\n`type`, `title`, \
         `status`, `detail`, `instance`, and with them `code`, `requestId`, where it helps `field` and `fix`.\nPrograms \
         branch on `code`. Codes are only ever added.\n\n| code | status | meaning | fix |\n|---|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let fix = code.fix().unwrap_or_default();
        text.push_str(&format!("| `{}` | {} | {} | {fix} |\n", code.as_str(), code.status(), code.title()));
    }
    text
}
