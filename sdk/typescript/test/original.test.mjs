// The client that was published for the original API, as its users have it, against this server: what works with it goes on
// working. It is not ours and not changed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CakeworkApi, CakeworkApiClient } from "@cakework/original/dist/index.js";
import { imageId, imagePassword, imageUri, key, url } from "./support.mjs";

const cakework = new CakeworkApiClient({ environment: url, xApiKey: key });

/** Until it is so; the original has no waiting of its own. */
async function until(look) {
  for (let tried = 0; tried < 300; tried++) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail("it never came to be");
}

test("every call of the published client", async () => {
  const imported = await cakework.importImage({ imageUri, password: imagePassword });
  assert.match(imported.imageId, /^[0-9A-HJKMNP-TV-Z]{26}$/);
  const build = await cakework.buildImageFromFiles({
    dockerfile: `FROM cakework/${imageId}\nCOPY . /srv\nRUN cat /srv/handlers.js`,
    files: [{ dir: ".", name: "handlers.js", content: "exports.greet = () => 'hello';" }],
  });
  assert.deepEqual([build.status, build.createdAt instanceof Date], ["created", true]);
  const built = await until(async () => {
    const now = await cakework.getBuild(build.buildId);
    return now.status === "created" ? undefined : now;
  });
  assert.equal(built.status, "succeeded");
  let logs = await cakework.getBuildLogs(build.buildId, { query: "EXPORTS.GREET", batch: 50, order: "newest_first" });
  assert.ok(logs.lines.length >= 1);
  logs = await cakework.getBuildLogs(build.buildId);
  assert.ok(logs.lines.length > 1);
  await assert.rejects(
    cakework.buildImageFromGithub({ dockerfile: "FROM scratch", token: "t", repository: "no/../slashes", branch: "main" }),
    CakeworkApi.BadRequest,
  );

  const vm = await cakework.startVm({ imageId: built.imageId, port: 8080, cpu: 1, memory: 256, envVars: { A: "b" }, volumeGb: 1 });
  assert.deepEqual([vm.port, vm.cpu, vm.memory, vm.volumeGb, vm.createdAt instanceof Date], [8080, 1, 256, 1, true]);
  await until(async () => (await cakework.getVm(vm.id)).state === "started");
  const listed = await cakework.listVMs({ imageId: built.imageId, status: "started" });
  assert.deepEqual(listed.vms.map((one) => one.id), [vm.id]);
  await until(async () => (await cakework.getVmLogs(vm.id)).lines.length > 0);
  assert.equal(await cakework.stopVm(vm.id), undefined);

  const cached = await cakework.cacheVm({ imageId: built.imageId, port: 8080, envVars: { A: "b" } });
  assert.ok(cached.hostname.includes("."));
  assert.equal(await cakework.startCachedVm(cached.id), undefined);
  assert.equal((await cakework.getVm(cached.id)).state, "started");
  await until(async () => (await cakework.getCachedVmLogs(cached.id)).lines.length > 0);
  assert.equal(await cakework.stopCachedVm(cached.id), undefined);
  assert.equal(await cakework.destroyCachedVm(cached.id), undefined);

  await assert.rejects(cakework.getVm("00000000000000"), CakeworkApi.DoesNotExistError);
  await assert.rejects(cakework.startVm({ imageId: "none" }), CakeworkApi.DoesNotExistError);
  await assert.rejects(cakework.startVm({ imageId, cpu: 99 }), CakeworkApi.BadRequest);
  await assert.rejects(new CakeworkApiClient({ environment: url, xApiKey: "wrong" }).listVMs(), CakeworkApi.UnauthorizedError);
});
