import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Latchkey } from "../../client/src/store.js";
import { Browser, refusal, pass, settle } from "./stand_ins.mjs";

const REFRESH = "/api/token/refresh";
const LOST = () => new TypeError("Failed to fetch");

/** A keychain that responds asynchronously. */
class Keychain {
  kept = null;
  get = async () => settle().then(() => this.kept);
  set = async (token) => settle().then(() => void (this.kept = token));
  remove = async () => settle().then(() => void (this.kept = null));
}

let device, server, store;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 0, 1) });
  device = new Browser();
  server = device.server;
  store = new Keychain();
});

afterEach(() => {
  device.close();
  mock.timers.reset();
});

/** Start the app. */
const open = () => device.tab({ locks: null, channel: null, store }, Latchkey);

async function signedIn() {
  const app = open();
  await app.login("ann", "secret", { deviceName: "Ann's phone" });
  return app;
}

test("a sign-in stores the refresh token and returns the user", async () => {
  const app = open();
  const { id, username } = await app.login("ann", "secret", { deviceName: "Ann's phone" });
  assert.deepEqual([id, username], [server.user.id, "ann"]);
  assert.equal(server.refreshTokens.get(store.kept), server.sid);
  const [request] = server.calls("/api/token");
  assert.deepEqual(JSON.parse(request.body), { username: "ann", password: "secret", deviceName: "Ann's phone" });
  assert.deepEqual(app.changes, ["in"]);
});

test("a sign-in continues with the second factor", async () => {
  const app = open();
  const asked = { detail: "A code.", code: "second_factor_required", challenge: "c" };
  server.script.push(["/api/token", Response.json(asked, { status: 401 })]);
  const { challenge } = await app.login("ann", "secret").catch((error) => error);
  await app.secondFactor(challenge, "123456");
  assert.deepEqual(JSON.parse(server.calls("/api/token/second-factor")[0].body), { challenge: "c", code: "123456" });
  assert.ok(store.kept);
});

test("an entry point can sign in by the other transport too", async () => {
  await open()
    .signIn("/auth/login/passkey", { challenge: "c", credential: {} })
    .catch(() => {});
  assert.equal(server.requests[0].path, "/api/token/passkey");
});

test("an app that is opened again is signed in", async () => {
  await signedIn();
  const app = open();
  const before = store.kept;
  assert.equal(await app.restore(), true);
  assert.deepEqual(JSON.parse(server.calls(REFRESH)[0].body), { refresh: before });
  assert.notEqual(store.kept, before);
});

test("an app with nothing stored asks the server for nothing", async () => {
  const app = open();
  assert.equal(await app.restore(), false);
  assert.deepEqual([app.status, app.reason], ["out", ""]);
  assert.equal(server.requests.length, 0);
});

test("the new refresh token is stored before the new access token is used", async () => {
  const app = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  let keptThen;
  server.script.push(["/api/me/", () => ((keptThen = store.kept), Response.json({}))]);
  await app.json("/api/me/");
  assert.equal(keptThen, [...server.refreshTokens.keys()].at(-1));
});

test("twenty requests with an expired token make one refresh", async () => {
  const app = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  await Promise.all(Array.from({ length: 20 }, (_, index) => app.json(`/api/${index}`)));
  assert.equal(server.calls(REFRESH).length, 1);
});

test("a request whose response was lost is repeated with the same token", async () => {
  const app = await signedIn();
  server.script.push([REFRESH, LOST()]);
  const renewal = app.renew();
  await pass(2);
  await renewal;
  const [first, second] = server.calls(REFRESH);
  assert.equal(first.body, second.body);
  assert.equal(app.status, "in");
});

test("while the server is away the session stays", async () => {
  const app = await signedIn();
  const before = store.kept;
  server.script.push(...Array.from({ length: 3 }, () => [REFRESH, LOST()]));
  const failed = assert.rejects(app.renew(), TypeError);
  await pass(5);
  await failed;
  assert.deepEqual([app.status, store.kept], ["in", before]);
});

test("a session that has ended leaves nothing in the store", async () => {
  const app = await signedIn();
  server.end("token_revoked");
  assert.equal((await app.fetch("/api/me/")).status, 401);
  assert.deepEqual([app.status, app.reason, store.kept], ["out", "token_revoked", null]);
});

test("a sign-out ends the session on the server and leaves nothing in the store", async () => {
  const app = await signedIn();
  const { kept } = store;
  await app.logout();
  assert.deepEqual(JSON.parse(server.calls("/api/token/blacklist")[0].body), { refresh: kept });
  assert.deepEqual([app.status, app.reason, store.kept], ["out", "", null]);
});

test("a sign-out everywhere, and a deleted account, leave nothing in the store", async () => {
  for (const act of [(app) => app.logoutAll(), (app) => app.deleteAccount("secret")]) {
    await act(await signedIn());
    assert.equal(store.kept, null);
  }
});

test("a sign-out with an emptied store signs out", async () => {
  const app = await signedIn();
  store.kept = null;
  server.script.push(["/auth/logout", refusal(401, "refresh_token_missing")]);
  await app.logout();
  assert.equal(app.status, "out");
});

test("a sign-out that can't reach the server keeps the token", async () => {
  const app = await signedIn();
  server.script.push(["/api/token/blacklist", LOST()]);
  await assert.rejects(app.logout(), TypeError);
  assert.equal(app.status, "in");
  assert.ok(store.kept);
});

test("a password change stores a new refresh token", async () => {
  const app = await signedIn();
  const before = store.kept;
  await app.changePassword("secret", "better");
  const sent = JSON.parse(server.calls("/auth/password/change")[0].body);
  assert.deepEqual(sent, { currentPassword: "secret", newPassword: "better", refresh: before });
  assert.notEqual(store.kept, before);
  assert.deepEqual(app.changes, ["in"]);
  assert.equal((await app.fetch("/api/me/")).status, 200);
  assert.equal(await open().restore(), true);
});

test("a registration signs in, and ends the session that came with a cookie", async () => {
  const app = open();
  const { username } = await app.register({ username: "ann", password: "secret", deviceName: "Ann's phone" });
  assert.equal(username, "ann");
  const [made] = server.calls("/auth/register");
  assert.equal(made.credentials, "omit");
  assert.equal(JSON.parse(server.calls("/api/token")[0].body).deviceName, "Ann's phone");
  const [revoked] = server.calls("/auth/revoke");
  assert.match(revoked.body, /^token=e30\./);
  assert.notEqual(`Bearer ${revoked.body.slice(6)}`, revoked.token);
  assert.equal(server.refreshTokens.get(store.kept), server.sid);
});

test("a registration that has to be verified first signs nobody in", async () => {
  const app = open();
  server.script.push(["/auth/register", Response.json({ detail: "Open the link." }, { status: 202 })]);
  assert.deepEqual(await app.register({ username: "ann", password: "x" }), { detail: "Open the link." });
  assert.deepEqual([app.status, store.kept], ["unknown", null]);
});

test("no request asks for cookies, and no page's origin makes a sign-in refresh", async (context) => {
  globalThis.location = new URL("capacitor://localhost");
  context.after(() => delete globalThis.location);
  await signedIn();
  assert.equal(server.calls(REFRESH).length, 0);
  assert.ok(server.requests.every(({ credentials }) => credentials !== "include"));
});
