import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { CakeworkApi, CakeworkApiError } from "@cakework/client";
import { bin, call, client, collect, imageId, imagePassword, imageUri } from "./support.mjs";

const cakework = client({ webSocket: WebSocket });

test("an image is imported, and a VM of it runs, is called, and ends", async (t) => {
  const { imageId } = await cakework.importImage({ imageUri, password: imagePassword });
  const image = await cakework.waitForImage(imageId);
  assert.equal(image.state, "ready");
  assert.ok(image.createdAt instanceof Date);
  const metadata = { createdAt: "2026-01-01T00:00:00Z", plan: "free" };
  let vm = bin(t)(await cakework.startVm({ imageId, port: 8080, volumeGb: 1, envVars: { TOKEN: "t0k3n", UNSET: undefined }, metadata }));
  vm = await cakework.waitForVm(vm.id);
  assert.ok(vm.createdAt instanceof Date && Math.abs(Date.now() - vm.createdAt.getTime()) < 60_000);
  assert.equal(vm.volumeGb, 1);
  assert.equal("volumeGB" in vm, false);
  assert.deepEqual(vm.metadata, metadata, "marks stay what they are");
  assert.match(await call(vm), /t0k3n/);
  const listed = await cakework.listVMs({ status: "started", metadata: { plan: "free" } });
  assert.deepEqual(listed.vms.map((one) => one.id), [vm.id]);
  assert.ok(listed.vms[0].updatedAt instanceof Date);
  assert.equal(await cakework.stopVm(vm.id), undefined);
  vm = await cakework.waitForVm(vm.id, "destroyed");
  assert.equal(vm.exit.reason, "stopped");
  await assert.rejects(cakework.waitForVm(vm.id), (error) => error instanceof CakeworkApi.ConflictError && /is over \(stopped/.test(error.message));
});

test("a cached VM starts, sleeps, wakes and starts again", async (t) => {
  const vm = bin(t)(await cakework.cacheVm({ imageId, port: 8080, envVars: { TOKEN: "cached" } }));
  assert.equal(vm.state, "stopped");
  const started = await cakework.startCachedVm(vm.id);
  assert.ok(["paused", "restored", "created", "cold"].includes(started.start.tier));
  assert.match(await call(started), /cached/);
  for (let tried = 0; ; tried++) {
    try {
      await cakework.suspendVm(vm.id);
      break;
    } catch (error) {
      if (error.code !== "vm_busy" || tried > 50) throw error;
    }
  }
  assert.ok((await cakework.getVm(vm.id)).sleep);
  assert.match(await call(started), /cached/);
  await cakework.stopCachedVm(vm.id);
  await cakework.waitForVm(vm.id, "stopped");
  assert.ok((await cakework.getCachedVmLogs(vm.id)).lines.length > 0);
  await cakework.destroyCachedVm(vm.id);
  await cakework.waitForVm(vm.id, "destroyed");
});

test("commands run and stream", async (t) => {
  const started = bin(t)(await cakework.startVm({ imageId, port: 8080 }));
  const { id } = await cakework.waitForVm(started.id);
  const said = await cakework.exec(id, { command: "cat; echo err >&2; exit 3", stdin: "in" });
  assert.deepEqual(said, { exit: { code: 3, reason: "exited" }, stdout: "in", stderr: "err\n" });
  assert.equal((await cakework.exec(id, { command: ["sleep", "9"], timeoutSeconds: 1 })).exit.reason, "timeout");
  await assert.rejects(cakework.exec(id, { command: ["no-such"] }), (error) => error instanceof CakeworkApi.BadRequest && error.code === "invalid_command");

  const stream = await collect(cakework.execStream(id, { command: "for i in 1 2 3; do echo $i; sleep 0.1; done; exit 4" }));
  assert.equal(stream.filter((event) => event.type === "stdout").map((event) => event.data).join(""), "1\n2\n3\n");
  assert.deepEqual(stream.at(-1), { type: "exit", exit: { code: 4, reason: "exited" } });
  // Whoever leaves ends the command.
  let pid;
  for await (const event of cakework.execStream(id, { command: "echo $$; exec sleep 300" })) {
    pid = event.data.trim();
    break;
  }
  for (let tried = 0; (await cakework.exec(id, { command: `kill -0 ${pid}` })).exit.code === 0; tried++) {
    assert.ok(tried < 100, "it runs on");
  }
});

test("a command is typed to", async (t) => {
  const started = bin(t)(await cakework.startVm({ imageId, port: 8080 }));
  const { id } = await cakework.waitForVm(started.id);
  const shell = await cakework.openExec(id, { command: "read name; stty size; echo hello $name; exec sleep 60", tty: { rows: 24, cols: 80 } });
  shell.resize({ rows: 50, cols: 99 });
  shell.write("ann\n");
  let text = "";
  const decoder = new TextDecoder();
  for await (const { stream, data } of shell) {
    assert.equal(stream, "stdout");
    text += decoder.decode(data, { stream: true });
    if (text.endsWith("hello ann\r\n")) shell.signal("INT");
  }
  assert.match(text, /50 99\r\nhello ann\r\n/);
  assert.equal((await shell.exit).reason, "exited");
  assert.throws(() => shell.write("more"), /over/);

  const cat = await cakework.openExec(id, { command: ["cat"] });
  cat.write(new Uint8Array([0, 255, 10]));
  cat.eof();
  assert.deepEqual(Buffer.concat((await collect(cat)).map((output) => output.data)), Buffer.from([0, 255, 10]));
  assert.deepEqual(await cat.exit, { code: 0, reason: "exited" });
  const none = await cakework.openExec(id, { command: ["no-such"] });
  await assert.rejects(none.exit, (error) => error instanceof CakeworkApiError && error.code === "invalid_command");
  await assert.rejects(client({ webSocket: WebSocket }).openExec(id, { command: ["true"] }, { ticket: "wrong" }));
});

test("files go in and out", async (t) => {
  const started = bin(t)(await cakework.startVm({ imageId, port: 8080 }));
  const { id } = await cakework.waitForVm(started.id);
  const files = cakework.files(id);
  const bytes = new Uint8Array(3_000_000).map((_, index) => index * 7);
  const entry = await files.write("/tmp/a/b.bin", bytes, { mode: "0600" });
  assert.deepEqual([entry.size, entry.mode, entry.modifiedAt instanceof Date], [bytes.length, "0600", true]);
  assert.deepEqual(Buffer.compare(await files.read("/tmp/a/b.bin"), bytes), 0);
  const streamed = new ReadableStream({
    start(control) {
      for (let at = 0; at < bytes.length; at += 100_000) control.enqueue(bytes.subarray(at, at + 100_000));
      control.close();
    },
  });
  await files.write("/tmp/a/streamed", streamed);
  assert.deepEqual(Buffer.compare(await files.read("/tmp/a/streamed"), bytes), 0);
  await files.write("/tmp/a/ü.txt", "grüße");
  assert.equal(await files.readText("/tmp/a/ü.txt"), "grüße");
  const { entries } = await files.list("/tmp/a");
  assert.deepEqual(entries.map((one) => one.name).sort(), ["b.bin", "streamed", "ü.txt"]);
  await files.makeDirectory("/tmp/copy");
  const archive = await new Response(await files.download("/tmp/a")).arrayBuffer();
  await files.upload("/tmp/copy", archive);
  assert.equal(await files.readText("/tmp/copy/ü.txt"), "grüße");
  await assert.rejects(files.read("/tmp/a"), /is a directory/);
  await assert.rejects(files.list("/tmp/a/ü.txt"), /is not a directory/);
  await assert.rejects(files.remove("/tmp/a"), (error) => error.code === "directory_not_empty");
  await files.remove("/tmp/a", { recursive: true });
  await assert.rejects(files.read("/tmp/a/ü.txt"), (error) => error instanceof CakeworkApi.DoesNotExistError && error.code === "unknown_file");
});
