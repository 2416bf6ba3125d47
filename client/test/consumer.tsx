/** A program that uses every entry point: it has to compile, in strict mode, against what is packed. */

import axios, { type AxiosInstance } from "axios";
import type { ReactNode } from "react";
import { createApp } from "vue";

import { Latchkey, Misconfigured, Refused, read } from "latchkey-client";
import { connect } from "latchkey-client/axios";
import { SessionProvider, useSession } from "latchkey-client/react";
import { dpop } from "latchkey-client/dpop";
import { Latchkey as App, type Store } from "latchkey-client/store";
import { latchkey, useSession as useSessionInVue } from "latchkey-client/vue";
import type { Hooks, Identity, Keys, List, Session, Transport, User } from "latchkey-client/wire";

const pair = crypto.subtle.generateKey("Ed25519", false, ["sign"]) as Promise<CryptoKeyPair>;
const keys: Keys = { get: () => pair, set: (pair: CryptoKeyPair) => void pair, remove: () => {} };
export const bound = [new Latchkey({ dpop: true }), new Latchkey({ dpop: { keys } }), new Latchkey({ hooks: dpop() })];
// @ts-expect-error: a key has one place
export const homeless = new Latchkey({ dpop: { keys: true } });
const hooks: Hooks = { headers: (request) => ({ Proof: request.url }) };
const client = new Latchkey({ base: "https://auth.example.com", origins: [new URL("https://api.example.com")], hooks });

export async function signIn(): Promise<string> {
  const user: User = await client.login("ada", "secret", { remember: false, deviceName: "Attic" });
  // @ts-expect-error: an id is a number or a text
  const id: boolean = user.id;
  // @ts-expect-error: there is no such option
  await client.login("ada", "secret", { remembered: true });
  const made = await client.register({ username: "ada", password: "secret" });
  return "detail" in made ? made.detail : `${made.username} ${id}`;
}

export async function use(): Promise<void> {
  const { results, next }: List<Session> = await client.sessions();
  const device: string = (await client.renameSession(results[0].id, "Attic")).device;
  const headers: Record<string, string> = await client.headers("/api/me/", "GET");
  const token: string | undefined = await client.token();
  const name: string | undefined = client.user?.username;
  const user: Identity | null = client.state.user;
  const { recoveryCodes } = await client.renewRecoveryCodes("secret", "123456");
  const { revoked }: { revoked: number } = await client.revokeOtherSessions();
  await client.changePassword("secret", "better");
  await client.resetPassword({ uid: "MQ", token: "x" }, "best");
  if (client.status === "in") console.log(device, headers, token, name, user, next, recoveryCodes.length, revoked);
  // @ts-expect-error: no such status
  if (client.status === "signed in") await client.logout();
  try {
    await read(await client.fetch(new URL("https://api.example.com/orders"), { method: "POST" }));
  } catch (error) {
    if (error instanceof Refused) console.log(error.fields.username?.join(), error.retryAfter.toFixed());
    if (error instanceof Misconfigured && error.code === "cookie_not_kept") throw error;
  }
}

const keychain: Store = { get: async () => "token", set: async (token: string) => void token, remove: () => {} };
export const app: Latchkey = new App({ base: "https://auth.example.com", store: keychain });
// @ts-expect-error: an app names its server
export const lost = new App({ store: keychain });
export const transport: Transport | undefined = undefined;

const instance: AxiosInstance = axios.create();
export const disconnect: () => void = connect(instance, client);

export function Greeting(): ReactNode {
  const { status, user, client: same } = useSession();
  // @ts-expect-error: nobody may be signed in
  const unchecked: string = user.username;
  return status === "in" ? <button onClick={() => same.logout()}>{user?.username ?? unchecked}</button> : null;
}

export const page = (
  <SessionProvider client={client}>
    <Greeting />
  </SessionProvider>
);

createApp({
  setup() {
    const { status, user } = useSessionInVue();
    const name: string | undefined = user.value?.username;
    return () => `${status.value} ${name}`;
  },
}).use(latchkey(client));
