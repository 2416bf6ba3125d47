import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Refused } from "../../client/src/latchkey.js";
import { BASE, Browser, LIFE, refusal, pass, settle } from "./stand_ins.mjs";

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

test("a login sends the credentials and returns the user", async () => {
  const tab = browser.tab();
  const user = await tab.login("ann", "secret");
  assert.deepEqual(user, server.user);
  assert.equal(tab.status, "in");
  assert.deepEqual(tab.changes, ["in"]);
  const [request] = server.requests;
  assert.deepEqual(JSON.parse(request.body), { username: "ann", password: "secret" });
  assert.equal(request.credentials, "include");
});

test("a user can sign in without being remembered", async () => {
  const tab = browser.tab();
  await tab.login("ann", "secret", { remember: false });
  await tab.register({ username: "bob", password: "secret", remember: false });
  const sent = server.requests.map(({ body }) => JSON.parse(body));
  assert.deepEqual(sent, [
    { username: "ann", password: "secret", remember: false },
    { username: "bob", password: "secret", remember: false },
  ]);
});

test("a refused login gives the reason and leaves the tab signed out", async () => {
  const tab = browser.tab();
  await tab.restore();
  server.script.push(["/auth/login", refusal(401, "invalid_credentials")]);
  await assert.rejects(tab.login("ann", "wrong"), { name: "Refused", status: 401, code: "invalid_credentials" });
  assert.equal(tab.status, "out");
});

test("a refused registration says what to correct", async () => {
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
});

