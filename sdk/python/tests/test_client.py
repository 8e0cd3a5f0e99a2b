"""The client against a real server."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import KEY, URL, BadLine

from cakework import AsyncCakework, Cakework, CakeworkError, WebhookVerificationError, errors, models, verify_webhook

LINES = 2000


def test_an_image_is_imported_and_a_vm_of_it_runs(cakework: Cakework) -> None:
    uri, password = os.environ["CAKEWORK_TEST_IMAGE_URI"], os.environ["CAKEWORK_TEST_IMAGE_PASSWORD"]
    imported = cakework.import_image(image_uri=uri, password=password)
    assert cakework.wait_for_image(imported.image_id).state == "ready"
    metadata = {"createdAt": "2026-01-01T00:00:00Z", "of": "python"}
    vm = cakework.start_vm(image_id=imported.image_id, port=8080, volume_gb=1, env_vars={"A": "b"}, metadata=metadata)
    vm = cakework.wait_for_vm(vm.id)
    assert (vm.volume_gb, vm.metadata) == (1, metadata)
    assert abs(vm.created_at.timestamp() - time.time()) < 60
    listed = cakework.list_vms(status="started", metadata={"of": "python"})
    assert [one.id for one in listed.vms] == [vm.id]
    said = cakework.exec_vm(vm.id, command="cat; echo $A >&2; exit 3", stdin="in")
    assert (said.exit.code, said.stdout, said.stderr) == (3, "in", "b\n")
    streamed = list(cakework.exec_stream(vm.id, ["sh", "-c", "echo a; sleep 0.1; echo b"]))
    assert "".join(text for kind, text in streamed if kind == "stdout") == "a\nb\n"
    assert streamed[-1][0] == "exit" and streamed[-1][1].code == 0
    cakework.write_file(vm.id, "/tmp/d/x", bytes(range(256)) * 1000, mode="0600")
    assert cakework.read_file(vm.id, "/tmp/d/x") == bytes(range(256)) * 1000
    assert [(entry.name, entry.mode) for entry in cakework.list_files(vm.id, "/tmp/d").entries] == [("x", "0600")]
    cakework.make_directory(vm.id, "/tmp/e")
    cakework.upload(vm.id, "/tmp/e", cakework.download(vm.id, "/tmp/d"))
    assert len(cakework.read_file(vm.id, "/tmp/e/x")) == 256_000
    with pytest.raises(errors.Conflict, match="is a directory"):
        cakework.read_file(vm.id, "/tmp/d")
    with pytest.raises(errors.Conflict, match="is not a directory"):
        cakework.list_files(vm.id, "/tmp/d/x")
    cakework.remove_file(vm.id, path="/tmp/d", recursive=True)
    with pytest.raises(errors.DoesNotExist):
        cakework.read_file(vm.id, "/tmp/d/x")
    assert cakework.stop_vm(vm.id) is None
    assert cakework.wait_for_vm(vm.id, "destroyed").state == "destroyed"
    with pytest.raises(errors.Conflict, match=r"is over \(stopped"):
        cakework.wait_for_vm(vm.id)


def test_a_cached_vm_starts_sleeps_and_goes(cakework: Cakework, image_id: str) -> None:
    vm = cakework.cache_vm(image_id=image_id, port=8080)
    assert vm.state == "stopped"
    started = cakework.start_cached_vm(vm.id)
    assert started.start is not None and started.start.tier in ("paused", "restored", "created", "cold")
    cakework.suspend_vm(vm.id)
    assert cakework.get_vm(vm.id).sleep is not None
    cakework.stop_cached_vm(vm.id)
    cakework.destroy_cached_vm(vm.id)


def test_images_are_built_and_failures_say_where(cakework: Cakework, image_id: str) -> None:
    files = [
        models.BuildFile(dir=".", name="a", content="x"),
        {"dir": "b", "name": "c", "content": "AP8=", "encoding": "base64"},
    ]
    build = cakework.build_image_from_files(
        dockerfile=f"FROM cakework/{image_id}\nCOPY . /srv\nRUN echo said", files=files
    )
    lines = [line.message for line in cakework.follow_build_logs(build.build_id)]
    assert "said" in lines
    assert cakework.wait_for_build(build.build_id).image_id
    failed = cakework.build_image_from_files(dockerfile=f"FROM cakework/{image_id}\nRUN exit 7", files=[])
    with pytest.raises(errors.BuildFailed, match=r"\(line 2\)$") as caught:
        cakework.wait_for_build(failed.build_id)
    assert caught.value.build.status == "failed"


def test_refusals_are_errors_of_their_class(cakework: Cakework, image_id: str) -> None:
    with pytest.raises(errors.DoesNotExist) as caught:
        cakework.get_vm("00000000000000")
    assert (caught.value.status_code, caught.value.code) == (404, "unknown_vm") and caught.value.request_id
    with pytest.raises(errors.BadRequest) as wrong:
        cakework.start_vm(image_id=image_id, cpu=99)
    assert wrong.value.problem is not None and wrong.value.problem.field == "cpu"
    with Cakework(URL, "cw_wrong") as other, pytest.raises(errors.Unauthorized) as denied:
        other.list_vms()
    assert "cw_wrong" not in str(denied.value)
    with (
        Cakework("http://127.0.0.1:9", max_retries=1) as none,
        pytest.raises(errors.ConnectionFailed, match="can't be reached"),
    ):
        none.list_vms()
    for name in ("", ".", ".."):
        with pytest.raises(ValueError):
            cakework.get_vm(name)
    with pytest.raises(errors.DoesNotExist):
        cakework.get_vm("../images")


def test_a_followed_log_has_each_line_once(
    cakework: Cakework, image_id: str, bad_line: Callable[[Callable[[int], float]], BadLine]
) -> None:
    program = f"import time\nfor n in range({LINES}):\n  print('line', n, flush=True)\n  time.sleep(0.001)"
    dockerfile = f"FROM cakework/{image_id}\nENTRYPOINT []\nCOPY main.py /main.py\nCMD python3 /main.py"
    built = cakework.build_image_from_files(
        dockerfile=dockerfile, files=[models.BuildFile(dir=".", name="main.py", content=program)]
    )
    vm = cakework.start_vm(image_id=cakework.wait_for_build(built.build_id).image_id)
    line = bad_line(lambda connection: 2000 + connection * 7919 % 20_000)
    with Cakework(line.url) as client:
        seen = [one.message for one in client.follow_vm_logs(vm.id)]
    assert seen == [f"line {n}" for n in range(LINES)]
    assert line.connections > 5


def test_what_was_done_and_not_heard_of_is_not_done_twice(
    cakework: Cakework, image_id: str, bad_line: Callable[[Callable[[int], float]], BadLine]
) -> None:
    line = bad_line(lambda connection: 0 if connection % 2 == 1 else float("inf"))
    metadata = {"of": f"once-{time.time()}"}
    with Cakework(line.url) as client:
        vm = client.start_vm(image_id=image_id, metadata=metadata)
    assert [one.id for one in cakework.list_vms(metadata=metadata).vms] == [vm.id]
    cakework.stop_vm(vm.id)
    dead = bad_line(lambda _: 0)
    with Cakework(dead.url) as client, pytest.raises(errors.ConnectionFailed):
        client.exec_vm("00000000000000", command="true")
    assert dead.connections == 1, "a command is never sent twice"


def test_answers_that_are_none_of_the_apis(cakework: Cakework) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/images":
                time.sleep(3)
            self.send_response(200 if self.path == "/v1/vms" else 302)
            self.send_header("location", f"{URL}/v1/builds")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Cakework(f"http://127.0.0.1:{server.server_port}", KEY) as client:
            with pytest.raises(CakeworkError, match="not the API's"):
                client.list_vms()
            with pytest.raises(CakeworkError, match="302"):
                client.list_builds()
            with pytest.raises(errors.TimedOut):
                client.list_images(timeout=0.2)
        server.shutdown()


def test_events_are_verified(cakework: Cakework) -> None:
    heard: list[tuple[bytes, dict[str, str]]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.rfile.read(int(self.headers["content-length"])), dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        webhook = cakework.create_webhook(url=f"http://127.0.0.1:{server.server_port}/")
        cakework.test_webhook(webhook.webhook_id)
        end = time.monotonic() + 20
        while not heard:
            assert time.monotonic() < end
            time.sleep(0.05)
        server.shutdown()
    body, headers = heard[0]
    assert verify_webhook(body, headers, webhook.secret).type == "ping"
    with pytest.raises(WebhookVerificationError):
        verify_webhook(body + b" ", headers, webhook.secret)
    cakework.delete_webhook(webhook.webhook_id)


def test_the_same_for_asyncio(image_id: str) -> None:
    async def story() -> None:
        async with AsyncCakework() as cakework:
            vms = await asyncio.gather(*(cakework.start_vm(image_id=image_id, port=8080) for _ in range(3)))
            for vm in vms:
                await cakework.wait_for_vm(vm.id)
            said = await asyncio.gather(*(cakework.exec_vm(vm.id, command=["echo", vm.id]) for vm in vms))
            assert [one.stdout for one in said] == [f"{vm.id}\n" for vm in vms]
            async for line in cakework.follow_vm_logs(vms[0].id):
                assert line.level
                break
            pieces = [
                text async for kind, text in cakework.exec_stream(vms[0].id, "echo a; echo b") if kind == "stdout"
            ]
            assert "".join(pieces) == "a\nb\n"
            await asyncio.gather(*(cakework.stop_vm(vm.id) for vm in vms))

    asyncio.run(story())
