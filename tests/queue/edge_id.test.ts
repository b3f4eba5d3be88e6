import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../src/base/clock.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { BECOME_EDGE } from "../../src/queue/store/layout.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver } from "./helpers.ts";
import { inEachFile } from "./threads.ts";

const ID = "5f0c5a3e-52c7-4a08-9c0b-0d1e2f3a4b5c";
const OTHER = "6a1d6b4f-63d8-4b19-8d1c-1e2f3a4b5c6d";

function versionOf(path: string): unknown {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    return database.prepare("PRAGMA user_version").get()?.["user_version"];
  } finally {
    database.close();
  }
}

inEachFile(
  "a file is an edge once it was given an id, and stays one, as its copies do",
  async (open) => {
    using dir = new TempDir();
    const queue = await open(dir.queue);
    const { edge } = sendingSideOf(queue);
    assert(edge !== undefined);
    assert.equal(await edge.edgeId(), undefined);
    assert.equal(
      versionOf(dir.queue),
      3,
      "a file that nobody forwards stays as older versions know it",
    );
    await edge.setEdgeId(ID);
    assert.equal(await edge.edgeId(), ID);
    assert.equal(versionOf(dir.queue), 4);
    // The connection that is open goes on, and so does another process's.
    assert.equal(await queue.enqueue("one"), 1);
    await edge.setEdgeId(OTHER);
    await queue.close();

    await using again = await open(dir.queue);
    assert.equal(await sendingSideOf(again).edge?.edgeId(), OTHER);
    using inspector = await QueueInspector.open(dir.queue);
    assert.deepEqual(await inspector.check(), []);
    assert.equal((await inspector.counts()).packets, 1);
    const copy = dir.file("copy.db");
    assert.deepEqual((await backUpQueue(dir.queue, copy)).problems, []);
    await using copied = await open(copy);
    assert.equal(await sendingSideOf(copied).edge?.edgeId(), OTHER);
  },
);

inEachFile("when a packet was stored is known until it is removed", async (open) => {
  using dir = new TempDir();
  await using queue = await open(dir.queue);
  const sending = sendingSideOf(queue);
  const { edge } = sending;
  assert(edge !== undefined);
  const before = Date.now();
  await queue.enqueueMany(["one", "two", "three"]);
  const times = await Promise.all([1, 2, 3].map((id) => edge.enqueuedAtMs(id)));
  for (const time of times) assert(time !== undefined && time >= before && time <= Date.now());
  assert.equal(await edge.enqueuedAtMs(4), undefined);
  const tenure = await sending.takeTenure(systemClock);
  await sending.removeThrough(2);
  assert.equal(await edge.enqueuedAtMs(2), undefined);
  assert.equal(await edge.enqueuedAtMs(3), times[2]);
  // Taken out of the middle: those beside it stay what they were.
  await queue.enqueueMany(["four", "five", "six"]);
  const four = await edge.enqueuedAtMs(4);
  await queue.removePackets({ firstId: 5, lastId: 5 });
  assert.equal(await edge.enqueuedAtMs(5), undefined);
  assert.equal(await edge.enqueuedAtMs(4), four);
  assert.equal(await edge.enqueuedAtMs(6), four);
  await tenure.release();
});

Deno.test("a file that becomes an edge's while it is being opened is not taken for damaged", async () => {
  for (const open of [OutboundQueue.open, QueueInspector.open]) {
    // The layout is read several times on the way: it happens before each of them.
    let readings = 1;
    for (let at = 1; at <= readings; at++) {
      using dir = new TempDir();
      await using other = await OutboundQueue.open(dir.queue);
      await other.enqueue("one");
      const turn = () => {
        const database = new DatabaseSync(dir.queue);
        database.exec(`BEGIN IMMEDIATE; ${BECOME_EDGE.join(";")}; PRAGMA user_version = 4; COMMIT`);
        database.close();
      };
      readings = 0;
      const driver = new FaultDriver();
      driver.fault = (sql) => {
        if (sql === "SELECT type, name, sql FROM sqlite_schema" && ++readings === at) turn();
        return undefined;
      };
      const opened = await open(dir.queue, { driver });
      assert(readings >= at);
      if (opened instanceof OutboundQueue) await opened.close();
      else opened[Symbol.dispose]();
      assert.equal(versionOf(dir.queue), 4);
    }
  }
});

Deno.test("a repair takes the packets of an edge's file into another file, which is no edge yet", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["one", "two"]);
    await sendingSideOf(queue).edge?.setEdgeId(ID);
  }
  const { packets } = await repairQueue(dir.queue, dir.file("saved.db"));
  assert.equal(packets, 2);
  await using saved = await OutboundQueue.open(dir.file("saved.db"));
  assert.equal(await sendingSideOf(saved).edge?.edgeId(), undefined);
  assert.equal(versionOf(dir.file("saved.db")), 3);
});

Deno.test("a file of version 4 without its table, or with another id in it, is named", async () => {
  using dir = new TempDir();
  const spoil = async (sql: string): Promise<void> => {
    const path = dir.file(crypto.randomUUID());
    const queue = await OutboundQueue.open(path);
    await sendingSideOf(queue).edge?.setEdgeId(ID);
    await queue.close();
    const database = new DatabaseSync(path);
    database.exec(sql);
    database.close();
    await using spoilt = await OutboundQueue.open(path);
    await sendingSideOf(spoilt).edge?.edgeId();
  };
  await assert.rejects(spoil("DROP TABLE edge"), /edge is missing in it/);
  await assert.rejects(spoil("DELETE FROM edge"), /its id as an edge is undefined/);
  await assert.rejects(spoil("UPDATE edge SET id = '7'"), /its id as an edge is 7/);
});
