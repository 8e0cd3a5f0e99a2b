import type * as CakeworkApi from "./api.js";
import { CakeworkApiEnvironment } from "./environments.js";
import { BuildFailedError, CakeworkApiError, CakeworkApiTimeoutError, ConflictError, failure } from "./errors.js";
import { events, follow } from "./events.js";
import { ExecSession, type WebSocketClass } from "./exec.js";
import { VmFiles } from "./files.js";
import { sleep, Transport, type Again, type Call, type RequestOptions, type Supplier } from "./http.js";
import { read, write } from "./wire.js";

/** A piece of what a command says, in the order in which it came; the last one tells how it ended. */
export type ExecEvent = { type: "stdout" | "stderr"; data: string } | { type: "exit"; exit: CakeworkApi.ExecExit };

/** What a wait takes beside the options of its calls. */
export interface WaitOptions {
  /** Longest time to wait, in milliseconds. */
  timeoutMs?: number;
  /** Ends the wait. */
  signal?: AbortSignal;
}

export declare namespace CakeworkApiClient {
  interface Options {
    /** Where the API is; by default the variable `CAKEWORK_URL`, or else this machine. */
    environment?: CakeworkApiEnvironment | string;
    /** The key, or what gives it; by default the variable `CAKEWORK_API_KEY`. */
    xApiKey?: Supplier<string>;
    /** Time for a call with all its tries, in milliseconds: 60,000 by default. */
    timeoutMs?: number;
    /** How often a call is sent again where that can do nothing twice: 3 by default. */
    maxRetries?: number;
    /** In place of the runtime's own. */
    fetch?: typeof fetch;
    /** For `openExec` where the runtime has none, as Node before 22: `import { WebSocket } from "ws"`. */
    webSocket?: WebSocketClass;
  }
}

const WAIT_MS = 10 * 60 * 1000;
/** The server holds a wait for no longer. */
const WAIT_CALL_SECONDS = 50;
const POLL_MS = 250;
/** Beyond a command's own time, for its start and its answer. */
const EXEC_SLACK_MS = 15_000;
const EXEC_DEFAULT_SECONDS = 60;

/** The client of Cakework's API. */
export class CakeworkApiClient {
  readonly #transport: Transport;
  readonly #webSocket: WebSocketClass | undefined;

