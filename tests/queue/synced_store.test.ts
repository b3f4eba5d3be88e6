import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import type { Clock } from "../../src/base/ports.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { nodeSqlite } from "../../src/queue/sqlite/node_sqlite.ts";
import { SyncPace } from "../../src/queue/log_sync.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver, settle } from "./helpers.ts";
import { HeldSyncs } from "./threads.ts";

const inThreads = { syncIn: "threads" } as const;

/** A clock whose COMMIT takes as long as a test says. */
class CommitClock extends FaultDriver {
  commitMs = 0;
  #passedMs = 0;
  override fault = (sql: string) => {
    if (sql === "COMMIT") this.#passedMs += this.commitMs;
    return undefined;
  };
  readonly clock: Clock = { ...systemClock, nowMs: () => this.#passedMs };
}

/** A clock by which a removal's sync is due when a test calls `timers`. */
function clockForRemovals(): { readonly clock: Clock; readonly timers: (() => void)[] } {
  const timers: (() => void)[] = [];
  const clock: Clock = {
    ...systemClock,
    setTimer(delayMs, callback) {
      if (delayMs !== 2000) return systemClock.setTimer(delayMs, callback);
      timers.push(callback);
      return () => void timers.splice(0);
    },
  };
  return { clock, timers };
}

Deno.test("a disk is slow after sixteen slow commits in a row, and quick after sixteen quick ones", () => {
  const pace = new SyncPace();
  pace.queues = 1;
  const take = (ms: number, times: number, writtenBytes = 0) => {
    for (let i = 0; i < times; i++) pace.take(ms, writtenBytes);
    return pace.isSlow;
  };
  assert.equal(take(2, 15), false);
  assert.equal(take(1, 1), false, "one that is not slow begins anew");
  assert.equal(take(2, 15), false);
  assert.equal(take(2, 1), true);
  assert.equal(take(0.4, 15), true);
  assert.equal(take(0.5, 1), true);
  assert.equal(take(0.4, 16), false);
  // A millisecond for each 256 KiB is writing.
  assert.equal(take(5, 16, 1024 ** 2), false);
  assert.equal(take(5.1, 16, 1024 ** 2), true);
  assert.equal(take(4.5, 16, 1024 ** 2), true);
  assert.equal(take(4.4, 16, 1024 ** 2), false);
  // Ten queues hold each other up.
  pace.queues = 10;
  assert.equal(take(0.1, 16), false);
  assert.equal(take(0.11, 16), true);
  assert.equal(take(0.05, 16), true);
  assert.equal(take(0.04, 16), false);
});

Deno.test("the event loop goes on while a thread syncs; nobody reads or hears of it before", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  await using queue = await OutboundQueue.open(dir.queue, inThreads);
  const order: string[] = [];
  syncs.holds = true;
  const begun = syncs.next();
  const stored = queue.enqueue(bytes("x")).then((id) => order.push(`stored ${id}`));
  await begun;
  for (let i = 1; i <= 3; i++) {
    await settle();
    order.push(`turn ${i}`);
  }
  const next = queue.enqueue(bytes("y")).then((id) => order.push(`stored ${id}`));
  const read = sendingSideOf(queue).pollOtherProcesses().then(() => order.push("polled"));
  await settle();
  assert.deepEqual(await queue.read(0, 100), []);
  assert.equal(queue.stats().waitingPackets, 2);
  assert.equal(queue.lastId, 0);
  order.push("released");
  syncs.release();
  await Promise.all([stored, next, read]);
  assert.deepEqual(order.slice(0, 5), ["turn 1", "turn 2", "turn 3", "released", "stored 1"]);
  assert.equal(queue.lastId, 2);
});

Deno.test("a sync that fails: its packets are in doubt, and the log is moved before anything else", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const driver = new FaultDriver();
  const queue = await OutboundQueue.open(dir.queue, { ...inThreads, driver, busyTimeoutMs: 50 });
  assert.equal(await queue.enqueue(bytes("a")), 1);
  syncs.holds = true;
  const begun = syncs.next();
  const failed = assert.rejects(queue.enqueue(bytes("b")), (error) => {
    assert(error instanceof QueueFileError);
    assert.deepEqual([error.reason, error.outcome], ["io", "unknown"]);
    assert.match(error.message, /log could not be synced \(EIO\).*power cut may take them/s);
    return true;
  });
  await begun;
  syncs.release(new Error("EIO"));
  await failed;

  // As long as the log cannot be moved, nothing is stored.
  driver.failNext("PRAGMA wal_checkpoint", 10, 1);
  await assert.rejects(queue.enqueue(bytes("c")), { reason: "io" });
  const reader = nodeSqlite.open(dir.queue, { readOnly: true, busyTimeoutMs: 0 });
  reader.prepare("BEGIN").run([]);
  reader.prepare("SELECT count(*) FROM packets").all([]);
  await assert.rejects(queue.enqueue(bytes("d")), { reason: "busy" });
  reader.close();

  const { count } = syncs;
  const id = await queue.enqueue(bytes("e"));
  assert.equal(syncs.count, count, "after that SQLite syncs by itself");
  assert.equal(id, 3);
  await queue.close();
  await using again = await OutboundQueue.open(dir.queue);
  const found = (await again.read(0, 1000)).map(({ payload }) => text(payload));
  assert.deepEqual(found, ["a", "b", "e"]);
});

