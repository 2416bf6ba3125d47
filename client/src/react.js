// @ts-check
/**
 * Latchkey for React.
 * @import { ReactNode } from "react"
 * @import { Latchkey } from "./latchkey.js"
 * @import { State } from "./wire.js"
 */

import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useSyncExternalStore } from "react";

/** @type {State} */
const UNKNOWN = { status: "unknown", reason: "", user: null };
const Context = createContext(/** @type {Latchkey | null} */ (null));

/**
 * Give the components below it the client, and find out whether the browser is signed in.
 * @param {{client: Latchkey, children?: ReactNode}} props
 */
export function SessionProvider({ client, children }) {
  useEffect(() => {
    client.restore().catch(() => {}); // the server is away; the client goes on trying
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/**
 * Return the client and its `status`, `reason` and `user`; renders anew when they change. "unknown" on a server.
 * @returns {State & {client: Latchkey}}
 */
export function useSession() {
  const client = useContext(Context);
  if (!client) throw new Error("useSession needs a SessionProvider above it");
  const subscribe = useCallback(
    (/** @type {() => void} */ changed) => {
      client.addEventListener("change", changed);
      return () => client.removeEventListener("change", changed);
    },
    [client],
  );
  const state = useSyncExternalStore(
    subscribe,
    () => client.state,
    () => UNKNOWN,
  );
  return useMemo(() => ({ ...state, client }), [state, client]);
}
