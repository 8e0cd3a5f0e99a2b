# Generated from docs/openapi.json by scripts/generate.py: do not edit.

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class BuildError(BaseModel):
    """
    Why a build failed.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: Annotated[str, Field(examples=["command_failed"])]
    """
    The word that programs branch on.
    """
    instruction: Annotated[str | None, Field(examples=["RUN npm install"])] = None
    """
    The Dockerfile's instruction, as it is written there.
    """
    line: Annotated[int | None, Field(ge=0)] = None
    """
    The instruction's first line, from 1.
    """
    message: str
    """
    A sentence.
    """


class BuildEventError(BaseModel):
    """
    Why a build failed.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: Annotated[str, Field(examples=["command_failed"])]
    """
    The word that programs branch on.
    """
    instruction: str | None = None
    """
    The Dockerfile's instruction, as it is written there.
    """
    line: Annotated[int | None, Field(ge=0)] = None
    """
    The instruction's first line, from 1.
    """
    message: str
    """
    A sentence.
    """


class BuildImageFromGithub(BaseModel):
    """
    Builds an image from a repository on GitHub.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    branch: Annotated[str, Field(examples=["main"])]
    """
    A branch, a tag or a commit.
    """
    build_args: Annotated[dict[str, str] | None, Field(alias="buildArgs")] = None
    """
    Values of the Dockerfile's ARGs.
    """
    dockerfile: Annotated[str, Field(max_length=1048576)]
    """
    The Dockerfile's text; one in the repository is not used.
    """
    dockerignore: Annotated[str | None, Field(max_length=1048576)] = None
    """
    What of the repository is left out, in place of its own `.dockerignore`.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks; `listBuilds` filters by them.
    """
    no_cache: Annotated[bool | None, Field(alias="noCache")] = False
    """
    Nothing is taken from the cache.
    """
    path: Annotated[str | None, Field(max_length=256)] = None
    """
    The folder of the repository that is built; its root where absent.
    """
    repository: Annotated[str, Field(examples=["org/repo"])]
    """
    The repository.
    """
    secrets: dict[str, str] | None = None
    """
    What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log.
    """
    target: Annotated[str | None, Field(max_length=128)] = None
    """
    The stage to build; the last one where absent.
    """
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    The builder's end user whose build this is.
    """
    token: Annotated[str | None, Field(max_length=4096)] = None
    """
    A token that may read the repository. It is kept sealed, and erased when the repository has been fetched.
    """


class CreateWebhook(BaseModel):
    """
    Makes an endpoint.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    description: Annotated[str | None, Field(max_length=256)] = None
    """
    The builder's own words.
    """
    events: Annotated[list[str] | None, Field(examples=[["build.succeeded", "build.failed"]])] = None
    """
    The events that it is told of; all, and all that there will be, where it names none.
    """
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    Only events of this end user.
    """
    url: Annotated[str, Field(examples=["https://example.com/hooks/cakework"], max_length=2048)]
    """
    Where events are sent: http or https, without a user or password in it.
    """


class ExecEvent(BaseModel):
    """
    A server-sent event of a command.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    data: str
    """
    JSON: `{"data"}`, an `ExecExit`, or a problem.
    """
    event: Annotated[str, Field(examples=["stdout"])]
    """
    `stdout` or `stderr` for what it wrote; last `exit`, or `error` where its host went away.
    """


class ExecExit(BaseModel):
    """
    How a command ended.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: int | None = None
    """
    Its exit code, where it exited.
    """
    reason: str
    """
    Why it is over.
    """
    signal: int | None = None
    """
    The signal that ended it, where one did.
    """


class ExecResult(BaseModel):
    """
    A command that is over.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    exit: ExecExit
    """
    How it ended.
    """
    stderr: str
    """
    What it wrote to its standard error: the first MiB.
    """
    stderr_missing: Annotated[int | None, Field(alias="stderrMissing", ge=0)] = None
    """
    Bytes of the standard error that are missing in `stderr`, where some are.
    """
    stdout: str
    """
    What it wrote to its standard output, or its terminal: the first MiB.
    """
    stdout_missing: Annotated[int | None, Field(alias="stdoutMissing", ge=0)] = None
    """
    Bytes of the standard output that are missing in `stdout`, where some are.
    """


class ExecTicket(BaseModel):
    """
    What opens commands in one VM for a short while, in place of a key: for those who must not have one.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    expires_at: Annotated[datetime, Field(alias="expiresAt")]
    """
    Until when it opens a command; one that is open goes on.
    """
    ticket: str
    """
    To be passed as the parameter `ticket` of `openExec`.
    """


