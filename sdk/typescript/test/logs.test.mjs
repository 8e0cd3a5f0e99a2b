import assert from "node:assert/strict";
import { test } from "node:test";
import { badLine, bin, client, collect, imageId } from "./support.mjs";

const cakework = client();
const LINES = 3000;

/** A one-time VM that writes numbered lines and ends. */
async function writer(t, pause = 0) {
  const build = await cakework.buildImageFromFiles({
    dockerfile: `FROM cakework/${imageId}\nENTRYPOINT []\nCMD ["python3", "-u", "-c", "import time\\nfor n in range(${LINES}):\\n  print('line', n)\\n  time.sleep(${pause})"]`,
    files: [],
  });
  const { imageId: built } = await cakework.waitForBuild(build.buildId);
  return bin(t)(await cakework.startVm({ imageId: built, metadata: { of: "writer" } }));
}

const expected = Array.from({ length: LINES }, (_, n) => `line ${n}`);

test("a log that is followed over a line that breaks has each line once", async (t) => {
  const vm = await writer(t, 0.001);
  const line = await badLine(t, (connection) => 2_000 + ((connection * 7919) % 20_000));
  const seen = [];
  const follower = client({ environment: line.url }).followVmLogs(vm.id);
  let end;
  for (;;) {
    const { done, value } = await follower.next();
    if (done) {
      end = value;
      break;
    }
    seen.push(value.message);
  }
  assert.deepEqual(seen, expected);
  assert.equal(end, "destroyed");
  assert.ok(line.cuts > 5, `${line.cuts} cuts`);
});

test("pages of a log, and of a search, hold each line once", async (t) => {
  const vm = await writer(t);
  await cakework.waitForVm(vm.id, "destroyed");
  const all = await collect(cakework.allVmLogs(vm.id, { batch: 1000 }));
  assert.deepEqual(all.map((line) => line.message), expected);
  assert.equal(typeof all[0].timestamp, "number");
  const newest = await cakework.getVmLogs(vm.id, { order: "newest_first", batch: 50, query: "LINE" });
  assert.equal(newest.lines[0].message, `line ${LINES - 1}`);
  const found = await collect(cakework.searchAllLogs({ metadata: { of: "writer" }, query: "line 29", batch: 50 }));
  assert.ok(found.filter((line) => line.vmId === vm.id).length === 111, `${found.length}`);
});

test("a log that is followed ends with the signal, and says what can't be followed", async (t) => {
  const vm = bin(t)(await cakework.startVm({ imageId, port: 8080 }));
  const control = new AbortController();
  setTimeout(() => control.abort(new Error("enough")), 300);
  await assert.rejects(collect(cakework.followVmLogs(vm.id, {}, { signal: control.signal })), /enough/);
  await assert.rejects(collect(cakework.followVmLogs("00000000000000")), (error) => error.code === "unknown_vm");
  // A server that is away is given up.
  const none = client({ environment: "http://127.0.0.1:9" });
  const from = Date.now();
  const giving = new AbortController();
  setTimeout(() => giving.abort(new Error("waited")), 2_000);
  await assert.rejects(collect(none.followVmLogs(vm.id, {}, { signal: giving.signal })), /waited/);
  assert.ok(Date.now() - from >= 1_900, "it tries again");
});
