import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import axios, { AxiosError } from "axios";
import { Latchkey } from "latchkey-client";
import { connect } from "latchkey-client/axios";

import { Server, refusal } from "../../tests/client/stand_ins.mjs";
import { listen, serve } from "./servers.mjs";

let server, base, client;

beforeEach(async (context) => {
  server = new Server();
  base = await serve(context, server);
  client = new Latchkey({ base });
  await client.login("ann", "secret");
});

/** An instance that is connected to the client. */
function connected(options = {}) {
  const instance = axios.create({ baseURL: base, ...options });
  connect(instance, client);
  return instance;
}

test("a request has the access token", async () => {
  const { data } = await connected().get("/api/me/", { params: { a: 1 } });
  assert.equal(server.requests.at(-1).path, "/api/me/?a=1");
  assert.equal(data.token, `Bearer ${await client.token()}`);
});

test("other servers get none", async (context) => {
  const elsewhere = new Server();
  await connected().get(`${await serve(context, elsewhere)}/things`);
  assert.equal(elsewhere.requests[0].token, null);
});

test("a server in origins gets it", async (context) => {
  const api = new Server();
  const url = await serve(context, api);
  client = new Latchkey({ base, origins: [url] });
  await client.login("ann", "secret");
  await connected().get(`${url}/things`);
  assert.equal(api.requests[0].token, `Bearer ${await client.token()}`);
});

for (const responseType of ["json", "text", "arraybuffer"]) {
  test(`a stale token is renewed and the request repeated once, with ${responseType}`, async () => {
    server.script.push(["/api/me/?a=1", refusal(401, "token_expired")]);
    const options = { params: { a: 1 }, headers: { "X-Kept": "yes" }, responseType };
    const { status } = await connected().patch("/api/me/", { username: "anne" }, options);
    const [first, second] = server.calls("/api/me/?a=1");
    assert.equal(status, 200);
    assert.notEqual(first.token, second.token);
    for (const { method, body, headers } of [first, second]) {
      assert.deepEqual([method, body, headers.get("X-Kept")], ["PATCH", '{"username":"anne"}', "yes"]);
    }
  });
}

test("a request that is refused again is reported, not repeated forever", async () => {
  server.script.push(...[1, 2].map(() => ["/api/me/", refusal(401, "token_expired")]));
  await assert.rejects(connected().get("/api/me/"), (error) => {
    return error instanceof AxiosError && error.response.status === 401 && error.response.data.code === "token_expired";
  });
  assert.equal(server.calls("/api/me/").length, 2);
});

test("a stale token is seen where no status is an error", async () => {
  server.script.push(["/api/me/", refusal(401, "token_expired")]);
  const { status } = await connected({ validateStatus: null }).get("/api/me/");
  assert.equal(status, 200);
});

test("a session that has ended signs out", async () => {
  server.end("token_revoked");
  await assert.rejects(connected().get("/api/me/"), { status: 401 });
  assert.deepEqual([client.status, client.reason], ["out", "token_revoked"]);
});

test("another refusal, a lost connection and a signed-out client are axios's own business", async (context) => {
  const instance = connected();
  server.script.push(["/api/x", refusal(403, "permission_denied")]);
  await assert.rejects(instance.get("/api/x"), { status: 403 });
  const broken = await listen(context, (request) => request.socket.destroy());
  await assert.rejects(instance.get(`http://127.0.0.1:${broken}/`), { code: "ECONNRESET" });
  await client.logout();
  await instance.get("/api/me/");
  assert.equal(server.requests.at(-1).token, null);
});

test("a redirect takes the token to no other server, be it a subdomain", async (context) => {
  const heard = [];
  const port = await listen(context, ({ headers, url }, response) => {
    heard.push([headers.host.split(":")[0], url, headers.authorization]);
    if (url === "/away") return response.writeHead(307, { Location: `http://taken.api.test:${port}/` }).end();
    if (url === "/moved") return response.writeHead(307, { Location: "/here" }).end();
    return response.end();
  });
  client = new Latchkey({ base, origins: [`http://api.test:${port}`] });
  await client.login("ann", "secret");
  const lookup = (host, options, found) => found(null, [{ address: "127.0.0.1", family: 4 }]);
  const instance = connected({ baseURL: `http://api.test:${port}`, lookup });
  await instance.get("/away");
  await instance.get("/moved");
  const token = `Bearer ${await client.token()}`;
  assert.deepEqual(heard, [
    ["api.test", "/away", token],
    ["taken.api.test", "/", undefined],
    ["api.test", "/moved", token],
    ["api.test", "/here", token],
  ]);
});

test("what was connected can be disconnected", async () => {
  const instance = axios.create({ baseURL: base });
  connect(instance, client)();
  server.script.push(["/api/me/", refusal(401, "token_expired")]);
  await assert.rejects(instance.get("/api/me/"), { status: 401 });
  assert.deepEqual(
    server.calls("/api/me/").map(({ token }) => token),
    [null],
  );
});