Deno.test("what is in the file after a sync that failed is known at once, and so is sent", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const queue = await OutboundQueue.open(dir.queue, inThreads);
  let rings = 0;
  sendingSideOf(queue).subscribe(() => rings++);
  syncs.holds = true;
  const begun = syncs.next();
  const failed = assert.rejects(queue.enqueue(bytes("a")), { outcome: "unknown" });
  await begun;
  syncs.release(new Error("EIO"));
  await failed;
  assert.deepEqual([queue.lastId, queue.stats().packets, rings], [1, 1, 1]);
  await queue.close();
});

Deno.test("whoever gives up during a sync that fails is not told that nothing is stored", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const queue = await OutboundQueue.open(dir.queue, inThreads);
  syncs.holds = true;
  const begun = syncs.next();
  const controller = new AbortController();
  const failed = assert.rejects(queue.enqueue(bytes("a"), { signal: controller.signal }), {
    name: "QueueFileError",
    outcome: "unknown",
  });
  await begun;
  controller.abort();
  syncs.release(new Error("EIO"));
  await failed;
  await queue.close();
});

Deno.test("a removal's sync that fails takes those behind it along: the kernel tells one alone", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const { clock, timers } = clockForRemovals();
  await using queue = await OutboundQueue.open(dir.queue, { ...inThreads, clock });
  await queue.enqueue(bytes("a"));
  await sendingSideOf(queue).removeThrough(1);
  syncs.holds = true;
  const begun = syncs.next();
  timers.shift()?.();
  await begun;
  const { count } = syncs;
  const failed = assert.rejects(queue.enqueue(bytes("b")), { reason: "io", outcome: "unknown" });
  await settle();
  assert.equal(syncs.count, count, "one at a time");
  syncs.release(new Error("EIO"));
  await failed;
  assert.equal(syncs.count, count);
  assert.equal(await queue.enqueue(bytes("c")), 3);
});

Deno.test("who forwards is not told that all is well after a sync that has failed", async () => {
  using dir = new TempDir();
  const inLoop = { syncIn: "loop" } as const;
  await using other = await OutboundQueue.open(dir.queue, inLoop);
  await using queue = await OutboundQueue.open(dir.queue, inLoop);
  using syncs = new HeldSyncs();
  const edge = sendingSideOf(queue).edge;
  assert(edge);
  await other.enqueue(bytes("a"));
  syncs.holds = true;
  const begun = syncs.next();
  const failed = assert.rejects(edge.sync(), { reason: "io" });
  await begun;
  syncs.release(new Error("EIO"));
  await failed;
  const log = `${Deno.realPathSync(dir.queue)}-wal`;
  assert(Deno.statSync(log).size > 0);
  await edge.sync();
  assert.equal(Deno.statSync(log).size, 0, "it was moved into the file first");
});

Deno.test("a removal waits for no sync; the next packets bring one, or the time that it may take", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const { clock, timers } = clockForRemovals();
  const queue = await OutboundQueue.open(dir.queue, { ...inThreads, clock });
  for (const one of ["a", "b", "c"]) await queue.enqueue(bytes(one));
  assert.equal(syncs.count, 3);
  const side = sendingSideOf(queue);
  await side.removeThrough(1);
  await queue.enqueue(bytes("d"));
  assert.equal(syncs.count, 4);
  timers.shift()?.();
  await settle();
  assert.equal(syncs.count, 4, "it was synced with a packet");
  await side.removeThrough(2);
  assert.equal(syncs.count, 4);
  timers.shift()?.();
  await settle();
  assert.equal(syncs.count, 5);
  await side.removeThrough(3);
  await queue.close();
  assert.equal(syncs.count, 6, "closing leaves nothing behind");
});

Deno.test("auto: threads sync once the disk is slow, and no longer once it is quick", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const driver = new CommitClock();
  await using queue = await OutboundQueue.open(dir.queue, { driver, clock: driver.clock });
  for (let i = 0; i < 20; i++) await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 0);
  driver.commitMs = 2;
  for (let i = 0; i < 16; i++) await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 0);
  // By this clock a thread's sync takes no time.
  for (let i = 0; i < 20; i++) await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 16);
  driver.commitMs = 0;
  for (let i = 0; i < 20; i++) await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 16);
  assert.equal(queue.lastId, 76);
});

Deno.test("process-crash: nobody syncs, wherever that is", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const options = { ...inThreads, durability: "process-crash" } as const;
  await using queue = await OutboundQueue.open(dir.queue, options);
  await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 0);
});

