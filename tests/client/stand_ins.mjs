/** What the browser and the server are to the client, as far as its own logic asks: the rest is tried for real. */

import { copyFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import { pathToFileURL } from "node:url";

// Node takes a .js file for a module only where a package.json says so.
const copy = join(mkdtempSync(join(tmpdir(), "latchkey-")), "latchkey.mjs");
copyFileSync(new URL("../../static/latchkey.js", import.meta.url), copy);
export const { Latchkey, Refused } = await import(pathToFileURL(copy));

export const BASE = "https://auth.test";
export const LIFE = 900; // seconds

const encode = (object) => Buffer.from(JSON.stringify(object)).toString("base64url");

/** Answers in place of the server: what `script` holds first, then as a server that has one session. */
export class Server {
  requests = [];
  /** Answers to give before its own: `[path, answer]`, each once; an Error is a lost connection. */
  script = [];
  sid = "session-1";
  #serial = 0;

  fetch = async (request) => {
    const path = request.url.startsWith(BASE) ? new URL(request.url).pathname : request.url;
    const token = request.headers.get("Authorization");
    const body = await request.text();
    this.requests.push({ path, method: request.method, token, body, credentials: request.credentials });
    await new Promise(setImmediate);
    const planned = this.script.findIndex(([at]) => at === path);
    if (planned >= 0) {
      const [[, answer]] = this.script.splice(planned, 1);
      if (answer instanceof Error) throw answer;
      return typeof answer === "function" ? answer(request) : answer;
    }
    if (path.startsWith("/auth/logout")) return new Response(null, { status: 204 });
    if (path.startsWith("/auth/")) return Response.json(this.issue());
    return Response.json({ path, token });
  };

  issue() {
    const payload = encode({ sid: this.sid, serial: ++this.#serial });
    const user = { id: 1, username: "ann", email: "" };
    return { accessToken: `${encode({})}.${payload}.sig-_`, tokenType: "Bearer", expiresIn: LIFE, user };
  }

  calls(path) {
    return this.requests.filter((request) => request.path === path);
  }
}

export const refusal = (status, code, headers) => Response.json({ detail: `A ${code}.`, code }, { status, headers });

/** As much of Web Locks as one process needs. */
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

export class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
  removeItem = (key) => this.items.delete(key);
}

/** A browser whose tabs share locks, channel and storage. */
export class Browser {
  static #count = 0;
  #name = `test-${++Browser.#count}`;
  #channels = [];
  locks = new Locks();
  storage = new Storage();

  constructor(server = new Server()) {
    this.server = server;
  }

  tab(options = {}) {
    const { fetch } = this.server;
    const channel = new BroadcastChannel(this.#name);
    this.#channels.push(channel);
    const tab = new Latchkey({ base: BASE, fetch, locks: this.locks, storage: this.storage, channel, ...options });
    tab.changes = [];
    tab.addEventListener("change", () => tab.changes.push(tab.status));
    return tab;
  }

  close() {
    for (const channel of this.#channels) channel.close();
  }
}

/** Let everything happen that needs no time to pass. */
export async function settle() {
  for (let round = 0; round < 20; round++) await new Promise(setImmediate);
}

/** Move the clock, in steps, so that what is waited for can be waited for again. */
export async function pass(seconds, step = Math.max(seconds / 100, 0.1)) {
  for (let passed = 0; passed < seconds; passed += step) {
    await settle();
    mock.timers.tick(Math.min(step, seconds - passed) * 1000);
  }
  await settle();
}
