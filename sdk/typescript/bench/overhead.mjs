// What the SDK adds to a call: getVm by it and by a bare `fetch`, in turns. Prints milliseconds as JSON.
import { CakeworkApiClient } from "@cakework/client";

const [url, key, vm, calls] = [process.env.CAKEWORK_URL, process.env.CAKEWORK_API_KEY, process.argv[2], Number(process.argv[3])];
const cakework = new CakeworkApiClient({ environment: url, xApiKey: key });

async function bare() {
  const answer = await fetch(`${url}/v1/vm/${vm}`, { headers: { "x-api-key": key } });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

const times = { sdk: [], bare: [] };
for (let call = -calls / 10; call < calls; call++) {
  for (const [name, one] of [["bare", bare], ["sdk", () => cakework.getVm(vm)]]) {
    const from = performance.now();
    await one();
    if (call >= 0) times[name].push(performance.now() - from);
  }
}
console.log(JSON.stringify(times));
