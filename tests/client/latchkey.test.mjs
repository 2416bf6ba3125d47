import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { BASE, Browser, LIFE, Refused, refusal, pass, settle } from "./stand_ins.mjs";

const REFRESH = "/auth/refresh-token";
const LOST = () => new TypeError("Failed to fetch");

let browser, server;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 0, 1) });
  browser = new Browser();
  server = browser.server;
});

afterEach(() => {
  browser.close();
  mock.timers.reset();
});

async function signedIn() {
  const tab = browser.tab();
  await tab.login("ann", "secret");
  return tab;
}

test("login sends the credentials and tells who it is", async () => {
  const tab = browser.tab();
  const user = await tab.login("ann", "secret");
  assert.deepEqual(user, { id: 1, username: "ann", email: "" });
  assert.equal(tab.status, "in");
  assert.deepEqual(tab.changes, ["in"]);
  const [request] = server.requests;
  assert.deepEqual(JSON.parse(request.body), { username: "ann", password: "secret" });
  assert.equal(request.credentials, "include");
});

test("whoever is not to be remembered is signed in as such", async () => {
  const tab = browser.tab();
  await tab.login("ann", "secret", { remember: false });
  await tab.register({ username: "bob", password: "secret", remember: false });
  const sent = server.requests.map(({ body }) => JSON.parse(body));
  assert.deepEqual(sent, [
    { username: "ann", password: "secret", remember: false },
    { username: "bob", password: "secret", remember: false },
  ]);
});

test("storage holds a hint and no token", async () => {
  await signedIn();
  assert.deepEqual([...browser.storage.items], [["latchkey", "in"]]);
});

test("a refused login tells why and leaves the tab signed out", async () => {
  const tab = browser.tab();
  await tab.restore();
  server.script.push(["/auth/login", refusal(401, "invalid_credentials")]);
  await assert.rejects(tab.login("ann", "wrong"), { name: "Refused", status: 401, code: "invalid_credentials" });
  assert.equal(tab.status, "out");
});

test("a refused registration tells what to correct", async () => {
  const tab = browser.tab();
  const fields = { username: ["This username is taken."], code: ["A field of that name."] };
  server.script.push(["/auth/register", Response.json(fields, { status: 400 })]);
  await assert.rejects(tab.register({ username: "ann", password: "x" }), { status: 400, code: "", fields });
});

test("a registration that has to be verified first signs nobody in", async () => {
  const tab = browser.tab();
  await tab.restore();
  server.script.push(["/auth/register", Response.json({ detail: "Open the link." }, { status: 202 })]);
  assert.deepEqual(await tab.register({ username: "ann", password: "x" }), { detail: "Open the link." });
  assert.equal(tab.status, "out");
  assert.deepEqual([...browser.storage.items], []);
});

test("a login goes on with the second factor", async () => {
  const tab = browser.tab();
  const asked = { detail: "A code.", code: "second_factor_required", challenge: "c" };
  server.script.push(["/auth/login", Response.json(asked, { status: 401 })]);
  const refused = await tab.login("ann", "secret").catch((error) => error);
  assert.equal(refused.challenge, "c");
  await tab.secondFactor(refused.challenge, "123456");
  assert.equal(tab.status, "in");
  const [sent] = server.calls("/auth/login/second-factor");
  assert.deepEqual(JSON.parse(sent.body), { challenge: "c", code: "123456" });
});

test("fetch sends the access token to its own server only", async () => {
  const tab = await signedIn();
  const { token } = await tab.json("/api/me/");
  assert.match(token, /^Bearer e/);
  await tab.fetch("https://elsewhere.test/");
  assert.equal(server.calls("https://elsewhere.test/")[0].token, null);
});

test("an expired token is renewed once and the request repeated with its body", async () => {
  const tab = await signedIn();
  server.script.push(["/api/me/", refusal(401, "token_expired")]);
  const answer = await tab.json("/api/me/", "PATCH", { username: "anne" });
  const [first, second] = server.calls("/api/me/");
  assert.equal(second.body, '{"username":"anne"}');
  assert.notEqual(second.token, first.token);
  assert.equal(answer.token, second.token);
  assert.equal(server.calls(REFRESH).length, 1);
});

test("a token that is refused again is not renewed without end", async () => {
  const tab = await signedIn();
  server.script.push(["/api/me/", refusal(401, "token_expired")], ["/api/me/", refusal(401, "token_expired")]);
  assert.equal((await tab.fetch("/api/me/")).status, 401);
  assert.equal(server.calls("/api/me/").length, 2);
});

test("twenty requests with an expired token make one refresh", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  const paths = Array.from({ length: 20 }, (_, index) => `/api/${index}`);
  await Promise.all(paths.map((path) => tab.json(path)));
  assert.equal(server.calls(REFRESH).length, 1);
});

