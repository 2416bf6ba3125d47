import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

/** The source without comments and blank lines, as a bundler delivers it without minifying. */
function bare(name) {
  const source = readFileSync(new URL(`../../client/src/${name}`, import.meta.url), "utf8");
  return source
    .replace(/^\s*\/\*\*[\s\S]*?\*\/\n?/gm, "")
    .replace(/\s*(?<=\s)\/\/ .*$/gm, "")
    .replace(/\n\s*\n/g, "\n");
}

test("the core is at most 6 kB, compressed", () => {
  assert.doesNotMatch(bare("latchkey.js"), /@param|@returns/);
  const size = gzipSync(bare("latchkey.js"), { level: 9 }).length;
  assert.ok(size <= 6000, `${size} bytes`);
});
