/** `sendq backup`, with the permissions of its help. */
import assert from "node:assert/strict";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { queuePermissions, runWith, Sendq } from "./helpers.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

async function backup(queue: string, to: string, ...more: string[]) {
  return await runWith(
    [
      `--allow-read=${queue},${to},${to}-wal,${to}.unfinished`,
      `--allow-write=${to},${to}.unfinished`,
    ],
    ["backup", "-q", queue, to, ...more],
  );
}

Deno.test("backup: a path is a path, also where it looks like one of SQLite's URIs", async () => {
  using dir = new TempDir();
  // Only a path that is not absolute can look so, and this process has one directory for all tests.
  const backupThere = async (from: string, to: string) => {
    // Where anything is allowed, the runtime gives SQLite the path as it stands.
    const flags = ["--quiet", "--no-lock", "--no-check", "--allow-all"];
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", ...flags, MAIN, "backup", "-q", from, to],
      cwd: dir.path,
    }).output();
    assert.deepEqual([code, new TextDecoder().decode(stderr)], [0, ""], to);
  };
  const store = async (name: string, packets: number) => {
    await using queue = await OutboundQueue.open(dir.file(name));
    for (let i = 0; i < packets; i++) await queue.enqueue("x");
  };
  await store("a.db", 3);
  await store("b.db", 5);
  for (const to of ["file:b.db", ":memory:", "file::memory:", "c?mode=ro.db"]) {
    await backupThere("a.db", to);
    using copy = await QueueInspector.open(dir.file(to));
    assert.equal((await copy.counts()).packets, 3, to);
    await backupThere(to, `${to} again`);
    using again = await QueueInspector.open(dir.file(`${to} again`));
    assert.equal((await again.counts()).packets, 3, to);
  }
  using b = await QueueInspector.open(dir.file("b.db"));
  assert.equal((await b.counts()).packets, 5, "another queue was overwritten");
});

Deno.test("backup: a queue that others write meanwhile, each time as of one moment", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue(new Uint8Array([0]));
  let stop = false;
  // Each transaction holds ten: a copy of half of one would show.
  const writing = (async () => {
    while (!stop) {
      await queue.enqueueMany(Array.from({ length: 10 }, (_, i) => new Uint8Array(500).fill(i)));
      if (queue.stats().packets > 2000) {
        await sendingSideOf(queue).removeThrough(queue.lastId - 1000);
      }
    }
  })();
  let before = 0;
  for (let i = 0; i < 3; i++) {
    const to = `${dir.path}/copy${i}.db`;
    const { code, out, err } = await backup(dir.queue, to, "--json");
    assert.deepEqual([code, err], [0, ""]);
    const { lastId, packets, problems } = JSON.parse(out);
    assert.equal(lastId % 10, 1, "a transaction was copied in part");
    assert(lastId > before, "each copy is newer");
    before = lastId;
    assert.deepEqual(problems, []);
    assert.equal((Deno.statSync(to).mode ?? 0) & 0o777, 0o600);
    using copy = await QueueInspector.open(to);
    assert.equal((await copy.countPackets()).packets, packets);
    assert.throws(() => Deno.statSync(`${to}-wal`), Deno.errors.NotFound);
  }
  stop = true;
  await writing;
  // A copy is a queue.
  await using copy = await OutboundQueue.open(`${dir.path}/copy2.db`);
  assert.equal(await copy.enqueue(new Uint8Array([1])), before + 1);
});

Deno.test("backup: beside a running sender, which goes on", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using queue = await OutboundQueue.open(dir.queue);
  await using send = Sendq.send(server.remote, dir.queue, "--input", "none", "--hold", "200ms");
  await queue.enqueue(new TextEncoder().encode("before\n"));
  await until("the first packet", () => server.text.includes("before"));
  const copied = await backup(dir.queue, `${dir.path}/copy.db`);
  assert.deepEqual([copied.code, copied.err], [0, ""]);
  await queue.enqueue(new TextEncoder().encode("after\n"));
  await until("the second packet", () => server.text.includes("after"));
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 0, send.stderr);
});

Deno.test("backup: what is no queue, and what is there already, is left alone", async () => {
  using dir = new TempDir();
  const to = `${dir.path}/copy.db`;
  const missing = await backup(dir.queue, to);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /^sendq: there is no queue at /);
  const stored = await runWith(queuePermissions(dir.queue), ["enqueue", "-q", dir.queue, "a"]);
  assert.equal(stored.code, 0, stored.err);
  Deno.writeTextFileSync(to, "precious");
  const there = await backup(dir.queue, to);
  assert.equal(there.code, 1);
  assert.match(there.err, /there is such a file already/);
  assert.equal(Deno.readTextFileSync(to), "precious");
  for (const own of [dir.queue, `${dir.queue}-wal`, `${dir.queue}.lock`]) {
    const { code, err } = await backup(dir.queue, own);
    assert.equal(code, 2);
    assert.match(err, /^sendq: the copy must not be the queue itself/);
  }
  Deno.writeTextFileSync(`${dir.path}/text`, "dear diary, ".repeat(1000));
  const text = await backup(`${dir.path}/text`, `${dir.path}/new`);
  assert.equal(text.code, 1);
  assert.match(text.err, /the file is not a database/);
  assert.throws(() => Deno.statSync(`${dir.path}/new`), Deno.errors.NotFound);
});

Deno.test("backup: of a damaged queue it makes a copy, and says that it is damaged", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(Array.from({ length: 30 }, (_, i) => new Uint8Array(6000).fill(i)));
  }
  {
    using file = Deno.openSync(dir.queue, { write: true });
    file.seekSync(40 * 4096, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4096).fill(0xa5));
  }
  const { code, out, err } = await backup(dir.queue, `${dir.path}/copy.db`);
  assert.equal(code, 1);
  assert.match(out, /^copied 30 packets, /);
  assert.match(err, /^sendq: the copy is damaged, as /);
  const size = (path: string) => Deno.statSync(path).size;
  assert.equal(size(`${dir.path}/copy.db`), size(dir.queue));
});