Deno.test("counts never go back while polls and commits cross", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue, inThreads);
  await using other = await OutboundQueue.open(dir.queue);
  const seen: number[] = [];
  sendingSideOf(queue).subscribe(() => seen.push(queue.lastId));
  const ids: number[] = [];
  const note = (id: number) => void ids.push(id);
  for (let i = 0; i < 60; i++) {
    const theirs = other.enqueue(bytes(`their ${i}`)).then(note);
    const mine = queue.enqueue(bytes(`my ${i}`)).then(note);
    const polls = Array.from({ length: 4 }, () => sendingSideOf(queue).pollOtherProcesses());
    await Promise.all([i % 2 === 0 ? theirs : mine, ...polls]);
    await Promise.all([theirs, mine]);
  }
  await sendingSideOf(queue).pollOtherProcesses();
  assert.deepEqual(ids.toSorted((a, b) => a - b), Array.from({ length: 120 }, (_, i) => i + 1));
  assert.equal(queue.lastId, 120);
  assert.equal(queue.stats().packets, 120);
  assert.deepEqual(seen, [...new Set(seen)].toSorted((a, b) => a - b), "only ever grows");
});

Deno.test("close waits for the sync under way", async () => {
  using dir = new TempDir();
  using syncs = new HeldSyncs();
  const queue = await OutboundQueue.open(dir.queue, inThreads);
  syncs.holds = true;
  const begun = syncs.next();
  const stored = queue.enqueue(bytes("y"));
  sendingSideOf(queue).rememberSent(1);
  await begun;
  let isClosed = false;
  const closed = queue.close().then(() => isClosed = true);
  const polled = sendingSideOf(queue).pollOtherProcesses();
  await settle();
  assert.equal(isClosed, false);
  syncs.release();
  assert.equal(await stored, 1);
  await Promise.all([closed, polled]);
});

Deno.test("a log that is another file than the one that SQLite has opened is not synced", async () => {
  using dir = new TempDir();
  const driver = new CommitClock();
  await using queue = await OutboundQueue.open(dir.queue, { driver, clock: driver.clock });
  using syncs = new HeldSyncs();
  driver.commitMs = 2;
  for (let i = 0; i < 15; i++) await queue.enqueue(bytes("x"));
  const log = `${Deno.realPathSync(dir.queue)}-wal`;
  Deno.renameSync(log, `${log}.aside`);
  Deno.writeTextFileSync(log, "");
  for (let i = 0; i < 5; i++) await queue.enqueue(bytes("x"));
  Deno.renameSync(`${log}.aside`, log);
  for (let i = 0; i < 20; i++) await queue.enqueue(bytes("x"));
  assert.equal(syncs.count, 0, "SQLite goes on syncing it");
});

Deno.test("who forwards syncs what others have committed, once, with the right to read the log or without", async () => {
  using dir = new TempDir();
  const inLoop = { syncIn: "loop" } as const;
  await using other = await OutboundQueue.open(dir.queue, inLoop);
  await using queue = await OutboundQueue.open(dir.queue, inLoop);
  using syncs = new HeldSyncs();
  const edge = sendingSideOf(queue).edge;
  assert(edge);
  await other.enqueue(bytes("a"));
  await edge.sync();
  await edge.sync();
  assert.equal(syncs.count, 1);
  await other.enqueue(bytes("b"));
  await edge.sync();
  assert.equal(syncs.count, 2);

  const log = `${Deno.realPathSync(dir.queue)}-wal`;
  const { querySync } = Deno.permissions;
  Deno.permissions.querySync = (asked) =>
    "path" in asked && asked.path === log
      ? Object.assign(new EventTarget(), {
        state: "denied" as const,
        onchange: null,
        partial: false,
      })
      : querySync.call(Deno.permissions, asked);
  try {
    await other.enqueue(bytes("c"));
    assert(Deno.statSync(log).size > 0);
    await edge.sync();
    assert.equal(Deno.statSync(log).size, 0, "it was moved into the file, which syncs it");
    assert.equal(syncs.count, 2);
  } finally {
    Deno.permissions.querySync = querySync;
  }
});

const script = new URL("./children/unclosed.ts", import.meta.url).pathname;

async function runUnclosed(path: string, read: readonly string[], syncIn: string): Promise<string> {
  const files = `${path},${path}.lock`;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--no-lock", `--allow-read=${[files, ...read].join(",")}`],
      ...[`--allow-write=${files}`, script, path, syncIn],
    ],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("the least permissions do; a process ends though its queue was not closed", async () => {
  using dir = new TempDir();
  assert.equal(await runUnclosed(dir.queue, [`${dir.queue}-wal`], "threads"), "stored 1");
  await using queue = await OutboundQueue.open(dir.queue);
  assert.equal(text((await queue.read(0, 10))[0]?.payload), "\0\0\0");
});

Deno.test("without the right to read the log: threads name the flag, auto does without", async () => {
  using dir = new TempDir();
  const said = await runUnclosed(dir.queue, [], "threads");
  assert(said.startsWith("true "), said);
  assert(said.includes(`--allow-read=${Deno.realPathSync(dir.queue)}-wal:`), said);
  assert.equal(await runUnclosed(dir.queue, [], "auto"), "stored 1");
});
