// @ts-check
/**
 * The browser's side of Latchkey: signs in, keeps the access token fresh, and acts as one for all tabs of a site.
 *
 * The access token is kept in memory, never in storage; the refresh token is in a cookie that no script can read.
 * This file depends on nothing: copy it. docs/client.md explains it.
 */

const NAME = "latchkey"; // of the lock, of the channel, and of the hint in storage
const TRIES = 3;
const PATIENCE = 10; // seconds that a caller is kept waiting for one try
const ENDED = new Set(["token_revoked", "token_reused", "token_not_valid", "refresh_token_missing"]);

/** @param {number} seconds */
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** An answer that is no success: `code` is for programs, the message for people, `fields` says what to correct. */
export class Refused extends Error {
  /** @param {Response} response @param {any} body */
  constructor(response, body) {
    super(body.detail ?? `${response.status} ${response.statusText}`);
    this.name = "Refused";
    this.status = response.status;
    /** @type {string} */
    this.code = typeof body.code === "string" ? body.code : ""; // a field may have that name
    /** @type {Record<string, string[]>} */
    this.fields = response.status === 400 && !this.code ? body : {};
    /** What the second factor is to be presented with. @type {string | undefined} */
    this.challenge = body.challenge;
    const wait = response.headers.get("Retry-After");
    /** Seconds to wait; 0 if the server does not say. */
    this.retryAfter = Math.max(Number(wait) || (Date.parse(wait ?? "") - Date.now()) / 1000, 0) || 0;
  }
}

/** Return the JSON of an answer. Throws Refused. @param {Response} response @returns {Promise<any>} */
export async function read(response) {
  const text = await response.text();
  let body = {};
  try {
    body = text && JSON.parse(text);
  } catch (error) {
    if (response.ok) throw error; // a proxy's error page is no JSON
  }
  if (!response.ok) throw new Refused(response, body);
  return body;
}

/**
 * Dispatches `change` whenever `status` becomes another, or another session takes the place of the one so far:
 * by this tab's doing, by another tab's, or by the server's.
 */
export class Latchkey extends EventTarget {
  /** "unknown" until `restore`, `login` or another tab tells. @type {"unknown" | "in" | "out"} */
  status = "unknown";
  /** Why it is "out": the server's code, or nothing if that was wanted. */
  reason = "";

  /** @type {{token: string, expires: number, sid: string} | null} */
  #access = null;
  /** @type {Promise<void> | null} */
  #renewing = null;
  /** @type {Promise<any>} */
  #queue = Promise.resolve();
  #renewAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #base;
  #fetch;
  #locks;
  #channel;
  #storage;

