// One call of the API: its time, its tries, and the error it ends with.
import { CakeworkApiError, CakeworkApiTimeoutError, failure } from "./errors.js";

/** A value, or what gives one when it is needed, such as a key from a vault. */
export type Supplier<T> = T | Promise<T> | (() => T | Promise<T>);

/** What may be said beside any call. */
export interface RequestOptions {
  /** Time for the call with all its tries, in milliseconds; of a stream the time until it begins. */
  timeoutMs?: number;
  /** How often it is sent again after 429, 502, 503, 504 or a lost connection; only where that can do nothing twice. */
  maxRetries?: number;
  /** Ends the call. */
  signal?: AbortSignal;
  /** Of a call that makes something: sent again with it within a day, it makes nothing again. By default a new one. */
  idempotencyKey?: string;
}

/** How often a call may be sent. */
export type Again = "always" | "with-key" | "never";

export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  query?: Record<string, unknown>;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  again: Again;
}

export interface TransportOptions {
  baseUrl: string;
  key: Supplier<string | undefined>;
  timeoutMs: number;
  maxRetries: number;
  fetch: typeof fetch;
}

const RETRIED = new Set([429, 502, 503, 504]);
const PAUSE_MS = 200;
const PAUSE_MAX_MS = 5_000;
/** Bytes of a failure's body that are read: a proxy's error page may be of any length. */
const FAILURE_MAX_BYTES = 64 * 1024;

export class Transport {
  constructor(readonly options: TransportOptions) {}

  url(path: string, query: Record<string, unknown> = {}): URL {
    const url = new URL(this.options.baseUrl.replace(/\/+$/, "") + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null) url.searchParams.append(name, String(value));
    }
    return url;
  }

  /** The call's JSON; nothing where the answer has none. */
  async json(call: Call, options: RequestOptions = {}): Promise<unknown> {
    return this.#tried(call, options, false, async (response) => {
      const text = await response.text();
      if (text === "") return undefined;
      try {
        return JSON.parse(text);
      } catch {
        throw new CakeworkApiError({ statusCode: response.status, body: text, message: "the answer is not JSON: is this URL the API's?" });
      }
    });
  }

  /** The call's answer, its body not yet read; the call's time ends here. */
  async open(call: Call, options: RequestOptions = {}): Promise<Response> {
    return this.#tried(call, options, true, async (response) => response);
  }

  /** `isLeftOpen`: the body is read after the call, and the caller's signal still ends that. */
  async #tried<T>(call: Call, options: RequestOptions, isLeftOpen: boolean, use: (response: Response) => Promise<T>): Promise<T> {
    const { signal, timeoutMs = this.options.timeoutMs, maxRetries = this.options.maxRetries } = options;
    const deadline = Date.now() + timeoutMs;
    const headers: Record<string, string> = { accept: "application/json", ...call.headers };
    if (call.again === "with-key") headers["idempotency-key"] = options.idempotencyKey ?? newKey();
    const body = call.json === undefined ? call.body : JSON.stringify(call.json);
    if (call.json !== undefined) headers["content-type"] = "application/json";
    const retries = call.again === "never" || isStream(body) ? 0 : maxRetries;
    for (let tried = 0; ; tried++) {
      const clock = new Clock(deadline, signal);
      let error: unknown;
      try {
        const key = await supplied(this.options.key);
        if (key) headers["x-api-key"] = key;
        const request: RequestInit & { duplex?: "half" } = { method: call.method, headers, signal: clock.signal, redirect: "error" };
        if (body !== undefined) request.body = body;
        if (isStream(body)) request.duplex = "half";
        const response = await this.options.fetch(this.url(call.path, call.query), request);
        if (response.ok) {
          const used = await use(response);
          if (isLeftOpen) clock.leave();
          return used;
        }
        error = failure(response.status, await saidBy(response), retryAfter(response));
        // What an earlier try has removed is gone, as was asked for.
        if (call.method === "DELETE" && tried > 0 && response.status === 404) return undefined as T;
      } catch (caught) {
        clock.check(caught);
        error = caught instanceof CakeworkApiError ? caught : unreachable(this.options.baseUrl, caught);
      } finally {
        clock.stop();
      }
      const pause = pauseAfter(error, tried);
      if (tried >= retries || pause === undefined || Date.now() + pause >= deadline) throw error;
      await sleep(pause, signal);
    }
  }
}

/** Time before a call that failed is sent again, in milliseconds; none where that would not help. */
export function pauseAfter(error: unknown, tried: number): number | undefined {
  if (!(error instanceof CakeworkApiError)) return undefined;
  const isOver = error.code === "request_in_progress";
  if (error.statusCode !== undefined && !RETRIED.has(error.statusCode) && !isOver) return undefined;
  if (error.retryAfterSeconds !== undefined) return error.retryAfterSeconds * 1000 * (1 + Math.random() / 10);
  return Math.random() * Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** tried) + PAUSE_MS / 2;
}

/** Waits; ends early, with the signal's reason. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** A try's time, and the caller's signal, as one signal. */
class Clock {
  readonly #control = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #outer: AbortSignal | undefined;
  #isOver = false;
  #isLeft = false;

  constructor(deadline: number, outer?: AbortSignal) {
    this.#outer = outer;
    if (outer?.aborted) this.#control.abort(outer.reason);
    outer?.addEventListener("abort", this.#pass, { once: true });
    this.#timer = setTimeout(() => {
      this.#isOver = true;
      this.#control.abort();
    }, Math.max(0, deadline - Date.now()));
  }

  get signal(): AbortSignal {
    return this.#control.signal;
  }

  readonly #pass = () => this.#control.abort(this.#outer?.reason);

  /** Throws what the end of the time or the caller's signal stands for. */
  check(caught: unknown): void {
    if (this.#isOver) throw new CakeworkApiTimeoutError();
    if (this.#outer?.aborted) throw this.#outer.reason ?? caught;
  }

  /** The try is over, but for its body. */
  leave(): void {
    this.#isLeft = true;
  }

  /** The time is no more; who has no more to do with the caller's signal does not listen to it either. */
  stop(): void {
    clearTimeout(this.#timer);
    if (!this.#isLeft) this.#outer?.removeEventListener("abort", this.#pass);
  }
}

async function supplied<T>(supplier: Supplier<T>): Promise<T> {
  return typeof supplier === "function" ? (supplier as () => T | Promise<T>)() : supplier;
}

function newKey(): string {
  const random = () => Math.floor(Math.random() * 2 ** 32).toString(16);
  return globalThis.crypto?.randomUUID?.() ?? [random(), random(), random(), random()].join("-");
}

function isStream(body: unknown): body is ReadableStream {
  return typeof ReadableStream !== "undefined" && body instanceof ReadableStream;
}

/** A failure's body: a problem, or a text that is not too long to be shown. */
async function saidBy(response: Response): Promise<unknown> {
  const reader = response.body?.getReader();
  if (!reader) return undefined;
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    text += decoder.decode(value, { stream: !done });
    if (done) break;
    if (text.length >= FAILURE_MAX_BYTES) {
      await reader.cancel();
      break;
    }
  }
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function retryAfter(response: Response): number | undefined {
  const text = response.headers.get("retry-after");
  return text !== null && /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}

function unreachable(baseUrl: string, cause: unknown): CakeworkApiError {
  const why = cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : String(cause);
  return new CakeworkApiError({ message: `${baseUrl} can't be reached: ${why}`, cause });
}