  constructor(options: CakeworkApiClient.Options = {}) {
    this.#webSocket = options.webSocket ?? (globalThis as { WebSocket?: WebSocketClass }).WebSocket;
    this.#transport = new Transport({
      baseUrl: options.environment ?? variable("CAKEWORK_URL") ?? CakeworkApiEnvironment.Local,
      key: options.xApiKey ?? variable("CAKEWORK_API_KEY"),
      timeoutMs: options.timeoutMs ?? 60_000,
      maxRetries: options.maxRetries ?? 3,
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    });
  }

  // Images and builds.

  /** Imports an image from a registry. It answers once the image is verified; its layers follow behind. */
  async importImage(request: CakeworkApi.ImportImageInput, options?: RequestOptions): Promise<CakeworkApi.Image> {
    return this.#make("/v1/image/import", request, "ImportImage", "ImportedImage", options);
  }

  /** An image, with how far it has arrived. */
  async getImage(id: CakeworkApi.ImageId, options?: RequestOptions): Promise<CakeworkApi.ImageInfo> {
    return this.#get(`/v1/image/${part(id)}`, {}, "Image", options);
  }

  /** A page of images, the newest first. */
  async listImages(request: CakeworkApi.ListImagesRequest = {}, options?: RequestOptions): Promise<CakeworkApi.ImageList> {
    return this.#get("/v1/images", request, "ImageList", options);
  }

  /** All images, page by page as they are needed. */
  allImages(request: CakeworkApi.ListImagesRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.ImageInfo> {
    return paged(request, async (page) => this.listImages(page, options), (page) => page.images);
  }

  /** Waits until an image is whole; throws where it fails. */
  async waitForImage(id: CakeworkApi.ImageId, options: WaitOptions = {}): Promise<CakeworkApi.ImageInfo> {
    const deadline = Date.now() + (options.timeoutMs ?? WAIT_MS);
    for (;;) {
      const image = await this.getImage(id, { signal: options.signal });
      if (image.state === "ready") return image;
      if (image.state === "failed") throw new ConflictError({ statusCode: 409, message: image.error?.message ?? `the image ${id} failed` });
      if (Date.now() + POLL_MS > deadline) throw new CakeworkApiTimeoutError(`the image ${id} did not arrive in time`);
      await sleep(POLL_MS, options.signal);
    }
  }

  /** Builds an image from files. Returns before the work starts: see `waitForBuild` and webhooks. */
  async buildImageFromFiles(request: CakeworkApi.BuildImageFromFilesInput, options?: RequestOptions): Promise<CakeworkApi.Build> {
    return this.#make("/v1/image/build/files", request, "BuildImageFromFiles", "Build", options);
  }

  /** Builds an image from a GitHub repository. Returns before the work starts. */
  async buildImageFromGithub(request: CakeworkApi.BuildImageFromGithubInput, options?: RequestOptions): Promise<CakeworkApi.Build> {
    return this.#make("/v1/image/build/github", request, "BuildImageFromGithub", "Build", options);
  }

  /** A build. */
  async getBuild(id: CakeworkApi.BuildId, options?: RequestOptions): Promise<CakeworkApi.Build> {
    return this.#get(`/v1/image/build/${part(id)}`, {}, "Build", options);
  }

  /** A page of builds, the newest first. */
  async listBuilds(request: CakeworkApi.ListBuildsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.BuildList> {
    return this.#get("/v1/builds", marked(request), "BuildList", options);
  }

  /** All builds, page by page as they are needed. */
  allBuilds(request: CakeworkApi.ListBuildsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Build> {
    return paged(request, async (page) => this.listBuilds(page, options), (page) => page.builds);
  }

  /** Cancels a build. */
  async cancelBuild(id: CakeworkApi.BuildId, options?: RequestOptions): Promise<CakeworkApi.Build> {
    return this.#post(`/v1/image/build/${part(id)}/cancel`, "always", "Build", options);
  }

  /** A page of a build's log. */
  async getBuildLogs(id: CakeworkApi.BuildId, request: CakeworkApi.GetBuildLogsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.BuildLogs> {
    return this.#get(`/v1/image/build/${part(id)}/logs`, request, "Logs", options);
  }

  /** A page of the log of a function's build. */
  async getFunctionBuildLogs(id: CakeworkApi.BuildId, request: CakeworkApi.GetBuildLogsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.BuildLogs> {
    return this.#get(`/v1/function/build/${part(id)}/logs`, request, "Logs", options);
  }

  /** The lines of a build's log as they come, until the build is over. */
  followBuildLogs(id: CakeworkApi.BuildId, request: CakeworkApi.GetBuildLogsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Line, string | undefined> {
    return this.#follow(`/v1/image/build/${part(id)}/logs`, request, options);
  }

  /**
   * Waits until a build has succeeded, handing its log's lines on as they come.
   *
   * @throws {CakeworkApi.BuildFailedError} Where it failed, with the line of the Dockerfile.
   */
  async waitForBuild(id: CakeworkApi.BuildId, options: WaitOptions & { onLine?: (line: CakeworkApi.Line) => void } = {}): Promise<CakeworkApi.Build & { imageId: string }> {
    const time = new AbortController();
    const stop = () => time.abort(options.signal?.reason);
    if (options.signal?.aborted) stop();
    options.signal?.addEventListener("abort", stop, { once: true });
    const timer = setTimeout(() => time.abort(new CakeworkApiTimeoutError(`the build ${id} was not over in time`)), options.timeoutMs ?? WAIT_MS);
    try {
      for (;;) {
        for await (const line of this.followBuildLogs(id, {}, { signal: time.signal })) options.onLine?.(line);
        const build = await this.getBuild(id, { signal: time.signal });
        if (build.status === "failed") throw new BuildFailedError(build);
        if (build.status === "succeeded" && build.imageId) return build as CakeworkApi.Build & { imageId: string };
        await sleep(POLL_MS, time.signal);
      }
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", stop);
    }
  }

  // VMs.

  /** Starts a one-time VM. */
  async startVm(request: CakeworkApi.StartVmInput, options?: RequestOptions): Promise<CakeworkApi.Vm> {
    return this.#make("/v1/vm/start", request, "StartVm", "Vm", options);
  }

  /** Ends a VM: its stop signal, then a kill. */
  async stopVm(id: CakeworkApi.VmId, options?: RequestOptions): Promise<void> {
    await this.#post(`/v1/vm/${part(id)}/stop`, "always", undefined, options);
  }

  /** A VM, one-time or cached. */
  async getVm(id: CakeworkApi.VmId, options?: RequestOptions): Promise<CakeworkApi.Vm> {
    return this.#get(`/v1/vm/${part(id)}`, {}, "Vm", options);
  }

  /** A page of VMs, the newest first. */
  async listVMs(request: CakeworkApi.ListVMsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.ListVMsResponse> {
    return this.#get("/v1/vms", marked(request), "VmList", options);
  }

  /** All VMs, page by page as they are needed. */
  allVMs(request: CakeworkApi.ListVMsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Vm> {
    return paged(request, async (page) => this.listVMs(page, options), (page) => page.vms);
  }

  /** Waits until a VM is in a state; throws where it is destroyed instead. */
  async waitForVm(id: CakeworkApi.VmId, state: CakeworkApi.VmState = "started", options: WaitOptions = {}): Promise<CakeworkApi.Vm> {
    const deadline = Date.now() + (options.timeoutMs ?? WAIT_MS);
    for (;;) {
      const seconds = Math.max(0, Math.min(WAIT_CALL_SECONDS, Math.ceil((deadline - Date.now()) / 1000)));
      const vm = await this.#get<CakeworkApi.Vm>(`/v1/vm/${part(id)}/wait`, { state, timeout: seconds }, "Vm", { signal: options.signal });
      if (vm.state === state) return vm;
      if (vm.state === "destroyed") {
        const why = [vm.exit?.reason, vm.exit?.message].filter(Boolean).join(": ");
        throw new ConflictError({ statusCode: 409, message: `the VM ${id} is over${why && ` (${why})`}`, body: vm });
      }
      if (Date.now() >= deadline) throw new CakeworkApiTimeoutError(`the VM ${id} is ${vm.state}, and was not ${state} in time`);
    }
  }

  /** A page of a VM's log, also after its end. */
  async getVmLogs(id: CakeworkApi.VmId, request: CakeworkApi.GetVmLogsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.VmLogs> {
    return this.#get(`/v1/vm/${part(id)}/logs`, request, "Logs", options);
  }

  /** All lines of a VM's log that there are now, page by page as they are needed. */
  allVmLogs(id: CakeworkApi.VmId, request: CakeworkApi.GetVmLogsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Line> {
    return paged(request, async (page) => this.getVmLogs(id, page, options), (page) => page.lines);
  }

  /** The lines of a VM's log as they come, until there will be no more. */
  followVmLogs(id: CakeworkApi.VmId, request: CakeworkApi.GetVmLogsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Line, string | undefined> {
    return this.#follow(`/v1/vm/${part(id)}/logs`, request, options);
  }

  /** A page of the lines of all VMs' logs, by time. */
  async searchLogs(request: CakeworkApi.SearchLogsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.FoundLogs> {
    return this.#get("/v1/logs", marked(request), "FoundLogs", options);
  }

  /** All lines of a search, page by page as they are needed. */
  searchAllLogs(request: CakeworkApi.SearchLogsRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.FoundLine> {
    return paged(request, async (page) => this.searchLogs(page, options), (page) => page.lines);
  }

  // Cached VMs.

  /** Caches a VM. It is started by `startCachedVm`, or by a request to its hostname. */
  async cacheVm(request: CakeworkApi.CacheVmInput, options?: RequestOptions): Promise<CakeworkApi.CachedVm> {
    return this.#make("/v1/vm/cache", request, "CacheVm", "Vm", options);
  }

  /** Starts a cached VM, or wakes it. Returns the VM, with how it started. */
  async startCachedVm(id: CakeworkApi.CachedVmId, options?: RequestOptions): Promise<CakeworkApi.Vm> {
    return this.#post(`/v1/vm/cached/${part(id)}/start`, "always", "Vm", options);
  }

  /** Stops a cached VM; it can be started again. */
  async stopCachedVm(id: CakeworkApi.CachedVmId, options?: RequestOptions): Promise<void> {
    await this.#post(`/v1/vm/cached/${part(id)}/stop`, "always", undefined, options);
  }

  /** Puts a cached VM to sleep; a request, a command or a start wakes it where it was. */
  async suspendVm(id: CakeworkApi.CachedVmId, options?: RequestOptions): Promise<void> {
    await this.#post(`/v1/vm/${part(id)}/suspend`, "always", undefined, options);
  }

  /** Destroys a cached VM with its volume. */
  async destroyCachedVm(id: CakeworkApi.CachedVmId, options?: RequestOptions): Promise<void> {
    await this.#post(`/v1/vm/${part(id)}/destroy`, "always", undefined, options);
  }

  /** A page of a cached VM's log, over all its runs. */
  async getCachedVmLogs(id: CakeworkApi.CachedVmId, request: CakeworkApi.GetVmLogsRequest = {}, options?: RequestOptions): Promise<CakeworkApi.CachedVmLogs> {
    return this.#get(`/v1/vm/cached/${part(id)}/logs`, request, "Logs", options);
  }

  // Commands and files in VMs.

  /** Runs a command in a VM and returns how it ended and what it wrote. A sleeping VM is woken. */
  async exec(id: CakeworkApi.VmId, request: CakeworkApi.ExecInput, options?: RequestOptions): Promise<CakeworkApi.ExecResult> {
    const call: Call = { method: "POST", path: `/v1/vm/${part(id)}/exec`, json: request, again: "never" };
    return read(await this.#transport.json(call, { timeoutMs: execTime(request), ...options }), "ExecResult");
  }

  /** Runs a command and hands on what it writes as it comes; the last event is its end. */
  async *execStream(id: CakeworkApi.VmId, request: CakeworkApi.ExecInput, options?: RequestOptions): AsyncGenerator<ExecEvent, void> {
    const headers = { accept: "text/event-stream" };
    const call: Call = { method: "POST", path: `/v1/vm/${part(id)}/exec`, json: request, headers, again: "never" };
    const response = await this.#transport.open(call, options);
    for await (const { event, data } of events(response, options?.signal)) {
      const said = JSON.parse(data);
      if (event === "stdout" || event === "stderr") yield { type: event, data: said.data };
      if (event === "error") throw failure(503, said);
      if (event === "exit") return yield { type: "exit", exit: said };
    }
    throw new CakeworkApiError({ message: "the command's stream broke off" });
  }

  /**
   * Runs a command that is typed to, with a terminal or without. In a browser, which should have no key, pass a ticket that
   * your own server made by `createExecTicket`.
   */
  async openExec(id: CakeworkApi.VmId, request: Omit<CakeworkApi.ExecInput, "stdin" | "encoding">, options: RequestOptions & { ticket?: string } = {}): Promise<ExecSession> {
    if (!this.#webSocket) {
      throw new CakeworkApiError({ message: "this runtime has no WebSocket: pass one to the client, such as that of the package `ws`" });
    }
    const ticket = options.ticket ?? (await this.createExecTicket(id, options)).ticket;
    return ExecSession.open(this.#webSocket, this.#transport.url(`/v1/vm/${part(id)}/exec`, { ticket }), request);
  }

  /** A ticket that opens commands in one VM for a minute, in place of a key. */
  async createExecTicket(id: CakeworkApi.VmId, options?: RequestOptions): Promise<CakeworkApi.ExecTicket> {
    return this.#post(`/v1/vm/${part(id)}/exec/ticket`, "never", "ExecTicket", options);
  }

  /** The files of a VM that runs. */
  files(id: CakeworkApi.VmId): VmFiles {
    return new VmFiles(this.#transport, id);
  }

  // Registries.

  /** Keeps the credential of a private registry, for builds and imports. */
  async putRegistry(request: CakeworkApi.PutRegistryInput, options?: RequestOptions): Promise<CakeworkApi.Registry> {
    const call: Call = { method: "POST", path: "/v1/registry", json: request, again: "always" };
    return read(await this.#transport.json(call, options), "Registry");
  }

  /** The registries whose credentials are kept, without these. */
  async listRegistries(options?: RequestOptions): Promise<CakeworkApi.Registry[]> {
    return (await this.#get<{ registries: CakeworkApi.Registry[] }>("/v1/registry", {}, "RegistryList", options)).registries;
  }

  /** Forgets the credential of a registry. */
  async deleteRegistry(host: string, options?: RequestOptions): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: "/v1/registry", query: { host }, again: "always" }, options);
  }

  // Webhooks.

  /** Makes a webhook endpoint; its secret is shown this once. See `verifyWebhook`. */
  async createWebhook(request: CakeworkApi.CreateWebhookInput, options?: RequestOptions): Promise<CakeworkApi.WebhookWithSecret> {
    return this.#make("/v1/webhook", request, "CreateWebhook", "WebhookSecret", options);
  }

  /** The webhook endpoints. */
  async listWebhooks(request: { tenant?: string } = {}, options?: RequestOptions): Promise<CakeworkApi.Webhook[]> {
    return (await this.#get<{ webhooks: CakeworkApi.Webhook[] }>("/v1/webhook", request, "WebhookList", options)).webhooks;
  }

  /** A webhook endpoint. */
  async getWebhook(id: CakeworkApi.WebhookId, options?: RequestOptions): Promise<CakeworkApi.Webhook> {
    return this.#get(`/v1/webhook/${part(id)}`, {}, "Webhook", options);
  }

  /** Removes a webhook endpoint, with what is on its way to it. */
  async deleteWebhook(id: CakeworkApi.WebhookId, options?: RequestOptions): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: `/v1/webhook/${part(id)}`, again: "always" }, options);
  }

  /** Gives a webhook endpoint a new secret; the one before signs, too, for `graceSeconds`. */
  async rotateWebhookSecret(id: CakeworkApi.WebhookId, { graceSeconds, ...options }: RequestOptions & { graceSeconds?: number } = {}): Promise<CakeworkApi.WebhookWithSecret> {
    return this.#post(`/v1/webhook/${part(id)}/rotate`, "never", "WebhookSecret", options, { graceSeconds });
  }

  /** Enables a webhook endpoint that was disabled. */
  async enableWebhook(id: CakeworkApi.WebhookId, options?: RequestOptions): Promise<CakeworkApi.Webhook> {
    return this.#post(`/v1/webhook/${part(id)}/enable`, "always", "Webhook", options);
  }

  /** Sends a webhook endpoint an event `ping`. */
  async testWebhook(id: CakeworkApi.WebhookId, options?: RequestOptions): Promise<CakeworkApi.Delivery> {
    return this.#post(`/v1/webhook/${part(id)}/test`, "never", "Delivery", options);
  }

  /** A page of what was sent to a webhook endpoint. */
  async listWebhookDeliveries(id: CakeworkApi.WebhookId, request: CakeworkApi.ListDeliveriesRequest = {}, options?: RequestOptions): Promise<CakeworkApi.DeliveryList> {
    return this.#get(`/v1/webhook/${part(id)}/deliveries`, request, "DeliveryList", options);
  }

  /** All that was sent to a webhook endpoint, page by page as it is needed. */
  allWebhookDeliveries(id: CakeworkApi.WebhookId, request: CakeworkApi.ListDeliveriesRequest = {}, options?: RequestOptions): AsyncGenerator<CakeworkApi.Delivery> {
    return paged(request, async (page) => this.listWebhookDeliveries(id, page, options), (page) => page.deliveries);
  }

  /** Delivers an event again. */
  async replayWebhookDelivery(id: CakeworkApi.WebhookId, eventId: string, options?: RequestOptions): Promise<CakeworkApi.Delivery> {
    return this.#post(`/v1/webhook/${part(id)}/deliveries/${part(eventId)}/replay`, "never", "Delivery", options);
  }

  async #get<T>(path: string, query: object, schema: string, options?: RequestOptions): Promise<T> {
    const timeoutMs = "timeout" in query ? { timeoutMs: (Number(query.timeout) + 10) * 1000 } : {};
    const call: Call = { method: "GET", path, query: query as Record<string, unknown>, again: "always" };
    return read(await this.#transport.json(call, { ...timeoutMs, ...options }), schema);
  }

  async #make<T>(path: string, request: unknown, input: string, schema: string, options?: RequestOptions): Promise<T> {
    const call: Call = { method: "POST", path, json: write(request, input), again: "with-key" };
    return read(await this.#transport.json(call, options), schema);
  }

  async #post<T>(path: string, again: Again, schema: string | undefined, options?: RequestOptions, query: Record<string, unknown> = {}): Promise<T> {
    const answer = await this.#transport.json({ method: "POST", path, query, again }, options);
    return (schema === undefined ? undefined : read(answer, schema)) as T;
  }

  #follow(path: string, request: CakeworkApi.GetVmLogsRequest, options?: RequestOptions): AsyncGenerator<CakeworkApi.Line, string | undefined> {
    return follow(this.#transport, { method: "GET", path, query: { ...request, follow: true }, again: "never" }, options);
  }
}

/** Everything of a list whose pages name the next one. */
async function* paged<Request extends object, Page extends { pagination?: string; from?: string; to?: string }, Item>(
  request: Request,
  page: (request: Request) => Promise<Page>,
  items: (page: Page) => Item[],
): AsyncGenerator<Item> {
  for (let next: Request | undefined = request; next; ) {
    const found: Page = await page(next);
    yield* items(found);
    if (!found.pagination) return;
    const { pagination, from, to } = found;
    next = { ...next, pagination, ...(from && { from }), ...(to && { to }) };
  }
}

/** Marks as the parameters that they are. */
function marked({ metadata = {}, ...request }: { metadata?: Record<string, string> }): Record<string, unknown> {
  return { ...request, ...Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`metadata.${name}`, value])) };
}

function execTime(request: CakeworkApi.ExecInput): number {
  return (request.timeoutSeconds ?? EXEC_DEFAULT_SECONDS) * 1000 + EXEC_SLACK_MS;
}

/** A part of a path: an id of somebody else's making leads nowhere else. */
function part(id: string): string {
  if (typeof id !== "string" || id === "" || id === "." || id === "..") throw new TypeError(`${JSON.stringify(id)} is not an id`);
  return encodeURIComponent(id);
}

/** A variable of the environment, where the runtime has one that may be read. */
function variable(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  try {
    return process?.env?.[name] || undefined;
  } catch {
    return undefined;
  }
}