class Health(BaseModel):
    """
    That the server serves.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    status: Annotated[str, Field(examples=["ok"])]
    """
    `ok`
    """
    version: Annotated[str, Field(examples=["0.1.0"])]
    """
    The version of this build.
    """


class ImageError(BaseModel):
    """
    Why an image failed.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: str
    """
    One of the problem codes.
    """
    message: str
    """
    A sentence.
    """


class ImportImage(BaseModel):
    """
    Imports an image from a registry.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    image_uri: Annotated[str, Field(alias="imageUri", max_length=1024)]
    """
    Reference such as `registry.example.com/team/app:1.2`.
    """
    password: Annotated[str | None, Field(max_length=16384)] = None
    """
    Password of a private registry: for AWS ECR what `aws ecr get-login-password` prints, for another registry
    `user:password`, or the password alone beside `username`.
    """
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    The builder's end user whose image this is.
    """
    username: Annotated[str | None, Field(max_length=256)] = None
    """
    User of a private registry; without it the one in `password`, or `AWS`.
    """


class ImportedImage(BaseModel):
    """
    The answer to an import: manifest and config were verified, the layers follow.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    image_id: Annotated[str, Field(alias="imageId", examples=["01GTZHKS9CZHQ1NKZCA3G0H4DX"])]
    """
    The image.
    """


class LogEvent(BaseModel):
    """
    A server-sent event of a log that is followed.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    data: str
    """
    JSON: a `LogLine`, or `{"status"}` with how the log's VM or build stands then.
    """
    event: Annotated[str, Field(examples=["log"])]
    """
    `log` for a line; `end` when there will be no more.
    """
    id: str | None = None
    """
    Of a line its place: as `Last-Event-ID` it goes on behind it.
    """


class LogLine(BaseModel):
    """
    A line of a log.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    continues: bool | None = None
    """
    The line was longer than 64 KiB: it goes on in the next one of its stream.
    """
    level: str
    """
    `info` for standard output, `error` for standard error; a JSON line keeps its own.
    """
    message: str
    """
    The text.
    """
    timestamp: Annotated[int, Field(ge=0)]
    """
    Unix time in milliseconds.
    """


class Logs(BaseModel):
    """
    A page of a log.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    from_: Annotated[str | None, Field(alias="from")] = None
    """
    `from` of the query: pass it back with `pagination`.
    """
    lines: list[LogLine]
    """
    The lines, in the order that was asked for.
    """
    pagination: str | None = None
    """
    Token of the next page. Without it the log was read to its end for now (or to its beginning).
    """
    to: str | None = None
    """
    `to` of the query: pass it back with `pagination`.
    """


class PingEvent(BaseModel):
    """
    A try.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    webhook_id: Annotated[str, Field(alias="webhookId")]
    """
    The endpoint that is tried.
    """


class Problem(BaseModel):
    """
    The body of every failure, `application/problem+json`.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: str
    """
    The word that programs branch on.
    """
    detail: str
    """
    What happened this time.
    """
    field: str | None = None
    """
    The field or parameter that is wrong, where one is: `envVars.A B`, `command[2]`, `batch`.
    """
    fix: str | None = None
    """
    What to do about it, where that is known.
    """
    instance: str
    """
    The path of the request.
    """
    request_id: Annotated[str, Field(alias="requestId")]
    """
    Names the request in the server's log; the header `x-request-id` says it too.
    """
    status: Annotated[int, Field(ge=0)]
    """
    The HTTP status.
    """
    title: str
    """
    What the code means, the same for every occurrence.
    """
    type: Annotated[str, Field(examples=["urn:cakework:problem:unknown_vm"])]
    """
    A URI that names the code.
    """


class Progress(BaseModel):
    """
    How far a build's steps are.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    step: Annotated[int, Field(ge=0)]
    """
    Steps that are done.
    """
    steps: Annotated[int, Field(ge=0)]
    """
    Steps in all.
    """


class PutRegistry(BaseModel):
    """
    Keeps a registry's credential for the account's builds.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    host: Annotated[str, Field(examples=["registry.example.com"], max_length=260)]
    """
    The registry, as `host` or `host:port`.
    """
    password: Annotated[str, Field(max_length=16384)]
    """
    The password or token. It is kept sealed and never shown again.
    """
    username: Annotated[str, Field(max_length=256)]
    """
    The user; `AWS` for ECR.
    """


