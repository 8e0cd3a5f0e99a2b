// A command in a VM that is typed to.
import type { ExecExit, ExecInput } from "./api.js";
import { CakeworkApiError, CakeworkApiTimeoutError } from "./errors.js";

/** What a command wrote. With a terminal all of it is `stdout`. */
export interface ExecOutput {
  stream: "stdout" | "stderr";
  data: Uint8Array;
}

/** The part of the standard WebSocket that is used here: a browser's, Node's from 22 on, Deno's, Bun's, or the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  send(data: string | ArrayBufferView): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "open" | "message" | "close" | "error", listener: (event: any) => void): void;
}

export type WebSocketClass = new (url: string) => WebSocketLike;

const OPEN = 1;
const [STDIN, STDOUT] = [0, 1];
const OPENING_MS = 30_000;
/** Bytes of output that wait to be read; who reads none of it for longer loses the command. */
const WAITING_MAX_BYTES = 16 * 1024 * 1024;

/**
 * A command that runs in a VM. Iterating gives its output until it is over; then `exit` says how it ended.
 *
 * ```ts
 * const shell = await cakework.openExec(vm.id, { command: ["sh"], tty: { rows: 24, cols: 80 } });
 * shell.write("ls -l\n");
 * for await (const { data } of shell) process.stdout.write(data);
 * console.log(await shell.exit);
 * ```
 */
export class ExecSession implements AsyncIterable<ExecOutput> {
  /** How the command ended. Rejected where that is not known. */
  readonly exit: Promise<ExecExit>;
  readonly #socket: WebSocketLike;
  readonly #ready: ExecOutput[] = [];
  #waiting = 0;
  #wake = () => {};
  #error: unknown;
  #isOver = false;
  #settle!: { resolve(exit: ExecExit): void; reject(error: unknown): void };

  private constructor(socket: WebSocketLike) {
    this.#socket = socket;
    this.exit = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    // Whoever only iterates hears of a failure there.
    this.exit.catch(() => {});
    socket.addEventListener("message", (event) => this.#hear(event.data));
    socket.addEventListener("error", () => this.#end(new CakeworkApiError({ message: "the connection to the command broke off" })));
    socket.addEventListener("close", () => this.#end(new CakeworkApiError({ message: "the connection to the command was closed" })));
  }

  /** Opens the socket and starts the command. */
  static open(Class: WebSocketClass, url: URL, input: ExecInput): Promise<ExecSession> {
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new Class(url.href);
    socket.binaryType = "arraybuffer";
    const session = new ExecSession(socket);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.close();
        reject(new CakeworkApiTimeoutError("the command's WebSocket did not open in time"));
      }, OPENING_MS);
      session.exit.catch((error) => {
        clearTimeout(timer);
        reject(error);
      });
      socket.addEventListener("open", () => {
        clearTimeout(timer);
        socket.send(JSON.stringify(input));
        resolve(session);
      });
    });
  }

  /** Standard input, or what is typed. */
  write(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const message = new Uint8Array(bytes.length + 1);
    message[0] = STDIN!;
    message.set(bytes, 1);
    this.#send(message);
  }

  /** No more input; at a terminal Ctrl-D. */
  eof(): void {
    this.#send(JSON.stringify({ type: "eof" }));
  }

  /** The terminal has another size. */
  resize(size: { rows: number; cols: number }): void {
    this.#send(JSON.stringify({ type: "resize", rows: size.rows, cols: size.cols }));
  }

  /** Sends a signal by its name or number, such as `TERM`. */
  signal(signal: string | number): void {
    this.#send(JSON.stringify({ type: "signal", signal }));
  }

  /** Hangs up, which ends the command. */
  close(): void {
    this.#socket.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ExecOutput, void> {
    for (;;) {
      const next = this.#ready.shift();
      if (next) {
        this.#waiting -= next.data.length;
        yield next;
      } else if (this.#isOver) {
        if (this.#error) throw this.#error;
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  #send(message: string | Uint8Array): void {
    if (this.#isOver || this.#socket.readyState !== OPEN) throw new CakeworkApiError({ message: "the command is over" });
    this.#socket.send(message);
  }

  #hear(message: unknown): void {
    if (this.#isOver) return;
    if (typeof message === "string") {
      const said = JSON.parse(message) as { type: string; exit: ExecExit; code?: string; detail?: string };
      if (said.type === "exit") this.#end(undefined, said.exit);
      if (said.type === "error") this.#end(new CakeworkApiError({ message: said.detail, body: said }));
      return;
    }
    const bytes = new Uint8Array(message as ArrayBuffer);
    const output: ExecOutput = { stream: bytes[0] === STDOUT ? "stdout" : "stderr", data: bytes.subarray(1) };
    this.#waiting += output.data.length;
    if (this.#waiting > WAITING_MAX_BYTES) {
      this.#end(new CakeworkApiError({ message: `more than ${WAITING_MAX_BYTES} bytes of output were not read` }));
      return;
    }
    this.#ready.push(output);
    this.#wake();
  }

  #end(error: unknown, exit?: ExecExit): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    if (exit) this.#settle.resolve(exit);
    else this.#settle.reject(error);
    this.#socket.close();
    this.#wake();
  }
}
