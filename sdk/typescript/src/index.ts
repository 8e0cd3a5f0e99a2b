export * as CakeworkApi from "./api.js";
export { CakeworkApiClient, type ExecEvent, type WaitOptions } from "./client.js";
export { CakeworkApiEnvironment } from "./environments.js";
export { CakeworkApiError, CakeworkApiTimeoutError } from "./errors.js";
export { ExecSession, type ExecOutput, type WebSocketClass, type WebSocketLike } from "./exec.js";
export { VmFiles } from "./files.js";
export type { RequestOptions, Supplier } from "./http.js";
export { verifyWebhook, WebhookVerificationError } from "./webhooks.js";
