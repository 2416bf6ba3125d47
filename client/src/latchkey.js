// @ts-check
/**
 * Sign-in with Latchkey in the browser: keeps the access token fresh, and acts as one for all tabs of a site.
 *
 * The access token stays in memory; the refresh token is in a cookie that scripts can't read. See docs/client.md.
 * @import { Account, Answer, Binding, Claims, Detail, Enrolment, Factor, Hooks, Link, List, Me } from "./wire.js"
 * @import { Options, Proof, Session, State, Transport, User } from "./wire.js"
 */

const TRIES = 3;
const PATIENCE = 10; // seconds that a caller waits for one try
const STALE = new Set(["token_expired", "token_revoked", "token_reused", "token_not_valid"]);
const FACTOR = "/auth/second-factor";
const SESSIONS = "/api/sessions/";
const MISSING = "refresh_token_missing";
const UNPROVEN = new Set(["dpop_proof_required", "dpop_key_mismatch"]);

/** @param {number} seconds */
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** @param {string} token @returns {Claims} */
const claimsOf = (token) => {
  const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
};

/** What answers where the second factor is asked for. @param {string | Proof} [code] */
const proof = (code) => (typeof code === "string" ? { code } : code);

/** An answer that is not a success: `code` is for programs, the message for people, `fields` says what to correct. */
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
    /** What the second step of a sign-in needs. @type {string | undefined} */
    this.challenge = body.challenge;
    /** The whole answer. @type {any} */
    this.body = body;
    const wait = response.headers.get("Retry-After");
    /** Seconds to wait; 0 if the server does not say. */
    this.retryAfter = Math.max(Number(wait) || (Date.parse(wait ?? "") - Date.now()) / 1000, 0) || 0;
  }
}