class Registry(BaseModel):
    """
    A registry that the account's builds may pull from.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    host: str
    """
    The registry, in its one spelling.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When its credential was last set.
    """
    username: str
    """
    The user.
    """


class RegistryList(BaseModel):
    """
    The registries, in the order of their names.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    registries: list[Registry]
    """
    The registries.
    """


class StartVm(BaseModel):
    """
    Starts a VM.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    command: list[str] | None = None
    """
    Replaces the image's command; its entrypoint stays.
    """
    cpu: Annotated[int | None, Field(ge=1, le=8)] = 1
    """
    CPUs.
    """
    env_vars: Annotated[dict[str, str] | None, Field(alias="envVars")] = None
    """
    Environment variables, set over the image's own.
    """
    image_id: Annotated[str, Field(alias="imageId", examples=["01GTZHKS9CZHQ1NKZCA3G0H4DX"])]
    """
    The image to run.
    """
    memory: Annotated[int | None, Field(ge=256, le=16384)] = 256
    """
    Memory in MB.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks; `listVMs` filters by them.
    """
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """
    The port that the VM's hostname leads to; without one it has none.
    """
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    The builder's end user whose VM this is.
    """
    timeout_seconds: Annotated[int | None, Field(alias="timeoutSeconds", ge=1, le=31536000)] = None
    """
    Longest life of the VM once it runs.
    """
    volume_gb: Annotated[int | None, Field(alias="volumeGB", ge=1, le=500)] = None
    """
    Size of a volume at `/data`, in GB.
    """


class WindowSize(BaseModel):
    """
    The size of a terminal.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    cols: Annotated[int, Field(ge=0)]
    """
    Characters of a line.
    """
    rows: Annotated[int, Field(ge=0)]
    """
    Lines.
    """


class Build(BaseModel):
    """
    A build.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    build_id: Annotated[str, Field(alias="buildId", examples=["7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d"])]
    """
    The build.
    """
    created_at: Annotated[datetime, Field(alias="createdAt")]
    """
    When it was asked for.
    """
    error: BuildError | None = None
    image_id: Annotated[str | None, Field(alias="imageId")] = None
    """
    The image, once the build has succeeded.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks.
    """
    phase: str | None = None
    progress: Progress | None = None
    status: str
    """
    Where it is.
    """
    tenant: str | None = None
    """
    The builder's end user whose build this is.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When it last changed.
    """


class BuildEvent(BaseModel):
    """
    A build that is over.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    build_id: Annotated[str, Field(alias="buildId")]
    """
    The build.
    """
    error: BuildEventError | None = None
    image_id: Annotated[str | None, Field(alias="imageId")] = None
    """
    The image, where there is one.
    """
    metadata: dict[str, str]
    """
    The builder's own marks.
    """
    tenant: str | None = None
    """
    The end user whose build it is.
    """


class BuildFile(BaseModel):
    """
    A file of a build.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    content: str
    """
    Its content, as `encoding` says.
    """
    dir: Annotated[str, Field(examples=["."])]
    """
    Its directory: `.` for the root, or a relative path such as `src/app`.
    """
    encoding: str | None = None
    """
    How `content` stands for bytes.
    """
    mode: Annotated[int | None, Field(ge=0, le=511)] = 420
    """
    Its permissions, as a number (420 is 0644); 0644 where absent.
    """
    name: Annotated[str, Field(examples=["handlers.js"])]
    """
    Its name in the directory.
    """


class BuildImageFromFiles(BaseModel):
    """
    Builds an image from files.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    build_args: Annotated[dict[str, str] | None, Field(alias="buildArgs")] = None
    """
    Values of the Dockerfile's ARGs.
    """
    dockerfile: Annotated[str, Field(max_length=1048576)]
    """
    The Dockerfile's text. It is not among the files that the image sees.
    """
    dockerignore: Annotated[str | None, Field(max_length=1048576)] = None
    """
    What of the files is left out, in place of a `.dockerignore` among them.
    """
    files: Annotated[list[BuildFile], Field(max_length=10000)]
    """
    The files. They are read one by one as [`BuildFile`], since all of them together may be large.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks; `listBuilds` filters by them.
    """
    no_cache: Annotated[bool | None, Field(alias="noCache")] = False
    """
    Nothing is taken from the cache.
    """
    secrets: dict[str, str] | None = None
    """
    What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log.
    """
    target: Annotated[str | None, Field(max_length=128)] = None
    """
    The stage to build; the last one where absent.
    """
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    The builder's end user whose build this is.
    """


