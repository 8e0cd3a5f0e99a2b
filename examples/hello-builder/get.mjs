// A VM's answer at its URL. Names below `localhost` are this machine, which not every resolver knows; any other name needs nothing
// but `fetch`.
import http from "node:http";

/** Sends a request to a VM and reads its answer. */
export function send(url, { method = "GET", headers = {}, body } = {}) {
  const { hostname, port, pathname, protocol } = new URL(url);
  if (!hostname.endsWith(".localhost")) {
    return fetch(url, { method, headers, body }).then(async (answer) => ({ status: answer.status, text: await answer.text() }));
  }
  if (protocol !== "http:") throw new Error(`${url} is no URL of a local server`);
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port: port || 80, path: pathname, method, headers: { host: port ? `${hostname}:${port}` : hostname, ...headers } };
    const request = http.request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => (text += part)).on("end", () => resolve({ status: response.statusCode, text }));
    });
    request.on("error", reject).end(body);
  });
}

export async function get(url) {
  return (await send(url)).text;
}
