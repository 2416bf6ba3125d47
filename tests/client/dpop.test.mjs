import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Latchkey as Storing } from "../../client/src/store.js";
import { BASE, Browser, Server, pass, refusal, settle } from "./stand_ins.mjs";

const decode = (part) => JSON.parse(Buffer.from(part, "base64url"));
const encode = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");
const digest = async (text) => Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(text))).toString("base64url");
const isRefresh = (url) => /refresh-token$|token.refresh$/.test(url);

/** Binds sessions to keys and requires proofs, like the server. */
class Binding extends Server {
  nonce = "first";
  jkts = new Map();
  codes = [];
  binds = true;

  constructor() {
    super();
    const plain = this.fetch;
    this.fetch = async (request) => {
      const code = await this.#verify(request);
      this.codes.push(code);
      const answer = code ? refusal(401, code) : await plain(request);
      if (request.headers.has("DPoP")) answer.headers.set("DPoP-Nonce", this.nonce);
      return answer;
    };
  }

  issue(life) {
    const answer = super.issue(life);
    const jkt = this.jkts.get(this.sid) ?? (this.binds && this.#proven);
    this.jkts.set(this.sid, jkt || "");
    const [header, payload, signature] = answer.accessToken.split(".");
    const cnf = jkt ? { cnf: { jkt } } : {};
    return { ...answer, accessToken: [header, encode({ ...decode(payload), ...cnf }), signature].join(".") };
  }

  #proven = "";

  async #verify(request) {
    const [scheme, token] = (request.headers.get("Authorization") ?? " ").split(" ");
    const expected = token ? decode(token.split(".")[1]).cnf?.jkt : isRefresh(request.url) ? this.jkts.get(this.sid) : "";
    const proof = request.headers.get("DPoP");
    this.#proven = "";
    if (!proof) return expected ? "dpop_proof_required" : "";
    if (expected && token && scheme !== "DPoP") return "dpop_proof_required";
    const [header, payload, signature] = proof.split(".");
    const { typ, alg, jwk } = decode(header);
    assert.deepEqual([typ, alg, Object.keys(jwk)], ["dpop+jwt", "ES256", ["kty", "crv", "x", "y"]]);
    const key = await crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, true, ["verify"]);
    const signed = Buffer.from(`${header}.${payload}`);
    const algorithm = { name: "ECDSA", hash: "SHA-256" };
    assert.ok(await crypto.subtle.verify(algorithm, key, Buffer.from(signature, "base64url"), signed));
    const claims = decode(payload);
    assert.equal(claims.htm, request.method);
    assert.equal(claims.htu, request.url.split("?")[0]);
    assert.equal(claims.iat, Math.floor(Date.now() / 1000));
    assert.equal(claims.ath, token ? await digest(token) : undefined);
    assert.ok(claims.jti.length > 20);
    const { kty, crv, x, y } = jwk;
    const jkt = await digest(JSON.stringify({ crv, kty, x, y }));
    if (isRefresh(request.url) && expected && claims.nonce !== this.nonce) return "use_dpop_nonce";
    if (expected && jkt !== expected) return "dpop_key_mismatch";
    this.#proven = jkt;
    return "";
  }
}

/** A stand-in for the IndexedDB that a browser's tabs share. */
class Keys {
  pair = null;
  get = async () => this.pair;
  set = async (pair) => void (this.pair = pair);
  remove = async () => void (this.pair = null);
}

let browser, server, keys;
const tab = () => browser.tab({ dpop: { keys } });

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 0, 1) });
  server = new Binding();
  browser = new Browser(server);
  keys = new Keys();
});

afterEach(() => {
  browser.close();
  mock.timers.reset();
});

test("a sign-in is bound to a key that can't be exported, and each request proves it", async () => {
  const one = tab();
  await one.login("ann", "secret");
  assert.equal(keys.pair.privateKey.extractable, false);
  assert.equal((await one.json("/api/sessions/?page=1")).path, "/api/sessions/?page=1");
  assert.match(server.requests.at(-1).token, /^DPoP /);
  assert.deepEqual(server.codes, ["", ""]);
  const { DPoP, Authorization } = await one.headers("/api/me/");
  assert.ok(DPoP && Authorization.startsWith("DPoP "));
});

test("a refresh learns the nonce once, and keeps it", async () => {
  const one = tab();
  await one.login("ann", "secret");
  server.nonce = "second";
  await one.renew();
  await one.renew();
  assert.deepEqual(server.codes, ["", "use_dpop_nonce", "", ""]);
  assert.equal(one.status, "in");
});

