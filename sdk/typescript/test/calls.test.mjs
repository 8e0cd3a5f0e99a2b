import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { CakeworkApi, CakeworkApiClient, CakeworkApiEnvironment, CakeworkApiError, CakeworkApiTimeoutError } from "@cakework/client";
import { badLine, bin, client, collect, imageId, key, serve, url } from "./support.mjs";

test("refusals are errors of their class, with code, fix and the id of the request", async () => {
  const cakework = client();
  await assert.rejects(cakework.getVm("00000000000000"), (error) => {
    assert.ok(error instanceof CakeworkApi.DoesNotExistError && error instanceof CakeworkApiError && error instanceof Error);
    assert.deepEqual([error.name, error.statusCode, error.code, error.body.code], ["DoesNotExistError", 404, "unknown_vm", "unknown_vm"]);
    assert.match(error.requestId, /^[0-9a-f]{32}$/);
    return true;
  });
  const wrong = new CakeworkApiClient({ environment: url, xApiKey: () => Promise.resolve("cake_wrong") });
  await assert.rejects(wrong.listVMs(), (error) => error instanceof CakeworkApi.UnauthorizedError && /cakework key list/.test(error.message) && !error.stack.includes("cake_wrong"));
  await assert.rejects(cakework.startVm({ imageId, cpu: 99 }), (error) => error instanceof CakeworkApi.BadRequest && error.problem.field === "cpu");
  for (const id of ["", ".", ".."]) await assert.rejects(cakework.getVm(id), TypeError);
  await assert.rejects(cakework.getVm("../images"), CakeworkApi.DoesNotExistError);
});

test("the environment names a server and a key", async () => {
  assert.deepEqual(CakeworkApiEnvironment, { Production: "https://api.cakework.com", Staging: "https://api-staging.cakework.com", Local: "http://localhost:8081" });
  // CAKEWORK_URL and CAKEWORK_API_KEY are set here.
  assert.ok(Array.isArray((await new CakeworkApiClient().listVMs()).vms));
});

test("what was done and not heard of is not done twice", async (t) => {
  // Each first answer is lost on its way: the server has done the work.
  const line = await badLine(t, (connection) => (connection % 2 === 1 ? 0 : undefined));
  const lossy = client({ environment: line.url });
  const metadata = { of: `once-${Date.now()}` };
  const vm = bin(t)(await lossy.startVm({ imageId, metadata }));
  assert.ok(line.connections >= 2);
  assert.deepEqual((await client().listVMs({ metadata })).vms.map((one) => one.id), [vm.id]);
  const webhook = await lossy.createWebhook({ url: "https://example.com/" });
  assert.equal((await client().listWebhooks()).length, 1);
  await lossy.deleteWebhook(webhook.webhookId);
  await lossy.stopVm(vm.id);
});

test("a command is never sent twice", async (t) => {
  const line = await badLine(t, () => 0);
  const lossy = client({ environment: line.url });
  await assert.rejects(lossy.exec("00000000000000", { command: "true" }), (error) => error instanceof CakeworkApiError && error.statusCode === undefined);
  assert.equal(line.connections, 1);
  await assert.rejects(lossy.createExecTicket("00000000000000"));
  assert.equal(line.connections, 2);
  await assert.rejects(lossy.getVm("00000000000000"));
  assert.equal(line.connections, 6, "a read is tried four times");
});

test("a server that is busy is asked again when it says, within the time of the call", async (t) => {
  const asked = [];
  let busy = 2;
  const address = await serve(t, (request, response) => {
    asked.push([request.headers["idempotency-key"], Date.now()]);
    if (busy-- > 0) {
      response.writeHead(asked.length === 1 ? 429 : 503, { "retry-after": "1", "content-type": "application/problem+json" });
      response.end(JSON.stringify({ code: "rate_limited", detail: "Too many." }));
    } else {
      response.end(JSON.stringify({ imageId: "01GTZHKS9CZHQ1NKZCA3LG0H4D" }));
    }
  });
  const cakework = client({ environment: address });
  assert.ok((await cakework.importImage({ imageUri: "x" })).imageId);
  assert.equal(asked.length, 3);
  assert.equal(new Set(asked.map(([key]) => key)).size, 1, "with the same key");
  assert.ok(asked[1][1] - asked[0][1] >= 990 && asked[2][1] - asked[1][1] >= 990);
  busy = 99;
  await assert.rejects(cakework.importImage({ imageUri: "x" }, { timeoutMs: 500 }), (error) => error instanceof CakeworkApi.TooManyRequestsError || error instanceof CakeworkApi.UnavailableError);
  await assert.rejects(cakework.importImage({ imageUri: "x" }, { maxRetries: 0, idempotencyKey: "mine" }), (error) => error.retryAfterSeconds === 1);
  assert.equal(asked.at(-1)[0], "mine");
});

test("answers that are none of the API's say so", async (t) => {
  let answer;
  const address = await serve(t, (request, response) => answer(request, response));
  const cakework = client({ environment: `${address}/`, maxRetries: 0 });
  answer = (_, response) => response.end("<html>a proxy</html>");
  await assert.rejects(cakework.listVMs(), (error) => error instanceof CakeworkApiError && error.statusCode === 200 && /not JSON/.test(error.message));
  answer = (_, response) => response.writeHead(502).end("x".repeat(1_000_000));
  await assert.rejects(cakework.listVMs(), (error) => error.statusCode === 502 && error.body.length < 200_000);
  answer = (_, response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write('{"vms": [');
    setTimeout(() => response.destroy(), 20);
  };
  await assert.rejects(cakework.listVMs(), (error) => error instanceof CakeworkApiError && error.statusCode === undefined);
  answer = () => {};
  await assert.rejects(cakework.listVMs({}, { timeoutMs: 100 }), CakeworkApiTimeoutError);
  answer = (_, response) => response.write("{");
  await assert.rejects(cakework.listVMs({}, { timeoutMs: 100 }), CakeworkApiTimeoutError);
  // A key is never taken to another server.
  let stolen;
  const thief = await serve(t, (request, response) => {
    stolen = request.headers["x-api-key"];
    response.end("{}");
  });
  answer = (_, response) => response.writeHead(302, { location: `${thief}/v1/vms` }).end();
  await assert.rejects(cakework.listVMs(), CakeworkApiError);
  assert.equal(stolen, undefined);
  await assert.rejects(client({ environment: "http://127.0.0.1:9", maxRetries: 1 }).listVMs(), (error) => /can't be reached/.test(error.message) && !error.message.includes(key));
});

test("pages follow each other to the end", async (t) => {
  const cakework = client();
  const metadata = { of: `pages-${Date.now()}` };
  const made = [];
  for (let n = 0; n < 5; n++) made.push(bin(t)(await cakework.cacheVm({ imageId, prewarm: "none", metadata })).id);
  const all = await collect(cakework.allVMs({ metadata, limit: 2 }));
  assert.deepEqual(all.map((vm) => vm.id), made.reverse());
});

test("calls that are over leave nothing at a signal that lives on", async (t) => {
  const address = await serve(t, (_, response) => response.end('{"vms": []}'));
  const { signal } = new AbortController();
  for (let call = 0; call < 20; call++) await client({ environment: address }).listVMs({}, { signal });
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("a call ends with its signal", async (t) => {
  const address = await serve(t, () => {});
  const control = new AbortController();
  setTimeout(() => control.abort(new Error("enough")), 50);
  await assert.rejects(client({ environment: address }).listVMs({}, { signal: control.signal }), /enough/);
});
