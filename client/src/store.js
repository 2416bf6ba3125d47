// @ts-check
/**
 * The client for apps without a cookie jar (React Native, Capacitor, Node): the app keeps the refresh token.
 * @import { Account, Answer, Detail, Options, Transport, User } from "./wire.js"
 */

import { Latchkey as Browser, Refused } from "./latchkey.js";

export { Misconfigured, Refused, read } from "./latchkey.js";

/**
 * Keeps one string.
 * @typedef {object} Store
 * @property {() => string | null | undefined | Promise<string | null | undefined>} get
 * @property {(token: string) => unknown} set
 * @property {() => unknown} remove
 */

/** Calls whose refresh token is in the body. @type {Record<string, string>} */
const PATHS = {
  "/auth/refresh-token": "/api/token/refresh",
  "/auth/logout": "/api/token/blacklist",
  "/auth/password/change": "/auth/password/change",
};

/** @param {Store} store @returns {Transport} */
const inBody = (store) => ({
  credentials: "omit",

  async sending(path, body) {
    if (!(path in PATHS)) return [path.replace(/^\/auth\/login/, "/api/token"), body];
    const refresh = await store.get();
    if (refresh) return [PATHS[path], { ...body, refresh }];
    if (path !== "/auth/refresh-token") return [path, body];
    throw new Refused(new Response(null, { status: 401 }), { detail: "", code: "refresh_token_missing" });
  },

  async received({ access, refresh, ...rest }) {
    // Before the access token is used: the server then no longer takes the former refresh token.
    if (refresh) await store.set(refresh);
    return access ? { ...rest, accessToken: access } : rest;
  },

  async forget() {
    await store.remove();
  },
});

export class Latchkey extends Browser {
  /** @param {Omit<Options, "transport"> & {base: string | URL, store: Store}} options */
  constructor({ store, ...options }) {
    super({ locks: null, channel: null, ...options, transport: inBody(store) });
  }

  /**
   * Create an account and sign in to it.
   * @override @param {Account} account @returns {Promise<User | Detail>}
   */
  async register(account) {
    const made = await super.register(account);
    if ("detail" in made) return made;
    // Its refresh token was in a cookie. Sign in for one to keep, and end the session of the other.
    const token = (await this.token()) ?? "";
    const { username, password, deviceName } = account;
    const user = await this.login(username, password, { deviceName });
    await this.fetch("/auth/revoke", { method: "POST", body: new URLSearchParams({ token }), credentials: "omit" });
    return user;
  }
}