  /**
   * @param {object} [options] By default the browser's; null for what to do without.
   * @param {string} [options.base] The server, if it is another than the page's.
   * @param {(request: Request) => Promise<Response>} [options.fetch]
   * @param {Pick<LockManager, "request"> | null} [options.locks]
   * @param {BroadcastChannel | null} [options.channel]
   * @param {Pick<Storage, "getItem" | "setItem" | "removeItem">} [options.storage]
   */
  constructor({
    base = globalThis.location?.href,
    fetch = (request) => globalThis.fetch(request),
    locks = globalThis.navigator?.locks,
    channel = globalThis.BroadcastChannel && new BroadcastChannel(NAME),
    storage,
  } = {}) {
    super();
    this.#base = new URL(base);
    this.#fetch = fetch;
    this.#locks = locks;
    this.#channel = channel;
    this.#storage = storage;
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.token) this.#take(data.token, data.expires);
      else if (data.sid === this.#access?.sid) this.#leave(data.reason);
    });
    for (const event of ["visibilitychange", "online"]) globalThis.addEventListener?.(event, this.#renewIfDue, true);
  }

  /**
   * Find out whether the browser is signed in, at the start of a page. Resolves once `status` tells; rejects while the
   * server is out of reach, and goes on trying behind that.
   */
  async restore() {
    if (this.status === "unknown" && !this.#hint()) this.#leave("");
    if (this.status === "unknown") await this.renew();
    return this.status === "in";
  }

  /**
   * Sign in; return the user. The session outlives the browser, unless `remember` is false.
   * @param {string} username @param {string} password @param {{remember?: boolean}} [options]
   */
  login(username, password, { remember } = {}) {
    return this.#signIn("/auth/login", { username, password, remember });
  }

  /** Go on with a login that was refused with `second_factor_required`. @param {string} challenge @param {string} code */
  secondFactor(challenge, code) {
    return this.#signIn("/auth/login/second-factor", { challenge, code });
  }

  /**
   * Make an account and sign in to it; return the user. Where the address has to be verified first, only make it, and
   * return `{detail}`, what the person is to be told.
   * @param {{username: string, password: string, email?: string, remember?: boolean}} account
   */
  register(account) {
    return this.#signIn("/auth/register", account);
  }

  /** End this session, in every tab. */
  logout() {
    return this.#signOut("/auth/logout");
  }

  /** End every session of the user, on every device. */
  logoutAll() {
    return this.#signOut("/auth/logout-all");
  }

  /** Delete the account, with every session of the user. Throws Refused. @param {string} currentPassword */
  async deleteAccount(currentPassword) {
    await this.json("/auth/account/delete", "POST", { currentPassword });
    this.#end("");
  }

  /**
   * Fetch with the access token, which no other server gets to see. An expired one is renewed first, or once the server
   * says so, and the request is repeated.
   * @param {RequestInfo | URL} input @param {RequestInit} [init]
   */
  async fetch(input, init) {
    const request = new Request(input instanceof Request ? input : new URL(input, this.#base), init);
    if (new URL(request.url).origin !== this.#base.origin) return this.#fetch(request);
    if (this.#isExpired()) await this.renew();
    const used = this.#access;
    const response = await this.#send(request.clone());
    if (response.status !== 401 || !used) return response;
    const { code } = await response.clone().json().catch(() => ({}));
    if (code === "token_expired") {
      await this.renew(used);
      // Another tab may have signed in as somebody else, who has not asked for this.
      if (this.#access?.sid === used.sid) return this.#send(request);
    } else if (ENDED.has(code) && this.#access?.sid === used.sid) {
      this.#end(code);
    }
    return response;
  }

  /**
   * Fetch JSON, and send `body` as JSON. Throws Refused.
   * @param {string} path @param {string} [method] @param {unknown} [body] @returns {Promise<any>}
   */
  async json(path, method = "GET", body) {
    return read(await this.fetch(this.#request(path, method, body)));
  }

  /**
   * Renew the access token, unless that has been done since `old` was the current one: once, whichever tabs ask.
   * @param {unknown} [old]
   */
  async renew(old = this.#access) {
    if (this.#access !== old || this.status === "out") return;
    this.#renewing ??= this.#alone(async (waited) => {
      if (waited && this.#access === old) await this.#news();
      if (this.#access === old && this.status !== "out") await this.#refresh();
    }).finally(() => (this.#renewing = null));
    await this.#renewing;
  }

  /** @param {string} path @param {unknown} body */
  #signIn(path, body) {
    return this.#alone(async () => {
      const started = Date.now();
      const answer = await read(await this.#fetch(this.#request(path, "POST", body)));
      if (!answer.accessToken) return answer;
      this.#adopt(answer, started);
      return answer.user;
    });
  }

  /** @param {string} path */
  #signOut(path) {
    return this.#alone(async () => {
      if (this.#isExpired()) await this.#refresh();
      for (let again = true; this.status !== "out"; again = false) {
        const response = await this.#send(this.#request(path, "POST"));
        if (response.ok || (response.status === 401 && !again)) this.#end("");
        else if (response.status !== 401) await read(response);
        // The cookie may be another session's by now; what it says counts.
        else await this.#refresh();
      }
    });
  }

  async #refresh() {
    for (let tries = 1; ; tries++) {
      const started = Date.now();
      try {
        return this.#adopt(await read(await this.#fetch(this.#request("/auth/refresh-token", "POST"))), started);
      } catch (error) {
        if (error instanceof Refused && error.status === 401) return this.#end(error.code);
        // The server is away or busy, or the answer was lost: the session stays, and asking again is safe.
        const refused = error instanceof Refused ? error : null;
        const passes = !refused || refused.status === 429 || refused.status >= 500;
        const wait = (refused?.retryAfter || 2 ** (tries - 1)) * (1 + Math.random() / 4);
        if (!passes || tries === TRIES || wait > PATIENCE) {
          this.#schedule(Math.max(wait, PATIENCE));
          throw error;
        }
        await sleep(wait);
      }
    }
  }

  /** @param {{accessToken: string, expiresIn: number}} answer @param {number} started */
  #adopt({ accessToken: token, expiresIn }, started) {
    const expires = started + expiresIn * 1000;
    this.#take(token, expires);
    this.#channel?.postMessage({ token, expires });
  }

  /** @param {string} token @param {number} expires */
  #take(token, expires) {
    if (this.#access && this.#access.expires > expires) return; // a message that was overtaken
    const { sid } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const changed = this.#access?.sid !== sid;
    this.#access = { token, expires, sid };
    this.#hint("in");
    if (changed) this.#become("in", "");
    this.#schedule(((expires - Date.now()) / 1000) * (0.7 + Math.random() * 0.2));
  }

  /** @param {string} reason */
  #end(reason) {
    this.#channel?.postMessage({ sid: this.#access?.sid ?? "", reason });
    this.#leave(reason);
  }

  /** @param {string} reason */
  #leave(reason) {
    clearTimeout(this.#timer);
    this.#access = null;
    this.#hint("");
    this.#become("out", reason);
  }

  /** @param {"in" | "out"} status @param {string} reason */
  #become(status, reason) {
    [this.status, this.reason] = [status, reason];
    this.dispatchEvent(new Event("change"));
  }

  #isExpired() {
    return this.status !== "out" && !(this.#access && Date.now() < this.#access.expires);
  }

  /** @param {number} seconds */
  #schedule(seconds) {
    this.#renewAt = Date.now() + seconds * 1000;
    this.#renewIfDue();
  }

  /** A hidden tab renews nothing until it is seen again, or fetches. */
  #renewIfDue = () => {
    clearTimeout(this.#timer);
    if (!this.#renewAt || this.status === "out") return;
    const left = this.#renewAt - Date.now();
    // Asked again when it is up: a timer may be early, by the clock, and can't be longer than this.
    if (left > 0) this.#timer = setTimeout(this.#renewIfDue, Math.min(Math.ceil(left), 2 ** 31 - 1));
    else if (!globalThis.document?.hidden) this.renew().catch(() => {});
  };

  /** @param {string} path @param {string} method @param {unknown} [body] */
  #request(path, method, body) {
    const headers = body === undefined ? undefined : { "Content-Type": "application/json" };
    const credentials = path.startsWith("/auth/") ? "include" : "same-origin";
    return new Request(new URL(path, this.#base), { method, headers, body: JSON.stringify(body), credentials });
  }

  /** @param {Request} request */
  #send(request) {
    if (this.#access) request.headers.set("Authorization", `Bearer ${this.#access.token}`);
    return this.#fetch(request);
  }

  /**
   * Do the work while no tab does any such; it is told whether another just did. Without Web Locks, only this tab
   * waits for itself, and the server makes good for what several do at once.
   * @template T @param {(waited: boolean) => Promise<T>} work @returns {Promise<T>}
   */
  async #alone(work) {
    if (!this.#locks) return (this.#queue = this.#queue.catch(() => {}).then(() => work(false)));
    const free = { ifAvailable: true };
    const done = await this.#locks.request(NAME, free, async (lock) => lock && { result: await work(false) });
    return done ? done.result : this.#locks.request(NAME, () => work(true));
  }

  /** Wait for what the tab that held the lock has to tell: its message may come after the lock. */
  #news() {
    const news = new Promise((resolve) => this.#channel?.addEventListener("message", resolve, { once: true }));
    return Promise.race([news, sleep(0.2)]);
  }

  /**
   * Remember, beyond this page, that there is a session to restore: no secret, and only a hint. Without storage, it is
   * always worth asking.
   * @param {string} [value]
   */
  #hint(value) {
    try {
      const storage = this.#storage ?? localStorage;
      if (value === undefined) return storage.getItem(NAME) !== null;
      if (value) storage.setItem(NAME, value);
      else storage.removeItem(NAME);
    } catch {
      return true;
    }
  }
}
