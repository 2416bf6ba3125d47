import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { document, settle } from "./page.mjs";
import { createApp, createSSRApp, effectScope, h, nextTick } from "vue";
import { renderToString } from "vue/server-renderer";
import { latchkey, useSession } from "latchkey-client/vue";

import { Browser } from "../../tests/client/stand_ins.mjs";

let browser, client, renders;

beforeEach((context) => {
  browser = new Browser();
  context.after(() => browser.close());
  client = browser.tab();
  renders = 0;
});

const Greeting = {
  setup() {
    const { status, user, reason } = useSession();
    return () => (renders++, h("p", `${status.value} ${user.value?.username ?? reason.value}`));
  },
};

async function mounted(context, component = Greeting) {
  const container = document.createElement("div");
  const app = createApp(component).use(latchkey(client));
  app.mount(container);
  context.after(() => app.unmount());
  await settle();
  return container;
}

test("a page that opens is signed in, and asks the server once", async (context) => {
  browser.server.start("ann");
  const { textContent } = await mounted(context);
  assert.equal(textContent, "in ann");
  assert.equal(browser.server.requests.length, 1);
});

test("signing in and out renders anew, wherever it happens", async (context) => {
  const container = await mounted(context);
  assert.equal(container.textContent, "out ");
  await client.login("ann", "secret");
  await nextTick();
  assert.equal(container.textContent, "in ann");
  const other = browser.tab();
  await other.restore();
  await other.logout();
  await settle();
  assert.equal(container.textContent, "out ");
});

test("a renewed token renders nothing anew", async (context) => {
  await mounted(context);
  await client.login("ann", "secret");
  await nextTick();
  const before = renders;
  await client.renew();
  await nextTick();
  assert.equal(renders, before);
});

test("a server that is away keeps the page waiting, and throws nothing", async (context) => {
  browser.server.script.push(["/auth/refresh-token", Response.json({}, { status: 403 })]);
  const container = await mounted(context);
  assert.equal(container.textContent, "unknown ");
});

test("a scope that ends hears no more", async () => {
  const scope = effectScope();
  const { status } = scope.run(() => useSession(client));
  assert.equal(status.value, "unknown");
  await client.login("ann", "secret");
  assert.equal(status.value, "in");
  scope.stop();
  await client.logout();
  assert.equal(status.value, "in");
});

test("outside of any component it follows the client that it is given", async () => {
  const { status, user } = useSession(client);
  await client.login("ann", "secret");
  assert.deepEqual([status.value, user.value.username], ["in", "ann"]);
});

test("a server renders what is unknown, and asks nothing", async () => {
  const { document } = globalThis;
  delete globalThis.document;
  try {
    const html = await renderToString(createSSRApp(Greeting).use(latchkey(client)));
    assert.equal(html, "<p>unknown </p>");
    assert.equal(browser.server.requests.length, 0);
  } finally {
    globalThis.document = document;
  }
});

test("without a client it says what is missing", () => {
  assert.throws(() => createApp({}).runWithContext(() => useSession()), /useSession needs a client/);
});