class BuildList(BaseModel):
    """
    A page of builds, the newest first.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    builds: list[Build]
    """
    The builds.
    """
    pagination: Annotated[str | None, Field(examples=["the next page's token"])] = None
    """
    Token of the next page.
    """


class CacheVm(BaseModel):
    """
    Caches a VM: one that starts again and again.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    auto_start: Annotated[bool | None, Field(alias="autoStart")] = True
    """
    Whether a request to its hostname starts or wakes it; otherwise such a request is answered with 503.
    """
    command: list[str] | None = None
    """
    Replaces the image's command; its entrypoint stays.
    """
    cpu: Annotated[int | None, Field(ge=1, le=8)] = 1
    """
    CPUs.
    """
    disk_size: Annotated[int | None, Field(alias="diskSize", ge=1, le=500)] = None
    """
    Another name of `volumeGB`.
    """
    env_vars: Annotated[dict[str, str] | None, Field(alias="envVars")] = None
    """
    Environment variables, set over the image's own.
    """
    idle_timeout_seconds: Annotated[int | None, Field(alias="idleTimeoutSeconds", ge=1, le=2592000)] = None
    """
    Time without a request, connection or work after which it is put to sleep; absent, it never is.
    """
    image_id: Annotated[str, Field(alias="imageId", examples=["01GTZHKS9CZHQ1NKZCA3G0H4DX"])]
    """
    The image to run.
    """
    memory: Annotated[int | None, Field(ge=256, le=16384)] = 256
    """
    Memory in MB.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks; `listVMs` filters by them.
    """
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """
    The port that the VM's hostname leads to; without one it has none.
    """
    prewarm: str | None = None
    tenant: Annotated[str | None, Field(max_length=128)] = None
    """
    The builder's end user whose VM this is.
    """
    timeout_seconds: Annotated[int | None, Field(alias="timeoutSeconds", ge=1, le=31536000)] = None
    """
    Longest life of one run.
    """
    volume_gb: Annotated[int | None, Field(alias="volumeGB", ge=1, le=500)] = None
    """
    Size of a volume at `/data`, in GB. It stays as it was left from one run to the next.
    """


class Delivery(BaseModel):
    """
    An event on its way to an endpoint.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    attempt: Annotated[int, Field(ge=0)]
    """
    Attempts so far, or since the last replay.
    """
    created_at: Annotated[datetime, Field(alias="createdAt")]
    """
    When the event happened.
    """
    duration_ms: Annotated[int | None, Field(alias="durationMs", ge=0)] = None
    """
    How long the last attempt took.
    """
    error: str | None = None
    """
    What was wrong with the last attempt.
    """
    event_id: Annotated[str, Field(alias="eventId")]
    """
    The event: `webhook-id` of every attempt.
    """
    next_attempt_at: Annotated[datetime | None, Field(alias="nextAttemptAt")] = None
    """
    When it is tried next.
    """
    state: str
    """
    Where it is.
    """
    status_code: Annotated[int | None, Field(alias="statusCode", ge=0)] = None
    """
    HTTP status of the last attempt's answer.
    """
    type: Annotated[str, Field(examples=["build.succeeded"])]
    """
    What it tells of.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When the delivery last changed.
    """


class DeliveryList(BaseModel):
    """
    A page of deliveries, the newest first.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    deliveries: list[Delivery]
    """
    The deliveries.
    """
    pagination: Annotated[str | None, Field(examples=["the next page's token"])] = None
    """
    Token of the next page.
    """


class Disabled(BaseModel):
    """
    That an endpoint is disabled.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    at: datetime
    """
    Since when.
    """
    message: str
    """
    A sentence.
    """
    reason: str
    """
    Why.
    """


class Exit(BaseModel):
    """
    How a VM ended.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    code: int | None = None
    """
    Exit code of the process, where it exited by itself and the code is known.
    """
    message: str | None = None
    """
    A sentence, where the reason alone does not say enough.
    """
    oom: bool
    """
    It used more memory than it had.
    """
    reason: str
    """
    Why it is over.
    """
    signal: int | None = None
    """
    Signal that ended the process, where one did.
    """


