// What a program does with the clients that are generated from the schema: node out/use.js URL USERNAME PASSWORD

import createClient from "openapi-fetch";
import { BrowsersApi, Configuration, TheAPIApi } from "./client";
import type { paths } from "./schema";

declare const process: { argv: string[] };

const [basePath, username, password] = process.argv.slice(2);

async function withTypes(): Promise<string> {
  const client = createClient<paths>({ baseUrl: basePath });
  const { data: signedIn, error } = await client.POST("/auth/login", { body: { username, password } });
  if (!signedIn) throw error;
  const headers = { Authorization: `Bearer ${signedIn.accessToken}` };
  const { data: me } = await client.GET("/api/me/", { headers });
  // @ts-expect-error: an account has no such thing
  me?.nickname;
  return `${me?.username} ${me?.emailVerified}`;
}

async function withClasses(): Promise<string> {
  const { accessToken } = await new BrowsersApi(new Configuration({ basePath })).login({ login: { username, password } });
  const me = await new TheAPIApi(new Configuration({ basePath, accessToken })).me();
  return `${me.username} ${me.emailVerified}`;
}

Promise.all([withTypes(), withClasses()]).then((lines) => console.log(lines.join("\n")));
