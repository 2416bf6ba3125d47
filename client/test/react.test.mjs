import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { document, settle } from "./page.mjs";
import { StrictMode, act, createElement } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { SessionProvider, useSession } from "latchkey-client/react";

import { Browser } from "../../tests/client/stand_ins.mjs";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

let browser, client, rendered;

beforeEach((context) => {
  browser = new Browser();
  context.after(() => browser.close());
  client = browser.tab();
  rendered = [];
});

function Greeting() {
  const session = useSession();
  rendered.push(session);
  return createElement("p", null, `${session.status} ${session.user?.username ?? session.reason}`);
}

const app = () => createElement(StrictMode, null, createElement(SessionProvider, { client }, createElement(Greeting)));

async function mounted(context) {
  const container = document.createElement("div");
  const root = createRoot(container);
  await act(async () => root.render(app()));
  context.after(() => act(async () => root.unmount()));
  await act(settle);
  return container;
}

test("a page that opens is signed in, and asks the server once", async (context) => {
  browser.server.start("ann");
  const { textContent } = await mounted(context);
  assert.equal(textContent, "in ann");
  assert.equal(browser.server.requests.length, 1);
  assert.deepEqual([...new Set(rendered.map(({ status }) => status))], ["unknown", "in"]);
});

test("signing in and out renders anew, wherever it happens", async (context) => {
  const container = await mounted(context);
  assert.equal(container.textContent, "out ");
  await act(() => rendered.at(-1).client.login("ann", "secret"));
  assert.equal(container.textContent, "in ann");
  const other = browser.tab();
  await other.restore();
  await act(async () => {
    await other.logout();
    await settle();
  });
  assert.equal(container.textContent, "out ");
});

test("a renewed token renders nothing anew", async (context) => {
  await mounted(context);
  await act(() => client.login("ann", "secret"));
  const { length } = rendered;
  await act(() => client.renew());
  assert.equal(rendered.length, length);
});

test("what is unmounted hears no more", async () => {
  const root = createRoot(document.createElement("div"));
  await act(async () => root.render(app()));
  await act(settle);
  await act(async () => root.unmount());
  const { length } = rendered;
  await client.login("ann", "secret");
  assert.equal(rendered.length, length);
});

test("a server that is away keeps the page waiting, and throws nothing", async (context) => {
  browser.server.script.push(["/auth/refresh-token", Response.json({}, { status: 403 })]);
  const container = await mounted(context);
  assert.equal(container.textContent, "unknown ");
  await act(() => client.login("ann", "secret"));
  assert.equal(container.textContent, "in ann");
});

test("a server renders what is unknown, and the page goes on from there", async (context) => {
  await client.login("ann", "secret");
  const container = document.createElement("div");
  container.innerHTML = renderToString(app());
  assert.equal(container.textContent, "unknown ");
  const problems = [];
  const root = await act(async () =>
    hydrateRoot(container, app(), { onRecoverableError: (error) => problems.push(error) }),
  );
  context.after(() => act(async () => root.unmount()));
  assert.equal(container.textContent, "in ann");
  assert.deepEqual(problems, []);
});

test("without a provider the hook says what is missing", () => {
  assert.throws(() => renderToString(createElement(Greeting)), /useSession needs a SessionProvider above it/);
});