test("a login continues with the second factor", async () => {
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

test("a token that is refused again is not renewed forever", async () => {
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
    server.end(code);
    assert.equal((await tab.fetch("/api/me/")).status, 401);
    await settle();
    assert.deepEqual([tab.status, tab.reason], ["out", code]);
    assert.deepEqual([other.status, other.reason], ["out", code]);
  });
}

for (const code of ["token_expired", "token_revoked", "token_reused", "token_not_valid", "refresh_token_missing"]) {
  test(`a refresh refused with ${code} signs out`, async () => {
    const tab = await signedIn();
    await tab.renew();
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

test("a refusal of a replaced session signs nobody out", async () => {
  const tab = await signedIn();
  server.script.push([
    "/api/me/",
    async () => {
      server.start();
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
  test(`a refresh answered ${status} waits as long as the server says and keeps the session`, async () => {
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

test("a server that asks for a long wait is asked again later, in the background", async () => {
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

test("a request whose response was lost is repeated", async () => {
  const tab = await signedIn();
  server.script.push([REFRESH, LOST()]);
  const renewal = tab.renew();
  await pass(2);
  await renewal;
  assert.equal(server.calls(REFRESH).length, 2);
  assert.equal(tab.status, "in");
});

test("while the server is away, the session stays and the client keeps trying", async () => {
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

test("a refresh that fails permanently is not repeated at once, and keeps the session", async () => {
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

test("the token is renewed before it expires, in each tab at a different moment", async () => {
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

test("the token of a second sign-in is renewed before it expires too", async () => {
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

test("a token that lives longer than any timer is still renewed before it expires", async () => {
  const month = 30 * 24 * 3600;
  const tab = browser.tab();
  server.script.push(["/auth/login", Response.json({ ...server.start(), expiresIn: month })]);
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
  assert.equal(server.calls(REFRESH).length, 1 + 1); // the first is that of the tab that restored
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
  assert.equal(server.calls(REFRESH).length, 1); // when the page opened; it found no session
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

test("signing out everywhere calls the server", async () => {
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
  const fields = { currentPassword: ["That password is wrong."] };
  server.script.push(["/auth/account/delete", Response.json(fields, { status: 400 })]);
  await assert.rejects(tab.deleteAccount("wrong"), { status: 400, fields });
  assert.equal(tab.status, "in");
});

test("the end of a session does not affect a tab that has another by then", async () => {
  const [tab, other] = [browser.tab({ channel: null }), browser.tab()];
  await tab.login("ann", "secret");
  const { sid } = server;
  await other.login("bob", "secret");
  server.end("token_revoked", sid);
  server.script.push([REFRESH, refusal(401, "token_revoked")]);
  await tab.fetch("/api/me/");
  await settle();
  assert.deepEqual([tab.status, other.status], ["out", "in"]);
});

test("a sign-out with an expired token renews it first", async () => {
  const tab = await signedIn();
  mock.timers.setTime(Date.now() + 3600_000);
  await tab.logout();
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), [REFRESH, "/auth/logout"]);
});

test("a sign-out with another session's cookie ends the cookie's session", async () => {
  const tab = await signedIn();
  server.start();
  server.script.push(["/auth/logout", refusal(401, "token_not_valid")]);
  await tab.logout();
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), ["/auth/logout", REFRESH, "/auth/logout"]);
  assert.equal(tab.status, "out");
});

test("a sign-out that can't reach the server leaves the tab signed in and fails", async () => {
  const tab = await signedIn();
  server.script.push(["/auth/logout", LOST()]);
  await assert.rejects(tab.logout(), TypeError);
  server.script.push(["/auth/logout", refusal(503, "unavailable")]);
  await assert.rejects(tab.logout(), { status: 503 });
  assert.equal(tab.status, "in");
});

test("a request is not repeated as another user", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  server.script.push([
    "/api/me/",
    async () => {
      await other.login("bob", "secret");
      await settle();
      return refusal(401, "token_expired");
    },
  ]);
  assert.equal((await tab.fetch("/api/me/", { method: "DELETE" })).status, 401);
  assert.equal(server.calls("/api/me/").length, 1);
  assert.deepEqual(tab.changes, ["in", "in"]);
});

test("an outdated message changes nothing", async () => {
  const tab = await signedIn();
  const { token } = await tab.json("/api/me/");
  const late = browser.tab();
  mock.timers.setTime(Date.now() + 2000);
  await late.restore();
  browser.post({ token: token.replace("Bearer ", ""), expires: Date.now() + 3600_000 });
  await settle();
  assert.notEqual((await late.json("/api/me/")).token, token);
});

test("without a session to restore, the server is asked once, and no end is reported", async () => {
  const tab = browser.tab();
  assert.equal(await tab.restore(), false);
  assert.equal(await tab.restore(), false);
  assert.deepEqual([tab.status, tab.reason, tab.changes], ["out", "", ["out"]]);
  assert.equal(server.requests.length, 1);
});

test("a new page restores the session with only the cookie", async () => {
  await signedIn();
  const page = browser.tab();
  assert.equal(await page.restore(), true);
  assert.equal(server.calls(REFRESH)[0].token, null);
});

test("a page that opens while the server is away signs in once it is back", async () => {
  server.start();
  const page = browser.tab();
  server.script.push(...Array.from({ length: 3 }, () => [REFRESH, LOST()]));
  const failed = assert.rejects(page.restore(), TypeError);
  await pass(5);
  await failed;
  assert.equal(page.status, "unknown");
  await pass(15);
  assert.deepEqual(page.changes, ["in"]);
});

test("without locks and channels, each tab works alone", async () => {
  server.start();
  const tab = browser.tab({ locks: null, channel: null });
  assert.equal(await tab.restore(), true);
  server.script.push(["/api/a", refusal(401, "token_expired")], ["/api/b", refusal(401, "token_expired")]);
  await Promise.all([tab.json("/api/a"), tab.json("/api/b")]);
  assert.equal(server.calls(REFRESH).length, 2);
  await tab.logout();
  assert.equal(tab.status, "out");
});

test("without locks, a failed sign-in does not block the next one", async () => {
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

// Other servers

const API = "https://api.test";

/** A response from that server. */
const at = (url, response) => Object.defineProperty(response, "url", { value: url });

test("the token goes only to the servers in origins", async () => {
  const tab = browser.tab({ origins: [API] });
  await tab.login("ann", "secret");
  const token = `Bearer ${await tab.token()}`;
  for (const [url, expected] of [
    ["/api/me/", token],
    [`${BASE}/api/me/`, token],
    [`${API}/things`, token],
    ["https://elsewhere.test/", null],
    ["http://api.test/", null],
    ["https://api.test:8443/", null],
    ["https://api.test.elsewhere.test/", null],
    ["//elsewhere.test/", null],
    ["/\\elsewhere.test/", null],
  ]) {
    await tab.fetch(url);
    assert.equal(server.requests.at(-1).token, expected, url);
    assert.deepEqual(await tab.headers(url), expected ? { Authorization: expected } : {}, url);
  }
});

for (const origins of [["data:text/plain,x"], ["myapp://home"]]) {
  test(`an origin that stands for many is refused: ${origins}`, () => {
    assert.throws(() => browser.tab({ origins }), TypeError);
  });
}

test("the client hands out a fresh token, and none while it is signed out", async () => {
  const tab = await signedIn();
  const first = await tab.token();
  assert.equal(await tab.token(), first);
  mock.timers.setTime(Date.now() + 3600_000);
  assert.notEqual(await tab.token(), first);
  await tab.logout();
  assert.equal(await tab.token(), undefined);
});

test("a request to another API that finds the token stale is repeated with a new one", async () => {
  const tab = browser.tab({ origins: [API] });
  await tab.login("ann", "secret");
  mock.timers.setTime(Date.now() + 20_000);
  server.script.push([`${API}/things`, at(`${API}/things`, Response.json({ error: "expired" }, { status: 401 }))]);
  assert.equal((await tab.fetch(`${API}/things`)).status, 200);
  const [first, second] = server.calls(`${API}/things`);
  assert.notEqual(first.token, second.token);
});

test("another API that always refuses costs one refresh in total, and no session", async () => {
  const tab = browser.tab({ origins: [API] });
  await tab.login("ann", "secret");
  mock.timers.setTime(Date.now() + 20_000);
  for (let round = 0; round < 5; round++) {
    const refused = () => at(`${API}/things`, new Response("No.", { status: 401 }));
    server.script.push([`${API}/things`, refused()], [`${API}/things`, refused()]);
    assert.equal((await tab.fetch(`${API}/things`)).status, 401);
    server.script = [];
  }
  assert.equal(server.calls(REFRESH).length, 1);
  assert.equal(tab.status, "in");
});

test("the server may live below a path", async () => {
  const tab = browser.tab({ base: `${BASE}/sso` });
  server.script.push(["/sso/auth/login", Response.json(server.start())]);
  await tab.login("ann", "secret");
  await tab.fetch("/api/me/");
  await tab.fetch(`${BASE}/api/me/`);
  const [, below, beside] = server.requests;
  assert.equal(below.path, "/sso/api/me/");
  assert.equal(beside.path, "/api/me/");
  assert.equal(browser.tab({ base: `${BASE}//elsewhere.test/` }).trusts("https://elsewhere.test/"), false);
});

test("clients of two servers on one page are independent", async (context) => {
  onPage(context, "https://app.test/");
  const { BroadcastChannel } = globalThis;
  globalThis.BroadcastChannel = class extends BroadcastChannel {
    constructor(name) {
      super(name);
      this.unref(); // otherwise it keeps this process running
    }
  };
  context.after(() => (globalThis.BroadcastChannel = BroadcastChannel));
  const options = { locks: undefined, channel: undefined };
  const [one, same, other] = [BASE, `${BASE}/`, API].map((base) => browser.tab({ ...options, base }));
  await one.login("ann", "secret");
  await settle();
  assert.deepEqual([one.status, same.status, other.status], ["in", "in", "unknown"]);
});

test("outside of a browser, clients are independent", async (context) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator") ?? { value: undefined, configurable: true };
  context.after(() => Object.defineProperty(globalThis, "navigator", before));
  const value = { locks: { request: () => assert.fail("the lock of somebody else") } }; // Node 24 has locks
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
  const tabs = [1, 2].map(() => browser.tab({ locks: undefined, channel: undefined }));
  await tabs[0].login("ann", "secret");
  await settle();
  assert.deepEqual(
    tabs.map(({ status }) => status),
    ["in", "unknown"],
  );
});

// The signed-in user

test("the token says who the user is, also after a restore", async () => {
  server.start("zoë");
  const tab = browser.tab();
  assert.equal(tab.user, null);
  await tab.restore();
  const id = `${server.user.id}`;
  assert.deepEqual(tab.user, { id, username: "zoë", isStaff: false, isSuperuser: false, groups: [] });
  const { state } = tab;
  await tab.renew();
  assert.equal(tab.state, state);
  server.user.username = "zoe";
  await tab.renew();
  assert.equal(tab.user.username, "zoe");
  assert.deepEqual(tab.changes, ["in", "in"]);
  await tab.logout();
  assert.equal(tab.user, null);
});

for (const [call, method, path, body] of [
  [(tab) => tab.me(), "GET", "/api/me/"],
  [(tab) => tab.sessions(), "GET", "/api/sessions/"],
  [(tab) => tab.sessions("http://inside:8000/api/sessions/?cursor=x"), "GET", "/api/sessions/?cursor=x"],
  [(tab) => tab.renameSession("s", "Attic"), "PATCH", "/api/sessions/s/", { device: "Attic" }],
  [(tab) => tab.revokeSession("s"), "DELETE", "/api/sessions/s/"],
  [(tab) => tab.revokeOtherSessions(), "POST", "/api/sessions/revoke-others/"],
  [(tab) => tab.secondFactorState(), "GET", "/auth/second-factor"],
  [(tab) => tab.setUpSecondFactor("pw"), "POST", "/auth/second-factor", { currentPassword: "pw" }],
  [(tab) => tab.confirmSecondFactor("1"), "POST", "/auth/second-factor/confirm", { code: "1" }],
  [
    (tab) => tab.confirmSecondFactor("1", { endOtherSessions: true }),
    "POST",
    "/auth/second-factor/confirm",
    { code: "1", endOtherSessions: true },
  ],
  [
    (tab) => tab.renewRecoveryCodes("pw", "1"),
    "POST",
    "/auth/second-factor/recovery-codes",
    { currentPassword: "pw", code: "1" },
  ],
  [
    (tab) => tab.removeSecondFactor("pw", "1", { endOtherSessions: true }),
    "POST",
    "/auth/second-factor/remove",
    { currentPassword: "pw", code: "1", endOtherSessions: true },
  ],
  [(tab) => tab.deleteAccount("pw", "1"), "POST", "/auth/account/delete", { currentPassword: "pw", code: "1" }],
  [(tab) => tab.reauthenticate("pw"), "POST", "/auth/reauthenticate", { currentPassword: "pw" }],
  [
    (tab) => tab.changePassword("pw", "new"),
    "POST",
    "/auth/password/change",
    { currentPassword: "pw", newPassword: "new" },
  ],
]) {
  test(`${call.toString().slice(9)} asks ${method} ${path}`, async () => {
    const tab = await signedIn();
    const token = `Bearer ${await tab.token()}`;
    await call(tab);
    const sent = server.requests.at(-1);
    assert.deepEqual([sent.method, sent.path, sent.token], [method, path, token]);
    assert.equal(sent.body, body ? JSON.stringify(body) : "");
  });
}

const LINK = { uid: "MQ", token: "x" };

for (const [call, path, body] of [
  [(tab) => tab.requestReset("ann@example.com"), "/auth/password/reset", { email: "ann@example.com" }],
  [(tab) => tab.checkResetLink(LINK), "/auth/password/reset/check", LINK],
  [(tab) => tab.resetPassword(LINK, "new"), "/auth/password/reset/confirm", { ...LINK, newPassword: "new" }],
  [(tab) => tab.checkVerificationLink(LINK), "/auth/email/verify/check", LINK],
  [(tab) => tab.verifyEmail(LINK), "/auth/email/verify", LINK],
]) {
  test(`${call.toString().slice(9)} asks POST ${path}, signed in or not`, async () => {
    server.script.push([path, new Response(null, { status: 204 })]);
    const tab = browser.tab();
    assert.equal(await call(tab), undefined);
    server.script.push([path, Response.json({ token: ["Used."] }, { status: 400 })]);
    await assert.rejects(call(tab), { name: "Refused", fields: { token: ["Used."] } });
    assert.deepEqual(server.requests.map(({ method, token, body }) => [method, token, JSON.parse(body)]), [
      ["POST", null, body],
      ["POST", null, body],
    ]);
  });
}

test("a tab notices a password reset that ended its session", async () => {
  const tab = await signedIn();
  server.end("token_revoked");
  await tab.resetPassword(LINK, "new");
  assert.deepEqual([tab.status, tab.reason], ["out", "token_revoked"]);
});

test("a password reset succeeds even if the server is away afterwards", async () => {
  const tab = await signedIn();
  server.script.push([REFRESH, refusal(400, "parse_error")]);
  await tab.resetPassword(LINK, "new");
  assert.equal(tab.status, "in");
});

test("a sign-in names the device", async () => {
  const tab = browser.tab();
  await tab.login("ann", "secret", { deviceName: "Attic" });
  await tab.register({ username: "ann", password: "secret", deviceName: "Attic" });
  assert.ok(server.requests.every(({ body }) => JSON.parse(body).deviceName === "Attic"));
});

// The password changes

test("a changed password signs no tab of this browser out", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  await settle();
  await other.restore();
  const before = server.sid;
  await tab.changePassword("secret", "better");
  await settle();
  assert.ok(server.ended.has(before));
  for (const each of [tab, other]) {
    assert.deepEqual([each.status, each.changes], ["in", ["in"]]);
    assert.equal((await each.fetch("/api/me/")).status, 200);
  }
  assert.equal(server.calls(REFRESH).length, 1); // that of the tab that restored
});

test("a request that was sent with the previous token is repeated with the new one", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  await settle();
  await other.restore();
  for (const each of [tab, other]) {
    server.script.push([
      "/api/me/",
      async () => {
        await tab.changePassword("secret", "better");
        await settle();
        return refusal(401, "token_revoked");
      },
    ]);
    assert.equal((await each.fetch("/api/me/")).status, 200);
    assert.equal(each.status, "in");
  }
});

test("a request refused while the password is being changed waits for the new token", async () => {
  const [tab, other] = [await signedIn(), browser.tab()];
  await settle();
  await other.restore();
  let resolve;
  server.script.push(["/auth/password/change", () => new Promise((answer) => (resolve = answer))]);
  const change = tab.changePassword("secret", "better");
  await settle();
  server.end();
  const requests = [tab.fetch("/api/me/"), other.fetch("/api/me/")];
  await settle();
  resolve(Response.json(server.start("ann")));
  await change;
  await pass(1);
  for (const response of await Promise.all(requests)) assert.equal(response.status, 200);
  assert.equal(server.calls(REFRESH).length, 1); // that of the tab that restored
});

test("a tab that missed the change continues with the cookie", async () => {
  const [tab, deaf] = [await signedIn(), browser.tab({ channel: null })];
  await deaf.restore();
  await tab.changePassword("secret", "better");
  assert.equal((await deaf.fetch("/api/me/")).status, 200);
  assert.deepEqual(deaf.changes, ["in"]);
});

test("a change with an expired token renews it first, and again if the server demands it", async () => {
  const tab = await signedIn();
  server.script.push(["/auth/password/change", refusal(401, "token_expired")]);
  mock.timers.setTime(Date.now() + 3600_000);
  await tab.changePassword("secret", "better");
  assert.deepEqual(server.requests.map(({ path }) => path).slice(1), [
    REFRESH,
    "/auth/password/change",
    REFRESH,
    "/auth/password/change",
  ]);
});

test("a refused change reports its error and changes nothing", async () => {
  const tab = await signedIn();
  const fields = { currentPassword: ["That password is wrong."] };
  server.script.push(["/auth/password/change", Response.json(fields, { status: 400 })]);
  await assert.rejects(tab.changePassword("wrong", "better"), { status: 400, fields });
  assert.equal((await tab.fetch("/api/me/")).status, 200);
});

test("only the password of the user who asked is changed", async () => {
  const tab = await signedIn();
  server.start("bob"); // in another tab, which this one doesn't know about
  server.script.push(["/auth/password/change", refusal(401, "token_not_valid")]);
  await assert.rejects(tab.changePassword("secret", "better"), { code: "token_not_valid" });
  assert.equal(server.calls("/auth/password/change").length, 1);
  assert.equal(tab.user.username, "bob");
});

test("a change whose response and cookie were lost leads to a sign-in", async () => {
  const tab = await signedIn();
  server.script.push([
    "/auth/password/change",
    () => {
      server.end();
      throw LOST();
    },
  ]);
  await assert.rejects(tab.changePassword("secret", "better"), TypeError);
  await tab.fetch("/api/me/");
  assert.deepEqual([tab.status, tab.reason], ["out", "token_revoked"]);
});

// Wrong set-ups

/** Make the client believe that it is on that page. */
function onPage(context, url) {
  globalThis.location = new URL(url);
  context.after(() => delete globalThis.location);
}

test("a cookie that the browser drops is reported at the sign-in, on a page of another origin", async (context) => {
  onPage(context, "http://localhost:5173/");
  server.keepsCookies = false;
  const tab = browser.tab();
  const message =
    /did not keep the cookie of https:\/\/auth.test for http:\/\/localhost:5173\..*REFRESH_COOKIE_SAMESITE=none/;
  await assert.rejects(tab.login("ann", "secret"), { name: "Misconfigured", code: "cookie_not_kept", message });
  assert.deepEqual([tab.status, tab.reason], ["out", "cookie_not_kept"]);
});

test("a cookie that the browser keeps passes the sign-in, on a page of another origin", async (context) => {
  onPage(context, "http://localhost:5173/");
  const tab = browser.tab();
  await tab.login("ann", "secret");
  assert.equal(tab.status, "in");
  assert.equal(server.calls(REFRESH).length, 1);
});

test("a cookie that the browser drops is reported at the first refresh, on a page of the same origin", async (context) => {
  onPage(context, `${BASE}/account`);
  server.keepsCookies = false;
  const tab = browser.tab();
  await tab.login("ann", "secret");
  mock.timers.setTime(Date.now() + 3600_000);
  await assert.rejects(tab.fetch("/api/me/"), { code: "cookie_not_kept", message: /Use https, or DEBUG=true/ });
  assert.deepEqual([tab.status, tab.reason], ["out", "cookie_not_kept"]);
});

test("a cookie that disappears later is not reported as a wrong set-up", async () => {
  const tab = await signedIn();
  await tab.renew();
  server.sid = null;
  await tab.renew();
  assert.deepEqual([tab.status, tab.reason], ["out", "refresh_token_missing"]);
});

test("a server that refuses the page differs from one that is away", async (context) => {
  onPage(context, "http://localhost:5173/");
  const tab = browser.tab();
  server.script.push(["/auth/login", LOST()]);
  const message = /https:\/\/auth.test responds, but not to this page. Add http:\/\/localhost:5173 to its TRUSTED_ORIGINS/;
  await assert.rejects(tab.login("ann", "secret"), { name: "Misconfigured", code: "origin_refused", message });
  const { method, mode, credentials, token } = server.requests.at(-1);
  assert.deepEqual([method, mode, credentials, token], ["HEAD", "no-cors", "omit", null]);
  server.script.push(["/auth/login", LOST()], ["/", LOST()]);
  await assert.rejects(tab.login("ann", "secret"), TypeError);
});

test("a failed request to a server that has responded before means that it is away", async (context) => {
  onPage(context, "http://localhost:5173/");
  const tab = await signedIn();
  server.script.push(["/api/me/", LOST()]);
  await assert.rejects(tab.fetch("/api/me/"), TypeError);
  assert.equal(server.calls("/").length, 0);
});

test("a request that the page aborted is not examined", async (context) => {
  onPage(context, "http://localhost:5173/");
  const tab = browser.tab();
  server.script.push(["/auth/login", new DOMException("Given up.", "AbortError")]);
  await assert.rejects(tab.login("ann", "secret"), { name: "AbortError" });
  assert.equal(server.requests.length, 1);
});

test("a refresh whose first response is lost is repeated, also on a page of another origin", async (context) => {
  onPage(context, "http://localhost:5173/");
  server.start();
  const tab = browser.tab();
  server.script.push([REFRESH, LOST()]);
  const restored = tab.restore();
  await pass(2);
  assert.equal(await restored, true);
});

// The interface for entry points

test("hooks add headers to each request and see each answer", async () => {
  const seen = [];
  const hooks = {
    headers: (request, token) => ({ Proof: `${request.method} ${new URL(request.url).pathname} ${Boolean(token)}` }),
    answered: (response, request) => void seen.push([new URL(request.url).pathname, response.status]),
  };
  const tab = browser.tab({ hooks, origins: [API] });
  await tab.login("ann", "secret");
  await tab.renew();
  await tab.fetch("/api/me/", { method: "POST" });
  await tab.fetch(`${API}/things`);
  await tab.fetch("https://elsewhere.test/");
  assert.deepEqual(
    server.requests.map(({ headers }) => headers.get("Proof")),
    ["POST /auth/login false", `POST ${REFRESH} false`, "POST /api/me/ true", "GET /things true", null],
  );
  assert.deepEqual(seen, [
    ["/auth/login", 200],
    [REFRESH, 200],
    ["/api/me/", 200],
    ["/things", 200],
  ]);
  assert.match((await tab.headers("/api/me/", "PATCH")).Proof, /^PATCH \/api\/me\/ true$/);
});

test("hooks can replace the scheme, and repeat a request", async () => {
  let nonce = "";
  const hooks = {
    headers: async (request, token) => ({ Nonce: nonce, ...(token && { Authorization: `DPoP ${token}` }) }),
    answered: async (response) => response.status === 401 && (nonce = response.headers.get("DPoP-Nonce")),
  };
  const tab = browser.tab({ hooks });
  const want = () => refusal(401, "use_dpop_nonce", { "DPoP-Nonce": "n1" });
  server.start();
  server.script.push([REFRESH, want()]);
  await tab.restore();
  assert.deepEqual(
    server.calls(REFRESH).map(({ headers }) => headers.get("Nonce")),
    ["", "n1"],
  );
  server.script.push(["/api/me/", want()], ["/api/me/", want()]);
  assert.equal((await tab.fetch("/api/me/", { method: "POST", body: "x" })).status, 401);
  assert.deepEqual(
    server.calls("/api/me/").map(({ body }) => body),
    ["x", "x"],
  );
  assert.match(server.calls("/api/me/")[0].token, /^DPoP e/);
});

test("an entry point finishes a sign-in with the response to its own call", async () => {
  const [tab, other] = [browser.tab(), browser.tab()];
  await other.restore();
  const user = await tab.signIn("/auth/login/passkey", { challenge: "c", credential: {} });
  assert.deepEqual(user, server.user);
  await settle();
  assert.deepEqual([tab.status, other.status], ["in", "in"]);
});

test("an entry point sees the whole body of a refusal", async () => {
  const tab = browser.tab();
  const body = { detail: "More.", code: "second_factor_required", challenge: "c", methods: ["passkey"], publicKey: {} };
  server.script.push(["/auth/login", Response.json(body, { status: 401 })]);
  await assert.rejects(tab.login("ann", "secret"), { code: "second_factor_required", challenge: "c", body });
});