test("twenty requests that the server finds expired make one refresh", async () => {
  const tab = await signedIn();
  const paths = Array.from({ length: 20 }, (_, index) => `/api/${index}`);
  server.script.push(...paths.map((path) => [path, refusal(401, "token_expired")]));
  const answers = await Promise.all(paths.map((path) => tab.json(path)));
  assert.equal(answers.length, 20);
  assert.equal(server.calls(REFRESH).length, 1);
});

test("after an hour's sleep the token is renewed before it is sent", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  await tab.json("/api/me/");
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), [REFRESH, "/api/me/"]);
});

for (const code of ["token_revoked", "token_reused", "token_not_valid"]) {
  test(`a request refused with ${code} signs out every tab`, async () => {
    const [tab, other] = [await signedIn(), browser.tab()];
    await other.restore();
    server.script.push(["/api/me/", refusal(401, code)]);
    assert.equal((await tab.fetch("/api/me/")).status, 401);
    await settle();
    assert.deepEqual([tab.status, tab.reason], ["out", code]);
    assert.deepEqual([other.status, other.reason], ["out", code]);
    assert.deepEqual([...browser.storage.items], []);
  });
}

for (const code of ["token_expired", "token_revoked", "token_reused", "token_not_valid", "refresh_token_missing"]) {
  test(`a refresh refused with ${code} signs out`, async () => {
    const tab = await signedIn();
    server.script.push([REFRESH, refusal(401, code)]);
    await tab.renew();
    assert.deepEqual([tab.status, tab.reason], ["out", code]);
  });
}

test("a request refused for another reason signs nobody out", async () => {
  const tab = await signedIn();
  server.script.push(["/api/users/", refusal(403, "permission_denied")], ["/api/x", refusal(401, "something_new")]);
  await assert.rejects(tab.json("/api/users/"), { status: 403, code: "permission_denied" });
  await assert.rejects(tab.json("/api/x"), { status: 401, code: "something_new" });
  assert.equal(tab.status, "in");
});

test("a refusal of a session that another has replaced signs nobody out", async () => {
  const tab = await signedIn();
  server.script.push([
    "/api/me/",
    async () => {
      server.sid = "session-2";
      await tab.renew();
      return refusal(401, "token_revoked");
    },
  ]);
  await tab.fetch("/api/me/");
  assert.equal(tab.status, "in");
});

for (const [status, code] of [
  [503, "unavailable"],
  [429, "throttled"],
]) {
  test(`a refresh answered ${status} waits as long as it is told and keeps the session`, async () => {
    const tab = await signedIn();
    server.script.push([REFRESH, refusal(status, code, { "Retry-After": "5" })]);
    const renewal = tab.renew();
    await pass(4.9);
    assert.equal(server.calls(REFRESH).length, 1);
    await pass(2);
    await renewal;
    assert.equal(server.calls(REFRESH).length, 2);
    assert.equal(tab.status, "in");
  });
}

test("a server that asks for more patience than a person has is asked later, behind the page", async () => {
  const tab = await signedIn();
  server.script.push([REFRESH, refusal(503, "unavailable", { "Retry-After": "60" })]);
  await assert.rejects(tab.renew(), { status: 503, retryAfter: 60 });
  await pass(59);
  assert.equal(server.calls(REFRESH).length, 1);
  await pass(30);
  assert.equal(server.calls(REFRESH).length, 2);
  assert.equal(tab.status, "in");
});

test("Retry-After may be a date", async () => {
  const tab = browser.tab();
  const date = new Date(Date.now() + 30_000).toUTCString();
  server.script.push(["/auth/login", refusal(429, "throttled", { "Retry-After": date })]);
  await assert.rejects(tab.login("ann", "x"), { retryAfter: 30 });
});

test("a lost answer is asked for again", async () => {
  const tab = await signedIn();
  server.script.push([REFRESH, LOST()]);
  const renewal = tab.renew();
  await pass(2);
  await renewal;
  assert.equal(server.calls(REFRESH).length, 2);
  assert.equal(tab.status, "in");
});

test("while the server is away the session stays, and it is asked again until it is back", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  server.script.push(...Array.from({ length: 6 }, () => [REFRESH, LOST()]));
  const request = tab.fetch("/api/me/");
  const failed = assert.rejects(request, TypeError);
  await pass(5);
  await failed;
  assert.equal(tab.status, "in");
  assert.equal(server.calls(REFRESH).length, 3);
  await pass(30);
  assert.equal(server.calls(REFRESH).length, 7);
  await tab.json("/api/me/");
  assert.equal(server.calls(REFRESH).length, 7);
});

