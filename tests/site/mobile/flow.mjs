// The flow of the tutorial's app, one start of the app at a time: node --import ./phone.mjs flow.mjs STEP [LINK]

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { client } from "./out/client.js";
import { open } from "./out/links.js";
import { signIn, start } from "./out/session.js";

const [step, link] = process.argv.slice(2);
const keychain = "keychain-latchkey";
const refuse = () => assert.fail("no code was asked for");

const steps = {
  async installed() {
    assert.equal(await start(), "out");
    await assert.rejects(signIn("ada", "a guess", refuse), { code: "no_active_account" });
    assert.ok(!existsSync(keychain));
    await signIn("ada", "the analytical engine", refuse);
    assert.equal(client.user.username, "ada");
    const { results } = await client.sessions();
    assert.equal(results[0].device, "Ada's phone");
    assert.ok(existsSync(keychain));
  },
  async started() {
    assert.equal(await start(), "in");
    assert.equal((await client.me()).username, "ada");
    assert.equal(await open("https://elsewhere.example/reset#uid=a&token=b", refuse), false);
  },
  async verified() {
    assert.equal(await start(), "in");
    assert.equal(await open(link, refuse), true);
    assert.equal((await client.me()).emailVerified, true);
  },
  async reset() {
    assert.equal(await open(link, async () => "the difference engine"), true);
    assert.equal(client.status, "out");
    assert.ok(!existsSync(keychain));
    await signIn("ada", "the difference engine", refuse);
    await client.logout();
    assert.ok(!existsSync(keychain));
    await assert.rejects(open(link, async () => "another engine entirely"), { status: 400 });
  },
};
await steps[step]();
