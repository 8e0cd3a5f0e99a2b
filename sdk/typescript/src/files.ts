// The files of a VM that runs.
import type { FileEntry, FileList, VmId } from "./api.js";
import { CakeworkApiError, ConflictError } from "./errors.js";
import type { Call, RequestOptions, Transport } from "./http.js";
import { read } from "./wire.js";

/** Large files take their time; this is what the server allows. */
const TRANSFER_MS = 60 * 60 * 1000;

/** The files of one VM. Paths are absolute and resolved in the VM; one that sleeps is woken. */
export class VmFiles {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, id: VmId) {
    this.#transport = transport;
    this.#path = `/v1/vm/${encodeURIComponent(id)}/files`;
  }

  /** A file's bytes. */
  async read(path: string, options?: RequestOptions): Promise<Uint8Array> {
    const response = await this.#file(path, options);
    return new Uint8Array(await whole(response.arrayBuffer()));
  }

  /** A file's text. */
  async readText(path: string, options?: RequestOptions): Promise<string> {
    return whole((await this.#file(path, options)).text());
  }

  /** A file's bytes as they come. */
  async stream(path: string, options?: RequestOptions): Promise<ReadableStream<Uint8Array>> {
    return bodyOf(await this.#file(path, options));
  }

  /** What is in a directory. */
  async list(path: string, options?: RequestOptions): Promise<FileList> {
    const response = await this.#transport.open(this.#call("GET", { path }), options);
    if (!isList(response)) {
      await response.body?.cancel();
      throw new ConflictError({ statusCode: 409, message: `${path} is not a directory` });
    }
    return read(await response.json(), "FileList");
  }

  /** Writes a file, whole or not at all. `mode` is in octal digits, such as `0755`. */
  async write(path: string, data: BodyInit, { mode, ...options }: RequestOptions & { mode?: string } = {}): Promise<FileEntry> {
    return this.#put({ path, mode }, data, options);
  }

  /** Makes a directory, with those on the way. */
  async makeDirectory(path: string, { mode, ...options }: RequestOptions & { mode?: string } = {}): Promise<FileEntry> {
    return this.#put({ path, mode, directory: true }, "", options);
  }

  /** Removes a file, a link or an empty directory; with `recursive` also what is in it. */
  async remove(path: string, { recursive, ...options }: RequestOptions & { recursive?: boolean } = {}): Promise<void> {
    await this.#transport.json(this.#call("DELETE", { path, recursive }), options);
  }

  /** A directory as a tar archive. */
  async download(path: string, options?: RequestOptions): Promise<ReadableStream<Uint8Array>> {
    return bodyOf(await this.#transport.open(this.#call("GET", { path, format: "tar" }), options));
  }

  /** Unpacks a tar archive into a directory. */
  async upload(path: string, archive: BodyInit, options?: RequestOptions): Promise<FileEntry> {
    return this.#put({ path, format: "tar" }, archive, options);
  }

  #call(method: Call["method"], query: Record<string, unknown>): Call {
    return { method, path: this.#path, query, again: "always" };
  }

  async #put(query: Record<string, unknown>, body: BodyInit, options: RequestOptions = {}): Promise<FileEntry> {
    const call = { ...this.#call("PUT", query), body, headers: { "content-type": "application/octet-stream" } };
    return read(await this.#transport.json(call, { timeoutMs: TRANSFER_MS, ...options }), "FileEntry");
  }

  async #file(path: string, options?: RequestOptions): Promise<Response> {
    const call = { ...this.#call("GET", { path }), headers: { accept: "application/octet-stream" } };
    const response = await this.#transport.open(call, options);
    if (isList(response)) {
      await response.body?.cancel();
      throw new ConflictError({ statusCode: 409, message: `${path} is a directory` });
    }
    return response;
  }
}

const isList = (response: Response) => response.headers.get("content-type")?.startsWith("application/json") ?? false;

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  return response.body ?? new Response("").body!;
}

async function whole<T>(body: Promise<T>): Promise<T> {
  try {
    return await body;
  } catch (cause) {
    throw new CakeworkApiError({ message: "the file broke off", cause });
  }
}