test("a refresh that is refused for good is not asked for again at once, and keeps the session", async () => {
  const tab = await signedIn();
  server.script.push([REFRESH, refusal(403, "cross_site_request")]);
  await assert.rejects(tab.renew(), { status: 403, code: "cross_site_request" });
  assert.equal(server.calls(REFRESH).length, 1);
  assert.equal(tab.status, "in");
});

test("a proxy's error page keeps the session", async () => {
  const tab = await signedIn();
  const page = () => new Response("<h1>Bad gateway</h1>", { status: 502, statusText: "Bad Gateway" });
  server.script.push(...Array.from({ length: 3 }, () => [REFRESH, page()]));
  const failed = assert.rejects(tab.renew(), { name: "Refused", status: 502, message: "502 Bad Gateway" });
  await pass(5);
  await failed;
  assert.equal(tab.status, "in");
});

test("the token is renewed ahead of its end, each tab at a moment of its own", async () => {
  const moments = new Set();
  for (let round = 0; round < 5; round++) {
    const before = server.calls(REFRESH).length;
    const tab = await signedIn();
    const start = Date.now();
    await pass(LIFE * 0.69, 30);
    assert.equal(server.calls(REFRESH).length, before);
    while (server.calls(REFRESH).length === before) await pass(1);
    const moment = (Date.now() - start) / 1000 / LIFE;
    assert.ok(moment <= 0.91, `renewed at ${moment}`);
    moments.add(moment);
    await tab.logout();
  }
  assert.ok(moments.size > 1);
});

test("whoever signs in again is renewed ahead as well", async () => {
  const tab = await signedIn();
  await tab.logout();
  await tab.login("ann", "secret");
  await pass(LIFE * 0.91, 10);
  assert.equal(server.calls(REFRESH).length, 1);
});

test("a clock that was put back while the timer ran only puts off the renewal", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() - 60_000);
  await pass(LIFE * 0.91 + 59, 10);
  assert.ok(server.calls(REFRESH).length >= 1);
  await tab.logout();
});

test("a token that lives longer than any timer is renewed ahead of its end all the same", async () => {
  const month = 30 * 24 * 3600;
  const tab = browser.tab();
  server.script.push(["/auth/login", Response.json({ ...server.issue(), expiresIn: month })]);
  await tab.login("ann", "secret");
  await pass(month * 0.69, 3600);
  assert.equal(server.calls(REFRESH).length, 0);
  await pass(month * 0.22, 3600);
  assert.ok(server.calls(REFRESH).length >= 1);
});

test("two tabs that renew at the same moment make one refresh and share its token", async () => {
  const [ann, other] = [await signedIn(), browser.tab()];
  await settle();
  await other.restore();
  mock.timers.setTime(Date.now() + 3600_000);
  const both = Promise.all([ann.json("/api/a"), other.json("/api/b")]);
  await pass(1);
  const [a, b] = await both;
  assert.equal(server.calls(REFRESH).length, 1 + 1); // the first is the restoring tab's
  assert.equal(a.token, b.token);
});

test("a sign-in in one tab signs in the others", async () => {
  const other = browser.tab();
  await other.restore();
  assert.equal(other.status, "out");
  await signedIn();
  await settle();
  assert.equal(other.status, "in");
  await other.json("/api/me/");
  assert.equal(server.calls(REFRESH).length, 0);
});

test("a sign-out in one tab is seen in all, and ends on the server", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  await other.restore();
  await tab.logout();
  await settle();
  assert.equal(server.calls("/auth/logout").length, 1);
  assert.deepEqual([tab.status, tab.reason], ["out", ""]);
  assert.deepEqual([other.status, other.reason], ["out", ""]);
  await other.fetch("/api/me/");
  assert.equal(server.calls("/api/me/")[0].token, null);
});

test("signing out everywhere asks for that", async () => {
  const tab = await signedIn();
  await tab.logoutAll();
  assert.equal(server.calls("/auth/logout-all").length, 1);
  assert.equal(tab.status, "out");
});

test("an account that is deleted is signed out in every tab", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  await other.restore();
  server.script.push(["/auth/account/delete", new Response(null, { status: 204 })]);
  await tab.deleteAccount("secret");
  await settle();
  const [request] = server.calls("/auth/account/delete");
  assert.deepEqual(JSON.parse(request.body), { currentPassword: "secret" });
  assert.match(request.token, /^Bearer /);
  assert.deepEqual([tab.status, tab.reason], ["out", ""]);
  assert.deepEqual([other.status, other.reason], ["out", ""]);
});

