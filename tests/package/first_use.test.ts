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

Deno.test("what deno cache has fetched runs without a network, also with a Worker", async () => {
  await using server = new ReadingServer();
  const registry = await LocalRegistry.start();
  using newcomer = new Newcomer(registry.url);
  try {
    newcomer.write("main.ts", program(server.remote));
    newcomer.write("worker.ts", program(server.remote, ', queueOptions: { commitIn: "worker" }'));
    const cached = await newcomer.deno("cache", "main.ts");
    assert.equal(cached.code, 0, cached.err);
  } finally {
    await registry[Symbol.asyncDispose]();
  }
  for (const name of ["main.ts", "worker.ts"]) {
    const flags = sendPermissions(server.remote, "outbox.db");
    const { code, err } = await newcomer.deno("run", "--no-prompt", ...flags, name);
    assert.equal(code, 0, `${name}: ${err}`);
  }
  await until("both packets", () => server.text === "temperature 21.5\n".repeat(2));
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

/** The fenced blocks of TypeScript in a page or a comment, with what stands behind `ts`. */
function examplesIn(text: string): { readonly info: string; readonly code: string }[] {
  return [...text.matchAll(/^```ts\b(.*)\n([^]*?)^```$/gm)]
    .map(([, info = "", code = ""]) => ({ info, code }));
}

Deno.test("README's examples run as typed", async (t) => {
  const marked = examplesIn(read("README.md")).filter(({ info }) => /\bas-typed\b/.test(info));
  assert.ok(marked.length > 0, "no example of README.md is marked as-typed");
  await using registry = await LocalRegistry.start();
  for (const [i, { code }] of marked.entries()) {
    await t.step(`example ${i + 1}`, async () => {
      using newcomer = new Newcomer(registry.url);
      newcomer.write("main.ts", code);
      // README's smallest set.
      const flags = sendPermissions("tcp://legacy:4000", "outbox.db");
      const ran = await newcomer.deno("run", "--no-prompt", ...flags, "main.ts");
      assert.equal(ran.code, 0, ran.err);
      const status = await newcomer.deno("check", "--quiet", "main.ts");
      assert.equal(status.code, 0, status.err);
    });
  }
});

/** The comment that a module opens with, without its stars. */
function moduleDoc(path: string): string {
  const [, comment = ""] = /\/\*\*([^]*?)\*\//.exec(read(path)) ?? [];
  return comment.replaceAll(/^ \* ?/gm, "");
}

Deno.test(`the module docs' examples run as typed after deno add${leftOut}`, async (t) => {
  await using registry = await LocalRegistry.start();
  for (const [entry, path] of Object.entries(registry.published.exports)) {
    for (const [i, { info, code }] of examplesIn(moduleDoc(path)).entries()) {
      if (/\bignore\b/.test(info)) continue;
      await t.step({
        name: `${entry}, example ${i + 1}`,
        ignore: leftOut !== "" && ["./cli", "./metrics"].includes(entry),
        async fn() {
          using newcomer = new Newcomer(registry.url);
          const added = await newcomer.deno("add", "jsr:@sendq/sendq");
          assert.equal(added.code, 0, added.err);
          newcomer.write("main.ts", code);
          const flags = ["--allow-net=127.0.0.1", "--allow-read", "--allow-write"];
          const ran = await newcomer.deno(
            ...["run", "--no-prompt", "--check", ...flags, `--allow-ffi=${LIBC}`, "main.ts"],
          );
          assert.equal(ran.code, 0, ran.err);
        },
      });
    }
  }
});
