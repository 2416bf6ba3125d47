import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { document, settle } from "./page.mjs";
import { act, createElement } from "react";
import { createRoot } from "react-dom/client";

import { BASE, Server } from "../../tests/client/stand_ins.mjs";
import { serve } from "./servers.mjs";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const page = readFileSync(join(here, "../docs/client.md"), "utf8");
const blocks = (text) =>
  [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, code]) => ({ language, code }));

let server;

beforeEach((context) => {
  server = new Server();
  const { fetch } = globalThis;
  context.after(() => (globalThis.fetch = fetch));
  globalThis.fetch = server.fetch;
});

/** Run the page's block that imports the package, against that server; return what it exports. */
async function run(context, name, base = BASE) {
  const [{ language, code }] = blocks(page).filter((block) => block.code.includes(`from "latchkey-client/${name}";`));
  const folder = mkdtempSync(join(here, "test/snippet-")); // inside, where its imports are found
  context.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, `snippet.${language}`);
  writeFileSync(file, code.replaceAll("https://auth.example.com", base));
  if (language === "jsx") {
    const tsc = join(here, "node_modules/typescript/bin/tsc");
    const options = [
      "--ignoreConfig",
      "--allowJs",
      "--noCheck",
      "--noResolve",
      "--jsx",
      "react-jsx",
      "--module",
      "nodenext",
    ];
    execFileSync(process.execPath, [tsc, file, ...options, "--rootDir", folder, "--outDir", folder]);
  }
  return import(pathToFileURL(join(folder, "snippet.js")));
}

test("the page shows React", async (context) => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  const { App } = await run(context, "react");
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  context.after(() => act(async () => root.unmount()));
  await act(async () => root.render(createElement(App)));
  await act(settle);
  assert.equal(container.textContent, "Sign in");
  await press(container, act);
  assert.equal(container.textContent, "Hello ada Sign out");
  await press(container, act);
  assert.equal(container.textContent, "Sign in");
});

test("the page shows Vue", async (context) => {
  const container = document.createElement("div");
  container.id = "app";
  document.body.append(container);
  await run(context, "vue");
  assert.equal(container.textContent, "One moment …");
  await settle();
  assert.equal(container.textContent, "Sign in");
  await press(container);
  assert.equal(container.textContent, "Hello ada Sign out");
  await press(container);
  assert.equal(container.textContent, "Sign in");
});

async function press(container, around = (work) => work()) {
  await around(async () => {
    container.querySelector("button").click();
    await settle();
  });
}

test("the page shows axios", async (context) => {
  const { fetch } = server;
  const base = await serve(context, server);
  globalThis.fetch = (request) => fetch(new Request(request.url.replace(base, BASE), request));
  await run(context, "axios", base);
  assert.deepEqual(
    server.requests.map(({ path }) => path),
    ["/auth/login", "/api/me/"],
  );
  assert.match(server.requests[1].token, /^Bearer /);
});

test("every block of the page is run, here or by the tests of the core", () => {
  const packages = blocks(page).flatMap(({ code }) => code.match(/latchkey-client(\/\w+)?(?=";)/g).slice(-1));
  assert.deepEqual([...new Set(packages)].sort(), [
    "latchkey-client",
    "latchkey-client/axios",
    "latchkey-client/passkeys",
    "latchkey-client/react",
    "latchkey-client/store",
    "latchkey-client/vue",
  ]);
});

test("the package's own page shows what the documentation shows", () => {
  const [{ code }] = blocks(readFileSync(join(here, "README.md"), "utf8"));
  assert.ok(blocks(page).some((block) => block.code === code));
});
