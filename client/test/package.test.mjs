import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = join(here, "node_modules/typescript/bin/tsc");
const { exports, version } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
/** A project of somebody else's, which has the package installed, and beside it what the adapters are for. */
const project = mkdtempSync(join(tmpdir(), "latchkey-client-"));
const modules = join(project, "node_modules");
let packed;

before(() => {
  const output = execFileSync("npm", ["pack", "--json", "--pack-destination", project], {
    cwd: here,
    encoding: "utf8",
  });
  [packed] = Object.values(JSON.parse(output.slice(output.search(/^[[{]/m))));
  mkdirSync(join(modules, "latchkey-client"), { recursive: true });
  const unpack = [
    "-xzf",
    join(project, packed.filename),
    "-C",
    join(modules, "latchkey-client"),
    "--strip-components=1",
  ];
  execFileSync("tar", unpack);
  for (const name of readdirSync(join(here, "node_modules"))) {
    if (!name.startsWith(".")) symlinkSync(join(here, "node_modules", name), join(modules, name));
  }
});

after(() => rmSync(project, { recursive: true }));

test("the package holds the sources, their types, its name and its terms, and nothing else", () => {
  const names = ["axios", "dpop", "latchkey", "passkeys", "react", "store", "vue", "wire"];
  const expected = names.flatMap((name) => [`src/${name}.js`, `types/${name}.d.ts`]);
  assert.deepEqual(
    packed.files.map(({ path }) => path).sort(),
    ["LICENSE", "README.md", "package.json", ...expected].sort(),
  );
  assert.equal(packed.version, version);
  const installed = join(modules, "latchkey-client");
  assert.equal(readFileSync(join(installed, "LICENSE"), "utf8"), readFileSync(join(here, "../LICENSE"), "utf8"));
  assert.equal("dependencies" in JSON.parse(readFileSync(join(installed, "package.json"), "utf8")), false);
});

test("each entry point can be imported, and has its types", () => {
  const files = packed.files.map(({ path }) => `./${path}`);
  const code = Object.keys(exports).map((name) => `await import("${name.replace(".", "latchkey-client")}");`);
  for (const entry of Object.values(exports))
    for (const path of Object.values(entry)) assert.ok(files.includes(path), path);
  const done = spawnSync(process.execPath, ["--input-type=module", "--eval", code.join("\n")], { cwd: project });
  assert.equal(done.status, 0, `${done.stderr}`);
});

for (const [module, moduleResolution] of [
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
]) {
  test(`a program in strict TypeScript compiles, with modules resolved as ${moduleResolution} does`, () => {
    const source = "consumer.tsx";
    copyFileSync(join(here, "test", source), join(project, source));
    writeFileSync(join(project, "package.json"), '{"type": "module"}');
    const compilerOptions = {
      ...{
        strict: true,
        noEmit: true,
        jsx: "react-jsx",
        target: "es2022",
        types: [],
        lib: ["es2023", "dom", "dom.iterable"],
      },
      ...{ module, moduleResolution },
    };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [source] }));
    const done = spawnSync(process.execPath, [tsc, "-p", project], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stdout + done.stderr);
  });
}

test("the server's own pages fit the types, where they ask to be checked", () => {
  const done = spawnSync(process.execPath, [tsc, "-p", join(here, "test/pages.json"), "--listFiles"], {
    encoding: "utf8",
  });
  assert.equal(done.status, 0, done.stdout + done.stderr);
  assert.match(done.stdout, /static\/account\.js$/m);
});

test("the lockfile names no server", () => {
  assert.doesNotMatch(readFileSync(join(here, "package-lock.json"), "utf8"), /"resolved":/);
});
