// What a builder does with code that a user wrote: an image of it, a VM, a call, its log, its end.
//
//   CAKEWORK_URL=http://localhost:8081 CAKEWORK_API_KEY=… node main.mjs
//
// BASE names another base image than Docker Hub's.
import { readFile } from "node:fs/promises";
import { CakeworkApi, CakeworkApiClient } from "@cakework/client";
import { get } from "./get.mjs";

const cakework = new CakeworkApiClient();
const base = process.env.BASE ?? "docker.io/library/python:3.12-slim";
const code = await readFile(new URL("code/main.py", import.meta.url), "utf8");

const { buildId } = await cakework.buildImageFromFiles({
  dockerfile: `FROM ${base}\nENTRYPOINT []\nCOPY . /app\nRUN python3 -m compileall -q /app\nCMD ["python3", "-u", "/app/main.py"]`,
  files: [{ dir: ".", name: "main.py", content: code }],
});
try {
  const { imageId } = await cakework.waitForBuild(buildId, { onLine: (line) => console.log(`  ${line.message}`) });
  console.log("built", imageId);

  const started = await cakework.startVm({ imageId, port: 8080, envVars: { WHOM: process.argv[2] ?? "builder" } });
  const vm = await cakework.waitForVm(started.id);
  console.log("runs at", vm.url);
  console.log("says", JSON.stringify(await get(vm.url)));

  await cakework.stopVm(vm.id);
  for await (const line of cakework.allVmLogs(vm.id)) console.log("logged", line.message);
  console.log("ended");
} catch (error) {
  if (!(error instanceof CakeworkApi.BuildFailedError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
