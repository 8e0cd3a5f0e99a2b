#!/usr/bin/env node
// The product's command line, which its users have. It knows the product alone: no Cakework, no Docker, no key of either.
//
//   eventing deploy USER FILE…            uploads handlers and waits until they are live
//   eventing send USER HANDLER EVENT      has an event in JSON delivered, and shows the answer
//   eventing logs USER
import { readFile } from "node:fs/promises";
import { basename } from "node:path";

const product = process.env.EVENTING_URL ?? "http://localhost:4000";

async function call(method, path, body) {
  const answer = await fetch(product + path, { method, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

const commands = {
  async deploy(user, ...paths) {
    const files = await Promise.all(paths.map(async (path) => ({ dir: ".", name: basename(path), content: await readFile(path, "utf8") })));
    await call("POST", "/deploy", { user, files });
    for (;;) {
      const { state, error } = await call("GET", `/status?user=${user}`);
      if (state === "ready") return console.log("live");
      if (state === "failed") throw new Error(error);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  },
  async send(user, handler, event) {
    const { status, result, error } = await call("POST", "/events", { user, handler, event: JSON.parse(event) });
    if (error) throw new Error(`${status}: ${error}`);
    console.log(JSON.stringify(result));
  },
  async logs(user) {
    const { lines } = await call("GET", `/logs?user=${user}`);
    for (const { message } of lines) console.log(message);
  },
};

const [name, ...words] = process.argv.slice(2);
try {
  if (!Object.hasOwn(commands, name ?? "")) throw new Error("eventing deploy USER FILE… | send USER HANDLER EVENT | logs USER");
  await commands[name](...words);
} catch (error) {
  console.error(`eventing: ${error.message}`);
  process.exitCode = 1;
}
