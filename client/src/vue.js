// @ts-check
/**
 * Latchkey for Vue.
 * @import { App, ComputedRef, InjectionKey } from "vue"
 * @import { Latchkey } from "./latchkey.js"
 * @import { State } from "./wire.js"
 */

import { computed, getCurrentScope, inject, onScopeDispose, shallowRef } from "vue";

const KEY = /** @type {InjectionKey<Latchkey>} */ (Symbol("latchkey"));

/**
 * A plugin that gives an app's components the client, and finds out whether the browser is signed in.
 * @param {Latchkey} client
 */
export const latchkey = (client) => ({
  /** @param {App} app */
  install(app) {
    app.provide(KEY, client);
    if (globalThis.document) client.restore().catch(() => {}); // the server is away; the client goes on trying
  },
});

/**
 * Return the client, and its `status`, `reason` and `user` as refs.
 * @param {Latchkey} [client] By default the plugin's.
 * @returns {{[name in keyof State]: ComputedRef<State[name]>} & {client: Latchkey}}
 */
export function useSession(client = inject(KEY, undefined)) {
  if (!client) throw new Error("useSession needs a client: app.use(latchkey(client)), or useSession(client)");
  const state = shallowRef(client.state);
  const follow = () => (state.value = client.state);
  client.addEventListener("change", follow);
  if (getCurrentScope()) onScopeDispose(() => client.removeEventListener("change", follow));
  return {
    client,
    status: computed(() => state.value.status),
    reason: computed(() => state.value.reason),
    user: computed(() => state.value.user),
  };
}
