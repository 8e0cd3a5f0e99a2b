# Generated from docs/openapi.json by scripts/generate.py: do not edit.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import models
from .._http import Again, part
from .base import AsyncBase


class AsyncCakework(AsyncBase):
    """The client of Cakework's API."""

    async def health(self, *, timeout: float | None = None) -> models.Health:
        """Says that the server serves. It needs no key."""
        return await self._call("GET", "/healthz", models.Health, again=Again.ALWAYS, timeout=timeout)

    async def list_builds(
        self,
        *,
        status: str | None = None,
        image_id: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int | None = None,
        pagination: str | None = None,
        timeout: float | None = None,
    ) -> models.BuildList:
        """Builds, the newest first."""
        return await self._call(
            "GET",
            "/v1/builds",
            models.BuildList,
            query={
                "status": status,
                "imageId": image_id,
                "tenant": tenant,
                **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
                "limit": limit,
                "pagination": pagination,
            },
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def get_function_build_logs(
        self,
        build_id: str,
        *,
        query: str | None = None,
        batch: int | None = None,
        order: str | None = None,
        pagination: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
    ) -> models.Logs:
        """The same as `getBuildLogs`, for the build of a function."""
        return await self._call(
            "GET",
            f"/v1/function/build/{part(build_id)}/logs",
            models.Logs,
            query={"query": query, "batch": batch, "order": order, "pagination": pagination, "from": from_, "to": to},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def build_image_from_files(
        self,
        *,
        dockerfile: str,
        files: Sequence[models.BuildFile | Mapping[str, Any]],
        build_args: Mapping[str, str] | None = None,
        dockerignore: str | None = None,
        metadata: Mapping[str, str] | None = None,
        no_cache: bool | None = None,
        secrets: Mapping[str, str] | None = None,
        target: str | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.Build:
        """Builds an image from files. Answers before the build begins."""
        return await self._call(
            "POST",
            "/v1/image/build/files",
            models.Build,
            json={
                "dockerfile": dockerfile,
                "files": files,
                "buildArgs": build_args,
                "dockerignore": dockerignore,
                "metadata": metadata,
                "noCache": no_cache,
                "secrets": secrets,
                "target": target,
                "tenant": tenant,
            },
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def build_image_from_github(
        self,
        *,
        branch: str,
        dockerfile: str,
        repository: str,
        build_args: Mapping[str, str] | None = None,
        dockerignore: str | None = None,
        metadata: Mapping[str, str] | None = None,
        no_cache: bool | None = None,
        path: str | None = None,
        secrets: Mapping[str, str] | None = None,
        target: str | None = None,
        tenant: str | None = None,
        token: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.Build:
        """Builds an image from a repository on GitHub. Answers before the build begins."""
        return await self._call(
            "POST",
            "/v1/image/build/github",
            models.Build,
            json={
                "branch": branch,
                "dockerfile": dockerfile,
                "repository": repository,
                "buildArgs": build_args,
                "dockerignore": dockerignore,
                "metadata": metadata,
                "noCache": no_cache,
                "path": path,
                "secrets": secrets,
                "target": target,
                "tenant": tenant,
                "token": token,
            },
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def get_build(self, build_id: str, *, timeout: float | None = None) -> models.Build:
        """A build: where it is, its image, or why it failed."""
        return await self._call(
            "GET", f"/v1/image/build/{part(build_id)}", models.Build, again=Again.ALWAYS, timeout=timeout
        )

    async def cancel_build(self, build_id: str, *, timeout: float | None = None) -> models.Build:
        """Ends a build that is not over."""
        return await self._call(
            "POST", f"/v1/image/build/{part(build_id)}/cancel", models.Build, again=Again.ALWAYS, timeout=timeout
        )

    async def get_build_logs(
        self,
        build_id: str,
        *,
        query: str | None = None,
        batch: int | None = None,
        order: str | None = None,
        pagination: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
    ) -> models.Logs:
        """A page of a build's log, or all of it as it grows."""
        return await self._call(
            "GET",
            f"/v1/image/build/{part(build_id)}/logs",
            models.Logs,
            query={"query": query, "batch": batch, "order": order, "pagination": pagination, "from": from_, "to": to},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def import_image(
        self,
        *,
        image_uri: str,
        password: str | None = None,
        tenant: str | None = None,
        username: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.ImportedImage:
        """Imports an image from a registry. Answers when manifest and config were verified; the layers follow."""
        return await self._call(
            "POST",
            "/v1/image/import",
            models.ImportedImage,
            json={"imageUri": image_uri, "password": password, "tenant": tenant, "username": username},
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def get_image(self, image_id: str, *, timeout: float | None = None) -> models.Image:
        """An image: how far it is, or why it failed."""
        return await self._call("GET", f"/v1/image/{part(image_id)}", models.Image, again=Again.ALWAYS, timeout=timeout)

    async def list_images(
        self,
        *,
        tenant: str | None = None,
        limit: int | None = None,
        pagination: str | None = None,
        timeout: float | None = None,
    ) -> models.ImageList:
        """Images, the newest first."""
        return await self._call(
            "GET",
            "/v1/images",
            models.ImageList,
            query={"tenant": tenant, "limit": limit, "pagination": pagination},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def search_logs(
        self,
        *,
        query: str | None = None,
        tenant: str | None = None,
        image_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        batch: int | None = None,
        order: str | None = None,
        pagination: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
    ) -> models.FoundLogs:
        """Lines of the logs of all VMs, or of those that the filters leave, in the order of time; also of VMs that are over. Logs of builds are not among them."""
        return await self._call(
            "GET",
            "/v1/logs",
            models.FoundLogs,
            query={
                "query": query,
                "tenant": tenant,
                "imageId": image_id,
                **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
                "batch": batch,
                "order": order,
                "pagination": pagination,
                "from": from_,
                "to": to,
            },
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def delete_registry(self, *, host: str, timeout: float | None = None) -> None:
        """Erases a registry's credential."""
        await self._do("DELETE", "/v1/registry", query={"host": host}, again=Again.ALWAYS, timeout=timeout)

    async def list_registries(self, *, timeout: float | None = None) -> models.RegistryList:
        """The registries that there are credentials of. Passwords are never shown."""
        return await self._call("GET", "/v1/registry", models.RegistryList, again=Again.ALWAYS, timeout=timeout)

    async def put_registry(
        self, *, host: str, password: str, username: str, timeout: float | None = None
    ) -> models.Registry:
        """Keeps a registry's credential for the account's builds, in place of the one before."""
        return await self._call(
            "POST",
            "/v1/registry",
            models.Registry,
            json={"host": host, "password": password, "username": username},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def cache_vm(
        self,
        *,
        image_id: str,
        auto_start: bool | None = None,
        command: Sequence[str] | None = None,
        cpu: int | None = None,
        disk_size: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        idle_timeout_seconds: int | None = None,
        memory: int | None = None,
        metadata: Mapping[str, str] | None = None,
        port: int | None = None,
        prewarm: str | None = None,
        tenant: str | None = None,
        timeout_seconds: int | None = None,
        volume_gb: int | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.Vm:
        """Caches a VM: it stands still, is made ready in the background, and starts with `startCachedVM` or by a request to its hostname."""
        return await self._call(
            "POST",
            "/v1/vm/cache",
            models.Vm,
            json={
                "imageId": image_id,
                "autoStart": auto_start,
                "command": command,
                "cpu": cpu,
                "diskSize": disk_size,
                "envVars": env_vars,
                "idleTimeoutSeconds": idle_timeout_seconds,
                "memory": memory,
                "metadata": metadata,
                "port": port,
                "prewarm": prewarm,
                "tenant": tenant,
                "timeoutSeconds": timeout_seconds,
                "volumeGB": volume_gb,
            },
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def destroy_cached_vm(self, vm_id: str, *, timeout: float | None = None) -> None:
        """Destroys a VM and its volume, now, whatever its state."""
        await self._do("POST", f"/v1/vm/cached/{part(vm_id)}/destroy", again=Again.ALWAYS, timeout=timeout)

    async def get_cached_vm_logs(
        self,
        vm_id: str,
        *,
        query: str | None = None,
        batch: int | None = None,
        order: str | None = None,
        pagination: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
    ) -> models.Logs:
        """A page of a VM's log, of all its runs in their order, or all of it as it grows."""
        return await self._call(
            "GET",
            f"/v1/vm/cached/{part(vm_id)}/logs",
            models.Logs,
            query={"query": query, "batch": batch, "order": order, "pagination": pagination, "from": from_, "to": to},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def start_cached_vm(self, vm_id: str, *, timeout: float | None = None) -> models.Vm:
        """Starts a cached VM, or wakes it. Answers when it runs, with how its run started; one that runs is left as it is."""
        return await self._call(
            "POST", f"/v1/vm/cached/{part(vm_id)}/start", models.Vm, again=Again.ALWAYS, timeout=timeout
        )

    async def stop_cached_vm(self, vm_id: str, *, timeout: float | None = None) -> None:
        """Ends a cached VM's run: its stop signal, then a kill. It can be started again, from its prepared state."""
        await self._do("POST", f"/v1/vm/cached/{part(vm_id)}/stop", again=Again.ALWAYS, timeout=timeout)

    async def start_vm(
        self,
        *,
        image_id: str,
        command: Sequence[str] | None = None,
        cpu: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        memory: int | None = None,
        metadata: Mapping[str, str] | None = None,
        port: int | None = None,
        tenant: str | None = None,
        timeout_seconds: int | None = None,
        volume_gb: int | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.Vm:
        """Starts a VM. Answers when its sandbox runs; after ten seconds, or with the image still arriving, as `created`."""
        return await self._call(
            "POST",
            "/v1/vm/start",
            models.Vm,
            json={
                "imageId": image_id,
                "command": command,
                "cpu": cpu,
                "envVars": env_vars,
                "memory": memory,
                "metadata": metadata,
                "port": port,
                "tenant": tenant,
                "timeoutSeconds": timeout_seconds,
                "volumeGB": volume_gb,
            },
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def get_vm(self, vm_id: str, *, timeout: float | None = None) -> models.Vm:
        """A VM."""
        return await self._call("GET", f"/v1/vm/{part(vm_id)}", models.Vm, again=Again.ALWAYS, timeout=timeout)

    async def exec_vm(
        self,
        vm_id: str,
        *,
        command: str | Sequence[str],
        cwd: str | None = None,
        encoding: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout_seconds: int | None = None,
        tty: bool | models.WindowSize | None = None,
        user: str | None = None,
        timeout: float | None = None,
    ) -> models.ExecResult:
        """Runs a command in a VM that runs, and answers when it is over. With `Accept: text/event-stream` its output comes as it is written: `event: stdout` and `event: stderr` with `{'data'}`, then `event: exit` with how it ended. A sleeping VM is woken. A client that hangs up ends the command."""
        return await self._call(
            "POST",
            f"/v1/vm/{part(vm_id)}/exec",
            models.ExecResult,
            json={
                "command": command,
                "cwd": cwd,
                "encoding": encoding,
                "envVars": env_vars,
                "stdin": stdin,
                "timeoutSeconds": timeout_seconds,
                "tty": tty,
                "user": user,
            },
            again=Again.NEVER,
            timeout=timeout or (timeout_seconds or 60) + 15,
        )

    async def create_exec_ticket(self, vm_id: str, *, timeout: float | None = None) -> models.ExecTicket:
        """Makes a ticket that opens commands in a VM, by `openExec`, for a minute: for a browser of the builder's end user."""
        return await self._call(
            "POST", f"/v1/vm/{part(vm_id)}/exec/ticket", models.ExecTicket, again=Again.NEVER, timeout=timeout
        )

    async def remove_file(
        self, vm_id: str, *, path: str, recursive: bool | None = None, timeout: float | None = None
    ) -> None:
        """Removes a file or link, or a directory, of a VM that runs."""
        await self._do(
            "DELETE",
            f"/v1/vm/{part(vm_id)}/files",
            query={"path": path, "recursive": recursive},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def get_vm_logs(
        self,
        vm_id: str,
        *,
        query: str | None = None,
        batch: int | None = None,
        order: str | None = None,
        pagination: str | None = None,
        from_: str | None = None,
        to: str | None = None,
        timeout: float | None = None,
    ) -> models.Logs:
        """A page of a VM's log, also after its end, or all of it as it grows."""
        return await self._call(
            "GET",
            f"/v1/vm/{part(vm_id)}/logs",
            models.Logs,
            query={"query": query, "batch": batch, "order": order, "pagination": pagination, "from": from_, "to": to},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def stop_vm(self, vm_id: str, *, timeout: float | None = None) -> None:
        """Ends a VM: its stop signal, then a kill. Answers at the end, or after some seconds while the end goes on. Of a cached VM it ends the run, as `stopCachedVM` does."""
        await self._do("POST", f"/v1/vm/{part(vm_id)}/stop", again=Again.ALWAYS, timeout=timeout)

    async def suspend_vm(self, vm_id: str, *, timeout: float | None = None) -> None:
        """Puts a running cached VM to sleep where it is. A request to its hostname, `startCachedVM` or a command wakes it."""
        await self._do("POST", f"/v1/vm/{part(vm_id)}/suspend", again=Again.ALWAYS, timeout=timeout)

    async def list_vms(
        self,
        *,
        image_id: str | None = None,
        status: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int | None = None,
        pagination: str | None = None,
        timeout: float | None = None,
    ) -> models.VmList:
        """VMs, the newest first."""
        return await self._call(
            "GET",
            "/v1/vms",
            models.VmList,
            query={
                "imageId": image_id,
                "status": status,
                "tenant": tenant,
                **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
                "limit": limit,
                "pagination": pagination,
            },
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def list_webhooks(self, *, tenant: str | None = None, timeout: float | None = None) -> models.WebhookList:
        """All endpoints, the newest first."""
        return await self._call(
            "GET", "/v1/webhook", models.WebhookList, query={"tenant": tenant}, again=Again.ALWAYS, timeout=timeout
        )

    async def create_webhook(
        self,
        *,
        url: str,
        description: str | None = None,
        events: Sequence[str] | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.WebhookSecret:
        """Makes an endpoint. Its `secret` is shown this once."""
        return await self._call(
            "POST",
            "/v1/webhook",
            models.WebhookSecret,
            json={"url": url, "description": description, "events": events, "tenant": tenant},
            again=Again.KEYED,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    async def delete_webhook(self, webhook_id: str, *, timeout: float | None = None) -> None:
        """Removes an endpoint, with what is on its way to it."""
        await self._do("DELETE", f"/v1/webhook/{part(webhook_id)}", again=Again.ALWAYS, timeout=timeout)

    async def get_webhook(self, webhook_id: str, *, timeout: float | None = None) -> models.Webhook:
        """An endpoint: whether it is enabled, and since when it fails."""
        return await self._call(
            "GET", f"/v1/webhook/{part(webhook_id)}", models.Webhook, again=Again.ALWAYS, timeout=timeout
        )

    async def list_webhook_deliveries(
        self, webhook_id: str, *, limit: int | None = None, pagination: str | None = None, timeout: float | None = None
    ) -> models.DeliveryList:
        """What was sent to an endpoint, and what is on its way; the newest first."""
        return await self._call(
            "GET",
            f"/v1/webhook/{part(webhook_id)}/deliveries",
            models.DeliveryList,
            query={"limit": limit, "pagination": pagination},
            again=Again.ALWAYS,
            timeout=timeout,
        )

    async def replay_webhook_delivery(
        self, webhook_id: str, event_id: str, *, timeout: float | None = None
    ) -> models.Delivery:
        """Delivers an event again, at once and with the same id."""
        return await self._call(
            "POST",
            f"/v1/webhook/{part(webhook_id)}/deliveries/{part(event_id)}/replay",
            models.Delivery,
            again=Again.NEVER,
            timeout=timeout,
        )

    async def enable_webhook(self, webhook_id: str, *, timeout: float | None = None) -> models.Webhook:
        """Enables an endpoint that was disabled. What it missed meanwhile is not sent."""
        return await self._call(
            "POST", f"/v1/webhook/{part(webhook_id)}/enable", models.Webhook, again=Again.ALWAYS, timeout=timeout
        )

    async def rotate_webhook_secret(
        self, webhook_id: str, *, grace_seconds: int | None = None, timeout: float | None = None
    ) -> models.WebhookSecret:
        """Gives an endpoint a new `secret`, shown this once. For a while deliveries are signed with both."""
        return await self._call(
            "POST",
            f"/v1/webhook/{part(webhook_id)}/rotate",
            models.WebhookSecret,
            query={"graceSeconds": grace_seconds},
            again=Again.NEVER,
            timeout=timeout,
        )

    async def test_webhook(self, webhook_id: str, *, timeout: float | None = None) -> models.Delivery:
        """Sends an endpoint an event `ping`, whatever it chose."""
        return await self._call(
            "POST", f"/v1/webhook/{part(webhook_id)}/test", models.Delivery, again=Again.NEVER, timeout=timeout
        )
