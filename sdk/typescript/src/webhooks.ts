// Events as an endpoint receives them.
import { Webhook as Verifier, WebhookVerificationError } from "standardwebhooks";
import type { Event } from "./api.js";
import { read } from "./wire.js";

export { WebhookVerificationError };

type HeaderValues = Headers | Record<string, string | string[] | undefined>;

/**
 * The event of a request to a webhook endpoint, once its signature was verified and it is fresh (five minutes).
 * `body` is the request's body as it came, not parsed. It may come twice: remember the header `webhook-id`.
 *
 * @throws {WebhookVerificationError} Where it is not of who has the secret, or old. Answer 400 and do nothing.
 */
export function verifyWebhook(body: string | Uint8Array, headers: HeaderValues, secret: string): Event {
  const text = typeof body === "string" ? body : new TextDecoder().decode(body);
  const plain: Record<string, string> = {};
  const pairs = typeof (headers as Headers).entries === "function" ? [...(headers as Headers).entries()] : Object.entries(headers);
  for (const [name, value] of pairs) {
    const first = Array.isArray(value) ? value[0] : value;
    if (typeof first === "string") plain[name.toLowerCase()] = first;
  }
  return read(new Verifier(secret).verify(text, plain), "Event");
}
