// What the suites share: the server that they run against, and a line to it that can be made bad. The server is real; its
// address, a key and an image are in the environment, and `cargo nextest run -E 'test(sdk)'` sets them.
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { CakeworkApiClient } from "@cakework/client";

function need(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: these suites are run by the tests of the crate cakework`);
  return value;
}

export const url = need("CAKEWORK_URL");
export const key = need("CAKEWORK_API_KEY");
/** A Python web app on port 8080 that was imported. */
export const imageId = need("CAKEWORK_TEST_IMAGE");
export const imageUri = need("CAKEWORK_TEST_IMAGE_URI");
export const imagePassword = need("CAKEWORK_TEST_IMAGE_PASSWORD");

export const client = (options = {}) => new CakeworkApiClient({ environment: url, xApiKey: key, ...options });

/** What is to be destroyed at the end of a suite. */
export function bin(t) {
  const cakework = client();
  return (vm) => {
    t.after(() => cakework.destroyCachedVm(vm.id).catch(() => cakework.stopVm(vm.id)).catch(() => {}));
    return vm;
  };
}

/** A server of the test's own on loopback. */
export async function serve(t, answer) {
  const server = http.createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/**
 * A line to the real server. `cut()` says for each connection after how many bytes of its answer it is cut off, or nothing.
 */
export async function badLine(t, cut) {
  const { hostname, port } = new URL(url);
  const line = { connections: 0, cuts: 0 };
  const server = net.createServer((near) => {
    line.connections += 1;
    let left = cut(line.connections) ?? Infinity;
    const far = net.connect(Number(port), hostname);
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
    near.pipe(far);
    far.on("data", (bytes) => {
      near.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left > 0) return;
      line.cuts += 1;
      near.destroySoon();
      far.destroy();
    });
    far.on("end", () => near.end());
    near.on("close", () => far.destroy());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  line.url = `http://127.0.0.1:${server.address().port}`;
  return line;
}

/** The body of a VM's web app, by its hostname through the edge. */
export function call(vm, path = "/") {
  const { port, host } = new URL(vm.url);
  return new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port: port || 80, path, headers: { host } }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => (text += part)).on("end", () => resolve(text)).on("error", reject);
    });
    request.on("error", reject);
  });
}

export async function collect(iterator) {
  const all = [];
  for await (const one of iterator) all.push(one);
  return all;
}
