/**
 * A first use: an empty directory and an empty cache, the package from a registry
 * in the layout of JSR, the flags as documented, nothing rewritten.
 */
import assert from "node:assert/strict";
import { LIBC, sendPermissions } from "../cli/helpers.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { Newcomer } from "./newcomer.ts";
import { LocalRegistry, type Sent } from "./registry.ts";

const root = new URL("../..", import.meta.url);

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, root));
}

/** Why npm's registry cannot be reached, for a test's name; empty where it can. */
async function noNpm(): Promise<string> {
  using newcomer = new Newcomer("http://127.0.0.1:1/");
  const { code, err } = await newcomer.deno("cache", "npm:commander@^15.1.0");
  return code === 0 ? "" : ` (left out: npm cannot be reached: ${err.trim().split("\n").pop()})`;
}

const leftOut = await noNpm();

/** A program in three lines, and its flags, with the server that the test has. */
function program(remote: string, more = ""): string {
  return `import { Sender } from "jsr:@sendq/sendq";
    await using sender = await Sender.open({ queue: "outbox.db", remote: "${remote}"${more} });
    await sender.enqueue(new TextEncoder().encode("temperature 21.5\\n"));
    await sender.drained();`;
}

/** The row of docs/PACKAGE.md: no more is downloaded than it says, and not by far less. */
function holdsBound(who: string, { requests, bytes, missing }: Sent, npmBytes: number): void {
  const row = read("docs/PACKAGE.md").split("\n").find((line) => line.startsWith(`| ${who}`));
  const numbers = [...(row ?? "").matchAll(/\| *([\d.,]+)/g)]
    .map(([, number = ""]) => Number(number.replaceAll(",", "")));
  assert.equal(numbers.length, 3, `docs/PACKAGE.md has no row "${who}"`);
  const found = { requests, kilobytes: bytes / 1000, npmMegabytes: npmBytes / 1e6 };
  for (const [i, [what, value]] of Object.entries(found).entries()) {
    const bound = numbers[i] ?? 0;
    assert.ok(
      value <= bound && value >= bound * 0.6,
      `${who}, ${what}: ${value}, docs/PACKAGE.md says ${bound}`,
    );
  }
  assert.deepEqual(missing, []);
}

Deno.test("a first program runs as documented, and downloads no more than docs say", async () => {
  await using registry = await LocalRegistry.start();
  await using server = new ReadingServer();
  using newcomer = new Newcomer(registry.url);
  newcomer.write("main.ts", program(server.remote));
  const flags = sendPermissions(server.remote, "outbox.db");
  const first = await newcomer.deno("run", "--no-prompt", ...flags, "main.ts");
  assert.equal(first.code, 0, first.err);
  assert.equal(server.text, "temperature 21.5\n");
  holdsBound("a program with the library", registry.take(), newcomer.npmBytes());
  const second = await newcomer.deno("run", "--no-prompt", "--quiet", ...flags, "main.ts");
  assert.equal(second.code, 0, second.err);
  assert.deepEqual(registry.take(), { requests: 0, bytes: 0, missing: [] });
  assert.equal(newcomer.npmBytes(), 0);
});

Deno.test("what deno cache has fetched runs without a network", async () => {
  await using server = new ReadingServer();
  const registry = await LocalRegistry.start();
  using newcomer = new Newcomer(registry.url);
  try {
    newcomer.write("main.ts", program(server.remote));
    const cached = await newcomer.deno("cache", "main.ts");
    assert.equal(cached.code, 0, cached.err);
  } finally {
    await registry[Symbol.asyncDispose]();
  }
  const flags = sendPermissions(server.remote, "outbox.db");
  const { code, err } = await newcomer.deno("run", "--no-prompt", ...flags, "main.ts");
  assert.equal(code, 0, err);
  await until("the packet", () => server.text === "temperature 21.5\n");
});

Deno.test("@sendq/sendq/db-sqlite is a driver from the first line on", async () => {
  await using registry = await LocalRegistry.start();
  using newcomer = new Newcomer(registry.url);
  newcomer.write(
    "main.ts",
    `import { OutboundQueue } from "jsr:@sendq/sendq";
    import { dbSqlite } from "jsr:@sendq/sendq/db-sqlite";
    await using queue = await OutboundQueue.open("outbox.db", { driver: dbSqlite });
    console.log(dbSqlite.name, await queue.enqueue(new Uint8Array([1])));`,
  );
  const flags = ["--allow-read", "--allow-write", "--allow-ffi"];
  const { code, out, err } = await newcomer.deno("run", "--no-prompt", ...flags, "main.ts");
  assert.equal(code, 0, err);
  assert.equal(out, "@db/sqlite 1\n");
});

Deno.test({
  name: `the command runs from the registry and installs as sendq${leftOut}`,
  ignore: leftOut !== "",
  async fn() {
    await using server = new ReadingServer();
    const registry = await LocalRegistry.start();
    using newcomer = new Newcomer(registry.url);
    const flags = sendPermissions(server.remote, "outbox.db");
    const send = ["send", server.remote, "--queue", "outbox.db"];
    try {
      const cli = ["run", "--no-prompt", ...flags, "jsr:@sendq/sendq/cli", ...send];
      const run = await newcomer.run(Deno.execPath(), cli, "one\n");
      assert.equal(run.code, 0, run.err);
      holdsBound("the command, ", registry.take(), newcomer.npmBytes());
      const install = await newcomer.deno(
        ...["install", "--global", "--name", "sendq", "--no-prompt", ...flags],
        "jsr:@sendq/sendq/cli",
      );
      assert.equal(install.code, 0, install.err);
    } finally {
      await registry[Symbol.asyncDispose]();
    }
    // Without a network from here on.
    const installed = newcomer.installed("sendq");
    const version = await newcomer.run(installed, ["--version"]);
    assert.equal(version.code, 0, version.err);
    assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
    const run = await newcomer.run(installed, send, "two\n");
    assert.equal(run.code, 0, run.err);
    assert.equal(server.text, "one\ntwo\n");
  },
});

