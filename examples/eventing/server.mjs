// A small product: its users write a handler for each kind of event, and it delivers events to them. It has no Docker, no cluster
// and no polling: Cakework builds what users upload, says when it is built, and keeps a cached VM for each user that sleeps until
// an event comes.
//
//   CAKEWORK_URL=… CAKEWORK_API_KEY=… PUBLIC_URL=http://localhost:4000 node server.mjs
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { CakeworkApiClient, verifyWebhook } from "@cakework/client";
import { send } from "../hello-builder/get.mjs";

const port = Number(process.env.PORT ?? 4000);
const publicUrl = process.env.PUBLIC_URL ?? `http://localhost:${port}`;
const BODY_MAX_BYTES = 1 << 20;

const cakework = new CakeworkApiClient();
const runtime = (name) => readFile(new URL(`runtime/${name}`, import.meta.url), "utf8");
/** User → {state, vm, secret, error}. A product would keep it in its database. */
const users = new Map();

/** A user's upload: their files, beside the product's own, become an image. */
async function deploy({ user, files }) {
  if (!/^[a-z0-9-]{1,32}$/.test(user) || !Array.isArray(files)) throw Object.assign(new Error("a user and their files are needed"), { status: 400 });
  const own = files.filter(({ dir, name }) => !(dir === "." && name === "_runtime.py"));
  const { buildId } = await cakework.buildImageFromFiles({
    dockerfile: await runtime("Dockerfile"),
    buildArgs: process.env.BASE ? { BASE: process.env.BASE } : {},
    files: [...own, { dir: ".", name: "_runtime.py", content: await runtime("_runtime.py") }],
    tenant: user,
  });
  users.set(user, { ...users.get(user), state: "building", buildId, error: undefined });
  return { buildId };
}

/** What Cakework says of a build, by its webhook. */
async function built(event) {
  const { buildId, imageId, tenant, error } = event.data;
  const user = users.get(tenant);
  // An older build of the user's, or the same news a second time.
  if (user?.buildId !== buildId || user.state !== "building") return;
  if (event.type === "build.failed") {
    Object.assign(user, { state: "failed", error: error.message });
    return;
  }
  const secret = `whsec_${randomBytes(24).toString("base64")}`;
  const vm = await cakework.cacheVm({ imageId, port: 8080, envVars: { EVENTING_SECRET: secret }, tenant, idleTimeoutSeconds: 30 });
  const before = user.vm;
  Object.assign(user, { state: "ready", vm, secret });
  if (before) await cakework.destroyCachedVm(before.id);
}

/** Delivers an event to a user's handler, signed. A VM that sleeps, or does not run yet, is woken by it. */
async function deliver({ user: name, handler, event }) {
  const user = users.get(name);
  if (!user?.vm) throw Object.assign(new Error(`${name} has deployed nothing yet`), { status: 409 });
  const body = JSON.stringify(event);
  const id = `msg_${randomUUID()}`;
  const at = String(Math.floor(Date.now() / 1000));
  const key = Buffer.from(user.secret.slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${at}.${body}`).digest("base64");
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body), "webhook-id": id, "webhook-timestamp": at, "webhook-signature": `v1,${signature}` };
  const { status, text } = await send(`${user.vm.url}/${handler}`, { method: "POST", headers, body });
  return { status, ...JSON.parse(text) };
}

const routes = {
  "POST /deploy": async (body) => deploy(JSON.parse(body)),
  "POST /events": async (body) => deliver(JSON.parse(body)),
  "GET /status": async (_, { searchParams }) => {
    const { state = "absent", error, vm } = users.get(searchParams.get("user")) ?? {};
    return { state, error, url: vm?.url };
  },
  "GET /logs": async (_, { searchParams }) => cakework.searchLogs({ tenant: searchParams.get("user"), order: "oldest_first" }),
  "POST /cakework": async (body, _, headers) => {
    await built(verifyWebhook(body, headers, webhook.secret));
    return {};
  },
};

const server = http.createServer(async (request, response) => {
  try {
    const url = new URL(request.url, publicUrl);
    const route = routes[`${request.method} ${url.pathname}`];
    if (!route) throw Object.assign(new Error("there is nothing here"), { status: 404 });
    const parts = [];
    let size = 0;
    for await (const part of request) {
      size += part.length;
      if (size > BODY_MAX_BYTES) throw Object.assign(new Error("that is too much at once"), { status: 413 });
      parts.push(part);
    }
    const said = await route(Buffer.concat(parts).toString(), url, request.headers);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(said));
  } catch (error) {
    const status = error.constructor.name === "WebhookVerificationError" ? 400 : (error.status ?? 500);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: error.message }));
  }
});
await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
const webhook = await cakework.createWebhook({ url: `${publicUrl}/cakework`, events: ["build.succeeded", "build.failed"] });
console.log(`eventing listens at ${publicUrl}`);

async function end() {
  server.close();
  await cakework.deleteWebhook(webhook.webhookId);
  await Promise.all([...users.values()].filter(({ vm }) => vm).map(({ vm }) => cakework.destroyCachedVm(vm.id)));
  process.exit(0);
}
process.on("SIGTERM", end).on("SIGINT", end);