test("a nonce that may be too old is not sent", async () => {
  const one = tab();
  await one.login("ann", "secret");
  const nonces = [];
  for (const seconds of [0, 119, 2]) {
    await pass(seconds);
    await one.json("/api/me/");
    nonces.push(decode(server.requests.at(-1).headers.get("DPoP").split(".")[1]).nonce);
  }
  assert.deepEqual(nonces, ["first", "first", "first"]);
  await pass(121);
  const { DPoP } = await one.headers("/api/me/");
  assert.equal(decode(DPoP.split(".")[1]).nonce, undefined);
});

test("a new page continues with the previous page's key", async () => {
  await tab().login("ann", "secret");
  const another = tab();
  assert.equal(await another.restore(), true);
  assert.equal((await another.json("/api/me/")).username, "ann");
});

test("tabs share the key of the latest sign-in", async () => {
  const [one, two] = [tab(), tab()];
  await one.login("ann", "secret");
  await settle();
  assert.equal((await two.json("/api/me/")).username, "ann");
  const former = keys.pair;
  await two.login("bob", "secret");
  await settle();
  assert.notEqual(keys.pair, former);
  assert.equal((await one.json("/api/me/")).username, "bob");
  assert.deepEqual(server.codes.filter(Boolean), []);
});

test("a sign-in that is refused leaves the key of the session alone", async () => {
  const one = tab();
  await one.login("ann", "secret");
  const { pair } = keys;
  server.script.push(["/auth/login", refusal(401, "invalid_credentials")]);
  await assert.rejects(one.login("ann", "wrong"), { code: "invalid_credentials" });
  assert.equal(keys.pair, pair);
  await one.renew();
  assert.equal(one.status, "in");
});

test("the second step proves the key of the first", async () => {
  const one = tab();
  const asked = { detail: "A code.", code: "second_factor_required", challenge: "c" };
  server.script.push(["/auth/login", Response.json(asked, { status: 401 })]);
  await one.login("ann", "secret").catch(() => {});
  await one.secondFactor("c", "123456");
  const [first, second] = server.requests.map(({ headers }) => decode(headers.get("DPoP").split(".")[0]).jwk);
  assert.deepEqual(first, second);
  assert.equal((await one.json("/api/me/")).username, "ann");
});

test("a request whose proof was used before is sent again with another", async () => {
  const one = tab();
  await one.login("ann", "secret");
  server.script.push(["/api/me/", refusal(401, "invalid_dpop_proof")]);
  assert.equal((await one.json("/api/me/")).username, "ann");
  const [first, second] = server.calls("/api/me/").map(({ headers }) => headers.get("DPoP"));
  assert.notEqual(first, second);
});

test("signing out takes the key away", async () => {
  const one = tab();
  await one.login("ann", "secret");
  await one.logout();
  assert.equal(keys.pair, null);
});

test("a browser that has lost the key is signed out, with the reason", async () => {
  const one = tab();
  await one.login("ann", "secret");
  keys.pair = null;
  await pass(900);
  assert.deepEqual([one.status, one.reason], ["out", "key_lost"]);
  await one.login("ann", "secret");
  assert.equal(one.status, "in");
});

test("a server that binds no sessions gets the usual requests", async () => {
  server.binds = false;
  const one = tab();
  await one.login("ann", "secret");
  assert.equal((await one.json("/api/me/")).username, "ann");
  assert.match(server.requests.at(-1).token, /^Bearer /);
  assert.equal(keys.pair, null);
  await one.renew();
  assert.equal(one.status, "in");
});

test("if no key can be stored, sign-ins are not bound", async () => {
  keys.get = () => Promise.reject(new Error("no storage"));
  keys.remove = keys.get;
  const one = tab();
  await one.login("ann", "secret");
  assert.equal((await one.json("/api/me/")).username, "ann");
  assert.match(server.requests.at(-1).token, /^Bearer /);
  await one.logout();
  assert.equal(one.status, "out");
});

test("without a key, a server that requires one differs from a wrong password", async () => {
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: {}, configurable: true });
  const one = tab();
  server.script.push(["/auth/login", refusal(401, "dpop_proof_required")]);
  await assert.rejects(one.login("ann", "secret"), { name: "Misconfigured", code: "insecure_page" });
  await one.login("ann", "secret");
  assert.match(server.requests.at(-1).headers.get("DPoP") ?? "none", /none/);
  server.script.push(["/auth/refresh-token", refusal(401, "dpop_proof_required")]);
  await one.renew();
  assert.deepEqual([one.status, one.reason], ["out", "key_lost"]);
  Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true });
});

test("an app that keeps its tokens itself keeps the key too", async () => {
  const kept = new Map();
  const store = { get: () => kept.get("t"), set: (token) => kept.set("t", token), remove: () => kept.delete("t") };
  const app = browser.tab({ store, dpop: { keys }, locks: null, channel: null }, Storing);
  await app.login("ann", "secret");
  await app.renew();
  assert.equal((await app.me()).username, "ann");
  await app.logout();
  assert.equal(keys.pair, null);
});
