// @ts-check
/**
 * Sign-ins that are bound to a key (DPoP, RFC 9449): a copy of the tokens is worth nothing without it.
 *
 * The key can't be exported, not by the page's own scripts either. docs/dpop.md explains it.
 * @import { Binding, Hooks, Keys } from "./wire.js"
 */

/**
 * @typedef {{pair: CryptoKeyPair, jwk: Record<string, string | undefined>, jkt: string}} Held
 */

const P256 = { name: "ECDSA", namedCurve: "P-256" };
const SHA256 = "SHA-256";
const REFRESHES = /\/(auth\/refresh-token|api\/token\/refresh)\/?$/;
const FRESH = 120_000; // milliseconds for which a nonce is sure to be good
const AGAIN = new Set(["use_dpop_nonce", "invalid_dpop_proof"]);

/** @param {ArrayBuffer | Uint8Array<ArrayBuffer>} bytes */
const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** @param {string} text */
const encode = (text) => new TextEncoder().encode(text);

/** @param {string} text */
const digest = async (text) => base64url(await crypto.subtle.digest(SHA256, encode(text)));

/** Return the key that a token is bound to, if it is. @param {string} token @returns {string | undefined} */
const keyOf = (token) => JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).cnf?.jkt;

/** @param {CryptoKeyPair} pair @returns {Promise<Held>} */
async function hold(pair) {
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  // The members that count, in the order of RFC 7638.
  return { pair, jwk: { kty, crv, x, y }, jkt: await digest(JSON.stringify({ crv, kty, x, y })) };
}

/** @param {Held} held @param {Request} request @param {string} [token] @param {string} [nonce] */
async function prove({ pair, jwk }, { method, url }, token, nonce) {
  const ath = token && (await digest(token));
  const { origin, pathname } = new URL(url);
  const claims = { jti: crypto.randomUUID(), htm: method, htu: origin + pathname, iat: Math.floor(Date.now() / 1000), ath, nonce };
  const parts = [{ typ: "dpop+jwt", alg: "ES256", jwk }, claims].map((part) => base64url(encode(JSON.stringify(part))));
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: SHA256 }, pair.privateKey, encode(parts.join(".")));
  return [...parts, base64url(signature)].join(".");
}

/**
 * Return the hooks that bind each sign-in to a key, as `new Latchkey({ dpop: true })` does, which loads this when it is
 * first needed. Each sign-in makes a key of its own; it goes with the session. Where the page can keep none (it is
 * neither on https nor on localhost), sign-ins are not bound.
 * @param {Binding} [options]
 * @returns {Required<Hooks>}
 */
export function dpop({ name = "latchkey", keys = inBrowser(name) } = {}) {
  /** Of the session, as far as it is known here. @type {Held | null} */
  let current = null;
  /** Of the sign-in under way. @type {Held | null} */
  let coming = null;
  /** What the next proof is to have, by origin. @type {Map<string, {nonce: string, until: number}>} */
  const nonces = new Map();
  /** Sign-ins that were sent with the coming key. @type {WeakSet<Request>} */
  const signIns = new WeakSet();

  async function load() {
    const pair = await keys.get();
    current = pair ? await hold(pair) : null;
    return current;
  }

  /** Return the key that goes with the request; none if it goes without. @param {Request} request @param {string} [token] */
  async function choose(request, token) {
    if (token) {
      const jkt = keyOf(token);
      if (!jkt) return null;
      if (current?.jkt !== jkt) await load(); // another tab has signed in since
      return current?.jkt === jkt ? current : null;
    }
    if (request.method !== "POST") return null;
    if (REFRESHES.test(new URL(request.url).pathname)) return load();
    await keys.get(); // throws where none can be kept
    signIns.add(request);
    coming ??= await hold(await crypto.subtle.generateKey(P256, false, ["sign", "verify"]));
    return coming;
  }

  return {
    async headers(request, token) {
      const held = globalThis.crypto?.subtle && (await choose(request, token).catch(() => null));
      if (!held) return {};
      const known = nonces.get(new URL(request.url).origin);
      // An old one is refused; most requests need none.
      const proof = await prove(held, request, token, known && Date.now() < known.until ? known.nonce : undefined);
      return { DPoP: proof, ...(token && { Authorization: `DPoP ${token}` }) };
    },

    async answered(response, request) {
      const nonce = response.headers.get("DPoP-Nonce");
      if (nonce) nonces.set(new URL(request.url).origin, { nonce, until: Date.now() + FRESH });
      if (response.status !== 401 && !(response.ok && signIns.has(request))) return false;
      const answer = await response.clone().json().catch(() => ({}));
      if (response.ok) {
        const token = answer.accessToken ?? answer.access;
        if (!token || !coming || keyOf(token) !== coming.jkt) return false;
        await keys.set(coming.pair);
        [current, coming] = [coming, null];
        return false;
      }
      return request.headers.has("DPoP") && AGAIN.has(answer.code);
    },

    async ended() {
      current = null;
      await Promise.resolve(keys.remove()).catch(() => {}); // where none could be kept
    },
  };
}

/** Keep the key in IndexedDB: of a CryptoKey it keeps no more than a handle. @param {string} name @returns {Keys} */
function inBrowser(name) {
  /** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
  const done = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });

  /** @template T @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest<T>} act @returns {Promise<T>} */
  async function ask(mode, act) {
    const opening = indexedDB.open("latchkey", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
    const database = await done(opening);
    try {
      return await done(act(database.transaction("keys", mode).objectStore("keys")));
    } finally {
      database.close();
    }
  }

  return {
    get: () => ask("readonly", (store) => store.get(name)),
    set: (pair) => ask("readwrite", (store) => store.put(pair, name)),
    remove: () => ask("readwrite", (store) => store.delete(name)),
  };
}
