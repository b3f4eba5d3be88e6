/** Where nothing may be made any more, because packets are left of what was there. */
import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { backUpSpool, repairFromSpool } from "../../src/spool/whole_file.ts";
import { TempDir } from "../support/temp_dir.ts";
import { sha256 } from "./helpers.ts";
import { copyQueue } from "./inspector_helpers.ts";

const isMisplaced = (error: unknown) =>
  error instanceof QueueFileError && error.reason === "misplaced";

/** Programs that make a file for a database. */
const MAKERS: readonly (readonly [
  name: string,
  make: (dir: TempDir, to: string) => unknown,
])[] = [
  ["a queue", (_, to) => OutboundQueue.open(to)],
  ["a spool", (_, to) => spoolQueue(to, "a")],
  ["a backup", (dir, to) => backUpQueue(dir.file("sound"), to)],
  ["a repair", (dir, to) => repairQueue(dir.file("sound"), to)],
  ["a spool's backup", (dir, to) => backUpSpool(dir.file("spool"), to)],
  ["a spool's repair", (dir, to) => repairFromSpool(dir.file("spool"), "a", to)],
];

async function makeSources(dir: TempDir): Promise<void> {
  for (
    const queue of [
      await OutboundQueue.open(dir.file("sound")),
      await spoolQueue(dir.file("spool"), "a"),
    ]
  ) {
    await queue.enqueue("x");
    await queue.close();
  }
}

Deno.test("a log whose queue is gone stays as it is, whoever makes a file in that place", async () => {
  using dir = new TempDir();
  await makeSources(dir);
  const lost = dir.file("lost");
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let i = 0; i < 20; i++) await queue.enqueue("stored");
    copyQueue(dir.queue, lost);
  }
  Deno.removeSync(lost);
  const before = await sha256(`${lost}-wal`);
  for (const [name, make] of MAKERS) {
    await assert.rejects(async () => await make(dir, lost), isMisplaced, name);
    assert.equal(await sha256(`${lost}-wal`), before, name);
    assert.throws(() => Deno.statSync(lost), Deno.errors.NotFound, name);
  }
});

Deno.test("where a sender has lost its file, nobody makes another one in its place", async () => {
  using dir = new TempDir();
  await makeSources(dir);
  const lost = dir.file("lost");
  await (await OutboundQueue.open(lost)).close();
  using lock = await SenderLock.acquire(lost);
  Deno.removeSync(lost);
  const words = new RegExp(`a sender runs on it \\(process ${Deno.pid}\\), but its file is gone`);
  for (const [name, make] of MAKERS) {
    await assert.rejects(async () => await make(dir, lost), words, name);
    assert.throws(() => Deno.statSync(lost), Deno.errors.NotFound, name);
  }
  lock.release();
  await backUpQueue(dir.file("sound"), lost);
});