/** The server or the page is set up so that signing in can't work. The message says what to change. */
export class Misconfigured extends Error {
  /** @param {"cookie_not_kept" | "origin_refused" | "insecure_page"} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "Misconfigured";
    this.code = code;
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
 * Tell a server that requires a key, where the page can have none, from a wrong password.
 * @param {any} error @returns {never}
 */
const explain = (error) => {
  if (error.code !== "dpop_proof_required" || globalThis.crypto?.subtle) throw error;
  throw new Misconfigured("insecure_page", "The server requires a key, which needs https or localhost.");
};

/**
 * Bind sign-ins to a key. What does so is loaded when it is first needed, so that other pages never load it.
 * @param {true | Binding} options @returns {Hooks}
 */
const binding = (options) => {
  /** @type {Required<Hooks> | undefined} */
  let hooks;
  const load = async () => {
    const { dpop } = await import("./dpop.js");
    return (hooks ??= dpop(options === true ? {} : options));
  };
  return {
    headers: async (request, token) => (await load()).headers(request, token),
    answered: async (response, request) => (await load()).answered(response, request),
    ended: async () => (await load()).ended(),
  };
};

/** The browser carries the refresh token, in a cookie. @type {Transport} */
const cookie = {
  credentials: "include",
  sending: (path, body) => [path, body],
  received: (answer) => answer,
  forget() {},
};

/** Dispatches `change` when `state` becomes another: by this tab, by another one, or by the server. */
export class Latchkey extends EventTarget {
  /** @type {State} */
  #state = { status: "unknown", reason: "", user: null };
  /** @type {{token: string, expires: number, since: number} | null} */
  #access = null;
  /** @type {Promise<void> | null} */
  #renewing = null;
  /** @type {Promise<any>} */
  #queue = Promise.resolve();
  #renewAt = 0;
  /** @type {any} */
  #timer;
  /** Whether no refresh has shown yet that the browser kept the cookie of the sign-in. */
  #unproven = false;
  /** Origins that have answered this page. @type {Set<string>} */
  #heard = new Set();
  #base;
  /** @type {Set<string>} */
  #origins;
  #name;
  #page;
  #fetch;
  #locks;
  #channel;
  #hooks;
  #transport;

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    const page = globalThis.location; // not in Node, where BroadcastChannel would join clients of several users
    this.#page = page?.origin;
    const { origin, pathname } = new URL(options.base ?? page?.origin);
    this.#base = new URL(origin + pathname.replace(/\/*$/, "/"));
    this.#origins = new Set([this.#base, ...(options.origins ?? [])].map((url) => new URL(url).origin));
    if (this.#origins.has("null")) throw new TypeError("`base` and `origins` must be http or https origins");
    this.#name = `latchkey ${this.#base}`;
    this.#fetch = options.fetch ?? ((request) => globalThis.fetch(request));
    this.#hooks = options.dpop ? binding(options.dpop) : (options.hooks ?? {});
    this.#transport = options.transport ?? cookie;
    const { locks = page && globalThis.navigator?.locks } = options;
    const { channel = page && globalThis.BroadcastChannel && new BroadcastChannel(this.#name) } = options;
    this.#locks = locks;
    this.#channel = channel;
    channel?.addEventListener("message", ({ data }) => {
      const current = this.#access && claimsOf(this.#access.token);
      if (!data.token) {
        if (data.sid === current?.sid) this.#leave(data.reason);
      } else if (!current || claimsOf(data.token).iat >= current.iat) {
        this.#take(data); // else the message was overtaken
      }
    });
    for (const event of ["visibilitychange", "online"]) globalThis.addEventListener?.(event, this.#renewIfDue, true);
    globalThis.addEventListener?.("pageshow", this.#comeBack);
  }

  /** An immutable object, the same one until something changes. */
  get state() {
    return this.#state;
  }

  /** "unknown" until `restore`, a sign-in or another tab tells. */
  get status() {
    return this.#state.status;
  }

  /** Why it is "out": the server's code, or nothing if that was wanted. */
  get reason() {
    return this.#state.reason;
  }

  /** Who is signed in, as the access token says. */
  get user() {
    return this.#state.user;
  }

  /**
   * Find out whether the browser is signed in, at the start of a page: asks the server once. Rejects while the server
   * is out of reach, and goes on trying in the background.
   */
  async restore() {
    if (this.status === "unknown") await this.renew();
    return this.status === "in";
  }

  /**
   * Sign in. The session outlives the browser unless `remember` is false. Throws Refused, Misconfigured.
   * @param {string} username @param {string} password @param {{remember?: boolean, deviceName?: string}} [options]
   * @returns {Promise<User>}
   */
  login(username, password, options) {
    return this.signIn("/auth/login", { username, password, ...options });
  }

  /**
   * Go on with a login that was refused with `second_factor_required`.
   * @param {string} challenge @param {string} code @returns {Promise<User>}
   */
  secondFactor(challenge, code) {
    return this.signIn("/auth/login/second-factor", { challenge, code });
  }

  /**
   * Create an account and sign in to it. Where the address has to be verified first, only create it, and return
   * `{detail}`, what to tell the person.
   * @param {Account} account @returns {Promise<User | Detail>}
   */
  register(account) {
    return this.signIn("/auth/register", account);
  }

  /** End this session, in every tab. */
  logout() {
    return this.#signOut("/auth/logout");
  }

  /** End every session of the user, on every device. */
  logoutAll() {
    return this.#signOut("/auth/logout-all");
  }

  /**
   * Change the password. Every session ends; this browser goes on in a new one.
   * @param {string | undefined} currentPassword @param {string} newPassword
   */
  changePassword(currentPassword, newPassword) {
    return this.exchange("/auth/password/change", { currentPassword, newPassword });
  }

  /**
   * Make the sign-in a recent one. Accounts without a password leave that out, here and below.
   * @param {string | undefined} currentPassword @param {string | Proof} [code] The answer of `Passkeys` does as well.
   */
  reauthenticate(currentPassword, code) {
    return this.exchange("/auth/reauthenticate", { currentPassword, ...proof(code) });
  }

  /**
   * Delete the account, with every session of the user.
   * @param {string | undefined} currentPassword @param {string | Proof} [code]
   */
  async deleteAccount(currentPassword, code) {
    await this.json("/auth/account/delete", "POST", { currentPassword, ...proof(code) });
    await this.#end("");
  }

  /** Mail a link that sets a new password, if the address is known. @param {string} email */
  requestReset(email) {
    return this.#tell("/auth/password/reset", { email });
  }

  /** Throws Refused if the mailed link no longer works; leaves it unused. @param {Link} link */
  checkResetLink(link) {
    return this.#tell("/auth/password/reset/check", link);
  }

  /**
   * Set a new password with a mailed link. Every session of the user ends.
   * @param {Link} link @param {string} newPassword
   */
  async resetPassword(link, newPassword) {
    await this.#tell("/auth/password/reset/confirm", { ...link, newPassword });
    // This session may have been the user's. If the server is away now, the next request finds out.
    if (this.status === "in") await this.renew().catch(() => {});
  }

  /** Throws Refused if the mailed link no longer works; leaves it unused. @param {Link} link */
  checkVerificationLink(link) {
    return this.#tell("/auth/email/verify/check", link);
  }

  /** Verify the address with a mailed link. @param {Link} link */
  verifyEmail(link) {
    return this.#tell("/auth/email/verify", link);
  }

  /** @returns {Promise<Me>} */
  me() {
    return this.json("/api/me/");
  }

  /**
   * List the active sessions, a page at a time: give `next` of the page before.
   * @param {string | null} [next] @returns {Promise<List<Session>>}
   */
  sessions(next) {
    return this.json(SESSIONS + (next ? new URL(next).search : ""));
  }

  /** @param {string} id @param {string} device @returns {Promise<Session>} */
  renameSession(id, device) {
    return this.json(`${SESSIONS}${id}/`, "PATCH", { device });
  }

  /** @param {string} id @returns {Promise<void>} */
  revokeSession(id) {
    return this.json(`${SESSIONS}${id}/`, "DELETE");
  }

  /** End every session but this one. @returns {Promise<{revoked: number}>} */
  revokeOtherSessions() {
    return this.json(`${SESSIONS}revoke-others/`, "POST");
  }

  /** @returns {Promise<Factor>} */
  secondFactorState() {
    return this.json(FACTOR);
  }

  /** @param {string | undefined} currentPassword @returns {Promise<Enrolment>} */
  setUpSecondFactor(currentPassword) {
    return this.json(FACTOR, "POST", { currentPassword });
  }

  /**
   * Turn on two-factor authentication. If this is the account's only second factor, the answer has the recovery
   * codes. They are shown once.
   * @param {string} code @param {{endOtherSessions?: boolean}} [options] @returns {Promise<{recoveryCodes?: string[]}>}
   */
  confirmSecondFactor(code, options) {
    return this.json(`${FACTOR}/confirm`, "POST", { code, ...options });
  }

  /**
   * @param {string | undefined} currentPassword @param {string | Proof} code
   * @returns {Promise<{recoveryCodes: string[]}>}
   */
  renewRecoveryCodes(currentPassword, code) {
    return this.json(`${FACTOR}/recovery-codes`, "POST", { currentPassword, ...proof(code) });
  }

  /**
   * Turn off two-factor authentication.
   * @param {string | undefined} currentPassword @param {string | Proof} code
   * @param {{endOtherSessions?: boolean}} [options]
   * @returns {Promise<void>}
   */
  removeSecondFactor(currentPassword, code, options) {
    return this.json(`${FACTOR}/remove`, "POST", { currentPassword, ...proof(code), ...options });
  }

  /**
   * Fetch with the access token, which goes to the server and to `origins` only. A stale token is renewed, and the
   * request repeated once.
   * @param {RequestInfo | URL} input @param {RequestInit} [init]
   */
  async fetch(input, init) {
    const request = new Request(input instanceof Request ? input : this.#url(input), init);
    if (!this.trusts(request.url)) return this.#fetch(request);
    for (let last = false; ; last = true) {
      const token = await this.token();
      const response = await this.#send(last ? request : request.clone(), token);
      if (!(await this.again(response, token)) || last) return response;
    }
  }

  /**
   * Fetch JSON, and send `body` as JSON. Throws Refused.
   * @param {string} path @param {string} [method] @param {unknown} [body] @returns {Promise<any>}
   */
  async json(path, method = "GET", body) {
    return read(await this.fetch(this.#request(path, method, body)));
  }

  /** Return an access token that has not expired; undefined if nobody is signed in. */
  async token() {
    if (this.#isExpired()) await this.renew();
    return this.#access?.token;
  }

  /**
   * Return the headers for a request that you send by other means; none for a server that may not see the token.
   * @param {string | URL} url @param {string} [method] @returns {Promise<Record<string, string>>}
   */
  async headers(url, method) {
    const request = new Request(this.#url(url), { method });
    return this.trusts(request.url) ? this.#headers(request, await this.token()) : {};
  }

  /** Whether the token may be sent there. @param {string | URL} url */
  trusts(url) {
    return this.#origins.has(this.#url(url).origin);
  }

  /**
   * Whether to repeat a request that was sent with `token`, now that its answer is here: if the token was stale, it is
   * renewed first, and the new one has to be the same user's.
   * @param {Response} response @param {string} [token]
   */
  async again(response, token) {
    if (response.status !== 401 || !token) return false;
    const { code } = await response
      .clone()
      .json()
      .catch(() => ({}));
    // Another API may say it in words of its own, or mean something that no new token changes.
    const isOurs = !response.url || new URL(response.url).origin === this.#base.origin;
    const isNew = token === this.#access?.token && Date.now() - this.#access.since < PATIENCE * 1000;
    if (isOurs ? !STALE.has(code) : isNew) return false;
    await this.renew(token);
    return this.user?.id === claimsOf(token).sub;
  }

  /**
   * Renew the access token, unless that has been done since `old` was the current one: once, however many tabs ask.
   * @param {string} [old]
   */
  async renew(old = this.#access?.token) {
    const isDone = () => this.#access?.token !== old || this.status === "out";
    if (isDone()) return;
    await this.#renewOnce(async (waited) => {
      if (waited && !isDone()) await this.#news();
      if (!isDone()) await this.#refresh();
    });
  }

  /** @param {(waited: boolean) => Promise<void>} work */
  #renewOnce(work) {
    return (this.#renewing ??= this.#alone(work).finally(() => (this.#renewing = null)));
  }

  /**
   * Sign in by a call that answers as a login does, for entry points that bring other ways to sign in.
   * @param {string} path @param {unknown} body @returns {Promise<any>} The user, or an answer without tokens.
   */
  async signIn(path, body) {
    const answer = await this.#alone(async () => {
      const answer = await this.#obtain(path, body).catch(explain);
      this.#unproven = !!answer.accessToken && this.#transport === cookie;
      // From a page of another origin, see at once whether the browser keeps the cookie.
      if (this.#unproven && this.#isForeign(this.#base)) await this.#refresh();
      return answer;
    });
    return answer.accessToken ? (answer.user ?? this.me()) : answer;
  }

  /**
   * Call with the access token what answers with another, and take that over.
   * @param {string} path @param {object} body @returns {Promise<void>}
   */
  exchange(path, body) {
    return this.#alone(async () => {
      for (let last = false; ; last = true) {
        if (this.#isExpired()) await this.#refresh();
        const { user } = this;
        try {
          await this.#obtain(path, body, this.#access?.token);
          return;
        } catch (error) {
          if (last || !(error instanceof Refused && error.status === 401 && STALE.has(error.code))) throw error;
          await this.#refresh();
          if (!user || this.user?.id !== user.id) throw error;
        }
      }
    });
  }

  /** @param {string} path @returns {Promise<void>} */
  #signOut(path) {
    return this.#alone(async () => {
      if (this.#isExpired()) await this.#refresh();
      for (let last = false; this.status !== "out"; last = true) {
        const response = await this.#call(path, undefined, this.#access?.token);
        if (response.ok || (response.status === 401 && last)) await this.#end("");
        else if (response.status !== 401) await read(response);
        // The cookie may be another session's by now; what it says counts.
        else await this.#refresh();
      }
    });
  }

  /** Call what needs no sign-in and has nothing to return. @param {string} path @param {object} body */
  async #tell(path, body) {
    await read(await this.#call(path, body));
  }

  /** @returns {Promise<void>} */
  async #refresh() {
    for (let tries = 1; ; tries++) {
      try {
        await this.#obtain("/auth/refresh-token");
        return;
      } catch (error) {
        const refused = error instanceof Refused ? error : null;
        if (refused?.status === 401) return this.#lost(refused.code);
        // The server is away or busy, or the answer was lost: the session stays, and asking again is safe.
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

  /** @param {string} code */
  async #lost(code) {
    const wasUnproven = this.#unproven && code === MISSING;
    if (this.status === "out" && !wasUnproven) return;
    const neverWas = this.status === "unknown" && code === MISSING;
    const reason = UNPROVEN.has(code) ? "key_lost" : code;
    await this.#end(wasUnproven ? "cookie_not_kept" : neverWas ? "" : reason);
    if (!wasUnproven) return;
    const [server, page] = [this.#base.origin, this.#page];
    const cure = this.#isForeign(this.#base)
      ? `Serve both from one site (localhost and 127.0.0.1 differ), or set REFRESH_COOKIE_SAMESITE=none on the server.`
      : `Use https, or DEBUG=true on the server, and allow cookies.`;
    throw new Misconfigured("cookie_not_kept", `The browser did not keep the cookie of ${server} for ${page}. ${cure}`);
  }

  /** @param {string} path @param {unknown} [body] @param {string} [token] @returns {Promise<Answer>} */
  async #obtain(path, body, token) {
    const started = Date.now();
    const answer = await this.#transport.received(await read(await this.#call(path, body, token)));
    if (answer.accessToken) {
      const { iat, exp } = claimsOf(answer.accessToken);
      const access = { token: answer.accessToken, expires: started + (answer.expiresIn ?? exp - iat) * 1000 };
      this.#take(access);
      this.#channel?.postMessage(access);
    }
    return answer;
  }

  /** @param {{token: string, expires: number}} access */
  #take(access) {
    const { sub, username, is_staff, is_superuser, groups } = claimsOf(access.token);
    this.#access = { ...access, since: Date.now() };
    this.#unproven = false;
    this.#become("in", "", { id: sub, username, isStaff: is_staff, isSuperuser: is_superuser, groups });
    this.#schedule(((access.expires - Date.now()) / 1000) * (0.7 + Math.random() * 0.2));
  }

  /** @param {string} reason */
  async #end(reason) {
    this.#channel?.postMessage({ sid: this.#access ? claimsOf(this.#access.token).sid : "", reason });
    this.#leave(reason);
    await this.#transport.forget();
    await this.#hooks.ended?.();
  }

  /** @param {string} reason */
  #leave(reason) {
    clearTimeout(this.#timer);
    this.#access = null;
    this.#become("out", reason, null);
  }

  /** @param {State["status"]} status @param {string} reason @param {State["user"]} user */
  #become(status, reason, user) {
    const state = { status, reason, user };
    if (JSON.stringify(state) === JSON.stringify(this.#state)) return;
    this.#state = state;
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
    if (left > 0) {
      this.#timer = setTimeout(this.#renewIfDue, Math.min(Math.ceil(left), 2 ** 31 - 1));
      this.#timer.unref?.(); // keeps no script of Node's from ending
    } else if (!globalThis.document?.hidden) {
      this.renew().catch(() => {});
    }
  };

  /** A page from the back/forward cache has heard nothing meanwhile, so it asks the server, as a new page does. */
  #comeBack = (/** @type {any} */ { persisted }) => {
    if (persisted) this.#renewOnce(() => this.#refresh()).catch(() => {});
  };

  /** Resolve a path below the server's own. @param {string | URL} input */
  #url(input) {
    return new URL(`${input}`.replace(/^\/(?![/\\])/, "./"), this.#base);
  }

  /** @param {string | URL} url */
  #isForeign(url) {
    return !!this.#page && new URL(url).origin !== this.#page;
  }

  /** @param {string} path @param {string} method @param {unknown} [body] */
  #request(path, method, body) {
    const headers = body === undefined ? undefined : { "Content-Type": "application/json" };
    const credentials = path.startsWith("/auth/") ? this.#transport.credentials : "same-origin";
    return new Request(this.#url(path), { method, headers, body: JSON.stringify(body), credentials });
  }

  /** @param {string} path @param {unknown} body @param {string} [token] */
  async #call(path, body, token) {
    const [to, sent] = await this.#transport.sending(path, body);
    return this.#send(this.#request(to, "POST", sent), token);
  }

