/** Servers for the tests of the adapters: the stand-in behind real HTTP, and others. */

import { once } from "node:events";
import { createServer } from "node:http";

import { BASE } from "../../tests/client/stand_ins.mjs";

/** Listen until the test is over, on a port of its own, which makes it an origin of its own. */
export async function listen(context, answer) {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close().closeAllConnections());
  return server.address().port;
}

/** Have the stand-in answer over HTTP; return its address. */
export async function serve(context, server) {
  const port = await listen(context, async (request, response) => {
    const { method, url, headers } = request;
    const body = method === "GET" ? undefined : Buffer.concat(await request.toArray());
    const answer = await server.fetch(new Request(BASE + url, { method, headers, body }));
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
  });
  return `http://127.0.0.1:${port}`;
}
