// Server-sent events, and logs that are followed by them.
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { CakeworkApiError } from "./errors.js";
import { pauseAfter, sleep, type Call, type RequestOptions, type Transport } from "./http.js";

/** The server gives a sign of life every 15 s; a stream without any for this long is dead. */
const SILENCE_MS = 45_000;
/** How often in a row a stream may break without a word before it is given up. */
const BREAKS_MAX = 8;

/** The events of an answer until it ends. A stream that falls silent, or breaks, ends with an error. */
export async function* events(response: Response, signal?: AbortSignal): AsyncGenerator<EventSourceMessage, void> {
  const ready: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => void ready.push(event) });
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await within(SILENCE_MS, reader.read(), signal);
      parser.feed(decoder.decode(value, { stream: !done }));
      yield* ready.splice(0);
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/**
 * The lines of a log as they come, until there will be no more. A stream that was cut off goes on where it was: no line is
 * lost, none comes twice. Returns the server's word for how it ended.
 */
export async function* follow<Line>(transport: Transport, call: Call, options: RequestOptions = {}): AsyncGenerator<Line, string | undefined> {
  let last: string | undefined;
  let breaks = 0;
  for (;;) {
    try {
      const headers: Record<string, string> = { accept: "text/event-stream" };
      if (last !== undefined) headers["last-event-id"] = last;
      const response = await transport.open({ ...call, headers, again: "never" }, options);
      for await (const event of events(response, options.signal)) {
        if (event.event === "end") return (JSON.parse(event.data) as { status?: string }).status;
        if (event.event !== "log") continue;
        breaks = 0;
        last = event.id;
        yield JSON.parse(event.data) as Line;
      }
      throw new CakeworkApiError({ message: "the log's stream broke off" });
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      const pause = pauseAfter(error, breaks);
      if (pause === undefined || ++breaks > BREAKS_MAX) throw error;
      await sleep(pause, options.signal);
    }
  }
}

/** What a promise gives, unless it takes longer or the signal comes first. */
async function within<T>(ms: number, promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stop = () => {};
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CakeworkApiError({ message: "the stream fell silent" })), ms);
    stop = () => reject(signal?.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, end]);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw error instanceof CakeworkApiError ? error : new CakeworkApiError({ message: "the stream broke off", cause: error });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}
