// Compiled, not run: code as users of the published client have it, and what a newcomer writes.
import { CakeworkApi, CakeworkApiClient, CakeworkApiEnvironment, CakeworkApiError, CakeworkApiTimeoutError } from "@cakework/client";

export async function asBefore(): Promise<void> {
  const options: CakeworkApiClient.Options = { environment: CakeworkApiEnvironment.Production, xApiKey: async () => "key" };
  const client = new CakeworkApiClient(options);
  const input: CakeworkApi.StartVmInput = { imageId: "id", port: 8080, cpu: 1, memory: 256, envVars: { A: undefined }, volumeGb: 1 };
  const vm: CakeworkApi.Vm = await client.startVm(input);
  const created: Date = vm.createdAt;
  const volume: number | undefined = vm.volumeGb;
  const state: string = vm.state;
  const image: CakeworkApi.Image = await client.importImage({ imageUri: "uri", password: "password" });
  const file: CakeworkApi.File = { dir: ".", name: "handlers.js", content: "" };
  const files: CakeworkApi.BuildImageFromFilesInput = { dockerfile: "FROM x", files: [file] };
  const build: CakeworkApi.Build = await client.buildImageFromFiles(files);
  const request: CakeworkApi.GetBuildLogsRequest = { query: "q", batch: 50, order: "newest_first" as string };
  const logs: CakeworkApi.BuildLogs = await client.getBuildLogs(build.buildId, request);
  const lines: CakeworkApi.Line[] = logs.lines;
  const list: CakeworkApi.ListVMsResponse = await client.listVMs({ status: "started" });
  const cached: CakeworkApi.CachedVm = await client.cacheVm({ imageId: image.imageId, envVars: {} });
  const nothing: void = await client.stopCachedVm(cached.id);
  try {
    await client.destroyCachedVm(cached.id);
  } catch (error) {
    if (error instanceof CakeworkApi.DoesNotExistError || error instanceof CakeworkApi.ConflictError) throw error;
    if (error instanceof CakeworkApiTimeoutError) throw error;
    if (error instanceof CakeworkApiError) console.log(error.statusCode, error.body, error.code === "unknown_vm");
  }
  console.log(created, volume, state, lines, list.pagination, nothing);
}

export async function wrongly(client: CakeworkApiClient): Promise<void> {
  // @ts-expect-error a state that there is not
  await client.waitForVm("id", "running");
  // @ts-expect-error an image is needed
  await client.startVm({ port: 8080 });
  // @ts-expect-error a field that there is not
  await client.cacheVm({ imageId: "id", volumeGB: 1 });
  const { imageId } = await client.waitForBuild("id");
  imageId.toUpperCase();
  for await (const event of client.execStream("id", { command: ["ls"] })) {
    if (event.type === "exit") console.log(event.exit.code);
    else event.data.trim();
  }
}
