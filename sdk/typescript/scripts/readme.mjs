// Writes the TypeScript blocks of README.md into test/readme.ts, for the compiler: what they take from a reader's own program is declared.
// Each block is a function; names of one are those of the ones before, as a reader has them.
import { readFile, writeFile } from "node:fs/promises";

const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
if (blocks.length < 5) throw new Error("README.md has hardly any code");
const imports = new Set();
const bodies = blocks.map((code, at) => {
  const own = code.replace(/^import \{ (.*) \} from "@cakework\/client";\n/gm, (_, names) => {
    for (const name of names.split(", ")) imports.add(name);
    return "";
  });
  return `export async function block${at}() {\n${own}}\n`;
});
const reader = `
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
imports.add("CakeworkApi").add("CakeworkApiClient");
const text = `import { ${[...imports].sort().join(", ")} } from "@cakework/client";\n${reader}\n${bodies.join("\n")}`;
await writeFile(new URL("../test/readme.ts", import.meta.url), text);