class FileEntry(BaseModel):
    """
    A file or directory of a VM.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    gid: Annotated[int, Field(ge=0)]
    """
    Group.
    """
    kind: str
    """
    What it is.
    """
    mode: Annotated[str, Field(examples=["0644"])]
    """
    Permission bits in octal digits, such as `0644`.
    """
    modified_at: Annotated[datetime, Field(alias="modifiedAt")]
    """
    When it was last changed.
    """
    name: str
    """
    The last part of its path. What is no UTF-8 in it is U+FFFD.
    """
    size: Annotated[int, Field(ge=0)]
    """
    Bytes of a file.
    """
    target: str | None = None
    """
    Where a link leads.
    """
    uid: Annotated[int, Field(ge=0)]
    """
    Owner.
    """


class FileList(BaseModel):
    """
    What is in a directory, by name.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    directory: FileEntry
    """
    The directory.
    """
    entries: Annotated[list[FileEntry], Field(max_length=10000)]
    """
    Its entries.
    """
    truncated: Annotated[bool, Field(examples=[False])]
    """
    There are more.
    """


class FoundLine(LogLine):
    """
    A line of the log of one of many VMs.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    tenant: str | None = None
    """
    The VM's tenant, if it has one.
    """
    vm_id: Annotated[str, Field(alias="vmId")]
    """
    Whose line it is.
    """


class FoundLogs(BaseModel):
    """
    A page out of the logs of many VMs.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    from_: Annotated[str | None, Field(alias="from")] = None
    """
    `from` of the query: pass it back with `pagination`.
    """
    lines: list[FoundLine]
    """
    The lines, in the order that was asked for; those of the same millisecond by the VMs' ids.
    """
    pagination: str | None = None
    """
    Token of the next page. Without it all logs were read to their ends for now (or to their beginnings). A page with
    a token may have few lines, or none: much was read then, and little found.
    """
    to: str | None = None
    """
    `to` of the query: pass it back with `pagination`.
    """


class Image(BaseModel):
    """
    An image.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    created_at: Annotated[datetime, Field(alias="createdAt")]
    """
    When it was imported.
    """
    digest: str
    """
    Digest of its manifest.
    """
    error: ImageError | None = None
    image_id: Annotated[str, Field(alias="imageId", examples=["01GTZHKS9CZHQ1NKZCA3G0H4DX"])]
    """
    The image.
    """
    name: str
    """
    The reference that it was imported from.
    """
    progress: float
    """
    Part of the layers that is there, 0–1.
    """
    size_bytes: Annotated[int, Field(alias="sizeBytes", ge=0)]
    """
    Compressed bytes of its layers.
    """
    state: str
    """
    Where it is.
    """
    tenant: str | None = None
    """
    The builder's end user whose image this is.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When it last changed.
    """


class ImageList(BaseModel):
    """
    A page of images, the newest first.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    images: list[Image]
    """
    The images.
    """
    pagination: Annotated[str | None, Field(examples=["the next page's token"])] = None
    """
    Token of the next page.
    """


class Start(BaseModel):
    """
    How a VM's run started.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    duration_ms: Annotated[int, Field(alias="durationMs", ge=0)]
    """
    From the host's hearing of the wish until its process went on, in milliseconds.
    """
    fallback: str | None = None
    """
    Why a faster tier was tried and given up.
    """
    tier: str
    """
    What it began with.
    """


class Vm(BaseModel):
    """
    A VM.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    auto_start: Annotated[bool | None, Field(alias="autoStart")] = None
    """
    Whether a request to its hostname starts or wakes it.
    """
    cpu: Annotated[int, Field(ge=0)]
    """
    CPUs.
    """
    created_at: Annotated[datetime, Field(alias="createdAt")]
    """
    When it was asked for.
    """
    exit: Exit | None = None
    hostname: Annotated[str, Field(examples=["01gv2zfbt345trtrdk6vhbeccz.localhost"])]
    """
    The name that it is reached by.
    """
    id: Annotated[str, Field(examples=["e784996f346483"])]
    """
    The VM.
    """
    idle_timeout_seconds: Annotated[int | None, Field(alias="idleTimeoutSeconds", ge=0)] = None
    """
    Time without a request, connection or work after which it is put to sleep.
    """
    image_id: Annotated[str, Field(alias="imageId")]
    """
    The image that it runs.
    """
    isolation: Annotated[str | None, Field(examples=["gvisor"])] = None
    """
    What keeps its code inside; known once a host took it.
    """
    memory: Annotated[int, Field(ge=0)]
    """
    Memory in MB.
    """
    metadata: dict[str, str] | None = None
    """
    The builder's own marks.
    """
    port: Annotated[int | None, Field(ge=0)] = None
    """
    The port that its hostname leads to.
    """
    prewarm: str | None = None
    sleep: str | None = None
    start: Start | None = None
    state: str
    """
    Where it is.
    """
    tenant: str | None = None
    """
    The builder's end user whose VM this is.
    """
    timeout_seconds: Annotated[int | None, Field(alias="timeoutSeconds", ge=0)] = None
    """
    Longest life of the VM, or of a run of a cached one, once it runs.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When its state last changed.
    """
    url: Annotated[str | None, Field(examples=["http://01gv2zfbt345trtrdk6vhbeccz.localhost:8080"])] = None
    """
    Where its port is reached.
    """
    volume_gb: Annotated[int | None, Field(alias="volumeGB", ge=0)] = None
    """
    Size of its volume at `/data`, in GB.
    """


