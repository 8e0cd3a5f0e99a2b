// What works in each runtime: the calls, streams and the WebSocket that are the runtime's own. Run by `runtimes.test.mjs` with
// Deno and Bun, and by the browser's page; it uses nothing of Node's.
export async function everywhere({ CakeworkApi, CakeworkApiClient, verifyWebhook }, { url, key, imageId }) {
  const equal = (left, right, what) => {
    if (JSON.stringify(left) !== JSON.stringify(right)) throw new Error(`${what}: ${JSON.stringify(left)}, not ${JSON.stringify(right)}`);
  };
  const cakework = new CakeworkApiClient({ environment: url, xApiKey: key });
  const vm = await cakework.startVm({ imageId, port: 8080 });
  try {
    const started = await cakework.waitForVm(vm.id);
    equal(started.createdAt instanceof Date, true, "a moment");
    equal((await cakework.exec(vm.id, { command: "echo $((6 * 7))" })).stdout, "42\n", "a command");
    let streamed = "";
    for await (const event of cakework.execStream(vm.id, { command: "echo a; sleep 0.1; echo b" })) streamed += event.data ?? `exit ${event.exit.code}`;
    equal(streamed, "a\nb\nexit 0", "a streamed command");
    await cakework.files(vm.id).write("/tmp/x", new Uint8Array([0, 1, 255]));
    equal([...(await cakework.files(vm.id).read("/tmp/x"))], [0, 1, 255], "a file");
    const { ticket } = await cakework.createExecTicket(vm.id);
    // As a page that has no key does.
    const shell = await new CakeworkApiClient({ environment: url }).openExec(vm.id, { command: "read word; echo got $word", tty: true }, { ticket });
    shell.write("it\n");
    let typed = "";
    for await (const { data } of shell) typed += new TextDecoder().decode(data);
    equal([typed.includes("got it"), (await shell.exit).code], [true, 0], `a terminal: ${typed}`);
    await cakework.getVm("00000000000000").then(
      () => equal(1, 2, "an absent VM"),
      (error) => equal([error instanceof CakeworkApi.DoesNotExistError, error.code], [true, "unknown_vm"], "an error"),
    );
    let first;
    for await (const line of cakework.followVmLogs(vm.id)) {
      first = line;
      break;
    }
    equal(typeof first.message, "string", "a followed log");
  } finally {
    await cakework.stopVm(vm.id);
  }
  const bad = () => verifyWebhook("{}", {}, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  try {
    bad();
    equal(1, 2, "an unsigned event");
  } catch (error) {
    equal(error.constructor.name, "WebhookVerificationError", String(error));
  }
  return "everything worked";
}