Deno.test({
  name: `README's line installs the command from a clone${leftOut}`,
  ignore: leftOut !== "",
  async fn() {
    const [line] = /deno install -g -n sendq --\S+ \.\.\/sendq\/[^`]*/.exec(read("README.md")) ??
      [];
    assert.ok(line, "README.md installs no command from ../sendq");
    using newcomer = new Newcomer("http://127.0.0.1:1/");
    Deno.symlinkSync(root, newcomer.file("../sendq"));
    const installed = await newcomer.run("sh", ["-c", line.replace("deno", Deno.execPath())]);
    assert.equal(installed.code, 0, installed.err);
    const { code, out, err } = await newcomer.run(newcomer.installed("sendq"), ["--version"]);
    assert.equal(code, 0, err);
    assert.match(out, /^\d+\.\d+\.\d+\n$/);
    const args = ["enqueue", "-q", "outbox.db", "one"];
    const enqueued = await newcomer.run(newcomer.installed("sendq"), args);
    assert.equal(enqueued.out, "stored 1 packet, id 1\n", enqueued.err);
  },
});

Deno.test("README names the entries that a file's import is enough for", async () => {
  const [, named = ""] = /Of the entries, ([^]*?) need nothing\s/.exec(read("README.md")) ?? [];
  const paths = [...named.matchAll(/`([^`]+)`/g)].map(([, path]) => `./${path}`);
  using newcomer = new Newcomer("http://127.0.0.1:1/");
  Deno.symlinkSync(root, newcomer.file("../sendq"));
  const { exports }: { exports: Record<string, string> } = JSON.parse(read("deno.json"));
  const enough: string[] = [];
  for (const [entry, path] of Object.entries(exports)) {
    // Nobody imports the command; it loads its packages when it runs.
    if (entry === "./cli") continue;
    newcomer.write("main.ts", `import ${JSON.stringify(`../sendq/${path.slice(2)}`)};`);
    if ((await newcomer.deno("run", "--no-prompt", "main.ts")).code === 0) enough.push(path);
  }
  assert.deepEqual(paths.toSorted(), enough.toSorted());
});

/** With which flags an example runs, and whether. */
type Runs = "as-typed" | "anywhere" | "no";

/**
 * The fenced blocks of TypeScript in a page or a comment. One that says `as-typed`
 * runs with README's smallest set of flags; `ignore` beside it keeps it from those who
 * check examples where there is no JSR, or no server of that name.
 */
function examplesIn(text: string): { readonly code: string; readonly runs: Runs }[] {
  return [...text.matchAll(/^```ts\b(.*)\n([^]*?)^```$/gm)].map(([, info = "", code = ""]) => ({
    code,
    runs: info.includes("as-typed") ? "as-typed" : info.includes("ignore") ? "no" : "anywhere",
  }));
}

/** Runs an example, of which nothing is rewritten; types are checked where nobody else does. */
async function runExample(
  registry: LocalRegistry,
  code: string,
  runs: Runs,
  listens = "",
): Promise<void> {
  using newcomer = new Newcomer(registry.url);
  if (code.includes('from "@sendq/sendq')) {
    const added = await newcomer.deno("add", "jsr:@sendq/sendq");
    assert.equal(added.code, 0, added.err);
  }
  newcomer.write("main.ts", code);
  const flags = runs === "as-typed"
    ? ["--check", ...sendPermissions(`tcp://legacy:4000${listens}`, "outbox.db")]
    : ["--allow-net=127.0.0.1", "--allow-read", "--allow-write", `--allow-ffi=${LIBC}`];
  const ran = await newcomer.deno("run", "--no-prompt", ...flags, "main.ts");
  assert.equal(ran.code, 0, ran.err);
}

Deno.test("README's examples run as typed", async (t) => {
  const marked = examplesIn(read("README.md")).filter(({ runs }) => runs === "as-typed");
  assert.ok(marked.length > 0, "no example of README.md is marked as-typed");
  await using registry = await LocalRegistry.start();
  for (const [i, { code, runs }] of marked.entries()) {
    await t.step(`example ${i + 1}`, () => runExample(registry, code, runs));
  }
});

/** The comment that a module opens with, without its stars. */
function moduleDoc(path: string): string {
  const [, comment = ""] = /\/\*\*([^]*?)\*\//.exec(read(path)) ?? [];
  return comment.replaceAll(/^ \* ?/gm, "");
}

Deno.test(`the examples of the entries' docs run as typed${leftOut}`, async (t) => {
  await using registry = await LocalRegistry.start();
  for (const [entry, path] of Object.entries(registry.published.exports)) {
    for (const [i, { code, runs }] of examplesIn(moduleDoc(path)).entries()) {
      if (runs === "no") continue;
      await t.step({
        name: `${entry}, example ${i + 1}`,
        ignore: leftOut !== "" && ["./cli", "./metrics"].includes(entry),
        // The status page's own address.
        fn: () => runExample(registry, code, runs, entry === "./http" ? ",127.0.0.1:9465" : ""),
      });
    }
  }
});
