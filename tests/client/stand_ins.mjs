/** Stand-ins for the browser and the server, as far as the client's logic needs them. Other tests use the real ones. */

import { mock } from "node:test";

import { Latchkey } from "../../client/src/latchkey.js";

export const BASE = "https://auth.test";
export const LIFE = 900; // seconds

const rights = { is_staff: false, is_superuser: false, groups: [] };
const encode = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

/** Responds like the server: first with what `script` holds, then as a server with sessions, in either transport. */
export class Server {
  requests = [];
  /** Responses to give first: `[path, response]`, each once; an Error is a lost connection. */
  script = [];
  /** The cookie's session. */
  sid = null;
  /** Why sessions have ended, by id. */
  ended = new Map();
  /** The refresh tokens of the body transport, and their sessions. */
  refreshTokens = new Map();
  keepsCookies = true;
  user = { id: 1, username: "ann", email: "" };
  #serial = 0;

  fetch = async (request) => {
    const path = request.url.startsWith(BASE) ? request.url.slice(BASE.length) : request.url;
    const { method, credentials, mode } = request;
    const token = request.headers.get("Authorization");
    const text = await request.text();
    this.requests.push({ path, method, token, body: text, credentials, mode, headers: request.headers });
    await new Promise(setImmediate);
    const planned = this.script.findIndex(([at]) => at === path);
    if (planned >= 0) {
      const [[, answer]] = this.script.splice(planned, 1);
      if (answer instanceof Error) throw answer;
      return typeof answer === "function" ? answer(request) : answer;
    }
    const isJson = request.headers.get("Content-Type") === "application/json";
    return this.#answer(path, token?.replace(/^\w+ /, ""), isJson ? JSON.parse(text) : {});
  };

  #answer(path, token, body) {
    if (/^.auth.(login|register)/.test(path)) return Response.json(this.start(body.username));
    if (path === "/auth/refresh-token") return this.#refresh(this.keepsCookies ? this.sid : null, () => this.issue());
    if (path === "/api/token/refresh") {
      return this.#refresh(this.refreshTokens.get(body.refresh), (sid) => this.issueInBody(sid));
    }
    if (path === "/api/token/blacklist") {
      this.end("token_revoked", this.refreshTokens.get(body.refresh));
      return Response.json({});
    }
    if (/^.api.token($|.second-factor$)/.test(path)) {
      this.start(body.username);
      return Response.json(this.issueInBody(this.sid));
    }
    const sid = token && claims(token).sid;
    if (this.ended.has(sid)) return refusal(401, this.ended.get(sid));
    if (path === "/auth/password/change") {
      this.end();
      const answer = this.start(this.user.username);
      return Response.json(body.refresh ? { ...answer, refresh: this.issueInBody(this.sid).refresh } : answer);
    }
    if (path.startsWith("/auth/logout")) {
      this.end();
      this.sid = null;
      return new Response(null, { status: 204 });
    }
    if (path === "/api/me/") return Response.json({ path, token: token && `Bearer ${token}`, ...this.user });
    if (path === "/auth/reauthenticate") return Response.json(this.issue());
    return Response.json({ path, token: token && `Bearer ${token}` });
  }

  #refresh(sid, issue) {
    if (!sid) return refusal(401, "refresh_token_missing");
    return this.ended.has(sid) ? refusal(401, this.ended.get(sid)) : Response.json(issue(sid));
  }

  /** Open a session. */
  start(username = "ann") {
    this.user = { id: username.length + username.charCodeAt(0), username, email: "" };
    this.sid = `session-${++this.#serial}`;
    return this.issue();
  }

  end(code = "token_revoked", sid = this.sid) {
    this.ended.set(sid, code);
  }

  issue(life = LIFE) {
    const iat = Math.floor(Date.now() / 1000);
    const { id, username } = this.user;
    const serial = ++this.#serial;
    const payload = { sub: `${id}`, sid: this.sid, iat, exp: iat + life, serial, ...rights, username };
    const accessToken = `${encode({})}.${encode(payload)}.sig-_`;
    return { accessToken, tokenType: "Bearer", expiresIn: life, user: this.user };
  }

  issueInBody(sid) {
    const refresh = `refresh-${++this.#serial}`;
    this.refreshTokens.set(refresh, sid);
    return { access: this.issue().accessToken, refresh };
  }

  calls(path) {
    return this.requests.filter((request) => request.path === path);
  }
}

export const refusal = (status, code, headers) => Response.json({ detail: `A ${code}.`, code }, { status, headers });

/** The part of Web Locks that one process needs. */
export class Locks {
  #held = null;

  async request(name, ...rest) {
    const [options, work] = rest.length > 1 ? rest : [{}, rest[0]];
    if (options.ifAvailable && this.#held) return work(null);
    while (this.#held) await this.#held;
    const result = Promise.resolve(work({ name }));
    this.#held = result.catch(() => {}).then(() => (this.#held = null));
    return result;
  }
}

/** A browser whose tabs share locks and channel. */
export class Browser {
  static #count = 0;
  #name = `test-${++Browser.#count}`;
  #channels = [];
  locks = new Locks();

  constructor(server = new Server()) {
    this.server = server;
  }

  tab(options = {}, Client = Latchkey) {
    const { fetch } = this.server;
    const channel = new BroadcastChannel(this.#name);
    this.#channels.push(channel);
    const tab = new Client({ base: BASE, fetch, locks: this.locks, channel, ...options });
    tab.changes = [];
    tab.addEventListener("change", () => tab.changes.push(tab.status));
    return tab;
  }

  /** Send the message from a tab without a client. */
  post(message) {
    const channel = new BroadcastChannel(this.#name);
    this.#channels.push(channel);
    channel.postMessage(message);
  }

  close() {
    for (const channel of this.#channels) channel.close();
  }
}

/** Run everything that needs no time to pass. */
export async function settle() {
  for (let round = 0; round < 20; round++) await new Promise(setImmediate);
}

/** Move the clock in steps, so timers that start in between run too. */
export async function pass(seconds, step = Math.max(seconds / 100, 0.1)) {
  for (let passed = 0; passed < seconds; passed += step) {
    await settle();
    mock.timers.tick(Math.min(step, seconds - passed) * 1000);
  }
  await settle();
}
