import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import { Latchkey } from "../../client/src/latchkey.js";
import { Server } from "./stand_ins.mjs";

/** Listen on a separate port, which is a separate origin. */
async function listen(context, answer) {
  const heard = [];
  const server = createServer((request, response) => {
    heard.push([request.url, request.headers.authorization]);
    answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close().closeAllConnections());
  return { url: `http://127.0.0.1:${server.address().port}`, heard };
}

test("a redirect takes the token to no other server", async (context) => {
  const stranger = await listen(context, (request, response) => response.end());
  const own = await listen(context, ({ url }, response) => {
    if (url === "/auth/login") return response.end(JSON.stringify(new Server().start()));
    if (url === "/away") return response.writeHead(307, { Location: `${stranger.url}/taken` }).end();
    if (url === "/moved") return response.writeHead(307, { Location: "/here" }).end();
    return response.end();
  });
  const client = new Latchkey({ base: own.url });
  await client.login("ann", "secret");
  for (const [path, init] of [
    ["/away", {}],
    ["/away", { method: "POST", body: "x" }],
    ["/moved", {}],
  ]) {
    assert.equal((await client.fetch(path, init)).status, 200);
  }
  const token = `Bearer ${await client.token()}`;
  assert.deepEqual(stranger.heard, [
    ["/taken", undefined],
    ["/taken", undefined],
  ]);
  assert.deepEqual(own.heard.slice(1), [
    ["/away", token],
    ["/away", token],
    ["/moved", token],
    ["/here", token],
  ]);
});
