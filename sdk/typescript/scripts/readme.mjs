// The TypeScript blocks of README.md: written into test/readme.ts for the compiler, and with --run also run, one after the other as
// a reader would, against the server of the environment.
import assert from "node:assert/strict";
import dns from "node:dns";
import { readFile, writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import ts from "typescript";

const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
const imports = new Set();
const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) =>
  code.replace(/^import \{ (.*) \} from "@cakework\/client";\n/gm, (_, names) => {
    for (const name of names.split(", ")) imports.add(name);
    return "";
  }),
);
if (blocks.length < 7) throw new Error("README.md has hardly any code");

// Each block is a function; what it takes from a reader's own program, or from the blocks before, is declared.
const declared = `
declare const process: { env: Record<string, string | undefined>; stdout: { write(text: string | Uint8Array): void } };
declare const cakework: CakeworkApiClient;
declare const vm: CakeworkApi.Vm;
declare const imageId: string;
declare const environment: string;
declare const ticket: string;
declare const terminal: { onData(listener: (text: string) => void): void; write(data: Uint8Array): void };
declare const request: Request;
declare const body: string;
declare const secret: string;
`;
const names = [...new Set([...imports, "CakeworkApi", "CakeworkApiClient"])].sort().join(", ");
const bodies = blocks.map((code, at) => `export async function block${at}() {\n${code}}\n`);
const text = `import { ${names} } from "@cakework/client";\n${declared}\n${bodies.join("\n")}`;
await writeFile(new URL("../test/readme.ts", import.meta.url), text);

if (process.argv.includes("--run")) await run();

async function run() {
  const { default: WebSocket } = await import("ws");
  globalThis.WebSocket ??= WebSocket;
  // *.localhost is this machine (RFC 6761), which not every resolver knows.
  const { lookup } = dns;
  dns.lookup = (name, ...rest) => lookup(name.endsWith(".localhost") ? "127.0.0.1" : name, ...rest);
  const printed = [];
  const { log } = console;
  console.log = (...words) => {
    printed.push(words.map((word) => (typeof word === "string" ? word : inspect(word))).join(" "));
    log(...words);
  };
  // A reader's own parts, before the block that needs them; `environment` is where this server is.
  const own = [
    [
      "const shell =",
      `const { ticket } = await cakework.createExecTicket(vm.id);
       const shown = [];
       const terminal = {
         onData: (listener) => setTimeout(listener, 500, "echo typed; exit 3\\r"),
         write: (data) => shown.push(Buffer.from(data).toString()),
       };`,
    ],
    ["followVmLogs", "setTimeout(() => cakework.stopVm(vm.id), 1000);"],
    [
      "verifyWebhook(",
      `const { Webhook } = await import("standardwebhooks");
       const body = JSON.stringify({ id: "evt_1", type: "build.succeeded", buildId, imageId, createdAt: new Date().toISOString() });
       const at = new Date();
       const request = { headers: {
         "webhook-id": "evt_1",
         "webhook-timestamp": String(Math.floor(at / 1000)),
         "webhook-signature": new Webhook(secret).sign("evt_1", at, body),
       } };`,
    ],
  ];
  const parts = blocks.map((code) => {
    const before = own.filter(([word]) => code.includes(word)).map(([, part]) => part);
    return [...before, code.replaceAll('"http://localhost:8081"', "environment")].join("\n");
  });
  const program = `import { ${names} } from "@cakework/client";
    export async function main(environment) {\n${parts.join("\n")}\nawait cakework.destroyCachedVm(handler.id);\nreturn shown;\n}`;
  const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
  const file = new URL("../test/readme.run.mjs", import.meta.url);
  await writeFile(file, ts.transpileModule(program, { compilerOptions: options }).outputText);
  const { main } = await import(file);
  const shown = await main(process.env.CAKEWORK_URL);
  assert.match(shown.join(""), /typed/, "the terminal");
  for (const line of [/^hello$/, /^Python 3/, /^ended with 0$/, /"debug":true/, /code: 3/, /^(paused|restored|created|cold) \d+$/]) {
    assert.ok(printed.some((said) => line.test(said)), `no line ${line} among:\n${printed.join("\n")}`);
  }
}