  /** @param {Request} request @param {string} [token] */
  async #send(request, token) {
    for (let last = !this.#hooks.answered; ; last = true) {
      const sent = last ? request : request.clone();
      for (const [name, value] of Object.entries(await this.#headers(sent, token))) sent.headers.set(name, value);
      const response = await this.#ask(sent);
      if (!(await this.#hooks.answered?.(response, sent)) || last) return response;
    }
  }

  /** @param {Request} request @param {string} [token] @returns {Promise<Record<string, string>>} */
  async #headers(request, token) {
    return { ...(token && { Authorization: `Bearer ${token}` }), ...(await this.#hooks.headers?.(request, token)) };
  }

  /** Fetch; tell a server that refuses the page from one that is away. @param {Request} request */
  async #ask(request) {
    const { origin } = new URL(request.url);
    try {
      const response = await this.#fetch(request);
      this.#heard.add(origin);
      return response;
    } catch (error) {
      if (!(error instanceof TypeError) || !this.#isForeign(origin) || this.#heard.has(origin)) throw error;
      const probe = new Request(origin, { method: "HEAD", mode: "no-cors", cache: "no-store", credentials: "omit" });
      await this.#fetch(probe).catch(() => {
        throw error;
      });
      const cure = `Add ${this.#page} to its TRUSTED_ORIGINS or CORS settings.`;
      throw new Misconfigured("origin_refused", `${origin} responds, but not to this page. ${cure}`);
    }
  }

  /**
   * Run `work` in one tab at a time, and tell it whether it had to wait for another tab. Without Web Locks, tabs don't
   * wait for each other, and the server makes simultaneous refreshes harmless.
   * @template T @param {(waited: boolean) => Promise<T>} work @returns {Promise<T>}
   */
  async #alone(work) {
    if (!this.#locks) return (this.#queue = this.#queue.catch(() => {}).then(() => work(false)));
    const free = { ifAvailable: true };
    const done = await this.#locks.request(this.#name, free, async (lock) => lock && { result: await work(false) });
    return done ? done.result : this.#locks.request(this.#name, () => work(true));
  }

  /** Wait for what the tab that held the lock has to tell: its message may come after the lock. */
  #news() {
    const news = new Promise((resolve) => this.#channel?.addEventListener("message", resolve, { once: true }));
    return Promise.race([news, sleep(1)]);
  }
}