test("an account that is not deleted stays signed in", async () => {
  const tab = await signedIn();
  const fields = { currentPassword: ["This is not your password."] };
  server.script.push(["/auth/account/delete", Response.json(fields, { status: 400 })]);
  await assert.rejects(tab.deleteAccount("wrong"), { status: 400, fields });
  assert.equal(tab.status, "in");
});

test("the end of one session leaves a tab alone that has another by now", async () => {
  const [tab, other] = [browser.tab({ channel: null }), browser.tab()];
  await tab.login("ann", "secret");
  server.sid = "session-2";
  await other.login("bob", "secret");
  server.script.push(["/api/me/", refusal(401, "token_revoked")]);
  await tab.fetch("/api/me/");
  await settle();
  assert.deepEqual([tab.status, other.status], ["out", "in"]);
});

test("a sign-out after the token's end renews first", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  await tab.logout();
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), [REFRESH, "/auth/logout"]);
});

test("a sign-out with another session's cookie ends the one that the cookie names", async () => {
  const tab = await signedIn();
  server.sid = "session-2";
  server.script.push(["/auth/logout", refusal(401, "token_not_valid")]);
  await tab.logout();
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), ["/auth/logout", REFRESH, "/auth/logout"]);
  assert.equal(tab.status, "out");
});

test("a sign-out that the server can't be told of leaves the tab signed in and says so", async () => {
  const tab = await signedIn();
  server.script.push(["/auth/logout", LOST()]);
  await assert.rejects(tab.logout(), TypeError);
  server.script.push(["/auth/logout", refusal(503, "unavailable")]);
  await assert.rejects(tab.logout(), { status: 503 });
  assert.equal(tab.status, "in");
});

test("a request is not repeated as somebody else", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  server.script.push([
    "/api/me/",
    async () => {
      server.sid = "session-2";
      await other.login("bob", "secret");
      await settle();
      return refusal(401, "token_expired");
    },
  ]);
  assert.equal((await tab.fetch("/api/me/", { method: "DELETE" })).status, 401);
  assert.equal(server.calls("/api/me/").length, 1);
  assert.deepEqual(tab.changes, ["in", "in"]);
});

test("a message that was overtaken changes nothing", async () => {
  const tab = await signedIn();
  const { token } = await tab.json("/api/me/");
  const channel = new BroadcastChannel("test-late");
  const late = browser.tab({ channel });
  const sender = new BroadcastChannel("test-late");
  await late.restore();
  await late.renew();
  sender.postMessage({ token: token.replace("Bearer ", ""), expires: Date.now() + 1000 });
  await settle();
  assert.notEqual((await late.json("/api/me/")).token, token);
  for (const each of [channel, sender]) each.close();
});

test("where there is nothing to restore the server is not asked", async () => {
  const tab = browser.tab();
  assert.equal(await tab.restore(), false);
  assert.deepEqual(tab.changes, ["out"]);
  assert.equal(server.requests.length, 0);
});

test("a new page restores the session by the cookie alone", async () => {
  await signedIn();
  const page = browser.tab();
  assert.equal(await page.restore(), true);
  assert.equal(server.calls(REFRESH)[0].token, null);
});

test("a page that opens while the server is away signs in once it is back", async () => {
  browser.storage.setItem("latchkey", "in");
  const page = browser.tab();
  server.script.push(...Array.from({ length: 3 }, () => [REFRESH, LOST()]));
  const failed = assert.rejects(page.restore(), TypeError);
  await pass(5);
  await failed;
  assert.equal(page.status, "unknown");
  await pass(15);
  assert.deepEqual(page.changes, ["in"]);
});

test("without locks, channel and storage a tab does for itself", async () => {
  const shy = {
    getItem() {
      throw new Error("SecurityError");
    },
  };
  const tab = browser.tab({ locks: null, channel: null, storage: shy });
  assert.equal(await tab.restore(), true);
  server.script.push(["/api/a", refusal(401, "token_expired")], ["/api/b", refusal(401, "token_expired")]);
  await Promise.all([tab.json("/api/a"), tab.json("/api/b")]);
  assert.equal(server.calls(REFRESH).length, 2);
  await tab.logout();
  assert.equal(tab.status, "out");
});

test("a failed sign-in does not keep the next one waiting without locks", async () => {
  const tab = browser.tab({ locks: null });
  server.script.push(["/auth/login", refusal(401, "invalid_credentials")]);
  await assert.rejects(tab.login("ann", "wrong"), Refused);
  await tab.login("ann", "secret");
  assert.equal(tab.status, "in");
});

test("the base may be another host, and its paths are the server's", async () => {
  const tab = await signedIn();
  await tab.fetch(new URL("/api/sessions/", BASE));
  await tab.fetch(new Request(`${BASE}/api/me/`));
  assert.ok(server.requests.slice(1).every(({ token }) => token));
});
