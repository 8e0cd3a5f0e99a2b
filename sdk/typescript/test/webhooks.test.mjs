import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { CakeworkApi, verifyWebhook, WebhookVerificationError } from "@cakework/client";
import { bin, client, collect, imageId, serve } from "./support.mjs";

test("events of a real server are verified, and nothing else is", async (t) => {
  const cakework = client();
  const heard = [];
  const address = await serve(t, (request, response) => {
    let body = "";
    request.on("data", (part) => (body += part)).on("end", () => {
      heard.push({ body, headers: request.headers });
      response.writeHead(204).end();
    });
  });
  const webhook = await cakework.createWebhook({ url: address, events: ["vm.started"] });
  t.after(() => cakework.deleteWebhook(webhook.webhookId));
  assert.match(webhook.secret, /^whsec_/);
  assert.ok(webhook.createdAt instanceof Date);
  const vm = bin(t)(await cakework.startVm({ imageId }));
  await cakework.testWebhook(webhook.webhookId);
  for (let tried = 0; heard.length < 2; tried++) {
    assert.ok(tried < 200, `heard ${heard.length}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const seen = heard.map(({ body, headers }) => verifyWebhook(body, headers, webhook.secret));
  const started = seen.find((event) => event.type === "vm.started");
  assert.equal(started.data.vmId, vm.id);
  assert.ok(started.timestamp instanceof Date);
  assert.ok(seen.some((event) => event.type === "ping"));
  const [{ body, headers }] = heard;
  const bytes = new TextEncoder().encode(body);
  assert.ok(verifyWebhook(bytes, new Headers(Object.entries(headers).filter(([, value]) => typeof value === "string")), webhook.secret));
  for (const [text, changed] of [
    [`${body} `, headers],
    [body, { ...headers, "webhook-id": "msg_other" }],
    [body, { ...headers, "webhook-signature": "v1,AAAA" }],
    [body, {}],
    [body, old(body, headers, webhook.secret)],
  ]) {
    assert.throws(() => verifyWebhook(text, changed, webhook.secret), WebhookVerificationError);
  }
  const sent = await collect(cakework.allWebhookDeliveries(webhook.webhookId, { limit: 1 }));
  assert.equal(sent.length, 2);
  assert.ok(sent.every((delivery) => delivery.state === "delivered" && delivery.createdAt instanceof Date));
  const rotated = await cakework.rotateWebhookSecret(webhook.webhookId, { graceSeconds: 0 });
  assert.notEqual(rotated.secret, webhook.secret);
  await assert.rejects(cakework.replayWebhookDelivery(webhook.webhookId, "01GV2ZFBT345TRTRDK6VHBEVEN"), CakeworkApi.DoesNotExistError);
});

/** The same event, rightly signed ten minutes ago. */
function old(body, headers, secret) {
  const at = String(Math.floor(Date.now() / 1000) - 600);
  const signed = createHmac("sha256", Buffer.from(secret.slice("whsec_".length), "base64")).update(`${headers["webhook-id"]}.${at}.${body}`).digest("base64");
  return { ...headers, "webhook-timestamp": at, "webhook-signature": `v1,${signed}` };
}
