import assert from "node:assert/strict";
import { test } from "node:test";
import { CakeworkApi, CakeworkApiTimeoutError } from "@cakework/client";
import { client, collect, imageId } from "./support.mjs";

const cakework = client();
const from = `FROM cakework/${imageId}\n`;

test("an image is built from files, with its lines as they come", async () => {
  const content = "print('built')";
  const build = await cakework.buildImageFromFiles({
    dockerfile: `${from}COPY . /srv\nRUN echo a-line-of-the-build && python3 /srv/main.py`,
    files: [
      { dir: ".", name: "main.py", content },
      { dir: "data", name: "bytes", content: "AP8=", encoding: "base64" },
    ],
    metadata: { of: "sdk" },
  });
  assert.equal(build.status, "created");
  assert.ok(build.createdAt instanceof Date);
  const lines = [];
  const done = await cakework.waitForBuild(build.buildId, { onLine: (line) => lines.push(line.message) });
  assert.equal(done.status, "succeeded");
  assert.ok(lines.some((line) => line.includes("a-line-of-the-build")) && lines.some((line) => line.endsWith("built")), lines.join("\n"));
  assert.equal((await cakework.waitForImage(done.imageId)).imageId, done.imageId);
  const page = await cakework.getBuildLogs(build.buildId, { query: "A-LINE-OF" });
  assert.ok(page.lines.length >= 1);
  assert.deepEqual((await collect(cakework.allBuilds({ metadata: { of: "sdk" } }))).map((one) => one.buildId), [build.buildId]);
});

test("a build that fails says where, and one that is waited for too short", async () => {
  const failed = await cakework.buildImageFromFiles({ dockerfile: `${from}\nRUN exit 7`, files: [] });
  await assert.rejects(cakework.waitForBuild(failed.buildId), (error) => {
    assert.ok(error instanceof CakeworkApi.BuildFailedError);
    assert.deepEqual([error.build.status, error.build.error.line], ["failed", 3]);
    assert.match(error.message, /\(line 3\)$/);
    return true;
  });
  const slow = await cakework.buildImageFromFiles({ dockerfile: `${from}RUN sleep 60`, files: [] });
  await assert.rejects(cakework.waitForBuild(slow.buildId, { timeoutMs: 500 }), CakeworkApiTimeoutError);
  const control = new AbortController();
  setTimeout(() => control.abort(new Error("enough")), 100);
  await assert.rejects(cakework.waitForBuild(slow.buildId, { signal: control.signal }), /enough/);
  await cakework.cancelBuild(slow.buildId);
  await assert.rejects(cakework.waitForBuild(slow.buildId), CakeworkApi.BuildFailedError);
  await assert.rejects(cakework.buildImageFromFiles({ dockerfile: "FRON x", files: [] }).then((build) => cakework.waitForBuild(build.buildId)));
});
