// @ts-check
/**
 * Passkeys (WebAuthn Level 3): sign in with one, and look after those of an account.
 * @import { Latchkey } from "./latchkey.js"
 * @import { Passkey, Proof, User } from "./wire.js"
 */

import { Refused } from "./latchkey.js";

const PASSKEYS = "/auth/passkeys";

/** Milliseconds after which a challenge that waits in a field is replaced: the server takes it for ten minutes. */
const RENEWAL = 9 * 60_000;

/** @returns {any} With the methods that not every browser has. */
const webauthn = () => globalThis.PublicKeyCredential;

/** Say why this page can't have passkeys; nothing if it can. */
export function unavailable() {
  const { hostname } = globalThis.location;
  if (/^[\d.]+$|^\[/.test(hostname)) return `Passkeys need a domain name, and ${hostname} is an address.`;
  if (!webauthn()?.parseCreationOptionsFromJSON) return "Passkeys need https or localhost, and a browser that has WebAuthn.";
  return "";
}

/** Methods throw Refused, or the browser's DOMException if the person cancels or has no passkey that fits. */
export class Passkeys {
  #client;
  /** Of what the browser is asked just now: it does one at a time. */
  #asking = new AbortController();

  /** @param {Latchkey} client */
  constructor(client) {
    this.#client = client;
  }

  /**
   * Make a passkey for the account. This needs a recent sign-in. If this is the account's only second factor, the
   * answer has the recovery codes. They are shown once.
   * @param {{name?: string, endOtherSessions?: boolean}} [options] @returns {Promise<Passkey & {recoveryCodes?: string[]}>}
   */
  async add(options) {
    const { challenge, publicKey } = await this.#client.json(`${PASSKEYS}/options`, "POST");
    const request = { publicKey: webauthn().parseCreationOptionsFromJSON(publicKey), signal: this.#only() };
    const credential = /** @type {PublicKeyCredential} */ (await navigator.credentials.create(request));
    return this.#client.json(PASSKEYS, "POST", { challenge, credential: credential.toJSON(), ...options });
  }

  /** List the account's passkeys, and have the browser forget those that are gone. @returns {Promise<Passkey[]>} */
  async list() {
    const { rpId, userId, results } = await this.#client.json(PASSKEYS);
    const allAcceptedCredentialIds = results.map((/** @type {Passkey} */ passkey) => passkey.credentialId);
    await webauthn()?.signalAllAcceptedCredentials?.({ rpId, userId, allAcceptedCredentialIds }).catch(() => {});
    return results;
  }

  /** @param {string} id @param {string} name @returns {Promise<Passkey>} */
  rename(id, name) {
    return this.#client.json(`${PASSKEYS}/${id}`, "PATCH", { name });
  }

  /** Needs a recent sign-in. @param {string} id @returns {Promise<void>} */
  remove(id) {
    return this.#client.json(`${PASSKEYS}/${id}`, "DELETE");
  }

  /**
   * Sign in with a passkey alone. With `mediation: "conditional"` the browser offers passkeys in the field that has
   * `autocomplete="username webauthn"`, and this waits until one is chosen.
   * @param {{remember?: () => boolean, deviceName?: string, mediation?: CredentialMediationRequirement}} [options]
   * @returns {Promise<User>}
   */
  async login({ remember = () => true, deviceName, mediation } = {}) {
    const { challenge, publicKey, credential } = await this.#choose(mediation);
    try {
      const answer = { challenge, credential, remember: remember(), deviceName };
      return await this.#client.signIn("/auth/login/passkey", answer);
    } catch (error) {
      const isGone = error instanceof Refused && error.code === "unknown_passkey";
      const gone = { rpId: publicKey.rpId, credentialId: credential.id };
      if (isGone) await webauthn().signalUnknownCredential?.(gone).catch(() => {});
      throw error;
    }
  }

  /**
   * Ask for a passkey to sign in with. What waits in a field waits as long as the page is open, so its challenge is
   * replaced before it expires.
   * @param {CredentialMediationRequirement} [mediation] @returns {Promise<any>}
   */
  async #choose(mediation) {
    const { challenge, publicKey } = await this.#client.json("/auth/login/passkey/options", "POST");
    let isOld = false;
    const waiting = this.#get(publicKey, mediation);
    const asking = this.#asking;
    const timer = mediation === "conditional" && setTimeout(() => asking.abort((isOld = true)), RENEWAL);
    try {
      return { challenge, publicKey, credential: await waiting };
    } catch (error) {
      if (isOld && asking === this.#asking) return this.#choose(mediation);
      throw error;
    } finally {
      if (timer) clearTimeout(timer);
    }
  }

  /** Whether the browser can offer passkeys in a field. @returns {Promise<boolean>} */
  async canOffer() {
    return !unavailable() && !!(await webauthn().isConditionalMediationAvailable?.());
  }

  /**
   * Go on with a login that was refused with `second_factor_required` and has "passkey" among its `methods`.
   * @param {any} body Of the refusal. @returns {Promise<User>}
   */
  async secondFactor({ challenge, publicKey }) {
    return this.#client.signIn("/auth/login/second-factor", { challenge, credential: await this.#get(publicKey) });
  }

  /** Make the sign-in a recent one. @returns {Promise<void>} */
  async reauthenticate() {
    return this.#client.exchange("/auth/reauthenticate", await this.answer());
  }

  /** Answer where a code is asked for: the client's methods take this in its place, once. @returns {Promise<Proof>} */
  async answer() {
    const { challenge, publicKey } = await this.#client.json("/auth/reauthenticate/options", "POST");
    return { challenge, credential: await this.#get(publicKey) };
  }

  /** Stop what the browser is asked just now. */
  cancel() {
    this.#asking.abort();
  }

  /** @param {any} options @param {CredentialMediationRequirement} [mediation] @returns {Promise<any>} */
  async #get(options, mediation) {
    const publicKey = webauthn().parseRequestOptionsFromJSON(options);
    const request = { publicKey, signal: this.#only(), ...(mediation && { mediation }) };
    const credential = /** @type {PublicKeyCredential} */ (await navigator.credentials.get(request));
    return credential.toJSON();
  }

  #only() {
    this.cancel();
    this.#asking = new AbortController();
    return this.#asking.signal;
  }
}