class VmEvent(BaseModel):
    """
    A VM in its new state.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    exit: Exit | None = None
    hostname: str
    """
    The name that it is reached by.
    """
    image_id: Annotated[str, Field(alias="imageId")]
    """
    The image that it runs.
    """
    metadata: dict[str, str]
    """
    The builder's own marks.
    """
    state: str
    """
    Where it is.
    """
    tenant: str | None = None
    """
    The end user whose VM it is.
    """
    vm_id: Annotated[str, Field(alias="vmId")]
    """
    The VM.
    """


class VmList(BaseModel):
    """
    A page of VMs, the newest first.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    pagination: Annotated[str | None, Field(examples=["the next page's token"])] = None
    """
    Token of the next page.
    """
    vms: list[Vm]
    """
    The VMs.
    """


class Webhook(BaseModel):
    """
    An endpoint.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    created_at: Annotated[datetime, Field(alias="createdAt")]
    """
    When it was made.
    """
    description: str | None = None
    """
    The builder's own words.
    """
    disabled: Disabled | None = None
    enabled: bool
    """
    Whether events are sent to it.
    """
    events: list[str] | None = None
    """
    The events that it is told of; all where it is absent.
    """
    failing_since: Annotated[datetime | None, Field(alias="failingSince")] = None
    """
    Since when every attempt failed, where the last one did.
    """
    previous_secret_until: Annotated[datetime | None, Field(alias="previousSecretUntil")] = None
    """
    Until then deliveries are signed with the secret before, too.
    """
    tenant: str | None = None
    """
    Only events of this end user.
    """
    updated_at: Annotated[datetime, Field(alias="updatedAt")]
    """
    When it last changed.
    """
    url: str
    """
    Where events are sent.
    """
    webhook_id: Annotated[str, Field(alias="webhookId", examples=["01GV2ZFBT345TRTRDK6VHBECCZ"])]
    """
    The endpoint.
    """


class WebhookList(BaseModel):
    """
    The endpoints, the newest first.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    webhooks: list[Webhook]
    """
    The endpoints.
    """


class WebhookSecret(Webhook):
    """
    An endpoint with its new secret, which is shown this once.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    secret: Annotated[str, Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])]
    """
    The key of its signatures.
    """


class Exec(BaseModel):
    """
    Runs a command in a VM that runs, beside its own process.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    command: str | list[str]
    """
    The words of the command, or one line for `/bin/sh -c`.
    """
    cwd: Annotated[str | None, Field(examples=["/app"])] = None
    """
    Working directory, absolute; that of the VM's own process by default.
    """
    encoding: str | None = None
    env_vars: Annotated[dict[str, str] | None, Field(alias="envVars")] = None
    """
    Environment variables, set over those of the VM's own process.
    """
    stdin: str | None = None
    """
    All that it can read; nothing by default. Over a WebSocket it comes as messages instead.
    """
    timeout_seconds: Annotated[int | None, Field(alias="timeoutSeconds", ge=1, le=86400)] = 60
    """
    Time after which it is killed.
    """
    tty: bool | WindowSize | None = None
    user: Annotated[str | None, Field(examples=["root"])] = None
    """
    `name`, `uid`, `name:group` or `uid:gid`; the user of the VM's own process by default.
    """


class Event(BaseModel):
    """
    The body that an endpoint is sent. Fields are only ever added.
    """

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
    )
    build_id: Annotated[str | None, Field(alias="buildId")] = None
    """
    Of a build event: the build.
    """
    data: BuildEvent | VmEvent | PingEvent
    """
    The rest.
    """
    image_id: Annotated[str | None, Field(alias="imageId")] = None
    """
    Of `build.succeeded`: the image.
    """
    timestamp: datetime
    """
    When it happened.
    """
    type: Annotated[str, Field(examples=["build.succeeded"])]
    """
    What it tells of.
    """
